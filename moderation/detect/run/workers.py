"""Threads for detectors: a wait that ends when it should, whatever the thread does.

The time of a job runs from when a thread takes it up, and anew from each sign of life that it gives: waiting for a thread is no
fault of the job, and long work is no hung work. Nor is a wait that itself wakes late: then the process got no time, and its
threads got none either. A thread that gives no sign in time is given up and replaced, never joined; at its next sign of life it
leaves. One whose wait was cancelled has the same time: a client that leaves proves nothing against the work. Threads cannot be
killed, so hung ones are bounded, in all and for each owner of jobs: one that always hangs must not take the threads of the
others. All are daemons, so a hung one does not keep the process from ending. How much may wait is limited by admission, where
requests come in. Knows nothing of detectors.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Generic, TypeVar

T = TypeVar("T")
_GOODBYE = 1.0
"""Seconds that threads get to leave at the end."""
_LATE = 0.05
"""A wait that wakes so many seconds late proves nothing about a thread."""
_MOST_LATE = 20
"""So many late wakings in a row end the wait all the same."""


class Overloaded(Exception):
    """No thread can be had: too many hang."""


class Hung(Overloaded):
    """No thread can be had for this owner, because so many of its jobs hang."""


class GivenUp(Exception):
    """Nobody waits for this job any more: raised in its thread, at a sign of life."""


Beat = Callable[[], None]
"""A sign of life. Raises GivenUp."""


class _State(Enum):
    WAITING = auto()
    RUNNING = auto()
    UNWANTED = auto()
    """Its wait was cancelled; its thread still has its time."""
    DONE = auto()
    GIVEN_UP = auto()


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    work: Callable[[Beat], T]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[T]
    owner: str
    state: _State = _State.WAITING
    alive_at: float = 0.0
    """When its thread last gave a sign of life (monotonic seconds)."""
    asked_at: float = field(default_factory=time.monotonic)


class Workers:
    """A few threads. Started when first needed."""

    def __init__(
        self, threads: int = 2, most_lost: int = 32, most_lost_each: int = 8,
        waited: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`waited` is told, in a thread, how many seconds each job waited for one."""
        self._threads, self._waited = threads, waited
        self._most_lost = most_lost
        self._most_lost_each = most_lost_each
        self._lock = threading.Condition()
        self._waiting: deque[_Job[object]] = deque()
        self._alive = 0
        self._idle = 0
        self._closed = False
        self._all: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._lost: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Jobs that wait for a thread."""
        return len(self._waiting)

    @property
    def lost(self) -> int:
        """Threads that were given up and have not come back."""
        return self._lost.total()

    async def run(self, work: Callable[[Beat], T], timeout: float, owner: str = "") -> T:
        """What `work` returns; it must not raise, but for GivenUp. TimeoutError after `timeout` seconds without a sign of it."""
        loop = asyncio.get_running_loop()
        job: _Job[T] = _Job(work, loop, loop.create_future(), owner)
        self._submit(job)  # type: ignore[arg-type]
        asked, rest, late = job.asked_at, timeout, 0
        try:
            while not (await asyncio.wait((job.future,), timeout=rest))[0]:
                now = time.monotonic()
                late = late + 1 if now - asked - rest > _LATE else 0
                asked = now
                if job.state is not _State.RUNNING:
                    rest = timeout  # it waits for a thread, or its result is on the way
                    continue
                rest = job.alive_at + timeout - now
                if rest <= 0:
                    if not 0 < late < _MOST_LATE:
                        self._give_up(job)  # type: ignore[arg-type]
                        raise TimeoutError
                    rest = timeout
            return job.future.result()
        except asyncio.CancelledError:
            if self._is_unwanted(job):  # type: ignore[arg-type]
                loop.call_later(timeout, self._give_up, job)  # type: ignore[arg-type]
            raise

    def close(self) -> None:
        """Let the threads go: idle ones now, those at work at their next sign of life. A hung one is not waited for.

        The others are: a thread that is inside a library's C++ as the interpreter ends takes the process down with it.
        """
        self.leave()
        end = time.monotonic() + _GOODBYE
        for thread in self._all:
            thread.join(max(0.0, end - time.monotonic()))

    def leave(self) -> None:
        """Let the threads go, and wait for none."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    def _submit(self, job: _Job[object]) -> None:
        with self._lock:
            if self._lost[job.owner] >= self._most_lost_each:
                raise Hung
            if self._closed or self.lost >= self._most_lost:
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

    def _is_unwanted(self, job: _Job[object]) -> bool:
        """Nobody waits for this job any more: whether a thread is at it."""
        with self._lock:
            match job.state:
                case _State.WAITING:
                    job.state = _State.GIVEN_UP
                    self._waiting.remove(job)
                case _State.RUNNING:
                    job.state = _State.UNWANTED
                case _State.UNWANTED | _State.DONE | _State.GIVEN_UP:
                    pass
            return job.state is _State.UNWANTED

    def _give_up(self, job: _Job[object]) -> None:
        """The job's time is over: if it still runs, its thread is lost and another takes its place."""
        with self._lock:
            if job.state in (_State.RUNNING, _State.UNWANTED):
                job.state = _State.GIVEN_UP
                self._lost[job.owner] += 1
                self._alive -= 1
                if self._waiting:
                    self._start()

    def _beat(self, job: _Job[object]) -> None:
        if self._closed or job.state in (_State.UNWANTED, _State.GIVEN_UP):
            raise GivenUp
        job.alive_at = time.monotonic()

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
                job.alive_at = time.monotonic()
                job.state = _State.RUNNING
            self._waited(job.alive_at - job.asked_at)
            result: object = None
            left = False
            try:
                result = job.work(partial(self._beat, job))
            except GivenUp:
                left = True
            with self._lock:
                if job.state is _State.GIVEN_UP:
                    self._lost -= Counter((job.owner,))
                    return
                if left and job.state is _State.RUNNING:  # it is we who are closed
                    self._alive -= 1
                    return
                job.state = _State.DONE
            if not left:
                _deliver(job, result)
            del job, result  # whoever waits keeps nothing of what is done


def _deliver(job: _Job[object], result: object) -> None:
    def deliver() -> None:
        if not job.future.done():
            job.future.set_result(result)

    try:
        job.loop.call_soon_threadsafe(deliver)
    except RuntimeError:
        # The loop is closed, so nobody waits any more.
        return
