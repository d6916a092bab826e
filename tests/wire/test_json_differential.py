"""Our reading of a body against those of four JSON parsers that share no code, and of the looser habits of others.

The property: where we take a body and another parser takes it too, that one reads the same texts that our detectors read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import jiter
import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.errors import Refused
from moderation.wire.body import parse
from moderation.wire.leaves import PLAIN
from moderation.wire.openai import read_request

BOM = b"\xef\xbb\xbf"


def go_like(raw: bytes) -> Any:
    """Like encoding/json: what is no UTF-8 becomes U+FFFD, names are matched whatever their case, the last of two wins."""
    return json.loads(raw.decode(errors="replace"), object_pairs_hook=lambda pairs: {k.casefold(): v for k, v in pairs})


def first_wins(raw: bytes) -> Any:
    """Skips a byte order mark, stops at NUL, and the first of two names wins."""
    text = raw.removeprefix(BOM).partition(b"\0")[0].decode()
    return json.loads(text, object_pairs_hook=lambda pairs: dict(reversed(pairs)))


READERS: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads, "orjson": orjson.loads, "msgspec": msgspec.json.decode, "jiter, behind pydantic and vLLM": jiter.from_json,
    "like Go": go_like, "the first wins": first_wins,
}  # fmt: skip


def texts(value: Any) -> list[str]:
    """Every string and key in messages and tools, as plainly as can be; nothing where messages are no list."""
    found: list[str] = []

    def walk(one: Any) -> None:
        match one:
            case str():
                found.append(mended(one))
            case list():
                for child in one:
                    walk(child)
            case dict():
                for key, child in one.items():
                    found.append(mended(key).casefold())
                    walk(child)

    if type(value) is not dict or type(value.get("messages")) is not list:
        return []
    walk(value["messages"])
    walk(value.get("tools"))
    return sorted(found)


def mended(text: str) -> str:
    return "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in text)


def values(value: Any) -> list[str]:
    """Every string in it that is no key, but for a message's role and what looks like a word of a vocabulary."""
    match value:
        case str():
            return [value] if value and PLAIN(value) is None else []
        case list():
            return [one for child in value for one in values(child)]
        case dict():
            return [one for child in value.values() for one in values(child)]
        case _:
            return []


def ours(raw: bytes) -> Any:
    """What we read; None where we refuse."""
    try:
        value = parse(raw)
        heard = {segment.text for segment in read_request(value).segments}
    except Refused:
        return None
    assert heard.issuperset(values(value["messages"]) + values(value.get("tools")))
    return value


def agree(raw: bytes) -> None:
    value = ours(raw)
    if value is None:
        return
    mine = texts(value)
    for name, read in READERS.items():
        try:
            theirs = read(raw)
        except (ValueError, msgspec.DecodeError, RecursionError):
            continue
        if name == "like Go":  # of two names inside a message it reads one; both were read here
            assert not Counter(texts(theirs)) - Counter(mine)
        else:
            assert texts(theirs) == mine, name


def body(content: str, beside: str = "") -> bytes:
    return f'{{"messages":[{{"role":"user","content":{content}}}]{beside}}}'.encode()


