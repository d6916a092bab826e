"""A lane: one tape with what has been decided about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moderation.act import Change, Names, merge
from moderation.judge import EVERYTHING, Seen, see, window
from moderation.policy.decide import Patience
from moderation.stream.plan import Judged, Plan, Reading, TapeName
from moderation.stream.tape import Tape
from moderation.text import Phase, Span
from moderation.verdict import Action, Finding, Key, Unknown, Window


class Lane:
    """Positions on one tape: `fed` has arrived, `judged` is decided, `out` may go to the client."""

    __slots__ = (
        "begun", "changes", "closed", "fed", "id", "judged", "key", "label", "media", "minded", "out", "pending", "phase", "raw",
        "reading", "ready", "restored", "tape", "whole", "window",
    )

    def __init__(self, name: TapeName, reading: Reading, key: Key, phase: Phase, whole: bool) -> None:
        self.id = name
        self.label = f"{name.choice}/{name.name}"
        self.reading = reading
        self.key = key
        self.phase = phase
        self.whole = whole
        """Held to the end: a tool call's arguments, or a rule over the answer."""
        self.ready = not whole
        """False while it is held: then even a frame that adds no text to it waits (a tool call without arguments)."""
        self.raw: list[str] = []
        self.tape = Tape(reading.local if reading.patience in (Patience.LOCAL, Patience.WINDOW) and not whole else {})
        self.fed = 0
        self.judged = 0
        self.restored = 0
        """Before it, every name that stands in the text is known."""
        self.out = 0
        self.begun = 0
        """Where the open window begins."""
        self.window: list[Seen] = []
        self.changes: tuple[Change, ...] = ()
        self.closed = False
        self.media: set[str] = set()
        """The kinds of media that came on it."""
        self.minded = -1
        """How many failed detectors the last decision without a finding knew of; -1 before the first."""
        self.pending: list[Span] = []
        """Findings that are settled but wait for their turn to be committed."""

    def add(self, change: Change) -> None:
        self.changes = merge((*self.changes, change))

    @property
    def muted(self) -> bool:
        """True where all that is still to come is taken."""
        return bool(self.changes) and self.changes[-1].span.end >= EVERYTHING

    def unknown(self) -> Iterable[Unknown]:
        return (unknown for unknown, _ in self.tape.dead.values())

    def current(self) -> Window:
        """The signals of the open window so far."""
        return window(self.key, self.window, self.unknown())

    def text(self, span: Span) -> str:
        return self.tape.text(span.start, span.end)

    def quiet(self) -> bool:
        """Whether what has settled needs no decision, but where a window closes: nothing was found, no detector failed."""
        return self.minded == len(self.tape.dead) and not self.tape.found and self.reading.patience is not Patience.WINDOW

    def see(self, plan: Plan, finding: Finding) -> Seen:
        """A finding on this tape as decide sees it."""
        return see(self.key, finding, plan.origin(finding, self.text(finding.span) if finding.span else ""))

    def restore(self, names: Names, final: bool) -> None:
        """Find the request's names in what is new; their values will go out in their place."""
        if not names:
            self.restored = self.tape.end
            return
        base = self.restored
        found, hold = names.found(self.tape.text(base, self.tape.end), 0, final)
        for span, value in found:
            self.add(Change(Span(span.start + base, span.end + base), Action.ALLOW, value, "restored"))
        self.restored = base + max(hold, found[-1][0].end if found else 0)

    def taking(self, whole: Change | None, start: int) -> list[Change]:
        """The change that takes all of the tape from `start` on, once."""
        if whole is None or self.muted:
            return []
        return [Change(Span(start, EVERYTHING), whole.action, whole.text, whole.kind)]

    def update(self) -> None:
        """How far the text may go out: nothing that is not judged, half a name, or part of a change."""
        place = self.judged if self.whole or self.restored >= self.judged else self.restored
        if place > self.out and not self.pending and not self.changes and not self.tape.found:
            self.out = place
        elif place > self.out:
            spans = [*self.pending, *(c.span for c in self.changes if c.span.end < EVERYTHING)]
            self.out = max(self.out, clear(self.tape.clear(place), spans))


@dataclass(slots=True)
class Item:
    """Something to be committed in its turn: settled text of a lane, or a closed window of it."""

    lane: Lane
    upto: int
    seen: list[Finding]
    cuts: list[int]
    """Window ends at or before `upto`, for a lane that does not wait for its windows."""
    start: int = 0
    window: bool = False
    number: int = 0
    """The frame that settled it: what comes later must not change what a block lets out."""
    job: int | None = None
    """What it waits for."""
    answer: Judged | None = None
    medium: str | None = None
    """It is the first medium of this kind on its lane, and no text."""


def clear(place: int, spans: Sequence[Span]) -> int:
    """The greatest position at or before `place` that none of the spans crosses."""
    moved = True
    while moved:
        moved = False
        for span in spans:
            if span.start < place < span.end:
                place, moved = span.start, True
    return place
