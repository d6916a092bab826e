"""A writer that dies anywhere: nothing that was acknowledged is lost, nothing is there twice, and the log verifies.

P2, P3, P5 of the log's promises. Writers run as processes of their own and tell what was acknowledged through a pipe.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moderation.audit.disk import Disk
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.audit.writer import Limits
from moderation.errors import LogError
from tests.audit.mini_verifier import check
from tests.audit.samples import activation, closed, decided, fill, leaves_of, opened, ulid

LIMITS = Limits(roll_bytes=6000, checkpoint_every=0.005, checkpoint_leaves=7, lag=0.002)


async def _write(data: Path, disk: Disk, acknowledge: Callable[[int], object], requests: range, strict: bool) -> None:
    log = Log.open(data, disk=disk, limits=LIMITS)
    await log.append(activation(data), strict=True)

    async def one(number: int) -> None:
        await log.append(opened(ulid(number)), strict=strict)
        await log.append_all(leaves_of(decided(ulid(number))), strict=strict)
        await log.append(closed(ulid(number), 1), strict=strict)
        acknowledge(number)

    for start in range(requests.start, requests.stop, 4):
        await asyncio.gather(*(one(number) for number in range(start, min(start + 4, requests.stop))))
    await log.close()


def writer(data: Path, disk: Disk, requests: range, strict: bool) -> tuple[int, list[int]]:
    """Run a writer in a forked process. Gives how it ended (minus the signal) and the requests it was told are recorded."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(_write(data, disk, lambda number: os.write(into, b"%d\n" % number), requests, strict))
            status = 0
        except LogError:
            status = 74
        finally:
            os._exit(status)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        told = [int(line) for line in pipe.read().split()]
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), told


def recorded(data: Path) -> list[dict[str, object]]:
    """Open and close the log as the next start does, then read all of it with the independent verifier."""
    async def restart() -> None:
        log = Log.open(data)
        await log.close()

    asyncio.run(restart())
    report = verify(data)
    assert report.exit_code == 0, report.faults
    return check(data / "log-0")


def judge(data: Path, told: list[int]) -> None:
    leaves = recorded(data)
    closes = [leaf["req"] for leaf in leaves if leaf["kind"] == "close"]
    assert len(closes) == len(set(closes))
    done = {leaf["req"] for leaf in leaves if leaf["kind"] == "close" and leaf["outcome"] == "completed"}
    assert {ulid(number) for number in told} <= done
    opens = [leaf["req"] for leaf in leaves if leaf["kind"] == "open"]
    assert len(opens) == len(set(opens))
    assert set(opens) == set(closes)


class DiesAt(Disk):
    """Kills the process at the n-th call, before it or after half of it."""

    def __init__(self, at: int, half: bool) -> None:
        self._left, self._half = at, half

    def _step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, fd: int, data: bytes) -> None:
        if self._half and self._left == 1:
            super().write(fd, data[: len(data) // 2])
        self._step()
        super().write(fd, data)

    def fdatasync(self, fd: int) -> None:
        self._step()
        super().fdatasync(fd)

    def open_append(self, path: Path) -> int:
        self._step()
        return super().open_append(path)

    def truncate(self, path: Path, size: int) -> None:
        self._step()
        super().truncate(path, size)
        self._step()


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("strict", [True, False])
def test_killed_at_every_step(tmp_path: Path, strict: bool, half: bool) -> None:
    """P2 with failpoints: each write, sync, file change and recovery step of a short life is the last one once."""
    done = 0
    for at in range(1, 60):
        data = tmp_path / str(at)
        status, told = writer(data, DiesAt(at, half), range(1, 9), strict)
        if status == 0:
            done += 1
            break
        assert status == -signal.SIGKILL
        judge(data, told)
        shutil.rmtree(data)
    assert done or at > 40


@pytest.mark.parametrize("half", [False, True])
def test_killed_while_recovering(tmp_path: Path, half: bool) -> None:
    folder = fill(tmp_path / "sound")
    whole = (folder / "seg-0.qseg").read_bytes()
    torn = whole + whole[100:400]
    for at in range(1, 12):
        data = tmp_path / str(at)
        shutil.copytree(tmp_path / "sound", data)
        (data / "log-0" / "seg-0.qseg").write_bytes(torn)
        status, _ = writer(data, DiesAt(at, half), range(50, 52), True)
        leaves = recorded(data)
        kept = [path.read_bytes() for path in (data / "log-0").glob("*.torn-*")]
        assert kept.count(whole[100:400]) == 1
        assert len(kept) == 1 or half  # half a write more, torn off at the same byte or later
        assert sum(leaf["kind"] == "recovery" for leaf in leaves) == len(kept)
        if status == 0:
            break


WRITER = """
import sys, asyncio, pathlib
from moderation.audit.disk import Disk
from tests.audit.test_crash import _write
data, first = pathlib.Path(sys.argv[1]), int(sys.argv[2])
asyncio.run(_write(data, Disk(), lambda n: print(n, flush=True), range(first, first + 100000), True))
"""


def test_killed_at_random(tmp_path: Path) -> None:
    """P2: kill -9 at moments that nobody chose, again and again on one log."""
    rng = random.Random(7)
    told: list[int] = []
    for life in range(6):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(1 + life * 100_000)], stdout=subprocess.PIPE,
                                 cwd=Path(__file__).parents[2])
        assert child.stdout is not None
        assert child.stdout.readline()
        time.sleep(rng.random() * 0.1)
        child.kill()
        told += [int(line) for line in child.stdout.read().split()]
        child.wait()
        child.stdout.close()
    judge(tmp_path, told)


