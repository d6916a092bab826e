"""Bodies with a limit, and content-codings taken off."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Sequence
from typing import Any

import pytest

from moderation.errors import Refused, UpstreamError
from moderation.flow.coding import upstream_decoder
from moderation.flow.http import ClientGone, header, read_body, respond

TEXT = b"some text, again and again and again"


def read(parts: Sequence[bytes | None], headers: list[tuple[bytes, bytes]] | None = None, limit: int = 100) -> bytes:
    """The body that comes in these parts; None is a client that leaves."""
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"} if part is None else {"type": "http.request", "body": part, "more_body": n < len(parts) - 1}
        for n, part in enumerate(parts)
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return asyncio.run(read_body(receive, headers or [], limit))


def coded(coding: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"Content-Encoding", coding)]


GOOD = [
    ("plain", [b"ab", b"", b"c"], [], b"abc"),
    ("empty", [b""], [], b""),
    ("as long as may be", [b"x" * 100], [], b"x" * 100),
    ("gzip, a byte at a time", [bytes([one]) for one in gzip.compress(TEXT)], coded(b"gzip"), TEXT),
    ("x-gzip, in capitals", [gzip.compress(TEXT)], coded(b" X-GZIP "), TEXT),
    ("deflate", [zlib.compress(TEXT)], coded(b"deflate"), TEXT),
    ("identity", [TEXT], coded(b"identity"), TEXT),
]


@pytest.mark.parametrize(("note", "parts", "headers", "expected"), GOOD, ids=[row[0] for row in GOOD])
def test_reads(note: str, parts: list[bytes], headers: list[tuple[bytes, bytes]], expected: bytes) -> None:
    assert read(parts, headers) == expected


BOMB = gzip.compress(b"x" * 100_000)
BAD = [
    ("more than is claimed may be, and said so", [b""], [(b"content-length", b"101")], "body_too_large"),
    ("more, in chunks, and not said", [b"x" * 60, b"x" * 60], [], "body_too_large"),
    ("more once it is unpacked", [BOMB], coded(b"gzip"), "body_too_large"),
    ("more once it is unpacked, a byte at a time", [bytes([one]) for one in BOMB], coded(b"gzip"), "body_too_large"),
    ("something behind the end", [gzip.compress(TEXT) + b"{}"], coded(b"gzip"), "invalid_json"),
    ("cut short", [gzip.compress(TEXT)[:-9]], coded(b"gzip"), "invalid_json"),
    ("not what it claims", [TEXT], coded(b"gzip"), "invalid_json"),
    ("a coding that we do not know", [TEXT], coded(b"compress"), "unsupported_encoding"),
    ("two codings", [TEXT], coded(b"gzip, gzip"), "unsupported_encoding"),
]


@pytest.mark.parametrize(("note", "parts", "headers", "code"), BAD, ids=[row[0] for row in BAD])
def test_refuses(note: str, parts: list[bytes], headers: list[tuple[bytes, bytes]], code: str) -> None:
    with pytest.raises(Refused) as refused:
        read(parts, headers)
    assert refused.value.code == code


def test_a_client_that_leaves() -> None:
    with pytest.raises(ClientGone):
        read([b"ab", None])


def test_an_upstreams_fault_is_the_upstreams() -> None:
    with pytest.raises(UpstreamError) as error:
        upstream_decoder([(b"content-encoding", b"compress")], 100)
    assert error.value.code == "upstream_invalid"
    assert not upstream_decoder([], 100).active


def test_an_answer_says_its_length() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(respond(send, 418, [(b"a", b"b")], b"tea"))
    assert sent == [
        {"type": "http.response.start", "status": 418, "headers": [(b"a", b"b"), (b"content-length", b"3")]},
        {"type": "http.response.body", "body": b"tea"},
    ]
    assert header([(b"A", b"1"), (b"a", b"2")], b"a") == b"1"
