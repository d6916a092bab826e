"""HTTP as ASGI hands it over: request bodies with a limit, answers out. Knows nothing of moderation."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from contextlib import suppress
from typing import Any

from moderation.errors import Code, Refused
from moderation.flow.coding import Decoder, coding, decoded

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
    decode = Decoder(coding(headers), limit)
    parts: list[bytes] = []
    size = 0

    def took(bytes_: int) -> None:
        nonlocal size
        size += bytes_
        if size > limit:
            raise Refused("body_too_large", f"the body is over the limit of {limit} bytes")
        read(bytes_)

    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(await decoded(decode, message.get("body", b""), took))
        if not message.get("more_body", False):
            decode.end()
            return parts[0] if len(parts) == 1 else b"".join(parts)


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
    receive: Receive, request: Headers, limit: int, send: Send, status: int, headers: Headers, body: bytes
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
