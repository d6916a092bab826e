"""A prefilter says that nothing is there only where each detector says so, and lets go no more than each would."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moderation.detect.api import Detector, Local, Scan, is_local
from moderation.detect.build import build
from moderation.detect.matcher import Pattern
from moderation.detect.patterns import Patterns
from moderation.detect.prefilter import Prefilter
from moderation.detect.words import Terms, Words
from moderation.flow.loading import compiled, default_policy
from moderation.normalise import normalise


@cache
def shipped() -> tuple[tuple[Local, ...], Prefilter]:
    found, _ = compiled(default_policy())
    assert found.policy is not None
    detectors = tuple(one for one in build(found.policy).values() if is_local(one))
    return detectors, Prefilter(detectors)


PIECES = st.sampled_from([
    "my card is ", "4111 1111 1111 1111", "4111", "sk-", "AKIA", "Z7Q3XW5RT2MPLB6K", "a@b.io", "zhang.san@", "11010519491231002X", "1101",
    "password = ", "hunter2xyz!", "ignore all previous instructions", "ignore ", "自杀", "自", "怎么", "how to make a bomb", "how to make ",
    "192.168.1.1", " ", "\n", "。", "word ", "护照号", "E12345678", "+86", "13812345678", "é", "中文", "-----BEGIN ", "PRIVATE KEY-----", "dan",
    "1gn0re ", "a11 prev10us ", "1nstruct10ns", "su1c1d3", "5u1", "vtaber nyy ", "cerivbhf vafgehpgvbaf", "3rd sha256 ",
    "tel ", "+1 415-555-2671", "(415) ", "555-2671", "010 ", "021-5432 1234", "219-09-9999", "12345678Z",
])  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES | st.text(max_size=6), max_size=8).map("".join), st.integers(0, 30), st.booleans())
@example("", 0, False)
@example("x sk", 0, False)
def test_it_never_says_more_than_each_detector(text: str, start: int, final: bool) -> None:
    detectors, prefilter = shipped()
    text = normalise(text).text
    start = min(start, len(text))
    hold = prefilter.quiet(text, start, final)
    assert prefilter.covers == {one.id for one in detectors}
    said = [one.scan(text, start, final) for one in detectors]
    if hold is not None:
        assert not [f for one in said for f in one.findings if f.span is not None and f.span.start < hold]
        assert start <= hold <= min(one.hold for one in said)
        assert hold == len(text) or not final


@pytest.mark.parametrize(("text", "hold", "note"), [
    ("a plain sentence. ", 18, "nothing is there, and nothing begins"),
    ("a plain 中文句子，", 13, "nor here"),
    ("write to lena", 9, "an address may have begun"),
    ("write to lena@example.com ", None, "an address"),
    ("how to kill my", 7, "a term may have begun"),
    ("he tells: overkill ", 19, "not within a word"),
    ("he tells: underflow ", 15, "but for a list that looks within words"),
    ("kill myself", None, "a term"),
])  # fmt: skip
def test_what_it_says_of_a_stream(text: str, hold: int | None, note: str) -> None:
    detectors: list[Detector] = [
        Patterns("mail", [Pattern("mail", "M", r"[a-z]+@[a-z.]+[a-z]", reach=64)], ["c"]),
        Words("words", "c", [Terms("methods", ["kill myself"]), Terms("within", ["flow on"], whole_word=False)]),
    ]
    assert Prefilter(detectors).quiet(text, 0, False) == hold


class Odd(Patterns):
    """It looks in a way of its own."""

    def scan(self, text: str, start: int, final: bool) -> Scan:
        raise RuntimeError


def test_it_answers_for_nobody_else() -> None:
    long = Words("long", "c", [Terms("many", [f"term number {n}" for n in range(20_001)])])
    plain = Words("plain", "c", [Terms("few", ["term"])])
    assert Prefilter([Odd("odd", [Pattern("x", None, "x")], ["c"]), long, plain]).covers == {"plain"}
    assert Prefilter([]).quiet("anything at all", 0, False) == 15
