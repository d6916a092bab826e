"""Reading officers' expressions: lengths, emptiness, the prefix closure against brute force, and clear refusals."""

from __future__ import annotations

import itertools
import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.regex import BadRegex, parse
from moderation.detect.syntax import can_be_empty, closure, longest, opening, source


@pytest.mark.parametrize(
    ("text", "length", "empty"),
    [
        ("abc", 3, False),
        ("a|bcd", 3, False),
        ("a?b{2,4}", 5, False),
        ("(?:ab){0,3}", 6, True),
        ("a*", None, True),
        ("x+y", None, False),
        (r"\bfoo\b", 3, False),
        ("^$", 0, True),
        ("[^abc]{2}", 2, False),
        (r"[\d\-x]\p{Han}[[:alpha:]]", 3, False),
        ("(?i)ab(?:c|de)", 4, False),
        ("(?P<name>a)(b)", 2, False),
        ("a{3}", 3, False),
        ("a{2,}", None, False),
        ("a{0}", 0, True),
        ("", 0, True),
        ("{a}", 3, False),
        ("a|", 1, True),
    ],
)
def test_length_and_emptiness(text: str, length: int | None, empty: bool) -> None:
    node = parse(text)
    assert longest(node) == length
    assert can_be_empty(node) is empty


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("(a", "never closed"),
        ("a)", "no ( before"),
        ("[a", "never closed"),
        ("*a", "nothing to repeat"),
        ("a**", "repeat of a repeat"),
        ("^*", "nothing to repeat"),
        ("a{1001}", "at most 1000"),
        ("a{3,1}", "in order"),
        ("(?=a)b", "looks ahead"),
        ("(?<!a)b", "looks behind"),
        (r"(a)\1", "back-references"),
        (r"\Aabc", "part of a longer one"),
        (r"\u4e00", r"\x{4e00}"),
        ("a(?i)b", "very beginning"),
        ("(?x)a", "flag 'x'"),
        ("[z-a]", "in order"),
        ("a\\", "at the end"),
        ("(" * 60 + "a" + ")" * 60, "deeper than 50"),
    ],
)
def test_refusals_say_what_and_where(text: str, part: str) -> None:
    with pytest.raises(BadRegex) as caught:
        parse(text)
    assert part in str(caught.value)
    assert "at character" in str(caught.value)
    assert 0 <= caught.value.at <= len(text)


@pytest.mark.parametrize(
    ("text", "found", "note"),
    [
        ("ＡＢ", "AB", "full-width literals"),
        ("[０-９]{3}", "123", "a full-width range takes what its members become"),
        ("а", "a", "a Cyrillic look-alike"),
        ("[а-я]+", "cop", "look-alikes within a range"),
        (r"\x{ff21}", "A", "by its number"),
        ("é", "e", "an accent"),
        (r"[\-x]", "-", "an escaped hyphen is no range"),
        ("[a-]", "-", "nor is one at the end"),
        ("[]a]", "]", "a bracket that comes first"),
        (r"a\.b", "a.b", "escaped signs"),
        ("a(?s:.)b", "a\nb", "flags of a group"),
        ("(?s)a.b", "a\nb", "flags of all"),
        ("(?i)straSSe", "STRASSE", "case"),
    ],
)
def test_literals_are_spelt_as_the_normalised_text_is(text: str, found: str, note: str) -> None:
    assert re2.compile(source(parse(text))).fullmatch(found) is not None, note


def bounded() -> st.SearchStrategy[str]:
    leaf = st.sampled_from(["a", "b", "[ab]", "c", "(?:)", "."])
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
            st.tuples(inner, st.sampled_from(["?", "{0,2}", "{2}", "{1,2}", "??"])).map(lambda two: f"(?:{two[0]}){two[1]}"),
        ),
        max_leaves=4,
    )


@given(bounded())
def test_closure_is_every_beginning_of_every_match(text: str) -> None:
    node = parse(text)
    length = longest(node)
    assert length is not None
    if length > 6:
        return
    compiled = re.compile(text)
    grown = re2.compile(closure(node))
    every = ["".join(chars) for size in range(length + 1) for chars in itertools.product("abc", repeat=size)]
    beginnings = {word[:cut] for word in every if compiled.fullmatch(word) for cut in range(len(word) + 1)} | {""}
    for word in [*every, "a" * (length + 1)]:
        assert (grown.fullmatch(word) is not None) is (word in beginnings), word


@given(bounded())
def test_every_match_begins_with_the_opening(text: str) -> None:
    node = parse(text)
    begins = re2.compile(opening(node))
    compiled = re.compile(text)
    for size in range(5):
        for chars in itertools.product("abc", repeat=size):
            word = "".join(chars)
            if compiled.fullmatch(word) is not None:
                assert begins.match(word) is not None, word


