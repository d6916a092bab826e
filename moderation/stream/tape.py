"""A tape: one channel of one choice of an answer, growing.

It normalises what arrives, says what its local detectors must look at, keeps what they settled, and knows how far it is
settled: the frontier. Pure; knows nothing of policies, frames or other tapes.

All positions are code points from the start of the tape; text that nothing needs any more is dropped.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from moderation.detect.api import Scan
from moderation.judge import shifted
from moderation.normalise import normalise
from moderation.sentence import ANSWER_WINDOW, next_window, settled
from moderation.text import Span
from moderation.verdict import Finding, Unknown

_SLACK = 4096
"""Dropped text is given back in steps of this size, so that dropping costs nothing per chunk."""


class Look(NamedTuple):
    """One detector has something new to look at. A tuple, for a stream makes some for each frame."""

    detector: str
    text: str
    start: int
    final: bool
    base: int
    """The position, among normalised code points, at which `text` starts."""


class Tape:
    """Grows, is looked at, and hands out what is settled, in order."""

    __slots__ = (
        "_base", "_behind", "_cut", "_final", "_found", "_holds", "_norm", "_norm_base", "_seen", "_starts", "_text", "dead",
        "end",
    )

    def __init__(self, behind: Mapping[str, int]) -> None:
        """`behind`: the local detectors that read this tape, with how far each looks back."""
        self._behind = dict(behind)
        self._holds = dict.fromkeys(behind, 0)
        self.dead: dict[str, tuple[Unknown, int]] = {}
        """Detectors that failed, with the position from which nothing is known."""
        self._text = ""
        self._base = 0
        self._norm = ""
        self._norm_base = 0
        self._starts: array[int] | None = None
        self._found: list[Finding] = []
        self._cut = (0, 0)
        self._seen = 0
        self._final = False
        self.end = 0

    def grow(self, text: str) -> None:
        """Append what arrived."""
        piece = normalise(text)
        if piece.starts is not None and self._starts is None:
            self._starts = array("q", range(self._norm_base, self._norm_base + len(self._norm)))
        if self._starts is not None:
            places = piece.starts if piece.starts is not None else range(len(piece.text))
            self._starts.extend([self.end + at for at in places])
        self._text += text
        self._norm += piece.text
        self.end += len(text)

    def looks(self, final: bool) -> list[Look]:
        """What each living detector must look at now."""
        self._final = self._final or final
        base, norm = self._norm_base, self._norm
        end = base + len(norm)
        looks: list[Look] = []
        for detector, hold in self._holds.items():
            if hold < end:
                begin = max(base, hold - self._behind[detector])
                looks.append(Look(detector, norm[begin - base :], hold - begin, final, begin))
        return looks

    def seen(self, looks: Sequence[Look], results: Sequence[Scan | Unknown]) -> None:
        """Take in the answers to looks."""
        for look, result in zip(looks, results, strict=True):
            if type(result) is Scan and not result.findings:
                self._holds[look.detector] = result.hold + look.base
            else:
                self._take_in(look, result)

    def _take_in(self, look: Look, result: Scan | Unknown) -> None:
        if isinstance(result, Unknown):
            if look.detector in self._holds:
                hold = self._holds.pop(look.detector)
                self.dead[look.detector] = (result, self._original(hold))
            return
        for finding in result.findings:
            assert finding.span is not None
            if self._starts is None:
                self._found.append(shifted(finding, look.base))
            else:
                start, last = finding.span.start + look.base, finding.span.end + look.base - 1
                span = Span(self._original(start), self._starts[last - self._norm_base] + 1)
                self._found.append(replace(finding, span=span))
        if result.findings:
            self._found.sort(key=_order)
        self._holds[look.detector] = result.hold + look.base

    def _original(self, norm: int) -> int:
        """The original position of a normalised one."""
        at = norm - self._norm_base
        if at >= len(self._norm):
            return self.end
        return norm if self._starts is None else self._starts[at]

    def frontier(self) -> int:
        """Everything before it is settled: no finding crosses it, and every finding that starts before it is known."""
        place = self.end
        if not self._final and self._holds:
            place = self._original(min(self._holds.values()))
        return self.clear(place) if self._found else place

    @property
    def found(self) -> bool:
        """Whether there are findings that have not been taken."""
        return bool(self._found)

    def clear(self, place: int) -> int:
        """The greatest position at or before `place` that no known finding crosses."""
        moved = True
        while moved:
            moved = False
            for finding in self._found:
                assert finding.span is not None
                if finding.span.start < place < finding.span.end:
                    place, moved = finding.span.start, True
        return place

    def take(self, upto: int) -> list[Finding]:
        """The settled findings that end at or before `upto`, by end; each is handed out once."""
        if not self._found:
            return []
        count = sum(1 for f in self._found if f.span is not None and f.span.end <= upto)
        taken, self._found = self._found[:count], self._found[count:]
        return taken

    def windows(self, upto: int, final: bool) -> list[int]:
        """The ends of windows that closed at or before `upto`, each handed out once."""
        ends: list[int] = []
        if not final and not self.may_close():
            return ends
        while True:
            start, sentence = self._cut
            base = self._base
            newest, end = next_window(self._text, start - base, sentence - base, ANSWER_WINDOW, final, self._seen - base)
            if end is None or end + base > upto:
                # A window that closed beyond the frontier is found again: its place cannot move.
                self._cut = (start, newest + base)
                if end is None:
                    self._seen = max(newest, settled(self._text)) + base
                return ends
            self._cut = (end + base, end + base)
            ends.append(end + base)

    def may_close(self) -> bool:
        """Whether the open window is long enough to close."""
        return self.end - self._cut[0] > ANSWER_WINDOW

    def text(self, start: int, end: int) -> str:
        """A stretch of the original text; it must not have been dropped (see drop)."""
        return self._text[start - self._base : end - self._base]

    def drop(self, before: int) -> None:
        """Nothing before this position will be asked for again."""
        if len(self._text) < 2 * _SLACK and len(self._norm) < 2 * _SLACK:
            return
        keep = min(before, self._cut[0], self.frontier(), *(f.span.start for f in self._found if f.span is not None), self.end)
        if keep - self._base >= _SLACK:
            self._text = self._text[keep - self._base :]
            self._base = keep
        least = min((hold - self._behind[d] for d, hold in self._holds.items()), default=self._norm_base + len(self._norm))
        if least - self._norm_base >= _SLACK:
            cut = least - self._norm_base
            self._norm = self._norm[cut:]
            if self._starts is not None:
                self._starts = self._starts[cut:]
            self._norm_base = least


def _order(finding: Finding) -> tuple[int, int, str, str, str]:
    span = finding.span
    assert span is not None
    return span.end, span.start, finding.detector, finding.entity or "", finding.name
