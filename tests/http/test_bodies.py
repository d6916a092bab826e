"""Bodies over a real socket: content-codings, sizes, and that the upstream gets just the bytes that were read."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator

import brotli
import pytest

from moderation.flow.coding import zstd
from tests.fakes import json_script
from tests.http.test_requests import CHUNKED, END, HOST, POST, chunks
from tests.http.wire import BODY, Served, served, unambiguous
from tests.kitchen import answer

ID = "11010519491231002X"
LIMIT = 50_000_000
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress,
    "x-gzip": gzip.compress, "identity": bytes, "": bytes,
}  # fmt: skip


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("http"), json_script(answer()), check=False, max_body=str(LIMIT)) as it:
        yield it


def sent(body: bytes, coding: str, size: int = 0) -> bytes:
    """A request with a coded body, by its length or in chunks of a size."""
    head = POST + HOST + (f"content-encoding: {coding}\r\n".encode() if coding else b"")
    if size:
        return head + CHUNKED + END + chunks(*(body[at : at + size] for at in range(0, len(body), size)))
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("size", [0, 1, 1000])
@pytest.mark.parametrize("coding", PACK)
def test_the_upstream_gets_what_was_read(sidecar: Served, coding: str, size: int) -> None:
    body = b'{"stray": 1e400,  "messages":[{"role":"user","content":"hi \\u0000 \\ud83d"}]}\n'
    seen = sidecar.say(sent(PACK[coding](body), coding, size))
    assert seen.statuses == [200]
    [request] = sidecar.received
    unambiguous(request)
    assert request.body == body  # to the byte, for nothing was changed
    assert request.header("content-encoding") is None
    assert request.header("accept-encoding") == "identity"


@pytest.mark.parametrize("coding", PACK)
def test_what_is_packed_is_judged(sidecar: Served, coding: str) -> None:
    sidecar.say(sent(PACK[coding](BODY.replace(b"hi", ID.encode())), coding))
    [request] = sidecar.received
    assert request.json["messages"][0]["content"] == "[removed: cn_id_card]"


BAD = [
    ("a coding that nobody knows", BODY, "compress", "unsupported_encoding"),
    ("one coding over another", brotli.compress(gzip.compress(BODY)), "gzip, br", "unsupported_encoding"),
    *((f"{name} that is none", BODY, name, "invalid_json") for name in ("gzip", "deflate", "br", "zstd")),
    *((f"{name}, cut short", PACK[name](BODY)[:-1], name, "invalid_json") for name in ("gzip", "deflate", "br", "zstd")),
    *((f"{name}, and more behind it", PACK[name](BODY) + b"{}{}{}", name, "invalid_json") for name in ("gzip", "deflate", "br", "zstd")),
    *((f"{name}, a bomb", PACK[name](bytes(LIMIT + 1)), name, "body_too_large") for name in ("gzip", "deflate", "br", "zstd")),
    ("one byte too many", BODY + b" " * (LIMIT + 1 - len(BODY)), "", "body_too_large"),
]


@pytest.mark.parametrize(("note", "body", "coding", "code"), BAD, ids=[row[0] for row in BAD])
@pytest.mark.parametrize("size", [0, 60_000])
def test_refuses(sidecar: Served, note: str, body: bytes, coding: str, code: str, size: int) -> None:
    seen = sidecar.say(sent(body, coding, size))
    assert (seen.codes, sidecar.received) == ([code], [])


@pytest.mark.parametrize("size", [0, 60_000])
def test_a_body_as_large_as_may_be(sidecar: Served, size: int) -> None:
    body = BODY + b" " * (LIMIT - len(BODY))
    assert sidecar.say(sent(body, "", size)).statuses == [200]
    assert sidecar.received[0].body == body