@pytest.mark.parametrize(("text", "begins", "note"), [
    ("sk-[a-z]{20,300}", r"sk\x{2d}(?:[a-z]){20}", "the least of a repeat, and nothing behind it"),
    ("a{3}b", "(?:a){3}b", "what has one length goes on"),
    ("(?i)x(?:a|bc+)d", "(?i:x(?:a|bc))".replace("bc", "b(?:c){1}"), "no further than the shortest choice"),
    ("a?b", "", "nothing is sure"),
])  # fmt: skip
def test_openings(text: str, begins: str, note: str) -> None:
    assert opening(parse(text)) == begins, note


@given(bounded())
def test_source_means_what_was_written(text: str) -> None:
    again = re2.compile(source(parse(text)))
    before = re.compile(text)
    for size in range(4):
        for chars in itertools.product("abc", repeat=size):
            word = "".join(chars)
            assert (again.fullmatch(word) is None) is (before.fullmatch(word) is None)


@given(st.text(alphabet="ab[]()|*+?{}\\^$.-,1dx:", max_size=12))
def test_any_text_is_read_or_refused_and_what_is_read_compiles_or_re2_says_why(text: str) -> None:
    try:
        node = parse(text)
    except BadRegex:
        return
    try:
        re2.compile(source(node), _quiet())
    except re2.error:
        return
    re2.compile(closure(node), _quiet())
    assert isinstance(can_be_empty(node), bool)


def _quiet() -> re2.Options:
    options = re2.Options()
    options.log_errors = False
    return options


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("[[:]", "[:"),
        ("[:[]", "[:"),
        ("[^[:]", "ab"),
        ("[-[:]", "-[:"),
        ("[!-/]", "!/"),
        ("[[:alpha:]:]", "a:"),
        ("[\\d-]", "1-"),
        ("[]a]", "]a"),
    ],
)
@pytest.mark.parametrize("around", ["(?:{})|(?:x[:]])", "(?:[[:]\0c)|(?:{})|[:alpha:]"])
def test_a_class_means_the_same_in_any_company(text: str, kept: str, around: str) -> None:
    """`[[:]` alone is two signs to RE2; before a `:]` it would begin the name of a class."""
    alone = re2.compile(source(parse(text)))
    joined = re2.compile(source(parse(around.format(text))))
    for char in kept:
        assert alone.fullmatch(char)
        assert joined.fullmatch(char)


ALPHA = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
POINTS = [chr(code) for code in (*range(0x3400), *range(0xFE00, 0x10000), *range(0x1F600, 0x1F650))]
"""Where a class could gain or lose a member by being read in another way: letters, signs, Han's own signs, wide forms, pictures."""
CLASSES: list[tuple[str, str, str, str, str, bool]] = [
    # expression, what stands before the class and after it in a match, members, note, whether the members are what is left out
    ("[[:]\0c", "", "\ufffdc", "[:", "two signs, and not the beginning of a name", False),
    ("[:]]", "", "]", ":", "a class of one sign, and a sign behind it", False),
    ("x[:alpha:]", "x", "", ":alph", "a name without a bracket around it is its letters", False),
    ("y[[:alpha:]:]", "y", "", ALPHA + ":", "a name, and the sign that ends it", False),
    ("z[^[:]", "z", "", "[:", "all but two signs", True),
    ("w[]-]", "w", "", "]-", "a bracket that comes first, and a sign that makes no range", False),
    ("v[!-/]", "v", "", "!\"#$%&'()*+,-./", "a range of signs", False),
    ("u[^[:^alpha:]]", "u", "", ALPHA, "all but what is no letter", False),
    ("t[ａ-ｃ[:]", "t", "", "ａｂｃabc[:", "what is normalised matches in both forms", False),
]


def _means(case: tuple[str, str, str, str, str, bool], word: str) -> bool:
    _, before, after, members, _, left_out = case
    inner = word[len(before) : len(word) - len(after)]
    return word == before + inner + after and len(inner) == 1 and (inner in members) is not left_out


@pytest.mark.parametrize("case", CLASSES, ids=[case[4] for case in CLASSES])
def test_a_class_matches_its_members_and_nothing_else(case: tuple[str, str, str, str, str, bool]) -> None:
    text, before, after, *_ = case
    alone = re2.compile(source(parse(text)))
    odd = [point for point in POINTS if (alone.fullmatch(before + point + after) is None) is _means(case, before + point + after)]
    assert odd == []


def test_a_policy_of_classes_becomes_one_expression() -> None:
    """Found by the fuzzer: each is taken, so their union must be, and must match what any of them matches."""
    joined = re2.compile("|".join(f"(?:{source(parse(text))})" for text, *_ in CLASSES))
    for _, before, after, *_ in CLASSES:
        words = [before + point + after for point in POINTS]
        odd = [word for word in words if (joined.fullmatch(word) is None) is any(_means(case, word) for case in CLASSES)]
        assert odd == []
