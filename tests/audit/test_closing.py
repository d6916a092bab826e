"""The end of a log and the gaps in it: one close for each open, whoever comes late, and a gap says since when."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation.audit.disk import Disk
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.audit.writer import Limits
from moderation.errors import LogError
from tests.audit.mini_verifier import check
from tests.audit.samples import BrokenDisk, activation, closed, decided, fill, leaves_of, opened, ulid
from tests.audit.test_store import QUICK, until


class Held(Disk):
    """A disk that is slow when it is told to be."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    def fdatasync(self, fd: int) -> None:
        assert self.go.wait(5)
        super().fdatasync(fd)


def sound(data: Path) -> list[dict[str, Any]]:
    report = verify(data)
    assert report.exit_code == 0, report.faults
    leaves = check(data / "log-0")
    opens, closes = (Counter(leaf["req"] for leaf in leaves if leaf["kind"] == kind) for kind in ("open", "close"))
    assert opens == closes
    assert set(closes.values()) <= {1}
    return leaves


async def alive(log: Log, number: int, strict: bool, pauses: int) -> None:
    """A call that goes on while the log is closed under it."""
    with contextlib.suppress(LogError):
        await log.append(opened(ulid(number)), strict=strict)
        for _ in range(pauses):
            await asyncio.sleep(0)
        await log.append_all(leaves_of(decided(ulid(number))), strict=strict)
        await log.append(closed(ulid(number), 1), strict=strict)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), min_size=1, max_size=12), st.integers(0, 60))
def test_calls_that_end_while_the_log_closes(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[bool, int]], wait: int,
) -> None:
    data = tmp_path_factory.mktemp("data")

    async def run() -> None:
        log = Log.open(data)
        await log.append(activation(data), strict=True)
        tasks = [asyncio.create_task(alive(log, number, *call)) for number, call in enumerate(calls)]
        for _ in range(wait):
            await asyncio.sleep(0)
        await log.close()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    sound(data)
    fill(data, [77])
    sound(data)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("when", "outcome"), [("before", "completed"), ("while", "interrupted"), ("after", "interrupted")])
def test_a_close_beside_the_end_of_the_log(tmp_path: Path, when: str, outcome: str, strict: bool) -> None:
    """The disk is slow, the log is told to close, and the request's own close comes just then."""
    disk = Held()

    async def run() -> None:
        log = Log.open(tmp_path, disk=disk)
        await log.append(opened(ulid(1)), strict=True)
        disk.go.clear()
        other = asyncio.create_task(log.append(opened(ulid(2)), strict=True))
        await asyncio.sleep(0.03)
        last = closed(ulid(1), 0)
        own = asyncio.create_task(log.append(last, strict=strict)) if when == "before" else None
        await asyncio.sleep(0)
        end = asyncio.create_task(log.close())
        await asyncio.sleep(0.01)
        if when == "while":
            with pytest.raises(LogError, match="closed"):
                await log.append(last, strict=strict)
        disk.go.set()
        await end
        await other
        if own:
            await own
        if when == "after":
            with pytest.raises(LogError, match="closed"):
                await log.append_all([*leaves_of(decided(ulid(1))), last], strict=strict)

    asyncio.run(run())
    ends = {leaf["req"]: leaf["outcome"] for leaf in sound(tmp_path) if leaf["kind"] == "close"}
    assert ends == {ulid(1): outcome, ulid(2): "interrupted"}


@pytest.mark.parametrize("call", ["write", "fdatasync", "replace checkpoint"])
def test_an_error_at_the_very_end_is_made_good(tmp_path: Path, call: str) -> None:
    armed = [False]

    def fail(name: str, _: int) -> int | None:
        if armed[0] and name == call:
            armed[0] = False
            return errno.EIO
        return None

    async def run() -> None:
        log = Log.open(tmp_path, disk=BrokenDisk(fail), limits=Limits(checkpoint_every=3600))
        await log.append(opened(ulid(1)), strict=True)
        armed[0] = True
        await log.close()

    asyncio.run(run())
    assert [leaf["kind"] for leaf in sound(tmp_path)] == ["log_open", "open", "close"]


