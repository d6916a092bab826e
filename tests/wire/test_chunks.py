"""Chunks of a stream: every string of a delta is a piece of some tape; an edited chunk differs only there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import UpstreamError
from moderation.text import Channel
from moderation.wire.body import parse
from moderation.wire.chunks import MEDIUM, CallName, Chunk, Piece, TapeId, read_chunk, rewrite_frame
from moderation.wire.sse import Event
from tests.wire.test_openai_any import VALUES, strings

ANSWER, REASONING, REFUSAL, CALLED = Channel.ANSWER, Channel.REASONING, Channel.REFUSAL, Channel.TOOL_CALL


def chunk(delta: object, index: object = 0, **more: object) -> Chunk:
    body = {"id": "x y", "choices": [{"index": index, "delta": delta, **more}], "usage": None}
    return read_chunk(parse(json.dumps(body).encode()))


DELTAS: list[tuple[str, dict[str, Any], list[tuple[Channel, str, str]]]] = [
    ("Qwen's first", {"content": None, "role": "assistant", "reasoning_content": ""}, []),
    ("reasoning", {"content": None, "reasoning_content": "r"}, [(REASONING, "reasoning_content", "r")]),
    ("reasoning of vLLM", {"reasoning": "r"}, [(REASONING, "reasoning", "r")]),
    ("an answer", {"content": "a", "reasoning_content": None}, [(ANSWER, "content", "a")]),
    ("a space is text", {"content": " "}, [(ANSWER, "content", " ")]),
    ("a refusal", {"refusal": "no"}, [(REFUSAL, "refusal", "no")]),
    ("an unknown field", {"thought": "t"}, [(ANSWER, "thought", "t")]),
    ("a role that says something", {"role": "a role!"}, [(ANSWER, "role", "a role!")]),
    ("an unknown object", {"x": {"y": ["z", None, 5]}}, [(ANSWER, "x/y/0", "z")]),
    ("parts", {"content": [{"type": "text", "text": "a"}]}, [(ANSWER, "content/0/text", "a")]),
    ("a long bare number", {"x": 13812345678}, [(ANSWER, "x", "13812345678")]),
    ("reasoning in parts", {"reasoning_details": [{"type": "reasoning.text", "text": "r"}]},
     [(REASONING, "reasoning_details/0/text", "r")]),
    ("the words of speech", {"audio": {"id": "audio_1", "transcript": "t", "data": "UklG" * 20}},
     [(ANSWER, "audio", MEDIUM), (ANSWER, "audio/transcript", "t")]),
    ("speech that is too short to be any", {"audio": {"data": "13812345678"}}, [(ANSWER, "audio/data", "13812345678")]),
    ("a call begins", {"tool_calls": [{"index": 1, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]},
     [(CALLED, "tool_calls/1/arguments", "")]),
    ("a call goes on, Qwen's way", {"tool_calls": [{"index": 1, "id": "", "function": {"arguments": '{"a'}}]},
     [(CALLED, "tool_calls/1/arguments", '{"a')]),
    ("a call without a number", {"tool_calls": [{"function": {"arguments": "x"}}]}, [(CALLED, "tool_calls/0/arguments", "x")]),
    ("two calls", {"tool_calls": [{"index": 0, "function": {"arguments": "a"}}, {"index": 1, "function": {"arguments": "a"}}]},
     [(CALLED, "tool_calls/0/arguments", "a"), (CALLED, "tool_calls/1/arguments", "a")]),
    ("a call of old", {"function_call": {"name": "f", "arguments": "x"}}, [(CALLED, "function_call/arguments", "x")]),
    ("a custom call", {"tool_calls": [{"index": 0, "custom": {"name": "f", "input": "x"}}]},
     [(CALLED, "tool_calls/0/input", "x")]),
    ("a call with more in it", {"tool_calls": [{"index": 0, "function": {"arguments": "a", "x": "a"}, "y": "a"}]}, [
        (CALLED, "tool_calls/0/arguments", "a"), (CALLED, "tool_calls/0/function/x", "a"), (CALLED, "tool_calls/0/y", "a"),
    ]),
    ("a name that says something", {"tool_calls": [{"index": 0, "function": {"name": "do it"}}]},
     [(CALLED, "tool_calls/0/arguments", ""), (CALLED, "tool_calls/0/function/name", "do it")]),
    ("arguments that are an object", {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"q": "x"}}}]},
     [(CALLED, "tool_calls/0/arguments", ""), (CALLED, "tool_calls/0/function/arguments/q", "x")]),
    ("a call that is a string", {"tool_calls": ["x"]}, [(CALLED, "tool_calls/0", "x")]),
]


@pytest.mark.parametrize(("note", "delta", "pieces"), DELTAS, ids=[c[0] for c in DELTAS])
def test_a_delta(note: str, delta: dict[str, Any], pieces: list[tuple[Channel, str, str]]) -> None:
    read = chunk(delta, 3)
    assert [(p.tape.channel, p.tape.name, p.text) for p in read.pieces] == pieces
    assert {p.tape.choice for p in read.pieces} <= {3}
    assert (read.finished, read.choices, read.usage, read.error) == ((), (3,), False, False)
    assert {p.medium for p in read.pieces if p.text == MEDIUM} <= {"audio"}


def test_names_of_calls() -> None:
    some = [{"index": 2, "function": {"name": "f", "arguments": ""}}, {"index": 3, "function": {"name": ""}}]
    read = chunk({"tool_calls": some, "function_call": {"name": "g"}})
    assert read.calls == (CallName(0, "tool_calls/2", "f"), CallName(0, "function_call", "g"))
    assert all(any(p.tape.name.startswith(call.call + "/") for p in read.pieces) for call in read.calls)


CHUNKS = [
    ("the end of a choice", {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]},
     Chunk((), (1,), False, False, (), (1,))),
    ("the usage", {"choices": [], "usage": {"total_tokens": 1}}, Chunk((), (), True, False, (), ())),
    ("an error", {"error": {"message": "two words"}}, Chunk((), (), False, True, (), ())),
    ("an error with choices", {"choices": [], "error": {"message": "m"}}, Chunk((), (), False, True, (), ())),
    ("no error, whatever the field is called", {"choices": [{"delta": {"content": "x"}}], "error": False},
     Chunk((Piece(TapeId(0, ANSWER, "content"), "x", "/choices/0/delta/content"),), (), False, False, (), (0,))),
    ("nor is an empty one", {"error": {}}, Chunk((), (), False, False, (), ())),
    ("a native error", {"code": "X", "message": "two words", "request_id": "r"}, Chunk((), (), False, True, (), ())),
    ("SGLang's error", {"object": "error", "message": "two words"}, Chunk((), (), False, True, (), ())),
    ("a sign of life", {"type": "ping"}, Chunk((), (), False, False, (), ())),
    ("another dialect's text is read", {"message": {"content": "x"}},
     Chunk((Piece(TapeId(0, ANSWER, "message/content"), "x", "/message/content"),), (), False, False, (), ())),
    ("a delta that is null", {"choices": [{"index": 0, "delta": None}]}, Chunk((), (), False, False, (), (0,))),
    ("no delta", {"choices": [{}, {}]}, Chunk((), (), False, False, (), (0, 1))),
    ("text beside the delta", {"choices": [{"text": "x", "stop_reason": "ab", "message": {"content": "y"}}]}, Chunk(
        (Piece(TapeId(0, ANSWER, "text"), "x", "/choices/0/text"),
         Piece(TapeId(0, ANSWER, "message/content"), "y", "/choices/0/message/content")), (), False, False, (), (0,))),
]


@pytest.mark.parametrize(("note", "body", "expected"), CHUNKS, ids=[c[0] for c in CHUNKS])
def test_a_chunk(note: str, body: object, expected: Chunk) -> None:
    assert read_chunk(body) == expected


@pytest.mark.parametrize("body", [
    None, [], "x", 5,
    {"choices": "x"},
    {"choices": {"0": {"delta": {"content": "x"}}}},
    {"choices": [{"index": 1.0, "delta": {}}]},
    {"choices": [{"index": "0", "delta": {}}]},
    {"choices": [{"index": True, "delta": {}}]},
    {"choices": [{"finish_reason": "4111111111111111"}]},
    {"choices": [{"finish_reason": {"x": "y"}}]},
    {"choices": [{"delta": {"content": "x"}}], "error": {"message": "m"}},
    {"choices": ["x"]},
    {"choices": [None]},
    {"choices": [{"delta": "x"}]},
    {"choices": [{"delta": {"content": 5}}]},
    {"choices": [{"delta": {"content": True}}]},
    {"choices": [{"delta": {"x": {"a key that speaks": 1}}}]},
    {"choices": [{"delta": {"a key that speaks": None}}]},
    {"choices": [{"a key that speaks": "x", "delta": {}}]},
    {"choices": [{"delta": {"x": ["y"] * 100_001}}]},
])
def test_a_chunk_that_cannot_be_read(body: object) -> None:
    with pytest.raises(UpstreamError) as refused:
        read_chunk(body)
    assert refused.value.code == "upstream_invalid"
    assert "speaks" not in refused.value.message


REWRITES: list[tuple[str, bytes, dict[str, str], bool, bytes]] = [
    ("the text alone", b'data: {"choices" : [{"delta":{"content":"a b"},"index":0}],"x":1.50}\n\n',
     {"/choices/0/delta/content": "c"}, False, b'data: {"choices" : [{"delta":{"content":"c"},"index":0}],"x":1.50}\n\n'),
    ("to nothing", b'data:{"choices":[{"delta":{"content":"a"}}]}\r\n\r\n', {"/choices/0/delta/content": ""}, False,
     b'data:{"choices":[{"delta":{"content":""}}]}\r\n\r\n'),
    ("its tokens too, its neighbour's not",
     b'data: {"choices":[{"index":1,"delta":{"content":"a"},"logprobs":{"content":[1]}},{"index":0,"logprobs":{}}]}\n\n',
     {"/choices/0/delta/content": "c"}, False,
     b'data: {"choices":[{"index":1,"delta":{"content":"c"},"logprobs":null},{"index":0,"logprobs":{}}]}\n\n'),
    ("without its end", b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n', {}, True,
     b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":null}]}\n\n'),
    ("without an end it has not", b'data: {"choices":[{"delta":{}}]}\n\n', {}, True, b'data: {"choices":[{"delta":{}}]}\n\n'),
    ("its other lines stay", b':c\nid: 1\ndata: {"choices":[{"delta":{"content":"a"}}]}\nevent: e\n\n',
     {"/choices/0/delta/content": "\u2028"}, False,
     ':c\nid: 1\ndata: {"choices":[{"delta":{"content":"\u2028"}}]}\nevent: e\n\n'.encode()),
    ("a line end in the text stays inside its line", b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n',
     {"/choices/0/delta/content": "\r\n"}, False, b'data: {"choices":[{"delta":{"content":"\\r\\n"}}]}\n\n'),
    ("data over two lines", b'data: {"choices":\ndata: [{"delta":{"content":"a"}}]}\n\n',
     {"/choices/0/delta/content": "c"}, False,
     b'data: {"choices":\ndata: [{"delta":{"content":"c"}}]}\n\n'),
    ("no data", b": c\n\n", {}, True, b": c\n\n"),
]


@pytest.mark.parametrize(("note", "raw", "texts", "unfinished", "after"), REWRITES, ids=[c[0] for c in REWRITES])
def test_rewrites(note: str, raw: bytes, texts: dict[str, str], unfinished: bool, after: bytes) -> None:
    assert rewrite_frame(raw, texts, unfinished) == after


@given(st.dictionaries(st.sampled_from(["content", "reasoning", "tool_calls", "function_call", "x", "audio", "role"]), VALUES))
def test_any_delta_is_read_or_refused_and_can_be_rewritten(delta: dict[str, Any]) -> None:
    raw = b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"
    try:
        read = read_chunk(parse(Event.parse(raw).data or b""))
    except UpstreamError:
        return
    seen = "\n".join(piece.text for piece in read.pieces)
    assert all(text in seen for text in strings(delta) if " " in text or "中" in text)
    paths = [piece.path for piece in read.pieces]
    assert len(paths) == len(set(paths))
    texts = {piece.path: piece.text + "!" for piece in read.pieces if piece.text}
    again = read_chunk(parse(Event.parse(rewrite_frame(raw, texts)).data or b""))
    assert {p.path: p.text for p in again.pieces if p.path in texts} == texts
