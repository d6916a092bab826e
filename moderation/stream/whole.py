"""Lanes that are held to the end: tool calls, and what a rule over the answer may touch.

They are judged like the texts of an answer that was never streamed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from moderation.act import Change, Names, merge
from moderation.act import piece as cut_piece
from moderation.judge import Seen, effect, see, window
from moderation.stream.lane import Lane
from moderation.stream.plan import Judged, Plan
from moderation.text import Phase, Span
from moderation.verdict import Action, Fired, Unknown, Window


@dataclass(slots=True)
class Whole:
    """One lane that was held to its end, its parts, and what was said of them."""

    lane: Lane
    text: str
    parts: tuple[str, ...]
    judged: tuple[Judged, ...] | None = None
    edits: list[list[Change]] = field(default_factory=list)
    taken: Change | None = None

    def windows(self, plan: Plan) -> list[tuple[Window, list[list[Seen]]]]:
        """Its windows, each with what was seen by part: those of its text, or one for a tool call."""
        assert self.judged is not None
        key = self.lane.key
        found: list[list[list[Seen]]] = []
        for text, one in zip(self.parts, self.judged, strict=True):
            at = slicer(text)
            found.append([
                [see(key, f, plan.origin(f, at(f.span) if f.span else "")) for f in findings] for findings in one.findings
            ])
        if self.lane.phase is Phase.TOOL_CALL:
            merged = [[one for findings in part for one in findings] for part in found]
            unknown: list[Unknown] = [u for one in self.judged for some in one.unknown for u in some]
            return [(window(key, [one for part in merged for one in part], unknown), merged)]
        return [
            (window(key, findings, some), [findings])
            for part, one in zip(found, self.judged, strict=True)
            for findings, some in zip(part, one.unknown, strict=True)
        ]

    def obey(self, fired: Sequence[Fired], seen: Sequence[Sequence[Seen]], plan: Plan, naming: Names) -> None:
        """Take in what the rules that fired do to one window."""
        if not self.edits:
            self.edits = [[] for _ in self.parts]
        for number, part in enumerate(seen):
            doing = effect(fired, part, slicer(self.parts[number]), naming, plan.category)
            self.edits[number].extend(doing.changes)
            self.taken = doing.whole or self.taken

    def stuck(self, plan: Plan) -> bool:
        """Whether something had to be edited that cannot be."""
        fixed = plan.fixed(self.lane.id, self.text)
        return any(changes for number, changes in enumerate(self.edits) if number in fixed)

    def finish(self, plan: Plan, names: Names) -> list[Change]:
        """Put the edits and the restored values into the lane; returns the changes that the log must know."""
        made: list[Change] = []
        if self.taken is not None:
            call = self.lane.phase is Phase.TOOL_CALL
            new = json.dumps({"removed": self.taken.text}, ensure_ascii=False) if call else self.taken.text
            made.append(Change(Span(0, max(1, len(self.text))), self.taken.action, self.taken.text, self.taken.kind))
        else:
            rebuilt: list[str | None] = []
            fixed = plan.fixed(self.lane.id, self.text)
            for number, text in enumerate(self.parts):
                if number in fixed:
                    rebuilt.append(None)
                    continue
                changes = self.edits[number] if self.edits else []
                made.extend(changes)
                back = (Change(s, Action.ALLOW, value, "restored") for s, value in names.found(text, 0, final=True)[0])
                every = merge((*changes, *back))
                rebuilt.append(cut_piece(text, 0, every) if every else None)
            new = plan.rebuild(self.lane.id, self.text, rebuilt) if any(r is not None for r in rebuilt) else self.text
        if new != self.text and self.text:
            self.lane.changes = (Change(Span(0, len(self.text)), Action.REDACT, new, "whole"),)
        self.lane.judged, self.lane.ready = self.lane.fed, True
        return made


def slicer(text: str) -> Callable[[Span], str]:
    return lambda span: text[span.start : span.end]
