"""The breakers of all detectors of a policy, and the trials that open and close them. Used from one event loop.

Knows no detector and no text: what a trial asks is handed in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from moderation.detect.run.breaker import FAILURES, Breaker, State
from moderation.verdict import Cause, Unknown


class Trials:
    """Who is asked, who is in doubt, who is not asked."""

    def __init__(
        self, detectors: Iterable[str], ask: Callable[[str], Awaitable[object]], tell: Callable[[str, State], None],
        make: Callable[[], Breaker] = Breaker,
    ) -> None:
        """`ask` asks a detector about a text of ours; `tell` hears of each change of a breaker."""
        self._ask = ask
        self._tell = tell
        self._breakers = {name: make() for name in detectors}
        self._tasks: set[asyncio.Task[None]] = set()

    def state(self, detector: str) -> State:
        return self._breakers[detector].state

    def heard(self, detector: str, result: object) -> None:
        """What a call gave."""
        breaker = self._breakers[detector]
        if not is_failure(result):
            breaker.answered()
        elif breaker.failed(time.monotonic()):
            task = asyncio.create_task(self._try(detector, breaker))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _try(self, detector: str, breaker: Breaker) -> None:
        """Try a detector in doubt; as long as it gives no answer, it is not asked about others' texts."""
        while True:
            before = breaker.state
            pause = breaker.tried(not is_failure(await self._ask(detector)), time.monotonic())
            if breaker.state is not before:
                self._tell(detector, breaker.state)
            if pause is None:
                return
            await asyncio.sleep(pause)
            breaker.try_again()
            self._tell(detector, State.HALF_OPEN)

    def close(self) -> None:
        """End the trials that are under way."""
        for task in self._tasks:
            task.cancel()


def is_failure(result: object) -> bool:
    """Whether no text of a call was answered, for causes that speak against the detector."""
    answers = result if isinstance(result, (list, tuple)) else [result]
    return all(isinstance(answer, Unknown) and answer.cause in FAILURES for answer in answers)


def cause_of(result: object) -> Cause | None:
    """Why there is no answer, or none for some of the texts."""
    answers = result if isinstance(result, (list, tuple)) else [result]
    return next((answer.cause for answer in answers if isinstance(answer, Unknown)), None)
