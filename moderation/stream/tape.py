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
from moderation.judge import EVERYTHING, shifted
from moderation.normalise import any_in, begun, hidden, normalise
from moderation.sentence import ANSWER_WINDOW, CONTEXT, context, next_window, settled
from moderation.text import Span
from moderation.verdict import Finding, Unknown

_SLACK = 4096
"""Dropped text is given back in steps of this size, so that dropping costs nothing per chunk."""


class Look(NamedTuple):
    """Some detectors have something new to look at. A tuple, for a stream makes one for each frame."""

    detectors: tuple[str, ...]
    """All that have come equally far: nearly always all that read the tape."""
    text: str
    start: int
    final: bool
    base: int
    """The position, among normalised code points, at which `text` starts."""


Said = int | Sequence[Scan | Unknown]
"""What the detectors of a look said: where none of them found anything, how far all are done; else each by itself."""


class Tape:
    """Grows, is looked at, and hands out what is settled, in order."""

    __slots__ = (
        "_base", "_begun", "_behind", "_cut", "_ends", "_final", "_found", "_hidden", "_holds", "_looks", "_norm", "_norm_base",
        "_seen", "_starts", "_text", "dead", "end",
    )

    def __init__(self, behind: Mapping[str, int]) -> None:
        """`behind`: the local detectors that read this tape, with how far each looks back."""
        self._behind = dict(behind)
        self._holds = {tuple(behind): 0} if behind else {}
        """Where detectors have come to, together as far as they have come equally far."""
        self.dead: dict[str, tuple[Unknown, int]] = {}
        """Detectors that failed, with the position from which nothing is known."""
        self._text = ""
        self._base = 0
        self._norm = ""
        self._norm_base = 0
        self._starts: array[int] | None = None
        self._ends: array[int] | None = None
        self._begun = ""
        """The end of what arrived, where it may be half an escape: it is normalised with what follows."""
        self._found: list[Finding] = []
        self._cut = (0, 0)
        self._seen = 0
        self._final = False
        self.end = 0

        self._hidden: Tape | None = None
        """What the text says in characters that show nothing, at the same positions; from where the first of them came."""
        self._looks = 0
        """How many looks are its own; those after them are at what is hidden."""

    @classmethod
    def _from(cls, behind: Mapping[str, int], place: int) -> Tape:
        """A tape that begins at a position, and is never cut into windows."""
        tape = cls(behind)
        tape._base = tape._norm_base = tape.end = place
        tape._holds = dict.fromkeys(tape._holds, place)
        tape._cut = (EVERYTHING, EVERYTHING)
        return tape

    def grow(self, text: str) -> None:
        """Append what arrived."""
        if not text.isascii() or self._hidden is not None:
            self._grow_hidden(text)
        self._text += text
        self.end += len(text)
        if self._begun or any_in(text):
            text = self._begun + text
            held = begun(text)
            self._begun = text[len(text) - held :]
            text = text[: len(text) - held]
        self._normalise(text)

    def _grow_hidden(self, text: str) -> None:
        said = hidden(text)
        if said is not None and self._hidden is None:
            self._hidden = Tape._from(self._behind, self.end)
        if self._hidden is not None:
            self._hidden.grow(said if said is not None else "\n" * len(text))

    def _normalise(self, text: str) -> None:
        """Take in text that ends where the half of an escape begins, if there is one."""
        piece = normalise(text)
        base = self.end - len(self._begun) - len(text)
        if piece.starts is not None and self._starts is None:
            first, last = self._norm_base, self._norm_base + len(self._norm)
            self._starts, self._ends = array("q", range(first, last)), array("q", range(first + 1, last + 1))
        if self._starts is not None and self._ends is not None:
            count = len(piece.text)
            self._starts.extend([base + at for at in (piece.starts if piece.starts is not None else range(count))])
            self._ends.extend([base + at for at in (piece.ends if piece.ends is not None else range(1, count + 1))])
        self._norm += piece.text

    def looks(self, final: bool) -> list[Look]:
        """What each living detector must look at now."""
        self._final = self._final or final
        if final and self._begun:
            rest, self._begun = self._begun, ""
            self._normalise(rest)
        base, norm = self._norm_base, self._norm
        end = base + len(norm)
        looks: list[Look] = []
        for detectors, hold in self._holds.items():
            if hold < end:
                begin = max(base, hold - self._reach(detectors))
                looks.append(Look(detectors, norm[begin - base :], hold - begin, final, begin))
        self._looks = len(looks)
        return looks if self._hidden is None else [*looks, *self._hidden.looks(final)]

    def _reach(self, detectors: tuple[str, ...]) -> int:
        """How far back some detectors look."""
        return max([self._behind[detector] for detector in detectors])

    def seen(self, looks: Sequence[Look], results: Sequence[Said]) -> None:
        """Take in the answers to looks."""
        if self._hidden is not None:
            own, below = self._looks, self._hidden
            below.seen(looks[own:], results[own:])
            for detector, lost in below.dead.items():
                self.dead.setdefault(detector, lost)
            self._found = sorted([*self._found, *below.take(EVERYTHING)], key=_order)
            looks, results = looks[:own], results[:own]
        if len(self._holds) == 1 and len(looks) == 1 and type(results[0]) is int:
            self._holds[looks[0].detectors] = results[0] + looks[0].base
            return
        holds: dict[str, int] = {detector: hold for group, hold in self._holds.items() for detector in group}
        for look, said in zip(looks, results, strict=True):
            if isinstance(said, int):
                holds.update(dict.fromkeys(look.detectors, said + look.base))
                continue
            for detector, result in zip(look.detectors, said, strict=True):
                if isinstance(result, Unknown):
                    self.dead[detector] = (result, self._original(holds.pop(detector)))
                else:
                    holds[detector] = result.hold + look.base
                    self._found.extend(self._placed(finding, look.base) for finding in result.findings)
        self._found.sort(key=_order)
        groups: dict[int, list[str]] = {}
        for detector, hold in holds.items():
            groups.setdefault(hold, []).append(detector)
        self._holds = {tuple(sorted(group)): hold for hold, group in groups.items()}

    def _placed(self, finding: Finding, base: int) -> Finding:
        """A finding in a text that stands at `base`, in its place on the tape."""
        assert finding.span is not None
        if self._ends is None:
            return shifted(finding, base)
        start, last = finding.span.start + base, finding.span.end + base - 1
        return replace(finding, span=Span(self._original(start), self._ends[last - self._norm_base]))

    def _original(self, norm: int) -> int:
        """The original position of a normalised one."""
        at = norm - self._norm_base
        if at >= len(self._norm):
            return self.end - len(self._begun)
        return norm if self._starts is None else self._starts[at]

    def frontier(self) -> int:
        """Everything before it is settled: no finding crosses it, and every finding that starts before it is known."""
        place = self.end
        if not self._final and self._holds:
            place = self._original(min(self._holds.values()))
        if self._hidden is not None:
            place = min(place, self._hidden.frontier())
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

    def before(self, place: int) -> str:
        """The sentences before a window that starts there. CONTEXT code points before it must not have been dropped."""
        return context(self.text(max(0, place - CONTEXT), place))

    def drop(self, before: int) -> None:
        """Nothing before this position will be asked for again."""
        if self._hidden is not None:
            self._hidden.drop(before)
        if len(self._text) < 2 * _SLACK and len(self._norm) < 2 * _SLACK:
            return
        keep = min(before, self._cut[0], self.frontier(), *(f.span.start for f in self._found if f.span is not None), self.end)
        if keep - self._base >= _SLACK:
            self._text = self._text[keep - self._base :]
            self._base = keep
        least = min((hold - self._reach(group) for group, hold in self._holds.items()), default=self._norm_base + len(self._norm))
        if least - self._norm_base >= _SLACK:
            cut = least - self._norm_base
            self._norm = self._norm[cut:]
            if self._starts is not None and self._ends is not None:
                self._starts, self._ends = self._starts[cut:], self._ends[cut:]
            self._norm_base = least


def _order(finding: Finding) -> tuple[int, int, str, str, str]:
    span = finding.span
    assert span is not None
    return span.end, span.start, finding.detector, finding.entity or "", finding.name
