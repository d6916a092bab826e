"""One pattern: what is looked for, what it needs around it, how it proves itself, and what RE2 makes of it.

Works on UTF-8 bytes, because RE2 does. Knows nothing of what the patterns mean, nor of how many are looked for at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import re2

from moderation.detect import regex, syntax
from moderation.verdict import FULL_SCORE

WINDOW = 64
"""Code points before a match that its `check` and its `lead` may read."""
MOST_REACH = 16_384
_MEMORY = 256 << 20


@dataclass(frozen=True, slots=True)
class Hit:
    """What a check says of a match: how much of it counts, and for how much."""

    length: int
    """0 where nothing of it counts."""
    score: int = FULL_SCORE
    entity: str | None = None
    """In place of the pattern's own."""
    skip: int = 1
    """Of a length of 0: in so many code points, from the match's first on, no match of the pattern begins. Saves checks only."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """One thing to look for in normalised text."""

    name: str
    entity: str | None
    regex: str
    description: str = ""
    not_before: str = ""
    """What must not stand before a match: the inside of an ASCII character class."""
    not_after: str = ""
    behind_one_of: str = ""
    """What must stand right before a match: the inside of an ASCII character class. In place of `not_before`."""
    check: Callable[[str, str, str], Hit | None] | None = None
    """Given up to WINDOW code points before, the match, and the next code point or nothing: checksums, context."""
    lead: str | None = None
    """An expression (at most WINDOW long) that must end where the match begins, and is no part of it."""
    weak: bool = False
    """It gives way: it has no match where one of a pattern that is not weak stands (patterns.py)."""
    widens: str | None = None
    """The expression of another pattern, all of whose matches are matches of this one, too (leet.py)."""
    reach: int | None = None
    """The longest match, for an expression without an end: only so much of the text is shown to it."""
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    start: int
    end: int
    pattern: Pattern
    hit: Hit


def options(longest: bool = False) -> re2.Options:
    chosen = re2.Options()
    chosen.max_mem = _MEMORY
    chosen.log_errors = False
    chosen.longest_match = longest
    chosen.never_capture = True
    return chosen


def members(inside: str) -> frozenset[str]:
    """The ASCII characters of a class."""
    if not inside:
        return frozenset()
    compiled = re2.compile(f"[{inside}]", options())
    return frozenset(chr(code) for code in range(128) if compiled.fullmatch(chr(code)))


class Compiled:
    """One pattern made ready. Raises regex.BadRegex."""

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        node = regex.parse(pattern.regex)
        if syntax.can_be_empty(node):
            raise regex.BadRegex("it matches the empty text, so it would match everywhere", 0)
        length = syntax.longest(node)
        reach = pattern.reach if pattern.reach is not None else length
        if reach is None:
            raise regex.BadRegex("a match has no longest length; state `reach`, the most code points it may have", 0)
        if not 0 < reach <= MOST_REACH:
            raise regex.BadRegex(f"a match may have at most {MOST_REACH} code points", 0)
        self.reach = reach
        self.capped = length is None or length > reach
        self.before = f"[^{pattern.not_before}]" if pattern.not_before else "(?s:.)"
        if pattern.behind_one_of:
            self.before = f"[{pattern.behind_one_of}]"
        self.after = members(pattern.not_after)
        self.body = syntax.source(node)
        self.closure = syntax.closure(node)
        self.opening = syntax.opening(node)
        try:
            self.match = re2.compile(self.body, options())
        except re2.error as error:
            raise regex.BadRegex(f"RE2 refuses it: {_words(error)}", 0) from None
        self.lead = re2.compile(f"(?:{syntax.source(regex.parse(pattern.lead))})\\z", options()) if pattern.lead else None

    @cached_property
    def search(self) -> Find:
        return finder(re2.compile(f"{self.before}(?:{self.body})", options()))

    @cached_property
    def pending(self) -> Find:
        return finder(re2.compile(f"{self.before}(?:{self.closure})\\z", options(longest=True)))


def _words(error: re2.error) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


Find = Callable[[bytes, int, int], tuple[int, int]]
"""Where the first match of an expression in raw[begin:end] is; (-1, -1) where there is none."""


def finder(compiled: re2._Regexp) -> Find:
    """A search without the wrapper's match object, which would take longer than the search on a chunk of a stream."""
    inner = compiled._regexp.Match
    anchor = re2._Anchor.UNANCHORED

    def find(raw: bytes, begin: int, end: int) -> tuple[int, int]:
        span: tuple[int, int] = inner(anchor, raw, begin, end)[0]
        return span

    return find
