"""Content-codings: every one that is read, whole and cut anywhere, and what no two decoders read alike."""

from __future__ import annotations

import asyncio
import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from itertools import pairwise

import brotli
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moderation.errors import Refused, UpstreamError
from moderation.flow.coding import MOST_MEMBERS, PIECE, Decoder, Unpacked, coding, decoded, upstream_decoder, zstd

TEXT = "some text, again and again, 再来一次".encode()


def bare(data: bytes) -> bytes:
    """Deflate without zlib's frame, which some clients send by mistake."""
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


def wide(data: bytes) -> bytes:
    """A frame of zstd that asks for a window of 128 MB."""
    made = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: 27})
    return made.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK) + made.flush()


SKIPPED = struct.pack("<II", 0x184D2A50, 4) + b"abcd"
EMPTY = gzip.compress(b"")
PACK: dict[bytes, Callable[[bytes], bytes]] = {
    b"gzip": gzip.compress, b"deflate": zlib.compress, b"br": brotli.compress, b"zstd": zstd.compress,
}  # fmt: skip

GOOD = [
    ("gzip", b"gzip", gzip.compress(TEXT)),
    ("gzip of two members", b"gzip", gzip.compress(TEXT[:9]) + gzip.compress(TEXT[9:])),
    ("gzip with an empty member", b"gzip", EMPTY + gzip.compress(TEXT) + EMPTY),
    ("x-gzip, in capitals", b" X-GZIP ", gzip.compress(TEXT)),
    ("deflate", b"deflate", zlib.compress(TEXT)),
    ("br", b"br", brotli.compress(TEXT)),
    ("zstd", b"zstd", zstd.compress(TEXT)),
    ("zstd of two frames", b"zstd", zstd.compress(TEXT[:9]) + zstd.compress(TEXT[9:])),
    ("zstd with a frame to be skipped", b"zstd", SKIPPED + zstd.compress(TEXT) + SKIPPED),
    ("identity beside a coding", b"identity, br,", brotli.compress(TEXT)),
    ("identity", b"identity", TEXT),
    ("nothing", b"", TEXT),
]


def unpack(word: bytes, packed: bytes, size: int, limit: int = 10_000) -> bytes:
    """What comes out of a body that comes in pieces of this size."""
    decode = Decoder(word, limit)
    out = b"".join(decode(packed[at : at + size]) for at in range(0, len(packed), size))
    decode.end()
    return out


@pytest.mark.parametrize(("note", "word", "packed"), GOOD, ids=[row[0] for row in GOOD])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_reads(note: str, word: bytes, packed: bytes, size: int) -> None:
    assert unpack(word, packed, size, len(TEXT)) == TEXT


BAD = [
    ("gzip with something behind it", b"gzip", gzip.compress(TEXT) + b"{}"),
    ("gzip with zeros behind it", b"gzip", gzip.compress(TEXT) + bytes(8)),
    ("gzip with a wrong sum", b"gzip", gzip.compress(TEXT)[:-8] + bytes(8)),
    ("gzip cut short", b"gzip", gzip.compress(TEXT)[:-9]),
    ("gzip cut in its second member", b"gzip", gzip.compress(TEXT) + gzip.compress(TEXT)[:-1]),
    ("gzip of very many members", b"gzip", EMPTY * (MOST_MEMBERS + 1)),
    ("deflate without its frame", b"deflate", bare(TEXT)),
    ("deflate with something behind it", b"deflate", zlib.compress(TEXT) + b"{}"),
    ("deflate twice", b"deflate", zlib.compress(TEXT) + zlib.compress(TEXT)),
    ("br with something behind it", b"br", brotli.compress(TEXT) + b"{}"),
    ("br cut short", b"br", brotli.compress(TEXT)[:-1]),
    ("br that is none", b"br", TEXT),
    ("zstd with something behind it", b"zstd", zstd.compress(TEXT) + b"{}{}{}"),
    ("zstd cut short", b"zstd", zstd.compress(TEXT)[:-1]),
    ("zstd cut in its second frame", b"zstd", zstd.compress(TEXT) + zstd.compress(TEXT)[:5]),
    ("zstd of very many frames", b"zstd", SKIPPED * (MOST_MEMBERS + 1)),
    ("zstd with a window of 128 MB", b"zstd", wide(TEXT)),
    ("nothing where a coding was claimed", b"gzip", b""),
]


