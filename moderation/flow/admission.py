"""Admission: whether one more request is served, told before its body is read; and when it is judged.

What was admitted is finished, so whatever would queue without bound is refused here, early and cheaply. Limited are the requests
in flight, the bytes of bodies that are held at once, and how long requests wait for the processor. They wait in one place, where
it can be seen: a few are judged at a time, the others queue before that, in their order. So detectors and the event loop never
have more to do than a few requests, and streams go on as they should. A stream that waits for its upstream holds no slot.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import StrEnum

from moderation.errors import Refused

BEAT = 0.05
"""Seconds between two beats."""
SLOTS = 8
"""Requests that are judged at a time: enough for the processor to be busy while some wait for a detector's thread."""


class Reason(StrEnum):
    """Why a request was not admitted."""

    REQUESTS = "requests"
    MEMORY = "memory"
    WAITING = "waiting"


_WORDS = {
    Reason.REQUESTS: "too many requests are in flight; try again soon",
    Reason.MEMORY: "the bodies of other requests fill the memory that there is for them; try again soon",
    Reason.WAITING: "requests wait too long for the processor; try again soon",
}


class Admitted:
    """A request that is served: what is held for it, and its slot. `leave` when it is over."""

    __slots__ = ("_admission", "held", "judging")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.held = 0
        self.judging = False
        """Whether it has a slot."""

    def read(self, size: int) -> None:
        """So many bytes of its body have come. Raises Refused(overloaded) where others leave no room for them.

        What is held is counted as it comes, not as it is announced: who announces much and sends nothing takes no room.
        """
        self._admission.room(size, beside=self.held)
        self.add(size)

    def add(self, size: int) -> None:
        """So many bytes are held as well. An answer is never refused, but leaves less room for new requests."""
        self._admission.held += size
        self.held += size

    async def slot(self) -> None:
        """Wait for a slot to be judged in."""
        await self._admission.queue(self)

    def judged(self) -> None:
        """It needs its slot no more. The next has it when the event loop has come round, and others have had their time."""
        if self.judging:
            self.judging = False
            asyncio.get_running_loop().call_soon(self._admission.next)

    def leave(self) -> None:
        self.judged()
        self._admission.in_flight -= 1
        self._admission.held -= self.held
        self.held = 0


class Admission:
    """One for each process, used from its event loop."""

    __slots__ = ("_beat_at", "_clock", "_free", "_most_bytes", "_most_requests", "_most_wait", "_queue", "_refused", "_waited",
                 "held", "in_flight")

    def __init__(
        self, most_requests: int, most_bytes: int, most_wait: float, *, clock: Callable[[], float], slots: int = SLOTS,
        refused: Callable[[str], None] = lambda reason: None, waited: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """`most_wait` in seconds, 0 for ever; `clock` is monotonic.

        `refused` is told the reason of each refusal, `waited` how long each request waited for its slot.
        """
        self._most_requests = most_requests
        self._most_bytes = most_bytes
        self._most_wait = most_wait or float("inf")
        self._clock = clock
        self._free = slots
        self._queue: deque[tuple[Admitted, float, asyncio.Future[None]]] = deque()
        self._refused = refused
        self._waited = waited
        self._beat_at: float | None = None
        self.in_flight = 0
        self.held = 0
        """Bytes of bodies."""

    def enter(self, length: int | None) -> Admitted:
        """Admit a request whose body has this length; None where that is not known. Raises Refused(overloaded)."""
        if self.in_flight >= self._most_requests:
            raise self._refusal(Reason.REQUESTS)
        now = self._clock()
        if self._queue and now - self._queue[0][1] > self._most_wait:
            raise self._refusal(Reason.WAITING)
        if self._beat_at is not None and now - self._beat_at - BEAT > self._most_wait:
            # The event loop has not come round for so long: all that has become ready since is served first.
            raise self._refusal(Reason.WAITING)
        self.room(length or 0)
        self.in_flight += 1
        return Admitted(self)

    def room(self, size: int, beside: int = 0) -> None:
        """Raise Refused(overloaded) where there is no room for so many bytes, `beside` bytes that the same request holds.

        What is alone always has room: it would be refused for ever.
        """
        if size and self.held > beside and self.held + size > self._most_bytes:
            raise self._refusal(Reason.MEMORY)

    async def queue(self, admitted: Admitted) -> None:
        """Wait for a slot; first come, first served."""
        if self._free:
            self._free -= 1
            admitted.judging = True
            self._waited(0.0)
            return
        place = (admitted, self._clock(), asyncio.get_running_loop().create_future())
        self._queue.append(place)
        try:
            await place[2]
        finally:
            if not admitted.judging:  # it is cancelled, and stands there still
                self._queue.remove(place)
        self._waited(self._clock() - place[1])

    def next(self) -> None:
        """A slot is free: the first in the queue has it, if there is one."""
        if not self._queue:
            self._free += 1
            return
        admitted, _, future = self._queue.popleft()
        admitted.judging = True
        if not future.done():
            future.set_result(None)

    def beat(self) -> None:
        """Every BEAT seconds, from the event loop."""
        self._beat_at = self._clock()

    def _refusal(self, reason: Reason) -> Refused:
        self._refused(reason.value)
        return Refused("overloaded", _WORDS[reason])
