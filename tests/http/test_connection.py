"""One connection over time: requests behind each other, slow ones, endless ones, clients that leave."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
import threading
from collections.abc import Iterator

import pytest

from moderation.connection import MOST_PIPELINED
from tests.fakes import Hold, Received, Script, json_script, sse, stream_script
from tests.http.test_requests import CHUNKED, END, GET, HOST, LENGTH, OLD, POST, WHOLE, chunks, head
from tests.http.wire import BODY, Served, served
from tests.kitchen import answer, chunk

BAD = POST + HOST + b"content-length: x\r\n\r\n"
REFUSED = POST + HOST + b"content-length: 2\r\n\r\n[]"
CLOSE = head(b"connection: close")


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("http"), json_script(answer()), check=False, head_timeout="300ms", body_timeout="600ms") as it:
        yield it


BEHIND = [
    ("two", WHOLE * 2, [200, 200], False, 2),
    ("behind one that was refused", REFUSED + WHOLE, [400, 200], False, 1),
    ("behind one that is not HTTP: nothing", BAD + WHOLE, [400], True, 0),
    ("not HTTP behind a good one: that is answered, then the end", WHOLE + BAD + WHOLE, [200], True, 1),
    ("a broken chunk behind a good one", WHOLE + POST + HOST + CHUNKED + END + b"x", [200], True, 1),
    ("a broken chunk behind two", WHOLE * 2 + POST + HOST + CHUNKED + END + b"x", [200, 200], True, 2),
    ("behind the last", CLOSE + WHOLE, [200], True, 1),
    ("behind an upgrade", head(b"connection: upgrade", b"upgrade: h2c") + WHOLE, [200, 200], False, 2),
    ("behind a WebSocket's hello", GET + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n" + GET + END, [200, 200], False, 0),
    ("HTTP/1.0 ends by itself", OLD + HOST + LENGTH + END + BODY, [200], True, 1),
    ("HTTP/1.0 that asks for more ends, too", OLD + HOST + b"connection: keep-alive\r\n" + LENGTH + END + BODY, [200], True, 1),
    ("HTTP/1.0 without a host", OLD + LENGTH + END + BODY, [200], True, 1),
    ("too many", GET + END + (GET + END) * (MOST_PIPELINED + 5), [200] * (MOST_PIPELINED + 1), True, 0),
]


@pytest.mark.parametrize(("note", "raw", "statuses", "closed", "upstream"), BEHIND, ids=[row[0] for row in BEHIND])
def test_requests_behind_each_other(
    sidecar: Served, note: str, raw: bytes, statuses: list[int], closed: bool, upstream: int
) -> None:
    seen = sidecar.say(raw, answers=len(statuses) + closed)
    assert (seen.statuses, seen.closed, len(sidecar.received)) == (statuses, closed, upstream)
    assert [request.body for request in sidecar.received] == [BODY] * upstream


def test_answers_come_in_the_order_of_the_requests(sidecar: Served) -> None:
    seen = sidecar.say(GET.replace(b"/healthz", b"/none") + END + WHOLE + GET + END, answers=3)
    assert seen.statuses == [404, 200, 200]


SLOW = [
    ("no byte at all", [], []),
    ("an empty line", [b"\r\n"], []),
    ("half a request line", [b"POST /v1"], ["request_timeout"]),
    ("HTTP/0.9", [b"GET /healthz\r\n"], ["request_timeout"]),
    ("half the headers", [POST + HOST], ["request_timeout"]),
    ("half the headers behind a good request", [GET + END + POST], ["request_timeout"]),
    ("half a body", [POST + HOST + LENGTH + END + BODY[:9]], ["request_timeout"]),
    ("no body after 100 Continue", [POST + HOST + LENGTH + b"expect: 100-continue\r\n\r\n"], ["request_timeout"]),
    ("half a chunk", [POST + HOST + CHUNKED + END + b"2d\r\n{"], ["request_timeout"]),
    ("no last chunk", [POST + HOST + CHUNKED + END + chunks(BODY)[:-5]], ["request_timeout"]),
    ("a body that was refused before it came", [POST + HOST + b"content-length: 9000000000\r\n\r\n{"], ["body_too_large"]),
    ("a body longer than it says it is", [POST + HOST + b"content-length: 9223372036854775808\r\n\r\n{"], ["body_too_large"]),
]  # fmt: skip


@pytest.mark.parametrize(("note", "pieces", "codes"), SLOW, ids=[row[0] for row in SLOW])
def test_what_never_comes_ends_the_connection(sidecar: Served, note: str, pieces: list[bytes], codes: list[str]) -> None:
    seen = sidecar.say(*pieces, answers=9)
    assert (seen.codes, seen.closed, sidecar.received) == (codes, True, [])


def test_a_drip_of_bytes_does_not_gain_time(sidecar: Served) -> None:
    with sidecar.connect() as link:
        link.settimeout(0.02)
        raw, sent = b"", 0
        for sent in range(500):
            try:
                link.send(b"GET /healthz HTTP/1.1\r\nx: "[sent : sent + 1] or b"a")
                raw += (piece := link.recv(1 << 16))
                if not piece:
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert b'"request_timeout"' in raw
        assert sent < 400


def test_a_connection_that_was_used_may_be_idle(sidecar: Served) -> None:
    with sidecar.connect() as link:
        for _ in range(2):
            link.sendall(GET + END)
            raw = b""
            while not raw.endswith(b'"ok"}'):  # the head and the body may come apart
                raw += (piece := link.recv(1 << 16))
                assert piece, "it was closed"
            assert raw.startswith(b"HTTP/1.1 200 ")
            sidecar.run(asyncio.sleep(0.5))  # longer than head_timeout


def test_a_client_that_expects_100_gets_it_before_it_sends(sidecar: Served) -> None:
    sidecar.received.clear()
    with sidecar.connect() as link:
        link.sendall(POST + HOST + LENGTH + b"expect: 100-continue\r\n\r\n")
        assert link.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(BODY)
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    [request] = sidecar.received
    assert request.header("expect") is None


def test_a_client_that_expects_100_is_refused_before_it_sends(sidecar: Served) -> None:
    with sidecar.connect() as link:
        link.sendall(POST + HOST + b"content-length: 9000000000\r\nexpect: 100-continue\r\n\r\n")
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


ENDLESS = [
    ("a request line", b"GET /", b"a"),
    ("a header", POST + b"x: ", b"a"),
    ("headers", POST, b"x: a\r\n"),
    ("trailers", POST + HOST + CHUNKED + END + b"0\r\n", b"x: a\r\n"),
    ("a chunk's extension", POST + HOST + CHUNKED + END + b"1;", b"a"),
    ("a chunk's size", POST + HOST + CHUNKED + END, b"0"),
]


@pytest.mark.parametrize(("note", "start", "more"), ENDLESS, ids=[row[0] for row in ENDLESS])
def test_what_never_ends_takes_no_memory(sidecar: Served, note: str, start: bytes, more: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = sidecar.say(start, *[more * (50_000 // len(more))] * 400, answers=9)
    assert seen.codes in (["headers_too_large"], ["invalid_http"])
    assert seen.closed
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16_000  # KiB


def test_broken_bytes_behind_a_streamed_request_are_not_answered_in_its_stream(tmp_path_factory: pytest.TempPathFactory) -> None:
    go = asyncio.Event()
    first, *rest = sse(chunk({"content": "One. "}), chunk({"content": "Two. "}), chunk({}, "stop"))
    body = BODY[:-1] + b',"stream":true}'
    with served(tmp_path_factory.mktemp("http"), stream_script(first, Hold(go), *rest)) as it, it.connect() as link:
        link.sendall(POST + HOST + b"content-length: %d\r\n\r\n" % len(body) + body)
        raw = link.recv(1 << 16)
        while b"One" not in raw:
            raw += link.recv(1 << 16)
        link.sendall(BAD)
        it.call(go.set)
        while piece := link.recv(1 << 16):
            raw += piece
    assert raw.count(b"HTTP/1.1") == 1
    assert raw.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


@pytest.mark.parametrize("how", [socket.SHUT_WR, None])
def test_a_client_that_ends_its_side_has_left(tmp_path_factory: pytest.TempPathFactory, how: int | None) -> None:
    """TCP cannot tell one that waits from one that is gone, and the promise to stop the upstream at once weighs more."""
    came, never = threading.Event(), asyncio.Event()

    def script(request: Received) -> Script:
        came.set()
        return Script([Hold(never)])

    with served(tmp_path_factory.mktemp("http"), script) as it:
        link = it.connect()
        link.sendall(WHOLE)
        assert came.wait(10)
        if how is None:
            link.close()
        else:
            link.shutdown(how)
        it.run(asyncio.wait_for(it.received[0].gone.wait(), 5))
        link.close()
    [request] = {row.id.split(".")[0] for row in it.kitchen.rows()}
    assert it.kitchen.leaves(request)[-1]["outcome"] == "client_gone"


def test_a_page_that_calls_us_by_its_own_name(tmp_path_factory: pytest.TempPathFactory) -> None:
    """DNS rebinding: its name leads to 127.0.0.1, but it cannot change the header."""
    raw = WHOLE.replace(b"localhost", b"evil.example")
    for allowed, status in (("evil.example,localhost", 200), ("*", 200), ("moderation.svc", 421)):
        with served(tmp_path_factory.mktemp("http"), json_script(answer()), allowed_hosts=allowed) as it:
            seen = it.say(raw)
            assert seen.statuses == [status]
            assert bool(it.received) == (status == 200)
            assert re.search(rb"x-should-retry: false", seen.raw) or status == 200
            assert it.say(GET.replace(b"localhost", b"10.0.0.1") + END).statuses == [200]  # a probe by the pod's address


def test_a_page_may_send_and_never_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A browser sends a plain POST to 127.0.0.1 for any page; what it may read, the answer's headers say. Keys end both."""
    foreign = [b"origin: https://evil.example", b"content-type: text/plain"]
    asks = GET.replace(b"GET /healthz", b"OPTIONS /v1/chat/completions") + b"origin: https://evil.example\r\n" \
        b"access-control-request-method: POST\r\naccess-control-request-private-network: true\r\n" + END
    config = tmp_path_factory.mktemp("keys") / "moderation.yaml"
    config.write_text(f"clients:\n  - {{name: app, key_sha256: {'a' * 64}}}\n")
    for more, status in (({}, 200), ({"config": str(config)}, 401)):
        with served(tmp_path_factory.mktemp("http"), json_script(answer()), **more) as it:
            sent = it.say(head(*foreign))
            assert (sent.statuses, len(it.received)) == ([status], int(status == 200))
            asked = it.say(asks)
            assert asked.statuses[0] >= 400
            assert b"access-control-" not in (sent.raw + asked.raw).lower()
