"""The breakers of all detectors of a policy, and the trials that open and close them. Used from one event loop.

Knows no detector and no text: what a trial asks is handed in.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Iterable

from moderation.detect.run.breaker import FAILURES, Breaker, State
from moderation.verdict import Cause, Unknown


class Trials:
    """Who is asked, who is in doubt, who is not asked."""

    def __init__(
        self, detectors: Iterable[str], ask: Callable[[str], Awaitable[object]], tell: Callable[[str, State], None],
        make: Callable[[], Breaker] = Breaker,
    ) -> None:
        """`ask`, a method, asks a detector about a text of ours; `tell` hears of each change of a breaker.

        The method's object is not kept alive: when it goes, with the last request of a policy that was replaced, trials end.
        """
        self._ask = weakref.WeakMethod(ask)
        self._tell = tell
        self._breakers = {name: make() for name in detectors}
        self._tasks: set[asyncio.Task[None]] = set()
        self._left = False
        self._causes: dict[str, Cause] = {}

    def cause(self, detector: str) -> Cause | None:
        """Why a detector last gave no answer."""
        return self._causes.get(detector)

    def state(self, detector: str) -> State:
        return self._breakers[detector].state

    def heard(self, detector: str, result: object) -> None:
        """What a call gave."""
        breaker = self._breakers[detector]
        if (cause := cause_of(result)) is not None:
            self._causes[detector] = cause
        if not is_failure(result):
            breaker.answered()
        elif breaker.failed(time.monotonic()):
            task = asyncio.create_task(self._try(detector, breaker))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _try(self, detector: str, breaker: Breaker) -> None:
        """Try a detector in doubt; as long as it gives no answer, it is not asked about others' texts."""
        while (answers := await self._answers(detector)) is not None:
            before = breaker.state
            pause = breaker.tried(answers, time.monotonic())
            if breaker.state is not before:
                self._tell(detector, breaker.state)
            if pause is None:
                return
            await asyncio.sleep(pause)
            if self._left:
                return
            breaker.try_again()
            self._tell(detector, State.HALF_OPEN)

    async def _answers(self, detector: str) -> bool | None:
        """Whether a detector gives an answer; None where there is nobody to ask it any more."""
        ask = self._ask()
        return None if ask is None else not is_failure(await ask(detector))

    def leave(self) -> None:
        """Begin no further trial; from any thread."""
        self._left = True

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
