"""The upstream over HTTP: bytes out, bytes in, as they are. The only file that imports aiohttp.

Knows no dialect and no policy. It decompresses nothing, follows no redirect, retries nothing, keeps no cookie, and reads ahead of
its reader by a bounded amount. Every failure is an errors.UpstreamError without content, and without the upstream's address.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from moderation.errors import UpstreamError

Headers = list[tuple[bytes, bytes]]
"""Names as they came, in their order, repeats included."""

# RFC 9110 7.6.1, and what HTTP/1.1 stacks have sent besides. Expect ends here: we have read the whole body before we send it on.
_ONE_HOP = frozenset({b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
                      b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"host", b"content-length",
                      b"http2-settings", b"content_length", b"transfer_encoding"})  # some servers take `_` for `-`
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
# Servers on uvicorn (vLLM, SGLang) drop idle connections after 5 s; a POST that meets this cannot safely be sent again.
_KEEP_ALIVE_SECONDS = 4.0
_HEADER_LIMIT = 64 << 10


def forwardable(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that go on to the next hop: without hop-by-hop ones, those that Connection names, Host and Content-Length."""
    kept = [pair for pair in headers if pair[0].lower() not in _ONE_HOP]
    named = {name.strip().lower() for key, value in headers if key.lower() == b"connection" for name in value.split(b",")}
    return [pair for pair in kept if pair[0].lower() not in named] if named else kept


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; 0 waits for ever."""

    connect: float = 10.0
    first_byte: float = 600.0
    idle: float = 120.0
    total: float = 3600.0


@dataclass(frozen=True, slots=True)
class Reach:
    """How an upstream is reached, beyond its URL."""

    ca_file: str | None = None
    """A PEM file of authorities to trust instead of the system's."""
    cert_file: str | None = None
    """A PEM file of our own certificate, and of its key where `key_file` is None."""
    key_file: str | None = None
    proxy: str | None = None
    """The URL of an HTTP proxy."""
    proxy_auth: str | None = field(default=None, repr=False)
    """USER:PASSWORD"""
    connections: int = 0
    """The most at a time; 0 is as many as there are calls."""

    def trust(self) -> ssl.SSLContext | bool:
        """Raises OSError, of which ssl.SSLError is one."""
        if self.ca_file is None and self.cert_file is None:
            return True
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
        return context


class _Body(aiohttp.BytesPayload):
    """A body in memory of any size; aiohttp warns of those over 1 MiB because building one could stall the loop. It is built."""

    def __init__(self, body: bytes) -> None:
        super().__init__(b"", content_type="application/octet-stream")
        self._value = body
        self._size = len(body)


