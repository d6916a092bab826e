"""flow/coding.py: content-codings taken off. The first byte says which."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence

import brotli

from fuzz.target import Target, cut, dice, law
from fuzz.targets.chats import REQUESTS
from moderation.errors import Refused
from moderation.flow.coding import Decoder, zstd

CODINGS = (b"gzip", b"deflate", b"br", b"zstd", b"identity", b"x-gzip , identity")
LIMIT = 200_000


def _decoded(coding: bytes, chunks: Sequence[bytes]) -> tuple[bytes, str]:
    """What came out, and the code of the refusal."""
    made = bytearray()
    try:
        decoder = Decoder(coding, LIMIT)
        for chunk in chunks:
            for piece in decoder.pieces(chunk):
                made += piece
                law(not decoder.active or len(made) <= LIMIT, "more came out than the limit allows")
        decoder.end()
    except Refused as refused:
        return bytes(made), refused.code
    return bytes(made), ""


def _run(data: bytes) -> str:
    coding, body = CODINGS[(data[0] if data else 0) % len(CODINGS)], data[1:]
    random = dice(data)
    made, code = _decoded(coding, [body])
    law(code in ("", "body_too_large", "invalid_json"), "another code than a body's")
    for chunks in (cut(body, random), cut(body, random, 40), [bytes([byte]) for byte in body[:400]] + [body[400:]]):
        other, fault = _decoded(coding, chunks)
        # What is refused may be so at an earlier or a later fault of several: nothing of it goes on.
        law(bool(code) == bool(fault), "another way of cutting is refused where this one is not")
        law(bool(code) or other == made, "another way of cutting gives other bytes")
    return f"{coding!r} {code} {len(made).bit_length()}"


def _seeds() -> Sequence[bytes]:
    text, much = REQUESTS[1], bytes(300_000)
    pack = [gzip.compress, zlib.compress, brotli.compress, zstd.compress]
    plain = [bytes([number]) + compress(one) for number, compress in enumerate(pack) for one in (text, b"", much, text[:9] * 50)]
    return [*plain, b"\0" + gzip.compress(text) + gzip.compress(b""), b"\3" + zstd.compress(text) * 2, b"\4" + text]


TARGET = Target(
    "coding", "No more than the limit comes out, and any way of cutting the bytes gives the same or is refused as well.",
    _seeds, lambda: _run, (gzip.compress(b""), zstd.compress(b""), b"\x50\x2a\x4d\x18\x04\0\0\0abcd", b"\x1f\x8b\x08",
                           b"\x28\xb5\x2f\xfd", b"\x78\x9c"),
)
