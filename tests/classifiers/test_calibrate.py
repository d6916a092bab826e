"""The calibrated scale: what its levels promise of harmless text holds, for the union of the heads and in both languages."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.train.calibrate import FLOORS, LEVELS, POINTS, calibrated, harmless, rates
from classifiers.train.examples import Example
from classifiers.train.metrics import Floats
from classifiers.train.row import BENIGN, HEADS

PROMISED = {"medium": 0.05, "high": 0.01, "critical": 0.002}


def logits(seed: int, count: int, shift: float = 0.0, ties: bool = False) -> Floats:
    rng = np.random.default_rng(seed)
    made = rng.normal(rng.normal(0, 3, 7) + shift, rng.uniform(0.5, 3, 7), (count, 7))
    return np.round(made) if ties else made


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(20, 400), st.integers(5, 200), st.booleans())
def test_no_level_flags_more_than_promised_in_either_language(seed: int, first: int, second: int, ties: bool) -> None:
    en, zh = logits(seed, first, 0.0, ties), logits(seed + 1, second, 0.7, ties)
    scale = calibrated([en, zh], np.concatenate([en, zh, logits(seed + 2, 50, 4.0)]))
    for level, promise in PROMISED.items():
        for some in (en, zh):
            assert (scale.scores(some).max(axis=1) >= LEVELS[level]).mean() <= promise


def test_the_stricter_language_comes_close_to_what_is_promised() -> None:
    en, zh = logits(1, 4000, 9.0), logits(2, 4000, 10.0)  # so sure of nothing that the floors do not count
    scale = calibrated([en, zh], np.concatenate([en, zh]))
    _, union = rates(scale.scores(np.concatenate([en, zh])), {"en": range(4000), "zh": range(4000, 8000)}, ("en", "zh"))
    assert 0.04 < max(union["medium"][lang].value for lang in ("en", "zh")) <= 0.05
    assert 0.007 < max(union["high"][lang].value for lang in ("en", "zh")) <= 0.01


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.booleans())
def test_scores_rise_with_logits_and_stay_within_0_and_1(seed: int, ties: bool) -> None:
    en, zh = logits(seed, 100, 0.0, ties), logits(seed + 1, 60, 0.0, ties)
    scale = calibrated([en, zh], en)
    for head in HEADS:
        knots = scale.knots[head]
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(knots))
        assert (knots[0][1], knots[-1][1]) == (0.0, 1.0)
    wide = np.sort(np.concatenate([en, en - 100, en + 100]), axis=0)
    scores = scale.scores(wide)
    assert (np.diff(scores, axis=0) >= 0).all()
    assert (scores.min(), scores.max()) == (0.0, 1.0)


def test_a_level_asks_for_odds_too() -> None:
    """Where all harmless texts of the development split are far below, what is less far below is no attack for that."""
    calm = np.full((500, 7), -8.0) + np.linspace(-1, 1, 500)[:, None]
    scale = calibrated([calm, calm], calm)
    for value, least in FLOORS:
        assert (scale.scores(np.full((1, 7), least - 0.01)) < value).all()
        assert (scale.scores(np.full((1, 7), least + 0.01)) >= value).all()
    assert {level for level, at in LEVELS.items() if at in dict(FLOORS)} == set(LEVELS)


def test_the_points_hold_the_levels() -> None:
    assert {level: dict(POINTS)[at] for level, at in LEVELS.items()} == PROMISED


@pytest.mark.parametrize(
    ("labels", "slice", "counts", "note"),
    [
        (BENIGN, None, True, "every head known to be 0"),
        (BENIGN, "benign_chat", True, "an ordinary slice"),
        (BENIGN, "evasion:leet", False, "a disguise is no ordinary text"),
        ({**BENIGN, "illicit": 1}, None, False, "harmful"),
        ({"hate_harassment": 0}, None, False, "what the other heads should say is unknown"),
    ],
)
def test_which_rows_measure_false_positives(labels: dict[str, int], slice: str | None, counts: bool, note: str) -> None:
    row = Example("text", "prompt", "en", labels, "source", "group", slice)
    assert harmless([row]) == ({"en": [0]} if counts else {}), note