class Answer:
    """What the upstream answers: status and headers now, the body as it arrives. Close it, or read it to its end."""

    __slots__ = ("_closed", "_response", "headers", "length", "status")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = forwardable(response.raw_headers)
        self.length = response.content_length
        protocol = response.connection.protocol if response.connection is not None else None  # a Connection is never true
        self._closed = protocol.closed if protocol is not None else None
        if self._closed is not None:
            self._closed.add_done_callback(self._lost)

    def _lost(self, closed: asyncio.Future[None]) -> None:
        """The connection is gone. aiohttp forgets to tell the body's reader of it where the chunked framing was broken."""
        closed.exception()
        content = self._response.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection ended within the body"))

    async def read(self) -> bytes:
        """What has arrived, at least one byte; b"" at the end of the body. A body that was cut raises UpstreamError."""
        content = self._response.content
        try:
            chunk = await content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            # aiohttp forgets what came before a break; we hand it on, so that what is read does not depend on when it is read
            with suppress(TimeoutError):  # the total time is over: nothing more is handed out
                if left := content._read_nowait(-1):
                    return left
            self.close()
            raise _failure(error, begun=True) from error
        if not chunk and self._closed is not None:  # the connection lives on, for other answers
            self._closed.remove_done_callback(self._lost)
        return chunk

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive."""
        while chunk := await self.read():
            yield chunk

    async def whole(self, limit: int) -> bytes:
        """The whole body, of at most `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        while chunk := await self.read():
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                self.close()
                raise UpstreamError("upstream_invalid", f"the upstream's answer is over {limit} bytes; see max_answer")
        return b"".join(parts)

    def close(self) -> None:
        """End the call now. An answer read to its end is not cut: its connection is already kept for the next one."""
        connection = self._response.connection
        transport = connection.transport if connection is not None else None
        self._response.close()
        if transport is not None:  # close() alone waits for TLS goodbyes and unsent bytes; the upstream would go on generating
            transport.abort()


class Upstream:
    """One base URL and its connections. Made anywhere, used in one event loop."""

    def __init__(self, base: str, timeouts: Timeouts | None = None, *, buffer: int = 256 << 10, reach: Reach = Reach(),
                 resolver: AbstractResolver | None = None) -> None:
        """`resolver` finds addresses of names; the system's where not given."""
        self._base = base.rstrip("/")
        self._timeouts = timeouts or Timeouts()
        self._buffer = buffer
        self._reach = reach
        self._trust = reach.trust()
        self._resolver = resolver
        self._login: dict[str, str] = {}
        """What the proxy alone is told (RFC 7617)."""
        if reach.proxy is not None and reach.proxy_auth is not None:
            self._login["Proxy-Authorization"] = "Basic " + b64encode(reach.proxy_auth.encode()).decode()
        self._session: aiohttp.ClientSession | None = None

    async def send(self, method: str, path_and_query: str, headers: Sequence[tuple[bytes, bytes]],
                   body: bytes | None = None) -> Answer:
        """Send one request; the answer's headers are there when this returns. `path_and_query` goes out as it is, after the base.

        Cancelling this call ends it at the upstream, too.
        """
        session = self._session or self._open()
        url = URL(self._base + path_and_query, encoded=True)
        spelling: dict[str, str] = {}  # aiohttp drops the first of two headers whose names differ in case
        fields = CIMultiDict((spelling.setdefault((shown := _field(name)).lower(), shown), _field(value))
                             for name, value in forwardable(headers))
        if self._login and url.scheme == "http":  # it goes to the proxy itself; else in CONNECT
            fields.update(self._login)
        try:
            response = await session.request(method, url, headers=fields, data=_Body(body) if body is not None else None,
                                             skip_auto_headers=_AUTOMATIC, allow_redirects=False, proxy=self._reach.proxy,
                                             proxy_headers=self._login or None)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            if isinstance(error, aiohttp.ConnectionTimeoutError) and self._full(session):
                raise UpstreamError("upstream_timeout", "no connection to the upstream was free in time; see "
                                                        "upstream_connections") from error
            raise _failure(error, begun=False) from error
        if response.status == 407 and self._reach.proxy is not None:  # for us to answer, not for the client
            response.close()
            raise UpstreamError("upstream_unreachable", "the proxy refused: it answered 407; see upstream_proxy")
        if response.connection is not None and (protocol := response.connection.protocol) is not None:
            protocol.read_timeout = self._timeouts.idle or None
            if not response.content.total_bytes:  # else it starts anew with the next bytes, or as the reader goes on
                protocol.start_timeout()
        return Answer(response)

    def _full(self, session: aiohttp.ClientSession) -> bool:
        """Whether every connection that there may be is in use."""
        connector = session.connector
        return connector is not None and 0 < connector.limit <= len(connector._acquired)

    async def close(self) -> None:
        """End all calls and connections. A later send opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        times = self._timeouts
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._reach.connections, ssl=self._trust, resolver=self._resolver,
                                           keepalive_timeout=_KEEP_ALIVE_SECONDS),
            timeout=aiohttp.ClientTimeout(total=times.total or None, connect=times.connect or None,
                                          sock_connect=times.connect or None, sock_read=times.first_byte or None,
                                          ceil_threshold=float("inf")),
            cookie_jar=aiohttp.DummyCookieJar(),  # one jar would hand one user's cookies to the next
            auto_decompress=False, raise_for_status=False, trust_env=False, requote_redirect_url=False,
            read_bufsize=max(1, self._buffer // 2),  # aiohttp stops reading at twice this
            max_line_size=_HEADER_LIMIT, max_field_size=_HEADER_LIMIT)
        session._retry_connection = False  # it would send a GET, PUT or DELETE twice where a kept connection had gone
        self._session = session
        return session


def _field(raw: bytes) -> str:
    """aiohttp writes header text as UTF-8; bytes that are not UTF-8 are read as Latin-1, as HTTP always did."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _reason(error: OSError) -> str:
    """The system's words for its error number; aiohttp's own hold the address."""
    return os.strerror(error.errno) if error.errno else "no connection"


def _failure(error: Exception, *, begun: bool) -> UpstreamError:
    """Which of our codes an aiohttp failure is. The order matters: its classes overlap."""
    match error:
        case aiohttp.ConnectionTimeoutError():
            return UpstreamError("upstream_timeout", "the upstream did not accept a connection in time")
        case aiohttp.ServerTimeoutError() | TimeoutError():
            stage = "went silent in the middle of its answer" if begun else "did not answer in time"
            return UpstreamError("upstream_timeout", f"the upstream {stage}")
        case aiohttp.ClientConnectorCertificateError():
            return UpstreamError("upstream_unreachable", "the upstream's certificate is not trusted; see upstream_ca")
        case aiohttp.ClientConnectorDNSError():
            return UpstreamError("upstream_unreachable", "the upstream's name has no address that can be found")
        case aiohttp.ClientProxyConnectionError():
            return UpstreamError("upstream_unreachable", f"the proxy cannot be reached: {_reason(error)}")
        case aiohttp.ClientHttpProxyError():
            return UpstreamError("upstream_unreachable", f"the proxy refused: it answered {error.status}; see upstream_proxy")
        case aiohttp.ClientConnectorSSLError():
            return UpstreamError("upstream_unreachable", "the upstream and we agree on no TLS connection")
        case aiohttp.ClientConnectorError():
            return UpstreamError("upstream_unreachable", f"the upstream cannot be reached: {_reason(error)}")
        case aiohttp.ClientResponseError() | ValueError():
            return UpstreamError("upstream_invalid", "the upstream's answer is not HTTP that can be read")
        case _:
            stage = "in the middle of its answer" if begun else "before it answered"
            return UpstreamError("upstream_interrupted", f"the upstream ended the connection {stage}")
