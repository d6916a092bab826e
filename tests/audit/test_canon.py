"""Canonical leaves: one form, and nothing else is read."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.audit.canon import MAX_DEPTH, MAX_INT, MAX_LEAF, CanonError, decode, encode

text = st.text(st.characters(exclude_categories=["Cs"]))
members = st.text(st.characters(max_codepoint=127), max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(members, inner, max_size=4), max_leaves=20)
objects = st.dictionaries(members, values, max_size=6)

GOOD = [
    ("sorted keys", {"b": 1, "a": 2}, b'{"a":2,"b":1}'),
    ("short escapes", {"a": '"\\\b\f\n\r\t'}, b'{"a":"\\"\\\\\\b\\f\\n\\r\\t"}'),
    ("other controls in lower-case hex", {"a": "\x00\x1f\x7f"}, b'{"a":"\\u0000\\u001f\x7f"}'),
    ("no escapes beyond ASCII", {"a": "é€😂\u2028"}, '{"a":"é€😂\u2028"}'.encode()),
    ("slash stays", {"a": "/"}, b'{"a":"/"}'),
    ("limits of integers", {"a": [MAX_INT, -MAX_INT, 0]}, b'{"a":[9007199254740991,-9007199254740991,0]}'),
    ("a tuple is an array", {"a": (1, "x")}, b'{"a":[1,"x"]}'),
    ("words", {"a": [True, False, None]}, b'{"a":[true,false,null]}'),
]
NO_FORM = [
    ("float", {"a": 1.0}), ("large integer", {"a": MAX_INT + 1}), ("lone surrogate", {"a": "\ud800"}),
    ("key beyond ASCII", {"é": 1}), ("key that is no string", {1: 1}), ("bytes", {"a": b""}), ("a list on top", [1]),
    ("too long", {"a": "x" * MAX_LEAF}), ("set", {"a": {1}}),
]
NOT_CANONICAL = [
    ("empty", b""), ("space", b'{"a": 1}'), ("order", b'{"b":1,"a":2}'), ("duplicate", b'{"a":1,"a":1}'), ("float", b'{"a":1.0}'),
    ("exponent", b'{"a":1e2}'), ("minus zero", b'{"a":-0}'), ("leading zero", b'{"a":01}'), ("NaN", b'{"a":NaN}'),
    ("escape not needed", b'{"a":"\\u0041"}'), ("escaped slash", b'{"a":"\\/"}'), ("upper-case hex", b'{"a":"\\u001F"}'),
    ("lone surrogate", b'{"a":"\\ud800"}'), ("surrogates in bytes", b'{"a":"\xed\xa0\x80"}'),
    ("not UTF-8", b'{"a":"\xff"}'),
    ("trailing newline", b'{"a":1}\n'), ("byte order mark", b'\xef\xbb\xbf{"a":1}'), ("array", b"[1]"),
    ("two values", b'{"a":1}{}'),
    ("integer of 2^53", b'{"a":9007199254740992}'), ("endless integer", b'{"a":' + b"9" * 5000 + b"}"),
    ("very deep", b'{"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}"), ("too long", b'{"a":"' + b"x" * MAX_LEAF + b'"}'),
]


@pytest.mark.parametrize(("value", "data"), [case[1:] for case in GOOD], ids=[case[0] for case in GOOD])
def test_has_one_form(value: dict[str, object], data: bytes) -> None:
    assert encode(value) == data
    assert encode(decode(data)) == data


@pytest.mark.parametrize("value", [case[1] for case in NO_FORM], ids=[case[0] for case in NO_FORM])
def test_has_no_form(value: object) -> None:
    with pytest.raises(CanonError):
        encode(value)


@pytest.mark.parametrize("data", [case[1] for case in NOT_CANONICAL], ids=[case[0] for case in NOT_CANONICAL])
def test_is_refused(data: bytes) -> None:
    with pytest.raises(CanonError):
        decode(data)


def test_depth_is_bounded() -> None:
    deep: object = 1
    for _ in range(MAX_DEPTH - 1):
        deep = [deep]
    assert encode({"a": deep})
    with pytest.raises(CanonError):
        encode({"a": [deep]})


@given(objects)
def test_goes_round(value: dict[str, object]) -> None:
    data = encode(value)
    assert decode(data) == json.loads(data) == value


@given(objects, st.randoms(use_true_random=False))
def test_order_of_members_does_not_matter(value: dict[str, object], random: object) -> None:
    shuffled = dict(sorted(value.items(), key=lambda _: random.random()))  # type: ignore[attr-defined]  # a random.Random
    assert encode(shuffled) == encode(value)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except CanonError:
        return
    assert encode(value) == data
