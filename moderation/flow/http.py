"""HTTP as ASGI hands it over: request bodies with a limit, content-codings off, answers out. Knows nothing of moderation."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from contextlib import suppress
from typing import Any

from moderation.errors import Code, Refused, UpstreamError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON: tuple[bytes, bytes] = (b"content-type", b"application/json")


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first header of this (lower-case) name."""
    for key, value in headers:
        if key == name or key.lower() == name:
            return value
    return None


_TRACEPARENT = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id(headers: Headers) -> str | None:
    """The trace id of traceparent (W3C Trace Context, 3.2), 32 hex digits; None where there is none, or not exactly one.

    Of version 00 alone: what a later version has more is a caller's text, and this goes into the log.
    """
    given = [value for name, value in headers if name == b"traceparent"]
    found = _TRACEPARENT.fullmatch(given[0]) if len(given) == 1 else None
    return found[1].decode("ascii") if found else None


class ClientGone(Exception):
    """The client left before its request was whole."""


async def read_body(receive: Receive, headers: Headers, limit: int, read: Callable[[int], None] = lambda size: None) -> bytes:
    """The whole body, decoded. Raises Refused(body_too_large | unsupported_encoding | invalid_json), or ClientGone.

    `read` is told the bytes of each piece, and may refuse it.
    """
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
        read(len(chunk))
        parts.append(chunk)
        if not message.get("more_body", False):
            decode.end()
            return parts[0] if len(parts) == 1 else b"".join(parts)


_GZIP = 16 + zlib.MAX_WBITS
_CODINGS: dict[bytes, int] = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": zlib.MAX_WBITS}


class Decoder:
    """Takes one content-coding off, chunk by chunk. Identity costs nothing.

    A gzip body may have several members (RFC 1952, 2.2); what else stands behind the compressed data is refused.
    """

    __slots__ = ("_bits", "_limit", "_made", "_zlib", "active")

    def __init__(self, coding: bytes | None, limit: int) -> None:
        """`limit`: the most bytes that may come out. Raises Refused(unsupported_encoding)."""
        word = (coding or b"identity").strip().lower()
        self._limit = limit
        self._made = 0
        self._bits = _CODINGS.get(word)
        self.active = word not in (b"identity", b"")
        if self.active and self._bits is None:
            raise self.fault("unsupported_encoding", "content-encoding: expected identity, gzip or deflate")
        self._zlib: Any = zlib.decompressobj(self._bits) if self._bits is not None else None

    def fault(self, code: str, message: str) -> Refused:
        """What is raised; whose fault it is."""
        return Refused(code, message)

    def __call__(self, chunk: bytes) -> bytes:
        if self._zlib is None:
            return chunk
        out = self._decompressed(chunk)
        while self._zlib.unused_data:
            rest = self._zlib.unused_data
            if self._bits != _GZIP:
                raise self.fault("invalid_json", "there are bytes behind the end of the compressed body")
            self._zlib = zlib.decompressobj(_GZIP)
            out += self._decompressed(rest)
        return out

    def _decompressed(self, chunk: bytes) -> bytes:
        try:
            out: bytes = self._zlib.decompress(chunk, self._limit - self._made + 1)
        except zlib.error:
            raise self.fault("invalid_json", "the body is not in the content-encoding that it claims") from None
        self._made += len(out)
        if self._made > self._limit:
            raise self.fault("body_too_large", f"the decoded body is over the limit of {self._limit} bytes")
        return out

    def end(self) -> None:
        """The body is over; raises Refused where the compressed data are not."""
        if self._zlib is not None and not self._zlib.eof:
            raise self.fault("invalid_json", "the compressed body is cut short")


class UpstreamDecoder(Decoder):
    """The same for an upstream's answer: every fault is the upstream's."""

    __slots__ = ()

    def fault(self, code: str, message: str) -> Refused:
        return UpstreamError("upstream_invalid", f"the upstream's answer: {message}")


def upstream_decoder(headers: Headers, limit: int) -> Decoder:
    """Takes the content-coding off an upstream's answer. Raises UpstreamError, now and later."""
    return UpstreamDecoder(header(headers, b"content-encoding"), limit)


async def disconnected(receive: Receive) -> None:
    """Returns when the client has left. For a request whose body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do this for a client whose body has been read. Cancels it, and raises ClientGone, where the client leaves."""
    working, watching = asyncio.ensure_future(work), asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        else:
            raise ClientGone
    finally:
        watching.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


def advice(code: Code) -> Headers:
    """Whether and when to try again, as SDKs read it."""
    found: Headers = [] if code.retry else [(b"x-should-retry", b"false")]
    return [*found, (b"retry-after", str(code.after).encode())] if code.after is not None else found


_SHORT_BODY = 64 << 10
"""Bytes that a server has taken in of a body before anybody asks for it."""
_FAREWELL = 10.0
"""Seconds that a client may go on sending a body that nobody wants."""


def announced(headers: Headers) -> int | None:
    """How long the body is, as the headers say; None where they do not. It is 0 where there is none."""
    length = header(headers, b"content-length")
    if length is not None and length.isdigit():
        return int(length)
    return 0 if header(headers, b"transfer-encoding") is None else None


async def turn_away(
    receive: Receive, send: Send, request: Headers, status: int, headers: Headers, body: bytes, limit: int
) -> None:
    """Answer a request whose body has not been read; `request` are its headers.

    A connection that is closed on a client in mid-upload is reset, and the answer lost with it. So a long body is taken in and
    thrown away first, up to `limit` bytes and for some seconds, with the answer already sent.
    """
    length = announced(request)
    if length is not None and length <= _SHORT_BODY:
        await respond(send, status, headers, body)
        return
    ours = [*headers, (b"connection", b"close"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": ours})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL):
            while limit >= 0:
                message = await receive()
                limit -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    break
    await send({"type": "http.response.body", "body": b""})


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """A whole answer."""
    await send({
        "type": "http.response.start",
        "status": status,
        "headers": [*headers, (b"content-length", str(len(body)).encode())],
    })
    await send({"type": "http.response.body", "body": body})
