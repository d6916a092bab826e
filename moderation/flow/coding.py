"""Content-codings taken off, piece by piece: gzip, deflate, br and zstd, with bounds on what comes out and on memory.

What is judged is what comes out of here, and that alone goes on; so no other decoder ever reads the compressed bytes.
Knows nothing of HTTP but the header's words (RFC 9110, 8.4).
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import brotli

from moderation.errors import Refused, UpstreamError

__all__ = ["Decoder", "Source", "Unpacked", "coding", "decoded", "upstream_decoder", "zstd"]

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE = 1 << 20
"""About as many bytes are made at once, however small what they are made of."""
MOST_MEMBERS = 1000
"""Members of gzip or frames of zstd in one body: each costs a decoder, and an empty one is a few bytes."""
_WINDOW = {int(zstd.DecompressionParameter.window_log_max): 23}
"""Of zstd in HTTP: 8 MB (RFC 9659)."""
_SAID = "identity, gzip, deflate, br or zstd"


class _Member(Protocol):
    """One compressed stream that knows its end."""

    @property
    def eof(self) -> bool: ...
    @property
    def hungry(self) -> bool:
        """Nothing more comes out before more goes in."""
        ...

    def feed(self, data: bytes, most: int) -> bytes: ...
    def rest(self) -> bytes:
        """What stood behind the end."""
        ...


class _Zlib:
    """One member of gzip (RFC 1952), or a zlib stream."""

    def __init__(self, bits: int) -> None:
        self._z = zlib.decompressobj(bits)
        self.hungry = True

    @property
    def eof(self) -> bool:
        return self._z.eof

    def feed(self, data: bytes, most: int) -> bytes:
        out = self._z.decompress(self._z.unconsumed_tail + data, most)
        self.hungry = not self._z.unconsumed_tail and len(out) < most
        return out

    def rest(self) -> bytes:
        return self._z.unused_data


class _Brotli:
    """A brotli stream (RFC 7932). The library refuses what stands behind its end."""

    def __init__(self) -> None:
        self._b: Any = brotli.Decompressor()
        self.hungry = True

    @property
    def eof(self) -> bool:
        return bool(self._b.is_finished())

    def feed(self, data: bytes, most: int) -> bytes:
        out: bytes = self._b.process(data, output_buffer_limit=most)
        self.hungry = self._b.can_accept_more_data() and len(out) < most
        return out

    def rest(self) -> bytes:
        return b""


class _Zstd:
    """One frame of zstd (RFC 8878)."""

    def __init__(self) -> None:
        self._z = zstd.ZstdDecompressor(options=_WINDOW)

    @property
    def eof(self) -> bool:
        return self._z.eof

    @property
    def hungry(self) -> bool:
        return self._z.needs_input

    def feed(self, data: bytes, most: int) -> bytes:
        return self._z.decompress(data, most)

    def rest(self) -> bytes:
        return self._z.unused_data


def _gzip() -> _Member:
    return _Zlib(16 + zlib.MAX_WBITS)


def _deflate() -> _Member:
    return _Zlib(zlib.MAX_WBITS)


_CODINGS: dict[bytes, tuple[Callable[[], _Member], bool]] = {
    b"gzip": (_gzip, True),
    b"x-gzip": (_gzip, True),
    b"deflate": (_deflate, False),
    b"br": (_Brotli, False),
    b"zstd": (_Zstd, True),
}
"""How a member is made, and whether another may follow it."""
_BROKEN = (zlib.error, brotli.error, zstd.ZstdError)


class Decoder:
    """Takes one content-coding off. Identity costs nothing. Several codings, one over the other, are not read."""

    __slots__ = ("_limit", "_made", "_make", "_member", "_members", "_several", "active")

    def __init__(self, coding: bytes, limit: int) -> None:
        """`limit`: the most bytes that may come out. Raises Refused(unsupported_encoding)."""
        words = [word for part in coding.split(b",") if (word := part.strip().lower()) not in (b"", b"identity")]
        self._limit = limit
        self._made = 0
        self._members = 0
        self._member: _Member | None = None
        self.active = bool(words)
        if self.active and (len(words) > 1 or words[0] not in _CODINGS):
            raise self.fault("unsupported_encoding", f"content-encoding: expected one of {_SAID}")
        self._make, self._several = _CODINGS[words[0]] if words else (_gzip, False)

    def fault(self, code: str, message: str) -> Refused:
        """What is raised; whose fault it is."""
        return Refused(code, message)

    def __call__(self, chunk: bytes) -> bytes:
        """All that comes out. Raises Refused(body_too_large | invalid_json)."""
        return b"".join(self.pieces(chunk)) if self.active else chunk

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """The same, about PIECE bytes at a time; to be taken to its end before the next chunk."""
        if not self.active:
            yield chunk
            return
        data = chunk
        while data or (self._member is not None and not self._member.eof and not self._member.hungry):
            member = self._member
            if member is None or member.eof:
                member = self._member = self._next()
            try:
                out = member.feed(data, PIECE)
            except _BROKEN:
                raise self.fault("invalid_json", "the body is not in the content-encoding that it claims") from None
            self._made += len(out)
            if self._made > self._limit:
                raise self.fault("body_too_large", f"the decoded body is over the limit of {self._limit} bytes")
            data = member.rest() if member.eof else b""
            if out:
                yield out

    def _next(self) -> _Member:
        self._members += 1
        if self._members > (MOST_MEMBERS if self._several else 1):
            raise self.fault("invalid_json", "there are bytes behind the end of the compressed body, or too many pieces in it")
        return self._make()

    def end(self) -> None:
        """The body is over; raises Refused where the compressed data are not."""
        if self.active and (self._member is None or not self._member.eof):
            raise self.fault("invalid_json", "the compressed body is cut short")


class UpstreamDecoder(Decoder):
    """The same for an upstream's answer: every fault is the upstream's."""

    __slots__ = ()

    def fault(self, code: str, message: str) -> Refused:
        return UpstreamError("upstream_invalid", f"the upstream's answer: {message}")


def coding(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The codings that the headers name, in their order: several lines are one list."""
    return b",".join([value for name, value in headers if name.lower() == b"content-encoding"])


