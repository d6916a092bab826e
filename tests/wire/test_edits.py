"""Edits of requests and answers: what was read at a path is what is replaced, and no other byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.errors import Refused
from moderation.wire.arguments import Uneditable
from moderation.wire.body import parse
from moderation.wire.edits import Removal, edit_segments
from moderation.wire.leaves import editable
from moderation.wire.openai import read_answer, read_request
from tests.wire.test_openai_any import BODIES

ARGUMENTS = "/messages/0/tool_calls/0/function/arguments"


def call(arguments: str) -> bytes:
    """A request with a call whose arguments have this source; spaces and escapes are part of the test."""
    return (
        b'{ "n":1.50, "messages":[ {"role":"assistant","tool_calls":[{"id":"\\u0063","function":{"name":"f", "arguments": '
        + arguments.encode()
        + b' }}]} ],\n"seed":12345678901234567890 }'
    )


CASES: list[tuple[str, str, dict[str, str | Removal], str]] = [
    ("a scalar inside", r'"{\"q\": \"x\", \"n\": 1.50}"', {ARGUMENTS + "#/q": "y"}, r'"{\"q\": \"y\", \"n\": 1.50}"'),
    ("a number inside", r'"{\"n\": 13812345678}"', {ARGUMENTS + "#/n": "<A_1>"}, r'"{\"n\": \"<A_1>\"}"'),
    ("two inside", r'"[1, \"a\", \"b\"]"', {ARGUMENTS + "#/1": "c", ARGUMENTS + "#/2": 'd"'}, r'"[1, \"c\", \"d\\\"\"]"'),
    ("escapes of the inner text stay", r'"[\"\\u4e2d\", \"x\"]"', {ARGUMENTS + "#/1": "y"}, r'"[\"\\u4e2d\", \"y\"]"'),
    ("what is no JSON", '"q=x"', {ARGUMENTS: "q=y"}, '"q=y"'),
    ("a removal", r'"{\"q\": \"x\"}"', {ARGUMENTS + "#/q": Removal("L")}, r'"{\"removed\": \"L\"}"'),
    ("a removal of what is no JSON", '"q=x"', {ARGUMENTS: Removal('[removed: "x"]')},
     r'"{\"removed\": \"[removed: \\\"x\\\"]\"}"'),
    ("a removal for a key", r'"{\"q\": \"x\"}"', {ARGUMENTS + "#~keys": Removal("L")}, r'"{\"removed\": \"L\"}"'),
    ("a removal for an escape", r'"{\"q\": \"\\u0061"', {ARGUMENTS + "~unescaped": Removal("L")}, r'"{\"removed\": \"L\"}"'),
    ("a removal wins", r'"[\"a\", \"b\"]"', {ARGUMENTS + "#/0": "c", ARGUMENTS + "#/1": Removal("L")}, r'"{\"removed\": \"L\"}"'),
    ("arguments that are an object", '{"q": "x", "n": 1.50}', {ARGUMENTS + "/q": "y"}, '{"q": "y", "n": 1.50}'),
    ("their removal", '{"q": "x", "r": "z"}', {ARGUMENTS + "/q": Removal("L"), ARGUMENTS + "/r": "y"}, '{"removed": "L"}'),
    ("arguments that are a number", "13812345678", {ARGUMENTS: "<A_1>"}, '"<A_1>"'),
    ("a scalar alone", r'"\"x\""', {ARGUMENTS + "#": "y"}, r'"\"y\""'),
]


@pytest.mark.parametrize(("note", "before", "edits", "after"), CASES, ids=[c[0] for c in CASES])
def test_arguments(note: str, before: str, edits: dict[str, str | Removal], after: str) -> None:
    assert edit_segments(call(before), edits) == call(after)


@pytest.mark.parametrize(
    ("note", "before", "path"),
    [
        ("a key in arguments", r'"{\"q\": \"x\"}"', ARGUMENTS + "#~keys"),
        ("what was read without escapes", r'"{\u0061"', ARGUMENTS + "~unescaped"),
        ("a key of an object", '{"q": "x"}', ARGUMENTS + "~keys"),
        ("a key of a message", '""', "/messages/0~keys"),
    ],
)
def test_keys_cannot_be_edited(note: str, before: str, path: str) -> None:
    with pytest.raises(Uneditable):
        edit_segments(call(before), {path: "y"})


def test_a_call_without_arguments_has_nothing_to_remove() -> None:
    raw = b'{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f"}}]}]}'
    assert edit_segments(raw, {ARGUMENTS: Removal("L")}) == raw


def test_a_removal_elsewhere_is_its_label() -> None:
    assert edit_segments(b'{"a": "x"}', {"/a": Removal("[removed: x]")}) == b'{"a": "[removed: x]"}'


def test_other_source_goes_in_with_the_texts() -> None:
    raw = b'{"choices":[{"message":{"content":"x"},"logprobs":{"content":[1]}}]}'
    after = edit_segments(raw, {"/choices/0/message/content": "y"}, {"/choices/0/logprobs": "null"})
    assert after == b'{"choices":[{"message":{"content":"y"},"logprobs":null}]}'


def test_an_answers_arguments() -> None:
    called = {"tool_calls": [{"function": {"name": "f", "arguments": '{"q": "x"}'}}]}
    raw = json.dumps({"choices": [{"message": called}]}).encode()
    [segment, _] = read_answer(parse(raw)).segments
    after = edit_segments(raw, {segment.path: "y"})
    assert after == raw.replace(b'\\"x\\"', b'\\"y\\"')


@given(BODIES, st.data())
@settings(max_examples=300)
def test_what_was_read_is_what_is_replaced(body: dict[str, Any], data: st.DataObject) -> None:
    """Replace any segments of any request: reading again gives the new texts there and the old ones elsewhere."""
    raw = json.dumps(body, ensure_ascii=data.draw(st.booleans()), indent=data.draw(st.sampled_from([None, 1]))).encode()
    try:
        segments = read_request(parse(raw)).segments
    except Refused:
        return
    # An empty text stands for a call without any; only removals touch those.
    able = [s.path for s in segments if editable(s.path) and s.text]
    chosen = data.draw(st.lists(st.sampled_from(able), unique=True, max_size=4)) if able else []
    new = {path: f"new text {number}!" for number, path in enumerate(chosen)}
    after = edit_segments(raw, new)
    expected = {s.path: new.get(s.path, s.text) for s in segments}
    read = {s.path: s.text for s in read_request(parse(after)).segments}
    assert {path: read.get(path) for path in new} == new
    if not any(path.endswith(("/role", "/type")) for path in new):
        assert read == expected
    if not new:
        assert after is raw


def test_a_role_that_was_edited_stays_a_role() -> None:
    raw = b'{"messages":[{"role":"my role","content":"x"}]}'
    assert edit_segments(raw, {"/messages/0/role": "user"}) == raw.replace(b"my role", b"user")
