"""From findings to the signals that decide reads, and from an outcome back to the spans it is about.

Pure. Both requests, whole answers and streams go through here, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from moderation.act import Change, Names, label
from moderation.text import Origin, Span
from moderation.verdict import Action, Finding, Fired, Key, Mode, Outcome, Signal, Unknown, Window

EVERYTHING = 1 << 60
"""The end of a change that takes all that is still to come."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A finding in its place: its key as decide sees it, and its span in the whole text."""

    finding: Finding
    key: Key

    @property
    def end(self) -> int:
        return self.finding.span.end if self.finding.span else 0


def see(bare: Key, finding: Finding, origin: Origin | None) -> Seen:
    """The key of a finding in a text whose bare key is given."""
    return Seen(
        finding,
        Key(bare.channel, bare.turn, bare.tool, finding.detector, finding.category, finding.entity, origin),
    )


def window(bare: Key, seen: Iterable[Seen], unknown: Iterable[Unknown] = ()) -> Window:
    """All that decide reads of one window: the highest score and the count by key, and one bare signal."""
    tally: dict[Key, list[int]] = {}
    for one in seen:
        entry = tally.get(one.key)
        if entry is None:
            tally[one.key] = [one.finding.score, 1]
        else:
            entry[0] = max(entry[0], one.finding.score)
            entry[1] += 1
    signals = [Signal(bare, 0, 1)]
    signals.extend(Signal(key, score, count) for key, (score, count) in tally.items())
    if len(signals) > 2:
        signals[1:] = sorted(signals[1:], key=_order)
    return Window(tuple(signals), tuple(sorted(set(unknown), key=lambda u: (u.detector, u.cause))))


@lru_cache(maxsize=256)
def bare_window(bare: Key) -> Window:
    """`window` of a text in which nothing was found, and nothing failed."""
    return window(bare, ())


def joined(one: Window, other: Window) -> Window:
    """The signals of one tool call, whose arguments are several segments."""
    tally: dict[Key, tuple[int, int]] = {}
    for signal in (*one.signals, *other.signals):
        score, count = tally.get(signal.key, (0, 0))
        bare = signal.key.detector is None
        tally[signal.key] = (max(score, signal.score), 1 if bare else count + signal.count)
    signals = tuple(Signal(key, score, count) for key, (score, count) in tally.items())
    return Window(signals, tuple(dict.fromkeys((*one.unknown, *other.unknown))))


def _order(signal: Signal) -> tuple[str, ...]:
    key = signal.key
    return (key.detector or "", key.category or "", key.entity or "", key.origin or "")


@dataclass(frozen=True, slots=True)
class Effect:
    """What an outcome does to one window: changes to spans, or the label that takes the whole segment."""

    changes: tuple[Change, ...] = ()
    whole: Change | None = None


NOTHING = Effect()


def effect(
    fired: Sequence[Fired],
    seen: Sequence[Seen],
    value: Callable[[Span], str],
    names: Names,
    category: Callable[[Fired], str],
) -> Effect:
    """Turn the enforced transforms among `fired` (all about one window) into changes.

    `value` gives the text of a span; `category` names what an Unknown rule is about, for its label.
    """
    places: list[tuple[Span, Fired, Finding]] = []
    whole: Change | None = None
    for rule in fired:
        if rule.mode is not Mode.ENFORCE or rule.action not in (Action.PSEUDONYMISE, Action.REDACT):
            continue
        matched = [one for one in seen if _satisfies(rule, one)]
        if rule.whole or any(one.finding.span is None for one in matched):
            name = rule.label or (matched[0].finding.name if matched else category(rule))
            if whole is None or name < whole.kind:
                whole = Change(Span(0, EVERYTHING), Action.REDACT, label(name), name)
            continue
        places.extend((one.finding.span, rule, one.finding) for one in matched if one.finding.span is not None)
    changes: list[Change] = []
    # Names are given in the order of appearance, whatever the rules are called.
    for span, rule, finding in sorted(places, key=lambda p: (p[0].start, p[0].end, p[1].rule)):
        kind = finding.entity or finding.category
        text = names.name(kind, value(span)) if rule.action is Action.PSEUDONYMISE else label(rule.label or finding.name)
        changes.append(Change(span, rule.action, text, kind))
    return Effect(tuple(changes), whole)


def named(fired: Sequence[Fired], seen: Seen) -> tuple[Span, str] | None:
    """The span and kind of a finding that these rules would pseudonymise; None where none of them would."""
    span = seen.finding.span
    if span is None or not any(
        f.mode is Mode.ENFORCE and f.action is Action.PSEUDONYMISE and not f.whole and _satisfies(f, seen) for f in fired
    ):
        return None
    return span, seen.finding.entity or seen.finding.category


def by_window(outcome: Outcome) -> Callable[[int], tuple[Fired, ...]]:
    """`enforced` for an outcome of many windows, without a walk through all that fired for each of them."""
    every = tuple(f for f in outcome.fired if f.mode is Mode.ENFORCE and f.window < 0)
    some: dict[int, list[Fired]] = {}
    for one in outcome.fired:
        if one.mode is Mode.ENFORCE and one.window >= 0:
            some.setdefault(one.window, []).append(one)
    return lambda index: (*some.get(index, ()), *every)


def _satisfies(rule: Fired, one: Seen) -> bool:
    return any(
        key == one.key and one.finding.score >= least for key, least in zip(rule.keys, rule.at_least, strict=True)
    )


def enforced(outcome: Outcome, index: int) -> tuple[Fired, ...]:
    """The enforced rules about one window, or about all of them."""
    return tuple(f for f in outcome.fired if f.mode is Mode.ENFORCE and f.window in (index, -1))


def blocker(outcome: Outcome) -> Fired | None:
    """The enforced rule that blocks, by severity and then id; None where nothing blocks."""
    blocks = [f for f in outcome.fired if f.mode is Mode.ENFORCE and f.action is Action.BLOCK]
    return min(blocks, key=lambda f: (-f.severity, f.rule, f.window)) if blocks else None


def shifted(finding: Finding, by: int) -> Finding:
    """The finding with its span moved."""
    if finding.span is None or not by:
        return finding
    return replace(finding, span=Span(finding.span.start + by, finding.span.end + by))
