"""The OpenAI dialect's streams: what is read of a frame does not depend on the frames before it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.flow.speech import OpenAISpeech, mould, tokens
from moderation.flow.streaming import Heard
from moderation.text import Channel
from moderation.wire.answers import Head
from moderation.wire.chunks import Piece, TapeId

CONTENT = TapeId(0, Channel.ANSWER, "content")


def speech() -> OpenAISpeech:
    return OpenAISpeech("r", Head("x", 0, "m"), include_usage=False, asked="hi")


def frame(content: str, finish: str = "null", before: str = "", after: str = "", index: int = 0) -> bytes:
    """A frame; `content` stands between the quotes as it is."""
    choice = f'{{"delta": {{{before}"content": "{content}"{after}}}, "index": {index}, "finish_reason": {finish}}}'
    return f'data: {{"choices": [{choice}], "id": "c"}}\n\n'.encode()


FRAMES = [
    ("plain", frame("world")),
    ("a text with an escape", frame("1\\u0031\\n")),
    ("an escaped quote", frame('a\\"b')),
    ("a second field behind the first", frame('a", "reasoning_content": "secret')),
    ("a finish", frame("end", '"stop"')),
    ("another choice", frame("two", index=1)),
    ("more fields", frame("a", after=', "refusal": "no"')),
    ("fields before", frame("a", before='"role": "assistant", ')),
    ("an empty text", frame("")),
    ("not ASCII", frame("é\u2028\U0001f600")),
    ("the end", b"data: [DONE]\n\n"),
    ("a comment", b": hi\n\n"),
    ("a finish alone", b'data: {"choices": [{"delta": {}, "index": 0, "finish_reason": "stop"}], "id": "c"}\n\n'),
]


@pytest.mark.parametrize(("note", "raw"), FRAMES, ids=[row[0] for row in FRAMES])
@pytest.mark.parametrize("first", [row[1] for row in FRAMES[:10]])
def test_a_frame_is_read_alike_after_any_other(note: str, raw: bytes, first: bytes) -> None:
    used = speech()
    used.read(first)
    assert used.read(raw) == speech().read(raw)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=6), st.booleans())
def test_texts_are_those_of_the_json(texts: list[str], escaped: bool) -> None:
    used = speech()
    for text in texts:
        body = {"choices": [{"index": 0, "delta": {"content": text}}]}
        raw = b"data: " + json.dumps(body, ensure_ascii=escaped).encode("utf-8", "replace") + b"\n\n"
        heard = used.read(raw)
        delta: dict[str, Any] = json.loads(raw[6:])["choices"][0]["delta"]
        # Half of a surrogate pair is no text; what stands for it is read.
        expected = "".join("\ufffd" if "\ud800" <= char <= "\udfff" else char for char in delta["content"])
        assert [piece.text for piece in heard.pieces] == ([expected] if expected else [])


@pytest.mark.parametrize(
    "bad",
    [
        b'data: {"choices": [{"delta": {"content": "\xff"}, "index": 0, "finish_reason": null}], "id": "c"}\n\n',
        frame("a\nb"),
    ],
)
def test_what_is_no_json_is_not_taken_for_a_text(bad: bytes) -> None:
    known = mould(frame("x"), frame("x")[6:-2], Piece(CONTENT, "x", "/choices/0/delta/content"), (0,))
    assert known is not None
    assert known.text(frame("y")) == "y"
    assert known.text(bad) is None


def test_only_frames_with_one_text_and_nothing_else_are_a_mould() -> None:
    used = speech()
    for raw in (frame("a", '"stop"'), frame("a", after=', "refusal": "no"'), frame("")):
        used.read(raw)
        assert used.read(frame("b", '"stop"')) == Heard((Piece(CONTENT, "b", "/choices/0/delta/content"),), (0,), (0,))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 1, "completion_tokens": 2}, (1, 2)),
        ({"prompt_tokens": 1}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": -1, "completion_tokens": 2}, None),
        ({"prompt_tokens": 1 << 53, "completion_tokens": 2}, None),
        ([], None),
    ],
)
def test_tokens(usage: object, expected: tuple[int, int] | None) -> None:
    assert tokens(usage) == expected
