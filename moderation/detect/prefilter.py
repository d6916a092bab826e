"""One look for many detectors: most texts hold nothing, and asking each detector for that is what costs.

A prefilter answers for those detectors alone that it can answer for exactly: pattern detectors through one union of all their
expressions, word lists through one automaton of all their terms. It finds nothing itself: where anything could be, it says so,
and each detector is asked. Knows nothing of policies or of how detectors are run.
"""

from __future__ import annotations

from collections.abc import Iterable

from moderation.detect import leet
from moderation.detect.api import Detector
from moderation.detect.decoding import STRETCHES, Decoding
from moderation.detect.matcher import Matcher
from moderation.detect.patterns import Patterns
from moderation.detect.words import AnyTerm, Words, fold

MOST_TERMS = 20_000
"""Longer lists are not held in memory twice; their detectors are asked."""


class Prefilter:
    """Looks for all that some detectors look for. Pure once built.

    The law, tested over all that ships: where `quiet` gives a hold, no detector's scan of the same text finds anything that
    begins before it, or has a hold that is less. (What begins there is found again.)
    """

    def __init__(self, detectors: Iterable[Detector]) -> None:
        patterns: list[Patterns] = []
        lists: list[Words] = []
        encoded = False
        for outer in detectors:
            one = outer.inner if isinstance(outer, Decoding) else outer
            encoded = encoded or one is not outer
            # By the function that scans: nothing is told for one that looks in a way of its own.
            if isinstance(one, Patterns) and type(one).scan is Patterns.scan:
                patterns.append(one)
            elif isinstance(one, Words) and type(one).scan is Words.scan and len(one.whole) + len(one.within) <= MOST_TERMS:
                lists.append(one)
        self.covers = frozenset({*(one.id for one in patterns), *(one.id for one in lists)})
        """The detectors that it answers for."""
        self._matcher = Matcher([pattern for one in patterns for pattern in one.patterns])
        self._encoded = encoded
        self._terms = AnyTerm(
            frozenset(term for one in lists for term in one.whole), frozenset(term for one in lists for term in one.within)
        )
        self._skeletons = AnyTerm(frozenset(), frozenset(term for one in lists for term in one.skeletons))

    def warm(self, final: bool) -> None:
        """Build what looks at whole texts, or at growing ones, will take."""
        self._matcher.warm(final)

    def quiet(self, text: str, start: int, final: bool) -> int | None:
        """How far all of them are done, where none of them finds anything before that; None where each must be asked."""
        begun = len(text)
        if self._terms:
            folded = fold(text[start:])
            if self._terms.stands_in(folded):
                return None
            if not final:
                begun = self._terms.pending(text, folded, start)
            if self._skeletons and leet.may_stand(text, start, final):
                bare = leet.skeleton(folded)
                if self._skeletons.stands_in(bare):
                    return None
                if not final:
                    begun = min(begun, self._skeletons.pending(text, bare, start))
        hold = self._matcher.quiet(text, start, final)
        waits = STRETCHES.quiet(text, start, final) if self._encoded and hold is not None else len(text)
        return None if hold is None or waits is None else min(hold, waits, begun)
