"""Strict JSON, and edits that touch nothing else."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import Refused
from moderation.wire.body import Number, edit, escape, locate, parse, quote

GOOD = [
    ("an object", b'{"a": 1}', {"a": 1}),
    ("spaces of all kinds", b' \t\r\n[ 1 ,\n2 ]\n', [1, 2]),
    ("a scalar", b'"x"', "x"),
    ("escapes", rb'"\u4e2d\n\/\""', '中\n/"'),
    ("a pair of surrogates", rb'"\ud83d\ude00"', "😀"),
    ("a high surrogate alone is one code point", rb'"a\ud83db"', "a\ufffdb"),
    ("a low surrogate alone", rb'["\uDC00"]', ["\ufffd"]),
    ("surrogates the wrong way round", rb'"\ude00\ud83d"', "\ufffd\ufffd"),
    ("a surrogate in a key", rb'{"\ud800": "\ud800"}', {"\ufffd": "\ufffd"}),
    ("an escaped backslash before u is no surrogate", rb'"\\ud83d"', "\\ud83d"),
    ("a null character", rb'"\u0000"', "\0"),
    ("a huge exponent", b"[1e999]", [float("inf")]),
    ("the same key in two objects", b'[{"a":1},{"a":1}]', [{"a": 1}, {"a": 1}]),
    ("100 levels", b"[" * 100 + b"]" * 100, None),
    ("100 levels of objects", b'{"a":' * 100 + b"1" + b"}" * 100, None),
    ("many brackets, but flat", b"[" + b"[]," * 500 + b"[]]", None),
    ("many brackets in a string", b'"' + b"[{" * 500 + b'"', "[{" * 500),
]

BAD = [
    ("nothing", b"", "invalid_json", "line 1, column 1"),
    ("half an object", b'{"a": 1', "invalid_json", "line 1, column 8"),
    ("a key twice", b'{"a": 1,\n "b": {"c": 1, "c": 2}}', "invalid_json", "line 2, column 16"),
    ("a key twice, written in two ways", rb'{"a": 1, "\u0061": 2}', "invalid_json", "line 1, column 10"),
    ("a key twice after an object with that key", b'{"a":{"b":1},"b":{"a":1},"a":2}', "invalid_json", "line 1, column 26"),
    ("a key twice behind a value that looks like it", b'{"x":"\\"a\\":", "a":1,"a":2}', "invalid_json", "line 1, column 22"),
    ("keys that are one once surrogates are mended", rb'{"\ud800":1,"\ud801":2}', "invalid_json", "line 1, column 13"),
    ("NaN", b'{"NaN": NaN}', "invalid_json", "line 1, column 9"),
    ("Infinity", b"[Infinity]", "invalid_json", "line 1, column 2"),
    ("-Infinity", b"[-Infinity]", "invalid_json", "line 1, column 2"),
    ("a byte order mark", b"\xef\xbb\xbf{}", "invalid_json", "byte order mark"),
    ("not UTF-8", b'{"a":\n "\xe4\xb8\xad\xff"}', "invalid_json", "line 2, column 4"),
    ("a surrogate in UTF-8", b'"\xed\xa0\xbd"', "invalid_json", "line 1, column 2"),
    ("an overlong slash", b'"\xc0\xaf"', "invalid_json", "line 1, column 2"),
    ("UTF-16", '{"a":1}'.encode("utf-16-le"), "invalid_json", "line 1"),
    ("a line end in a string", b'"a\nb"', "invalid_json", "Invalid control character"),
    ("a single quote", b"{'a': 1}", "invalid_json", "line 1, column 2"),
    ("a comment", b"[1] // x", "invalid_json", "line 1, column 5"),
    ("two values", b"{} {}", "invalid_json", "Extra data"),
    ("a comma too many", b"[1,]", "invalid_json", "line 1"),
    ("a leading zero", b"[01]", "invalid_json", "line 1"),
    ("hexadecimal", b"[0x1]", "invalid_json", "line 1"),
    ("digits of another script", "[١]".encode(), "invalid_json", "line 1"),
    ("a form feed is no white space", b"\x0c{}", "invalid_json", "line 1, column 1"),
    ("101 levels", b"[" * 101 + b"]" * 101, "nesting_too_deep", "100"),
    ("101 levels of objects", b'{"a":' * 101 + b"1" + b"}" * 101, "nesting_too_deep", "100"),
    ("900 levels", b"[" * 900 + b"]" * 900, "nesting_too_deep", "100"),
    ("100,000 levels", b"[" * 100_000 + b"]" * 100_000, "nesting_too_deep", "100"),
]


@pytest.mark.parametrize(("note", "raw", "value"), GOOD, ids=[c[0] for c in GOOD])
def test_reads(note: str, raw: bytes, value: object) -> None:
    read = parse(raw)
    assert value is None or read == value


@pytest.mark.parametrize(("note", "raw", "code", "says"), BAD, ids=[c[0] for c in BAD])
def test_refuses(note: str, raw: bytes, code: str, says: str) -> None:
    with pytest.raises(Refused) as refused:
        parse(raw)
    assert refused.value.code == code
    assert says in refused.value.message


def test_an_error_never_quotes_the_body() -> None:
    for raw in (b'{"s3cret": s3cret}', b'{"s3cret": 1, "s3cret": 2}', b'["s3cret\\x"]', b'["s3cret\n"]', b'["s3cret"] s3cret'):
        with pytest.raises(Refused) as refused:
            parse(raw)
        assert "s3cret" not in str(refused.value)


def test_integers_of_any_size() -> None:
    limit = sys.get_int_max_str_digits()
    assert parse(b"9" * limit) == int("9" * limit)
    long = parse(b'{"n": [-' + b"9" * (limit + 1) + b"], \"m\": 7}")
    assert long == {"n": ["-" + "9" * (limit + 1)], "m": 7}
    assert isinstance(long["n"][0], Number)


def test_numbers_as_they_are_written() -> None:
    read = parse(b'[1.50, -0, 1E5, 12345678901234567890123, "1"]', source_numbers=True)
    assert read == ["1.50", "-0", "1E5", "12345678901234567890123", "1"]
    assert [isinstance(one, Number) for one in read] == [True] * 4 + [False]


def test_a_limit_of_the_callers_own() -> None:
    assert parse(b"[[]]", max_depth=2) == [[]]
    with pytest.raises(Refused, match="deeper than 1"):
        parse(b"[[]]", max_depth=1)


@given(st.text())
def test_a_quoted_text_reads_back(text: str) -> None:
    assert parse(quote(text).encode()) == text


@given(st.text(alphabet=st.characters(categories=["Cs", "Ll"])))
def test_quoting_never_writes_a_surrogate(text: str) -> None:
    read = parse(quote(text).encode())
    assert read == "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


@given(st.binary(max_size=60) | st.text(alphabet='[]{},:"\\u019aeNI \n', max_size=40).map(str.encode))
def test_whatever_comes_is_read_or_refused(raw: bytes) -> None:
    """And what is read is what the standard library reads."""
    try:
        value = parse(raw)
    except Refused as refused:
        value = refused.code
        expected: object = "invalid_json"  # this alphabet nests no deeper than 60
    else:
        expected = json.loads(raw.decode())
    assert value == expected


# ---- edits: a writer of its own that knows where it put each value ----------------------------------------------------

SPACES = st.sampled_from(["", "", " ", "\n  ", "\t \r\n"])
KEYS = st.text(alphabet='ab/~"\\#0中', max_size=3)
SCALARS = st.sampled_from([
    "1", "-0.50", "1e999", "true", "null", '""', '"x"', '"a\\"]}b"', '"\\u4e2d\\\\"', '"{[,"', '"\\ud83d"', "9" * 40,
])


@dataclass
class Written:
    """JSON source, and for each pointer the characters of its value."""

    source: str = ""
    places: dict[str, tuple[int, int]] = field(default_factory=dict)


@st.composite
def written(draw: st.DrawFn) -> Written:
    made = Written()

    def value(pointer: str, depth: int) -> None:
        start = len(made.source)
        kind = draw(st.integers(0, 2)) if depth < 4 else 0
        if kind == 0:
            made.source += draw(SCALARS)
        elif kind == 1:
            made.source += "[" + draw(SPACES)
            for index in range(size := draw(st.integers(0, 3))):
                value(f"{pointer}/{index}", depth + 1)
                made.source += draw(SPACES) + ("," + draw(SPACES) if index < size - 1 else "")
            made.source += "]"
        else:
            made.source += "{" + draw(SPACES)
            keys = draw(st.lists(KEYS, max_size=3, unique=True))
            for index, key in enumerate(keys):
                made.source += json.dumps(key, ensure_ascii=draw(st.booleans())) + draw(SPACES) + ":" + draw(SPACES)
                value(f"{pointer}/{escape(key)}", depth + 1)
                made.source += draw(SPACES) + ("," + draw(SPACES) if index < len(keys) - 1 else "")
            made.source += "}"
        made.places[pointer] = (start, len(made.source))

    made.source = draw(SPACES)
    value("", 0)
    made.source += draw(SPACES)
    return made


@given(written())
def test_every_value_is_found_where_it_was_written(made: Written) -> None:
    raw = made.source.encode()
    in_bytes = {
        pointer: (len(made.source[:start].encode()), len(made.source[:end].encode()))
        for pointer, (start, end) in made.places.items()
    }
    assert locate(raw, made.places) == in_bytes
    for pointer, place in in_bytes.items():
        assert locate(raw, [pointer, pointer + "/no/such"]) == {pointer: place}


@given(written(), st.data())
def test_an_edit_changes_those_bytes_alone(made: Written, data: st.DataObject) -> None:
    leaves = [p for p in made.places if not any(q != p and q.startswith(p + "/") for q in made.places)]
    chosen = data.draw(st.lists(st.sampled_from(leaves), unique=True))
    edits = {pointer: quote(data.draw(st.text(max_size=5))) for pointer in chosen}
    expected, at = "", 0
    for pointer in sorted(chosen, key=lambda p: made.places[p]):
        start, end = made.places[pointer]
        expected += made.source[at:start] + edits[pointer]
        at = end
    expected += made.source[at:]
    raw = made.source.encode()
    after = edit(raw, edits)
    assert after == expected.encode()
    value = parse(raw)
    for pointer, source in edits.items():
        value = with_value(value, pointer, json.loads(source))
    assert parse(after) == value


def with_value(value: Any, pointer: str, new: object) -> Any:
    """A deliberately plain way to set a value."""
    if not pointer:
        return new
    *way, last = [t.replace("~1", "/").replace("~0", "~") for t in pointer.split("/")[1:]]
    at = value
    for token in way:
        at = at[int(token) if isinstance(at, list) else token]
    at[int(last) if isinstance(at, list) else last] = new
    return value


def test_nothing_to_edit_gives_the_same_object() -> None:
    raw = b' {"a":1}'
    assert edit(raw, {}) is raw


def test_the_outer_edit_holds() -> None:
    assert edit(b'{"a":{"b":1},"c":2}', {"/a/b": "9", "/a": "0", "/c": "3"}) == b'{"a":0,"c":3}'


@pytest.mark.parametrize("pointer", ["/b", "/a/0", "/a/b/c", "/l/2", "/l/-1", "/l/x", "/l/00"])
def test_a_place_that_is_not_there(pointer: str) -> None:
    with pytest.raises(LookupError):
        edit(b'{"a":{"b":1},"l":[1,2]}', {pointer: "1"})
