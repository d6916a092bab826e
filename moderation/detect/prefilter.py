"""One look for many detectors: most texts hold nothing, and asking each detector for that is what costs.

A prefilter answers for those detectors alone that it can answer for exactly: pattern detectors through one union of all their
expressions, word lists through one automaton of all their terms. It finds nothing itself: where anything could be, it says so,
and each detector is asked. Knows nothing of policies or of how detectors are run.
"""

from __future__ import annotations

from collections.abc import Iterable

import ahocorasick

from moderation.detect.api import Detector
from moderation.detect.matcher import Matcher
from moderation.detect.patterns import Patterns
from moderation.detect.words import Words, fold

MOST_TERMS = 20_000
"""Longer lists are not held in memory twice; their detectors are asked."""


class Prefilter:
    """Looks for all that some detectors look for. Pure once built.

    The law, tested over all that ships: where `quiet` gives a hold, each detector's scan of the same text has no findings and
    a hold that is no less.
    """

    def __init__(self, detectors: Iterable[Detector]) -> None:
        patterns: list[Patterns] = []
        lists: list[Words] = []
        for one in detectors:
            # By the function that scans: nothing is told for one that looks in a way of its own.
            if isinstance(one, Patterns) and type(one).scan is Patterns.scan:
                patterns.append(one)
            elif isinstance(one, Words) and type(one).scan is Words.scan and len(one.forms) <= MOST_TERMS:
                lists.append(one)
        self.covers = frozenset({*(one.id for one in patterns), *(one.id for one in lists)})
        """The detectors that it answers for."""
        self._matcher = Matcher([pattern for one in patterns for pattern in one.patterns])
        self._terms = ahocorasick.Automaton()
        terms = {term for one in lists for term in one.forms}
        for term in terms:
            self._terms.add_word(term, len(term))
        if terms:
            self._terms.make_automaton()
        self._longest = max(map(len, terms), default=0)
        self._firsts = frozenset(term[0] for term in terms)

    def quiet(self, text: str, start: int, final: bool) -> int | None:
        """How far all of them are done, where none of them finds anything; None where each must be asked."""
        if self._longest:
            folded = fold(text)
            if next(self._terms.iter(folded, start), None) is not None or not (final or self._over(folded, start)):
                return None
        return self._matcher.quiet(text, start, final)

    def _over(self, folded: str, start: int) -> bool:
        """Whether no term is half written at the end of the text."""
        length = len(folded)
        places = range(max(start, length - self._longest), length)
        return not any(folded[place] in self._firsts and self._terms.match(folded[place:]) for place in places)