def test_what_waited_while_a_write_failed_is_not_acknowledged(tmp_path: Path) -> None:
    """A fast write fails in one loop while a strict append of another loop is on its way already."""
    class Failing(Disk):
        armed = False
        entered, go = threading.Event(), threading.Event()

        def write(self, fd: int, data: bytes) -> None:
            if self.armed:
                self.armed = False
                self.entered.set()
                assert self.go.wait(5)
                raise OSError(errno.EIO, "EIO")
            super().write(fd, data)

    async def run() -> None:
        disk = Failing()
        log = Log.open(tmp_path, disk=disk, limits=QUICK)
        disk.armed = True

        async def fast() -> None:
            await log.append(opened(ulid(1)), strict=False)

        async def strict() -> int:
            threading.Timer(0.1, disk.go.set).start()  # by then the log's thread has taken it, and waits for the writer
            return await log.append(opened(ulid(2)), strict=True)

        first = asyncio.create_task(asyncio.to_thread(asyncio.run, fast()))
        assert await asyncio.to_thread(disk.entered.wait, 5)
        with pytest.raises(LogError):
            await strict()
        with pytest.raises(LogError):
            await first
        await until(lambda: log.latched is None)
        await log.close()

    asyncio.run(run())
    assert [(leaf["kind"], leaf.get("lost")) for leaf in sound(tmp_path)] == [("log_open", None), ("gap", 2)]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_every_gap_says_since_when(tmp_path: Path, call: str, strict: bool) -> None:
    class Ticking:
        now = 1_000_000

        def wall(self) -> int:
            return 1_700_000_000_000_000 + self.now

        def mono(self) -> int:
            return self.now

    clock, broken = Ticking(), [False]
    disk = BrokenDisk(lambda name, _: errno.EIO if broken[0] and name == call else None)

    async def run() -> list[int]:
        log = Log.open(tmp_path, disk=disk, limits=QUICK, clock=clock)
        times: list[int] = []
        for number in range(3):
            clock.now += 10_000_000
            broken[0] = True
            times.append(clock.wall())
            try:
                await log.append(opened(ulid(number)), strict=strict)
            except LogError:
                assert log.latched is not None
            await until(lambda: log.latched is not None)
            clock.now += 1_000_000
            with pytest.raises(LogError):
                await log.append(opened(ulid(number + 10)), strict=strict)
            broken[0] = False
            await until(lambda: log.latched is None)
        await log.close()
        return times

    times = asyncio.run(run())
    gaps = [leaf for leaf in sound(tmp_path) if leaf["kind"] == "gap"]
    assert [(leaf["since"], leaf["lost"]) for leaf in gaps] == [(time, 2) for time in times]


def test_all_kinds_of_leaves_are_counted(tmp_path: Path) -> None:
    counted: Counter[str] = Counter()
    broken = [False]

    async def run() -> None:
        disk = BrokenDisk(lambda name, _: errno.EIO if broken[0] and name == "fdatasync" else None)
        log = Log.open(tmp_path, disk=disk, limits=QUICK, count=lambda kind, leaves: counted.update({kind: leaves}))
        await log.append(opened(ulid(1)), strict=True)
        await log.append_all(leaves_of(decided(ulid(1))), strict=False)
        await until(lambda: counted["decision"])
        broken[0] = True
        with pytest.raises(LogError):
            await log.append(closed(ulid(1), 1), strict=True)
        broken[0] = False
        await until(lambda: log.latched is None)
        await log.append(opened(ulid(2)), strict=True)
        assert counted["open"] == 2  # told before the one who asked
        await log.close()

    with (fill(tmp_path, [9]) / "seg-0.qseg").open("ab") as file:
        file.write(b"\x00\x00\x01")
    before = len(check_torn(tmp_path))
    asyncio.run(run())
    assert counted == Counter(leaf["kind"] for leaf in sound(tmp_path)[before:])
    assert set(counted) == {"log_open", "recovery", "open", "decision", "close", "gap"}


def check_torn(data: Path) -> list[dict[str, Any]]:
    """The leaves before a torn tail of three bytes."""
    path = data / "log-0" / "seg-0.qseg"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    leaves = check(data / "log-0")
    path.write_bytes(whole)
    return leaves
