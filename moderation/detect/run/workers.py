"""Threads for detectors: a wait that ends when it should, whatever the thread does.

The time of a job runs from when a thread takes it up, and anew from each sign of life that it gives: waiting for a thread is no
fault of the job, and long work is no hung work. A thread that gives no sign in time is given up and replaced, never joined; at
its next sign of life it leaves. All are daemons, so a hung one does not keep the process from ending. Knows nothing of detectors.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
_GOODBYE = 1.0
"""Seconds that threads get to leave at the end."""
_REST = 10.0
"""Seconds that a thread waits for work before it leaves: those of a policy that was replaced end by themselves."""


class Overloaded(Exception):
    """No thread can be had: too many hang, or too much waits."""


class GivenUp(Exception):
    """Nobody waits for this job any more: raised in its thread, at a sign of life."""


Beat = Callable[[], None]
"""A sign of life. Raises GivenUp."""


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    DONE = auto()
    GIVEN_UP = auto()


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    work: Callable[[Beat], T]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[T]
    state: _State = _State.WAITING
    alive_at: float = 0.0
    """When its thread last gave a sign of life (monotonic seconds)."""
    asked_at: float = field(default_factory=time.monotonic)


class Workers:
    """A few threads. Started when first needed."""

    def __init__(
        self, threads: int = 2, most_lost: int = 16, most_waiting: int = 1024,
        waited: Callable[[float], None] = lambda seconds: None, rest: float = _REST,
    ) -> None:
        """`waited` is told, in a thread, how many seconds each job waited for one; a thread leaves after `rest` idle seconds."""
        self._threads, self._waited, self._rest = threads, waited, rest
        self._most_lost = most_lost
        self._most_waiting = most_waiting
        self._lock = threading.Condition()
        self._waiting: deque[_Job[object]] = deque()
        self._alive = 0
        self._idle = 0
        self._closed = False
        self._all: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self.lost = 0
        """Threads that were given up and have not come back."""

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._waiting)

    async def run(self, work: Callable[[Beat], T], timeout: float) -> T:
        """What `work` returns; it must not raise, but for GivenUp. TimeoutError after `timeout` seconds without a sign of it."""
        loop = asyncio.get_running_loop()
        job: _Job[T] = _Job(work, loop, loop.create_future())
        self._submit(job)  # type: ignore[arg-type]
        rest = timeout
        try:
            while not (await asyncio.wait((job.future,), timeout=rest))[0]:
                if job.state is _State.WAITING:
                    continue
                rest = job.alive_at + timeout - time.monotonic()
                if rest <= 0:
                    raise TimeoutError
            return job.future.result()
        finally:
            self._settle(job)  # type: ignore[arg-type]

    def close(self) -> None:
        """Let the threads go: idle ones now, those at work at their next sign of life. A hung one is not waited for.

        The others are: a thread that is inside a library's C++ as the interpreter ends takes the process down with it.
        """
        with self._lock:
            self._closed = True
            self._lock.notify_all()
        end = time.monotonic() + _GOODBYE
        for thread in self._all:
            thread.join(max(0.0, end - time.monotonic()))

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
        thread = threading.Thread(target=self._loop, name="detector", daemon=True)
        self._all.add(thread)
        thread.start()

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

    def _beat(self, job: _Job[object]) -> None:
        if self._closed or job.state is _State.GIVEN_UP:
            raise GivenUp
        job.alive_at = time.monotonic()

    def _loop(self) -> None:
        # Between jobs a thread holds none: with one it would keep a replaced policy's detectors, and a text, in memory.
        while (job := self._next()) is not None and self._done(job):
            del job

    def _next(self) -> _Job[object] | None:
        """The next job; None where the thread is to leave."""
        with self._lock:
            while not self._waiting:
                self._idle += 1
                rested = not self._lock.wait(0.0 if self._closed else self._rest)
                self._idle -= 1
                if (rested or self._closed) and not self._waiting:
                    self._alive -= 1
                    return None
            job = self._waiting.popleft()
            job.alive_at = time.monotonic()
            job.state = _State.RUNNING
            return job

    def _done(self, job: _Job[object]) -> bool:
        """Do a job. False where the thread is to leave."""
        self._waited(job.alive_at - job.asked_at)
        result: object = None
        left = False
        try:
            result = job.work(partial(self._beat, job))
        except GivenUp:
            left = True
        with self._lock:
            if job.state is _State.GIVEN_UP:
                self.lost -= 1
                return False
            if left:
                self._alive -= 1
                return False
            job.state = _State.DONE
        _deliver(job, result)
        return True


def _deliver(job: _Job[object], result: object) -> None:
    def deliver() -> None:
        if not job.future.done():
            job.future.set_result(result)

    try:
        job.loop.call_soon_threadsafe(deliver)
    except RuntimeError:
        # The loop is closed, so nobody waits any more.
        return