READ = [
    ("plain", body('"hi"')),
    ("NUL by its number", body('"a\\u0000b"')),
    ("a pair of surrogates", body('"\\ud83d\\ude00"')),
    ("a high surrogate alone", body('"\\ud83d"')),
    ("a low surrogate alone", body('"x\\udc00"')),
    ("1e400", body('"hi"', ',"n":1e400')),
    ("-0", body('"hi"', ',"n":-0')),
    ("1E+2", body('"hi"', ',"n":1E+2')),
    ("an integer that no double holds", body('"hi"', ',"n":9007199254740993')),
    ("10,000 digits", body('"hi"', ',"n":' + "9" * 10_000)),
    ("U+2028, as it is and by its number", body('"a\u2028b\\u2028c"')),
    ("content null", body("null")),
    ("content an object", body('{"type":"text","text":"hi"}')),
    ("parts that nobody knows", body('[{"type":"hologram","payload":{"deep":["hi"]}}]')),
    ("parts that are no objects", body('["hi",1,null,["ho"]]')),
    ("tools null", body('"hi"', ',"tools":null')),
    ("tools an object", body('"hi"', ',"tools":{"a":"hi"}')),
    ("no message", b'{"messages":[]}'),
    ("escapes of all kinds", body(r'"\"\\\/\b\f\n\r\t\u00e9"')),
    ("content in two cases: both are read", b'{"messages":[{"role":"user","content":"a","Content":"b"}]}'),
    ("a noncharacter", body('"\uffff\U0010ffff"')),
]
REFUSED = [
    ("a byte order mark", BOM + body('"hi"')),
    ("UTF-16, little end first", b"\xff\xfe" + body('"hi"').decode().encode("utf-16-le")),
    ("UTF-16, big end first, without a mark", body('"hi"').decode().encode("utf-16-be")),
    ("UTF-32", body('"hi"').decode().encode("utf-32")),
    ("a raw surrogate", body('"hi"').replace(b"hi", b"\xed\xa0\xbd")),
    ("not UTF-8", body('"hi"').replace(b"hi", b"\xff")),
    ("overlong", body('"hi"').replace(b"hi", b"\xc0\xaf")),
    ("a raw NUL", body('"hi"').replace(b"hi", b"a\0b")),
    ("NUL behind the body", body('"hi"') + b"\0"),
    ("NUL and another body", body('"hi"') + b"\0" + body('"ho"')),
    ("NaN", body('"hi"', ',"n":NaN')),
    ("Infinity", body('"hi"', ',"n":-Infinity')),
    ("a name twice", body('"hi"', ',"messages":[]')),
    ("a name twice, once by its number", body('"hi"', ',"\\u006dessages":[]')),
    ("content twice", b'{"messages":[{"role":"user","content":"a","content":"b"}]}'),
    ("names that are one but for their case", body('"hi"', ',"Messages":[{"role":"user","content":"ho"}]')),
    ("Tools", body('"hi"', ',"Tools":[{"type":"function","function":{"name":"f","description":"ho"}}]')),
    ("Messages alone", b'{"Messages":[{"role":"user","content":"hi"}]}'),
    ("names that are one to Go: the Kelvin sign and k, long s and s", body('"hi"', ',"me\u017fsages":[]')),
    ("a trailing comma", body('"hi"', ",")),
    ("a comma too many in a list", b'{"messages":[{"role":"user","content":"hi"},]}'),
    ("a comment", body('"hi"') + b"/* */"),
    ("a comment in a line", b"// x\n" + body('"hi"')),
    ("single quotes", body('"hi"').replace(b'"', b"'")),
    ("no quotes", b'{messages:[{"role":"user","content":"hi"}]}'),
    ("a line end in a string", body('"a\nb"')),
    ("a tab in a string", body('"a\tb"')),
    ("an escape that is none", body(r'"\x41"')),
    ("half an escape", body(r'"\u12"')),
    ("two bodies", body('"hi"') * 2),
    ("a body a line", body('"hi"') + b"\n" + body('"ho"')),
    ("a form feed", b"\x0c" + body('"hi"')),
    ("no-break space", "\u00a0".encode() + body('"hi"')),
    ("hexadecimal", body('"hi"', ',"n":0x10')),
    ("a plus sign", body('"hi"', ',"n":+1')),
    ("a leading zero", body('"hi"', ',"n":01')),
    ("half a number", body('"hi"', ',"n":1.')),
    ("deep nesting", body("[" * 101 + "]" * 101)),
    ("messages an object", b'{"messages":{"role":"user","content":"hi"}}'),
    ("messages null", b'{"messages":null}'),
    ("messages a string", b'{"messages":"hi"}'),
    ("messages missing", b'{"prompt":"hi"}'),
    ("messages by number", b'{"messages":{"0":{"role":"user","content":"hi"}}}'),
    ("content a number", body("1")),
    ("content true", body("true")),
    ("a message a string", b'{"messages":["hi"]}'),
    ("a role that is no string", b'{"messages":[{"role":1,"content":"hi"}]}'),
    ("a list", b'[{"role":"user","content":"hi"}]'),
    ("nothing", b""),
    ("white space", b" "),
]


@pytest.mark.parametrize(("note", "raw"), READ, ids=[row[0] for row in READ])
def test_read_by_all_alike(note: str, raw: bytes) -> None:
    assert ours(raw) is not None
    agree(raw)


@pytest.mark.parametrize(("note", "raw"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_where_another_could_differ(note: str, raw: bytes) -> None:
    assert ours(raw) is None


# ---- bodies that are nearly right -----------------------------------------------------------------------------------

KEYS = st.sampled_from(["role", "content", "Content", "text", "type", "messages", "tools", "a", "A", "\u017f", "s", "\u212a", "k", "x\\u0041", "\\ud800"])
TEXTS = st.text(alphabet="aé中\U0001f600\u2028\x7f", max_size=4) | st.sampled_from(["\\u0000", "\\ud83d", "\\ud83d\\ude00", "\\n", "\\/", "\\u0061"])
NUMBERS = st.sampled_from(["0", "-0", "1E+2", "1e400", "-1e-400", "9007199254740993", "9" * 400, "1.5", "true", "null"])
STRINGS = TEXTS.map('"{}"'.format)


def objects(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(KEYS, children), max_size=3).map(lambda pairs: "{" + ",".join(f'"{k}":{v}' for k, v in pairs) + "}")


VALUES = st.recursive(STRINGS | NUMBERS, lambda inner: st.lists(inner, max_size=3).map(lambda some: "[" + ",".join(some) + "]") | objects(inner), max_leaves=6)
MESSAGES = st.lists(st.tuples(VALUES, objects(VALUES)).map(lambda two: '{"role":"user","content":' + two[0] + "," + two[1][1:] if len(two[1]) > 2 else '{"role":"user","content":' + two[0] + "}"), max_size=3)
BODIES = st.tuples(MESSAGES, objects(VALUES)).map(
    lambda two: '{"messages":[' + ",".join(two[0]) + "]" + ("," + two[1][1:] if len(two[1]) > 2 else "}"))
CRUMBS = [b"\0", b"\xff", BOM, b"\xed\xa0\x80", b'"', b"\\", b",", b"}", b"]", b"{", b"//", b"NaN", b"\x0c", b"\n", b"'", b"\xc2\x85"]


@settings(max_examples=300)
@given(BODIES)
def test_whatever_we_read_others_read_alike(source: str) -> None:
    agree(source.encode())


@settings(max_examples=300)
@given(BODIES, st.lists(st.tuples(st.integers(0, 400), st.integers(0, 3), st.sampled_from(CRUMBS) | st.binary(max_size=2)), min_size=1, max_size=3))
def test_whatever_we_read_of_broken_bodies_others_read_alike(source: str, breaks: list[tuple[int, int, bytes]]) -> None:
    raw = source.encode()
    for place, taken, put in breaks:
        at = place % (len(raw) + 1)
        raw = raw[:at] + put + raw[at + taken :]
    agree(raw)
