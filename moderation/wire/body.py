"""JSON as every reader reads it, and edits that leave all other bytes alone.

`parse` is strict: UTF-8 without a mark, no key twice, no NaN, at most 100 levels. It runs on the interpreter's C scanner.
`edit` finds values by their JSON pointers (RFC 6901) in the original bytes and replaces those bytes only; it runs when there
is something to edit. Knows nothing of chats: any JSON will do. No error text holds a key or a value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring
from typing import Any, NoReturn

from moderation.errors import Refused

MAX_DEPTH = 100

_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_SCALAR = re.compile(_STRING + rb"|[^ \t\n\r,\]}]++", re.DOTALL)
_BRACKET = re.compile(_STRING + rb"|[\[\]{}]", re.DOTALL)
_STRUCTURE = re.compile(b"(" + _STRING + rb")([ \t\n\r]*+:)?|[\[\]{}]", re.DOTALL)
_CONSTANT = re.compile(_STRING + rb"|(-?Infinity|NaN)", re.DOTALL)

_FAULTS = frozenset({
    "Expecting value", "Expecting property name enclosed in double quotes", "Expecting ':' delimiter",
    "Expecting ',' delimiter", "Unterminated string starting at", "Invalid control character at", "Invalid \\escape",
    "Invalid \\uXXXX escape", "Extra data", "Illegal trailing comma before end of object",
    "Illegal trailing comma before end of array",
})
"""What the scanner says without quoting the text. Anything else is replaced, so that no content gets into an error."""


class Number(str):
    """A number as it is written: where reading it as a value would lose digits, or cannot be done."""

    __slots__ = ()


class _Repeated(ValueError):
    """A key stands twice; where, is found out afterwards."""


class _Constant(ValueError):
    """NaN or Infinity."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Repeated
    return made


def _constant(word: str) -> NoReturn:
    raise _Constant


def _integer(digits: str) -> int | Number:
    # The interpreter refuses to convert more than 4300 digits, for their time grows with the square.
    return int(digits) if len(digits) <= 4000 else Number(digits)


_READER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_LONG_READER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
_SOURCE_READER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=Number, parse_float=Number
)


def parse(raw: bytes, *, max_depth: int = MAX_DEPTH, source_numbers: bool = False) -> Any:
    """The value of a JSON text. Raises Refused(invalid_json | nesting_too_deep), saying where.

    A lone surrogate escape is read as U+FFFD, one code point for one. With `source_numbers` each number is a Number.
    """
    if raw.startswith(b"\xef\xbb\xbf"):
        raise Refused("invalid_json", "line 1, column 1: the body starts with a byte order mark; send UTF-8 without one")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Refused("invalid_json", f"{_place(raw, error.start)}: not UTF-8; send the body as UTF-8") from None
    try:
        value = _read(text, _SOURCE_READER if source_numbers else _READER)
    except json.JSONDecodeError as error:
        fault = error.msg if error.msg in _FAULTS else "not valid JSON"
        raise Refused("invalid_json", f"line {error.lineno}, column {error.colno}: {fault}; send one JSON value") from None
    except _Repeated:
        _refuse_repeated(raw)
    except _Constant:
        at = next(m.start(1) for m in _CONSTANT.finditer(raw) if m[1])
        raise Refused("invalid_json", f"{_place(raw, at)}: NaN and Infinity are not JSON; send a number or null") from None
    except RecursionError:
        _refuse_deep(max_depth)
    if raw.count(b"[") + raw.count(b"{") > max_depth:
        _check_depth(value, max_depth)
    if b"\\u" in raw and _SURROGATE_ESCAPE.search(raw):
        try:
            return _mended(value)
        except _Repeated:
            _refuse_repeated(raw)
    return value


def _read(text: str, reader: json.JSONDecoder) -> Any:
    try:
        return reader.decode(text)
    except (json.JSONDecodeError, _Repeated, _Constant):
        raise
    except ValueError:  # more digits than the interpreter converts
        return _LONG_READER.decode(text)


def _refuse_repeated(raw: bytes) -> NoReturn:
    raise Refused(
        "invalid_json", f"{_place(raw, _repeated(raw))}: this key stands twice in its object; send each key once"
    ) from None


def _refuse_deep(max_depth: int) -> NoReturn:
    raise Refused("nesting_too_deep", f"the JSON is nested deeper than {max_depth} levels; flatten it") from None


def _check_depth(value: Any, max_depth: int) -> None:
    level = [value] if type(value) is dict or type(value) is list else []
    depth = 0
    while level:
        depth += 1
        if depth > max_depth:
            _refuse_deep(max_depth)
        level = [
            child
            for one in level
            for child in (one.values() if type(one) is dict else one)
            if type(child) is dict or type(child) is list
        ]


def mended(text: str) -> str:
    """The text with each lone surrogate as U+FFFD: what can be written as UTF-8."""
    return _SURROGATE.sub("\ufffd", text)


