"""wire/openai.py and wire/chunks.py: every text of an answer or a chunk is read or refused; and chunks with other texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fuzz.target import Target, dice, law
from fuzz.targets.chats import ANSWERS, CHUNKS, WORDS
from fuzz.targets.request import unread
from moderation.errors import Refused, UpstreamError
from moderation.wire.body import parse
from moderation.wire.leaves import editable
from moderation.wire.openai import read_answer, read_chunk, rewrite_frame
from moderation.wire.sse import Event

NEW = "«an other text»"


def _run(data: bytes) -> str:
    try:
        body = parse(data)
    except Refused as refused:
        return refused.code
    return f"{_answer(body)} / {_chunk(data, body)}"


def _answer(body: Any) -> str:
    try:
        read = read_answer(body)
    except UpstreamError as refused:
        law(refused.code == "upstream_invalid", "another code than the upstream's")
        return refused.message
    said = "\n".join(segment.text for segment in read.segments)
    messages = [choice.get("message") for choice in body["choices"]]
    law(not any(unread(said, messages)), "a text of an answer that is in no segment")
    return " ".join(sorted({f"{one.channel}{one.literal}" for one in read.segments}))


def _chunk(data: bytes, body: Any) -> str:
    try:
        read = read_chunk(body)
    except UpstreamError as refused:
        law(refused.code == "upstream_invalid", "another code than the upstream's")
        return refused.message
    said = "\n".join([*(piece.text for piece in read.pieces), *(call.name for call in read.calls)])
    choices = body.get("choices") or []
    law(not any(unread(said, [choice.get("delta") for choice in choices])), "a text of a chunk that is on no tape")
    law(all(editable(piece.path) for piece in read.pieces), "a piece that cannot be edited")
    # Of a call that is only named, a piece without text stands for arguments that are not there.
    texts = [piece for piece in read.pieces if piece.text]
    if texts and not any(piece.medium for piece in texts):
        _rewritten(data, {dice(data).choice(texts).path: NEW})
    return " ".join(sorted({f"{one.tape.channel}{one.medium}" for one in read.pieces}))


def _rewritten(data: bytes, new: dict[str, str]) -> None:
    if b"\n" in data or b"\r" in data:
        return
    frame = b"data: " + data + b"\n\n"
    again = Event.parse(rewrite_frame(frame, new, unfinished=True)).data
    assert again is not None
    read = read_chunk(parse(again))
    found = {piece.path: piece.text for piece in read.pieces}
    law(all(found.get(path) == text for path, text in new.items()), "the edited text is not the wanted one")
    law(not read.finished, "a finish_reason in an unfinished frame")


def _seeds() -> Sequence[bytes]:
    return [*ANSWERS, *CHUNKS]


TARGET = Target(
    "answer",
    "Every string of an answer's message and of a delta is read, or it is refused; an edited frame has the wanted text.",
    _seeds, lambda: _run, WORDS,
)
