"""Changes to texts: united where they overlap, made piece by piece, and names that come back."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.act import NAME, NAME_REACH, Change, Names, apply, label, merge, piece
from moderation.text import Span
from moderation.verdict import Action


def change(start: int, end: int, text: str = "_", action: Action = Action.REDACT) -> Change:
    return Change(Span(start, end), action, text, "kind")


@pytest.mark.parametrize(
    ("changes", "expected", "note"),
    [
        ([change(0, 2), change(2, 4)], [change(0, 2), change(2, 4)], "side by side stay apart"),
        ([change(0, 8, "a"), change(2, 4, "b")], [change(0, 8, "a")], "one inside the other: all of the longer goes"),
        ([change(0, 4, "a"), change(2, 8, "bb")], [change(0, 8, "bb")], "overlapping: the union, with the longer's text"),
        ([change(0, 4, "a"), change(2, 6, "b")], [change(0, 6, "a")], "as long: the first"),
        ([change(0, 8, "name", Action.PSEUDONYMISE), change(2, 4, "cut")], [change(0, 8, "cut")], "the more severe, if shorter"),
        ([change(0, 4, "name", Action.PSEUDONYMISE), change(0, 4, "cut")], [change(0, 4, "cut")], "the same span"),
        ([change(0, 3, "a"), change(2, 5, "b"), change(4, 12, "c")], [change(0, 12, "c")], "a chain is one"),
        ([change(0, 9, "back", Action.ALLOW), change(2, 4, "cut")], [change(0, 9, "cut")], "what is given back is given up first"),
    ],
)
def test_merge(changes: list[Change], expected: list[Change], note: str) -> None:
    assert list(merge(changes)) == expected, note
    if len({(c.action, c.span.end - c.span.start) for c in changes}) == len(changes):
        assert list(merge(changes[::-1])) == expected, note


CHANGES = st.lists(st.tuples(st.integers(0, 19), st.integers(1, 12)), max_size=5).map(
    lambda rows: merge([change(start, start + size, f"<{n}>") for n, (start, size) in enumerate(rows)])
)


@given(st.text("abc", min_size=20, max_size=20), CHANGES, st.lists(st.integers(0, 20), max_size=6))
def test_pieces_together_are_the_whole(text: str, changes: tuple[Change, ...], cuts: list[int]) -> None:
    places = sorted({0, *cuts, len(text)})
    parts = [piece(text[a:b], a, changes) for a, b in itertools.pairwise(places)]
    assert "".join(parts) == apply(text, changes)


@given(st.text("abc", min_size=20, max_size=20), CHANGES)
def test_only_what_is_in_a_change_goes(text: str, changes: tuple[Change, ...]) -> None:
    inside = {at for c in changes for at in range(c.span.start, c.span.end)}
    left = "".join(char for at, char in enumerate(text) if at not in inside)
    made = apply(text, changes)
    for c in changes:
        if c.span.start < len(text):
            assert c.text in made
            made = made.replace(c.text, "", 1)
    assert made == left


def test_names_are_numbered_by_kind_in_the_order_of_appearance() -> None:
    names = Names()
    given_ = [("EMAIL_ADDRESS", "a"), ("EMAIL_ADDRESS", "b"), ("PERSON", "a"), ("EMAIL_ADDRESS", "a")]
    assert [names.name(*one) for one in given_] == ["<EMAIL_ADDRESS_1>", "<EMAIL_ADDRESS_2>", "<PERSON_1>", "<EMAIL_ADDRESS_1>"]
    assert (names.value("<EMAIL_ADDRESS_2>"), names.value("<PERSON_2>")) == ("b", None)


@pytest.mark.parametrize("kind", ["personal_data", "4u", "人", "__", "x" * 100, "a-b c", ""])
def test_every_kind_gives_a_name_that_can_come_back(kind: str) -> None:
    names = Names()
    name = names.name(kind, "value")
    assert NAME.fullmatch(name)
    assert len(name) <= NAME_REACH
    assert names.restore(f"a{name}b") == "avalueb"


def test_a_fork_names_for_itself() -> None:
    names = Names()
    names.name("K", "a")
    other = names.fork()
    assert (other.name("K", "a"), other.name("K", "b")) == ("<K_1>", "<K_2>")
    assert names.restore("<K_1> <K_2>") == "a <K_2>"


def test_what_looks_like_a_name_is_found() -> None:
    text = "<K_1> <k_1> <K_0> <K_1 <K_12>"
    assert [text[s.start : s.end] for s in Names().literals(text)] == ["<K_1>", "<K_12>"]


@given(st.lists(st.sampled_from(["<", "K", "_", "1", ">", "<K_1>", "<K_2>", "a", "<K_"]), max_size=12), st.integers(0, 40))
def test_a_name_that_may_be_half_written_is_held(parts: list[str], cut: int) -> None:
    names = Names()
    names.name("K", "a")
    names.name("K", "b")
    text = "".join(parts)
    known, hold = names.found(text[:cut], 0, final=False)
    whole, end = names.found(text, 0, final=True)
    assert end == len(text)
    assert [one for one in whole if one[0].start < hold] == [one for one in known if one[0].start < hold]
    assert all(span.end <= hold or span.start >= hold for span, _ in whole)


def test_without_names_nothing_is_held() -> None:
    assert Names().found("<K_", 0, final=False) == ((), 3)
    assert label("x") == "[removed: x]"
