"""Texts in pieces: none too long, all of the text, no sign cut in two, and cuts at good places where there are any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.guard.pieces import pieces, units

SIGNS = st.text(st.sampled_from("ab 。，. \n我他👍😀\u0301\u200d\ufe0f\U0001f3fd"), max_size=200)


@given(text=SIGNS, limit=st.integers(4, 40), overlap=st.integers(0, 10))
def test_pieces_cover_the_text_and_are_short_enough(text: str, limit: int, overlap: int) -> None:
    found = pieces(text, limit, overlap)
    ends = {0}
    """Up to where the pieces so far may cover the text: a piece may stand at several places in it."""
    for piece in found:
        assert units(piece) <= limit
        assert len(piece.encode("utf-16-le")) // 2 == units(piece)
        # It begins at or before the end of what is covered, and goes beyond it.
        places = [at for at in range(len(text) + 1) if text.startswith(piece, at)]
        ends = {at + len(piece) for at in places if any(at <= end < at + len(piece) for end in ends)} or (
            {0} if not text else set()
        )
    assert len(text) in ends
    assert len(found) <= len(text) + 1


@given(text=SIGNS)
def test_a_short_text_is_one_piece(text: str) -> None:
    assert pieces(text, None) == pieces(text, 400) == (text,)


@pytest.mark.parametrize(
    ("text", "limit", "found", "note"),
    [
        ("One two. Three four.", 12, ("One two.", " Three four."), "after a sentence"),
        ("他说好。我说不好。", 6, ("他说好。", "我说不好。"), "after a Chinese sentence"),
        ("one two three", 8, ("one two ", "three"), "after a word"),
        ("我们我们我们", 4, ("我们我们", "我们"), "Chinese without ends"),
        ("ab👍🏽cd", 5, ("ab", "👍🏽c", "d"), "a thumb and its colour"),
        ("abe\u0301cd", 4, ("abe\u0301", "cd"), "a letter and its accent"),
        ("👍👍👍", 4, ("👍👍", "👍"), "two units each"),
        (
            "ab👨\u200d👩\u200d👧",
            7,
            ("ab", "👨\u200d👩\u200d👧"[:3] + "\u200d", "👧"),
            "a family too large for a piece is cut somewhere",
        ),
    ],
)
def test_where_it_is_cut(text: str, limit: int, found: tuple[str, ...], note: str) -> None:
    assert pieces(text, limit, 0) == found, note


def test_what_stands_across_a_cut_is_read_whole() -> None:
    text = "x" * 1_990 + "身份证号11010519491231002X" + "y" * 3_000
    assert any("身份证号11010519491231002X" in piece for piece in pieces(text, 2_000))


def test_hostile_texts_are_few_pieces() -> None:
    for text in ("\u0301" * 20_000, "a" + "\u0301" * 20_000, ("a" + "\u0301" * 31) * 700, "。" * 20_000, "\n" * 20_000):
        assert len(pieces(text, 2_000)) <= 25


def test_a_limit_that_holds_no_sign_is_refused() -> None:
    with pytest.raises(ValueError, match="limit"):
        pieces("abcdef", 3)
