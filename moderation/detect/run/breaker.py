"""A circuit breaker: a detector that is dead is not asked, so that it does not cost its time-out on every request.

Pure: the clock is handed in. Calls that fail raise a doubt and no more; only a *trial*, on a text of our own, opens and closes
the breaker, so no text from outside can switch a detector off for others (docs/decisions/0004-breaker.md). Knows no detector and
no thread.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from moderation.verdict import Cause


class State(IntEnum):
    """As the gauge `moderation_detector_breaker` shows it."""

    CLOSED = 0
    """Calls are made."""
    OPEN = 1
    """No calls are made: each is Unknown at once."""
    HALF_OPEN = 2
    """A trial is under way; still no calls."""


FAILURES = frozenset({Cause.TIMEOUT, Cause.ERROR, Cause.INVALID, Cause.UNAVAILABLE})
"""What counts against a detector. One that finds a language unsupported, or a text too large, is alive."""


@dataclass(frozen=True, slots=True)
class Limits:
    failures: int = 5
    """So many calls in a row without one answer raise a doubt …"""
    within: float = 30.0
    """… where they lie within so many seconds."""
    pause: float = 1.0
    """Seconds between two trials; doubled with each trial that fails …"""
    longest: float = 30.0
    """… up to this."""


class Breaker:
    """The breaker of one detector. Times are monotonic seconds."""

    __slots__ = ("_failed_at", "_limits", "_pause", "_rested_at", "_trying", "state")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._failed_at: deque[float] = deque(maxlen=self._limits.failures)
        self._pause = self._limits.pause
        self._rested_at = float("-inf")
        self._trying = False
        self.state = State.CLOSED

    def answered(self) -> None:
        """A call was answered."""
        self._failed_at.clear()

    def failed(self, now: float) -> bool:
        """A call was not. True where that raises a doubt: a trial is to be made now, and `tried` to be told."""
        self._failed_at.append(now)
        if self.state is not State.CLOSED or self._trying or now < self._rested_at or not self._is_full():
            return False
        self._trying = now - self._failed_at[0] <= self._limits.within
        return self._trying

    def try_again(self) -> None:
        """The pause of an open breaker is over, and a trial begins."""
        self.state, self._trying = State.HALF_OPEN, True

    def tried(self, well: bool, now: float) -> float | None:
        """What a trial gave. Seconds until the next one is due; None where the breaker is closed."""
        self._trying = False
        # A doubt that a real answer has put to rest since does not open it, whatever the trial gave.
        if well or (self.state is State.CLOSED and not self._is_full()):
            self._failed_at.clear()
            self.state, self._pause, self._rested_at = State.CLOSED, self._limits.pause, now + self._limits.pause
            return None
        pause, self._pause = self._pause, min(self._pause * 2, self._limits.longest)
        self.state = State.OPEN
        return pause

    def _is_full(self) -> bool:
        return len(self._failed_at) == self._limits.failures
