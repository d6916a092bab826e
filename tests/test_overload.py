"""Three times as much as it can do: it refuses early, finishes what it took, and is itself again at once.

A real process, and a client and an upstream that cost little beside it. What it can do is measured first, so nothing here depends
on the machine; nothing is asserted about times.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from moderation.audit.verify import verify
from tests.fakes import FakeUpstream, Reply, ask, json_script
from tests.kitchen import answer
from tests.test_server import Process

# Numbers that look like what detectors look for and are none: dear to read, and cheap to send.
WORDS = "call 1380013 or 86-138-0013, card 4111 1111 1111 1112, id 110105194912310020, mail anna at example.com, see 10.0.0.300 "
HEADERS = [("content-type", "application/json"), ("connection", "close")]
MIB = 1 << 20


@dataclass
class Load:
    """Requests of one size, none like another, and what became of them."""

    port: int
    size: int
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    """What no answer may be."""

    def __post_init__(self) -> None:
        self._rest = WORDS * (self.size // len(WORDS)) + '"}]}'

    def body(self) -> bytes:
        self.sent += 1
        return f'{{"messages": [{{"role": "user", "content": "{self.sent} of {self.size} {self._rest}'.encode()

    async def one(self) -> None:
        reply = await ask(self.port, "POST", "/v1/chat/completions", self.body(), HEADERS)
        await reply.read_all()
        self.statuses[reply.status] += 1
        self.odd += _odd(reply)

    async def closed(self, clients: int, seconds: float) -> float:
        """Requests served in a second where each client waits for its answer."""
        end, before = time.monotonic() + seconds, self.statuses[200]

        async def client() -> None:
            while time.monotonic() < end:
                await self.one()

        begun = time.monotonic()
        await asyncio.gather(*(client() for _ in range(clients)))
        return (self.statuses[200] - before) / (time.monotonic() - begun)

    async def open(self, rate: float, seconds: float, most: int) -> None:
        """So many requests a second, whether answered or not."""
        tasks: list[asyncio.Task[None]] = []
        begun = time.monotonic()
        while (gone := time.monotonic() - begun) < seconds and len(tasks) < most:
            due = min(most, int(rate * gone)) - len(tasks)
            tasks += [asyncio.create_task(self.one()) for _ in range(due)]
            await asyncio.sleep(0.01)
        await asyncio.gather(*tasks)


def _odd(reply: Reply) -> list[str]:
    found = []
    if reply.status not in (200, 503):
        found.append(f"status {reply.status}: {reply.body[:200]!r}")
    if reply.header("x-moderation-degraded"):
        found.append("degraded")
    if reply.status == 503 and (reply.json["error"]["code"] != "overloaded" or not reply.header("retry-after")):
        found.append(f"a 503 that is not ours: {reply.head!r}")
    return found


def resident(process: Process) -> int:
    """Bytes."""
    found = re.search(r"VmRSS:\s+([0-9]+) kB", Path(f"/proc/{process.child.pid}/status").read_text())
    assert found
    return int(found[1]) << 10


async def metrics(port: int) -> dict[str, float]:
    reply = await ask(port, "GET", "/metrics", b"", HEADERS)
    assert reply.status == 200, "who watches is never refused"
    await reply.read_all()
    lines = [line.rpartition(" ") for line in reply.body.decode().split("\n") if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


SIZES = [
    (3_000, "short prompts, judged in the event loop"),
    (40_000, "long prompts, which wait for threads"),
]


@pytest.mark.parametrize(("size", "note"), SIZES, ids=[row[1] for row in SIZES])
def test_three_times_the_capacity(tmp_path: Path, size: int, note: str) -> None:
    async def go(process: Process) -> None:
        load = Load(process.port, size)
        await load.closed(2, 0.3)  # what is built with the first request is built
        capacity = await load.closed(8, 0.6)
        before = resident(process)
        await load.open(3 * capacity, 1.0, 1000)
        middle = resident(process)
        await load.open(3 * capacity, 1.0, 1000)
        after = resident(process)
        assert load.odd == []
        assert load.statuses[503], "so much more than it can do, and nothing was refused"
        told = await metrics(process.port)
        assert sum(value for name, value in told.items() if name.startswith("moderation_detector_unknown_total")) == 0
        assert sum(value for name, value in told.items() if name.startswith("moderation_degraded_total")) == 0
        assert told.get('moderation_admission_refused_total{reason="waiting"}', 0) == load.statuses[503]
        assert told["moderation_in_flight"] == 0
        assert middle - before < 150 * MIB
        assert after - middle < 50 * MIB, "it grows with what is refused or finished"
        last = Load(process.port, 100)
        await last.one()
        assert (last.statuses, last.odd) == ({200: 1}, []), "when it is over, it is over"

    async def main() -> None:
        async with FakeUpstream(json_script(answer())) as upstream:
            flags = ("--max-wait", "300ms", "--cache", "64KiB")
            process = await asyncio.to_thread(
                lambda: Process(*flags, data=tmp_path / "data", upstream=upstream.base).ready()
            )
            try:
                await go(process)
                assert await asyncio.to_thread(process.end) == 0
            finally:
                process.child.kill()

    asyncio.run(asyncio.wait_for(main(), 60))
    assert verify(tmp_path / "data").exit_code == 0
