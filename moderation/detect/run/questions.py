"""Questions to judges over the network: so many at once each, each with its own time, and none after too many in a row failed.

The time of a question runs from when it has its place: waiting for others' questions is no fault of the judge. A judge that is
gone costs a caller about one time-out, however many passages there are: once as many as are asked at once have failed, and none
was answered in between, the rest is not asked. Used from one event loop. Knows no policy and no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moderation.detect.api import Passage, Remote
from moderation.detect.run.breaker import FAILURES
from moderation.detect.run.guard import Answer, Known, asked
from moderation.verdict import Cause, Unknown


@dataclass(slots=True)
class _Row:
    """How many questions of one caller have failed in a row."""

    failed: int = 0

    def count(self, answer: Answer) -> None:
        lost = isinstance(answer, Unknown) and answer.cause in FAILURES
        self.failed = self.failed + 1 if lost else 0


class Questions:
    """The places of all judges of a policy."""

    def __init__(self) -> None:
        self._places: dict[str, asyncio.Semaphore] = {}

    async def ask(
        self, judge: Remote, passages: Sequence[Passage], timeout: float, known: Known, asks: Callable[[], bool] = lambda: True
    ) -> list[Answer]:
        """An answer for each passage, in their order. `asks` tells, as a question's turn comes, whether the judge is still asked.

        Cancelling this ends every question that is under way.
        """
        places = self._places.setdefault(judge.id, asyncio.Semaphore(judge.at_once))
        row = _Row()

        async def one(passage: Passage) -> Answer:
            async with places:
                if row.failed >= judge.at_once or not asks():
                    return Unknown(judge.id, Cause.UNAVAILABLE)
                answer: Answer
                try:
                    async with asyncio.timeout(timeout):
                        answer = await asked(judge, passage, known)
                except TimeoutError:
                    answer = Unknown(judge.id, Cause.TIMEOUT)
                row.count(answer)
                return answer

        return list(await asyncio.gather(*map(one, passages)))
