"""Many patterns over one growing text, so that cutting the text anywhere changes nothing that is found.

What there is at a place depends on the text from `behind` code points before it to `reach` + 1 after it, and on nothing
else. Where matches overlap, the leftmost wins, then the longest, then the one that stands first. A place is *pending* while
the rest of the text could still grow into a match that begins there; nothing at or behind the first such place is told.

Works on UTF-8 bytes, because RE2 does. Knows nothing of what the patterns mean: the catalogue, secrets and pii do.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property

import re2

from moderation import normalise
from moderation.detect.pattern import MOST_REACH, WINDOW, Compiled, Find, Hit, Match, Pattern, finder, options

__all__ = ["MOST_REACH", "WINDOW", "Compiled", "Hit", "Match", "Matcher", "Pattern"]


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
    """Looks for all its patterns at once. What that takes is built when it is first needed, for many never need all of it."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._all = tuple(Compiled(pattern) for pattern in patterns)
        # Where no match of a wider one is, or begins, none of the other is: so that one look takes no more for having both.
        widened = {one.pattern.widens for one in self._all}
        self._plain = [one for one in self._all if one.lead is None and one.pattern.regex not in widened]
        self._led = [one for one in self._all if one.lead is not None]
        self.reach = max((one.reach for one in self._all), default=0)
        self.behind = WINDOW if any(one.lead or one.pattern.check for one in self._all) else 1
        # Only those that show a match less than it would take can be pending farther back than they reach.
        self._least = min((one.reach for one in self._plain if one.capped), default=MOST_REACH)
        spelt = "\n".join(repr((_spell(one.pattern), one.reach)) for one in self._all)
        self.version = hashlib.sha256(f"matcher 1\n{normalise.VERSION}\n{spelt}".encode()).hexdigest()

    @cached_property
    def _grow(self) -> Find | None:
        return _union([(one.before, one.closure) for one in self._plain])

    @cached_property
    def _hang(self) -> Find | None:
        return _union([(one.before, f"(?:{one.closure})\\z") for one in self._plain])

    @cached_property
    def _any(self) -> Find | None:
        return _union([(one.before, one.body) for one in self._plain])

    # What a led match begins with, behind its lead: few texts hold that, and very many hold a lead.

    @cached_property
    def _led_any(self) -> Find | None:
        return _union([(f"(?:{one.pattern.lead})", one.opening) for one in self._led])

    @cached_property
    def _led_grow(self) -> Find | None:
        return _union([(f"(?:{one.pattern.lead})", f"(?:{one.opening})|(?:{one.closure})\\z") for one in self._led])

    @cached_property
    def _opened(self) -> Find | None:
        return _union([("", f"(?:{one.opening})|(?:{one.closure})\\z") for one in self._led])

    @cached_property
    def _set(self) -> re2.Set:
        made = re2.Set.SearchSet(options())
        for one in self._all:
            made.Add(f"{one.before}(?:{one.body})")
        if self._all:
            made.Compile()
        return made

    def warm(self, final: bool) -> None:
        """Build what a look at a whole text takes, or at one that grows."""
        self.quiet(" ", 0, final)

    def scan(
        self, text: str, start: int, final: bool, taken: Sequence[Match] = (), settled: int | None = None
    ) -> tuple[list[Match], int]:
        """Matches that begin at or after `start` and are settled, in order; and the hold (detect/api.py).

        What overlaps one of `taken` (in order, apart from each other) is no match. Those are known as far as they begin before
        `settled`; the hold does not go farther, and none of the matches told does.
        """
        hold = self.quiet(text, start, final)
        if hold is None:
            return _Scan(self, text, start, final, taken).run(final, len(text) if settled is None else settled)
        return [], hold if settled is None else min(hold, settled)

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
        if start and not final and len(text) - start <= WINDOW:
            # A chunk of a stream, mostly without anything that a match could begin with: so what stands before is not looked at.
            raw = text[start:].encode()
            if self._opened is not None and self._opened(raw, 0, len(raw))[0] < 0:
                return False
        find = self._led_any if final else self._led_grow
        around = text[start - WINDOW :].encode() if start > WINDOW else text.encode()
        return find is not None and find(around, 0, len(around))[0] >= 0


