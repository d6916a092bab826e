"""Judging and recording: one leaf a phase, all of them or none. For the proxied call and for the desk alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from moderation.audit.record import RecordTooLarge
from moderation.errors import LogError
from moderation.flow.editing import logged
from moderation.flow.ledger import Entry
from moderation.flow.reading import Verdict
from moderation.text import Phase


async def judged(
    entry: Entry, judge: Callable[[bool], Awaitable[Verdict]], micros: Callable[[], dict[str, int]] = dict
) -> Verdict:
    """Judge, and record what was decided; where its signals do not fit the log, again with every detector Unknown.

    `judge` is told whether they did not fit; `micros` says how long it took. Raises LogError where that does not fit either.
    """
    for too_large in (False, True):
        verdict = await judge(too_large)
        try:
            _record(entry, verdict, micros())
        except RecordTooLarge:
            continue
        return verdict
    raise LogError("the decision does not fit the log")


def _record(entry: Entry, verdict: Verdict, micros: dict[str, int]) -> None:
    """Record the decision of every phase. Raises RecordTooLarge, and has recorded nothing then."""
    segments = verdict.conversation.segments
    mark = entry.mark()
    for ruling in verdict.rulings:
        indexes = [index for index, segment in enumerate(segments) if segment.phase is ruling.phase]
        changed = any(index in verdict.changes or index in verdict.removals for index in indexes)
        try:
            entry.decide(
                ruling.phase,
                ruling.outcome,
                ruling.windows,
                texts=[segments[index].text for index in indexes],
                made=[verdict.text(index) for index in indexes] if changed else None,
                edits=logged(verdict, ruling.phase),
                media=verdict.conversation.media if ruling.phase in (Phase.INPUT, Phase.OUTPUT) else (),
                models=ruling.models,
                micros=micros,
            )
        except RecordTooLarge:
            entry.back_to(mark)
            raise
