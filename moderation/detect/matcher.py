"""Many patterns over one growing text, so that cutting the text anywhere changes nothing that is found.

What there is at a place depends on the text from `behind` code points before it to `reach` + 1 after it, and on nothing
else. Where matches overlap, the leftmost wins, then the longest, then the one that stands first. A place is *pending* while
the rest of the text could still grow into a match that begins there; nothing at or behind the first such place is told.

Works on UTF-8 bytes, because RE2 does. Knows nothing of what the patterns mean: the catalogue, secrets and pii do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import re2

from moderation import normalise
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
    score: int = FULL_SCORE
    entity: str | None = None
    """In place of the pattern's own."""


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
    check: Callable[[str, str, str], Hit | None] | None = None
    """Given up to WINDOW code points before, the match, and the next code point or nothing: checksums, context."""
    lead: str | None = None
    """An expression (at most WINDOW long) that must end where the match begins, and is no part of it."""
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


def _options(longest: bool = False) -> re2.Options:
    options = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    options.longest_match = longest
    options.never_capture = True
    return options


def members(inside: str) -> frozenset[str]:
    """The ASCII characters of a class."""
    if not inside:
        return frozenset()
    compiled = re2.compile(f"[{inside}]", _options())
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
        self.after = members(pattern.not_after)
        self.body = syntax.source(node)
        self.closure = syntax.closure(node)
        self.opening = syntax.opening(node)
        try:
            self.match = re2.compile(self.body, _options())
            self.search = _find(re2.compile(f"{self.before}(?:{self.body})", _options()))
        except re2.error as error:
            raise regex.BadRegex(f"RE2 refuses it: {_words(error)}", 0) from None
        self.lead = re2.compile(f"(?:{syntax.source(regex.parse(pattern.lead))})\\z", _options()) if pattern.lead else None

    @cached_property
    def pending(self) -> Find:
        return _find(re2.compile(f"{self.before}(?:{self.closure})\\z", _options(longest=True)))


def _words(error: re2.error) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)


Find = Callable[[bytes, int, int], tuple[int, int]]
"""Where the first match of an expression in raw[begin:end] is; (-1, -1) where there is none."""


def _find(compiled: re2._Regexp) -> Find:
    """A search without the wrapper's match object, which would take longer than the search on a chunk of a stream."""
    inner = compiled._regexp.Match
    anchor = re2._Anchor.UNANCHORED

    def find(raw: bytes, begin: int, end: int) -> tuple[int, int]:
        span: tuple[int, int] = inner(anchor, raw, begin, end)[0]
        return span

    return find


class _Place:
    """A position in a text and in its bytes. Moves forward at the cost of the way."""

    __slots__ = ("byte", "char", "narrow", "raw")

    def __init__(self, raw: bytes, narrow: bool) -> None:
        self.raw = raw
        self.narrow = narrow
        self.char = 0
        self.byte = 0

    def to_byte(self, byte: int) -> int:
        """Go to a byte; returns which code point it is."""
        if self.narrow:
            self.char = byte
        else:
            self.char += len(self.raw[self.byte : byte].decode())
        self.byte = byte
        return self.char

    def to_char(self, char: int, text: str) -> int:
        """Go to a code point of `text`; returns which byte it is."""
        if self.narrow:
            self.byte = char
        else:
            self.byte += len(text[self.char : char].encode())
        self.char = char
        return self.byte