@pytest.mark.parametrize(("note", "word", "packed"), BAD, ids=[row[0] for row in BAD])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_refuses(note: str, word: bytes, packed: bytes, size: int) -> None:
    with pytest.raises(Refused) as refused:
        unpack(word, packed, size)
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("word", [b"compress", b"gzip, br", b"gzip,gzip", b"br;q=1", b"dcb", b"*", "gzıp".encode()])
def test_other_codings(word: bytes) -> None:
    with pytest.raises(Refused) as refused:
        Decoder(word, 1)
    assert refused.value.code == "unsupported_encoding"


def test_several_lines_are_one_list() -> None:
    assert coding([(b"Content-Encoding", b"gzip"), (b"x", b"y"), (b"content-encoding", b"br")]) == b"gzip,br"
    assert coding([]) == b""


@pytest.mark.parametrize("word", PACK)
def test_a_bomb_is_not_unpacked(word: bytes) -> None:
    bomb = PACK[word](bytes(100_000_000))
    tracemalloc.start()
    try:
        with pytest.raises(Refused) as refused:
            Decoder(word, 1000)(bomb)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert refused.value.code == "body_too_large"


@pytest.mark.parametrize("word", PACK)
def test_the_limit_is_the_limit(word: bytes) -> None:
    assert Decoder(word, len(TEXT))(PACK[word](TEXT)) == TEXT
    with pytest.raises(Refused):
        Decoder(word, len(TEXT) - 1)(PACK[word](TEXT))


@given(st.sampled_from(sorted(PACK)), st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=5))
def test_where_it_is_cut_does_not_matter(word: bytes, data: bytes, cuts: list[int]) -> None:
    packed = PACK[word](data)
    places = sorted({0, len(packed), *(cut for cut in cuts if cut < len(packed))})
    decode = Decoder(word, 1000)
    assert b"".join(decode(packed[a:b]) for a, b in pairwise(places)) == data
    decode.end()


@example(b"zstd", b"", 5, 1, 0)
@given(st.sampled_from(sorted(PACK)), st.binary(max_size=60), st.integers(0, 400), st.integers(0, 255), st.integers(0, 400))
def test_what_is_broken_is_the_same_or_refused_wherever_it_is_cut(word: bytes, data: bytes, at: int, byte: int, cut: int) -> None:
    packed = bytearray(PACK[word](data))
    packed[at % len(packed)] = byte

    def read(size: int) -> bytes | None:
        try:
            return unpack(word, bytes(packed), size)
        except Refused:
            return None

    whole, cut_up = read(len(packed)), read(1 + cut % len(packed))
    assert whole == cut_up or None in (whole, cut_up)  # libzstd holds a whole frame to the size that it tells, and no other


class Answer:
    """An upstream's answer in these pieces."""

    status = 200

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = [*pieces, b""]
        self.closed = False

    async def read(self) -> bytes:
        return self._pieces.pop(0)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("word", PACK)
def test_an_answer_is_unpacked_a_piece_at_a_time(word: bytes) -> None:
    packed = PACK[word](bytes(10 * PIECE))

    async def go() -> None:
        answer = Answer(packed[:40], packed[40:])
        unpacked = Unpacked(answer, upstream_decoder([(b"content-encoding", word)], 1 << 40))
        pieces = []
        while piece := await unpacked.read():
            pieces.append(piece)
        assert b"".join(pieces) == bytes(10 * PIECE)
        assert max(map(len, pieces)) <= 2 * PIECE
        unpacked.close()
        assert answer.closed

    asyncio.run(go())


@pytest.mark.parametrize("word", PACK)
def test_others_have_their_turn_between_pieces(word: bytes) -> None:
    """A hundred bytes can be fifty megabytes."""
    turns = 0
    told: list[int] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def go() -> None:
        beside = asyncio.create_task(others())
        data = await decoded(Decoder(word, 1 << 40), PACK[word](bytes(10 * PIECE)), told.append)
        assert data == bytes(10 * PIECE)
        beside.cancel()

    asyncio.run(go())
    assert sum(told) == 10 * PIECE
    assert turns >= len(told) - 1 >= 4


def test_an_upstreams_fault_is_the_upstreams() -> None:
    with pytest.raises(UpstreamError):
        upstream_decoder([(b"content-encoding", b"compress")], 1)

    async def go() -> None:
        unpacked = Unpacked(Answer(gzip.compress(TEXT)[:-1]), upstream_decoder([(b"content-encoding", b"gzip")], 1000))
        assert await unpacked.read() == TEXT
        with pytest.raises(UpstreamError) as error:
            await unpacked.read()
        assert error.value.code == "upstream_invalid"

    asyncio.run(go())
