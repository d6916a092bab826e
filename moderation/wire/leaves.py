"""Every text below a JSON value, with its path. Knows how JSON hides text, not what a chat is.

A path is a JSON pointer (RFC 6901) where the text can be edited. Keys carry text too but cannot be edited: those of one value
make one text together, a line each, with the path `POINTER~keys` (`~k` is in no pointer, so nothing else has such a path).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from moderation.wire.body import Number, escape

MAX_LEAVES = 100_000
"""More values than this in one body is no chat; it bounds the memory that a small body of tiny values can cost."""
LONG_NUMBER = 7
"""A bare number of at least this many characters is read: a telephone or card number can stand there without quotes."""
KEYS = "~keys"

PLAIN = re.compile(r"(?:[A-Za-z_$][A-Za-z_$.:/\-]{0,39}|[A-Za-z_$][A-Za-z0-9_$.:/\-]{0,14}|[A-Za-z0-9_$.:/\-]{0,6})").fullmatch
"""What a word of a fixed vocabulary, a short id or a function's name looks like: letters, or few characters. Anything else is
read wherever it stands, for a card, an identity number or a key can stand there as well as in a text."""
SHORT = frozenset({"role", "type", "id", "call_id", "tool_call_id", "name", "format", "detail", "mime_type", "media_type"})
"""Fields that hold such words."""
SHORT_IN_TOOLS = frozenset({"type", "format", "$ref"})
"""The same in tool definitions, where names are read."""

_WORDS = frozenset({
    "$defs", "$id", "$ref", "$schema", "additionalItems", "additionalProperties", "allOf", "anyOf", "arguments",
    "cache_control", "const", "contains", "content", "default", "definitions", "dependentRequired", "dependentSchemas",
    "deprecated", "description", "detail", "else", "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "format",
    "function", "functions", "id", "if", "input", "items", "json_schema", "maxItems", "maxLength", "maxProperties", "maximum",
    "minItems", "minLength", "minProperties", "minimum", "multipleOf", "name", "not", "nullable", "oneOf", "parameters",
    "pattern", "patternProperties", "prefixItems", "properties", "propertyNames", "readOnly", "required", "role", "schema",
    "strict", "text", "then", "title", "tool_calls", "tool_call_id", "type", "unevaluatedProperties", "uniqueItems", "url",
    "writeOnly",
})
"""Keys that chats and JSON Schema define: they say nothing of their own."""
_UNEDITABLE = re.compile(r"~(?![01])")


class Leaf(NamedTuple):
    """One text. A tuple, for a body can hold thousands."""

    path: str
    text: str
    literal: bool = False
    """It stands there as a bare number or word."""


class TooMany(Exception):
    """More than MAX_LEAVES values; the reader says in its own words that it refuses."""


def editable(path: str) -> bool:
    """Whether the text at a path of ours can be replaced; else an edit there means a block, or a removal of the whole call."""
    return _UNEDITABLE.search(path) is None


class Leaves:
    """Collects the texts below values."""

    __slots__ = ("_all_keys", "_keys", "_short", "found")

    def __init__(self, short: frozenset[str] = SHORT, all_keys: bool = False) -> None:
        """`short`: the keys whose plain values are skipped; `all_keys`: read plain keys as well."""
        self._short = short
        self._all_keys = all_keys
        self._keys: dict[str, None] = {}
        self.found: list[Leaf] = []

    def take(self, value: Any, path: str) -> None:
        """Read everything below `value`."""
        kind = type(value)
        if kind is str:
            if value:
                self.found.append(Leaf(path, value))
        elif kind is dict:
            self._check(value)
            for key, child in value.items():
                self.member(key, child, path)
        elif kind is list:
            self._check(value)
            for index, child in enumerate(value):
                self.take(child, f"{path}/{index}")
        elif value is not None and kind is not bool:
            text = value if kind is Number else str(value)
            if len(text) >= LONG_NUMBER:
                self.found.append(Leaf(path, str(text), True))

    def member(self, key: str, child: Any, path: str) -> None:
        """Read one member of the object at `path`."""
        self.key(key)
        if key in self._short and _all_plain(child):
            return
        if key == "required" and type(child) is list and _all_plain(child):
            # These repeat the names of properties: read with the keys, they are not a text each.
            self._check(child)
            for name in child:
                self.key(name)
            return
        self.take(child, f"{path}/{escape(key)}")

    def key(self, key: str) -> None:
        if key not in _WORDS and (self._all_keys or not PLAIN(key)):
            self._keys[key] = None

    def close(self, path: str) -> list[Leaf]:
        """All that was found, and the keys of the whole under `path`."""
        if self._keys:
            self.found.append(Leaf(path + KEYS, "\n".join(self._keys)))
        return self.found

    def _check(self, container: dict[str, Any] | list[Any]) -> None:
        if len(self.found) + len(self._keys) + len(container) > MAX_LEAVES:
            raise TooMany


def _all_plain(value: Any) -> bool:
    if type(value) is str:
        return PLAIN(value) is not None
    return type(value) is list and all(type(one) is str and PLAIN(one) for one in value)
