"""What an epoch holds, how batches are cut, and the learning rate's course."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.train.batches import buckets, epoch, positive_weights, warmed_cosine


def test_an_epoch_lifts_small_classes_and_takes_each_example_before_any_twice() -> None:
    classes = ["big"] * 900 + ["small"] * 100
    even, plain = (epoch(classes, 1000, power, np.random.default_rng(0)) for power in (0.0, 1.0))
    assert len(even) == len(plain) == 1000
    assert int((even >= 900).sum()) == 500
    assert sorted(plain) == list(range(1000))
    counts = np.bincount(even[even >= 900] - 900)
    assert set(counts) == {5}


def test_an_epoch_depends_on_its_seed_alone() -> None:
    first, second, other = (epoch(["a", "b", "b"] * 20, 50, 0.6, np.random.default_rng(seed)).tolist() for seed in (1, 1, 2))
    assert first == second != other


@given(st.lists(st.integers(1, 160), min_size=1, max_size=300), st.integers(64, 2048), st.integers(1, 100))
def test_batches_hold_every_example_once_and_keep_to_the_budget(lengths: list[int], budget: int, pool: int) -> None:
    sizes = np.array(lengths, np.int64)
    made = buckets(np.arange(len(sizes)), sizes, budget, np.random.default_rng(0), pool)
    assert sorted(np.concatenate(made)) == list(range(len(sizes)))
    for chosen in made:
        assert len(chosen) == 1 or len(chosen) * sizes[chosen].max() <= budget


def test_positives_count_for_more_where_they_are_rare() -> None:
    labels = np.full((104, 3), -1, np.int8)
    labels[:, 0] = [1] * 4 + [0] * 100
    labels[:, 1] = [1] * 52 + [0] * 52
    labels[:, 2] = [0] * 104
    assert positive_weights(labels, 4.0).tolist() == [4.0, 1.0, 4.0]
    assert positive_weights(labels, 9.0)[0] == pytest.approx(5.0)


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    course = [warmed_cosine(step, 100, 0.1) for step in range(100)]
    assert course[0] == pytest.approx(0.1)
    assert max(course) == course[9] == 1.0
    assert course[10:] == sorted(course[10:], reverse=True)
    assert course[-1] < 0.001
