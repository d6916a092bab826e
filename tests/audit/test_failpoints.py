"""Every call to the file system fails once: what was acknowledged is in the log, and nothing is synced twice after an error.

The calls are counted by wrapping all methods of Disk, so a new call site is covered by being there.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import inspect
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from moderation.audit.bundle import Bundles
from moderation.audit.disk import Disk
from moderation.audit.index import Index
from moderation.audit.record import policy_activate
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.audit.writer import Limits
from moderation.errors import LogError
from tests.audit.mini_verifier import check
from tests.audit.samples import ENGINE, POLICY, closed, decided, leaves_of, opened, ulid
from tests.audit.test_store import until

LIMITS = Limits(roll_bytes=3500, checkpoint_every=0.0, reopen_every=0.002, lag=0.001)
READS = {"read", "names", "inode", "room"}
"""Calls that change nothing; they fail like the others."""


@dataclass
class Failing(Disk):
    """Fails calls by their number, and keeps account of what was synced after an error."""

    fails: Callable[[int, str], int | None] = lambda number, name: None
    half: bool = False
    """Whether a write that fails leaves the first half."""
    kill: bool = False
    """Whether the process dies in place of an error."""
    calls: list[str] = field(default_factory=list)
    hit: str = ""
    held: dict[tuple[int, int], int] = field(default_factory=dict)
    """Files of which a sync failed; held open, so that no other file gets their number."""
    again: list[str] = field(default_factory=list)
    """Writes and syncs of such a file after its error."""
    lock_: Any = field(default_factory=threading.RLock)

    def before(self, name: str, arguments: tuple[object, ...]) -> None:
        with self.lock_:
            number = len(self.calls)
            self.calls.append(name)
            code = self.fails(number, name)
        fd = arguments[0] if arguments and name in ("write", "fdatasync", "fsync", "cut") else None
        if isinstance(fd, int):
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) in self.held:
                self.again.append(name)
        if code is None:
            return
        self.hit = name
        if isinstance(fd, int):
            if name == "write" and self.half and isinstance(arguments[1], bytes):
                os.write(fd, arguments[1][: len(arguments[1]) // 2])
            if name in ("fdatasync", "fsync") and stat.S_ISREG(found.st_mode):
                self.held[(found.st_dev, found.st_ino)] = os.dup(fd)
        if name == "close" and isinstance(arguments[0], int):
            os.close(arguments[0])  # as Linux does: the number is free, whatever it says
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(code, errno.errorcode[code])

    def release(self) -> None:
        for fd in self.held.values():
            os.close(fd)


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: thousands of fsyncs on a busy disk take minutes."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else None) as folder:
        yield Path(folder)


def _wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def call(self: Failing, *arguments: Any, **more: Any) -> Any:
        self.before(name, arguments)
        return real(self, *arguments, **more)

    return call


for _name, _real in inspect.getmembers(Disk, inspect.isfunction):
    if not _name.startswith("_"):
        setattr(Failing, _name, _wrapped(_name, _real))


def test_the_disk_asks_the_system_by_its_own_methods_alone() -> None:
    """A call to the system that stands in a method beside others could fail where no test can make it fail."""
    for name, method in inspect.getmembers(Disk, inspect.isfunction):
        source = inspect.getsource(method)
        assert source.count("os.") - source.count("os.O_") - source.count("os.getpid") <= 1, name


@dataclass
class Told:
    """What a writer was told."""

    done: list[int] = field(default_factory=list)
    """Requests of which every leaf was acknowledged."""
    refused: int = 0
    error: str = ""


async def session(data: Path, disk: Disk, told: Told, requests: range) -> None:
    """A short life: a policy, some requests, strict and fast, over several files, with time to recover between them."""
    log = Log.open(data, disk=disk, limits=LIMITS)
    try:
        files = {"policy.yaml": b"format: 1\n"}
        try:
            await asyncio.to_thread(Bundles(data, disk).keep, POLICY.hash, files)
            await log.append(policy_activate(POLICY, engine=ENGINE, files=files, previous=None, signed=False), strict=True)
        except LogError:
            # As the server does: without a policy that is recorded nothing is served.
            told.refused += 1
            return
        for number in requests:
            await until(lambda: log.latched is None)
            strict, request = number % 3 != 2, ulid(number)
            try:
                await log.append(opened(request), strict=strict)
                await log.append_all(leaves_of(decided(request)), strict=strict)
                await log.append(closed(request, 1), strict=strict)
            except LogError:
                told.refused += 1
                continue
            if strict:
                told.done.append(number)
    finally:
        await log.close()


def live(data: Path, disk: Disk, requests: range) -> Told:
    told = Told()
    try:
        asyncio.run(session(data, disk, told, requests))
    except LogError as error:
        told.refused += 1
        told.error = str(error)
    return told


def judge(data: Path, *lives: Told) -> list[dict[str, Any]]:
    """The next start, on a sound disk: it begins, loses nothing, and the log verifies."""
    after = live(data, Disk(), range(900, 901))
    assert (after.done, after.refused) == ([900], 0), after.error
    report = verify(data)
    assert report.exit_code == 0, report.faults
    leaves = check(data / "log-0")
    closes = [leaf["req"] for leaf in leaves if leaf["kind"] == "close"]
    assert len(closes) == len(set(closes))
    completed = {leaf["req"] for leaf in leaves if leaf["kind"] == "close" and leaf["outcome"] == "completed"}
    wanted = {ulid(number) for told in lives for number in told.done}
    assert wanted <= completed
    with Index(data) as index:
        index.catch_up()
        for request in wanted:
            assert [leaf["kind"] for leaf in index.leaves(request)] == ["open", "decision", "close"]
    return leaves


def count(memory: Path, requests: range) -> list[str]:
    """The calls of a life in which nothing fails."""
    disk = Failing()
    assert live(memory / "count", disk, requests).done == [number for number in requests if number % 3 != 2]
    return disk.calls


def test_a_life_makes_every_kind_of_call(memory: Path) -> None:
    calls = set(count(memory, range(5)))
    every = {name for name, _ in inspect.getmembers(Disk, inspect.isfunction) if not name.startswith("_")}
    # A life without errors never cuts, and has room; what follows an error does both.
    assert every - calls == {"truncate", "cut", "room"} - calls


MODES = [
    ("EIO once", errno.EIO, 1, False), ("no space once, and half of what was to be written", errno.ENOSPC, 1, True),
    ("EIO, and once more for each step of going on", errno.EIO, 7, False),
]


@pytest.mark.parametrize(("note", "code", "times", "half"), MODES, ids=[mode[0] for mode in MODES])
def test_each_call_fails_in_turn(memory: Path, note: str, code: int, times: int, half: bool) -> None:
    calls = count(memory, range(3))
    assert len(calls) > 80
    refused = 0
    for at in range(0, len(calls) + 10, 1 if times == 1 else 3):
        if half and at < len(calls) and calls[at] != "write":
            continue
        data = memory / str(at)
        # Every second call of those that follow: so that each step of going on is reached, and fails once.
        disk = Failing(fails=lambda number, name, at=at: code if at <= number < at + 2 * times and not (number - at) % 2 else None, half=half)  # type: ignore[misc]
        told = live(data, disk, range(3))
        assert disk.again == [], (at, disk.hit)
        disk.release()
        refused += told.refused
        leaves = judge(data, told)
        gaps = sum(leaf["kind"] == "gap" for leaf in leaves)
        assert gaps <= times
    assert refused > 0


def test_killed_at_each_call(memory: Path) -> None:
    """kill -9 before each call, those of the keys, the checkpoint and the kept policy too."""
    class Piped(list[int]):
        def append(self, number: int) -> None:
            os.write(into, b"%d\n" % number)

    calls = count(memory, range(2))
    for at in [number for number, name in enumerate(calls) if name not in READS]:
        data = memory / str(at)
        out, into = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                disk = Failing(fails=lambda number, name, at=at: errno.EIO if number == at else None, kill=True, half=bool(at % 2))  # type: ignore[misc]
                asyncio.run(session(data, disk, Told(Piped()), range(2)))
            finally:
                os._exit(0)
        os.close(into)
        with os.fdopen(out, "rb") as pipe:
            told = Told([int(line) for line in pipe.read().split()])
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status == -signal.SIGKILL or at > len(calls) - 5, (at, status)
        judge(data, told)
