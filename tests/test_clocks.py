"""Clocks that jump: the order of the log, request ids, searches and time-outs do not depend on what time it is said to be.

P10. Wall time is a claim in leaves and the first half of request ids; everything that waits uses the clock that never goes back.
"""

from __future__ import annotations

import ast
import asyncio
from pathlib import Path

import pytest

from moderation.audit.index import Index, Query
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.audit.writer import Limits
from tests.audit.mini_verifier import check
from tests.audit.samples import activation, closed, decided, leaves_of, opened, ulid
from tests.audit.test_store import until
from tests.fakes import json_script, sse, stream_script
from tests.kitchen import Kitchen, answer, chunk
from tests.test_architecture import sources

NOW = 1_795_000_000_000_000
HOUR = 3600 * 1_000_000


class Jumping:
    """A wall clock that a test sets, and a true monotonic one."""

    def __init__(self) -> None:
        self.now = NOW
        self.passed = 0

    def wall(self) -> int:
        return self.now

    def mono(self) -> int:
        self.passed += 1000
        return self.passed


JUMPS = [("forwards", [5 * HOUR]), ("backwards", [-5 * HOUR]), ("to 1970", [-NOW]), ("before 1970", [-NOW - HOUR]),
         ("to and fro", [HOUR, -3 * HOUR, 40 * HOUR, -39 * HOUR]), ("a year", [24 * 365 * HOUR])]


@pytest.mark.parametrize(("note", "jumps"), JUMPS, ids=[jump[0] for jump in JUMPS])
def test_a_sidecar_whose_clock_jumps(tmp_path: Path, note: str, jumps: list[int]) -> None:
    clock = Jumping()
    streamed = stream_script(*sse(chunk({"content": "One. "}), chunk({}, "stop")))

    async def go() -> None:
        async with Kitchen(tmp_path, *[json_script(answer("ok")), streamed] * 6, clock=clock) as kitchen:
            seen: list[str] = []
            times: list[int] = []
            for jump in [0, *jumps]:
                clock.now += jump
                for stream in (False, True):
                    reply = await kitchen.chat("hi", stream=stream)
                    assert (reply.status, reply.header("x-moderation-degraded")) == (200, None)
                    seen.append(reply.header("x-request-id") or "")
                    times.append(clock.now)
            assert len(set(seen)) == len(seen)
            rows = {row.request_id: row for row in kitchen.rows()}
            assert [rows[request].ts for request in seen] == times
            with Index(kitchen.data) as index:
                index.catch_up()
                since = {row.request_id for row in index.find(Query(since=clock.now, until=clock.now + 1))}
            assert since == {request for request, time in zip(seen, times, strict=True) if time == clock.now}
            leaves = [leaf for leaf in check(kitchen.data / "log-0") if leaf["kind"] == "open"]
            assert [leaf["req"] for leaf in leaves] == seen, "the log keeps the order in which things came"
            assert [leaf["mono"] for leaf in leaves] == sorted(leaf["mono"] for leaf in leaves)

    asyncio.run(go())


@pytest.mark.parametrize("jump", [3 * HOUR, -3 * HOUR, -NOW])
def test_the_logs_own_times_do_not_jump(tmp_path: Path, jump: int) -> None:
    """Checkpoints, rolling, and what may be open at the end."""
    clock = Jumping()

    async def run() -> None:
        log = Log.open(tmp_path, clock=clock, limits=Limits(checkpoint_every=0.02))
        await log.append(activation(tmp_path), strict=True)
        await log.append(opened(ulid(1)), strict=True)
        clock.now += jump
        await log.append(opened(ulid(2)), strict=True)
        await log.append_all(leaves_of(decided(ulid(2))), strict=True)
        await log.append(closed(ulid(2), 1), strict=True)
        await until(lambda: (tmp_path / "log-0" / "checkpoint").read_text().split("\n")[1] == str(log.size))
        assert len(list((tmp_path / "log-0").glob("*.qseg"))) == 1
        # As a kill leaves it: not in use, and a request open that began hours ago by the wall clock.
        copy = tmp_path / "copy"
        (copy / "log-0").mkdir(parents=True)
        for path in (tmp_path / "log-0").iterdir():
            (copy / "log-0" / path.name).write_bytes(path.read_bytes())
        (tmp_path / "policies").rename(copy / "policies")
        report = verify(copy)
        assert (report.exit_code, report.logs[0].open) == (0, 1), report.faults
        (copy / "policies").rename(tmp_path / "policies")
        await log.close()

    asyncio.run(run())
    assert [leaf["ts"] - NOW for leaf in check(tmp_path / "log-0") if leaf["kind"] == "open"] == [0, jump]


WALL = {"audit.clock": 1, "detect.http": 1, "oplog": 1, "flow.policies": 1, "house": 1, "doctor.machine": 1, "cli.audit": 1, "cli.policy": 1, "cli.tryout": 1}
"""Files that may ask what time it is, and how often: the one clock of the log, stamps for people and metrics, what a judge wants signed, and commands."""


def test_nobody_else_asks_what_time_it_is() -> None:
    """A time-out by the wall clock would fire, or never end, when that is set."""
    asked: dict[str, int] = {}
    for name, tree in sources().items():
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id="time"), attr="time" | "time_ns" | "localtime" | "gmtime"):
                    asked[name] = asked.get(name, 0) + 1
                case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr="now" | "utcnow" | "today"):
                    asked[name] = asked.get(name, 0) + 1
                case _:
                    pass
    assert asked == WALL
