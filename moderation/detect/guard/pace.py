"""A rate that is kept: so many questions a second, evenly, after a small burst. Pure: the clock is handed in."""

from __future__ import annotations


class Pace:
    """Hands out times to go. Times are monotonic seconds."""

    __slots__ = ("_burst", "_free_at", "_step")

    def __init__(self, rate: float, burst: float = 0.1) -> None:
        """`rate` a second, above 0; `burst`: as many as `burst` seconds of it may go at once after a rest."""
        self._step = 1.0 / rate
        self._burst = burst
        self._free_at = float("-inf")

    def wait(self, now: float, longest: float) -> float | None:
        """Seconds until one more may go, and its place is taken; None, and none is taken, where that is over `longest`."""
        free_at = max(self._free_at, now - self._burst)
        seconds = max(0.0, free_at - now)
        if seconds > longest:
            return None
        self._free_at = free_at + self._step
        return seconds
