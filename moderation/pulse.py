"""The sidecar's own pulse: is the event loop in time, and has the decision log failed or come back? Knows no request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from moderation.errors import LogError
from moderation.events import Say


@dataclass(slots=True)
class Pulse:
    """Looks at both, as often as it is asked to."""

    latched: Callable[[], LogError | None]
    """What stands in the log's way."""
    say: Say
    late: Callable[[float], None]
    """Told, at each beat, how many seconds too late it came."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _failed: bool = False

    async def beat(self, every: float) -> None:
        """Look for ever."""
        while True:
            due = self.clock() + every
            await self.sleep(every)
            self.late(max(0.0, self.clock() - due))
            self.look()

    def look(self) -> None:
        """Tell the operator where the log's state has changed since the last look."""
        error = self.latched()
        if error is not None and not self._failed:
            self.say("log_failed", why=str(error))
        elif error is None and self._failed:
            self.say("log_recovered")
        self._failed = error is not None