def test_cut_at_every_byte(tmp_path: Path) -> None:
    """P3 on a folder, where no checkpoint covers what is cut: recovery keeps exactly what was committed, and the torn bytes."""
    async def crash(data: Path) -> None:
        log = Log.open(data, limits=Limits(checkpoint_every=3600))
        await log.append(activation(data), strict=True)
        await log.append(opened(ulid(1)), strict=True)
        await log.append_all(leaves_of(decided(ulid(1))), strict=True)

    sound = tmp_path / "sound"
    child = os.fork()
    if child == 0:
        asyncio.run(crash(sound))
        os._exit(0)  # without closing
    assert os.waitpid(child, 0)[1] == 0
    data = (sound / "log-0" / "seg-0.qseg").read_bytes()
    boot = int((sound / "log-0" / "checkpoint").read_text().split("\n")[1])
    assert boot == 1
    ends = [i + 53 for i in range(len(data)) if data[i : i + 4] == b"\x00\x00\x00\x2d"]
    for cut in range(ends[0], len(data), 7):
        copy = tmp_path / "copy"
        shutil.copytree(sound, copy)
        os.truncate(copy / "log-0" / "seg-0.qseg", cut)
        before = verify(copy)
        assert before.exit_code == 0, (cut, before.faults)
        assert any("torn tail" in note for note in before.notes) == (cut not in ends)
        leaves = recorded(copy)
        kept = sum(end <= cut for end in ends)
        assert [leaf["kind"] for leaf in leaves][:kept] == ["log_open", "policy_activate", "open", "decision"][:kept]
        torn = [p.read_bytes() for p in (copy / "log-0").glob("*.torn-*")]
        assert torn == ([] if cut in ends else [data[max(end for end in ends if end <= cut) : cut]])
        assert sum(leaf["kind"] == "recovery" for leaf in leaves) == len(torn)
        shutil.rmtree(copy)


def test_file_size_limit(tmp_path: Path) -> None:
    """P5: a real write error, half-way through a batch, from the system itself."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            asyncio.run(_limited(tmp_path))
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    leaves = recorded(tmp_path)
    opens = sum(leaf["kind"] == "open" for leaf in leaves)
    assert opens == int((tmp_path / "told").read_text())
    assert [leaf["lost"] for leaf in leaves if leaf["kind"] == "gap"] == [2]


async def _limited(data: Path) -> None:
    log = Log.open(data, limits=Limits(reopen_every=0.03))
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
    told = 0
    try:
        while True:
            await log.append(opened(ulid(told)), strict=True)
            told += 1
    except LogError:
        assert _is_down(log)
    try:
        await log.append(opened(ulid(999)), strict=False)
    except LogError:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (data / "told").write_text(str(told))
    for _ in range(500):
        await asyncio.sleep(0.01)
        if not _is_down(log):
            break
    await log.close()


def _is_down(log: Log) -> bool:
    return log.latched is not None
