"""HTTP as ASGI hands it over: request bodies with a limit, content-codings off, answers out. Knows nothing of moderation."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from moderation.errors import Refused, UpstreamError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first header of this (lower-case) name."""
    return next((value for key, value in headers if key.lower() == name), None)


class ClientGone(Exception):
    """The client left before its request was whole."""


async def read_body(receive: Receive, headers: Headers, limit: int) -> bytes:
    """The whole body, decoded. Raises Refused(body_too_large | unsupported_encoding | invalid_json), or ClientGone."""
    length = header(headers, b"content-length")
    if length is not None and length.isdigit() and int(length) > limit:
        raise Refused("body_too_large", f"the body has {int(length)} bytes, the limit is {limit}")
    decode = Decoder(header(headers, b"content-encoding"), limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = decode(message.get("body", b""))
        size += len(chunk)
        if size > limit:
            raise Refused("body_too_large", f"the body is over the limit of {limit} bytes")
        parts.append(chunk)
        if not message.get("more_body", False):
            decode.end()
            return parts[0] if len(parts) == 1 else b"".join(parts)


class Decoder:
    """Takes one content-coding off, chunk by chunk. Identity costs nothing."""

    __slots__ = ("_limit", "_made", "_zlib", "active")

    def __init__(self, coding: bytes | None, limit: int) -> None:
        """`limit`: the most bytes that may come out. Raises Refused(unsupported_encoding)."""
        word = (coding or b"identity").strip().lower()
        self._limit = limit
        self._made = 0
        self.active = word not in (b"identity", b"")
        self._zlib: Any = None
        match word:
            case b"identity" | b"":
                pass
            case b"gzip" | b"x-gzip":
                self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)
            case b"deflate":
                self._zlib = zlib.decompressobj()
            case _:
                raise Refused("unsupported_encoding", "content-encoding: expected identity, gzip or deflate")

    def __call__(self, chunk: bytes) -> bytes:
        if self._zlib is None:
            return chunk
        try:
            out: bytes = self._zlib.decompress(chunk, self._limit - self._made + 1)
        except zlib.error:
            raise Refused("invalid_json", "the body is not in the content-encoding that it claims") from None
        self._made += len(out)
        if self._made > self._limit:
            raise Refused("body_too_large", f"the decoded body is over the limit of {self._limit} bytes")
        if self._zlib.unused_data:
            raise Refused("invalid_json", "there are bytes behind the end of the compressed body")
        return out

    def end(self) -> None:
        """The body is over; raises Refused where the compressed data are not."""
        if self._zlib is not None and not self._zlib.eof:
            raise Refused("invalid_json", "the compressed body is cut short")


def upstream_decoder(headers: Headers, limit: int) -> Decoder:
    """For an upstream's answer: as above, but its faults are the upstream's."""
    try:
        return Decoder(header(headers, b"content-encoding"), limit)
    except Refused:
        message = "the upstream's content-encoding cannot be read; it was asked for identity"
        raise UpstreamError("upstream_invalid", message) from None


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole answer."""
    await send({
        "type": "http.response.start",
        "status": status,
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
    })
    await send({"type": "http.response.body", "body": body})
