"""Doubles that speak over real sockets: an upstream whose every byte and pause a test scripts, and a client that sees every byte.

Nothing here parses more HTTP than it must, and nothing is shared with the code under test.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Pause:
    """Wait this many seconds before the next bytes."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """Wait until the test sets this event."""

    event: asyncio.Event


Step = bytes | Pause | Hold


@dataclass(frozen=True)
class Script:
    """One answer. `steps` are the body's pieces, each one write; how the body is framed is `framing`."""

    steps: Sequence[Step] = ()
    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)
    framing: str = "chunked"
    """chunked | length | close (the body ends with the connection) | raw (steps are all that is written, status line too)"""
    cut: bool = False
    """Drop the connection after the last step, without the body's proper end."""
    reset: bool = False
    """With `cut`: a TCP reset instead of an orderly close."""
    then_close: bool = False
    """Drop the connection after the body's proper end."""
    length: int | None = None
    """With framing length: what Content-Length claims, where it is not the truth."""


def sse(*events: object, done: bool = True) -> list[bytes]:
    """Server-sent events as Qwen's compatible mode frames them, one write each."""
    frames = [f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in events]
    return [*frames, b"data: [DONE]\n\n"] if done else frames


def stream_script(*steps: Step, **options: Any) -> Script:
    return Script(steps, headers=(("content-type", "text/event-stream"),), **options)


def json_script(body: object, status: int = 200, **options: Any) -> Script:
    return Script([json.dumps(body, ensure_ascii=False).encode()], status, framing="length", **options)


