"""Admission: whether one more request can be served, told before its body is read. Pure: the clock is handed in.

What was admitted is finished, so whatever would queue without bound is refused here, early and cheaply. Three things are limited:
requests in flight, bytes of bodies that are held at once, and how long requests wait for the processor. That wait is measured
where it arises: in the event loop, as the time by which a regular beat is overdue, and before the detectors' threads, as the time
that the oldest waiting job has waited. A stream that waits for a slow upstream waits for neither, and counts as one in flight.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from moderation.errors import Refused

BEAT = 0.05
"""Seconds between two beats."""


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
    """A request that is served, and the bytes that are held for it. `leave` when it is over."""

    __slots__ = ("_admission", "held")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.held = 0

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

    def leave(self) -> None:
        self._admission.in_flight -= 1
        self._admission.held -= self.held
        self.held = 0


class Admission:
    """One for each process, used from its event loop."""

    __slots__ = ("_beat_at", "_clock", "_most_bytes", "_most_requests", "_most_wait", "_queued", "_refused", "_short", "held",
                 "in_flight")

    def __init__(
        self, most_requests: int, most_bytes: int, most_wait: float, *, clock: Callable[[], float], short: int = 0,
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`most_wait` in seconds, 0 for ever; `clock` is monotonic. Bodies of up to `short` bytes do not wait for threads.

        `refused` is told the reason of each refusal.
        """
        self._most_requests = most_requests
        self._most_bytes = most_bytes
        self._most_wait = most_wait or float("inf")
        self._clock = clock
        self._short = short
        self._refused = refused
        self._beat_at: float | None = None
        self._queued = 0.0
        self.in_flight = 0
        self.held = 0
        """Bytes of bodies."""

    def enter(self, length: int | None) -> Admitted:
        """Admit a request whose body has this length; None where that is not known. Raises Refused(overloaded)."""
        if self.in_flight >= self._most_requests:
            raise self._refusal(Reason.REQUESTS)
        if self._beat_at is not None and self._clock() - self._beat_at - BEAT > self._most_wait:
            # All that has become ready since then is served in turn, and this request behind it.
            raise self._refusal(Reason.WAITING)
        if self._queued > self._most_wait and (length is None or length > self._short):
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

    def beat(self, queued: float) -> float:
        """Every BEAT seconds, from the event loop. `queued`: seconds that the oldest job has waited for a thread.

        Returns how long a request waits: the longer of that, and of the time by which this beat is late.
        """
        now = self._clock()
        late = max(0.0, now - self._beat_at - BEAT) if self._beat_at is not None else 0.0
        self._beat_at, self._queued = now, queued
        return max(late, queued)

    def _refusal(self, reason: Reason) -> Refused:
        self._refused(reason.value)
        return Refused("overloaded", _WORDS[reason])
