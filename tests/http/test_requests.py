"""Raw requests over a real socket: what the client gets, and that the upstream sees nothing, or one request framed in one way.

Smuggling after PortSwigger's and the http-garden's collections; RFC 9112 gives the rule for each.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes import json_script
from tests.http.wire import BODY, Served, served, unambiguous
from tests.kitchen import answer

POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
OLD = POST.replace(b"1.1", b"1.0")
HOST = b"host: localhost\r\n"
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
END = b"\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST


def chunks(*parts: bytes, trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailers + b"\r\n"


def head(*lines: bytes) -> bytes:
    """A request with a length and more lines of headers, and its body."""
    return POST + HOST + b"".join(line + b"\r\n" for line in lines) + LENGTH + END + BODY


def coded(value: bytes, body: bytes = chunks(BODY), name: bytes = b"transfer-encoding: ") -> bytes:
    return POST + HOST + name + value + b"\r\n\r\n" + body


def long(value: bytes) -> bytes:
    return POST + HOST + b"content-length: " + value + b"\r\n\r\n" + BODY


WHOLE = head()
PASS = [
    ("a length", WHOLE),
    ("chunks", POST + HOST + CHUNKED + END + chunks(BODY[:9], BODY[9:])),
    ("CHUNKED", coded(b"CHUNKED")),
    ("a tab before chunked", coded(b"chunked", name=b"transfer-encoding:\t")),
    ("the extension of a chunk is dropped", coded(b"chunked", b"%x;a=b\r\n%b\r\n0;c\r\n\r\n" % (len(BODY), BODY))),
    ("zeros before a length", long(b"00%d" % len(BODY))),
    ("spaces behind a length", long(b"%d  " % len(BODY))),
    ("trailers are dropped", coded(b"chunked", chunks(BODY, trailers=b"authorization: Bearer t\r\nx-trailer: 1\r\n"))),
    ("a length with an underscore is dropped", head(b"content_length: 3", b"transfer_encoding: chunked")),
    ("an empty line before the request", b"\r\n" + WHOLE),
    ("absolute-form", head().replace(b"/v1", b"http://localhost/v1", 1)),
    ("h2c is not spoken, the request is answered", head(b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMA")),
    ("an upgrade in front of chunks", POST + HOST + b"connection: keep-alive, Upgrade\r\nupgrade: h2c\r\n" + CHUNKED + END + chunks(BODY)),
    ("a WebSocket with a body is a request", head(b"connection: upgrade", b"upgrade: websocket")),
    ("TE and Trailer end here", head(b"te: trailers", b"trailer: x-a")),
    ("a key in UTF-8", head("x-name: 张".encode())),
]


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("http"), json_script(answer()), check=False) as it:
        yield it


@pytest.mark.parametrize(("note", "raw"), PASS, ids=[row[0] for row in PASS])
def test_passes_as_one_request_with_a_length(sidecar: Served, note: str, raw: bytes) -> None:
    seen = sidecar.say(raw)
    assert (seen.statuses, seen.closed) == ([200], False)
    [request] = sidecar.received
    unambiguous(request)
    assert request.body == BODY
    assert request.header("authorization") is None
    assert request.header("x-trailer") is None


@pytest.mark.parametrize(("note", "raw"), PASS, ids=[row[0] for row in PASS])
def test_passes_byte_by_byte(sidecar: Served, note: str, raw: bytes) -> None:
    seen = sidecar.say(*(raw[n : n + 7] for n in range(0, len(raw), 7)))
    assert seen.statuses == [200]
    [request] = sidecar.received
    unambiguous(request)
    assert request.body == BODY


INVALID = "invalid_http"
REFUSE = [
    # Two lengths
    ("a length beside chunks", POST + HOST + LENGTH + CHUNKED + END + chunks(BODY), INVALID),
    ("chunks beside a length", POST + HOST + CHUNKED + LENGTH + END + chunks(BODY), INVALID),
    ("the same length twice", head(LENGTH.strip()), INVALID),
    ("two lengths", head(b"content-length: 3"), INVALID),
    ("a list of lengths", long(b"%d, %d" % (len(BODY), len(BODY))), INVALID),
    # Lengths
    ("a negative length", long(b"-5"), INVALID),
    ("a length with a sign", long(b"+%d" % len(BODY)), INVALID),
    ("a hexadecimal length", long(b"0x2d"), INVALID),
    ("a length in two words", long(b"4 5"), INVALID),
    ("an empty length", long(b""), INVALID),
    ("a length past 64 bits", long(b"99999999999999999999999"), INVALID),
    # Codings of the transfer
    ("chunked twice", POST + HOST + CHUNKED + CHUNKED + END + chunks(BODY), INVALID),
    ("chunked, chunked", coded(b"chunked, chunked"), INVALID),
    ("gzip, chunked: nobody unpacks it here", coded(b"gzip, chunked"), INVALID),
    ("identity, chunked", coded(b"identity, chunked"), INVALID),
    ("chunked, identity", coded(b"chunked, identity"), INVALID),
    ("identity", coded(b"identity", BODY), INVALID),
    ("identity with a length", head(b"transfer-encoding: identity"), INVALID),
    ("xchunked", coded(b"xchunked"), INVALID),
    ("chunked with a parameter", coded(b"chunked;x=1"), INVALID),
    ("chunked in quotes", coded(b'"chunked"'), INVALID),
    ("chunked behind a control character", coded(b"\x0bchunked"), INVALID),
    ("no coding", head(b"transfer-encoding:"), INVALID),
    ("a space before the colon", coded(b"chunked", name=b"transfer-encoding : "), INVALID),
    ("chunks in HTTP/1.0", OLD + HOST + CHUNKED + END + chunks(BODY), INVALID),
    # Chunks
    ("a chunk past 64 bits", coded(b"chunked", b"ffffffffffffffff1\r\n" + BODY), INVALID),
    ("a negative chunk", coded(b"chunked", b"-1\r\n" + BODY), INVALID),
    ("0x before a chunk's size", coded(b"chunked", b"0x2d\r\n" + BODY + b"\r\n0\r\n\r\n"), INVALID),
    ("a space behind a chunk's size", coded(b"chunked", b"2d \r\n" + BODY + b"\r\n0\r\n\r\n"), INVALID),
    ("LF behind a chunk's size", coded(b"chunked", b"2d\n" + BODY + b"\r\n0\r\n\r\n"), INVALID),
    ("LF in a chunk's extension", coded(b"chunked", b"2d;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n"), INVALID),
    ("CR in a chunk's extension", coded(b"chunked", b"2d;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n"), INVALID),
    ("LF behind a chunk", coded(b"chunked", b"2d\r\n" + BODY + b"\n0\r\n\r\n"), INVALID),
    ("something else behind a chunk", coded(b"chunked", b"2d\r\n" + BODY + b"XX0\r\n\r\n"), INVALID),
    ("a chunk without a size", coded(b"chunked", b"\r\n" + BODY), INVALID),
    ("a length among the trailers", coded(b"chunked", chunks(BODY, trailers=b"content-length: 3\r\n")), INVALID),
    # Lines
    ("LF alone", WHOLE.replace(b"\r\n", b"\n"), INVALID),
    ("LF alone behind one header", WHOLE.replace(b"localhost\r\n", b"localhost\n"), INVALID),
    ("CR alone", head(b"x: a\ry: b"), INVALID),
    ("a folded line", head(b"x: a", b" b"), INVALID),
    ("a folded coding", coded(b"\r\n chunked"), INVALID),
    ("NUL in a value", head(b"x: a\0b"), INVALID),
    ("NUL in a name", head(b"x\0: a"), INVALID),
    ("a space before a colon", head(b"x : a"), INVALID),
    ("a space in a name", head(b"content-length x: 3"), INVALID),
    ("no colon", head(b"junk"), INVALID),
    ("no name", head(b": junk"), INVALID),
    ("a space before the first name", WHOLE.replace(b"host:", b" host:"), INVALID),
    # Versions, methods, targets
    ("HTTP/1.2", WHOLE.replace(b"HTTP/1.1", b"HTTP/1.2"), INVALID),
    ("HTTP/2.0 in words", WHOLE.replace(b"HTTP/1.1", b"HTTP/2.0"), INVALID),
    ("HTTP/2's first words", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", INVALID),
    ("TLS", bytes.fromhex("1603010200010001fc0303") + bytes(50), INVALID),
    ("CONNECT", b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost:443\r\n\r\n", INVALID),
    ("a method that nobody knows", GET.replace(b"GET", b"BREW") + END, INVALID),
    ("a method in small letters", WHOLE.replace(b"POST", b"post"), INVALID),
    ("absolute-form for another host", WHOLE.replace(b"/v1", b"http://evil.example/v1", 1), INVALID),
    ("absolute-form without a path", GET.replace(b"/healthz", b"http://localhost") + END, INVALID),
    ("a path without a slash", GET.replace(b"/healthz", b"healthz") + END, INVALID),
    ("a fragment", GET.replace(b"/healthz", b"/healthz#x") + END, INVALID),
    ("bare UTF-8 in a path", GET.replace(b"/healthz", "/ä".encode()) + END, INVALID),
    ("a space in a path", GET.replace(b"/healthz", b"/heal thz") + END, INVALID),
    ("a control character in a path", GET.replace(b"/healthz", b"/heal\x01") + END, INVALID),
    # Host
    ("no host", POST + LENGTH + END + BODY, INVALID),
    ("two hosts", head(b"host: evil.example"), INVALID),
    ("the same host twice", head(b"host: localhost"), INVALID),
    ("an empty host", WHOLE.replace(b"localhost", b""), INVALID),
    ("a host with a space", WHOLE.replace(b"localhost", b"local host"), INVALID),
    ("a host with a path", WHOLE.replace(b"localhost", b"localhost/x"), INVALID),
    ("a host with a user", WHOLE.replace(b"localhost", b"evil@localhost"), INVALID),
    ("a port that is no number", WHOLE.replace(b"localhost", b"localhost:x"), INVALID),
    # What stands twice
    ("two keys", head(b"authorization: Bearer a", b"authorization: Bearer b"), INVALID),
    ("two types", head(b"content-type: application/json", b"content-type: text/plain"), INVALID),
    ("another expectation", head(b"expect: tea"), "expectation_failed"),
    # Sizes
    ("a long path", GET.replace(b"/healthz", b"/" + b"a" * 70_000) + END, "headers_too_large"),
    ("a long header", head(b"x: " + b"a" * 70_000), "headers_too_large"),
    ("many short headers", head(*[b"x: a"] * 201), "headers_too_large"),
    ("a long trailer", coded(b"chunked", chunks(BODY[:-1], trailers=b"x: " + b"a" * 400_000)), "headers_too_large"),
    ("a long extension of a chunk", coded(b"chunked", b"2d;" + b"a" * 400_000), "headers_too_large"),
]


@pytest.mark.parametrize(("note", "raw", "code"), REFUSE, ids=[row[0] for row in REFUSE])
def test_refuses_in_our_shape_and_ends_the_connection(sidecar: Served, note: str, raw: bytes, code: str) -> None:
    seen = sidecar.say(raw + WHOLE)  # what stands behind it is not taken for a request
    assert (seen.codes, seen.closed, sidecar.received) == ([code], True, [])
    assert len(seen.statuses) == 1
    assert b'"type":"invalid_request_error"' in seen.raw
    assert b"x-request-id: " in seen.raw


@pytest.mark.parametrize(("raw", "code"), [row[1:] for row in REFUSE if len(row[1]) < 1000])
def test_refuses_byte_by_byte(sidecar: Served, raw: bytes, code: str) -> None:
    seen = sidecar.say(*(raw[n : n + 5] for n in range(0, len(raw), 5)))
    assert (seen.codes, seen.closed, sidecar.received) == ([code], True, [])


OTHER = [
    ("OPTIONS *", b"OPTIONS * HTTP/1.1\r\n" + HOST + END, ["not_found"]),
    ("percent-escapes of nothing", GET.replace(b"/healthz", b"/heal%ffz%zz") + END, ["not_found"]),
    ("a host that is not ours", WHOLE.replace(b"localhost", b"evil.example"), ["host_not_allowed"]),
    ("a host that begins like ours", WHOLE.replace(b"localhost", b"localhost.evil.example"), ["host_not_allowed"]),
    ("a host that ends like ours", WHOLE.replace(b"localhost", b"evil-localhost"), ["host_not_allowed"]),
    ("a GET", GET.replace(b"/healthz", b"/v1/chat/completions") + END, ["method_not_allowed"]),
    ("content-codings on two lines are one list", head(b"content-encoding: identity", b"content-encoding: gzip"), ["invalid_json"]),
]


@pytest.mark.parametrize(("note", "raw", "codes"), OTHER, ids=[row[0] for row in OTHER])
def test_refuses_and_goes_on(sidecar: Served, note: str, raw: bytes, codes: list[str]) -> None:
    seen = sidecar.say(raw)
    assert (seen.codes, seen.closed, sidecar.received) == (codes, False, [])


HOSTS = ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:8080", "localhost:"]


@pytest.mark.parametrize("host", HOSTS)
def test_our_own_names(sidecar: Served, host: str) -> None:
    assert sidecar.say(WHOLE.replace(b"localhost", host.encode())).statuses == [200]
