"""Qwen3Guard-Gen in process, as a window detector: the questions and the reading of answers are those of the one behind a server.

What writes the answers is given in. Knows no policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

from moderation import normalise
from moderation.detect.api import Passage
from moderation.detect.decoding import LAYERS, STRETCHES
from moderation.detect.guard.chat import Message
from moderation.detect.guard.qwen3guard import CATEGORY, LIMIT, MAX_TOKENS, Strictness, judged, messages
from moderation.detect.legible import SURE, asked_about, may_know, reads_all
from moderation.verdict import Cause, Finding, Unknown


class Writes(Protocol):
    """What answers: transformer/generator.py, or a double. May be used from several threads at once."""

    @property
    def version(self) -> str:
        """All that its answers depend on, but for the question."""
        ...

    def write(self, messages: Sequence[Message], most: int) -> str | Cause:
        """The whole answer, of at most `most` tokens with the one that ends it; a cause where there is none."""
        ...


class Guard:
    """See detect/api.py, Windowed. A time-out is for all that one passage says, shown and hidden."""

    batch = 1

    def __init__(
        self,
        id: str,
        writer: Writes,
        strictness: Strictness,
        categories: frozenset[str],
        labels: Mapping[str, str] | None = None,
        languages: Sequence[str] | None = None,
    ) -> None:
        """`categories`: findings of any other are not for this policy. `languages`: those that it knows, None for all.

        `labels` says what a label counts as where that is not the engine's own category.
        """
        self.id = id
        self._writer, self._strictness, self._categories = writer, strictness, categories
        self._counts = CATEGORY | dict(labels or {})
        self._languages = None if languages is None else frozenset(tag.split("-")[0] for tag in languages)
        known = None if self._languages is None else sorted(self._languages)
        read = (normalise.VERSION, LAYERS, STRETCHES.version)
        told = ("qwen3guard 1", writer.version, strictness.value, sorted(categories), sorted(self._counts.items()), known, read)
        self.version = hashlib.sha256(repr(told).encode()).hexdigest()

    def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
        return [self._one(passage) for passage in passages]

    def _one(self, passage: Passage) -> tuple[Finding, ...] | Unknown:
        """The highest score of each category in any piece of what it says, shows or hides. No answer is no safe one."""
        known = None if passage.trial else self._languages  # whether it answers at all, it can show in any language
        if known is not None and not may_know(known, passage.text):
            return Unknown(self.id, Cause.UNSUPPORTED)
        found: dict[str, int] = {}
        for one in asked_about(passage, LIMIT):
            content = self._writer.write(messages(one), MAX_TOKENS)
            said = content if isinstance(content, Cause) else judged(content, one.role, self._strictness)
            if isinstance(said, Cause):
                return Unknown(self.id, said)
            for each in said:
                category = self._counts[each.label]
                if each.score and category in self._categories:
                    found[category] = max(each.score, found.get(category, 0))
        if known is not None and max(found.values(), default=0) < SURE and not reads_all(known, passage.text):
            return Unknown(self.id, Cause.UNSUPPORTED)
        return tuple(Finding(self.id, category, None, category, score, None) for category, score in sorted(found.items()))
