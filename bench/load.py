"""The load generator: N clients that ask one after the other, over connections that are kept. Prints its measurements as JSON.

`python -m bench.load SHAPE`, a JSON object with the fields of `Shape`. It reads each answer to its end and notes, in
microseconds: the whole time, the time to the first event, and for each event of a stream how long it took from the upstream's
socket to here. No prompt comes twice, so that nothing has been judged before but the system prompt and the history of a chat, as
in real life.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import monotonic_ns
from typing import cast

import uvloop

from bench.upstream import CHUNKS, PLACE, word

PROMPT = ("Please read the following note and tell me in plain words what it asks of us. The garden club meets on the second "
          "Thursday of each month in the small hall behind the library. Members bring cuttings, seeds and questions. Last time "
          "we spoke about roses that do not flower, about moss in the lawn, and about whether coffee grounds keep slugs away. "
          "This month a visitor from the botanical garden will show slides of alpine plants, and we would like someone to "
          "bring a projector, someone to make tea.")[:489]
_DELTA = re.compile(rb'"finish_reason":')
_SENT = re.compile(rb": sent ([0-9,]+)")


CHARS = len(PLACE) + 2 + len(PROMPT)
"""Code points of a prompt, if nothing else is said."""


@dataclass(frozen=True)
class Shape:
    """What is asked, and how."""

    port: int
    clients: int = 1
    requests: int = 1
    """By all clients together; of a chat, how many chats."""
    stream: bool = False
    gap_ms: float = 0.0
    """Between the chunks of a stream."""
    chars: int = CHARS
    """Code points of a prompt."""
    turns: int = 1
    """Of a chat that sends its whole history with each of them."""

    def json(self) -> str:
        return json.dumps(asdict(self))


def prompt(chars: int) -> str:
    """A prompt with a place for a word of its own."""
    return f"{PLACE.decode()}: {PROMPT} {f'{PROMPT} ' * (chars // len(PROMPT))}"[:chars]


def request(port: int, stream: bool, gap_ms: float, chars: int = CHARS, history: Sequence[dict[str, str]] = ()) -> bytes:
    """A request with a place for a word of its own in its prompt."""
    system = {"role": "system", "content": "You are a helpful assistant."}
    messages = [system, *history, {"role": "user", "content": prompt(chars)}]
    body = json.dumps({"model": "qwen3.5-plus", "messages": messages, "stream": stream, "gap_ms": gap_ms}).encode()
    return (f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nuser-agent: bench\r\naccept: */*\r\n"
            "authorization: Bearer sk-bench\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n").encode() + body


class Client(asyncio.Protocol):
    """One connection; `answered` is resolved as each answer is whole."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.whole: list[int] = []
        self.first: list[int] = []
        self.events: list[int] = []
        self.body = b""
        """Of the last answer."""
        self._raw = b""
        self._started = 0
        self._seen = 0
        self._arrived: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, raw: bytes) -> asyncio.Future[None]:
        self.answered = asyncio.get_running_loop().create_future()
        self._raw, self._seen, self._arrived = b"", 0, []
        self._started = monotonic_ns()
        self.transport.write(raw)
        return self.answered

    def data_received(self, data: bytes) -> None:
        now = monotonic_ns()
        start = max(0, len(self._raw) - 32)
        self._raw += data
        head, ended, body = self._raw.partition(b"\r\n\r\n")
        if not ended:
            return
        if not self._raw.startswith(b"HTTP/1.1 200"):
            self.answered.set_exception(RuntimeError(f"not 200: {self._raw[:300]!r}"))
            return
        for mark in _DELTA.finditer(self._raw, start):
            if mark.end() > self._seen:
                if not self._seen:
                    self.first.append((now - self._started) // 1000)
                self._seen = mark.end()
                self._arrived.append(now)
        length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
        if len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n"):
            self.whole.append((now - self._started) // 1000)
            self.body = body
            sent = _SENT.search(self._raw)
            if sent and self._arrived:
                times = zip(self._arrived, map(int, sent[1].split(b",")), strict=True)
                self.events += [(arrived - at) // 1000 for arrived, at in times]
            self.answered.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(error or ConnectionError("the server dropped the connection"))


async def load(shape: Shape) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    raw = request(shape.port, shape.stream, shape.gap_ms, shape.chars)
    number = itertools.count(monotonic_ns() // 1000)
    people = [(await loop.create_connection(Client, "127.0.0.1", shape.port))[1] for _ in range(shape.clients)]
    turns: list[list[int]] = [[] for _ in range(shape.turns)]

    async def talk(client: Client) -> None:
        for _ in range(shape.requests // shape.clients):
            if shape.turns == 1:
                await client.ask(raw.replace(PLACE, word(next(number)), 1))
            else:
                await chat(client)

    async def chat(client: Client) -> None:
        history: list[dict[str, str]] = []
        for taken in turns:
            own = word(next(number))
            await client.ask(request(shape.port, False, 0.0, shape.chars, history).replace(PLACE, own, 1))
            taken.append(client.whole[-1])
            said = json.loads(client.body)["choices"][0]["message"]["content"]
            history += [{"role": "user", "content": prompt(shape.chars).replace(PLACE.decode(), own.decode(), 1)},
                        {"role": "assistant", "content": said}]

    began = monotonic_ns()
    await asyncio.gather(*map(talk, people))
    seconds = (monotonic_ns() - began) / 1e9
    for client in people:
        client.transport.close()
    whole = [each for client in people for each in client.whole]
    events = [each for client in people for each in client.events]
    if shape.stream and len(events) != len(whole) * CHUNKS:
        raise RuntimeError(f"{len(events)} events of {len(whole) * CHUNKS} arrived")
    first = [each for client in people for each in client.first]
    return {"whole": whole, "first": first, "events": events, "turns": turns, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(load(Shape(**json.loads(sys.argv[1]))))))