def _tail(text: str, start: int) -> str:
    """One code point more in front: what stands before the first place, or a line's end where nothing does."""
    return text[start - 1 :] if start else "\n" + text


class _Scan:
    """The slow way: candidates of each pattern that hits, merged from left to right."""

    def __init__(self, matcher: Matcher, text: str, start: int, final: bool, taken: Sequence[Match]) -> None:
        self.matcher = matcher
        self.text = text
        self.starts = [one.start for one in taken]
        self.ends = [one.end for one in taken]
        self.tail = tail = _tail(text, start)
        self.raw = raw = tail.encode()
        self.base = start - 1
        self.start = start
        self.narrow = len(raw) == len(tail)
        led = bool(matcher._led) and matcher.led(text, start, final)
        hits: list[int] = matcher._set.Match(raw) or []
        self.hits = [matcher._all[i] for i in sorted(hits) if led or matcher._all[i].lead is None]
        self.led = matcher._led if led else []

    def run(self, final: bool, settled: int) -> tuple[list[Match], int]:
        found: list[Match] = []
        begin = self.start
        hold = settled if final else min(settled, self.hold(begin))
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
            if best[1].end > settled:
                # What it may have to give way to is not known yet.
                return found, best[1].start
            found.append(best[1])
            begin = best[1].end
            if begin > hold:
                hold = min(settled, self.hold(begin))
        return found, hold

    def occupied(self, at: int) -> int:
        """How much of what is taken stands at a place and behind it."""
        after = bisect_right(self.ends, at)
        return self.ends[after] - at if after < len(self.ends) and self.starts[after] <= at else 0

    def free(self, start: int, end: int) -> bool:
        """Whether a stretch overlaps nothing that is taken."""
        after = bisect_right(self.ends, start)
        return after == len(self.ends) or self.starts[after] >= end

    def hold(self, begin: int) -> int:
        """The first pending place at or after `begin`."""
        matcher, length = self.matcher, len(self.text)
        place = min((self.pending(one, begin) for one in self.led), default=length)
        if matcher._hang is not None:
            first = self.last(matcher._hang, max(begin, length - matcher.reach))
            if length - first > matcher._least:
                # Some patterns do not reach so far, so ask each.
                first = min(self.pending(one, begin) for one in matcher._plain)
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

    __slots__ = ("at", "found", "one", "order", "place", "scan", "step")

    def __init__(self, scan: _Scan, one: Compiled, order: int) -> None:
        self.scan = scan
        self.one = one
        self.order = order
        self.place = _Place(scan.raw, scan.narrow)
        self.at = scan.start
        self.found: Match | None = None
        self.step = 1

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
            end = at - 1 + (ends - begins if scan.narrow else len(scan.raw[begins:ends].decode()))
            if best is not None and (at, -end, self.order) > best:
                break
            self.found = self._judged(at, begins, ends)
            at += self.step
            if self.found is not None:
                break
        self.at = at
        return self.found

    def _judged(self, start: int, byte: int, end: int) -> Match | None:
        """The match that begins at `start`, if it is a good one. `byte` is where the code point before it begins."""
        scan, one = self.scan, self.one
        self.step = 1
        if scan.ends and (step := scan.occupied(start)):
            self.step = step
            return None
        if one.lead is not None and not scan.leads(one, start):
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
        if hit is None:
            return None
        if not hit.length:
            self.step = max(1, hit.skip)
            return None
        stop = start + hit.length
        if scan.ends and not scan.free(start, stop):
            return None
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
    return finder(re2.compile(every, options(longest=True)))


def _spell(pattern: Pattern) -> tuple[str | None, ...]:
    """All that its findings depend on; checks are code, and go with the version in the hash."""
    check = getattr(pattern.check, "__qualname__", type(pattern.check).__qualname__)
    return (
        pattern.name, pattern.entity, pattern.regex, pattern.not_before, pattern.not_after, check, pattern.lead,
        pattern.behind_one_of, str(pattern.weak),
    )  # fmt: skip
