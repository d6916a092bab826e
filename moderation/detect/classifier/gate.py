"""A cheap model before a dear one: what the n-gram model finds so harmless that the encoder would hardly flag it is not asked of
the encoder.

Where to stop asking is measured (classifiers/train/gate.py) and stands in the encoder's manifest with what it costs. The
encoder is asked wherever the measure does not hold: about a text in a language that it was not taken on, and where the gate
fails or gives what is no number. A gate never makes an answer harmless that the encoder has given.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from moderation.detect.api import Passage, Windowed
from moderation.detect.classifier.manifest import Gate
from moderation.detect.classifier.ngram import Ngram
from moderation.language import language_of
from moderation.verdict import FULL_SCORE, Finding, Unknown

_FAILS = (ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


class Gated:
    """A window detector (detect/api.py) around another one, which is asked only about what the gate does not settle."""

    def __init__(self, inner: Windowed, model: Ngram, gate: Gate) -> None:
        self.inner, self.gate = inner, gate
        self.id, self.batch = inner.id, inner.batch
        self._model, self._languages = model, frozenset(gate.languages)
        told = ("gate 1", inner.version, model.manifest.digest, model.runtime, gate.below, sorted(self._languages))
        self.version = hashlib.sha256(repr(told).encode()).hexdigest()

    def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
        asked = [number for number, one in enumerate(passages) if not self.settles(one)]
        answers: list[tuple[Finding, ...] | Unknown] = [()] * len(passages)
        for number, answer in zip(asked, self.inner.detect([passages[number] for number in asked]) if asked else (), strict=True):
            answers[number] = answer
        return answers

    def settles(self, passage: Passage) -> bool:
        """Whether the encoder need not be asked."""
        if passage.trial or language_of(passage.text) not in self._languages:
            return False
        try:
            return harm(self._model, passage.text, passage.before) < self.gate.below
        except _FAILS:
            return False


def harm(model: Ngram, text: str, before: str = "") -> int:
    """The highest score of any head in a text, in what stands before it, or in any stretch of them, in millionths.

    FULL_SCORE where a score is no number.
    """
    rows = [*model.stretches(text), *(model.stretches(f"{before} {text}") if before else ())]
    if not all(math.isfinite(logit) for row in rows for logit in row):
        return FULL_SCORE
    heads = model.manifest.heads
    return max((head.score(max(row[number] for row in rows)) for number, head in enumerate(heads)), default=0) if rows else 0
