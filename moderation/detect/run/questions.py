"""Questions to judges over the network: so many at once each, each with its own time, and none after too many in a row failed.

The time of a question runs from when it has its place: waiting for others' questions is no fault of the judge. A judge that is
gone costs a caller about one time-out, however many passages there are: once as many as are asked at once have failed, and none
was answered in between, the rest is not asked. Used from one event loop. Knows no policy and no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from moderation.detect.api import Passage, Remote
from moderation.detect.run.breaker import FAILURES
from moderation.detect.run.guard import Answer, asked
from moderation.verdict import Cause, Unknown

TIMEOUT = 0.3
"""Seconds, where nothing is said."""


@dataclass(slots=True)
class _Row:
    """How many questions of one caller have failed in a row."""

    failed: int = 0

    def count(self, answer: Answer) -> None:
        lost = isinstance(answer, Unknown) and answer.cause in FAILURES
        self.failed = self.failed + 1 if lost else 0


class Questions:
    """The judges of a policy, and their places."""

    def __init__(
        self, judges: Mapping[str, Remote], timeouts: Mapping[str, float], categories: Mapping[str, frozenset[str]] | None = None
    ) -> None:
        """`timeouts` are in seconds; `categories` those that the policy knows, by judge."""
        self.judges = dict(judges)
        self._timeouts, self._categories = timeouts, categories or {}
        self._places = {name: asyncio.Semaphore(judge.at_once) for name, judge in judges.items()}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Task[None] | None = None

    async def ask(self, name: str, passages: Sequence[Passage], asks: Callable[[], bool] = lambda: True) -> list[Answer]:
        """An answer for each passage, in their order. `asks` tells, as a question's turn comes, whether the judge is still asked.

        Cancelling this ends every question that is under way.
        """
        self._loop = asyncio.get_running_loop()
        judge, places, row = self.judges[name], self._places[name], _Row()
        timeout, known = self._timeouts.get(name, TIMEOUT), self._categories.get(name)

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

    def why(self, name: str) -> str | None:
        """In words, why a judge last gave no answer."""
        return self.judges[name].why if name in self.judges else None

    async def end(self) -> None:
        """Close all connections; a later question opens new ones."""
        for judge in self.judges.values():
            await judge.close()

    def leave(self) -> None:
        """The same, soon, on the loop that asked; from any thread."""
        if self._loop is not None and self.judges:
            with suppress(RuntimeError):  # the loop is closed, and so are its connections
                self._loop.call_soon_threadsafe(self._part)

    def _part(self) -> None:
        self._ending = asyncio.ensure_future(self.end())
