"""Each way in which an upstream fails, asked for a whole answer, for a stream and for what is only passed on.

The client hears of it in the dialect, the metric counts it once, the log has its last word, and the next request is served.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from moderation.upstream import Upstream
from tests.authority import Authority, Proxy
from tests.fakes import FakeUpstream, Hold, Pause, Reply, Script, Step, free_port, sse, stream_script
from tests.kitchen import Kitchen, chunk, frames

ONE = sse(chunk({"content": "One. "}), done=False)
MANY: list[Step] = [*ONE, Pause(0.2)] * 20
HALF = json.dumps({"choices": []}).encode()[:8]
QUICK: dict[str, Any] = {"connect_timeout": "200ms", "first_byte_timeout": "300ms", "idle_timeout": "300ms", "total_timeout": "30s"}


class NoNames(AbstractResolver):
    """A resolver that finds nothing."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        raise OSError(None, "no such host")

    async def close(self) -> None:
        return


@dataclass(frozen=True)
class Way:
    """One way to fail. Before the answer's head it is the same however one asks; in the middle it is `whole` and `stream`."""

    name: str
    code: str
    status: int
    whole: Script | None = None
    stream: Script | None = None
    begun: bool = False
    """The answer's head has come: a stream is cut with an error frame, what is passed on is cut."""
    settings: dict[str, str] = field(default_factory=dict)
    reach: Callable[[AsyncExitStack, Path], Awaitable[str]] | None = None
    """Makes another upstream than the scripted one, and tells its base."""


def _raw(*steps: bytes | Pause) -> Script:
    return Script(steps, framing="raw")


async def _nobody(stack: AsyncExitStack, folder: Path) -> str:
    return f"http://127.0.0.1:{free_port()}/v1"


async def _untrusted(stack: AsyncExitStack, folder: Path) -> str:
    return (await stack.enter_async_context(FakeUpstream(tls=Authority(folder).server()))).base


async def _no_tls(stack: AsyncExitStack, folder: Path) -> str:
    """A server that speaks plain HTTP where TLS is wanted."""
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    return await _listening(stack, serve)


async def _too_new(stack: AsyncExitStack, folder: Path) -> str:
    """A server that shakes hands in no version that we speak."""
    context = Authority(folder).server()
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # its key is none of RSA's
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return (await stack.enter_async_context(FakeUpstream(tls=context))).base


async def _silent(stack: AsyncExitStack, folder: Path) -> str:
    """A server that accepts connections and never shakes hands."""
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    return await _listening(stack, serve)


