"""The JSON inside a call's arguments: each scalar is read, and put back without touching its neighbours."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.wire.arguments import (
    MAX_SCALARS,
    Uneditable,
    argument_texts,
    edit_arguments,
    read_arguments,
    rebuild_arguments,
    unescaped,
)
from moderation.wire.leaves import editable

CASES = [
    ("strings", '{"a": "x", "b": {"c": ["y"]}}', [("#/a", "x", False), ("#/b/c/0", "y", False), ("#~keys", "a\nb\nc", False)]),
    ("a number as written", '{"n": 1.50}', [("#/n", "1.50", True), ("#~keys", "n", False)]),
    ("words", "[true, false, null]", [("#/0", "true", True), ("#/1", "false", True), ("#/2", "null", True)]),
    ("a string alone", '"x"', [("#", "x", False)]),
    ("a number alone", " 5 ", [("#", "5", True)]),
    ("escapes are resolved", r'{"\u0061": "\u4e2d"}', [("#/a", "中", False), ("#~keys", "a", False)]),
    ("keys with slash and tilde", '{"a/b~": "x"}', [("#/a~1b~0", "x", False), ("#~keys", "a/b~", False)]),
    ("empty strings say nothing", '{"": ""}', [("", "", False)]),
    ("nothing", "", [("", "", False)]),
    ("an empty object", "{}", [("", "", False)]),
    ("not JSON", "q=x", [("", "q=x", False)]),
    ("half of JSON", '{"q": "x', [("", '{"q": "x', False)]),
    ("half of JSON with escapes", r'{"q": "\u4e2d\"', [("", r'{"q": "\u4e2d\"', False), ("~unescaped", '{"q": "中"', False)]),
    ("a key twice is not JSON for all", '{"q": "x", "q": "y"}', [("", '{"q": "x", "q": "y"}', False)]),
    ("NaN is not JSON", "[NaN]", [("", "[NaN]", False)]),
    ("101 levels", "[" * 101 + "]" * 101, [("", "[" * 101 + "]" * 101, False)]),
    ("very many scalars", "[" + "1," * MAX_SCALARS + "1]", [("", "[" + "1," * MAX_SCALARS + "1]", False)]),
]


@pytest.mark.parametrize(("note", "text", "leaves"), CASES, ids=[c[0] for c in CASES])
def test_reads(note: str, text: str, leaves: list[tuple[str, str, bool]]) -> None:
    assert [tuple(leaf) for leaf in read_arguments(text)] == leaves
    assert argument_texts(text) == [leaf[1] for leaf in leaves]


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        (r"\u0041", "A"),
        (r"\ud83d\ude00", "😀"),
        (r"\ud83d", "\ufffd"),
        (r"\\u0041", r"\u0041"),
        (r"\n\"\/", '\n"/'),
        (r"\x", r"\x"),
    ],
)
def test_unescaped(escaped: str, plain: str) -> None:
    assert unescaped(escaped) == plain


EDITS = [
    ("only that literal", '{ "a" : "x" , "n": 1.50 }', {"#/a": "中\n"}, '{ "a" : "中\\n" , "n": 1.50 }'),
    ("a number becomes a string", '{"n":13812345678,"m":1E5}', {"#/n": "<CN_MOBILE_1>"}, '{"n":"<CN_MOBILE_1>","m":1E5}'),
    ("a scalar alone", ' "x" ', {"#": "y"}, ' "y" '),
    ("what is no JSON", "q=x", {"": "q=y"}, "q=y"),
    ("nothing to do", '{"a": "\\u0061"}', {}, '{"a": "\\u0061"}'),
]


@pytest.mark.parametrize(("note", "text", "texts", "after"), EDITS, ids=[c[0] for c in EDITS])
def test_edits(note: str, text: str, texts: dict[str, str], after: str) -> None:
    assert edit_arguments(text, texts) == after


@pytest.mark.parametrize("path", ["#~keys", "~unescaped"])
def test_what_cannot_be_edited_says_so(path: str) -> None:
    assert not editable(path)
    with pytest.raises(Uneditable):
        edit_arguments('{"a": "x"}', {"#/a": "y", path: "y"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='a/~#"', max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.data())
def test_what_is_put_in_is_read_again(value: object, data: st.DataObject) -> None:
    text = json.dumps(value, ensure_ascii=data.draw(st.booleans()))
    leaves = read_arguments(text)
    parts = [
        data.draw(st.none() | st.text(min_size=1, max_size=4)) if editable(leaf.path) and leaf.path else None for leaf in leaves
    ]
    after = read_arguments(rebuild_arguments(text, parts))
    expected = [leaf.text if part is None else part for leaf, part in zip(leaves, parts, strict=True)]
    assert [leaf.text for leaf in after] == expected
    assert [leaf.path for leaf in after] == [leaf.path for leaf in leaves]
    if all(part is None for part in parts):
        assert rebuild_arguments(text, parts) == text


@given(st.text(alphabet='{}[]":,\\u00e9ab1 ', max_size=20))
def test_anything_is_read(text: str) -> None:
    leaves = read_arguments(text)
    assert leaves
    assert rebuild_arguments(text, [None] * len(leaves)) == text
