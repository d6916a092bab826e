"""However long a passage is, all of it is judged, in pieces that a model takes, and not much more often than once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.classifier.pieces import Piece, flat, pieces

CASES = [
    ([0], 0, 5, 10, [(0, 0, 5)], "it fits"),
    ([0], 0, 0, 10, [], "nothing to judge"),
    ([0, 4, 8], 0, 12, 8, [(0, 0, 8), (4, 8, 12)], "whole sentences, and those before that fit"),
    ([0, 4, 8], 8, 12, 8, [(4, 8, 12)], "what stands before is context where it fits"),
    ([0, 4, 8], 8, 12, 20, [(0, 8, 12)], "all of it, where there is room"),
    ([0, 9], 9, 12, 8, [(9, 9, 12)], "a sentence that does not fit is no context"),
    ([0], 0, 20, 8, [(0, 0, 6), (4, 6, 12), (10, 12, 18), (12, 18, 20)], "a long sentence is cut, and its pieces overlap"),
    ([0, 4], 0, 20, 8, [(0, 0, 4), (4, 4, 10), (8, 10, 16), (12, 16, 20)], "… after a short one"),
]


@pytest.mark.parametrize(("sentences", "new", "count", "room", "made", "note"), CASES)
def test_pieces(sentences: list[int], new: int, count: int, room: int, made: list[Piece], note: str) -> None:
    assert list(pieces(sentences, new, count, room)) == made, note


@given(st.sets(st.integers(0, 400)), st.integers(0, 400), st.integers(0, 400), st.integers(8, 160))
def test_all_is_judged_once_and_in_linear_time(sentences: set[int], new: int, more: int, room: int) -> None:
    count = new + more
    made = list(pieces(sorted(sentences), new, count, room))
    assert [one.start for one in made] + [count] == [new] + [one.end for one in made] if more else made == []
    for one in made:
        assert 0 <= one.begin <= one.start < one.end
        assert one.end - one.begin <= room
    assert len(made) <= 1 + 3 * more // room


FLAT = [
    ("", "One.  Two.\n\nThree", "One. Two. Three", 0, [0, 5, 10], "white space is one space"),
    ("Before it. ", " One.", "Before it. One.", 11, [0, 11], "…also between the two"),
    ("你好。", "再见。", "你好。再见。", 3, [0, 3], "no space where there is none"),
    ("One. ", " \n ", "One.", 5, [0], "nothing but white space"),
]


@pytest.mark.parametrize(("before", "text", "made", "new", "starts", "note"), FLAT)
def test_flat(before: str, text: str, made: str, new: int, starts: list[int], note: str) -> None:
    assert flat(before, text) == (made, new, starts), note


@given(st.text("ab. 。\n\t!?"), st.text("ab. 。\n\t!?"))
def test_flat_loses_no_sign(before: str, text: str) -> None:
    made, new, starts = flat(before, text)
    assert made[new:].split() == text.split()
    assert made[:new].split() == before.split()
    assert starts == sorted(starts)
