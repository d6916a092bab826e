"""Server-sent events as bytes: whole events out of any chunks, their data, and events with other data.

Lines end in LF, CRLF or CR and in nothing else. Each event keeps its original bytes with the blank line that ends it, so
what is passed on unchanged is what came. Knows nothing of what the data say.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from moderation.errors import UpstreamError

MAX_EVENT = 16 << 20
"""Bytes of one event. Larger than any frame of a chat, and small enough to bound a stream's memory."""

_EOL = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_OTHERS = frozenset({b"", b"id", b"retry"})
"""Beside `data` and `event`: comments and blank lines, and what only reconnecting needs."""


class Splitter:
    """Cuts a stream of bytes into events. Where the cuts lie depends on the bytes alone, never on the chunks.

    An event ends with the blank line that ends it. A CR at the end of what has come may be half of a CRLF, so it waits for the
    next byte; where the line before ended in a CR alone it ends the event at once, and an LF behind it is a line of its own.
    A blank line where an event would start is an event without fields.
    """

    __slots__ = ("_before", "_broken", "_buffer", "_line", "_max", "_seen")

    def __init__(self, max_event: int = MAX_EVENT) -> None:
        self._max = max_event
        self._buffer = bytearray()
        self._seen = 0
        """Up to here there is no further line end in the buffer."""
        self._line = 0
        """Where the current line starts in the buffer."""
        self._before = b""
        """What ended the line before."""
        self._broken = False
        """An event is too large; those before it have been handed out."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that are whole now. Raises UpstreamError(upstream_invalid) where the next one is too large."""
        if not self._buffer and not self._broken and chunk.endswith(b"\n\n") and len(chunk) <= self._max and _usual(chunk):
            # By far the most chunks: one or more whole events with plain line ends.
            self._before = b"\n"
            if chunk.find(b"\n\n") == len(chunk) - 2:
                return [chunk]
            return [part + b"\n\n" for part in chunk[:-2].split(b"\n\n")]
        self._check()
        self._buffer += chunk
        events = self._cut()
        for number, event in enumerate(events):
            if len(event) > self._max:
                self._broken = True
                events = events[:number]
                break
        self._broken = self._broken or len(self._buffer) > self._max
        if not events:
            self._check()
        return events

    def rest(self) -> bytes:
        """What no blank line has ended (yet). It may be parsed as an event where a stream has ended."""
        self._check()
        return bytes(self._buffer)

    def _check(self) -> None:
        if self._broken:
            self._buffer.clear()
            raise UpstreamError("upstream_invalid", f"an event of the upstream's stream is larger than {self._max} bytes")

    def _cut(self) -> list[bytes]:
        buffer, events, start = self._buffer, [], 0
        at, line, before = self._seen, self._line, self._before
        while (eol := _EOL.search(buffer, at)) is not None:
            place, at = eol.span()
            kind = eol[0]
            blank = place == line
            if blank and before == b"\r" and kind == b"\r\n":
                at, kind = place + 1, b"\r"
            elif kind == b"\r" and at == len(buffer) and not (blank and before == b"\r"):
                at = place
                break
            if blank:
                events.append(bytes(buffer[start:at]))
                start = at
            line, before = at, kind
        else:
            at = len(buffer)
        del buffer[:start]
        self._seen, self._line, self._before = at - start, line - start, before
        return events


def _usual(chunk: bytes) -> bool:
    return b"\r" not in chunk and b"\n\n\n" not in chunk and not chunk.startswith(b"\n")


class Event(NamedTuple):
    """What one event says. A tuple, for a stream makes one for each frame."""

    data: bytes | None
    """Its data lines, joined by LF; None where it has none: a comment, or a blank line."""
    name: str | None

    @staticmethod
    def parse(raw: bytes) -> Event:
        """Read one event. Any line that some reader would take for data is read as data.

        Raises UpstreamError(upstream_invalid) for a line of no field that events have: another reader could read it after all.
        """
        if raw.startswith(b"data:") and raw.find(b"\n") == len(raw) - 2 and raw.endswith(b"\n\n") and b"\r" not in raw:
            return Event(raw[6:-2] if raw[5] == 0x20 else raw[5:-2], None)
        data: list[bytes] = []
        name: str | None = None
        for line in _EOL.split(raw.removeprefix(_BOM)):
            field, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value.decode(errors="replace")
            elif field not in _OTHERS:
                raise UpstreamError("upstream_invalid", "the upstream's stream has a line that is no field of an event")
        return Event(b"\n".join(data) if data else None, name)


def with_data(raw: bytes, data: bytes) -> bytes:
    """The event with other data in place of its own; all its other lines stay as they are.

    The data stand where the first data line stood, written as that was (`data:` or `data: `), a line for each of theirs.
    """
    parts: list[bytes] = []
    done = False
    at = len(_BOM) if raw.startswith(_BOM) else 0
    parts.append(raw[:at])
    while at < len(raw):
        eol = _EOL.search(raw, at)
        stop, after = eol.span() if eol else (len(raw), len(raw))
        line = raw[at:stop]
        if line == b"data" or line.startswith(b"data:"):
            if not done:
                # One space is dropped by readers, so a line of data that starts with one needs one more.
                own = _EOL.split(data)
                spaced = line.startswith(b"data: ") or any(part.startswith(b" ") for part in own)
                end = raw[stop:after] or b"\n"
                parts.append(end.join((b"data: " if spaced else b"data:") + part for part in own) + raw[stop:after])
                done = True
        else:
            parts.append(raw[at:after])
        at = after
    return b"".join(parts)
