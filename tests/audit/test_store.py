"""The log on disk: what is acknowledged stays, what fails latches, and it goes on with a gap that says so."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from moderation.audit.canon import CanonError
from moderation.audit.disk import Disk
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.audit.writer import Limits
from moderation.errors import LogError
from tests.audit.mini_verifier import check
from tests.audit.samples import BrokenDisk, activation, closed, decided, fill, leaves_of, opened, ulid

QUICK = Limits(reopen_every=0.02, checkpoint_every=0.02, lag=0.005)
SLOW = Limits(reopen_every=3600, checkpoint_every=3600, lag=3600)


def kinds(folder: Path) -> list[str]:
    return [leaf["kind"] for leaf in check(folder)]


async def until(fact: Callable[[], object], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "did not happen"
        await asyncio.sleep(0.002)


def test_a_day_in_the_life(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    leaves = check(folder)
    assert [leaf["kind"] for leaf in leaves] == ["log_open", "policy_activate", *["open", "decision", "close"] * 3]
    assert {leaf["log"] for leaf in leaves} == {f"moderation/{os.uname().nodename}/log-0"}
    assert [leaf["mono"] for leaf in leaves] == sorted(leaf["mono"] for leaf in leaves)
    fill(tmp_path, [4])
    leaves = check(folder)
    assert [leaf["kind"] for leaf in leaves[11:]] == ["log_open", "policy_activate", "open", "decision", "close"]
    assert len({leaf["boot"] for leaf in leaves}) == 2
    assert verify(tmp_path).exit_code == 0


@pytest.mark.parametrize("strict", [True, False])
def test_many_at_once_keep_their_order(tmp_path: Path, strict: bool) -> None:
    async def run() -> list[int]:
        log = Log.open(tmp_path)
        parts = tuple(dict(leaves_of(decided())[0], part=i, parts=2) for i in range(2))
        tasks = [asyncio.create_task(log.append_all(parts, strict=strict)) for _ in range(300)]
        indexes = await asyncio.gather(*tasks)
        await log.close()
        return list(indexes)

    assert asyncio.run(run()) == list(range(1, 601, 2))
    assert [leaf.get("part") for leaf in check(tmp_path / "log-0")][1:] == [0, 1] * 300


def test_strict_waits_for_the_disk_and_fast_does_not(tmp_path: Path) -> None:
    class Held(Disk):
        hold = threading.Event()

        def fdatasync(self, fd: int) -> None:
            assert self.hold.wait(5)
            super().fdatasync(fd)

    async def run() -> None:
        disk = Held()
        disk.hold.set()
        log = Log.open(tmp_path, disk=disk)
        disk.hold.clear()
        strict = asyncio.create_task(log.append(opened(ulid(1)), strict=True))
        await asyncio.sleep(0.05)
        assert not strict.done()
        fast = asyncio.create_task(log.append(opened(ulid(2)), strict=False))
        assert await asyncio.wait_for(fast, 1) == 2  # while the fdatasync of the strict one is still held up
        assert not strict.done()
        disk.hold.set()
        assert await strict == 1
        await log.close()

    asyncio.run(run())
    assert kinds(tmp_path / "log-0") == ["log_open", "open", "open", "close", "close"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("limits", "note"), [
    (Limits(), "written at once, and waiting for its fdatasync"),
    (Limits(roll_bytes=1), "taken from the queue, for a file that is full"),
])  # fmt: skip
def test_nobody_waits_for_ever_where_the_logs_thread_ends(tmp_path: Path, limits: Limits, note: str) -> None:
    """Whatever ends it: an error that no disk has told before is one, too."""

    class Odd(Disk):
        armed = False

        def fdatasync(self, fd: int) -> None:
            if self.armed:
                raise ArithmeticError
            super().fdatasync(fd)

    async def run() -> None:
        disk = Odd()
        log = Log.open(tmp_path, disk=disk, limits=limits)
        disk.armed = True
        for number in (1, 2):
            with pytest.raises(LogError, match="thread ended"):
                await asyncio.wait_for(log.append(opened(ulid(number)), strict=True), 5)
        with pytest.raises(LogError):
            await log.close()

    asyncio.run(run())


def test_fast_leaves_are_synced_soon(tmp_path: Path) -> None:
    class Counting(Disk):
        times: list[float] = []

        def fdatasync(self, fd: int) -> None:
            self.times.append(time.monotonic())
            super().fdatasync(fd)

    async def run() -> float:
        disk = Counting()
        log = Log.open(tmp_path, disk=disk)
        disk.times.clear()
        began = time.monotonic()
        for number in range(10):
            await log.append(opened(ulid(number)), strict=False)
        await until(lambda: disk.times)
        await asyncio.sleep(0.1)
        assert len(disk.times) == 1  # one for all ten
        await log.close()
        return disk.times[0] - began

    assert asyncio.run(run()) < 0.2  # 50 ms by design; the rest is for a busy machine


def test_batches_are_told(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    async def run() -> None:
        log = Log.open(tmp_path, observe=lambda leaves, seconds: seen.append((leaves, seconds)))
        await asyncio.gather(*(log.append(opened(ulid(i)), strict=True) for i in range(50)))
        await log.close()

    asyncio.run(run())
    assert sum(leaves for leaves, _ in seen) == 100  # 50 and their closes
    assert len(seen) < 50
    assert all(seconds >= 0 for _, seconds in seen)


def test_a_body_that_is_no_leaf_harms_nobody_else(tmp_path: Path) -> None:
    async def run() -> Sequence[object]:
        log = Log.open(tmp_path)
        results = await asyncio.gather(
            log.append(opened(ulid(1)), strict=True), log.append({"kind": "x", "score": 2**53}, strict=True),
            log.append_all([opened(ulid(2)), {"kind": "x", "text": "\ud800"}], strict=True),
            log.append(closed(ulid(1), 0), strict=True),
            log.append({"kind": "x", "y": "z" * 70_000}, strict=False), return_exceptions=True)
        assert log.latched is None
        await log.close()
        return results

    results = asyncio.run(run())
    assert [results[0], results[3]] == [1, 2]
    assert all(isinstance(results[i], CanonError) for i in (1, 2, 4))
    assert kinds(tmp_path / "log-0") == ["log_open", "open", "close"]


FAULTS = [
    ("write", errno.ENOSPC, False), ("write", errno.ENOSPC, True), ("write", errno.EIO, True), ("fdatasync", errno.EIO, False),
    ("fdatasync", errno.ENOSPC, False),
]


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(("call", "code", "partly"), FAULTS)
def test_an_error_latches_and_the_log_goes_on_with_a_gap(
    tmp_path: Path, call: str, code: int, partly: bool, strict: bool,
) -> None:
    """P5, P6"""
    broken = [False]
    disk = BrokenDisk(lambda name, _: code if broken[0] and name == call else None, partly=partly)

    async def run() -> None:
        log = Log.open(tmp_path, disk=disk, limits=QUICK)
        await log.append(activation(tmp_path), strict=True)
        await log.append(opened(ulid(1)), strict=True)
        await log.append_all(leaves_of(decided(ulid(1))), strict=True)
        broken[0] = True
        try:
            await log.append(opened(ulid(2)), strict=strict)
        except LogError:
            assert log.latched is not None
        else:
            assert not strict
            assert call == "fdatasync"
        await until(lambda: log.latched)
        with pytest.raises(LogError, match="cannot be recorded"):
            await log.append(closed(ulid(1), 1), strict=strict)  # its close is lost
        failed = disk.calls[call]
        await asyncio.sleep(0.1)
        assert log.latched is not None
        broken[0] = False
        await until(lambda: log.latched is None)
        assert disk.calls[call] > failed
        await log.append(opened(ulid(3)), strict=strict)
        await log.append(closed(ulid(3), 0), strict=strict)
        await log.close()

    asyncio.run(run())
    leaves = check(tmp_path / "log-0")
    expected = ["log_open", "policy_activate", "open", "decision", "gap", "close", "open", "close"]
    assert [leaf["kind"] for leaf in leaves] == expected
    assert leaves[4]["lost"] == 2
    assert leaves[4]["cause"] == errno.errorcode[code]
    assert (leaves[5]["req"], leaves[5]["outcome"]) == (ulid(1), "interrupted")
    report = verify(tmp_path)
    assert report.exit_code == 0
    assert report.logs[0].gaps == 2


def test_a_failed_fdatasync_is_not_tried_again(tmp_path: Path) -> None:
    """P6: a second fdatasync after a failed one may say yes although the bytes are gone."""
    calls: list[int] = []

    class OnceBad(Disk):
        armed = False

        def fdatasync(self, fd: int) -> None:
            calls.append(os.fstat(fd).st_ino)
            if self.armed:
                self.armed = False
                raise OSError(errno.EIO, "EIO")
            super().fdatasync(fd)

        def fsync(self, fd: int) -> None:
            calls.append(os.fstat(fd).st_ino)
            super().fsync(fd)

    async def run() -> None:
        disk = OnceBad()
        log = Log.open(tmp_path, disk=disk, limits=QUICK)
        held = os.open(tmp_path / "log-0" / "seg-0.qseg", os.O_RDONLY)  # so that no other file gets its number
        old = os.fstat(held).st_ino
        disk.armed = True
        with pytest.raises(LogError):
            await log.append(opened(ulid(1)), strict=True)
        calls.clear()
        await until(lambda: log.latched is None)
        assert calls
        assert old not in calls
        os.close(held)
        await log.close()

    asyncio.run(run())
    leaves = check(tmp_path / "log-0")
    assert [leaf["kind"] for leaf in leaves] == ["log_open", "gap"]  # the leaf that was written and not synced is cut off
    assert leaves[1]["lost"] == 1
    assert sorted(p.name for p in (tmp_path / "log-0").glob("*.qseg")) == ["seg-0.qseg", "seg-1.qseg"]


@pytest.mark.parametrize("call", ["replace .qseg", "write", "fdatasync", "replace checkpoint", "open_append"])
def test_going_on_may_fail_many_times(tmp_path: Path, call: str) -> None:
    state = ["well"]

    def fail(name: str, _: int) -> int | None:
        if state[0] == "breaks" and name == "write":
            state[0] = "stays broken"
            return errno.ENOSPC
        return errno.ENOSPC if state[0] == "stays broken" and name == call else None

    disk = BrokenDisk(fail, partly=True)

    async def run() -> None:
        log = Log.open(tmp_path, disk=disk, limits=QUICK)
        await log.append(opened(ulid(1)), strict=True)
        state[0] = "breaks"
        with pytest.raises(LogError):
            await log.append_all([opened(ulid(2)), opened(ulid(3))], strict=True)
        await until(lambda: disk.calls.get(call, 0) > 5)
        assert log.latched is not None
        state[0] = "well"
        await until(lambda: log.latched is None)
        await log.append(closed(ulid(1), 0), strict=True)
        await log.close()

    asyncio.run(run())
    leaves = check(tmp_path / "log-0")
    assert [leaf["kind"] for leaf in leaves] == ["log_open", "open", "gap", "close"]
    assert leaves[2]["lost"] == 2
    assert verify(tmp_path).exit_code == 0


def test_a_log_goes_on_once_there_is_room_for_more_than_the_gap(tmp_path: Path) -> None:
    """Where a gap leaf would just fit, the next decision would fail, and so on: one gap, and not one a second."""
    class Tight(Disk):
        full, asked = False, 0

        def write(self, fd: int, data: bytes) -> None:
            if self.full:
                self.full = False  # what was to be written has freed its place again
                raise OSError(errno.ENOSPC, "no space")
            super().write(fd, data)

        def room(self, folder: Path) -> int:
            self.asked += 1
            return 4096 if self.asked < 10 else 1 << 30

    async def run() -> None:
        disk = Tight()
        log = Log.open(tmp_path, disk=disk, limits=QUICK)
        disk.full = True
        for number in range(3):
            with pytest.raises(LogError, match="cannot be recorded"):
                await log.append(opened(ulid(number)), strict=True)
        await until(lambda: disk.asked >= 5)
        assert log.latched is not None
        await until(lambda: log.latched is None)
        await log.close()

    asyncio.run(run())
    assert [(leaf["kind"], leaf.get("lost")) for leaf in check(tmp_path / "log-0")] == [("log_open", None), ("gap", 3)]


def test_a_log_goes_on_with_one_gap_however_much_comes_meanwhile(tmp_path: Path) -> None:
    """To go on takes some fsyncs; what is refused meanwhile must not keep the log down, and is counted all the same."""

    class Slow(Disk):
        full = False

        def write(self, fd: int, data: bytes) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "no space")
            super().write(fd, data)

        def fdatasync(self, fd: int) -> None:
            time.sleep(0.005)
            super().fdatasync(fd)

    async def run() -> int:
        disk = Slow()
        log = Log.open(tmp_path, disk=disk, limits=QUICK)
        disk.full, refused, number = True, 0, 0

        async def one() -> None:
            nonlocal number, refused
            number += 1
            try:
                await log.append(opened(ulid(number)), strict=True)
            except LogError:
                refused += 1

        while refused < 100:
            await one()
        disk.full = False
        while log.latched is not None:
            await asyncio.gather(*(one() for _ in range(10)))
            assert refused < 1_000_000
        for _ in range(5):
            await one()
        await log.close()
        return refused

    refused = asyncio.run(run())
    gaps = [leaf["lost"] for leaf in check(tmp_path / "log-0") if leaf["kind"] == "gap"]
    assert gaps == [refused]
    assert verify(tmp_path).exit_code == 0


def test_going_on_may_fail_in_turn(tmp_path: Path) -> None:
    """Each step of going on fails once more, also in the new file that has no leaf yet."""
    script = ["write", "write", "open_append", "fdatasync", "replace .qseg", "open_append", "write", "replace checkpoint"]

    def fail(name: str, _: int) -> int | None:
        if armed[0] and script and name == script[0]:
            script.pop(0)
            return errno.EMFILE
        return None

    armed = [False]

    async def run() -> None:
        log = Log.open(tmp_path, disk=BrokenDisk(fail), limits=QUICK)
        await log.append(opened(ulid(1)), strict=True)
        armed[0] = True
        with pytest.raises(LogError):
            await log.append(closed(ulid(1), 0), strict=True)
        await until(lambda: log.latched is None and not script)
        await log.append(opened(ulid(2)), strict=True)
        await log.append(closed(ulid(2), 0), strict=True)
        await log.close()

    asyncio.run(run())
    leaves = check(tmp_path / "log-0")
    assert [leaf["kind"] for leaf in leaves] == ["log_open", "open", "gap", "close", "open", "close"]
    assert (leaves[2]["lost"], leaves[3]["outcome"]) == (1, "interrupted")
    assert verify(tmp_path).exit_code == 0


def test_closing_a_log_that_cannot_recover_says_so(tmp_path: Path) -> None:
    broken = [False]

    async def run() -> None:
        log = Log.open(tmp_path, disk=BrokenDisk(lambda name, _: errno.EIO if broken[0] else None), limits=QUICK)
        broken[0] = True
        with pytest.raises(LogError):
            await log.append(opened(ulid(1)), strict=True)
        with pytest.raises(LogError, match="closed without a last checkpoint") as caught:
            await log.close()
        assert caught.value.exit_code == 74
        with pytest.raises(LogError, match="closed"):
            await log.append(opened(ulid(2)), strict=True)

    asyncio.run(run())
    fill(tmp_path, [5])
    assert verify(tmp_path).exit_code == 0


@pytest.mark.parametrize(("note", "harm"), [
    ("removed", lambda folder: (folder / "seg-0.qseg").unlink()),
    ("renamed", lambda folder: (folder / "seg-0.qseg").rename(folder / "old")),
    ("replaced by a copy", lambda folder: Path(shutil.copy(folder / "seg-0.qseg", folder / "x")).rename(folder / "seg-0.qseg")),
    ("folder moved", lambda folder: folder.rename(folder.with_name("elsewhere"))),
])
@pytest.mark.parametrize("strict", [True, False])
def test_a_file_that_vanishes_is_noticed(tmp_path: Path, note: str, harm: Callable[[Path], object], strict: bool) -> None:
    """P8"""
    limits = Limits(reopen_every=0.02, checkpoint_every=60.0, lag=0.005)  # no checkpoint that would notice it first

    async def run() -> None:
        log = Log.open(tmp_path, limits=limits)
        await log.append(opened(ulid(1)), strict=True)
        harm(tmp_path / "log-0")
        if strict:
            with pytest.raises(LogError, match="removed, renamed or replaced"):
                await log.append(opened(ulid(2)), strict=True)
        else:
            await log.append(opened(ulid(2)), strict=False)
            await until(lambda: log.latched)
        await asyncio.sleep(0.06)
        assert log.latched is not None
        with pytest.raises(LogError):
            await log.close()

    asyncio.run(run())


def test_a_full_queue_refuses_after_a_while(tmp_path: Path) -> None:
    class Stuck(Disk):
        hold = threading.Event()

        def fdatasync(self, fd: int) -> None:
            assert self.hold.wait(10)
            super().fdatasync(fd)

    async def run() -> None:
        disk = Stuck()
        disk.hold.set()
        log = Log.open(tmp_path, disk=disk, limits=Limits(queue=4, wait=0.05))
        disk.hold.clear()
        first = asyncio.create_task(log.append(opened(ulid(1)), strict=True))
        await asyncio.sleep(0.03)
        waiting = [asyncio.create_task(log.append(opened(ulid(i)), strict=True)) for i in range(2, 5)]
        await asyncio.sleep(0.01)
        began = time.monotonic()
        with pytest.raises(LogError, match="waiting for the disk"):
            await log.append(opened(ulid(9)), strict=True)
        assert 0.04 < time.monotonic() - began < 2
        disk.hold.set()
        assert await first == 1
        assert await asyncio.gather(*waiting) == [2, 3, 4]
        assert log.latched is None
        await log.close()

    asyncio.run(run())
    leaves = check(tmp_path / "log-0")
    assert [leaf["kind"] for leaf in leaves].count("open") == 4
    assert [(leaf["lost"], leaf["cause"]) for leaf in leaves if leaf["kind"] == "gap"] == [(1, "queue full")]
    assert verify(tmp_path).exit_code == 0


def test_rolls_by_size_and_by_age(tmp_path: Path) -> None:
    class Ticking:
        now = 0

        def wall(self) -> int:
            return 1_700_000_000_000_000 + self.now

        def mono(self) -> int:
            return self.now

    async def run() -> None:
        clock = Ticking()
        log = Log.open(tmp_path, clock=clock, limits=Limits(roll_bytes=1500, roll_micros=60_000_000))
        for number in range(8):
            await log.append(opened(ulid(number)), strict=bool(number % 2))
        clock.now += 61_000_000
        await log.append(opened(ulid(9)), strict=True)
        clock.now += 61_000_000
        await log.append(opened(ulid(10)), strict=False)
        await log.close()

    asyncio.run(run())
    files = sorted((tmp_path / "log-0").glob("*.qseg"), key=lambda path: int(path.name[4:-5]))
    assert len(files) > 4
    assert kinds(tmp_path / "log-0") == ["log_open", *["open"] * 10, *["close"] * 10]
    assert all(path.stat().st_size < 3500 + 1000 for path in files[:-1])
    fill(tmp_path, [20])
    assert verify(tmp_path).exit_code == 0


def test_checkpoints_come_by_time_and_by_number(tmp_path: Path) -> None:
    def size() -> int:
        return int((tmp_path / "log-0" / "checkpoint").read_text().split("\n")[1])

    async def run(limits: Limits, leaves: int) -> None:
        log = Log.open(tmp_path, limits=limits)
        begin = log.size
        for number in range(leaves):
            await log.append(opened(ulid(number)), strict=True)
        await until(lambda: size() >= begin + leaves)
        for number in range(leaves):
            await log.append(closed(ulid(number), 0), strict=True)
        await log.close()
        assert size() == log.size

    asyncio.run(run(Limits(checkpoint_every=0.05), 3))
    asyncio.run(run(Limits(checkpoint_every=3600, checkpoint_leaves=5), 5))
    assert verify(tmp_path).exit_code == 0


def test_one_writer_per_folder(tmp_path: Path) -> None:
    """P9"""
    async def run() -> None:
        first = Log.open(tmp_path)
        with pytest.raises(LogError, match="another process"):
            Log.open(tmp_path, log_index=0)
        second = Log.open(tmp_path)
        assert (first.folder.name, second.folder.name) == ("log-0", "log-1")
        await first.append(opened(ulid(1)), strict=True)
        await second.append(opened(ulid(2)), strict=True)
        await first.close()
        again = Log.open(tmp_path)
        assert again.folder.name == "log-0"
        assert again.fingerprint_key == second.fingerprint_key
        await again.close()
        await second.close()

    asyncio.run(run())
    assert check(tmp_path / "log-1")[0]["siblings"][0][0] == "log-0"
    assert [row[0] for row in check(tmp_path / "log-0")[3]["siblings"]] == ["log-1"]
    report = verify(tmp_path)
    assert (report.exit_code, len(report.logs)) == (0, 2)


def test_a_forked_child_cannot_write(tmp_path: Path) -> None:
    async def run() -> None:
        log = Log.open(tmp_path)
        child = os.fork()
        if child == 0:
            try:
                log._refuse_if_down([])  # what every append asks first; no event loop may be used in a forked child
            except LogError:
                os._exit(42)
            os._exit(0)
        status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status[1]) == 42
        await log.close()

    asyncio.run(run())


def test_private_keys_are_private(tmp_path: Path) -> None:
    fill(tmp_path, [1])
    for name in ("log-0.key", "fingerprint.key"):
        assert stat.S_IMODE((tmp_path / "keys" / name).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def _without(name: str) -> Callable[[Path], object]:
    return lambda data: (data / name).unlink()


def _with(name: str, text: str) -> Callable[[Path], object]:
    return lambda data: (data / name).write_text(text)


@pytest.mark.parametrize(("note", "harm", "match"), [
    ("private key lost", _without("keys/log-0.key"), "private key .* is missing"),
    ("private key is junk", _with("keys/log-0.key", "junk"), "not a private key"),
    ("private key for all to read", lambda data: (data / "keys/log-0.key").chmod(0o644), "chmod 600"),
    ("public key replaced", _with("log-0/key.pub", "junk"), "replaced"),
    ("fingerprint key is junk", _with("keys/fingerprint.key", "zz"), "64 hexadecimal"),
    ("checkpoint is junk", _with("log-0/checkpoint", "junk"), "CORRUPT"),
    ("log cut to nothing", lambda data: (data / "log-0/seg-0.qseg").write_bytes(b""), "LOSS"),
    ("log removed", _without("log-0/seg-0.qseg"), "LOSS"),
    ("log folder removed", lambda data: shutil.rmtree(data / "log-0"), "LOSS"),
    ("last commit gone", lambda data: _cut(data, -1), "LOSS"),
    ("cut, and the checkpoint removed", lambda data: _cut(data, 400, "checkpoint"), "LOSS"),
    ("first file removed, others there", lambda data: (data / "log-0/seg-0.qseg").rename(data / "log-0/seg-5.qseg"), "LOSS"),
    ("damage in the middle", lambda data: _flip(data / "log-0/seg-0.qseg", 500), "CORRUPT"),
    ("damage in the header", lambda data: _flip(data / "log-0/seg-0.qseg", 50), "CORRUPT"),
])
def test_refuses_to_start(tmp_path: Path, note: str, harm: Callable[[Path], object], match: str) -> None:
    folder = fill(tmp_path)
    harm(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(LogError, match=match):
        Log.open(tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "key.pub"}
    assert {path: data for path, data in before.items() if path.name != "key.pub"} == after
    assert folder.name == "log-0"


def _cut(data: Path, end: int, *gone: str) -> None:
    path = data / "log-0" / "seg-0.qseg"
    path.write_bytes(path.read_bytes()[:end])
    for name in gone:
        (path.parent / name).unlink()


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_the_origin_is_fixed_at_first_start(tmp_path: Path) -> None:
    async def run(origin: str | None) -> str:
        log = Log.open(tmp_path, origin=origin)
        await log.close()
        return (tmp_path / "log-0" / "key.pub").read_text().split("+")[0]

    assert asyncio.run(run("acme/eu1")) == "acme/eu1/log-0"
    assert asyncio.run(run(None)) == "acme/eu1/log-0"
    assert asyncio.run(run("acme/eu1/log-0")) == "acme/eu1/log-0"
    with pytest.raises(LogError, match="fixed"):
        asyncio.run(run("acme/eu2"))
    with pytest.raises(LogError, match="origin"):
        Log.open(tmp_path / "other", origin="has spaces")


def test_keys_may_lie_apart(tmp_path: Path) -> None:
    async def run() -> None:
        log = Log.open(tmp_path / "data", keys=tmp_path / "safe")
        await log.close()

    asyncio.run(run())
    assert not (tmp_path / "data" / "keys").exists()
    assert not [note for note in verify(tmp_path / "data").notes if "private keys" in note]
    shutil.rmtree(tmp_path / "data" / "log-0")
    with pytest.raises(LogError, match="LOSS"):
        asyncio.run(run())
    asyncio.run(asyncio.sleep(0))


def test_a_missing_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LogError, match="cannot be opened"):
        Log.open(tmp_path / "file" / "data")


def test_strict_appends_are_written_at_once_and_wait_for_one_sync(tmp_path: Path) -> None:
    """What stands in the file is not acknowledged before an fdatasync that began after it was written."""
    class Held(Disk):
        go = threading.Semaphore(0)
        begun = threading.Semaphore(0)

        def fdatasync(self, fd: int) -> None:
            self.begun.release()
            assert self.go.acquire(timeout=10)
            super().fdatasync(fd)

    async def run() -> None:
        disk = Held()
        disk.go.release()  # for the leaf that opens the log
        log = Log.open(tmp_path, disk=disk, limits=Limits(checkpoint_every=60.0))
        assert disk.begun.acquire(timeout=10)
        first = asyncio.create_task(log.append(opened(ulid(1)), strict=True))
        assert await asyncio.to_thread(disk.begun.acquire, timeout=10)
        later = [asyncio.create_task(log.append(opened(ulid(i)), strict=True)) for i in (2, 3)]
        await asyncio.sleep(0)
        assert log.size == 4  # all of them stand in the file
        assert log.waiting == 3
        disk.go.release()
        assert await first == 1
        assert not any(task.done() for task in later)  # they were written after that sync began
        assert await asyncio.to_thread(disk.begun.acquire, timeout=10)
        disk.go.release()
        assert await asyncio.gather(*later) == [2, 3]
        disk.go.release(50)
        await log.close()

    asyncio.run(run())
    assert verify(tmp_path).exit_code == 0


@pytest.mark.parametrize(("siblings", "syncs"), [(3, 1), (50, 2)])
def test_strict_appends_of_a_busy_log_share_an_fdatasync(tmp_path: Path, siblings: int, syncs: int) -> None:
    class Counting(Disk):
        done = threading.Semaphore(0)
        count = 0

        def fdatasync(self, fd: int) -> None:
            super().fdatasync(fd)
            self.count += 1
            self.done.release()

    async def run() -> None:
        disk = Counting()
        log = Log.open(tmp_path, disk=disk, limits=Limits(siblings=siblings, gather=0.5, checkpoint_every=60.0))
        await log.append_all([opened(ulid(i)) for i in range(1, 5)], strict=True)
        before = disk.count
        first = asyncio.create_task(log.append(closed(ulid(1), 0), strict=True))
        if siblings > 4:
            await first
        else:
            await asyncio.sleep(0.1)
        await asyncio.gather(first, log.append(closed(ulid(2), 0), strict=True))
        assert disk.count - before == syncs
        await log.close()

    asyncio.run(run())
