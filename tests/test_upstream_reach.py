"""How an upstream is reached: authorities, our own certificate, a proxy, and no more connections than allowed."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from moderation.errors import UpstreamError
from moderation.upstream import Reach, Timeouts, Upstream
from tests.authority import Authority, Proxy
from tests.fakes import FakeUpstream, Hold, free_port, json_script, stream_script

SECRET = "the-proxys-pass:wörd"  # a password may hold a colon


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


async def asked(base: str, reach: Reach, timeouts: Timeouts | None = None) -> bytes | UpstreamError:
    """The body of the answer, or the failure."""
    upstream = Upstream(base, timeouts, reach=reach)
    try:
        return await (await upstream.send("POST", "/x", [(b"X-A", b"1")], b"{}")).whole(1000)
    except UpstreamError as error:
        return error
    finally:
        await upstream.close()


def test_a_client_certificate_is_shown_where_the_upstream_asks_for_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.sign("client")
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    stranger, strange_key = Authority(tmp_path, "another").sign("stranger")

    async def go() -> None:
        async with FakeUpstream(json_script({}), tls=authority.server(asks=True)) as fake:
            ca = str(authority.file)
            assert await asked(fake.base, Reach(ca, str(cert), str(key))) == b"{}"
            assert await asked(fake.base, Reach(ca, str(both))) == b"{}"
            for reach in (Reach(ca), Reach(ca, str(stranger), str(strange_key))):
                refused = await asked(fake.base, reach)
                assert isinstance(refused, UpstreamError)
                assert refused.code in {"upstream_unreachable", "upstream_interrupted"}  # TLS 1.3 tells it after the handshake
            assert len(fake.received) == 2

    run(go())


def test_an_https_upstream_is_reached_through_a_tunnel(tmp_path: Path) -> None:
    """The proxy sees a host and a port, and its own password; the upstream sees neither proxy nor password."""
    authority = Authority(tmp_path)

    async def go() -> None:
        async with FakeUpstream(json_script({}), tls=authority.server()) as fake, Proxy() as proxy:
            reach = Reach(str(authority.file), proxy=proxy.url, proxy_auth=f"me:{SECRET}")
            assert await asked(fake.base, reach) == b"{}"
            [head] = proxy.heads
            assert head.startswith(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\n" % fake.port)
            login = base64.b64encode(f"me:{SECRET}".encode())
            assert b"proxy-authorization: basic " + login.lower() in head.lower()
            assert b"X-A" not in head
            assert b"proxy" not in fake.received[0].head.lower()
            assert fake.received[0].request_line.startswith("POST /compatible-mode/v1/x ")
            trusting_nobody = await asked(fake.base, Reach(proxy=proxy.url))
            assert isinstance(trusting_nobody, UpstreamError)
            assert trusting_nobody.code == "upstream_unreachable"

    run(go())


def test_an_http_upstream_is_asked_for_by_its_whole_url(tmp_path: Path) -> None:
    async def go() -> None:
        async with Proxy(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}") as proxy:
            assert await asked("http://upstream.example/v1", Reach(proxy=proxy.url)) == b"{}"
            assert proxy.heads[0].startswith(b"POST http://upstream.example/v1/x HTTP/1.1\r\n")
            assert await asked("http://upstream.example/v1", Reach(proxy=proxy.url, proxy_auth=f"me:{SECRET}")) == b"{}"
            assert b"\r\nProxy-Authorization: Basic " + base64.b64encode(f"me:{SECRET}".encode()) + b"\r\n" in proxy.heads[1]

    run(go())


REFUSALS: list[tuple[str, bytes | None, str, str, str]] = [
    ("it wants a password", b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "https",
     "upstream_unreachable", "the proxy refused: it answered 407; see upstream_proxy"),
    ("it wants one for http, too", b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", "http",
     "upstream_unreachable", "the proxy refused: it answered 407; see upstream_proxy"),
    ("it cannot reach the upstream", b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", "https",
     "upstream_unreachable", "the proxy refused: it answered 502; see upstream_proxy"),
    ("it breaks off", b"", "https", "upstream_interrupted", "the upstream ended the connection before it answered"),
    ("nobody listens there", None, "https", "upstream_unreachable", "the proxy cannot be reached: Connection refused"),
]


@pytest.mark.parametrize(("note", "says", "scheme", "code", "message"), REFUSALS, ids=[row[0] for row in REFUSALS])
def test_a_proxy_that_does_not_help_is_told(note: str, says: bytes | None, scheme: str, code: str, message: str) -> None:
    async def go() -> None:
        async with Proxy(says or b"") as proxy:
            url = f"http://127.0.0.1:{free_port()}" if says is None else proxy.url
            told = await asked(f"{scheme}://127.0.0.1:{free_port()}/v1", Reach(proxy=url, proxy_auth=f"me:{SECRET}"))
            assert isinstance(told, UpstreamError)
            assert (told.code, told.message) == (code, message), note

    run(go())


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    async def go() -> None:
        async with FakeUpstream(json_script({})) as fake:
            assert await asked(fake.base, Reach()) == b"{}"

    run(go())


def test_no_secret_is_shown() -> None:
    assert "proxys" not in repr(Reach(proxy="http://p:1", proxy_auth=f"me:{SECRET}"))


def test_no_more_connections_than_allowed_and_who_waits_too_long_is_told() -> None:
    gate = asyncio.Event()

    async def go() -> None:
        async with FakeUpstream(stream_script(b"a", Hold(gate)), json_script({})) as fake:
            upstream = Upstream(fake.base, Timeouts(connect=0.2), reach=Reach(connections=1))
            first = await upstream.send("POST", "/x", [], b"{}")
            with pytest.raises(UpstreamError) as caught:
                await upstream.send("POST", "/x", [], b"{}")
            assert caught.value.code == "upstream_timeout"
            assert caught.value.message == "no connection to the upstream was free in time; see upstream_connections"
            waiting = asyncio.create_task(upstream.send("POST", "/x", [], b"{}"))
            await asyncio.sleep(0.02)
            gate.set()
            assert await first.whole(10) == b"a"
            assert (await waiting).status == 200, "it was free in time"
            assert fake.connections == 1
            await upstream.close()

    run(go())


def test_a_connection_that_cannot_be_made_in_time_is_not_told_as_a_full_pool(tmp_path: Path) -> None:
    """A server that accepts and never shakes hands."""
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def go() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for reach in (Reach(), Reach(connections=1), Reach(proxy=f"http://127.0.0.1:{port}")):
            told = await asked(f"https://127.0.0.1:{port}/v1", reach, Timeouts(connect=0.2))
            assert isinstance(told, UpstreamError)
            assert (told.code, told.message) == ("upstream_timeout", "the upstream did not accept a connection in time")
        server.close()

    run(go())