async def _listening(stack: AsyncExitStack, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> str:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stack.callback(server.close)
    return f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


WAYS = [
    Way("nobody listens", "upstream_unreachable", 502, reach=_nobody),
    Way("its certificate is not trusted", "upstream_unreachable", 502, reach=_untrusted),
    Way("it speaks no TLS", "upstream_unreachable", 502, reach=_no_tls),
    Way("it shakes hands in no way that we know", "upstream_unreachable", 502, reach=_too_new),
    Way("it does not accept in time", "upstream_timeout", 504, reach=_silent),
    Way("it ends the connection before it answers", "upstream_interrupted", 502, whole=_raw()),
    Way("it resets the connection before it answers", "upstream_interrupted", 502, whole=Script(framing="raw", cut=True, reset=True)),
    Way("it is silent before it answers", "upstream_timeout", 504, whole=_raw(Pause(5))),
    Way("it speaks no HTTP", "upstream_invalid", 502, whole=_raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")),
    Way("it ends in the middle", "upstream_interrupted", 502, Script([HALF], cut=True), stream_script(*ONE, cut=True), begun=True),
    Way("it resets in the middle", "upstream_interrupted", 502, Script([HALF], cut=True, reset=True),
        stream_script(*ONE, Pause(0.1), cut=True, reset=True), begun=True),
    Way("it is silent in the middle", "upstream_timeout", 504, Script([HALF, Pause(5)]), stream_script(*ONE, Pause(5)), begun=True),
    Way("it takes too long altogether", "upstream_timeout", 504, Script([b" ", Pause(0.2)] * 20),
        stream_script(*MANY), begun=True, settings={"total_timeout": "700ms"}),
    Way("its framing breaks in the middle", "upstream_interrupted", 502,
        _raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{  \r\n", Pause(0.1), b"ZZ\r\n"),
        _raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n"
             % (len(ONE[0]), ONE[0]), Pause(0.1), b"ZZ\r\n"), begun=True),
]
ASKED = ["whole", "stream", "passed"]


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


@asynccontextmanager
async def failing(folder: Path, way: Way, asked: str) -> AsyncIterator[Kitchen]:
    async with AsyncExitStack() as stack:
        settings = {**QUICK, **way.settings}
        if way.reach is not None:
            settings["upstream"] = await way.reach(stack, folder)
        script = way.stream if asked == "stream" and way.stream is not None else way.whole
        yield await stack.enter_async_context(Kitchen(folder, *([script] if script else []), **settings))


async def request(kitchen: Kitchen, asked: str) -> Reply:
    if asked == "passed":
        return await kitchen.send("GET", "/v1/models")
    body = {"messages": [{"role": "user", "content": "hi"}], "stream": asked == "stream"}
    return await kitchen.send("POST", "/v1/chat/completions", json.dumps(body).encode())


def counted(kitchen: Kitchen, name: str) -> dict[str, float]:
    """The samples of a metric that are not 0."""
    lines = [line.rpartition(" ") for line in kitchen.metrics.text().decode().split("\n") if line.startswith(f"moderation_{name}{{")]
    return {label: float(value) for label, _, value in lines if float(value)}


async def told(kitchen: Kitchen, asked: str, code: str, status: int, *, begun: bool = False) -> None:
    """Ask, and look at what the client hears, at the metrics and at the log."""
    reply = await request(kitchen, asked)
    with_head = begun and asked != "whole"
    try:
        await reply.read_all()
    except (ConnectionError, asyncio.IncompleteReadError):
        assert (asked, begun) == ("passed", True)
    assert b"127.0.0.1" not in reply.body
    if not with_head:
        assert (reply.status, reply.json["error"]["code"]) == (status, code)
        assert reply.header("x-request-id") == reply.json["request_id"]
        assert reply.header("x-should-retry") is None
    else:
        assert reply.status == 200
        if asked == "stream":
            last = frames(reply.body)[-1]
            assert last["error"]["code"] == code
            assert b"[DONE]" not in reply.body
            assert b'finish_reason":"' not in reply.body
        else:
            assert not reply.ended, "what was cut must not look whole"
    assert counted(kitchen, "upstream_errors_total") == {f'moderation_upstream_errors_total{{code="{code}"}}': 1}
    outcomes = counted(kitchen, "requests_total")
    assert outcomes == {'moderation_requests_total{outcome="failed",route="default"}': 1}
    assert "internal_error" not in "".join(kitchen.said), "an upstream's failure is no fault of ours"
    if asked != "passed":
        leaves = kitchen.leaves(reply.header("x-request-id") or "")
        assert [leaf["outcome"] for leaf in leaves if leaf["kind"] == "close"] == ["upstream_error"]
    assert (kitchen.house.sidecar.in_flight, kitchen.house.sidecar.admission.held) == (0, 0)
    assert (await kitchen.ask("POST", "/moderate", {"text": "hi"})).status == 200


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("way", WAYS, ids=[way.name for way in WAYS])
def test_each_failure(tmp_path: Path, way: Way, asked: str) -> None:
    async def go() -> None:
        async with failing(tmp_path, way, asked) as kitchen:
            await told(kitchen, asked, way.code, way.status, begun=way.begun)

    run(go())


@pytest.mark.parametrize("asked", ASKED)
def test_a_name_that_has_no_address(tmp_path: Path, asked: str) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, upstream="http://upstream.example/v1") as kitchen:
            lost = Upstream("http://upstream.example/v1", resolver=NoNames())
            kitchen.house.upstreams._of["http://upstream.example/v1"] = lost
            await told(kitchen, asked, "upstream_unreachable", 502)
            await lost.close()

    run(go())


@pytest.mark.parametrize("asked", ASKED)
def test_a_proxy_that_refuses(tmp_path: Path, asked: str) -> None:
    async def go() -> None:
        async with (
            Proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n") as proxy,
            Kitchen(tmp_path, upstream="https://127.0.0.1:9/v1", upstream_proxy=proxy.url) as kitchen,
        ):
            await told(kitchen, asked, "upstream_unreachable", 502)

    run(go())


@pytest.mark.parametrize("asked", ASKED)
def test_no_connection_is_free(tmp_path: Path, asked: str) -> None:
    """The limit of connections is below what is in flight: who waits too long is told, and the other goes on."""
    more = asyncio.Event()

    async def go() -> None:
        script = stream_script(*ONE, Hold(more), *sse(chunk({}, "stop")))
        async with Kitchen(tmp_path, script, upstream_connections="1", **QUICK | {"idle_timeout": "10s"}) as kitchen:
            body = {"messages": [{"role": "user", "content": "hi"}], "stream": True}
            first = await kitchen.send("POST", "/v1/chat/completions", json.dumps(body).encode())
            reply = await request(kitchen, asked)
            await reply.read_all()
            assert (reply.status, reply.json["error"]["code"]) == (504, "upstream_timeout")
            assert "upstream_connections" in reply.json["error"]["message"]
            assert counted(kitchen, "upstream_errors_total") == {'moderation_upstream_errors_total{code="upstream_timeout"}': 1}
            more.set()
            await first.read_all()
            assert first.body.endswith(b"[DONE]\n\n")

    run(go())


@pytest.mark.parametrize("asked", ASKED)
def test_a_redirect_is_handed_on_and_not_followed(tmp_path: Path, asked: str) -> None:
    async def go() -> None:
        script = Script([], 307, (("location", "/elsewhere"), ("content-type", "text/plain")), framing="length")
        async with Kitchen(tmp_path, script) as kitchen:
            reply = await request(kitchen, asked)
            await reply.read_all()
            assert (reply.status, reply.header("location")) == (307, "/elsewhere")
            assert len(kitchen.upstream.received) == 1
            assert counted(kitchen, "upstream_errors_total") == {}

    run(go())


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("asked", ASKED)
def test_an_error_of_the_upstream_is_handed_on_and_not_tried_again(tmp_path: Path, asked: str, status: int) -> None:
    async def go() -> None:
        body = json.dumps({"error": {"message": "later", "code": "busy"}}).encode()
        script = Script([body], status, (("retry-after", "7"), ("content-type", "application/json")), framing="length")
        async with Kitchen(tmp_path, script) as kitchen:
            reply = await request(kitchen, asked)
            await reply.read_all()
            assert (reply.status, reply.header("retry-after"), reply.body) == (status, "7", body)
            assert len(kitchen.upstream.received) == 1
            assert counted(kitchen, "upstream_errors_total") == {}, "it answered"

    run(go())


UNREADABLE = [
    ("an event that is no JSON", [*ONE, b"data: {not json\n\n", b"data: [DONE]\n\n"]),
    ("text after its own end", sse(chunk({"content": "One. "}), chunk({}, "stop"), chunk({"content": "Two."}))),
]


@pytest.mark.parametrize(("note", "steps"), UNREADABLE, ids=[row[0] for row in UNREADABLE])
def test_a_stream_that_cannot_be_moderated_is_counted(tmp_path: Path, note: str, steps: list[bytes]) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(*steps)) as kitchen:
            reply = await request(kitchen, "stream")
            await reply.read_all()
            assert frames(reply.body)[-1]["error"]["code"] == "upstream_invalid", note
            assert counted(kitchen, "upstream_errors_total") == {'moderation_upstream_errors_total{code="upstream_invalid"}': 1}
            leaves = kitchen.leaves(reply.header("x-request-id") or "")
            assert [leaf["outcome"] for leaf in leaves if leaf["kind"] == "close"] == ["upstream_error"]

    run(go())
