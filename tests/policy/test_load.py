"""YAML to a located tree: types of the core schema, places, and no input that crashes or stalls it."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moderation.policy.compile import Compiled, compile_policy
from moderation.policy.faults import Faults, Place
from moderation.policy.load import MAX_BYTES, Entries, Items, Node, Scalar, find, parse, plain, words
from tests.policy.doubles import HEAD, VOCABULARY, Files


def tree(source: str | bytes) -> Node:
    faults = Faults("f.yaml")
    node = parse(source.encode() if isinstance(source, str) else source, faults)
    assert faults.found == []
    assert node is not None
    return node


@pytest.mark.parametrize(
    ("raw", "value", "note"),
    [
        ("no", "no", "Norway is a text"),
        ("On", "On", "and so are its kin"),
        ("y", "y", "a letter"),
        ("true", True, "true"),
        ("TRUE", True, "in capitals"),
        ("tRue", "tRue", "not in both"),
        ("~", None, "null"),
        ("", None, "nothing"),
        ("12", 12, "a number"),
        ("-12", -12, "below zero"),
        ("+12", 12, "with a plus"),
        ("012", 12, "no octal number of old YAML"),
        ("0o14", 12, "the octal number of new YAML"),
        ("0xC", 12, "hexadecimal"),
        ("1_000", "1_000", "no number of old YAML"),
        ("190:20:30", "190:20:30", "no number to the base of sixty"),
        ("1.5", 1.5, "a fraction"),
        ("1e3", 1000.0, "an exponent"),
        (".5", 0.5, "without a nought"),
        (".", ".", "a dot"),
        ("-.inf", float("-inf"), "without end"),
        ("2027-03-31", "2027-03-31", "a date is a text; who wants a text faults it"),
        ("'12'", "12", "quotes make a text"),
        ('"tr\\u0075e"', "true", "escapes"),
        ("=", "=", "nothing special"),
        ("9" * 101, "9" * 101, "too long to be a number"),
    ],
)
def test_scalars(raw: str, value: object, note: str) -> None:
    assert plain(tree(f"a: {raw}\n")) == {"a": value}


def test_a_tree_knows_its_places() -> None:
    node = tree("﻿# c\n你好: [a, {b: 'x'}]\nd: |\n  two\n  lines\n")
    assert isinstance(node, Entries)
    assert [(key.raw, key.place) for key, _ in node.entries] == [("你好", Place(2, 1)), ("d", Place(3, 1))]
    assert find(node, ("你好", 1, "b")) == Place(2, 13)
    assert find(node, ("你好", 7, "b")) == Place(2, 5)
    assert find(node, ("nothing",)) == node.place
    assert list(words(node)) == ["a", "x", "two\nlines\n"]


def test_tabs_within_texts_and_comments_are_content() -> None:
    assert plain(tree("a: 'x\ty' #\tc\nb: |\n  x\ty\n")) == {"a": "x\ty", "b": "x\ty\n"}


def test_deep_but_not_too_deep() -> None:
    node = tree("[" * 12 + "]" * 12)
    for _ in range(11):
        assert isinstance(node, Items)
        node = node.items[0]
    assert isinstance(node, Items)


@pytest.mark.parametrize(
    ("source", "code", "place"),
    [
        (b"a: \xff\n", "QP002", (1, 4)),
        ("a: é\nb: ".encode() + b"\xc3(", "QP002", (2, 4)),
        ("a: b".encode("utf-16"), "QP002", (1, 1)),
        (b"", "QP002", (1, 1)),
        (b"# nothing\n", "QP002", (1, 1)),
        (b"a: [b\n", "QP002", (2, 1)),
        (b"a: [b", "QP002", (1, 6)),
        ("[b炸".encode(), "QP002", (1, 4)),
        (b"m: \r\nc", "QP002", (2, 2)),
        (b"m: n\r\xff", "QP002", (2, 1)),
        ("m: n\ro: \u2028".encode(), "QP002", (2, 4)),
        (b"a: {b: c\nd: e\n", "QP002", (2, 2)),
        (b"a" * (MAX_BYTES + 1), "QP013", (1, 1)),
        (b"[" * 200_000, "QP014", (1, 13)),
        (b"- " * 200_000, "QP014", (1, 25)),
        (b"? " * 200_000, "QP014", (1, 25)),
        (b"x: \x00\n", "QP002", (1, 4)),
    ],
)
def test_what_cannot_be_read_is_told_at_once(source: bytes, code: str, place: tuple[int, int]) -> None:
    faults = Faults("f.yaml")
    begun = time.perf_counter()
    parse(source, faults)
    assert time.perf_counter() - begun < 0.5
    assert [(f.code, (f.line, f.column)) for f in faults.sorted()] == [(code, place)]


_PIECES = st.sampled_from(
    ["format: 1\n", "rules:\n", "  - ", "id: a\n", "{", "}", "[", "]", ": ", ", ", "\n", "    ", "- ", "no", "&a ", "*a",
     "!!str ", "<<", "when: ", "all", "category", "'", '"', "|\n", "#", "\t", "detectors:\n", "  d: {kind: pii}\n", "tests:", "%YAML 1.2\n",
     "---\n", "...", "1e999", "0x", "-", "?", "é", "\ud800", "policy: {id: p}\n", "phases: [input]\n"]
)  # fmt: skip


def _compile(source: bytes) -> None:
    found, spent = _timed(source)
    # A second look where the garbage collector came between.
    assert spent < 0.1 or _timed(source)[1] < 0.1
    assert found.policy is not None or found.faults
    for fault in found.faults:
        assert fault.line >= 1
        assert fault.column >= 1
        assert "\n" not in str(fault)


def _timed(source: bytes) -> tuple[Compiled, float]:
    begun = time.process_time()
    found = compile_policy(source, "p.yaml", VOCABULARY, Files({}))
    return found, time.process_time() - begun


@settings(max_examples=250, deadline=None)
@given(st.lists(_PIECES, max_size=30).map("".join).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"format: .nan\npolicy: 1\nrules: 1\n")
@example(b"format: 1\npolicy: {id: p}\nrules: [{when: {at_least_n: {n: 1}}}]\n")
@example(b"? [a]\n: b\n")
def test_no_yaml_crashes_or_stalls_the_loader(source: bytes) -> None:
    _compile(source)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_crash_the_loader(source: bytes) -> None:
    _compile(source)


_WORDS = st.sampled_from(["a", "cards", "block", "input", "high", "", "no", "1h", "pii"])
_KEYS = st.sampled_from(
    ["id", "kind", "when", "all", "n", "of", "at_least_n", "category", "detector", "in", "then", "tests", "given", "expect",
     "action", "patterns", "levels", "words", "en", "cards", "phases", "name", "regex", "must"]
)  # fmt: skip
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(["policy", "regulations", "defaults", "detectors", "word_lists", "messages", "rules"]), _VALUES)
def test_no_value_in_any_place_crashes_the_compiler(key: str, value: object) -> None:
    head = "\n".join(line for line in HEAD.split("\n") if not line.startswith(f"{key}:"))
    _compile(f"{head}\n{key}: {_flow(value)}\n".encode())


def _flow(value: object) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(_flow(one) for one in value) + "]"
        case bool() | None:
            return str(value).lower() if value is not None else "null"
        case str():
            return value or "''"
        case _:
            return str(value)


def test_a_mebibyte_of_rules_loads_in_time() -> None:
    rule = "  - {id: r%d, phases: [input], when: {detector: cards}, then: block, tests: []}\n"
    source = HEAD + "rules:\n" + "".join(rule % n for n in range(1000))
    begun = time.process_time()
    compile_policy(source.encode(), "p.yaml", VOCABULARY, Files({}))
    assert time.process_time() - begun < 5


def test_scalars_keep_how_they_were_written() -> None:
    node = tree("a: 0.30\n")
    assert isinstance(node, Entries)
    value = node.entries[0][1]
    assert isinstance(value, Scalar)
    assert (value.raw, value.plain) == ("0.30", True)