async def decoded(decoder: Decoder, data: bytes, read: Callable[[int], None]) -> bytes:
    """All that comes out of these bytes. Others have their turn between two pieces: a few bytes can be many megabytes.

    `read` is told the bytes of each piece, and may refuse it.
    """
    parts: list[bytes] = []
    for piece in decoder.pieces(data):
        read(len(piece))
        if parts:
            await asyncio.sleep(0)
        parts.append(piece)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def upstream_decoder(headers: Iterable[tuple[bytes, bytes]], limit: int) -> Decoder:
    """Takes the content-coding off an upstream's answer. Raises UpstreamError, here and later."""
    return UpstreamDecoder(coding(headers), limit)


class Source(Protocol):
    """The upstream's answer, as far as a carrier needs it (upstream.Answer)."""

    @property
    def status(self) -> int: ...
    async def read(self) -> bytes: ...
    def close(self) -> None: ...


class Unpacked:
    """An answer with its content-coding taken off."""

    __slots__ = ("_answer", "_decoder", "_pieces", "close", "status")

    def __init__(self, answer: Source, decoder: Decoder) -> None:
        self._answer = answer
        self._decoder = decoder
        self._pieces: Iterator[bytes] = iter(())
        self.status = answer.status
        self.close = answer.close

    async def read(self) -> bytes:
        """At least one byte; b"" at the end."""
        while True:
            for piece in self._pieces:
                return piece
            chunk = await self._answer.read()
            if not chunk:
                self._decoder.end()
                return b""
            self._pieces = self._decoder.pieces(chunk)
