"""One client's connection: HTTP/1.1 that every reader frames alike, within bounds of size and of time.

uvicorn's protocol on httptools, which refuses a length beside chunks, bare LF, folded lines and the like by itself. What it lets
through and another reader could take otherwise is refused here. Knows nothing of paths, of moderation, or of who asks.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from moderation.errors import Refused

MOST_HEAD = 64 << 10
"""Bytes of a request line with its headers, and of trailers or the extensions of one chunk."""
MOST_HEADERS = 200
MOST_PIPELINED = 100
"""Requests that wait for the answer to one before them."""
_LINGER = 1.0
"""Seconds in which a refused client may still send: to close at once would reset the connection, and our answer with it."""
_ONCE = (b"host", b"authorization", b"content-type", b"expect")
"""Where these stand twice, one reader takes the first and another the last."""
_NO_UPGRADE = frozenset({b"upgrade", b"http2-settings"})
_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?").fullmatch
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE).match


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection is held to, and how it tells of a fault."""

    head_timeout: float
    """Seconds for a request's line and headers; 0 waits for ever."""
    body_timeout: float
    """Seconds for a request's body; 0 waits for ever."""
    refusal: Callable[[Refused], tuple[int, list[tuple[bytes, bytes]], bytes]]
    """An error as status, headers and body."""


def check(method: bytes, version: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Refused | None:
    """What is wrong with a request's head (names in lower case), if anything; RFC 9110 and 9112."""
    pairs = list(headers)
    if len(pairs) > MOST_HEADERS or len(target) + sum(len(n) + len(v) + 4 for n, v in pairs) > MOST_HEAD:
        return Refused("headers_too_large", f"expected at most {MOST_HEADERS} headers and {MOST_HEAD} bytes of them; send less")
    if version not in ("1.0", "1.1"):
        return Refused("invalid_http", "expected HTTP/1.1")
    if method == b"CONNECT":
        return Refused("invalid_http", "CONNECT: this is no forward proxy; set the client's base_url, not its proxy")
    seen = dict(pairs)
    if len(seen) != len(pairs):
        for name in _ONCE:
            if sum(n == name for n, _ in pairs) > 1:
                return Refused("invalid_http", f"the header {name.decode()} stands twice; send it once")
    coding = seen.get(b"transfer-encoding")
    if coding is not None and (version != "1.1" or coding.strip().lower() != b"chunked"):
        return Refused("invalid_http", "transfer-encoding: expected chunked alone, in HTTP/1.1")
    host = seen.get(b"host")
    if (host is None and version == "1.1") or (host is not None and not _HOST(host)):
        return Refused("invalid_http", "host: expected a name or address, with a port or without")
    absolute = _ABSOLUTE(target)
    if absolute is not None and host is not None and absolute[1].lower() != host.lower():
        return Refused("invalid_http", "the request line names another host than the header Host")
    if b"#" in target:
        return Refused("invalid_http", "the request line holds a fragment; leave out what stands from `#` on")
    if seen.get(b"expect", b"100-continue").lower() != b"100-continue":
        return Refused("expectation_failed", "expect: expected 100-continue or nothing")
    return None


class Connection(HttpToolsProtocol):
    """A client's connection, for uvicorn."""

    def __init__(self, bounds: Bounds, **given: Any) -> None:
        super().__init__(**given)
        self._bounds = bounds
        self._unread = 0
        """Bytes that came since the last head, piece of a body, or end of a request."""
        self._stage = ""
        """Of the request that is coming in: `head`, `body`, or none."""
        self._fault: Refused | None = None
        self._over = False
        """Whatever comes is dropped."""
        self._timer: asyncio.TimerHandle | None = None
        self._timed = ""
        """The stage that the timer is for."""
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._time("head")

    def connection_lost(self, exc: Exception | None) -> None:
        self._untime()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        self._unset_keepalive_if_required()
        self._unread += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._again(data[upgrade.args[0]:])
            return
        except httptools.HttpParserError:
            self._refuse(self._fault or Refused("invalid_http", "expected HTTP/1.1; this is none, or can be read in two ways"))
            return
        if self._unread > MOST_HEAD:
            self._refuse(Refused("headers_too_large", f"expected at most {MOST_HEAD} bytes of headers; send less"))
            return
        stage = self._stage or ("head" if self.cycle is None or self.cycle.response_complete else "")
        if stage != self._timed:
            self._time(stage)

    def _again(self, rest: bytes) -> None:
        """Read the head again without its Upgrade, which a server may ignore (RFC 9110, 7.8) and the parser does not."""
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/", self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(word for word in value.split(b",") if word.strip().lower() not in _NO_UPGRADE)
            if name not in _NO_UPGRADE:
                head += [name, b":", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._unread = 0
        self.data_received(b"".join([*head, b"\r\n", rest]))

    # ---- the parser's calls; what they raise ends the parsing ------------------------------------------------------

    def on_message_begin(self) -> None:
        self._stage = "head"
        if self._timed == "body":  # of the request before
            self._untime()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._stage == "head":  # else it is a trailer, which must never be taken for a header (RFC 9110, 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._unread = 0
        self._fault = check(self.parser.get_method(), self.parser.get_http_version(), self.url, self.headers)
        if self._fault is None and len(self.pipeline) >= MOST_PIPELINED:
            self._fault = Refused("invalid_http", f"more than {MOST_PIPELINED} requests wait for their answers; send fewer")
        if self._fault is not None:
            raise self._fault
        if not self.parser.should_upgrade():
            super().on_headers_complete()
            self._stage = "body"

    def on_body(self, body: bytes) -> None:
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._stage == "body":
            self._unread = 0
            self._stage = ""
            super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    # ---- time ------------------------------------------------------------------------------------------------------

    def _untime(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = ""

    def _time(self, stage: str) -> None:
        self._untime()
        self._timed = stage
        seconds = {"head": self._bounds.head_timeout, "body": self._bounds.body_timeout}.get(stage, 0.0)
        if seconds:
            self._timer = self.loop.call_later(seconds, self._late)

    def _late(self) -> None:
        if self.flow.read_paused:  # it is we who do not take the bytes
            self._time(self._timed)
        elif self._stage:
            late = f"the {self._stage} of the request did not come in time; see {self._stage}_timeout"
            self._refuse(Refused("request_timeout", late))
        elif not self.transport.is_closing():
            self.transport.close()

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _refuse(self, error: Refused) -> None:
        """Take nothing more. What is whole is answered; else the error is told, and the connection ends."""
        self._over = True
        self._untime()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._stage != "body":
                cycle.keep_alive = False
                return
            if self.pipeline:  # it waits for the one before it, which will be the last
                self.pipeline.popleft()
                last = self.pipeline[0][0] if self.pipeline else self._running
                assert last is not None
                last.keep_alive = False
                return
            cycle.disconnected = True
            cycle.message_event.set()
        elif cycle is not None and self._stage == "body":  # answered before it was whole
            self.transport.close()
            return
        if cycle is None or not cycle.response_started or cycle.response_complete:
            status, headers, body = self._bounds.refusal(error)
            fields = [*headers, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
            lines = [name + b": " + value + b"\r\n" for name, value in fields]
            self.transport.write(b"".join([STATUS_LINE[status], *lines, b"\r\n", body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(_LINGER, self.transport.close)
