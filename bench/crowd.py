"""The soak's clients: well-behaved ones, hasty ones, slow ones and broken ones, drawn by a seeded chance.

Each checks what it gets: the status, that the answer is whole, and that it is its own. What is wrong is counted in a `Tally`.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import string
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

ADDRESS, CARD = "@example.com", "4111 1111 1111 1111"
SECRETS = (ADDRESS.encode(), CARD.encode())
"""What no upstream may see, whoever it is of."""
PATIENCE = 90.0
"""Seconds after which a client takes its request for lost."""
_FAULTS = 20
"""Faults that are told one by one."""


class Cut(Exception):
    """The connection ended within an answer, or before it."""


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def text(self) -> str:
        """What the model says in it; "" where that cannot be read."""
        try:
            if self.headers.get("content-type", "").startswith("text/event-stream"):
                events = [json.loads(line[6:]) for line in self.body.split(b"\n") if line.startswith(b"data: {")]
                return "".join(choice["delta"].get("content") or "" for event in events for choice in event.get("choices", ()))
            return str(json.loads(self.body)["choices"][0]["message"]["content"])
        except (ValueError, LookupError):
            return ""


class Link:
    """One connection to the sidecar."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int, *, narrow: bool = False) -> Link:
        """`narrow`: with buffers so small that the sidecar feels when nobody reads."""
        sock = socket.socket()
        sock.setblocking(False)
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=sock, limit=4096 if narrow else 1 << 16))

    def close(self) -> None:
        self.writer.transport.abort()

    async def ask(self, raw: bytes) -> Reply:
        self.writer.write(raw)
        return await self.reply()

    async def reply(self, slow: int = 0, pause: float = 0.0) -> Reply:
        """With a `pause` after each of the first `slow` chunks. Raises Cut."""
        try:
            status, headers = await self._head()
            if "content-length" in headers:
                return Reply(status, headers, await self.reader.readexactly(int(headers["content-length"])))
            parts: list[bytes] = []
            while size := int(await self.reader.readline(), 16):
                parts.append((await self.reader.readexactly(size + 2))[:-2])
                if len(parts) <= slow:
                    await asyncio.sleep(pause)
            await self.reader.readexactly(2)
            return Reply(status, headers, b"".join(parts))
        except (OSError, EOFError, ValueError) as error:
            raise Cut(type(error).__name__) from None

    async def _head(self) -> tuple[int, dict[str, str]]:
        first, *rest = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
        return int(first.split(" ")[1]), {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}


@dataclass
class Tally:
    """What the clients saw."""

    sent: int = 0
    held_back: int = 0
    """Not sent, because too many clients were waiting already."""
    statuses: Counter[str] = field(default_factory=Counter)
    decisions: list[str] = field(default_factory=list)
    """As the header x-moderation-decision told them."""
    degraded: int = 0
    overloaded: int = 0
    wrong: int = 0
    faults: list[str] = field(default_factory=list)

    def fault(self, text: str) -> None:
        self.wrong += 1
        if len(self.faults) < _FAULTS:
            self.faults.append(text)


def post(path: str, value: object, *, length: int | None = None) -> bytes:
    """A request; with a `length` of its own it is not what it says it is."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    size = len(body) if length is None else length
    return (f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept-encoding: gzip\r\n"
            f"content-length: {size}\r\n\r\n").encode() + body


def chat(text: str, mood: str = "whole", *, stream: bool = False, before: Collection[Mapping[str, str]] = ()) -> bytes:
    system = {"role": "system", "content": "You are a helpful assistant."}
    messages = [system, *before, {"role": "user", "content": text}]
    return post("/v1/chat/completions", {"model": "qwen3.5-plus", "messages": messages, "stream": stream, "mood": mood})


class Crowd:
    """All clients of one sidecar."""

    def __init__(self, port: int, seed: int, ways: Sequence[Way], most: int = 150) -> None:
        self.tally = Tally()
        self._port, self._ways, self._most = port, ways, most
        self._chance = random.Random(seed)
        self._idle: list[Link] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def come(self, rate: float, seconds: float) -> None:
        """Send `rate` requests a second, at random moments, for so long; then wait for the last."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        end = due + seconds
        while (due := due + self._chance.expovariate(rate)) < end:
            await asyncio.sleep(due - loop.time())
            way, = self._chance.choices(self._ways, [one.weight for one in self._ways])
            if len(self._tasks) >= self._most:
                self.tally.held_back += 1
                continue
            self.tally.sent += 1
            task = asyncio.create_task(self._guarded(way, random.Random(self._chance.random())))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await asyncio.gather(*self._tasks)
        while self._idle:
            self._idle.pop().close()

    async def _guarded(self, way: Way, chance: random.Random) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await way.go(self, way.name, chance)
        except TimeoutError:
            self.tally.fault(f"{way.name}: no answer within {PATIENCE:g} s")
        except Cut as error:
            self.tally.fault(f"{way.name}: the answer was cut ({error})")
        except OSError as error:
            self.tally.fault(f"{way.name}: {type(error).__name__}")

    async def open(self) -> Link:
        return await Link.open(self._port)

    async def narrow(self) -> Link:
        return await Link.open(self._port, narrow=True)

    async def ask(self, name: str, raw: bytes, allowed: int, own: str = "") -> Reply:
        """Ask over a kept connection or one made for it. `own` must be in the answer, if it is let through."""
        link = self._idle.pop() if self._idle else await self.open()
        with ExitStack() as undo:
            undo.callback(link.close)
            reply = await link.ask(raw)
            undo.pop_all()  # it came whole: the link stays
        self.check(name, reply, allowed, own)
        if reply.headers.get("connection") == "close" or len(self._idle) > 8:
            link.close()
        else:
            self._idle.append(link)
        return reply

    def check(self, name: str, reply: Reply, allowed: int, own: str = "") -> None:
        tally, status = self.tally, reply.status
        tally.statuses[f"{name} {status}"] += 1
        degraded = "x-moderation-degraded" in reply.headers
        tally.degraded += degraded
        if decision := reply.headers.get("x-moderation-decision"):
            tally.decisions.append(decision)
        if status == 503 and b"audit_unavailable" not in reply.body:
            tally.overloaded += 1
        elif status != allowed:
            code = re.search(rb'"code": ?"([a-z_]{1,40})"', reply.body)
            tally.fault(f"{name}: got {status} {code[1].decode() if code else ''}, expected {allowed}")
        elif own and not degraded and own not in reply.text() and b"content_filter" not in reply.body:
            tally.fault(f"{name}: the answer is not this client's, or not whole")

    def ended(self, name: str, reply: Reply, end: bytes) -> None:
        """A stream must end so."""
        if reply.status == 200 and end not in reply.body[-400:]:
            self.tally.fault(f"{name}: the stream ended without {end.decode()}")


@dataclass(frozen=True)
class Way:
    """One kind of client, and how many of a thousand are of it."""

    name: str
    weight: int
    go: Callable[[Crowd, str, random.Random], Awaitable[None]]


def word(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_lowercase, k=9))