class Matcher:
    """Looks for all its patterns at once. Pure once built; building is what costs."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._all = tuple(Compiled(pattern) for pattern in patterns)
        plain = [one for one in self._all if one.lead is None]
        self._led = [one for one in self._all if one.lead is not None]
        self.reach = max((one.reach for one in self._all), default=0)
        self.behind = WINDOW if any(one.lead or one.pattern.check for one in self._all) else 1
        # Only those that show a match less than it would take can be pending farther back than they reach.
        self._least = min((one.reach for one in plain if one.capped), default=MOST_REACH)
        self._grow = _union([(one.before, f"(?:{one.body})|(?:{one.closure})\\z") for one in plain])
        self._hang = _union([(one.before, f"(?:{one.closure})\\z") for one in plain])
        self._any = _union([(one.before, one.body) for one in plain])
        # What a led match begins with, behind its lead: few texts hold that, and very many hold a lead.
        self._led_any = _union([(f"(?:{one.pattern.lead})", one.opening) for one in self._led])
        self._led_grow = _union([(f"(?:{one.pattern.lead})", f"(?:{one.opening})|(?:{one.closure})\\z") for one in self._led])
        self._set = re2.Set.SearchSet(_options())
        for one in self._all:
            self._set.Add(f"{one.before}(?:{one.body})")
        if self._all:
            self._set.Compile()
        spelt = "\n".join(repr((_spell(one.pattern), one.reach)) for one in self._all)
        self.version = hashlib.sha256(f"matcher 1\n{normalise.VERSION}\n{spelt}".encode()).hexdigest()

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Match], int]:
        """Matches that begin at or after `start` and are settled, in order; and the hold (detect/api.py)."""
        hold = self.quiet(text, start, final)
        return _Scan(self, text, start, final).run(final) if hold is None else ([], hold)

    def quiet(self, text: str, start: int, final: bool) -> int | None:
        """The hold where one search tells that there is no match before it; None where it takes a closer look."""
        length = len(text)
        if start >= length:
            return length
        if self._led and self.led(text, start, final):
            return None
        quick = self._any if final else self._grow
        if quick is None:
            return length
        tail = _tail(text, start)
        raw = tail.encode()
        size = len(raw)
        begin, end = quick(raw, 0, size)
        if begin < 0:
            return length
        if not final and end == size:
            at = length - (size - begin if size == len(tail) else len(raw[begin:].decode())) + 1
            if length - at <= self._least:
                return at
        return None

    def led(self, text: str, start: int, final: bool) -> bool:
        """Whether a match behind a lead may stand in text[start:], or be half written there."""
        find = self._led_any if final else self._led_grow
        around = text[start - WINDOW :].encode() if start > WINDOW else text.encode()
        return find is not None and find(around, 0, len(around))[0] >= 0


def _tail(text: str, start: int) -> str:
    """One code point more in front: what stands before the first place, or a line's end where nothing does."""
    return text[start - 1 :] if start else "\n" + text


class _Scan:
    """The slow way: candidates of each pattern that hits, merged from left to right."""

    def __init__(self, matcher: Matcher, text: str, start: int, final: bool) -> None:
        self.matcher = matcher
        self.text = text
        self.tail = tail = _tail(text, start)
        self.raw = raw = tail.encode()
        self.base = start - 1
        self.start = start
        self.narrow = len(raw) == len(tail)
        led = bool(matcher._led) and matcher.led(text, start, final)
        hits: list[int] = matcher._set.Match(raw) or []
        self.hits = [matcher._all[i] for i in sorted(hits) if led or matcher._all[i].lead is None]
        self.led = matcher._led if led else []

    def run(self, final: bool) -> tuple[list[Match], int]:
        length = len(self.text)
        found: list[Match] = []
        begin = self.start
        hold = length if final else self.hold(begin)
        walks = [_Walk(self, one, order) for order, one in enumerate(self.hits)]
        while walks:
            best: tuple[tuple[int, int, int], Match] | None = None
            for walk in walks:
                match = walk.next(begin, hold, best[0] if best is not None else None)
                if match is not None:
                    rank = (match.start, -match.end, walk.order)
                    if best is None or rank < best[0]:
                        best = rank, match
            if best is None:
                break
            found.append(best[1])
            begin = best[1].end
            if begin > hold:
                hold = self.hold(begin)
        return found, hold

    def hold(self, begin: int) -> int:
        """The first pending place at or after `begin`."""
        matcher, length = self.matcher, len(self.text)
        place = min((self.pending(one, begin) for one in self.led), default=length)
        if matcher._hang is not None:
            first = self.last(matcher._hang, max(begin, length - matcher.reach))
            if length - first > matcher._least:
                # Some patterns do not reach so far, so ask each.
                first = min(self.pending(one, begin) for one in matcher._all if one.lead is None)
            place = min(place, first)
        return place

    def last(self, find: Find, begin: int) -> int:
        """Where the first match that ends with the text begins, from `begin` on; the end of the text where there is none."""
        piece = self.tail[begin - 1 - self.base :]
        if not piece:
            return len(self.text)
        raw = piece.encode()
        first, _ = find(raw, 0, len(raw))
        return len(self.text) if first < 0 else begin + len(raw[:first].decode())

    def pending(self, one: Compiled, begin: int) -> int:
        length = len(self.text)
        begin = max(begin, length - one.reach)
        while begin < length:
            begin = self.last(one.pending, begin)
            if begin >= length or one.lead is None or self.leads(one, begin):
                return begin
            begin += 1
        return length

    def leads(self, one: Compiled, at: int) -> bool:
        return one.lead is None or one.lead.search(self.text[max(0, at - WINDOW) : at].encode()) is not None


