"""A tape: what its detectors are shown, how far it is settled, and what may be forgotten."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.api import Scan
from moderation.normalise import normalise
from moderation.stream.tape import Tape
from moderation.text import Span
from moderation.verdict import Cause, Finding, Unknown
from tests.playbook import Digits

NUMBERS = Digits()


def grown(tape: Tape, text: str, final: bool = False) -> None:
    """The text arrives, and the detector looks at it."""
    tape.grow(text)
    looks = tape.looks(final)
    tape.seen(looks, [[NUMBERS.scan(look.text, look.start, look.final)] for look in looks])


def test_what_may_go_on_is_not_settled() -> None:
    tape = Tape({"digits": 1})
    grown(tape, "ab 12")
    assert (tape.end, tape.frontier()) == (5, 3)
    grown(tape, "34 ")
    assert tape.frontier() == 8
    assert [f.span for f in tape.take(8)] == [Span(3, 7)]
    assert tape.take(8) == []


def test_a_detector_sees_as_far_back_as_it_asks() -> None:
    tape = Tape({"digits": 3})
    grown(tape, "abcdef")
    tape.grow("g")
    (look,) = tape.looks(False)
    assert (look.text, look.start, look.base) == ("defg", 3, 3)


def test_what_hides_in_a_match_is_part_of_its_span() -> None:
    tape = Tape({"digits": 1})
    grown(tape, "x 1\u200b2")
    grown(tape, "3４\u200b y")
    (finding,) = tape.take(tape.frontier())
    assert finding.span is not None
    assert tape.text(finding.span.start, finding.span.end) == "1\u200b23４"


def test_a_detector_that_failed_is_remembered_with_its_place() -> None:
    tape = Tape({"digits": 1, "other": 0})
    tape.grow("ab 12")
    looks = tape.looks(False)
    lost = Unknown("other", Cause.TIMEOUT)
    tape.seen(looks, [[NUMBERS.scan(looks[0].text, looks[0].start, False), lost]])
    assert tape.dead == {"other": (lost, 0)}
    tape.grow("3")
    assert [look.detectors for look in tape.looks(False)] == [("digits",)]


def test_the_place_of_a_failure_is_where_the_detector_had_come_to() -> None:
    tape = Tape({"digits": 1})
    grown(tape, "ab 12")
    tape.grow("34")
    looks = tape.looks(False)
    tape.seen(looks, [[Unknown("digits", Cause.ERROR)]])
    assert tape.dead["digits"][1] == 3


def test_a_finding_holds_the_frontier_of_another_detector() -> None:
    tape = Tape({"digits": 1, "slow": 0})
    tape.grow("ab 1234 cd")
    looks = tape.looks(False)
    tape.seen(looks, [[NUMBERS.scan(looks[0].text, 0, False), Scan((), 5)]])
    assert tape.frontier() == 3


def test_a_window_closes_only_where_all_is_settled() -> None:
    tape = Tape({"digits": 1})
    sentence = "w" * 100 + "12. "
    grown(tape, sentence)
    assert tape.windows(tape.frontier(), False) == []
    grown(tape, "Next")
    assert tape.windows(50, False) == []
    assert tape.windows(tape.frontier(), False) == [len(sentence)]
    assert tape.windows(tape.frontier(), False) == []


WORDS = st.sampled_from(["1234", "12", " ", "word ", "\u200b", "４", "end. ", "x" * 300, "。", "é"])


@given(st.lists(WORDS, min_size=40, max_size=120), st.integers(1, 400))
def test_what_is_dropped_was_not_needed(parts: list[str], size: int) -> None:
    text = "".join(parts) * 3
    tape = Tape({"digits": 1})
    found: list[Finding] = []
    ends: list[int] = []
    for start in range(0, len(text), size):
        grown(tape, text[start : start + size], final=start + size >= len(text))
        frontier = tape.frontier()
        ends += tape.windows(frontier, start + size >= len(text))
        taken = tape.take(frontier)
        for one in taken:
            assert one.span is not None
            assert tape.text(one.span.start, one.span.end) == text[one.span.start : one.span.end]
        found += taken
        tape.drop(frontier)
    plain = normalise(text)
    whole = NUMBERS.scan(plain.text, 0, True).findings
    assert found == [replace(f, span=plain.original(f.span.start, f.span.end)) for f in whole if f.span is not None]
    once = Tape({"digits": 1})
    grown(once, text, final=True)
    assert ends == once.windows(once.frontier(), True)
