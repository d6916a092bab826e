"""The detector of kind `words`: long lists of terms, found in one pass by an Aho-Corasick automaton.

Terms and text are normalised alike and, where case does not matter, folded code point by code point, so that no offset
moves. Where terms overlap, the leftmost wins, then the longest; a term that several lists hold is found for each of them.
Knows nothing of policies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ahocorasick

from moderation import normalise
from moderation.detect import leet
from moderation.detect.api import Scan
from moderation.text import Span
from moderation.verdict import FULL_SCORE, Finding

MOST_LENGTH = 400
"""Code points of a term: no stream should wait for more."""

_UNSPACED = (
    range(0x0E00, 0x1000), range(0x1000, 0x10A0), range(0x1100, 0x1200), range(0x1780, 0x1800), range(0x2E80, 0xA4D0),
    range(0xA960, 0xA980), range(0xAC00, 0xD800), range(0xF900, 0xFB00), range(0x20000, 0x40000),
)  # fmt: skip
"""Scripts that are written without spaces, or in which endings stick to a word: a boundary would hide the word."""


@dataclass(frozen=True, slots=True)
class Terms:
    """One list as the detector needs it."""

    name: str
    terms: Sequence[str]
    whole_word: bool = True
    ignore_case: bool = True


def fold(text: str) -> str:
    """Lower case, code point by code point: no length changes, and no neighbour matters."""
    if text.isascii():
        return text.lower()
    # The only letters whose lower case is longer, or depends on where they stand.
    return text.replace("\u0130", "i").replace("\u03a3", "\u03c3").lower().replace("\u03c2", "\u03c3")


def _forms(term: str, ignore_case: bool) -> list[str]:
    """What a term looks like once the text is normalised and folded.

    A capital may have a Latin look-alike where its small letter has none (Cyrillic В and в), so the capitals of a term are
    a form of their own.
    """
    if not ignore_case:
        return [normalise.normalise(term).text]
    if term.isascii():
        return [fold(normalise.normalise(term).text)]
    cased = (term, term.lower(), term.upper(), term.capitalize(), term.title())
    return sorted({fold(normalise.normalise(form).text) for form in cased})


_ROT13 = str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")
_LEAST_ROTATED = 6
"""Letters of a term that is looked for in rot13, too: shorter ones are words of their own in it."""


def _rotated(forms: Iterable[str]) -> list[str]:
    """Terms of ASCII as rot13 writes them. Capitals too, for lists that do not fold."""
    some = (form for form in forms if form.isascii() and sum(map(str.isalpha, form)) >= _LEAST_ROTATED)
    return [form.translate(_ROT13).swapcase().translate(_ROT13).swapcase() for form in some]


def joins(char: str) -> bool:
    """Whether a word goes on where two such characters meet."""
    if char < "\u0e00":
        return char.isalnum() or char == "_"
    return char.isalnum() and not any(ord(char) in script for script in _UNSPACED)


class _Group:
    """The terms that are looked for in the same way."""

    def __init__(self, terms: Iterable[tuple[str, int]], whole: bool, folded: bool) -> None:
        self.whole = whole
        self.folded = folded
        lists: dict[str, list[int]] = {}
        for term, number in terms:
            owners = lists.setdefault(term, [])
            if number not in owners:
                owners.append(number)
        self.longest = max(map(len, lists))
        self.firsts = frozenset(term[0] for term in lists)
        self.machine = ahocorasick.Automaton()
        for term, owners in lists.items():
            self.machine.add_word(term, (len(term), tuple(owners)))
        self.machine.make_automaton()

    def candidates(self, text: str, seen: str, start: int) -> list[tuple[int, int, tuple[int, ...]]]:
        """(start, -end, lists) of each term that stands in text[start:]; `seen` is the text, folded where terms are."""
        found: list[tuple[int, int, tuple[int, ...]]] = []
        for last, (length, owners) in self.machine.iter(seen, start):
            end = last + 1
            begin = end - length
            if self.whole and (
                (begin and joins(text[begin - 1]) and joins(text[begin]))
                or (end < len(text) and joins(text[end]) and joins(text[end - 1]))
            ):
                continue
            found.append((begin, -end, owners))
        return found

    def pending(self, text: str, seen: str, start: int) -> int:
        """The first place from which the rest of the text is the beginning of a term."""
        length, firsts = len(text), self.firsts
        for place in range(max(start, length - self.longest), length):
            if (
                seen[place] in firsts
                and self.machine.match(seen[place:])
                and not (self.whole and place and joins(text[place - 1]) and joins(text[place]))
            ):
                return place
        return length


class _Spelt(_Group):
    """Terms in leetspeak: what has the skeleton of one, and proves to spell it."""

    def __init__(self, terms: Iterable[tuple[str, int]], whole: bool) -> None:
        spelt: dict[str, list[tuple[str, int]]] = {}
        for term, number in dict.fromkeys(terms):
            spelt.setdefault(leet.skeleton(term), []).append((term, number))
        super().__init__([(bare, at) for at, bare in enumerate(spelt)], whole, folded=True)
        self._meant = list(spelt.values())

    def candidates(self, text: str, seen: str, start: int) -> list[tuple[int, int, tuple[int, ...]]]:
        found: list[tuple[int, int, tuple[int, ...]]] = []
        for last, (length, (at,)) in self.machine.iter(leet.skeleton(seen), start):
            end = last + 1
            begin = end - length
            if self.whole and ((begin and joins(text[begin - 1])) or (end < len(text) and joins(text[end]))):
                continue
            # A sign at an end is a letter, so no word goes on beside it.
            owners = tuple(dict.fromkeys(number for term, number in self._meant[at] if leet.spells(seen[begin:end], term)))
            if owners:
                found.append((begin, -end, owners))
        return found

    def pending(self, text: str, seen: str, start: int) -> int:
        near = max(start, len(text) - self.longest)
        return near + super().pending(text[near:], leet.skeleton(seen[near:]), 0)


class AnyTerm:
    """Whether any of some terms stands in a folded text at all, and where one may begin: no lists, no findings."""

    def __init__(self, whole: frozenset[str], parts: frozenset[str]) -> None:
        """Terms that are looked for as whole words alone, and those that are looked for within words, too."""
        every = whole | parts
        self._longest = max(map(len, every), default=0)
        self._firsts = frozenset(term[0] for term in every)
        self._machine = ahocorasick.Automaton()
        for term in every:
            self._machine.add_word(term, True)
        self._within = ahocorasick.Automaton()
        for term in parts:
            self._within.add_word(term, True)
        if every:
            self._machine.make_automaton()

    def __bool__(self) -> bool:
        return self._longest > 0

    def stands_in(self, folded: str) -> bool:
        return next(self._machine.iter(folded), None) is not None

    def pending(self, text: str, folded: str, start: int) -> int:
        """The first place from which the rest of the text is the beginning of a term. `folded` is text[start:]."""
        length, firsts = len(folded), self._firsts
        for place in range(max(0, length - self._longest), length):
            if folded[place] in firsts and self._machine.match(folded[place:]):
                at = start + place
                if not at or not (joins(text[at - 1]) and joins(text[at])) or self._within.match(folded[place:]):
                    return at
        return start + length


class Words:
    """A local detector (detect/api.py) over lists of terms."""

    def __init__(self, id: str, category: str, lists: Sequence[Terms]) -> None:
        """Raises ValueError for a term that says nothing once normalised, or is too long."""
        self._id = id
        self._category = category
        self._names = tuple(one.name for one in lists)
        grouped: dict[tuple[bool, bool], list[tuple[str, int]]] = {}
        spelt: dict[bool, list[tuple[str, int]]] = {}
        digest = hashlib.sha256(f"words 3\n{normalise.VERSION}\n".encode())
        for number, one in enumerate(lists):
            digest.update(repr((one.name, one.whole_word, one.ignore_case)).encode())
            ready = grouped.setdefault((one.whole_word, one.ignore_case), [])
            for term in one.terms:
                forms = _forms(term, one.ignore_case)
                if one.ignore_case:
                    some = ((form, number) for form in forms if leet.spellable(form, one.whole_word))
                    spelt.setdefault(one.whole_word, []).extend(some)
                for plain in (*forms, *_rotated(forms)):
                    if not plain.strip():
                        raise ValueError(f"word list {one.name}: a term says nothing once it is normalised")
                    if len(plain) > MOST_LENGTH:
                        raise ValueError(f"word list {one.name}: a term is longer than {MOST_LENGTH} characters")
                    ready.append((plain, number))
                    digest.update(plain.encode() + b"\n")
        self._version = digest.hexdigest()
        self._groups = [_Group(terms, whole, folded) for (whole, folded), terms in grouped.items() if terms]
        self._spelt = [_Spelt(terms, whole) for whole, terms in spelt.items() if terms]
        self._folds = any(group.folded for group in self._groups)
        self.whole, self.within = (
            frozenset(fold(term) for (whole, _), terms in grouped.items() if whole is kind for term, _ in terms)
            for kind in (True, False)
        )
        """Every term as it is looked for, folded: as whole words alone, and within words. A text without them has no finding."""
        self.skeletons = frozenset(leet.skeleton(term) for terms in spelt.values() for term, _ in terms)
        """What a term in leetspeak looks like: a text without any of them, as a skeleton, has none."""
        self._reach = max((group.longest for group in self._groups), default=0)

    @property
    def id(self) -> str:
        return self._id

    @property
    def version(self) -> str:
        return self._version

    @property
    def behind(self) -> int:
        return 1

    @property
    def reach(self) -> int:
        return self._reach

    def scan(self, text: str, start: int, final: bool) -> Scan:
        folded = fold(text) if self._folds else text
        length = len(text)
        groups = self._groups
        if self._spelt and leet.may_stand(text, start, final):
            groups = [*groups, *self._spelt]
        hold = length if final else _pending(groups, text, folded, start)
        candidates: list[tuple[int, int, tuple[int, ...]]] = []
        for group in groups:
            candidates += group.candidates(text, folded if group.folded else text, start)
        if not candidates:
            return Scan((), hold)
        candidates.sort()
        findings: list[Finding] = []
        begin = start
        taken: tuple[int, int] | None = None
        for place, end, owners in candidates:
            if (place, end) != taken:
                if place < begin:
                    continue
                if begin > hold:
                    hold = _pending(groups, text, folded, begin)
                if place >= hold:
                    break
                taken = (place, end)
                begin = -end
            for number in owners:
                findings.append(
                    Finding(self._id, self._category, None, self._names[number], FULL_SCORE, Span(place, -end))
                )
        if begin > hold:
            hold = _pending(groups, text, folded, begin)
        return Scan(tuple(findings), hold)


def _pending(groups: Iterable[_Group], text: str, folded: str, start: int) -> int:
    place = len(text)
    for group in groups:
        place = min(place, group.pending(text, folded if group.folded else text, start))
    return place
