"""The syntax tree of an expression, and what can be told of it without a text.

How long its longest match is, whether it matches the empty text, what every match begins with, and its *prefix closure*: the
expression that matches every text that could still grow into a match (full matches included). Searched for at the end of a
growing text, the closure finds the earliest place where a match may be half written.

Whatever matches one code point (a class, an escape) is an opaque atom; RE2 judges those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never


@dataclass(frozen=True, slots=True)
class Atom:
    """Matches exactly one code point."""

    source: str


@dataclass(frozen=True, slots=True)
class Check:
    r"""Matches no code point: ^ $ \b \B."""

    source: str


@dataclass(frozen=True, slots=True)
class Chain:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Flagged:
    """A group with flags of its own."""

    flags: str
    inner: Node


@dataclass(frozen=True, slots=True)
class Repeat:
    inner: Node
    least: int
    most: int | None
    lazy: bool


Node = Atom | Check | Chain | Choice | Flagged | Repeat


def source(node: Node) -> str:
    """RE2 source of a node; safe to stand next to anything."""
    match node:
        case Atom(text) | Check(text):
            return text
        case Chain(parts):
            return "".join(source(part) for part in parts)
        case Choice(options):
            return "(?:" + "|".join(source(option) for option in options) + ")"
        case Flagged(flags, inner):
            return f"(?{flags}:{source(inner)})"
        case Repeat(inner, least, most, lazy):
            return f"(?:{source(inner)}){_count(least, most)}{'?' if lazy else ''}"
        case _:
            assert_never(node)


def _count(least: int, most: int | None) -> str:
    match least, most:
        case 0, None:
            return "*"
        case 1, None:
            return "+"
        case 0, 1:
            return "?"
        case _, None:
            return f"{{{least},}}"
        case _:
            return f"{{{least},{most}}}"


def closure(node: Node) -> str:
    """RE2 source of what matches each match, wherever it ends, and at the end of the text each beginning of one.

    It matches the empty text there, too. With a \\z behind it, it is the prefix closure.
    """
    # At the end of the text whatever is still to come counts for nothing, so each part is written once.
    match node:
        case Atom(text) | Check(text):
            return f"(?:{text}|\\z)"
        case Chain(parts):
            return "".join(closure(part) for part in parts)
        case Choice(options):
            return "(?:" + "|".join(closure(option) for option in options) + ")"
        case Flagged(flags, inner):
            return f"(?{flags}:{closure(inner)})"
        case Repeat(inner, least, most, lazy):
            return f"(?:{closure(inner)}){_count(least, most)}{'?' if lazy else ''}"
        case _:
            assert_never(node)


def opening(node: Node) -> str:
    """RE2 source of what every match begins with, as far as that has one length: shorter to search for, and never less."""
    return _opening(node)[0]


def _opening(node: Node) -> tuple[str, bool]:
    """With whether it is the whole node, so that what comes after the node may be said, too."""
    match node:
        case Atom(text):
            return text, True
        case Check():
            return "", True
        case Chain(parts):
            built = ""
            for part in parts:
                more, whole = _opening(part)
                built += more
                if not whole:
                    return built, False
            return built, True
        case Choice(options):
            found = [_opening(option) for option in options]
            return "(?:" + "|".join(text for text, _ in found) + ")", all(whole for _, whole in found)
        case Flagged(flags, inner):
            text, whole = _opening(inner)
            return f"(?{flags}:{text})", whole
        case Repeat(inner, least, most, _):
            if least == 0:
                return "", False
            text, whole = _opening(inner)
            return (f"(?:{text}){{{least}}}", most == least) if whole else (text, False)
        case _:
            assert_never(node)


def longest(node: Node) -> int | None:
    """The most code points that a match can have; None where there is no end."""
    match node:
        case Atom():
            return 1
        case Check():
            return 0
        case Chain(parts):
            lengths = [longest(part) for part in parts]
            return None if None in lengths else sum(length or 0 for length in lengths)
        case Choice(options):
            lengths = [longest(option) for option in options]
            return None if None in lengths else max((length or 0 for length in lengths), default=0)
        case Flagged(_, inner):
            return longest(inner)
        case Repeat(inner, _, most, _):
            length = longest(inner)
            if length == 0 or most == 0:
                return 0
            return None if length is None or most is None else length * most
        case _:
            assert_never(node)


def can_be_empty(node: Node) -> bool:
    match node:
        case Atom():
            return False
        case Check():
            return True
        case Chain(parts):
            return all(can_be_empty(part) for part in parts)
        case Choice(options):
            return any(can_be_empty(option) for option in options)
        case Flagged(_, inner):
            return can_be_empty(inner)
        case Repeat(inner, least, _, _):
            return least == 0 or can_be_empty(inner)
        case _:
            assert_never(node)
