"""A local detector that also looks into what is encoded in a text.

What its detector finds in a decoded stretch (encoded.py) is a finding whose span is the stretch, so that an edit takes all of it;
in rot13, where each letter stands for one, its span is its own.
Two layers are taken off, and no more. All stretches of one look are read together, so the work grows with the text alone. Where
readable text goes on behind the longest stretch, what is not read is a finding of its own. Knows nothing of what is looked for.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import replace

from moderation.detect.api import Local, Scan
from moderation.detect.encoded import Stretch, Stretches
from moderation.detect.pattern import WINDOW
from moderation.normalise import readings
from moderation.text import Span
from moderation.verdict import FULL_SCORE, Finding

UNDECODED = "undecoded"
"""Category and name of a finding that stands for what nobody read: a rule that names a detector alone fires on it."""
LAYERS = 2
"""How many encodings are taken off, one inside the other; escapes.py takes off others before and between them."""
_APART = "\n" + "\ufffd" * (WINDOW + 1) + "\n"
"""Between stretches that are read together: no match crosses it, and no check sees past it."""
STRETCHES = Stretches()


class Decoding:
    """A local detector (detect/api.py) around another one."""

    def __init__(self, inner: Local) -> None:
        self.inner = inner
        self.id = inner.id
        self.version = hashlib.sha256(f"decoding 2 {LAYERS} {STRETCHES.version} {inner.version}".encode()).hexdigest()
        self.behind = max(inner.behind, STRETCHES.behind)
        self.reach = 2 * max(inner.reach, STRETCHES.reach)
        """As far as a place may be pending, and then a stretch that ends there."""

    def scan(self, text: str, start: int, final: bool) -> Scan:
        said = self.inner.scan(text, start, final)
        stretches, hold = STRETCHES.scan(text, start, final)
        if not stretches and hold >= said.hold:
            return said
        places = [(one.start, one.end) for one in stretches]
        places += [(one.span.start, one.span.end) for one in said.findings if one.span is not None]
        hold = _clear(min(hold, said.hold), places)
        found = [one for one in said.findings if one.span is not None and one.span.end <= hold]
        settled = [one for one in stretches if one.end <= hold]
        found += self._within(settled, LAYERS)
        found += [
            Finding(self.id, UNDECODED, None, UNDECODED, FULL_SCORE, Span(one.start, one.end)) for one in settled if one.cut
        ]
        # A word list finds its terms in rot13 by itself, too.
        return Scan(tuple(sorted(dict.fromkeys(found), key=_order)), hold)

    def _within(self, stretches: Sequence[Stretch], layers: int) -> list[Finding]:
        """What stands in stretches, each finding with the span of its stretch."""
        if not stretches:
            return []
        text, starts = _together(stretches)
        found: list[Finding] = []
        for view in readings(text):
            inside = [*self.inner.scan(view.text, 0, True).findings]
            if layers > 1:
                inside += self._within(STRETCHES.scan(view.text, 0, True)[0], layers - 1)
            for one in inside:
                assert one.span is not None
                place = view.original(one.span.start, one.span.end)
                at = bisect_right(starts, place.start) - 1
                if at >= 0 and (at + 1 == len(starts) or place.end <= starts[at + 1]):
                    span = _span(stretches[at], place.start - starts[at], place.end - starts[at])
                    found += [replace(one, span=span)] * (span is not None)
        return found


def _span(stretch: Stretch, start: int, end: int) -> Span | None:
    """Where what a stretch says at a place stands in the text; None where that is before the stretch."""
    if stretch.lead is None:
        return Span(stretch.start, stretch.end)
    if end <= stretch.lead:
        return None
    return Span(stretch.start + max(0, start - stretch.lead), stretch.start + end - stretch.lead)


def _together(stretches: Sequence[Stretch]) -> tuple[str, list[int]]:
    """What they all say, one after the other, and where each begins."""
    parts: list[str] = []
    starts: list[int] = []
    at = 0
    for one in stretches:
        at += len(_APART)
        starts.append(at)
        parts += (_APART, one.said)
        at += len(one.said)
    return "".join(parts), starts


def _clear(place: int, spans: Iterable[tuple[int, int]]) -> int:
    """The greatest position at or before `place` that none of the spans crosses."""
    for start, end in sorted(spans, reverse=True, key=lambda span: span[1]):
        if start < place < end:
            place = start
    return place


def _order(finding: Finding) -> tuple[int, int]:
    assert finding.span is not None
    return finding.span.end, finding.span.start
