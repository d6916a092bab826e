"""The matcher against a slow one that follows the definition, and the law over random patterns and texts."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.matcher import WINDOW, Compiled, Hit, Matcher, Pattern
from moderation.detect.patterns import Patterns
from moderation.detect.regex import BadRegex
from tests.detect.law import check_cuts, check_random, spans, streamed


def detector(*patterns: Pattern) -> Patterns:
    return Patterns("p", patterns, ["c"] * len(patterns))


def slow(patterns: tuple[Pattern, ...], text: str) -> list[tuple[int, int, str]]:
    """Leftmost, then longest, then first: by the book. Strong ones among themselves, weak ones where none of those stands."""
    strong = slow_among(tuple(one for one in patterns if not one.weak), text, [])
    return sorted(strong + slow_among(tuple(one for one in patterns if one.weak), text, strong))


def slow_among(
    patterns: tuple[Pattern, ...], text: str, taken: list[tuple[int, int, str]]
) -> list[tuple[int, int, str]]:
    found: list[tuple[int, int, str]] = []
    at = 0
    while at < len(text):
        best: tuple[int, int, str] | None = None
        for pattern in patterns:
            match = re.compile(pattern.regex).match(text, at, *([at + pattern.reach] if pattern.reach else []))
            if match is None:
                continue
            if pattern.behind_one_of and not (at and re.match(f"[{pattern.behind_one_of}]", text[at - 1])):
                continue
            if pattern.not_before and not pattern.behind_one_of and at and re.match(f"[{pattern.not_before}]", text[at - 1]):
                continue
            length = match.end() - at
            if pattern.check is not None:
                hit = pattern.check(text[max(0, at - WINDOW) : at], match.group(), text[match.end() : match.end() + 1])
                if hit is None or not hit.length:
                    continue
                length = hit.length
            if any(begin < at + length and at < end for begin, end, _ in taken):
                continue
            if pattern.not_after and re.match(f"[{pattern.not_after}]", text[at + length : at + length + 1]):
                continue
            if pattern.lead and not re.search(f"(?:{pattern.lead})\\Z", text[max(0, at - WINDOW) : at]):
                continue
            if best is None or at + length > best[1]:
                best = (at, at + length, pattern.name)
        if best is None:
            at += 1
        else:
            found.append(best)
            at = best[1]
    return found


def odd(before: str, match: str, after: str) -> Hit | None:
    """A check that looks at everything it is given, and may take less than all."""
    if before.endswith("b") or after == "c":
        return None
    return Hit(max(1, len(match) - match.count("-")))


def ends_in_b(before: str, match: str, after: str) -> Hit | None:
    """A check that knows for all of a run that it has seen to its end."""
    return Hit(len(match)) if match.endswith("b") else Hit(0, skip=len(match) if after != "a" else 1)


def ends_in_b_one_by_one(before: str, match: str, after: str) -> Hit | None:
    return Hit(len(match)) if match.endswith("b") else None


def some_patterns() -> st.SearchStrategy[tuple[Pattern, ...]]:
    bodies = [
        "a", "ab", "a{1,3}", "(?:ab|a)c?", "b[ac]{0,2}", "中a?", "a?b", "(?:a-?){2,3}", "aab|b", "[ab]{2}c", "a{1,3}?b?", "文中",
    ]  # fmt: skip
    bounded = st.builds(
        Pattern,
        name=st.just("x"), entity=st.none(), regex=st.sampled_from(bodies), not_before=st.sampled_from(["", "a", "b", "ab"]),
        not_after=st.sampled_from(["", "a", "c"]), check=st.sampled_from([None, odd]),
        lead=st.sampled_from([None, None, "c", "c-?", "中"]), behind_one_of=st.sampled_from(["", "", "", "b-"]), weak=st.booleans(),
    )  # fmt: skip
    endless = st.builds(
        Pattern,
        name=st.just("x"), entity=st.none(), regex=st.sampled_from(["a+", "a+b", "a[bc]*", "-(?:[ab]*?c|[ab]*)"]),
        not_before=st.sampled_from(["", "a"]), reach=st.integers(2, 5), check=st.sampled_from([None, odd]),
        weak=st.booleans(),
    )  # fmt: skip
    return st.lists(st.one_of(bounded, endless), min_size=1, max_size=4).map(
        lambda many: tuple(
            replace(p, name=f"p{i}") for i, p in enumerate(many)
        )
    )


@settings(max_examples=250, deadline=None)
@given(some_patterns(), st.text(alphabet="aaabbc-中文", max_size=14))
def test_same_as_by_the_book_and_uncut_by_cuts(patterns: tuple[Pattern, ...], text: str) -> None:
    found = check_cuts(detector(*patterns), text)
    assert [(f.span.start, f.span.end, f.name) for f in found if f.span] == slow(patterns, text)


@settings(max_examples=60, deadline=None)
@given(some_patterns(), st.text(alphabet="aaabbc-中文 ", min_size=80, max_size=200), st.randoms(use_true_random=False))
def test_long_texts_and_dropped_beginnings(patterns: tuple[Pattern, ...], text: str, random: Random) -> None:
    found = check_random(detector(*patterns), text, random)
    assert [(f.span.start, f.span.end, f.name) for f in found if f.span] == slow(patterns, text)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_at_all(text: str) -> None:
    plain = text.encode("utf-8", "replace").decode()
    words, lines = Pattern("x", None, r"(?i)[a-z]{2,4}\b"), Pattern("y", None, r"^.{3}$")
    check_cuts(detector(words, lines, Pattern("z", None, r"\p{Han}+", reach=3)), plain)


def test_a_rejected_candidate_swallows_no_match_inside_it() -> None:
    def even(before: str, match: str, after: str) -> Hit | None:
        return Hit(len(match)) if match.startswith("2") else None

    numbers = detector(Pattern("n", None, r"\d{4}", check=even))
    assert spans(check_cuts(numbers, "1123456"), "1123456") == [("n", "2345")]


@pytest.mark.parametrize(("text", "said", "note"), [
    ("x 12 999999 y", [("s", "999999")], "the weak one is the leftmost, and gives way"),
    ("999999 12", [("s", "999999"), ("w", "12")], "what is left of it is looked at anew"),
    ("12 34 x 999999", [("w", "12 34"), ("s", "999999")], "apart from each other, both count"),
    ("12 34 999998", [("w", "12 34 999998")], "what fails its check is nothing to give way to"),
])  # fmt: skip
def test_what_is_weak_gives_way(text: str, said: list[tuple[str, str]], note: str) -> None:
    def even(before: str, match: str, after: str) -> Hit | None:
        return Hit(len(match)) if match == "999999" else None

    weak = Pattern("w", None, r"\d(?: ?\d){1,20}", not_before="0-9", weak=True)
    both = detector(weak, Pattern("s", None, r"\d{6}", not_before="0-9", not_after="0-9", check=even))
    assert spans(check_cuts(both, text), text) == said, note


@pytest.mark.parametrize(("strong", "weak", "text", "said", "note"), [
    ("2abcdef", "12", "12abcdef", [("s", "2abcdef")], "the strong one is long half written when the weak one is whole"),
    ("2abcdef", "12", "12abcxyz", [("w", "12")], "and then it is none"),
    ("ab", "bc{1,9}x", "abccccx", [("s", "ab")], "the weak one may begin within a strong one that is whole"),
    ("ab", "bc{1,9}x", "abccccy", [("s", "ab")], "and then it is none, too"),
    ("abc|cd", "cde{1,5}f", "abcdeeef", [("s", "abc")], "the strong ones among themselves do not mind the weak one"),
])  # fmt: skip
def test_a_cut_between_strong_and_weak(strong: str, weak: str, text: str, said: list[tuple[str, str]], note: str) -> None:
    both = detector(Pattern("s", None, strong), Pattern("w", None, weak, weak=True))
    for padded in (text, f"{text} and more", f"{text}{text}"):
        found = spans(check_cuts(both, padded), padded)
        assert found[: len(said)] == said, note


def test_weak_or_not_is_part_of_the_version() -> None:
    one = Pattern("x", None, "a")
    versions = {detector(*many).version for many in [(one,), (replace(one, weak=True),), (one, replace(one, weak=True))]}
    assert len(versions) == 3


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="aaab-", max_size=30))
def test_what_is_skipped_holds_nothing(text: str) -> None:
    runs = Pattern("x", None, "a{1,6}b?", check=ends_in_b)
    found = spans(check_cuts(detector(runs), text), text)
    assert found == spans(check_cuts(detector(replace(runs, check=ends_in_b_one_by_one)), text), text)


def test_what_is_skipped_is_not_asked_for() -> None:
    asked: list[str] = []

    def counted(before: str, match: str, after: str) -> Hit | None:
        asked.append(match)
        return ends_in_b(before, match, after)

    runs = detector(Pattern("x", None, "a{1,20}b?", check=counted))
    assert runs.scan("aaaaaaaaaa-" * 20, 0, final=True).findings == ()
    assert len(asked) == 20


def test_lines() -> None:
    lines = detector(Pattern("head", None, "^#[a-z]{1,9}$"))
    text = "#one\nx #two\n#three\n#four."
    assert spans(check_cuts(lines, text), text) == [("head", "#one"), ("head", "#three")]


def test_a_boundary_does_not_see_what_stands_before_the_text_it_may_see() -> None:
    words = detector(Pattern("w", None, r"\bcat\b"))
    text = "cat 猫cat猫 concat cats cat"
    assert spans(check_cuts(words, text), text) == [("w", "cat"), ("w", "cat"), ("w", "cat")]


def test_only_what_may_grow_is_held() -> None:
    keys = detector(Pattern("k", None, r"sk-[a-z]{4}", not_before="a-z"))
    _, holds = streamed(keys, tuple("ask s sk-abxx."))
    assert holds == [1, 2, 3, 4, 4, 6, 6, 6, 6, 6, 6, 6, 6, 14, 14], "letter by letter"


def test_more_than_reach_is_cut_by_the_text_alone() -> None:
    many = detector(Pattern("m", None, "a+", reach=3))
    assert spans(check_cuts(many, "aaaaaaa"), "aaaaaaa") == [("m", "aaa"), ("m", "aaa"), ("m", "a")]


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        (Pattern("x", None, "a*"), "empty"),
        (Pattern("x", None, "a+"), "reach"),
        (Pattern("x", None, "a{1000}b{1000}", reach=20_000), "at most 16384"),
        (Pattern("x", None, r"\p{Klingon}"), "RE2 refuses"),
        (Pattern("x", None, "(?:a{1000}){17}"), "at most 16384"),
    ],
)
def test_what_cannot_run_is_refused(pattern: Pattern, part: str) -> None:
    with pytest.raises(BadRegex, match=part):
        Compiled(pattern)


def test_version_depends_on_all_that_findings_depend_on() -> None:
    one = Pattern("x", "E", "a")
    others = [
        Pattern("y", "E", "a"), Pattern("x", "F", "a"), Pattern("x", "E", "b"), Pattern("x", "E", "a", not_before="b"),
        Pattern("x", "E", "a", not_after="b"), Pattern("x", "E", "a", check=odd), Pattern("x", "E", "a", lead="b"),
        Pattern("x", "E", "a", behind_one_of="b"),
    ]  # fmt: skip
    versions = {Matcher([p]).version for p in [one, *others]}
    assert len(versions) == len(others) + 1
    assert Matcher([Pattern("x", "E", "a", "said otherwise")]).version == Matcher([one]).version


@pytest.mark.parametrize("text", ["a" * 1_000_000, "ab" * 500_000, "中文" * 500_000, "-" * 1_000_000, "1 " * 500_000])
def test_a_million_code_points_take_no_time(text: str) -> None:
    mail = Pattern("w", None, r"(?i)[a-z]{3,60}@[a-z]{1,60}", not_before="a-z")
    one = detector(Pattern("n", None, r"\d{11,18}x", not_before="0-9"), mail)
    begun = time.process_time()
    assert one.scan(text, 0, final=True).findings == ()
    assert time.process_time() - begun < 1.0
