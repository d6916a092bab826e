"""What the verdicts of Qwen3Guard-Stream's tokens say of a text: two in a row, where they stand, and what is no verdict."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.guard.exchange import HIGH, MEDIUM, NONE, OTHER
from moderation.detect.guard.qwen3guard import Strictness
from moderation.detect.guard.qwen3guard_stream import CATEGORY, Verdict, category, confirmed, verdict
from moderation.text import Span

S, M, H, P = Verdict(0, "None"), Verdict(MEDIUM, "Violent"), Verdict(HIGH, "Violent"), Verdict(HIGH, "PII")


def places(tokens: list[Verdict]) -> list[tuple[Span, Verdict]]:
    """Tokens of three characters."""
    return [(Span(at * 3, at * 3 + 3), one) for at, one in enumerate(tokens)]


@pytest.mark.parametrize(
    ("before", "tokens", "found", "note"),
    [
        (None, [S, S, S], [], "nothing"),
        (None, [S, H, S, H], [], "one alone does not count"),
        (None, [S, H, H, S], [("Violent", HIGH, 3, 9)], "two in a row, with the second"),
        (None, [H, H, H], [("Violent", HIGH, 0, 9)], "one stretch"),
        (None, [H, H, S, H, H], [("Violent", HIGH, 0, 6), ("Violent", HIGH, 9, 15)], "two stretches"),
        (None, [S, H], [], "the last one has no next"),
        (H, [H, S], [("Violent", HIGH, 0, 3)], "a pair over the edge counts where it ends"),
        (H, [S, H], [], "one alone before it does not"),
        (S, [H, H], [("Violent", HIGH, 0, 6)], "within"),
        (None, [H, M], [("Violent", MEDIUM, 0, 6)], "the lower score"),
        (None, [M, H, H], [("Violent", MEDIUM, 0, 6), ("Violent", HIGH, 3, 9)], "each pair its own"),
        (None, [H, P, S], [("Violent", HIGH, 0, 6)], "confirmed by another category"),
        (None, [], [], "no token"),
    ],
)
def test_two_in_a_row(before: Verdict | None, tokens: list[Verdict], found: list[tuple[str, int, int, int]], note: str) -> None:
    said = [(one.label, one.score, one.span.start, one.span.end) for one in confirmed(before, places(tokens))]
    assert said == found, note


@given(st.lists(st.sampled_from([S, M, H, P]), max_size=12), st.sampled_from([None, S, M, H]))
def test_a_token_counts_if_the_next_one_does(tokens: list[Verdict], before: Verdict | None) -> None:
    every = [before or S, *tokens]
    pairs = [(at, min(one.score, other.score)) for at, (one, other) in enumerate(pairwise(every))]
    marked = confirmed(before, places(tokens))
    assert max((one.score for one in marked), default=0) == max((score for _, score in pairs), default=0)
    held = {at for one in marked for at in range(one.span.start // 3, (one.span.end + 2) // 3)}
    assert held == {at for number, score in pairs if score for at in ({number - 1, number} if number else {0})}
    assert {one.label for one in marked} == {every[number].label for number, score in pairs if score}


@pytest.mark.parametrize(
    ("result", "strictness", "said", "note"),
    [
        ({"risk_level": ["Safe"], "category": ["None"]}, Strictness.GRADED, Verdict(0, "None"), "safe"),
        ({"risk_level": ["Unsafe", "Safe"], "category": ["PII", "None"]}, Strictness.GRADED, Verdict(0, "None"), "the last one"),
        ({"risk_level": ["Unsafe"], "category": ["PII"], "risk_prob": [0.1]}, Strictness.LOOSE, Verdict(HIGH, "PII"), "and more"),
        ({"risk_level": ["Controversial"], "category": ["PII"]}, Strictness.STRICT, Verdict(HIGH, "PII"), "strict"),
        ({"risk_level": ["Controversial"], "category": ["PII"]}, Strictness.GRADED, Verdict(MEDIUM, "PII"), "graded"),
        ({"risk_level": ["Controversial"], "category": ["PII"]}, Strictness.LOOSE, Verdict(NONE, "PII"), "loose"),
        ({"risk_level": ["safe"], "category": ["None"]}, Strictness.GRADED, None, "another word"),
        ({"risk_level": ["Low Risk"], "category": ["None"]}, Strictness.GRADED, None, "an unknown level is not safe"),
        ({"risk_level": [], "category": []}, Strictness.GRADED, None, "nothing"),
        ({"risk_level": "Safe", "category": "None"}, Strictness.GRADED, None, "no lists"),
        ({"risk_level": [0], "category": ["None"]}, Strictness.GRADED, None, "no word"),
        ({"category": ["None"]}, Strictness.GRADED, None, "half of it"),
        (None, Strictness.GRADED, None, "none"),
    ],
)
def test_what_a_result_says(result: object, strictness: Strictness, said: Verdict | None, note: str) -> None:
    assert verdict(result, strictness) == said, note


def test_what_labels_count_as() -> None:
    assert category("Violent", {}) == "violence"
    assert category("Violent", {"Violent": "threats"}) == "threats"
    assert category("None", {}) == category("Something new", {}) == OTHER, "found is found, under whatever name"
    assert {
        "violence",
        "illicit",
        "sexual",
        "personal_data",
        "self_harm",
        "unethical",
        "politics",
        "copyright",
        "jailbreak",
    } == set(CATEGORY.values())
