"""What a phase's decision does to texts and media: changes, removals, labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from moderation.act import Change, Names, label
from moderation.judge import Seen, by_window, effect
from moderation.policy.model import Policy
from moderation.text import Channel, Media, Phase, Segment
from moderation.verdict import Action, Fired, Outcome, Window
from moderation.wire.leaves import editable


@dataclass(frozen=True, slots=True)
class Removal:
    """A whole field that goes on as a label alone."""

    label: str
    name: str


@dataclass(frozen=True, slots=True)
class Located:
    """A finding with the segment that holds it and the window that counts it."""

    segment: int
    window: int
    seen: Seen


@dataclass(frozen=True, slots=True)
class Ruling:
    """One phase, decided."""

    phase: Phase
    outcome: Outcome
    windows: tuple[Window, ...]
    found: tuple[Located, ...]
    models: Mapping[str, str] = field(default_factory=dict)
    """Versions of the models and judges that were asked, by detector."""


@dataclass(frozen=True, slots=True)
class Made:
    """What one phase's outcome does: changes and removals by segment, media by path."""

    changes: dict[int, list[Change]]
    removals: dict[int, Removal]
    media: dict[str, str]


def act(
    policy: Policy, segments: Sequence[Segment], ruling: Ruling, owners: Sequence[int], pictures: Sequence[Media],
    made: Made, names: Names,
) -> None:
    """Turn an outcome that does not block into changes and removals."""
    found_in: dict[int, list[Located]] = {}
    for item in ruling.found:
        found_in.setdefault(item.window, []).append(item)
    first_picture = len(owners) - len(pictures)
    fired_in = by_window(ruling.outcome)
    for number, owner in enumerate(owners):
        fired = fired_in(number)
        if not fired:
            continue
        if owner < 0:
            if any(rule.action is Action.REDACT for rule in fired):
                picture = pictures[number - first_picture]
                made.media[picture.path] = label(picture.kind)
            continue
        located = found_in.get(number, [])
        for index in sorted({owner, *(item.segment for item in located)}):
            segment = segments[index]
            doing = effect(
                fired,
                [item.seen for item in located if item.segment == index],
                lambda span, text=segment.text: text[span.start : span.end],  # type: ignore[misc]
                names,
                lambda rule: category_of(policy, rule),
            )
            if doing.changes:
                made.changes.setdefault(index, []).extend(doing.changes)
            if doing.whole is not None:
                made.removals[index] = Removal(doing.whole.text, doing.whole.kind)


def stuck(segments: Sequence[Segment], made: Made) -> list[int]:
    """The indexes of texts that had to be edited and cannot be. A call in history goes as a whole instead."""
    left: list[int] = []
    for index in sorted({*(i for i, some in made.changes.items() if some), *made.removals}):
        segment = segments[index]
        if editable(segment.path):
            continue
        if segment.channel is Channel.TOOL_CALL and segment.phase is Phase.INPUT and "/arguments" in segment.path:
            kind = made.removals[index].name if index in made.removals else made.changes[index][0].kind
            made.removals[index] = Removal(label(kind), kind)
        else:
            left.append(index)
    return left


def category_of(policy: Policy, rule: Fired) -> str:
    """What a rule that fired on Unknown is about: the category of its detector."""
    for key in rule.keys:
        if key.category:
            return key.category
        if key.detector and key.detector in policy.detectors:
            return policy.detectors[key.detector].categories[0]
    return rule.rule
