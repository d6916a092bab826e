"""Areas, F1, recall at a rate of false positives, and intervals of rates."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.train.metrics import Rate, auprc, by_head, f1, recall_at, threshold_at


@pytest.mark.parametrize(
    ("hits", "of", "low", "high", "note"),
    [
        (5, 10, 0.2366, 0.7634, "half of ten; the textbook's figures"),
        (0, 10, 0.0, 0.2775, "none of ten may still be a quarter"),
        (10, 10, 0.7225, 1.0, "all of ten"),
        (1, 1000, 0.00018, 0.00564, "one in a thousand"),
        (0, 0, 0.0, 1.0, "nothing seen, nothing known"),
    ],
)
def test_wilson(hits: int, of: int, low: float, high: float, note: str) -> None:
    assert Rate(hits, of).interval == pytest.approx((low, high), abs=6e-5), note


@given(st.integers(1, 500).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_an_interval_holds_its_rate_and_narrows_with_more(counts: tuple[int, int]) -> None:
    hits, of = counts
    low, high = Rate(hits, of).interval
    assert 0 <= low <= hits / of <= high <= 1
    more = Rate(hits * 10, of * 10).interval
    assert more[1] - more[0] < high - low


@pytest.mark.parametrize(
    ("scores", "truth", "area", "note"),
    [
        ([0.9, 0.8, 0.1], [1, 1, 0], 1.0, "perfect"),
        ([0.9, 0.8, 0.1], [0, 0, 1], 1 / 3, "the only positive comes last"),
        ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], (1 + 2 / 3) / 2, "precision at each positive, averaged"),
        ([0.5, 0.5, 0.5, 0.5], [1, 0, 0, 0], 0.25, "ties: one step, whatever the order"),
        ([0.5, 0.5, 0.5, 0.5], [0, 0, 0, 1], 0.25, "ties the other way round"),
    ],
)
def test_auprc(scores: list[float], truth: list[int], area: float, note: str) -> None:
    assert auprc(np.array(scores), np.array(truth, bool)) == pytest.approx(area), note


def test_auprc_without_a_positive_is_not_a_number() -> None:
    assert math.isnan(auprc(np.array([0.1]), np.array([False])))


def test_f1() -> None:
    flagged, truth = np.array([1, 1, 1, 0], bool), np.array([1, 0, 1, 1], bool)
    assert f1(flagged, truth) == pytest.approx(2 / 3)
    assert f1(np.zeros(4, bool), truth) == 0.0


@given(
    st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=60),
    st.floats(0, 1),
)
def test_a_threshold_never_flags_more_than_its_share_and_the_next_lower_would(negatives: list[float], rate: float) -> None:
    scores = np.array(negatives)
    at = threshold_at(scores, rate)
    flagged = int((scores >= at).sum())
    assert flagged <= rate * len(scores)
    lower = scores[scores < at]
    if len(lower):
        assert int((scores >= lower.max()).sum()) > int(rate * len(scores))


def test_a_threshold_needs_negatives() -> None:
    with pytest.raises(ValueError, match="negatives"):
        threshold_at(np.array([]), 0.1)


def test_recall_at_a_rate_counts_positives_above_the_negatives_that_are_allowed() -> None:
    scores = np.array([0.9, 0.7, 0.3, 0.8, 0.2, 0.1, 0.0])
    truth = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    assert recall_at(scores, truth, 0.0) == Rate(1, 3)
    assert recall_at(scores, truth, 0.25) == Rate(3, 3)
    assert recall_at(scores, np.ones(7, bool), 0.25) == Rate(0, 0)


def test_a_head_is_measured_over_the_rows_that_know_it() -> None:
    labels = np.full((3, 7), -1, np.int8)
    labels[:, 0] = [1, 0, -1]
    scores = np.zeros((3, 7))
    scores[:, 0] = [0.6, 0.5, 0.9]
    found = by_head(scores, labels)
    assert found["hate_harassment"] == 1.0
    assert math.isnan(found["sexual"])
