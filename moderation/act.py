"""Acting on a decision: spans become labels or pseudonyms; pseudonyms become values again.

Pure functions of the request. Nothing is stored between requests: names are numbered by kind in the order of first
appearance, and an app resends its history from the start, so the same value has the same name at every turn.
Knows nothing of JSON, policies or streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from moderation.text import Span
from moderation.verdict import Action

NAME = re.compile(r"<[A-Z][A-Z0-9_]{0,62}_[1-9][0-9]{0,8}>")
"""A pseudonym: `<KIND_N>`, at most 75 code points."""
NAME_REACH = 75
_NAME_BEGUN = re.compile(r"<(?:[A-Z][A-Z0-9_]{0,72})?\Z")
LITERAL = "LITERAL"
"""The kind of a name that the caller's own text held before any value was named."""


@dataclass(frozen=True, slots=True)
class Change:
    """One stretch of a text and what stands there instead."""

    span: Span
    action: Action
    text: str
    kind: str


def label(name: str) -> str:
    return f"[removed: {name}]"


class Names:
    """The pseudonyms of one request: value to name and back. Filled in order of appearance, then only read."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._values: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def fork(self) -> Names:
        """A copy that can name more values; what it names is not restored by this one."""
        other = Names()
        other._names, other._values, other._counts = dict(self._names), dict(self._values), dict(self._counts)
        return other

    def name(self, kind: str, value: str) -> str:
        """The name of a value; the same kind and value always give the same name."""
        known = self._names.get((kind, value))
        if known is not None:
            return known
        stem = re.sub(r"[^A-Z0-9_]", "_", kind.upper())[:62].strip("_") or "VALUE"
        stem = stem if stem[0].isalpha() else f"V_{stem}"
        number = self._counts.get(stem, 0) + 1
        self._counts[stem] = number
        name = f"<{stem}_{number}>"
        self._names[(kind, value)] = name
        self._values[name] = value
        return name

    def value(self, name: str) -> str | None:
        return self._values.get(name)

    def literals(self, text: str) -> tuple[Span, ...]:
        """Where the caller's own text holds something that looks like a name and so must be escaped."""
        return tuple(Span(m.start(), m.end()) for m in NAME.finditer(text)) if "<" in text else ()

    def found(self, text: str, start: int, final: bool) -> tuple[tuple[tuple[Span, str], ...], int]:
        """The names of this request in text[start:], each with its value, and the place from which one may be half written."""
        if not self._values:
            return (), len(text)
        known = tuple(
            (Span(m.start(), m.end()), value)
            for m in NAME.finditer(text, start)
            if (value := self._values.get(m.group())) is not None
        )
        if final:
            return known, len(text)
        begun = _NAME_BEGUN.search(text, max(start, len(text) - NAME_REACH))
        return known, begun.start() if begun else len(text)

    def restore(self, text: str) -> str:
        found, _ = self.found(text, 0, final=True)
        return apply(text, [Change(span, Action.ALLOW, value, "") for span, value in found])


def merge(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Unite overlapping changes: the union of the spans, with the text of the most severe, then the longest, then the first."""
    ordered = sorted(changes, key=lambda c: (c.span.start, c.span.end))
    united: list[Change] = []
    for change in ordered:
        if united and change.span.start < united[-1].span.end:
            last = united[-1]
            span = Span(last.span.start, max(last.span.end, change.span.end))
            lead = max((last, change), key=lambda c: (c.action, c.span.end - c.span.start))
            united[-1] = Change(span, lead.action, lead.text, lead.kind)
        else:
            united.append(change)
    return tuple(united)


def apply(text: str, changes: Sequence[Change]) -> str:
    """The text with each change made; changes are by start and do not overlap (see merge)."""
    return piece(text, 0, changes)


def piece(text: str, base: int, changes: Sequence[Change]) -> str:
    """What goes out for `text`, which stands at `base` of a longer text to which the spans belong.

    A change's own text stands where its span starts, so it goes out with the piece that holds the start.
    """
    parts: list[str] = []
    at, end = base, base + len(text)
    for change in changes:
        start, stop = change.span.start, change.span.end
        if stop <= at or start >= end:
            continue
        if start > at:
            parts.append(text[at - base : start - base])
        if start >= base:
            parts.append(change.text)
        at = min(stop, end)
    parts.append(text[at - base :])
    return "".join(parts)
