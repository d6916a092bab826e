"""What we say ourselves, in the shapes that interfaces and SDKs expect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from moderation.errors import CODES
from moderation.wire.answers import (
    DONE,
    Blocked,
    Head,
    blocked_answer,
    blocked_stream,
    completion_body,
    error_body,
    error_frame,
    estimate_tokens,
    finish_frames,
    head,
    message_frame,
    usage_frame,
)
from moderation.wire.body import parse
from moderation.wire.chunks import read_chunk
from moderation.wire.openai import read_answer
from moderation.wire.sse import Event, Splitter

STREAM = Head("chatcmpl-1", 1716000000, "qwen3.5-plus")


def frames(raw: bytes) -> list[Any]:
    """The data of each event, read as JSON."""
    splitter = Splitter()
    events = splitter.feed(raw)
    assert splitter.rest() == b""
    data = [Event.parse(event).data for event in events]
    return [one if one == b"[DONE]" else parse(one or b"") for one in data]


def test_a_block_before_the_call_is_byte_for_byte_as_pinned() -> None:
    said = error_body("data_inspection_failed", "不行 \u2028", "01R", Blocked("01R.0", "input", ("a", "b")))
    assert said.decode() == (
        '{"error":{"message":"不行 \u2028","type":"invalid_request_error","param":null,"code":"data_inspection_failed",'
        '"moderation":{"decision_id":"01R.0","phase":"input","rules":["a","b"]}},"request_id":"01R"}'
    )


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_its_type(code: str) -> None:
    error = parse(error_body(code, "m", "r"))["error"]
    assert error == {"message": "m", "type": CODES[code].type, "param": None, "code": code}


def test_a_code_from_the_configuration() -> None:
    assert parse(error_body("content_policy", "m", "r"))["error"]["type"] == "invalid_request_error"
    told = parse(error_body("content_policy", "m", "r", kind="data_inspection_failed"))
    assert told["error"]["type"] == "data_inspection_failed"


def test_nothing_that_is_no_text_breaks_an_error() -> None:
    assert parse(error_body("invalid_body", "a\ud800b\n", "r"))["error"]["message"] == "a?b\n"


def test_an_error_in_a_stream_is_one_event() -> None:
    [frame] = frames(error_frame("upstream_interrupted", "line\r\nline", "r"))
    assert frame == parse(error_body("upstream_interrupted", "line\r\nline", "r"))
    assert read_chunk(frame).error


def test_a_completion_instead_of_an_error() -> None:
    body = parse(completion_body("chatcmpl-1", 5, "m", "no", "01R"))
    said = ChatCompletion.model_validate(body)
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("no", "content_filter")
    assert [s.text for s in read_answer(body).segments] == ["no"]


ANSWER = (
    b'{ "id":"x", "choices" : [ {"index":1,"message":{"content":"SECRET","reasoning_content":"SECRET","tool_calls":[]},'
    b'"finish_reason":"stop","logprobs":{"content":[{"token":"SECRET"}]},"other":"SECRET"}, {"message":null} ],\n'
    b'"usage":{"total_tokens": 1.50, "big": 1e999},"model":"m","created":1, "object":"chat.completion" }'
)


def test_a_blocked_answer_keeps_all_but_its_choices() -> None:
    after = blocked_answer(ANSWER, parse(ANSWER), "no")
    start, end = ANSWER.index(b"[ {"), ANSWER.index(b",\n")
    assert after.startswith(ANSWER[:start])
    assert after.endswith(ANSWER[end:])
    assert b"SECRET" not in after
    said = parse(after)
    assert [(c["index"], c["message"], c["finish_reason"], c["logprobs"]) for c in said["choices"]] == [
        (1, {"role": "assistant", "content": "no"}, "content_filter", None),
        (1, {"role": "assistant", "content": "no"}, "content_filter", None),
    ]


def test_a_blocked_stream_ends_well() -> None:
    raw = blocked_stream(STREAM, 1, "no\n", [0, 1], role=True, usage=usage_frame(STREAM, {"total_tokens": 7}))
    message, first, second, usage, done = frames(raw)
    for frame in (message, first, second, usage):
        chunk = ChatCompletionChunk.model_validate({**frame, "usage": None})
        assert (chunk.id, chunk.created, chunk.model) == ("chatcmpl-1", 1716000000, "qwen3.5-plus")
    assert message["choices"] == [
        {"index": 1, "delta": {"role": "assistant", "content": "no\n"}, "logprobs": None, "finish_reason": None}
    ]
    assert [(c["index"], c["delta"], c["finish_reason"]) for f in (first, second) for c in f["choices"]] == [
        (0, {}, "content_filter"), (1, {}, "content_filter"),
    ]
    assert (usage["choices"], usage["usage"]) == ([], {"total_tokens": 7})
    assert done == b"[DONE]"
    assert raw.endswith(DONE)


def test_without_usage_and_role() -> None:
    assert blocked_stream(STREAM, 0, "no", [0]) == message_frame(STREAM, 0, "no") + finish_frames(STREAM, [0]) + DONE
    [frame] = frames(message_frame(STREAM, 0, "no"))
    assert frame["choices"][0]["delta"] == {"content": "no"}


def test_an_estimate_says_that_it_is_one() -> None:
    [frame] = frames(usage_frame(STREAM, None, (3, 4)))
    assert frame["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert frame["moderation"] == {"usage": "estimated"}
    [known] = frames(usage_frame(STREAM, {"total_tokens": 1}, (3, 4)))
    assert (known["usage"], "moderation" in known) == ({"total_tokens": 1}, False)


@pytest.mark.parametrize(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("你好", 2), ("ab你", 2)])
def test_estimates(text: str, tokens: int) -> None:
    assert estimate_tokens(text) == tokens


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"id": "i", "created": 1, "model": "m"}, Head("i", 1, "m")),
        ({"id": "", "created": True, "model": None}, STREAM),
        ({"id": 5, "created": "x", "model": "m"}, Head("chatcmpl-1", 1716000000, "m")),
        ({}, STREAM),
        (None, STREAM),
        ([], STREAM),
    ],
)
def test_the_head_of_a_stream(body: object, expected: Head) -> None:
    assert head(body, STREAM) == expected


def test_what_we_say_is_json_for_all() -> None:
    assert json.loads(message_frame(STREAM, 0, '"\\\x00\u2028')[6:])["choices"][0]["delta"]["content"] == '"\\\x00\u2028'
