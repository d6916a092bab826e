"""A healthy log is sound at every moment: whatever a sidecar does between two reads of the verifier breaks no verdict."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path, PosixPath
from typing import Any, ClassVar

import pytest

from moderation.audit.disk import Disk
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.audit.verify_trust import Trust
from moderation.audit.writer import Limits
from tests.audit.samples import activation, closed, decided, fill, leaves_of, opened, ulid
from tests.audit.test_store import until

LIMITS = Limits(roll_bytes=4000, checkpoint_leaves=1, lag=0.005)


class Watched(PosixPath):
    """A path at whose n-th use something happens first."""

    left: ClassVar[int] = -1
    then: ClassVar[Callable[[], object]]

    def _tick(self) -> None:
        cls = type(self)
        cls.left -= 1
        if cls.left == 0:
            cls.then()

    def read_bytes(self) -> bytes:
        self._tick()
        return super().read_bytes()

    def iterdir(self) -> Any:
        self._tick()
        return super().iterdir()

    def exists(self, **options: Any) -> bool:
        self._tick()
        return super().exists(**options)


class Sidecars:
    """Up to three writers in a loop of their own, in a thread beside the test."""

    def __init__(self, data: Path, keys: Path) -> None:
        self.data, self.keys = data, keys
        self.logs: list[Log] = []
        self._number = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def end(self) -> None:
        for log in list(self.logs):
            self.do(self.stop(log))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def start(self) -> None:
        log = await asyncio.to_thread(lambda: Log.open(self.data, keys=self.keys, limits=LIMITS))
        self.logs.append(log)
        await log.append(activation(self.data), strict=True)
        await self.work(log)

    async def work(self, log: Log) -> None:
        """Some requests, one of which stays open, and a checkpoint over all of them."""
        for _ in range(2):
            self._number += 1
            await log.append(opened(ulid(self._number)), strict=True)
            await log.append_all(leaves_of(decided(ulid(self._number))), strict=True)
            await log.append(closed(ulid(self._number), 1), strict=True)
        self._number += 1
        await log.append(opened(ulid(self._number)), strict=True)
        await until(lambda: f"\n{log.size}\n" in (log.folder / "checkpoint").read_text())

    async def stop(self, log: Log) -> None:
        await log.close()
        self.logs.remove(log)

    async def restart_of_second(self) -> None:
        """It says in its log what it has seen of the first one, which may be more than the verifier has."""
        await self.work(self.logs[0])
        await self.stop(self.logs[1])
        await self.start()

    async def third(self) -> None:
        """Another process begins, having seen newer checkpoints of the others."""
        await self.work(self.logs[0])
        await self.start()
        await self.work(self.logs[0])

    async def end_of_first(self) -> None:
        await self.work(self.logs[0])
        await self.stop(self.logs[0])


Event = Callable[[Sidecars], Coroutine[Any, Any, None]]


def happen(cars: Sidecars, event: Event) -> None:
    cars.do(event(cars))


EVENTS: list[tuple[str, Event, bool]] = [
    ("an ordinary stop, keys beside", Sidecars.end_of_first, False), ("an ordinary stop, keys apart", Sidecars.end_of_first, True),
    ("a restart of another", Sidecars.restart_of_second, False), ("one process more", Sidecars.third, True),
]


@pytest.mark.parametrize(("note", "event", "apart"), EVENTS, ids=[note for note, _, _ in EVENTS])
def test_what_happens_while_it_is_read(
    tmp_path: Path, note: str, event: Event, apart: bool,
) -> None:
    at, done = 0, False
    while not done:
        at += 1
        data = tmp_path / str(at)
        keys = tmp_path / f"keys-{at}" if apart else data / "keys"
        cars = Sidecars(data, keys)
        try:
            cars.do(cars.start())
            cars.do(cars.start())
            Watched.left, Watched.then = at, partial(happen, cars, event)
            report = verify(Watched(data), Trust(keys) if apart else None)
            done, Watched.left = Watched.left > 0, -1
            assert report.exit_code == 0, (at, report.faults)
        finally:
            cars.end()
        assert verify(data).exit_code == 0
    assert at > 10


@pytest.mark.parametrize("apart", [True, False], ids=["keys apart", "keys beside"])
def test_a_first_start_while_it_is_read(tmp_path: Path, apart: bool) -> None:
    """A log folder that is there by the half, beside one that is whole."""
    at, done = 0, False
    while not done:
        at += 1
        data = tmp_path / str(at)
        fill(data)
        keys = tmp_path / f"keys-{at}" if apart else data / "keys"
        if apart:
            (data / "keys").rename(keys)
        cars = Sidecars(data, keys)
        try:
            Watched.left, Watched.then = at, partial(happen, cars, Sidecars.start)
            report = verify(Watched(data), Trust(keys) if apart else None)
            done, Watched.left = Watched.left > 0, -1
            assert report.exit_code == 0, (at, report.faults)
        finally:
            cars.end()


@pytest.mark.parametrize("at", range(1, 14))
def test_a_first_start_that_was_killed(tmp_path: Path, at: int) -> None:
    """Each file that a first start puts in place is the last one once; keys lie apart."""
    class Dies(Disk):
        left = at

        def sync_folder(self, folder: Path) -> None:
            super().sync_folder(folder)
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)

    fill(tmp_path / "data")
    (tmp_path / "data" / "keys").rename(tmp_path / "keys")
    child = os.fork()
    if child == 0:
        Log.open(tmp_path / "data", keys=tmp_path / "keys", log_index=1, disk=Dies())
        os._exit(0)
    os.waitpid(child, 0)
    for trust in (None, Trust(tmp_path / "keys")):
        report = verify(tmp_path / "data", trust)
        assert report.exit_code == 0, report.faults
