"""What is measured of scores against labels: areas, F1, recall at a rate of false positives, and intervals of rates."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from classifiers.train.examples import UNKNOWN, Labels
from classifiers.train.row import HEADS

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

NORMAL_95 = 1.959963984540054  # two-sided 95 % of a normal distribution


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % Wilson interval. `of` is the count it is a share of; with 0 of them nothing is known: 0 to 1."""

    hits: int
    of: int

    @property
    def value(self) -> float:
        """The share itself."""
        return self.hits / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Lower and upper bound (Wilson 1927, without continuity correction)."""
        if not self.of:
            return (0.0, 1.0)
        share, square = self.value, NORMAL_95**2
        middle = (share + square / (2 * self.of)) / (1 + square / self.of)
        half = NORMAL_95 * sqrt(share * (1 - share) / self.of + square / (4 * self.of**2)) / (1 + square / self.of)
        return (max(0.0, middle - half) if self.hits else 0.0, min(1.0, middle + half) if self.hits < self.of else 1.0)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}]" if self.of else "-"


def auprc(scores: Floats, truth: npt.NDArray[np.bool_]) -> float:
    """Average precision: precision at each positive's score, averaged. Equal scores count as one step. NaN without a positive."""
    if not truth.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def f1(flagged: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Harmonic mean of precision and recall; 0 when nothing is both flagged and true."""
    both = int((flagged & truth).sum())
    return 2 * both / (int(flagged.sum()) + int(truth.sum())) if both else 0.0


def threshold_at(negatives: Floats, rate: float) -> float:
    """The least threshold t such that at most the share `rate` of `negatives` is >= t. Raises ValueError without negatives."""
    if not len(negatives):
        raise ValueError("a threshold needs negatives")
    allowed = int(len(negatives) * rate)
    ranked = np.sort(negatives)[::-1]
    if allowed >= len(ranked):
        return float(ranked[-1])
    return float(np.nextafter(ranked[allowed], np.inf))


def recall_at(scores: Floats, truth: npt.NDArray[np.bool_], rate: float) -> Rate:
    """Recall where the share `rate` of the negatives is flagged."""
    positives = scores[truth]
    if not len(positives) or truth.all():
        return Rate(0, 0)
    return Rate(int((positives >= threshold_at(scores[~truth], rate)).sum()), len(positives))


def by_head(scores: Floats, labels: Labels) -> dict[str, float]:
    """AUPRC of each head over the rows that know it."""
    found = {}
    for number, head in enumerate(HEADS):
        known = labels[:, number] != UNKNOWN
        found[head] = auprc(scores[known, number], labels[known, number] == 1)
    return found
