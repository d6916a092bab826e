"""A judge over the network as a detector: cuts what is too long, keeps its rate, asks, tells the answer in the policy's words.

It sends nothing itself: `send` is handed in, and so are the clock and what makes a signature unique. Its time-out, its breaker
and how many questions are under way at once are for detect/run to see to. Nothing of a text, an answer or a key gets into an
error.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime

from moderation import normalise
from moderation.detect.api import Passage
from moderation.detect.decoding import LAYERS, STRETCHES
from moderation.detect.guard.exchange import Engine, Question, Reply, Stamp
from moderation.detect.guard.pace import Pace
from moderation.detect.legible import SURE, asked_about, may_know, reads_all
from moderation.errors import UpstreamError
from moderation.verdict import Cause, Finding, Unknown

Send = Callable[[Question], Awaitable[Reply]]
"""Raises UpstreamError where no reply came, or none that is HTTP."""

_CAUSES = {"upstream_timeout": Cause.TIMEOUT, "upstream_unreachable": Cause.UNAVAILABLE, "upstream_invalid": Cause.INVALID}


def stamp() -> Stamp:
    """The time, and 128 random bits."""
    return Stamp(datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), secrets.token_hex(16))


def _why(status: int) -> str:
    match status:
        case 200:
            return "its answer is not in the format of the engine"
        case 401 | 403:
            return f"it answered with the status {status}: is the key right? see `key_env`"
        case 404:
            return "it answered with the status 404: are `url` and `model` right?"
        case _:
            return f"it answered with the status {status}"


async def _nothing() -> None:
    pass


class Http:
    """See detect/api.py, Remote."""

    def __init__(
        self,
        id: str,
        engine: Engine,
        send: Send,
        *,
        endpoint: str,
        categories: frozenset[str],
        labels: Mapping[str, str] | None = None,
        languages: Sequence[str] | None = None,
        at_once: int = 16,
        pace: Pace | None = None,
        patience: float = 0.3,
        end: Callable[[], Awaitable[None]] = _nothing,
        clock: Callable[[], float] = time.monotonic,
        stamp: Callable[[], Stamp] = stamp,
    ) -> None:
        """`endpoint` is the URL that `send` asks; `categories`: findings of any other are not for this policy.

        `languages` are those that the judge knows, None for all; `labels` says what a label counts as where that is not the
        engine's own; `patience`: seconds that a question may wait for its place in the rate; `end` closes the connections.
        """
        self.id, self.at_once = id, at_once
        self.why: str | None = None
        self._engine, self._send, self._end = engine, send, end
        self._categories, self._labels = categories, dict(labels or {})
        self._pace, self._patience = pace, patience
        self._clock, self._stamp = clock, stamp
        self._languages = None if languages is None else frozenset(tag.split("-")[0] for tag in languages)
        known = None if self._languages is None else sorted(self._languages)
        read = (normalise.VERSION, LAYERS, STRETCHES.version)
        told = (engine.version, endpoint, sorted(categories), sorted(self._labels.items()), known, read)
        self.version = hashlib.sha256(repr(told).encode()).hexdigest()

    async def ask(self, passage: Passage) -> tuple[Finding, ...] | Unknown:
        """The highest score of each category in any piece of what it says, shows or hides.

        A piece without an answer is a passage without one.
        """
        known = None if passage.trial else self._languages  # whether it answers at all, it can show in any language
        if known is not None and not may_know(known, passage.text):
            return Unknown(self.id, Cause.UNSUPPORTED)
        found: dict[str, int] = {}
        for one in asked_about(passage, self._engine.limit(passage.role)):
            said = await self._one(one)
            if isinstance(said, Cause):
                return Unknown(self.id, said)
            for category, score in said:
                found[category] = max(score, found.get(category, 0))
        if known is not None and max(found.values(), default=0) < SURE and not reads_all(known, passage.text):
            return Unknown(self.id, Cause.UNSUPPORTED)
        return tuple(Finding(self.id, category, None, category, score, None) for category, score in sorted(found.items()))

    async def _one(self, passage: Passage) -> list[tuple[str, int]] | Cause:
        """Categories and scores; a label stands in no finding, for it may be whatever the judge writes."""
        if self._pace is not None:
            seconds = self._pace.wait(self._clock(), self._patience)
            if seconds is None:
                self.why = "its rate is used up; see `rate`"
                return Cause.UNAVAILABLE
            if seconds:
                await asyncio.sleep(seconds)
        try:
            reply = await self._send(self._engine.question(passage, self._stamp()))
        except UpstreamError as error:
            self.why = error.message.partition(";")[0].replace("the upstream", "the judge")
            return _CAUSES.get(error.code, Cause.ERROR)
        said = self._engine.read(reply, passage.role)
        if isinstance(said, Cause):
            self.why = _why(reply.status)
            return said
        counted = [(self._labels.get(one.label) or self._engine.category(one.label), one.score) for one in said if one.score]
        return [(category, score) for category, score in counted if category in self._categories]

    async def close(self) -> None:
        """End all questions and connections. A later question opens new ones."""
        await self._end()
