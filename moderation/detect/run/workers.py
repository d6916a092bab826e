"""Threads for detectors: a wait that ends when it should, whatever the thread does.

A thread that does not come back in time is given up and replaced, never joined; if it comes back after all, it leaves. All are
daemons, so a hung one does not keep the process from ending. Knows nothing of detectors.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

T = TypeVar("T")


class Overloaded(Exception):
    """No thread can be had: too many hang, or too much waits."""


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    DONE = auto()
    GIVEN_UP = auto()


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    work: Callable[[], T]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[T]
    state: _State = _State.WAITING


class Workers:
    """A few threads. Started when first needed."""

    def __init__(self, threads: int = 2, most_lost: int = 16, most_waiting: int = 1024) -> None:
        self._threads = threads
        self._most_lost = most_lost
        self._most_waiting = most_waiting
        self._lock = threading.Condition()
        self._waiting: deque[_Job[object]] = deque()
        self._alive = 0
        self._idle = 0
        self._closed = False
        self.lost = 0
        """Threads that were given up and have not come back."""

    async def run(self, work: Callable[[], T], timeout: float) -> T:
        """What `work` returns; it must not raise. TimeoutError once `timeout` seconds are over, the queue included."""
        loop = asyncio.get_running_loop()
        job: _Job[T] = _Job(work, loop, loop.create_future())
        self._submit(job)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(timeout):
                return await job.future
        finally:
            self._settle(job)  # type: ignore[arg-type]

    def close(self) -> None:
        """Let idle threads go. What still runs is not waited for."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def _submit(self, job: _Job[object]) -> None:
        with self._lock:
            if self._closed or self.lost >= self._most_lost or len(self._waiting) >= self._most_waiting:
                raise Overloaded
            self._waiting.append(job)
            if self._idle >= len(self._waiting):
                self._lock.notify()
            elif self._alive < self._threads:
                self._start()

    def _start(self) -> None:
        self._alive += 1
        threading.Thread(target=self._loop, name="detector", daemon=True).start()

    def _settle(self, job: _Job[object]) -> None:
        """The wait is over: if the job still runs, its thread is lost and another takes its place."""
        with self._lock:
            match job.state:
                case _State.WAITING:
                    job.state = _State.GIVEN_UP
                    self._waiting.remove(job)
                case _State.RUNNING:
                    job.state = _State.GIVEN_UP
                    self.lost += 1
                    self._alive -= 1
                    if self._waiting:
                        self._start()
                case _State.DONE | _State.GIVEN_UP:
                    pass

    def _loop(self) -> None:
        while True:
            with self._lock:
                while not self._waiting:
                    if self._closed:
                        self._alive -= 1
                        return
                    self._idle += 1
                    self._lock.wait()
                    self._idle -= 1
                job = self._waiting.popleft()
                job.state = _State.RUNNING
            result = job.work()
            with self._lock:
                if job.state is _State.GIVEN_UP:
                    self.lost -= 1
                    return
                job.state = _State.DONE
            _deliver(job, result)


def _deliver(job: _Job[object], result: object) -> None:
    def deliver() -> None:
        if not job.future.done():
            job.future.set_result(result)

    try:
        job.loop.call_soon_threadsafe(deliver)
    except RuntimeError:
        # The loop is closed, so nobody waits any more.
        return
