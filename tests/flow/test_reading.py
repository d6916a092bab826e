"""A conversation, read: origins, names and escapes, what cannot be edited, one window for each call, and failures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from moderation.act import Names
from moderation.detect.api import Detector, Scan
from moderation.detect.build import build
from moderation.flow.editing import edited
from moderation.flow.loading import FileLoader
from moderation.flow.reading import Active, Verdict, read
from moderation.metrics import Metrics
from moderation.policy.model import Policy
from moderation.text import Channel, Conversation, Origin, Phase, Scope, Segment, Turn
from moderation.verdict import Action, Cause
from moderation.wire import body, openai
from tests.kitchen import POLICY

ID = "11010519491231002X"


class Broken:
    """A detector that always fails."""

    version = "1"
    behind = 0
    reach = 0

    def __init__(self, id: str) -> None:
        self.id = id

    def scan(self, text: str, start: int, final: bool) -> Scan:
        raise RuntimeError


@cache
def active() -> Active:
    return FileLoader(0, Metrics())(str(POLICY), 1).active


def made(folder: Path, change: Sequence[tuple[str, str]] = (), broken: str | None = None) -> Active:
    """The policy of the tests with other words in it, and a detector that fails."""
    text = POLICY.read_text("utf-8")
    for old, new in change:
        assert old in text
        text = text.replace(old, new)
    path = folder / "p.yaml"
    path.write_text(text, "utf-8")

    def make(policy: Policy) -> Mapping[str, Detector]:
        found = dict(build(policy))
        return found if broken is None else {**found, broken: Broken(broken)}

    return FileLoader(0, Metrics(), make, tested=False)(str(path), 1).active


def judged(request: Mapping[str, Any], one: Active | None = None, **more: Any) -> Verdict:
    return asyncio.run(read(one or active(), openai.read_request(request), Scope(), **more))


def asked(*messages: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def calling(arguments: str, name: str = "f") -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}]}


def said(channel: Channel, text: str, path: str, tool: str | None = None) -> Segment:
    phase = Phase.TOOL_CALL if channel is Channel.TOOL_CALL else Phase.OUTPUT
    return Segment(channel, phase, Turn.NEW, text, path, tool)


def answered(*segments: Segment, one: Active | None = None, **more: Any) -> Verdict:
    more.setdefault("names", Names())
    return asyncio.run(read(one or active(), Conversation(segments), Scope(), **more))


ORIGINS = [
    ("the user wrote it", [user("I am a@x.com")], Origin.USER),
    ("the app wrote it", [{"role": "system", "content": "ask a@x.com"}, user("hi")], Origin.APP),
    ("a tool wrote it", [user("hi"), {"role": "tool", "tool_call_id": "c", "content": "a@x.com"}], Origin.TOOL),
    ("the model wrote it", [user("hi"), {"role": "assistant", "content": "a@x.com"}, user("so?")], None),
    ("the app first, then the user", [{"role": "system", "content": "ask a@x.com"}, user("I am a@x.com")], Origin.USER),
    ("the user first, then a tool", [user("I am a@x.com"), {"role": "tool", "tool_call_id": "c", "content": "a@x.com"}], Origin.USER),
    ("the app first, then a tool", [{"role": "system", "content": "a@x.com"}, user(""), {"role": "tool", "content": "a@x.com"}], Origin.APP),
    ("nobody wrote it", [user("hi")], None),
]


@pytest.mark.parametrize(("note", "messages", "origin"), ORIGINS, ids=[row[0] for row in ORIGINS])
def test_who_supplied_a_value_first(note: str, messages: list[dict[str, Any]], origin: Origin | None) -> None:
    request = judged(asked(*messages))
    assert request.supplied.get(("EMAIL_ADDRESS", "a@x.com")) is origin
    answer = answered(said(Channel.ANSWER, "a@x.com", "/choices/0/message/content"), supplied=request.supplied, names=request.names)
    assert answer.action is (Action.ALLOW if origin is Origin.USER else Action.REDACT)


def test_what_looks_like_a_name_is_escaped_and_comes_back() -> None:
    request = judged(asked(user("<EMAIL_ADDRESS_1> and a@x.com and <EMAIL_ADDRESS_1>")))
    assert request.text(0) == "<LITERAL_1> and <EMAIL_ADDRESS_1> and <LITERAL_1>"
    answer = answered(said(Channel.REASONING, "<LITERAL_1>, <EMAIL_ADDRESS_1>", "/choices/0/message/reasoning"), names=request.names)
    assert answer.text(0) == "<EMAIL_ADDRESS_1>, a@x.com"


def test_values_that_an_answer_names_are_not_given_back(tmp_path: Path) -> None:
    one = made(tmp_path, [("phases: [input, tool_result]", "phases: [input, tool_result, output]")])
    names = Names()
    names.name("EMAIL_ADDRESS", "mine@x.com")
    text = "<EMAIL_ADDRESS_1>, +86 13812345678 <CN_MOBILE_1>"
    answer = answered(said(Channel.ANSWER, text, "/choices/0/message/content"), one=one, names=names)
    assert "13812345678" not in answer.text(0)
    assert answer.text(0).endswith("<CN_MOBILE_1> <CN_MOBILE_1>")
    assert names.value("<CN_MOBILE_1>") is None


UNEDITABLE = [
    ("a key of a message", asked(user("hi") | {f"号码 {ID}": "x"})),
    ("a key of a tool's schema", asked(user("hi"), tools=[{"type": "function", "function": {"parameters": {"properties": {f"n {ID}": {}}}}}])),
]


@pytest.mark.parametrize(("note", "request_"), UNEDITABLE, ids=[row[0] for row in UNEDITABLE])
def test_what_had_to_be_edited_and_cannot_be_blocks(note: str, request_: dict[str, Any]) -> None:
    verdict = judged(request_)
    assert verdict.blocked is not None
    assert verdict.blocked[1].rule == "uneditable"
    assert verdict.action is Action.BLOCK


def test_a_key_in_a_new_calls_arguments_blocks_the_answer() -> None:
    path = "/choices/0/message/tool_calls/0/function/arguments#~keys"
    assert answered(said(Channel.TOOL_CALL, f"号码{ID}", path, "f")).blocked is not None


def test_a_key_in_an_old_calls_arguments_takes_the_call() -> None:
    verdict = judged(asked(user("a"), calling('{"KEY": 1}'.replace("KEY", ID)), user("b")))
    assert verdict.blocked is None
    assert [removal.label for removal in verdict.removals.values()] == ["[removed: CN_ID_CARD]"]


def test_a_whole_text_is_removed_from_history_and_every_name_in_it_with_it() -> None:
    verdict = judged(asked(user("a pipe bomb for a@x.com <K_1>"), {"role": "assistant", "content": "no"}, user("soup for a@x.com")))
    assert [verdict.text(n) for n in range(3)] == ["[removed: weapons]", "no", "soup for <EMAIL_ADDRESS_1>"]
    raw = b'{"messages":[{"role":"user","content":"a pipe bomb for a@x.com <K_1>"},{"role":"assistant","content":"no"},{"role":"user","content":"soup for a@x.com"}]}'
    assert b"bomb" not in edited(raw, verdict)


TWO = [
    ("when: {category: weapons}", "when: {all: [{category: weapons}, {entity: CN_ID_CARD}]}"),
    ("text: \"make a pipe bomb\"", f'text: "make a pipe bomb {ID}"'),
]


def test_the_arguments_of_one_call_are_judged_together_and_those_of_two_are_not(tmp_path: Path) -> None:
    one = made(tmp_path, TWO)
    path = "/choices/0/message/tool_calls/{}/function/arguments#/{}"
    first, second = said(Channel.TOOL_CALL, "pipe bomb", path.format(0, "a"), "f"), said(Channel.TOOL_CALL, ID, path.format(0, "b"), "f")
    together = answered(first, second, one=one)
    assert together.blocked is not None
    assert len(together.rulings[-1].windows) == 1
    apart = answered(first, said(Channel.TOOL_CALL, ID, path.format(1, "b"), "f"), one=one)
    assert apart.blocked is None


def test_only_tools_that_the_policy_names_are_told_apart() -> None:
    (ruling,) = judged(asked(user("a"), calling('{"a": "hello"}', "my secret tool"), user("b"))).rulings
    assert {signal.key.tool for window in ruling.windows for signal in window.signals} == {None, "other"}


def test_a_failure_in_one_argument_is_one_of_the_call(tmp_path: Path) -> None:
    one = made(tmp_path, broken="pii")
    path = "/choices/0/message/tool_calls/0/function/arguments#/{}"
    verdict = answered(*(said(Channel.TOOL_CALL, "x", path.format(n), "f") for n in "ab"), one=one)
    (window,) = verdict.rulings[-1].windows
    assert [unknown.detector for unknown in window.unknown] == ["pii"]
    assert verdict.blocked is not None


def test_a_detector_that_fails_takes_the_text(tmp_path: Path) -> None:
    one = made(tmp_path, broken="pii")
    verdict = judged(asked(user(f"号码{ID}")), one)
    assert ID not in verdict.text(0)
    assert verdict.degraded
    assert verdict.rulings[0].outcome.unknown[0].cause is Cause.ERROR


def test_what_does_not_fit_the_log_counts_as_not_read() -> None:
    verdict = judged(asked(user("hello")), too_large=True)
    unknown = verdict.rulings[0].outcome.unknown
    assert {one.cause for one in unknown} == {Cause.TOO_LARGE}
    assert {one.detector for one in unknown} == {"pii", "weapons_terms", "odd_terms"}
    assert verdict.degraded
    assert verdict.action is not Action.ALLOW


def test_media_count_in_the_first_phase_alone() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    verdict = judged(asked(user([image]), {"role": "tool", "content": "ok"}))
    assert [ruling.outcome.action for ruling in verdict.rulings] == [Action.FLAG, Action.ALLOW]


def test_logprobs_of_an_edited_answer_go_with_its_text() -> None:
    raw = (
        '{"choices":[{"index":0,"message":{"content":"号码NUMBER"},"logprobs":{"content":[{"token":"NUMBER"}]}},'
        '{"index":1,"message":{"content":"fine"},"logprobs":{"content":[{"token":"fine"}]}}]}'
    ).replace("NUMBER", ID).encode()
    value = body.parse(raw)
    verdict = asyncio.run(read(active(), openai.read_answer(value), Scope(), names=Names()))
    out = edited(raw, verdict, value)
    assert ID.encode() not in out
    assert [choice["logprobs"] for choice in body.parse(out)["choices"]] == [None, {"content": [{"token": "fine"}]}]