def _mended(value: Any) -> Any:
    match value:
        case Number():
            return value
        case str():
            return mended(value)
        case list():
            return [_mended(one) for one in value]
        case dict():
            return _object([(mended(key), _mended(one)) for key, one in value.items()])
        case _:
            return value


def _place(raw: bytes, at: int) -> str:
    """Line and column (in code points) of a byte."""
    begin = raw.rfind(b"\n", 0, at) + 1
    column = len(raw[begin:at].decode(errors="replace")) + 1
    line = raw.count(b"\n", 0, at) + 1
    return f"line {line}, column {column}"


def _repeated(raw: bytes) -> int:
    """Where the first key that its object already has stands. Slow, and only run to tell of a fault."""
    open_keys: list[set[str]] = []
    for token in _STRUCTURE.finditer(raw):
        if token[2]:
            key = _text(token[1])
            if key in open_keys[-1]:
                return token.start()
            open_keys[-1].add(key)
        elif not token[1]:
            if token[0] in b"[{":
                open_keys.append(set())
            else:
                open_keys.pop()
    return 0


def _text(literal: bytes) -> str:
    """The text of a JSON string literal."""
    if b"\\" not in literal:
        return literal[1:-1].decode()
    text: str = json.loads(literal)
    return mended(text)


def quote(text: str) -> str:
    """The text as a JSON string literal: always valid UTF-8, with no more escapes than JSON asks for."""
    return encode_basestring(text if text.isascii() else mended(text))


def escape(token: str) -> str:
    """A key as a token of a JSON pointer."""
    return token.replace("~", "~0").replace("/", "~1") if "~" in token or "/" in token else token


def tokens(pointer: str) -> list[str]:
    """The keys and indices of a JSON pointer."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


class _Node:
    """What is wanted at one place and below it."""

    __slots__ = ("below", "pointer")

    def __init__(self) -> None:
        self.pointer: str | None = None
        self.below: dict[str, _Node] = {}


def locate(raw: bytes, pointers: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Where in valid JSON the values at these pointers stand: start and end byte. Those that are not there are left out."""
    root = _Node()
    for pointer in pointers:
        node = root
        for token in tokens(pointer):
            node = node.below.setdefault(token, _Node())
        node.pointer = pointer
    found: dict[str, tuple[int, int]] = {}
    _seek(raw, _skip(raw, 0), root, found)
    return found


def _skip(raw: bytes, at: int) -> int:
    space = _SPACE.match(raw, at)
    return space.end() if space else at


def _end(raw: bytes, at: int) -> int:
    """The end of the value that starts here."""
    if raw[at] in b"[{":
        return _close(raw, at + 1)
    scalar = _SCALAR.match(raw, at)
    assert scalar is not None
    return scalar.end()


def _close(raw: bytes, at: int) -> int:
    """The end of the list or object inside which this place is, outside its members' brackets and strings."""
    depth = 1
    for bracket in _BRACKET.finditer(raw, at):
        byte = raw[bracket.start()]
        if byte in b"[{":
            depth += 1
        elif byte in b"]}":
            depth -= 1
            if not depth:
                return bracket.end()
    raise AssertionError("not valid JSON: call parse first")


def _seek(raw: bytes, at: int, node: _Node, found: dict[str, tuple[int, int]]) -> int:
    """Note what is wanted at and below the value that starts here; return its end."""
    start, kind, left = at, raw[at], len(node.below)
    if left and kind in b"[{":
        # Only what is wanted is entered; what is left over is skipped by its brackets, each byte once.
        at = _skip(raw, at + 1)
        index = 0
        while left and raw[at] not in b"]}":
            if kind == 0x7B:
                name = _SCALAR.match(raw, at)
                assert name is not None
                token = _text(name[0])
                at = _skip(raw, _skip(raw, name.end()) + 1)
            else:
                token = str(index)
                index += 1
            below = node.below.get(token)
            left -= below is not None
            at = _skip(raw, _seek(raw, at, below, found) if below is not None else _end(raw, at))
            if raw[at] == 0x2C:
                at = _skip(raw, at + 1)
        end = _close(raw, at)
    else:
        end = _end(raw, start)
    if node.pointer is not None:
        found[node.pointer] = (start, end)
    return end


def edit(raw: bytes, edits: Mapping[str, str]) -> bytes:
    """The JSON with the source text of each value at a pointer replaced, and every other byte as it was.

    `raw` is what `parse` took. Where one pointer leads into the value of another, the outer edit holds.
    """
    if not edits:
        return raw
    places = locate(raw, edits)
    if len(places) != len(edits):
        raise LookupError("there is no value at one of the pointers")
    parts: list[bytes] = []
    at = 0
    for pointer, (start, end) in sorted(places.items(), key=lambda item: (item[1][0], -item[1][1])):
        if start >= at:
            parts += (raw[at:start], edits[pointer].encode())
            at = end
    parts.append(raw[at:])
    return b"".join(parts)
