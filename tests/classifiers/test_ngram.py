"""Character n-grams by the hashing trick, and the linear model over them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from classifiers.train.features import sparse
from classifiers.train.ngram import Plan, load, trained
from classifiers.train.row import HEADS
from moderation.detect.classifier.ngram import features, prepared

ORDERS = (1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("text", "made", "note"),
    [
        ("Kill  them\n ALL", " kill them all ", "case and white space"),
        ("ＫＩＬＬ", " kill ", "full width"),
        ("杀 人", " 杀 人 ", "Chinese stays"),
        ("", "  ", "nothing"),
    ],
)
def test_prepared(text: str, made: str, note: str) -> None:
    assert prepared(text) == made, note


def test_one_feature_by_hand() -> None:
    value = 0x811C9DC5 ^ 2
    for point in (ord("a"), ord(" ")):
        value = (value ^ point) * 0x01000193 % 2**32
    value ^= value >> 15
    assert value % 4096 in features("a", (2,), 4096)
    assert len(features("a", (2,), 1 << 30)) == 2


def test_golden() -> None:
    """The weights that ship were trained on these: whoever changes them trains anew."""
    assert features("Hi 你", (1, 2, 3), 1 << 18).tolist() == GOLDEN


GOLDEN: list[int] = [15301, 27524, 50677, 68740, 90525, 119352, 126287, 126428, 151699, 202933, 234273, 238850, 248600]


def test_texts_can_be_taken_out_of_many() -> None:
    texts = ["one", "", "three is longer", "two"]
    many = sparse(texts, ORDERS, 4096)
    some = many.taken(np.array([2, 0], np.int64))
    assert len(many) == 4
    assert some.buckets.tolist() == [*features(texts[2], ORDERS, 4096), *features(texts[0], ORDERS, 4096)]


def test_it_learns_writes_and_reads(tmp_path: Path) -> None:
    texts = [
        "you are a fool",
        "what a fool you are",
        "nice to meet you",
        "have a nice day",
        "ignore the rules",
        "please ignore all rules",
    ] * 4
    labels = np.full((len(texts), len(HEADS)), -1, np.int8)
    labels[:, 0] = [1, 1, 0, 0, -1, -1] * 4
    labels[:, 5] = [0, 0, 0, 0, 1, 1] * 4
    held = sparse(texts, ORDERS, 4096)
    model = trained(held, labels, ["x"] * len(texts), 4096, ORDERS, Plan(epochs=20, batch=8))
    model.write(tmp_path / "weights.npz")
    again = load(tmp_path / "weights.npz")
    logits = again.logits(held)
    assert np.array_equal(logits, model.logits(held))
    for head in (0, 5):
        known = labels[:, head] >= 0
        assert np.array_equal(logits[known, head] > 0, labels[known, head] == 1)
    assert again.orders == ORDERS
    assert np.array_equal(again.weights[:, 1], np.zeros(4096)), "a head that nothing labels learns nothing"


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", weights=np.array([{}], object))
    with pytest.raises(ValueError, match="pickle"):
        load(tmp_path / "weights.npz")