class _Walk:
    """One pattern's candidates, from left to right."""

    __slots__ = ("at", "found", "one", "order", "place", "scan")

    def __init__(self, scan: _Scan, one: Compiled, order: int) -> None:
        self.scan = scan
        self.one = one
        self.order = order
        self.place = _Place(scan.raw, scan.narrow)
        self.at = scan.start
        self.found: Match | None = None

    def next(self, begin: int, limit: int, best: tuple[int, int, int] | None) -> Match | None:
        """The first match that begins at or after `begin` and before `limit`; both only ever grow.

        None, too, where it could not win against `best` (start, -end, order): checks are what costs.
        """
        if self.found is not None and self.found.start >= begin:
            return self.found if self.found.start < limit else None
        self.found = None
        scan, place = self.scan, self.place
        at = max(begin, self.at)
        while at < limit:
            before = at - 1 - scan.base
            if place.char != before:
                place.to_char(before, scan.tail)
            stop = len(scan.raw)
            if self.one.capped:
                # An expression without an end may run on to the end of the text, from each place anew; so show it a window
                # that holds all that a match from the next `reach` places may see, at most four bytes a code point.
                stop = min(stop, place.byte + 8 * self.one.reach + 8)
            begins, ends = self.one.search(scan.raw, place.byte, stop)
            if begins < 0:
                if stop < len(scan.raw):
                    at += self.one.reach
                    continue
                at = len(scan.text)
                break
            first, at = at, place.to_byte(begins) + scan.base + 1
            if at >= limit:
                break
            if stop < len(scan.raw) and at >= first + self.one.reach:
                continue
            end = at - 1 + len(scan.raw[begins:ends].decode())
            if best is not None and (at, -end, self.order) > best:
                break
            self.found = self._judged(at, begins, ends)
            at += 1
            if self.found is not None:
                break
        self.at = at
        return self.found

    def _judged(self, start: int, byte: int, end: int) -> Match | None:
        """The match that begins at `start`, if it is a good one. `byte` is where the code point before it begins."""
        scan, one = self.scan, self.one
        if not scan.leads(one, start):
            return None
        byte += 1 if scan.narrow else len(scan.tail[self.place.char].encode())
        matched = scan.raw[byte:end].decode()
        if one.capped and len(matched) > one.reach:
            shown = one.match.match(scan.raw, byte, byte + len(matched[: one.reach].encode()))
            if shown is None:
                return None
            matched = scan.raw[byte : shown.end()].decode()
        pattern, text = one.pattern, scan.text
        hit: Hit | None = Hit(len(matched))
        if pattern.check is not None:
            stop = start + len(matched)
            hit = pattern.check(text[max(0, start - WINDOW) : start], matched, text[stop : stop + 1])
        if hit is None or not hit.length:
            return None
        stop = start + hit.length
        if one.after and text[stop : stop + 1] in one.after and stop < len(text):
            return None
        return Match(start, stop, pattern, hit)


def _union(parts: Sequence[tuple[str, str]]) -> Find | None:
    """One expression for (what stands before, expression) pairs; leftmost, then longest."""
    if not parts:
        return None
    grouped: dict[str, list[str]] = {}
    for before, body in parts:
        grouped.setdefault(before, []).append(f"(?:{body})")
    every = "|".join(f"{before}(?:{'|'.join(bodies)})" for before, bodies in grouped.items())
    return _find(re2.compile(every, _options(longest=True)))


def _spell(pattern: Pattern) -> tuple[str | None, ...]:
    """All that its findings depend on; checks are code, and go with the version in the hash."""
    check = getattr(pattern.check, "__qualname__", type(pattern.check).__qualname__)
    return (pattern.name, pattern.entity, pattern.regex, pattern.not_before, pattern.not_after, check, pattern.lead)