@dataclass
class Received:
    """One request as it came in, byte for byte, and how its caller behaved."""

    head: bytes
    body: bytes
    connection: int
    """Requests with the same number came over one connection."""
    at: float
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the caller drops the connection before our answer ended."""
    gone_at: float | None = None
    written: int = 0
    """Body bytes that the socket has taken so far."""

    @property
    def request_line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.split(b"\r\n\r\n", 1)[0].split(b"\r\n")[1:]
        pairs = [line.partition(b":") for line in lines]
        return [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class FakeUpstream:
    """An HTTP server on a loopback port. Scripts serve in order, the last one for ever.

    async with FakeUpstream(script, …) as upstream: … upstream.base … upstream.received
    """

    def __init__(self, *scripts: Script | Callable[[Received], Script], tls: ssl.SSLContext | None = None) -> None:
        self.scripts = list(scripts) or [json_script({})]
        self.received: list[Received] = []
        self.connections = 0
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 26, ssl=self._tls)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def base(self) -> str:
        return f"{self.origin}/compatible-mode/v1"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while await self._answer_one(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the caller left, or the test is over
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        """Read one request, play its script; False when the connection is to end."""
        head = await reader.readuntil(b"\r\n\r\n")
        request = Received(head, b"", number, monotonic())
        length = int(request.header("content-length") or 0)
        request.body = await reader.readexactly(length) if length else b""
        self.received.append(request)
        script = self.scripts[min(len(self.received), len(self.scripts)) - 1]
        script = script if isinstance(script, Script) else script(request)
        watch = asyncio.create_task(self._watch(reader, request))
        try:
            for step in _framed(script):
                match step:
                    case Pause(seconds):
                        await self._unless_gone(request, asyncio.sleep(seconds))
                    case Hold(event):
                        await self._unless_gone(request, event.wait())
                    case bytes(raw):
                        writer.write(raw)
                        await writer.drain()
                        request.written += len(raw)
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch
        if script.cut and script.reset:
            raw_socket = writer.get_extra_info("socket")
            raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return not script.cut and not script.then_close and script.framing not in {"close", "raw"}

    @staticmethod
    async def _watch(reader: asyncio.StreamReader, request: Received) -> None:
        """Notice the caller's leaving while we answer. Nobody pipelines here, so any byte or end means just that."""
        with suppress(ConnectionError):
            await reader.read(1)
        request.gone_at = monotonic()
        request.gone.set()

    @staticmethod
    async def _unless_gone(request: Received, work: Awaitable[object]) -> None:
        tasks = [asyncio.ensure_future(work), asyncio.ensure_future(request.gone.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        if request.gone.is_set():
            raise ConnectionResetError("the caller left")


def _framed(script: Script) -> list[Step]:
    """The script as the writes that go on the wire."""
    if script.framing == "raw":
        return list(script.steps)
    lines = [f"HTTP/1.1 {script.status} Scripted", *(f"{name}: {value}" for name, value in script.headers)]
    body = b"".join(step for step in script.steps if isinstance(step, bytes))
    match script.framing:
        case "chunked":
            lines.append("transfer-encoding: chunked")
        case "length":
            lines.append(f"content-length: {len(body) if script.length is None else script.length}")
        case "close":
            lines.append("connection: close")
        case other:
            raise ValueError(f"unknown framing {other!r}")
    wire: list[Step] = [("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")]
    if script.framing == "chunked":
        wire += [b"%x\r\n%b\r\n" % (len(step), step) if isinstance(step, bytes) else step for step in script.steps if step != b""]
        return wire if script.cut else [*wire, b"0\r\n\r\n"]
    return wire + list(script.steps)


class Dechunker:
    """Takes chunked framing off, whatever the cuts."""

    def __init__(self) -> None:
        self._pending = b""
        self._left = 0
        """Bytes of the current chunk still to come, its CRLF included."""

    def feed(self, piece: bytes) -> tuple[bytes, bool]:
        """The data in it, and whether the last chunk has come."""
        data: list[bytes] = []
        self._pending += piece
        while self._pending:
            if self._left:
                taken, self._pending = self._pending[:self._left], self._pending[self._left:]
                data.append(taken[:max(0, self._left - 2)])
                self._left -= len(taken)
                continue
            line, ending, rest = self._pending.partition(b"\r\n")
            if not ending:
                break
            size = int(line.split(b";")[0], 16)
            if size == 0:
                return b"".join(data), rest.endswith(b"\r\n")
            self._left, self._pending = size + 2, rest
        return b"".join(data), False


@dataclass
class Reply:
    """A response as a raw client sees it."""

    status: int
    head: bytes
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter
    _chunks: Dechunker = field(default_factory=Dechunker)
    raw: bytearray = field(default_factory=bytearray)
    """The body's bytes on the wire so far, framing included."""
    arrivals: list[tuple[float, bytes]] = field(default_factory=list)
    """Each read as it arrived: when, and the body's bytes with the chunk framing taken off."""
    ended: bool = False
    """The body came to its proper end: last chunk, or all of Content-Length, or the end of a connection without either."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        pairs = [line.partition(b":") for line in self.head.split(b"\r\n")[1:] if line]
        return [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def body(self) -> bytes:
        return b"".join(part for _, part in self.arrivals)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def read_some(self, size: int = 1 << 16) -> bytes:
        """The body's next bytes as soon as any are there; b"" at its end, proper or not."""
        while not self.ended:
            if self.header("content-length") == "0":
                self.ended = True
                break
            piece = await self._reader.read(size)
            self.raw += piece
            fresh = self._unframe(piece)
            if fresh:
                self.arrivals.append((monotonic(), fresh))
                return fresh
            if not piece:
                break
        return b""

    async def read_all(self) -> bytes:
        while await self.read_some():
            pass
        return self.body

    async def read_until(self, mark: bytes) -> bytes:
        """Read on until the body holds `mark`."""
        while mark not in self.body:
            if not await self.read_some():
                raise AssertionError(f"the body ended without {mark!r}: {self.body!r}")
        return self.body

    def close(self) -> None:
        """Go away now, as a client whose process ends does."""
        self._writer.transport.abort()

    def _unframe(self, piece: bytes) -> bytes:
        """The data in these bytes; sets `ended` where the body is whole."""
        if self.header("transfer-encoding") == "chunked":
            fresh, self.ended = self._chunks.feed(piece)
            return fresh
        length = self.header("content-length")
        self.ended = len(self.raw) >= int(length) if length is not None else not piece
        return piece


async def ask(port: int, method: str, path: str, body: bytes = b"", headers: Sequence[tuple[str, str]] = (),
              *, host: str = "127.0.0.1", buffer: int | None = None) -> Reply:
    """Send one request over a connection of its own; returns when the response's head is there. `buffer` bounds what the socket
    takes in ahead of reading, for slow clients."""
    if buffer is None:
        reader, writer = await asyncio.open_connection(host, port)
    else:
        raw_socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        raw_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        raw_socket.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw_socket, (host, port))
        reader, writer = await asyncio.open_connection(sock=raw_socket, limit=buffer)
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}:{port}", *(f"{name}: {value}" for name, value in headers)]
    if body and all(name.lower() not in {"content-length", "transfer-encoding"} for name, _ in headers):
        lines.append(f"content-length: {len(body)}")
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    return Reply(int(head.split(b" ", 2)[1]), head[:-4], reader, writer)


async def ask_json(port: int, path: str, body: object, headers: Sequence[tuple[str, str]] = ()) -> Reply:
    """POST a JSON body and read the whole answer."""
    raw = json.dumps(body, ensure_ascii=False).encode()
    reply = await ask(port, "POST", path, raw, [("content-type", "application/json"), ("connection", "close"), *headers])
    await reply.read_all()
    return reply


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
