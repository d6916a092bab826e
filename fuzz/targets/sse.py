"""wire/sse.py: events out of bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuzz.target import Target, cut, dice, law
from fuzz.targets.chats import CHUNKS
from moderation.errors import UpstreamError
from moderation.wire.sse import Event, Splitter, with_data

MAX_EVENT = 4096
_EOL = re.compile(rb"\r\n|\r|\n")


def _split(chunks: Sequence[bytes]) -> tuple[list[bytes], bytes | None]:
    """The events and what is left; None where an event was too large."""
    splitter = Splitter(MAX_EVENT)
    events: list[bytes] = []
    try:
        for chunk in chunks:
            events += splitter.feed(chunk)
        return events, splitter.rest()
    except UpstreamError:
        return events, None


def _run(data: bytes) -> str:
    random = dice(data)
    events, rest = whole = _split([data])
    for chunks in (cut(data, random), cut(data, random, 40), [bytes([byte]) for byte in data[:600]] + [data[600:]]):
        law(_split(chunks) == whole, "another way of cutting gives other events")
    if rest is not None:
        law(b"".join(events) + rest == data, "bytes are lost or made")
    words: set[str] = {f"{len(events).bit_length()} {rest is None}"}
    for event in [*events[:20], rest or b""]:
        try:
            said = Event.parse(event)
        except UpstreamError as refused:
            words.add(refused.message)
            continue
        words.add(f"{said.data is None}{said.name is None}")
        if said.data is not None and event in events:
            new = random.choice([b"[DONE]", b" {}", b"a\nb\r\nc\rd", b"", data[:20]])
            again = Event.parse(with_data(event, new))
            law(again.data == b"\n".join(_EOL.split(new)), "an event with other data has not those data")
            law(again.name == said.name, "an event with other data has another name")
            # One more byte, for a CR at the end may be half of a CRLF.
            law(_split([with_data(event, new) + b":"]) == ([with_data(event, new)], b":"),
                "an event with other data is not one event")
    return " ".join(sorted(words))


def _seeds() -> Sequence[bytes]:
    stream = b"".join(b"data: " + chunk + b"\n\n" for chunk in CHUNKS) + b"data: [DONE]\n\n"
    return [stream, stream.replace(b"\n", b"\r\n"), stream.replace(b"\n", b"\r"),
            b"\xef\xbb\xbf: hello\nid: 1\nevent: message\ndata:a\ndata: b\ndata\nretry: 3\n\n\n\n", b"data: x\r\r\n\r\n",
            b"odd line\n\n"]


TARGET = Target(
    "sse", "Any way of cutting a stream gives the same events, which together are its bytes; an event with other data has those.",
    _seeds, lambda: _run, (b"data:", b"data: ", b"data", b"event: ", b"id:", b"retry:", b":", b"\r\r\n", b"\n\r", b"\r\n\r\n",
                           b"[DONE]"),
)
