"""Cuts never move: every prefix of a text knows only cuts that the whole text has too."""

from __future__ import annotations

import sys
from types import FrameType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from moderation.sentence import _END, CONTEXT, SENTENCE_CAP, context, next_sentence, next_window, settled, windows
from moderation.text import Span

CASES = [
    ("English", "One. Two! Three?", ["One. ", "Two! ", "Three?"]),
    ("a number is not an end", "It is 3.14 big. Yes.", ["It is 3.14 big. ", "Yes."]),
    ("Chinese needs no space", "你好。再见！好", ["你好。", "再见！", "好"]),
    ("closers stay with their sentence", "他说：“好。”然后走了。", ["他说：“好。”", "然后走了。"]),
    ("a line end is an end", "- one\n- two\n\n\nthree", ["- one\n", "- two\n\n\n", "three"]),
    ("white space alone", "  \n ", ["  \n "]),
    ("dots", "Wait... what", ["Wait... ", "what"]),
    ("no end at all", "x" * (SENTENCE_CAP + 5), ["x" * SENTENCE_CAP, "x" * 5]),
]


def sentences(text: str, final: bool = True) -> list[str]:
    found, start = [], 0
    while (end := next_sentence(text, start, final)) is not None:
        found.append(text[start:end])
        start = end
    return found


@pytest.mark.parametrize(("note", "text", "expected"), CASES, ids=[c[0] for c in CASES])
def test_sentences(note: str, text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


PROSE = st.text(alphabet="ab1 .!?。！…”\"\n\u3000）x", max_size=60) | st.text(alphabet="a. ", min_size=390, max_size=420)


@given(PROSE)
@example("a" * 420)
@example("a. " + "b" * 410)
def test_a_cut_never_moves(text: str) -> None:
    whole = sentences(text)
    assert "".join(whole) == text
    for size in range(len(text) + 1):
        known = sentences(text[:size], final=False)
        assert known == whole[: len(known)]
        # What was settled then need not be searched again.
        last = sum(map(len, known))
        assert next_sentence(text, last, True, settled(text[:size])) == next_sentence(text, last, True)


@given(PROSE, st.integers(1, 30))
def test_windows_cover_and_never_move(text: str, size: int) -> None:
    whole = windows(text, size)
    assert "".join(text[w.start : w.end] for w in whole) == text
    start = sentence = 0
    grown: list[Span] = []
    for length in range(len(text) + 1):
        while True:
            sentence, end = next_window(text[:length], start, sentence, size, final=False)
            if end is None:
                break
            grown.append(Span(start, end))
            start = sentence = end
    assert tuple(grown) == whole[: len(grown)]
    assert all(w.end - w.start >= size for w in whole[:-1])


@given(PROSE | st.text(alphabet=".\n 。\u3000a", max_size=80))
def test_the_first_end_is_the_cut(text: str) -> None:
    """Beside the simplest search there is: at each place in turn."""
    first = next((end.end() for at in range(len(text)) if (end := _END.match(text, at, SENTENCE_CAP + 1))), None)
    expected = first or (SENTENCE_CAP if len(text) > SENTENCE_CAP else len(text) or None)
    assert next_sentence(text, 0, final=True) == expected


@pytest.mark.parametrize(("unit", "most"), [("\n", 50), (".", 50), ("x", 50), (" \n", 50), ("\n.", 6000), (". ", 6000), ("a\n", 6000)])
def test_the_work_grows_with_the_length(unit: str, most: int) -> None:
    """Calls of the regular expressions for 1,000 characters. A run of what may be an end is looked at once, not at each place."""

    def calls(text: str) -> int:
        count = 0

        def see(frame: FrameType, event: str, argument: object) -> None:
            nonlocal count
            count += event == "c_call"

        sys.setprofile(see)
        try:
            windows(text, 400)
        finally:
            sys.setprofile(None)
        return count

    short, long = calls((unit * 4_000)[:4_000]), calls((unit * 16_000)[:16_000])
    assert long <= 5 * short
    assert short <= 4 * most


CONTEXTS = [
    ("", "", "nothing stands before it"),
    ("One. Two. ", "One. Two. ", "all of a short text"),
    ("x" * (CONTEXT - 1), "x" * (CONTEXT - 1), "half a sentence, for it is all there is"),
    ("x" * 500 + ". Two. ", "Two. ", "whole sentences alone, where there is more"),
    ("x" * 500 + "。二。", "二。", "in Chinese, too"),
    ("x" * 500, "", "no sentence begins near enough"),
]


@pytest.mark.parametrize(("before", "said", "note"), CONTEXTS)
def test_context(before: str, said: str, note: str) -> None:
    assert context(before) == said, note


@given(st.text("ab. 。\n!?\"", max_size=3 * CONTEXT))
def test_context_hangs_on_the_last_characters_alone(before: str) -> None:
    assert context(before) == context(before[-CONTEXT:])
    assert before.endswith(context(before))
