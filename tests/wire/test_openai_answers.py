"""Whole answers: every text is seen; errors are known whatever their shape."""

from __future__ import annotations

import json

import pytest

from moderation.errors import UpstreamError
from moderation.text import Channel, Conversation, Media, Phase, Turn
from moderation.wire.body import parse
from moderation.wire.openai import finish_pointers, is_error, logprob_pointers, read_answer

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"q": "x", "n": 5}'}}


def answer(message: object, **more: object) -> Conversation:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **more}]}
    return read_answer(parse(json.dumps(body).encode()))


def test_an_answer() -> None:
    read = answer({
        "role": "assistant", "content": "a", "reasoning_content": "r", "refusal": "no", "tool_calls": [CALL],
        "audio": {"id": "audio_1", "transcript": "t", "data": "UklG" * 20}, "annotations": [{"title": "a b"}], "x": None,
    })
    assert [(s.channel, s.phase, s.path.removeprefix("/choices/0/message"), s.text) for s in read.segments] == [
        (Channel.ANSWER, Phase.OUTPUT, "/content", "a"),
        (Channel.REASONING, Phase.OUTPUT, "/reasoning_content", "r"),
        (Channel.REFUSAL, Phase.OUTPUT, "/refusal", "no"),
        (Channel.TOOL_CALL, Phase.TOOL_CALL, "/tool_calls/0/function/arguments#/q", "x"),
        (Channel.TOOL_CALL, Phase.TOOL_CALL, "/tool_calls/0/function/arguments#/n", "5"),
        (Channel.TOOL_CALL, Phase.TOOL_CALL, "/tool_calls/0/function/arguments#~keys", "q\nn"),
        (Channel.ANSWER, Phase.OUTPUT, "/audio/transcript", "t"),
        (Channel.ANSWER, Phase.OUTPUT, "/annotations/0/title", "a b"),
    ]
    assert {s.tool for s in read.segments if s.phase is Phase.TOOL_CALL} == {"look"}
    assert [s.literal for s in read.segments if s.phase is Phase.TOOL_CALL] == [False, True, False]
    assert read.media == (Media("/choices/0/message/audio", "audio", Turn.NEW),)


def test_parts_of_an_answer() -> None:
    read = answer({"content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}]})
    assert [(s.channel, s.text) for s in read.segments] == [(Channel.ANSWER, "a"), (Channel.REFUSAL, "no")]


def test_choices_have_their_numbers() -> None:
    body = {"model": "m", "choices": [
        {"index": 1, "message": {"content": "b"}}, {"index": 0, "message": {"content": "a"}}, {"message": {"content": "c"}},
        {"index": 3, "message": None},
    ]}
    read = read_answer(body)
    assert [(s.choice, s.text) for s in read.segments] == [(1, "b"), (0, "a"), (2, "c")]
    assert read.model == "m"


def test_text_beside_a_message_is_read() -> None:
    logprobs = {"content": [{"token": "a"}]}
    read = answer({"content": "a"}, text="b", stop_reason="plain", matched_stop="two words", logprobs=logprobs)
    assert [(s.path, s.text) for s in read.segments] == [
        ("/choices/0/message/content", "a"), ("/choices/0/text", "b"), ("/choices/0/matched_stop", "two words"),
    ]


@pytest.mark.parametrize("body", [
    None, [], "x", {}, {"error": {"message": "m"}}, {"choices": None}, {"choices": {}}, {"choices": ["x"]},
    {"choices": [{"message": "x"}]}, {"choices": [{"message": {"content": 5}}]},
])
def test_an_answer_that_cannot_be_read(body: object) -> None:
    with pytest.raises(UpstreamError) as refused:
        read_answer(body)
    assert refused.value.code == "upstream_invalid"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": {"message": "m", "code": "c"}}, True),
        ({"error": "m"}, True),
        ({"code": "InvalidApiKey", "message": "m", "request_id": "r"}, True),
        ({"object": "error", "message": "m", "code": 400}, True),
        ({"choices": []}, False),
        ({"choices": [], "error": None}, False),
        ({"error": None}, False),
        ({}, False),
        ([], False),
        (None, False),
    ],
)
def test_errors_of_any_shape(body: object, error: bool) -> None:
    assert is_error(body) is error


def test_places_that_an_edit_must_touch_too() -> None:
    body = {"choices": [
        {"index": 1, "finish_reason": None, "logprobs": {"content": []}},
        {"index": 0, "finish_reason": "stop", "logprobs": None, "token_ids": [1]},
    ]}
    assert logprob_pointers(body, 1) == ("/choices/0/logprobs",)
    assert logprob_pointers(body, 0) == ("/choices/1/token_ids",)
    assert finish_pointers(body) == ("/choices/1/finish_reason",)
    assert logprob_pointers({"choices": None}, 0) == ()
