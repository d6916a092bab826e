"""The arguments of a tool call: a JSON text inside a JSON string. Reads each scalar in it, and puts others in their places.

Knows nothing of where the string stands; paths here go behind its path. `#POINTER` is a scalar inside, `#~keys` all keys, the
empty path the string as it is, where it is not JSON, and `~unescaped` what a lenient reader would make of its escapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from moderation.errors import ModerationError, Refused
from moderation.wire.body import Number, edit, escape, mended, parse, quote
from moderation.wire.leaves import KEYS, Leaf, editable

MAX_SCALARS = 10_000
"""Arguments with more are read as one text."""
UNESCAPED = "~unescaped"

_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|(["\\/bfnrt]))')
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_SHORT_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


class Uneditable(ModerationError):
    """A text that cannot be replaced in its place: a key, or one that is read from broken JSON."""


def read_arguments(text: str) -> list[Leaf]:
    """The texts in a call's arguments: at least one, empty where there is nothing to read."""
    try:
        value = parse(mended(text).encode(), source_numbers=True)
    except Refused:
        return _as_text(text)
    found: list[Leaf] = []
    keys: dict[str, None] = {}
    if not _scalars(value, "#", found, keys):
        return _as_text(text)
    if keys:
        found.append(Leaf("#" + KEYS, "\n".join(keys)))
    return found or [Leaf("", "")]


def _scalars(value: Any, path: str, found: list[Leaf], keys: dict[str, None]) -> bool:
    """Collect; False where there are too many."""
    match value:
        case Number():
            found.append(Leaf(path, str(value), True))
        case str():
            if value:
                found.append(Leaf(path, value))
        case dict():
            for key, child in value.items():
                if key:
                    keys[key] = None
                if not _scalars(child, f"{path}/{escape(key)}", found, keys):
                    return False
        case list():
            for index, child in enumerate(value):
                if not _scalars(child, f"{path}/{index}", found, keys):
                    return False
        case _:
            found.append(Leaf(path, "null" if value is None else "true" if value else "false", True))
    return len(found) <= MAX_SCALARS and len(keys) <= MAX_SCALARS


def _as_text(text: str) -> list[Leaf]:
    """What is not JSON, as it stands; and without its escapes, for some reader may be more lenient than this one."""
    plain = unescaped(text) if "\\" in text else text
    return [Leaf("", text)] if plain == text else [Leaf("", text), Leaf(UNESCAPED, plain)]


def unescaped(text: str) -> str:
    """The text with JSON's escapes resolved wherever they stand."""

    def one(escape: re.Match[str]) -> str:
        if escape[1]:
            return chr(int(escape[1], 16))
        return _SHORT_ESCAPES.get(escape[2], escape[2])

    joined = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), _ESCAPE.sub(one, text))
    return mended(joined)


def edit_arguments(text: str, texts: Mapping[str, str]) -> str:
    """The arguments with other texts at these paths. Scalars become strings; nothing else in them changes.

    Raises Uneditable for keys, and for what was read without its escapes.
    """
    if not texts:
        return text
    if not all(editable(path) for path in texts):
        raise Uneditable("a key, or a text in broken JSON, cannot be replaced: block, or remove the whole call")
    if "" in texts:
        return texts[""]
    return edit(mended(text).encode(), {path[1:]: quote(new) for path, new in texts.items()}).decode()


def argument_texts(text: str) -> list[str]:
    """The texts of `read_arguments` alone, in their order."""
    return [leaf.text for leaf in read_arguments(text)]


def rebuild_arguments(text: str, parts: Sequence[str | None]) -> str:
    """The arguments with those parts of `argument_texts` that are not None put in place."""
    leaves = read_arguments(text)
    return edit_arguments(
        text, {leaf.path: part for leaf, part in zip(leaves, parts, strict=True) if part is not None and part != leaf.text}
    )
