"""Word lists: boundaries where a script has them, folding that moves nothing, and a slow search by the book."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.words import MOST_LENGTH, Terms, Words, fold, joins
from moderation.normalise import normalise
from tests.detect.law import check_cuts, check_random, spans

LISTS = [
    Terms("birds", ["BLUE HERON", "蓝鹭", "ORCHID-9", "blue"]),
    Terms("parts", ["heron", "鹭鸟", "自杀"], whole_word=False),
    Terms("exact", ["Case", "ПРИВЕТ"], ignore_case=False),
    Terms("again", ["blue heron", "don't", "привет", "แมว", "서울"]),
]


@pytest.mark.parametrize(
    ("text", "found", "note"),
    [
        ("Project BLUE HERON ships in May", [("birds", "BLUE HERON"), ("again", "BLUE HERON")], "in two lists"),
        ("a blue  heron-like bird", [("birds", "blue"), ("parts", "heron")], "two spaces are not one"),
        ("一只蓝鹭飞", [("birds", "蓝鹭")], "no boundary beside Chinese"),
        ("blueheron", [("parts", "heron")], "a part of a word, where that is asked for"),
        ("blue_heron bluest", [("parts", "heron")], "an underscore and a letter go on"),
        ("x蓝鹭x用blue写", [("birds", "蓝鹭"), ("birds", "blue")], "between scripts"),
        ("蓝鹭鸟", [("birds", "蓝鹭")], "the leftmost wins"),
        ("case Case CASE", [("exact", "Case")], "case, where it matters"),
        ("Привет ПРИВЕТ", [("again", "Привет"), ("exact", "ПРИВЕТ"), ("again", "ПРИВЕТ")], "Cyrillic, after its look-alikes went"),
        ("orchid-9, ORCHID-90", [("birds", "orchid-9")], "a hyphen within, a digit after"),
        ("Don’t", [("again", "Don't")], "an apostrophe of the other kind"),
        ("Ｂｌｕｅ　ＨＥＲＯＮ", [("birds", "Blue HERON"), ("again", "Blue HERON")], "full-width"),
        ("我不想自\u200b杀", [("parts", "自杀")], "zero-width within"),
        ("ดแมวด 서울에", [("again", "แมว"), ("again", "서울")], "scripts without spaces, or with endings"),
        ("bluе", [("birds", "blue")], "a Cyrillic letter"),
    ],
)
def test_table(text: str, found: list[tuple[str, str]], note: str) -> None:
    plain = normalise(text).text
    order = [one.name for one in LISTS]
    got = spans(check_cuts(Words("w", "c", LISTS), plain), plain)
    key = lambda pair: (pair[1], order.index(pair[0]))  # noqa: E731
    assert sorted(got, key=key) == sorted(((n, normalise(v).text) for n, v in found), key=key), note


@given(st.text(max_size=20), st.text(max_size=20))
def test_folding_moves_nothing_and_needs_no_neighbour(first: str, second: str) -> None:
    assert len(fold(first)) == len(first)
    assert fold(first + second) == fold(first) + fold(second)
    assert fold(fold(first)) == fold(first)


def slow(lists: list[Terms], text: str) -> list[tuple[int, int, str]]:
    """Every place, every term, by the book."""

    def stands(one: Terms, term: str, at: int) -> bool:
        term, seen = (fold(term), fold(text)) if one.ignore_case else (term, text)
        end = at + len(term)
        if not seen.startswith(term, at):
            return False
        if not one.whole_word:
            return True
        left = at > 0 and joins(text[at - 1]) and joins(text[at])
        return not left and not (end < len(text) and joins(text[end - 1]) and joins(text[end]))

    found: list[tuple[int, int, str]] = []
    at = 0
    while at < len(text):
        ends = [(at + len(t), one.name) for one in lists for t in sorted(set(one.terms)) if stands(one, t, at)]
        if not ends:
            at += 1
            continue
        most = max(end for end, _ in ends)
        found.extend((at, most, name) for name in dict.fromkeys(n for end, n in ends if end == most))
        at = most
    return found


TERM = st.text(alphabet="abB 中文-", min_size=1, max_size=5).filter(lambda t: bool(t.strip()))
SOME = st.lists(
    st.builds(Terms, st.just("x"), st.lists(TERM, min_size=1, max_size=4), st.booleans(), st.booleans()), min_size=1, max_size=3
).map(lambda many: [Terms(f"l{i}", one.terms, one.whole_word, one.ignore_case) for i, one in enumerate(many)])


@settings(max_examples=200, deadline=None)
@given(SOME, st.text(alphabet="abBaab 中文-_", max_size=14))
def test_same_as_by_the_book_and_uncut_by_cuts(lists: list[Terms], text: str) -> None:
    found = check_cuts(Words("w", "c", lists), text)
    got = [(f.span.start, f.span.end, f.name) for f in found if f.span]
    assert sorted(got) == sorted(slow(lists, text))


@settings(max_examples=40, deadline=None)
@given(SOME, st.text(alphabet="abBaab 中文-_", min_size=60, max_size=150), st.randoms(use_true_random=False))
def test_long_texts(lists: list[Terms], text: str, random: Random) -> None:
    check_random(Words("w", "c", lists), text, random)


@pytest.mark.parametrize("term", ["\u200b", "  ", "x" * (MOST_LENGTH + 1)])
def test_terms_that_say_nothing_or_too_much(term: str) -> None:
    with pytest.raises(ValueError, match="word list bad: a term") as caught:
        Words("w", "c", [Terms("bad", ["fine", term])])
    assert "xxx" not in str(caught.value)


def test_no_lists_find_nothing() -> None:
    assert check_cuts(Words("w", "c", []), "anything") == ()
    assert check_cuts(Words("w", "c", [Terms("empty", [])]), "anything") == ()


def test_version_depends_on_the_lists() -> None:
    one = Words("w", "c", [Terms("a", ["x"])])
    others = [[Terms("b", ["x"])], [Terms("a", ["y"])], [Terms("a", ["x"], False)], [Terms("a", ["x"], True, False)], [Terms("a", ["x", "y"])]]
    assert len({one.version, *(Words("w", "c", lists).version for lists in others)}) == 6


def test_a_hundred_thousand_terms_load_and_a_million_code_points_pass() -> None:
    random = Random(7)
    terms = ["".join(random.choices("abcdefghijklmnopqrstuvwxyz中文字词", k=random.randint(3, 12))) for _ in range(100_000)]
    begun = time.process_time()
    words = Words("w", "c", [Terms("big", terms)])
    assert time.process_time() - begun < 6.0
    begun = time.process_time()
    words.scan("the quick brown 中文字 fox " * 40_000, 0, final=True)
    assert time.process_time() - begun < 4.0
    check_cuts(words, f"x {terms[5]} y {terms[77]}中")
