"""A sidecar in a thread of its own, and a client that writes any bytes to it and sees any bytes come back."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes import Received, Script
from tests.kitchen import Kitchen

BODY = b'{"messages":[{"role":"user","content":"hi"}]}'


class Seen(NamedTuple):
    """What came back."""

    raw: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.raw)]

    @property
    def codes(self) -> list[str]:
        return [found.decode() for found in re.findall(rb'"code":"(\w+)"', self.raw)]


class Served:
    """A kitchen in an event loop of its own."""

    def __init__(self, kitchen: Kitchen, loop: asyncio.AbstractEventLoop) -> None:
        self.kitchen = kitchen
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def call(self, what: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(what)

    @property
    def received(self) -> list[Received]:
        return self.kitchen.upstream.received

    def connect(self) -> socket.socket:
        link = socket.create_connection(("127.0.0.1", self.kitchen.port), 10)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link

    def say(self, *pieces: bytes, answers: int = 1) -> Seen:
        """Write the pieces; read until so many whole answers have come, or the end. Then say something that shows whether the
        connection lives."""
        self.received.clear()
        with self.connect() as link:
            with suppress(ConnectionError):  # refused before all was written
                for piece in pieces:
                    link.sendall(piece)
            raw, ended = _read(link, answers)
            with suppress(ConnectionError):
                if not ended:
                    link.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            if not ended:
                more, _ = _read(link, 1)
                return Seen(raw, not more.startswith(b"HTTP/1.1 200 "))
        return Seen(raw, True)


def _read(link: socket.socket, answers: int) -> tuple[bytes, bool]:
    raw = b""
    while True:
        try:
            piece = link.recv(1 << 16)
        except ConnectionError:
            return raw, True
        if not piece:
            return raw, True
        raw += piece
        if _whole(raw) >= answers:
            return raw, False


def _whole(raw: bytes) -> int:
    """How many whole final answers stand in these bytes."""
    count = 0
    while b"\r\n\r\n" in raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 1"):
            continue
        length = re.search(rb"(?i)\ncontent-length: (\d+)", head)
        if length is not None:
            if len(raw) < int(length[1]):
                break
            raw = raw[int(length[1]):]
        else:
            _, end, raw = raw.partition(b"0\r\n\r\n")
            if not end:
                break
        count += 1
    return count


@contextmanager
def served(folder: Path, *scripts: Script | Callable[..., Script], **settings: Any) -> Iterator[Served]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    kitchen = Kitchen(folder, *scripts, **settings)
    it = Served(kitchen, loop)
    it.run(kitchen.__aenter__())
    try:
        yield it
    finally:
        it.run(kitchen.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def unambiguous(request: Received) -> None:
    """That a request can be framed in one way alone, by any reader."""
    names = [name.lower().replace("_", "-") for name, _ in request.headers]
    assert names.count("content-length") == 1
    assert request.header("content-length") == str(len(request.body))
    assert names.count("host") == 1
    assert not {"transfer-encoding", "trailer", "te", "upgrade", "expect", "content-encoding"}.intersection(names)
    for name in ("authorization", "content-type"):
        assert names.count(name) <= 1
    head = request.head.replace(b"\r\n", b"")
    assert not re.search(rb"[\x00-\x08\x0a-\x1f]", head)
