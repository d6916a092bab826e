"""The verdict has the pinned shape; /moderate takes what it says it takes."""

from __future__ import annotations

from typing import Any

import pytest

from moderation.errors import Refused
from moderation.text import Channel, Phase, Segment, Span, Turn
from moderation.verdict import (
    Action,
    Cause,
    Finding,
    Fired,
    Key,
    Level,
    Mode,
    Outcome,
    PolicyRef,
    Severity,
    Unknown,
)
from moderation.wire.verdicts import Shown, read_moderate, text_conversation, verdict_json

KEY = Key(Channel.USER, Turn.NEW)
MAIL = Finding("pii", "personal_data", "EMAIL_ADDRESS", "email", 1_000_000, Span(12, 27))
SEGMENT = Segment(Channel.USER, Phase.INPUT, Turn.NEW, "reach me at a@example.com.cn", "/text")
POLICY = PolicyRef("default", "ab" * 32)


def fired(rule: str, action: Action, mode: Mode = Mode.ENFORCE, window: int = 0) -> Fired:
    return Fired(rule, window, action, mode, Severity.HIGH, None, (KEY,), (0,), False, False)


def outcome(action: Action, *rules: Fired, unknown: tuple[Unknown, ...] = ()) -> Outcome:
    return Outcome(action, action, rules, unknown, bool(unknown), "refused")


def test_the_pinned_example() -> None:
    said = verdict_json(
        "01R.0", Phase.INPUT,
        outcome(Action.REDACT, fired("mask-personal-data", Action.REDACT), unknown=(Unknown("model", Cause.TIMEOUT),)),
        [Shown(MAIL, 0, Level.HIGH, ("mask-personal-data",))], [SEGMENT], ["reach me at [removed: email]"], None, POLICY,
    )
    assert said == {
        "decision_id": "01R.0", "phase": "input", "action": "redact", "would": "redact", "degraded": True,
        "rules": [{"id": "mask-personal-data", "action": "redact", "mode": "enforce", "severity": "high"}],
        "findings": [{
            "detector": "pii", "category": "personal_data", "entity": "EMAIL_ADDRESS", "name": "email", "level": "high",
            "score": 1.0, "segment": 0, "start": 12, "end": 27, "rules": ["mask-personal-data"],
        }],
        "unknown": [{"detector": "model", "cause": "timeout"}],
        "segments": [{"channel": "user", "turn": "new", "path": "/text", "text": "reach me at [removed: email]"}],
        "message": None,
        "policy": {"id": "default", "hash": "ab" * 32},
    }


def test_a_block_shows_the_message_and_no_text() -> None:
    said = verdict_json("d", Phase.INPUT, outcome(Action.BLOCK, fired("r", Action.BLOCK)), [], [SEGMENT], ["x"], "no", POLICY)
    assert (said["segments"], said["message"]) == ([], "no")


def test_no_message_without_a_block() -> None:
    said = verdict_json("d", Phase.INPUT, outcome(Action.FLAG, fired("r", Action.FLAG)), [], [SEGMENT], ["x"], "no", POLICY)
    assert (said["segments"][0]["text"], said["message"]) == ("x", None)


def test_a_rule_is_told_once_with_the_most_severe_that_it_did() -> None:
    rules = [fired("b", Action.REDACT), fired("b", Action.BLOCK, window=1), fired("a", Action.FLAG, Mode.MONITOR)]
    said = verdict_json("d", Phase.INPUT, outcome(Action.BLOCK, *rules), [], [], [], "no", POLICY)
    assert [(r["id"], r["action"], r["mode"]) for r in said["rules"]] == [("a", "flag", "monitor"), ("b", "block", "enforce")]


def test_a_finding_about_a_whole_text_and_a_tool() -> None:
    whole = Finding("guard", "violence", None, "violence", 250_000, None)
    call = Segment(Channel.TOOL_CALL, Phase.TOOL_CALL, Turn.NEW, "x", "/text", tool="f")
    said = verdict_json("d", Phase.TOOL_CALL, outcome(Action.ALLOW), [Shown(whole, 0, Level.NONE)], [call], ["x"], None, POLICY)
    assert said["findings"][0] == {
        "detector": "guard", "category": "violence", "entity": None, "name": "violence", "level": "none", "score": 0.25,
        "segment": 0, "start": None, "end": None, "rules": [],
    }
    assert said["segments"][0]["tool"] == "f"


@pytest.mark.parametrize(
    ("phase", "channel"),
    [("input", Channel.USER), ("tool_result", Channel.TOOL_RESULT), ("output", Channel.ANSWER), ("tool_call", Channel.TOOL_CALL)],
)
def test_one_text(phase: str, channel: Channel) -> None:
    asked = read_moderate({"phase": phase, "text": "x"})
    assert asked.phase is Phase(phase)
    assert asked.conversation == text_conversation(Phase(phase), "x")
    assert asked.conversation.segments == (Segment(channel, Phase(phase), Turn.NEW, "x", "/text"),)


def test_messages_and_context() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "tools": ["y"], "context": {"tenant": "t", "route": "r"}, "more": 1}
    asked = read_moderate(body)
    assert [s.text for s in asked.conversation.segments] == ["x", "y"]
    assert (asked.phase, asked.context) == (Phase.INPUT, {"tenant": "t", "route": "r"})
    assert read_moderate({"text": ""}).context == {}


BAD: list[tuple[str, Any, str]] = [
    ("no object", [], "the body"),
    ("neither", {"phase": "input"}, "the body"),
    ("both", {"text": "x", "messages": []}, "the body"),
    ("no such phase", {"phase": "s3cret", "text": "x"}, "/phase"),
    ("a phase that is no string", {"phase": ["input"], "text": "x"}, "/phase"),
    ("messages of an answer", {"phase": "output", "messages": []}, "/phase"),
    ("a text that is null", {"text": None}, "/text"),
    ("messages that are null", {"messages": None}, "/messages"),
    ("a context that is a list", {"text": "x", "context": []}, "/context"),
    ("a context of numbers", {"text": "x", "context": {"tenant": 1}}, "/context"),
    ("a context of another key", {"text": "x", "context": {"s3cret": "x"}}, "/context"),
]


@pytest.mark.parametrize(("note", "body", "place"), BAD, ids=[c[0] for c in BAD])
def test_refuses(note: str, body: object, place: str) -> None:
    with pytest.raises(Refused) as refused:
        read_moderate(body)
    assert refused.value.code == "invalid_body"
    assert refused.value.message.startswith(place + ":")
    assert "s3cret" not in refused.value.message
