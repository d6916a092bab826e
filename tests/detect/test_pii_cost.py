"""What personal data costs on the nastiest texts: counted in checks and in calls of recognizers, which is what takes time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.matcher import Hit, Pattern
from moderation.detect.patterns import Patterns
from moderation.detect.pii import OURS, PHONE, Pii
from moderation.detect.recognizers import Recognizers, recognizer

NATIONAL = (
    "US_SSN", "US_ITIN", "UK_NINO", "SG_NRIC_FIN", "KR_RRN", "ES_NIF", "ES_NIE", "IT_FISCAL_CODE", "FI_PERSONAL_IDENTITY_CODE",
)  # fmt: skip
LENGTH = 2000
MOST = 55
"""Checks per 100 code points, of all patterns together: even where a text is nothing but values, each check has some digits of its own."""


class Counted:
    """A detector whose checks are counted."""

    def __init__(self, patterns: tuple[Pattern, ...]) -> None:
        self.checks = 0
        counted = [replace(one, check=self._counted(one.check)) if one.check is not None else one for one in patterns]
        self.detector = Patterns("pii", counted, ["personal_data"] * len(counted))

    def _counted(self, check: Callable[[str, str, str], Hit | None]) -> Callable[[str, str, str], Hit | None]:
        def ask(before: str, match: str, after: str) -> Hit | None:
            self.checks += 1
            return check(before, match, after)

        return ask

    def per_hundred(self, text: str) -> float:
        self.checks = 0
        self.detector.scan(text, 0, final=True)
        return self.checks * 100 / len(text)


@pytest.fixture(scope="module")
def contact() -> Counted:
    return Counted(Pii("pii", "personal_data", [*OURS, PHONE]).patterns)


@pytest.fixture(scope="module")
def national() -> Counted:
    return Counted(Pii("pii", "personal_data", NATIONAL).patterns)


RANDOM = Random(7)
ROWS = [
    ("1/1 ", "fractions"), ("1  ", "a wide table"), ("1 ", "a narrow one"), ("2 ", "which cards begin with"), ("(1) ", "a list"),
    ("1/", "slashes"), ("1-", "hyphens"), ("1)(", "parentheses"), ("(((1", "more of them"), ("1 5 7 0 4 2 9 8 3\n", "a sudoku"),
    ("12 ", "twos"), ("123 ", "threes"), ("1234 ", "fours"), ("5555 ", "as on cards"), ("011 ", "as in areas"), ("86 1", "and codes"),
    ("86 861 ", "of China"), ("01 ", "as in France"), ("+1 ", "with a +"), ("+86 ", "and a code"), ("1.1.1.1 ", "addresses"),
    ("219099999 ", "nines"), ("219-09-9999 ", "in groups"), ("12345678Z ", "and a letter"), ("X1234567L ", "and two"),
    ("131052-308T ", "dates"), ("900101-1234568 ", "others"), ("AB 12 34 56 C ", "pairs"), ("13812345678 ", "mobile numbers"),
    ("415-555-2671 ", "telephone numbers"), ("tel 020 7946 0958 ", "with a word"), ("de89 3704 ", "accounts"), ("fe80::1 ", "nodes"),
    ("2024-11-05 12:30:01 10.2.3.4 GET /a/9f 200 123456789 0.123456 user7\n", "a log"), ("12.3456,-7.8901,", "floats"),
    (" ".join(str(RANDOM.randrange(1000)) for _ in range(600)), "numbers at random"),
    ("".join(RANDOM.choice("0123456789 -.()/:+") for _ in range(LENGTH)), "digits and signs at random"),
    ("\n".join(" ".join(RANDOM.choice("01") for _ in range(20)) for _ in range(60)), "a matrix"),
    (",".join(str(RANDOM.randrange(100)) for _ in range(800)), "a CSV of small numbers"),
]  # fmt: skip


def long(unit: str) -> str:
    return (unit * (LENGTH // len(unit) + 1))[:LENGTH]


@pytest.mark.parametrize(("unit", "note"), ROWS, ids=[note for _, note in ROWS])
def test_few_checks_whatever_the_text_is(contact: Counted, national: Counted, unit: str, note: str) -> None:
    text = long(unit)
    assert contact.per_hundred(text) <= MOST
    assert national.per_hundred(text) <= MOST


@pytest.mark.parametrize("unit", ["1/1 ", "1  ", "1 ", "2 ", "(1) ", "1/", "1)(", "12 ", "9 4 ", "86 1", "+1 "])
def test_small_numbers_are_nearly_free(contact: Counted, national: Counted, unit: str) -> None:
    assert contact.per_hundred(long(unit)) <= 6
    assert national.per_hundred(long(unit)) <= 6


@pytest.mark.parametrize("unit", ["011 ", "12 0", "400 ", "01 ", "415 555 "])
def test_a_stretch_of_small_groups_takes_one_look(contact: Counted, unit: str) -> None:
    assert contact.per_hundred(long(unit)) <= 16


@settings(max_examples=150, deadline=None)
@given(st.text("0123456789 -./()+:A", min_size=1, max_size=12))
def test_few_checks_for_whatever_is_repeated(contact: Counted, national: Counted, unit: str) -> None:
    text = (unit * 400)[:400]
    assert contact.per_hundred(text) <= MOST
    assert national.per_hundred(text) <= MOST


class Asked:
    """A recognizer of presidio's, and how often it is asked to prove something."""

    asked = 0

    def __init__(self, entity: str) -> None:
        self._recognizer: Any = recognizer(entity)
        self.patterns, self.context = self._recognizer.patterns, self._recognizer.context
        self.global_regex_flags = self._recognizer.global_regex_flags

    def validate_result(self, text: str) -> bool | None:
        Asked.asked += 1
        return self._recognizer.validate_result(text)  # type: ignore[no-any-return]

    def invalidate_result(self, text: str) -> bool | None:
        return self._recognizer.invalidate_result(text)  # type: ignore[no-any-return]


@pytest.mark.parametrize("unit", ["219099999 ", "12345678Z ", "X1234567L ", "131052-308T ", "1 ", "1-", "123 "])
def test_recognizers_are_asked_about_what_fits_them_alone(unit: str) -> None:
    patterns = []
    for one in Pii("pii", "personal_data", NATIONAL).patterns:
        assert isinstance(one.check, Recognizers)
        patterns.append(replace(one, check=Recognizers(one.check.entities, Asked)))
    Asked.asked = 0
    Patterns("pii", patterns, ["c"] * len(patterns)).scan(long(unit), 0, final=True)
    assert Asked.asked * 100 / LENGTH <= 60


@pytest.mark.parametrize("unit", ["(1) ", "1/1 ", "1 ", "2 ", "12 ", "123 ", "86 1", "+1 ", "415-555-2671 ", "1.1.1.1 "])
def test_a_stream_of_them_is_not_read_again_from_its_start(unit: str) -> None:
    detector = Pii("pii", "personal_data", [*OURS, PHONE])
    text, hold = "", 0
    for _ in range(500):
        text += unit
        hold = detector.scan(text, hold, final=False).hold
        assert len(text) - hold <= 64
