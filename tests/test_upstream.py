"""The upstream's bytes arrive as they were sent, its failures by name, and a closed call is really over."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from time import monotonic

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from moderation.errors import CODES, UpstreamError
from moderation.upstream import Headers, Reach, Timeouts, Upstream, forwardable
from tests.fakes import FakeUpstream, Hold, Pause, Received, Script, free_port, json_script, sse, stream_script

FRAMES = sse({"choices": [{"delta": {"content": "你好\u2028"}}]}, {"choices": [{"delta": {"content": "!"}}]})


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for what happens soon by itself."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)


def with_upstream(work: Callable[[FakeUpstream, Upstream], Awaitable[None]], *scripts: Script | Callable[[Received], Script],
                  timeouts: Timeouts | None = None, buffer: int = 256 << 10) -> None:
    async def main() -> None:
        async with FakeUpstream(*scripts) as fake:
            upstream = Upstream(fake.base, timeouts, buffer=buffer)
            try:
                await work(fake, upstream)
            finally:
                await upstream.close()

    asyncio.run(asyncio.wait_for(main(), 20))


# --- bytes

def test_a_request_goes_out_as_it_is() -> None:
    headers: Headers = [(b"User-Agent", b"openai/1"), (b"X-A", b"1"), (b"x-a", b"2"), (b"Authorization", b"Bearer k"),
                        (b"X-Utf8", "é".encode()), (b"X-Latin", b"\xe9"), (b"Cookie", b"a=b")]

    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/chat/completions?a=%2F&b=%20+&c=%C3%A9", headers, b'{"x": 1.0}')
        assert await answer.whole(1000) == b"{}"
        got = fake.received[0]
        assert got.request_line == "POST /compatible-mode/v1/chat/completions?a=%2F&b=%20+&c=%C3%A9 HTTP/1.1"
        assert got.body == b'{"x": 1.0}'
        sent = [line for line in got.head.split(b"\r\n")[1:] if line]
        assert sent == [b"Host: 127.0.0.1:%d" % fake.port, b"User-Agent: openai/1", b"X-A: 1", b"X-A: 2",
                        b"Authorization: Bearer k", b"X-Utf8: \xc3\xa9", b"X-Latin: \xc3\xa9", b"Cookie: a=b",
                        b"Content-Length: 10"]

    with_upstream(work)


def test_nothing_is_added_to_a_bare_request() -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        await (await upstream.send("GET", "/models", [])).whole(1000)
        assert [name for name, _ in fake.received[0].headers] == ["Host"]

    with_upstream(work)


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_stream_arrives_as_it_was_sent(framing: str) -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/chat/completions", [], b"{}")
        assert answer.status == 200
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"".join(FRAMES)
        assert await answer.read() == b""

    with_upstream(work, stream_script(*FRAMES, framing=framing))


def test_a_chunk_is_there_before_the_next_is_sent() -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/chat/completions", [], b"{}")
        assert await answer.read() == FRAMES[0]
        gate.set()
        assert b"".join([chunk async for chunk in answer.chunks()]) == b"".join(FRAMES[1:])

    gate = asyncio.Event()
    with_upstream(work, stream_script(FRAMES[0], Hold(gate), *FRAMES[1:]))


def test_compressed_bodies_redirects_errors_and_cookies_stay_what_they_are() -> None:
    packed = gzip.compress(b'{"a": 1}')
    headers = (("Content-Type", "text/plain"), ("Content-Encoding", "gzip"), ("Set-Cookie", "who=you"), ("Set-Cookie", "b=2"),
               ("Connection", "x-private"), ("X-Private", "1"))
    scripts = [Script([packed], headers=headers, framing="length"),
               Script([], 302, (("Location", "/elsewhere"),), framing="length"),
               json_script({"error": {"code": "limit_requests"}}, 429)]

    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        first = await upstream.send("POST", "/a", [], b"1")
        assert await first.whole(1000) == packed
        assert first.headers == [(name.encode(), value.encode()) for name, value in headers[:4]]
        assert first.length == len(packed)
        second = await upstream.send("POST", "/b", [], b"2")
        assert (second.status, second.headers) == (302, [(b"Location", b"/elsewhere")])
        third = await upstream.send("POST", "/c", [], b"3")
        assert third.status == 429
        assert len(fake.received) == 3
        assert [request.header("cookie") for request in fake.received] == [None] * 3, "a user's cookie with another's request"

    with_upstream(work, *scripts)


def test_connections_are_kept_and_large_bodies_go_out_whole(recwarn: pytest.WarningsRecorder) -> None:
    large = b"x" * (3 << 20)

    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        for body in [large, b"", b"small"]:
            await (await upstream.send("POST", "/a", [], body)).whole(1000)
        assert [request.body for request in fake.received] == [large, b"", b"small"]
        assert fake.connections == 1

    with_upstream(work)
    assert not [warning for warning in recwarn if issubclass(warning.category, ResourceWarning)]


FORWARDED = [
    ([(b"Connection", b"close"), (b"A", b"1")], [(b"A", b"1")], "Connection itself"),
    ([(b"X-One", b"1"), (b"connection", b"x-one , Keep-Alive"), (b"X-Two", b"2")], [(b"X-Two", b"2")], "what Connection names"),
    ([(b"Connection", b"a"), (b"Connection", b"b"), (b"A", b"1"), (b"B", b"2"), (b"C", b"")], [(b"C", b"")], "Connection twice"),
    ([(b"HOST", b"h"), (b"Content-Length", b"9"), (b"Transfer-Encoding", b"chunked"), (b"TE", b"x"), (b"Trailer", b"x"),
      (b"Upgrade", b"h2c"), (b"Keep-Alive", b"1"), (b"Proxy-Authorization", b"x"), (b"Expect", b"100-continue")], [], "all"),
    ([(b"A", b"1"), (b"B", b"2"), (b"a", b"3")], [(b"A", b"1"), (b"B", b"2"), (b"a", b"3")], "order and repeats stay"),
]


@pytest.mark.parametrize(("headers", "kept", "note"), FORWARDED, ids=[row[2] for row in FORWARDED])
def test_which_headers_go_on(headers: Headers, kept: Headers, note: str) -> None:
    assert forwardable(headers) == kept, note
    assert forwardable(kept) == kept, note


# --- failures

async def failure(upstream: Upstream, *, answers: bool = True) -> tuple[str, bytes]:
    """The code of the failure, and the body that came before it."""
    got = b""
    try:
        answer = await upstream.send("POST", "/x", [], b"{}")
        assert answers, "it should not have answered"
        async for chunk in answer.chunks():
            got += chunk
    except UpstreamError as error:
        code, message = error.code, error.message
    else:
        raise AssertionError("it did not fail")
    assert "127.0.0.1" not in message, "the upstream's address is nobody's business"
    assert code in CODES
    return code, got


BREAKS = [
    (stream_script(FRAMES[0], cut=True), "upstream_interrupted", FRAMES[0], "a chunked body without its end"),
    (stream_script(FRAMES[0], cut=True, reset=True), "upstream_interrupted", None, "a reset"),
    (Script([b"abc"], framing="length", length=10, cut=True), "upstream_interrupted", b"abc", "a body shorter than it claims"),
    (Script([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", Pause(0.1), b"ZZ\r\n"], framing="raw"),
     "upstream_interrupted", b"abc", "a broken chunk"),
    (Script([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n"], framing="raw"), "upstream_invalid", b"",
     "a broken chunk at once"),
    (Script([], framing="raw"), "upstream_interrupted", b"", "no answer at all"),
    (Script([b"SSH-2.0-OpenSSH_9.6\r\n\r\n"], framing="raw"), "upstream_invalid", b"", "not HTTP"),
]


@pytest.mark.parametrize(("script", "code", "before", "note"), BREAKS, ids=[row[3] for row in BREAKS])
def test_breaks_are_told_and_what_came_before_is_not_lost(script: Script, code: str, before: bytes | None, note: str) -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        told, got = await failure(upstream)
        assert told == code, note
        assert before is None or got == before, note

    with_upstream(work, script)


def test_what_came_before_a_break_is_there_for_a_late_reader() -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/x", [], b"{}")
        await asyncio.sleep(0.1)
        got = [await answer.read()]
        with pytest.raises(UpstreamError):
            await answer.read()
        assert got == [b"".join(FRAMES)]

    with_upstream(work, stream_script(*FRAMES, cut=True))


def test_nobody_listens() -> None:
    async def main() -> None:
        upstream = Upstream(f"http://127.0.0.1:{free_port()}/v1")
        assert (await failure(upstream, answers=False))[0] == "upstream_unreachable"
        await upstream.close()

    asyncio.run(main())


def certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
            .sign(key, hashes.SHA256()))
    path = folder / "cert.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def test_a_certificate_is_checked_and_can_be_trusted(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def main() -> None:
        async with FakeUpstream(stream_script(FRAMES[0], Pause(10)), tls=context) as fake:
            doubting = Upstream(fake.base)
            assert (await failure(doubting, answers=False))[0] == "upstream_unreachable"
            await doubting.close()
            assert not fake.received
            trusting = Upstream(fake.base, reach=Reach(str(pem)))
            answer = await trusting.send("POST", "/x", [], b"{}")
            assert await answer.read() == FRAMES[0]
            closed = monotonic()
            answer.close()
            await until(fake.received[0].gone.is_set)
            assert (fake.received[0].gone_at or 0) - closed < 0.1
            await trusting.close()

    asyncio.run(asyncio.wait_for(main(), 20))


QUICK = Timeouts(first_byte=0.2, idle=0.2, total=5)
SILENT = [
    (Script([Pause(3), b"HTTP/1.1 200 OK\r\n\r\n"], framing="raw"), QUICK, b"", "before the answer"),
    (stream_script(FRAMES[0], Pause(3), *FRAMES[1:]), QUICK, FRAMES[0], "in the middle of it"),
    (Script([b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", Pause(3), b"abc"], framing="raw"),
     Timeouts(first_byte=5, idle=0.2), b"", "between head and body: the idle time counts, not the first byte's"),
    (stream_script(*[step for _ in range(40) for step in (b"a", Pause(0.05))]), Timeouts(first_byte=1, idle=1, total=0.4), None,
     "never silent, never done"),
]


@pytest.mark.parametrize(("script", "timeouts", "before", "note"), SILENT, ids=[row[3] for row in SILENT])
def test_silence_is_told(script: Script, timeouts: Timeouts, before: bytes | None, note: str) -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        start = monotonic()
        code, got = await failure(upstream)
        assert code == "upstream_timeout"
        assert before is None or got == before
        assert monotonic() - start < 2
        await until(fake.received[0].gone.is_set)

    with_upstream(work, script, timeouts=timeouts)


def test_a_slow_reader_is_no_silence_of_the_upstream() -> None:
    block = b"x" * 65_536

    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/x", [], b"{}")
        await asyncio.sleep(0.5)
        assert await answer.whole(1 << 30) == block * 200

    with_upstream(work, stream_script(*[block] * 200), timeouts=QUICK, buffer=65_536)


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_a_slow_reader_gets_all_of_an_answer_whose_connection_is_already_closed(framing: str) -> None:
    block = b"x" * 65_536

    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/x", [], b"{}")
        await asyncio.sleep(0.1)
        size = 0
        async for chunk in answer.chunks():
            size += len(chunk)
            await asyncio.sleep(0.005)
        assert size == 20 * len(block)

    def script(request: Received) -> Script:
        return stream_script(*[block] * 20, framing=framing, then_close=True)

    with_upstream(work, script, buffer=32_768)


def test_an_answer_over_the_limit_is_refused_and_cancelled() -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/x", [], b"{}")
        with pytest.raises(UpstreamError) as caught:
            await answer.whole(1000)
        assert caught.value.code == "upstream_invalid"
        await until(fake.received[0].gone.is_set)

    with_upstream(work, stream_script(b"x" * 1001, Pause(10)))


def test_nothing_is_sent_twice() -> None:
    """A kept connection that the upstream drops just as we use it: even a GET is told, not repeated."""
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        await (await upstream.send("GET", "/a", [])).whole(1000)
        for method in ["GET", "PUT", "POST"]:
            with pytest.raises(UpstreamError) as caught:
                await upstream.send(method, "/b", [])
            assert caught.value.code == "upstream_interrupted"
            await (await upstream.send("GET", "/a", [])).whole(1000)
        methods = [request.request_line.split()[0] for request in fake.received]
        assert methods == ["GET", "GET", "GET", "PUT", "GET", "POST", "GET"]

    def script(request: Received) -> Script:
        return Script([], framing="raw", cut=True) if "/b" in request.request_line else json_script({})

    with_upstream(work, script)


# --- cancelling

def test_close_ends_the_call_within_100_ms() -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/x", [], b"{}")
        await answer.read()
        closed = monotonic()
        answer.close()
        await until(fake.received[0].gone.is_set)
        assert (fake.received[0].gone_at or 0) - closed < 0.1

    with_upstream(work, stream_script(FRAMES[0], Pause(10), *FRAMES[1:]))


def test_close_while_the_upstream_pours_faster_than_we_read() -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/x", [], b"{}")
        await asyncio.sleep(0.1)
        written = fake.received[0].written
        answer.close()
        await asyncio.sleep(0.1)
        assert fake.received[0].written < written + (8 << 20)
        assert not fake._tasks, "the upstream still holds the connection"

    with_upstream(work, stream_script(*[b"x" * 65_536] * 4000))


def test_cancelling_a_send_that_waits_ends_the_call() -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        task = asyncio.create_task(upstream.send("POST", "/x", [], b"{}"))
        await until(lambda: bool(fake.received))
        cancelled = monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(fake.received[0].gone.is_set)
        assert (fake.received[0].gone_at or 0) - cancelled < 0.1

    with_upstream(work, Script([Pause(10)], framing="raw"))


def test_closing_an_answer_that_was_read_to_its_end_keeps_the_connection() -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        for _ in range(3):
            answer = await upstream.send("POST", "/x", [], b"{}")
            await answer.whole(1000)
            answer.close()
        assert fake.connections == 1

    with_upstream(work)


def test_back_pressure_reaches_the_upstream() -> None:
    """What is read ahead of a reader that stands still is bounded: our buffer and the sockets', not the answer's size."""
    total = 64 << 20

    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        answer = await upstream.send("POST", "/x", [], b"{}")
        await asyncio.sleep(0.3)
        ahead = fake.received[0].written
        await asyncio.sleep(0.2)
        assert fake.received[0].written == ahead < total // 4
        answer.close()

    with_upstream(work, stream_script(*[b"x" * 65_536] * (total // 65_536)), buffer=65_536)


def test_close_of_all_and_a_send_after_it() -> None:
    async def work(fake: FakeUpstream, upstream: Upstream) -> None:
        await upstream.send("POST", "/x", [], b"{}")
        await upstream.close()
        await until(fake.received[0].gone.is_set)
        assert (await upstream.send("POST", "/x", [], b"{}")).status == 200

    with_upstream(work, stream_script(FRAMES[0], Pause(10)), json_script({}))
