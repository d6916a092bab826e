"""Putting a verdict's changes into bytes, and telling the log where they are. Pure."""

from __future__ import annotations

from typing import Any

from moderation.flow.reading import Verdict
from moderation.text import Phase, Span
from moderation.verdict import Action, Edit
from moderation.wire import body, edits, openai


def logged(verdict: Verdict, phase: Phase) -> list[Edit]:
    """What was changed, for the log: where and why, never what. Names that were given back are no edits."""
    if not verdict.changes and not verdict.removals:
        return []
    segments = verdict.conversation.segments
    edits: list[Edit] = []
    for index, segment in enumerate(segments):
        if segment.phase is not phase:
            continue
        removal = verdict.removals.get(index)
        if removal is not None:
            edits.append(Edit(segment.path, Span(0, len(segment.text)), Action.REDACT, "", removal.name))
        edits.extend(
            Edit(segment.path, change.span, change.action, "", change.kind)
            for change in verdict.changes.get(index, ())
            if change.action is not Action.ALLOW
        )
    return edits


def edited(raw: bytes, verdict: Verdict, answer: Any = None) -> bytes:
    """The bytes with every change made; the very same bytes where there is none. `answer`: the parsed body of an answer."""
    segments = verdict.conversation.segments
    texts: dict[str, str | edits.Removal] = {}
    for index, text in verdict.texts.items():
        removal = verdict.removals.get(index)
        texts[segments[index].path] = edits.Removal(removal.label) if removal else text
    sources = {
        path: body.quote(label) if path.endswith("/content") else '{"type": "text", "text": ' + body.quote(label) + "}"
        for path, label in verdict.media.items()
    }
    if answer is not None:
        for choice in sorted({segments[index].choice for index in verdict.texts}):
            sources.update(dict.fromkeys(openai.logprob_pointers(answer, choice), "null"))
    if not texts and not sources:
        return raw
    return edits.edit_segments(raw, texts, sources)
