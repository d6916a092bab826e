"""The two clocks of the log: when something was, and how long after something else. Given to all that stamps leaves."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Time, for the stamps of leaves."""

    def wall(self) -> int:
        """µs since 1970, UTC"""
        ...

    def mono(self) -> int:
        """µs, never going back"""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall(self) -> int:
        return time.time_ns() // 1000

    def mono(self) -> int:
        return time.monotonic_ns() // 1000
