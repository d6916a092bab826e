"""Labels of tokens to stretches of a text: plain, IOB and BIOES, spaces, special tokens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.transformer.tokens import joined, plain

LABELS = ("O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "MAIL")


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("B-PER", "PER"),
        ("S-private-name", "private-name"),
        ("PER", "PER"),
        ("O", "O"),
        ("X-RAY", "X-RAY"),
        ("B-", "B-"),
        ("I-I-A", "I-A"),
    ],
)
def test_plain(label: str, shown: str) -> None:
    assert plain(label) == shown


def stretches(text: str, tokens: list[tuple[int, int, str]], chance: float = 0.8) -> list[tuple[str, str, float]]:
    rest = (1 - chance) / (len(LABELS) - 1)
    rows = [[chance if one == label else rest for one in LABELS] for _, _, label in tokens]
    found = joined(text, [(start, end) for start, end, _ in tokens], rows, LABELS)
    return [(text[one.span.start : one.span.end], one.label, round(one.chance, 6)) for one in found if one.span]


TEXT = "Ann Lee met Bo in Ulm"
PER, LOC, MAIL = 0.8 + 3 * 0.2 / 7, 0.8 + 0.2 / 7, 0.8


@pytest.mark.parametrize(
    ("tokens", "found", "note"),
    [
        (
            [(0, 3, "B-PER"), (3, 7, "I-PER"), (8, 11, "O"), (12, 14, "B-PER"), (18, 21, "B-LOC")],
            [("Ann Lee", PER), ("Bo", PER), ("Ulm", LOC)],
            "IOB",
        ),
        (
            [(0, 3, "B-PER"), (4, 7, "E-PER"), (8, 11, "S-PER"), (12, 14, "I-PER")],
            [("Ann Lee", PER), ("met", PER), ("Bo", PER)],
            "BIOES: an end ends",
        ),
        ([(0, 3, "MAIL"), (4, 7, "MAIL"), (8, 11, "O"), (12, 14, "MAIL")], [("Ann Lee", MAIL), ("Bo", MAIL)], "plain labels"),
        ([(0, 3, "I-PER"), (4, 7, "I-PER")], [("Ann Lee", PER)], "no first"),
        ([(0, 3, "B-PER"), (4, 7, "I-LOC")], [("Ann", PER), ("Lee", LOC)], "another label goes on"),
        ([(0, 3, "B-PER"), (4, 7, "B-PER")], [("Ann", PER), ("Lee", PER)], "two firsts"),
        ([(0, 0, "B-PER"), (0, 3, "B-PER"), (0, 0, "O")], [("Ann", PER)], "special tokens are nowhere"),
        ([(0, 3, "B-PER"), (12, 14, "I-PER")], [("Ann", PER), ("Bo", PER)], "words between that nobody labelled"),
        ([(0, 4, "B-PER"), (7, 8, "B-LOC")], [("Ann", PER)], "spaces at the ends are none of it"),
        ([(0, 3, "O"), (4, 7, "O")], [], "nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_stretches(tokens: list[tuple[int, int, str]], found: list[tuple[str, float]], note: str) -> None:
    assert [(shown, chance) for shown, _, chance in stretches(TEXT, tokens)] == [
        (shown, round(chance, 6)) for shown, chance in found
    ], note


@given(st.data())
def test_stretches_are_in_order_and_hold_something(data: st.DataObject) -> None:
    text = data.draw(st.text(st.sampled_from("ab \n"), max_size=12))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    places = list(pairwise(cuts))
    rows = data.draw(st.lists(st.lists(st.floats(0, 1), min_size=8, max_size=8), min_size=len(places), max_size=len(places)))
    last = 0
    for one in joined(text, places, rows, LABELS):
        assert one.span is not None
        assert last <= one.span.start < one.span.end
        assert text[one.span.start : one.span.end].strip() == text[one.span.start : one.span.end]
        assert one.label != "O"
        last = one.span.end
