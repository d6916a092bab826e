"""Whatever JSON comes as a request or an answer: it is read in full, or refused by name."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.errors import Refused, UpstreamError
from moderation.text import Conversation, Phase
from moderation.wire.body import parse
from moderation.wire.openai import read_answer, read_request

NAMES = st.sampled_from([
    "messages", "role", "content", "text", "type", "tool_calls", "function", "arguments", "name", "id", "tools", "functions",
    "function_call", "reasoning_content", "image_url", "url", "audio", "input_audio", "data", "choices", "message", "index",
    "delta", "required", "a b", "x/y~z", "#", "~", "", "中",
])
TEXTS = st.sampled_from(["user", "assistant", "tool", "system", "c1", '{"a": "b c"}', "a b", "中文", "", "text", "image_url"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": TEXTS}, optional={
        "content": VALUES, "tool_calls": st.lists(st.dictionaries(NAMES, VALUES, max_size=3), max_size=2), "name": VALUES,
        "reasoning": VALUES, "odd key": VALUES, "function_call": VALUES, "audio": VALUES,
    }),
    max_size=3,
)
BODIES = st.fixed_dictionaries({"messages": MESSAGES}, optional={"tools": VALUES, "functions": VALUES, "prediction": VALUES})


def strings(value: object) -> list[str]:
    """Every string below a value, keys too, but for the bodies of JSON strings."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for key, child in value.items() for s in (key, *strings(child))]
    return [s for child in value for s in strings(child)] if isinstance(value, list) else []


@given(VALUES | BODIES)
@settings(max_examples=300)
def test_any_json_is_read_or_refused(body: object) -> None:
    code = "none"
    try:
        read = read_request(parse(json.dumps(body).encode()))
    except Refused as refused:
        code = refused.code
        read = Conversation(())
    assert code in ("none", "invalid_body")
    paths = [segment.path for segment in read.segments]
    assert len(paths) == len(set(paths)), "each segment has its own path"


def readings(text: str) -> list[str]:
    """The text as it stands or, where it may be a call's arguments, what the JSON in it says."""
    try:
        inner = strings(json.loads(text))
    except ValueError:
        return [text]
    return [text, "\n".join(one for one in inner if " " in one or "中" in one)]


@given(BODIES)
@settings(max_examples=300)
def test_no_text_is_left_unread(body: dict[str, Any]) -> None:
    """Each string with a space or a Chinese character in it, wherever it stands, is in some segment."""
    try:
        read = read_request(parse(json.dumps(body).encode()))
    except Refused:
        return
    seen = "\n".join(segment.text for segment in read.segments)
    for text in strings(body):
        if " " in text or "中" in text:
            assert any(one in seen for one in readings(text))


@given(VALUES | st.fixed_dictionaries({"choices": st.lists(st.fixed_dictionaries({"message": VALUES}), max_size=2)}))
def test_any_answer_is_read_or_refused(body: object) -> None:
    code = "none"
    try:
        read = read_answer(parse(json.dumps(body).encode()))
    except UpstreamError as refused:
        code = refused.code
        read = Conversation(())
    assert code in ("none", "upstream_invalid")
    assert all(s.phase in (Phase.OUTPUT, Phase.TOOL_CALL) for s in read.segments)
