"""Recording a verdict: one leaf a phase, all of them or none. For the proxied call and for the desk alike."""

from __future__ import annotations

from moderation.audit.record import RecordTooLarge
from moderation.flow.editing import logged
from moderation.flow.ledger import Entry
from moderation.flow.reading import Verdict
from moderation.text import Phase


def record_verdict(entry: Entry, verdict: Verdict, micros: dict[str, int]) -> None:
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
                micros=micros,
            )
        except RecordTooLarge:
            entry.back_to(mark)
            raise
