"""Reading a conversation: detectors, signals, decision, and what becomes of each text.

The one way in which a request, a whole answer, `try`, `/moderate`, `/v1/moderations` and a policy's tests are judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product

from moderation.act import LITERAL, Change, Names, apply, merge
from moderation.detect.run import BREATH, Asked, Runner
from moderation.flow.acting import Located, Made, Removal, Ruling, act, stuck
from moderation.flow.seams import crossing, seams
from moderation.judge import Seen, bare_window, blocker, by_window, joined, named, see, window
from moderation.policy.decide import heard, needs
from moderation.policy.limits import decide_all, media_window, uneditable_window, unread_windows
from moderation.policy.model import Policy
from moderation.sentence import ANSWER_WINDOW, INPUT_WINDOW
from moderation.text import ROLES, Channel, Conversation, Media, Origin, Phase, Role, Scope, Segment, Span, Turn
from moderation.verdict import Action, Finding, Fired, Key, Window
from moderation.wire.leaves import editable

_ORDER = (Phase.INPUT, Phase.TOOL_RESULT, Phase.OUTPUT, Phase.TOOL_CALL)
_SUPPLIED = {
    Channel.USER: Origin.USER,
    Channel.SYSTEM: Origin.APP,
    Channel.TOOL_DEFINITION: Origin.APP,
    Channel.TOOL_RESULT: Origin.TOOL,
}

Ruled = tuple[Ruling, Sequence[int], Sequence[Media]]
"""A decided phase, the segment of each of its windows (-1 for media), and its media."""


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Active:
    """The policy in force when a request came in, with its detectors; a request keeps it to its end."""

    policy: Policy
    runner: Runner
    generation: int
    models: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    wanted: Mapping[Phase, frozenset[str]] = field(default_factory=dict)
    """The detectors that each phase needs."""
    instead: Mapping[str, str] = field(default_factory=dict)
    """By detector: in words, what stands in for the model that it was meant to have."""
    _asked: Mapping[tuple[Phase, Channel, Turn], Asked] = field(default_factory=dict)

    def asked(self, phase: Phase, channel: Channel, turn: Turn = Turn.NEW) -> Asked:
        """Who wrote such a text, and the window detectors that it is for: no rule takes up what others say of it."""
        return self._asked[phase, channel, turn]

    @classmethod
    def of(cls, policy: Policy, runner: Runner, generation: int, instead: Mapping[str, str] | None = None) -> Active:
        """With all that can be told from the policy alone."""
        wanted = {phase: needs(policy, phase) for phase in Phase}
        asked = {
            place: (ROLES.get(place[1], Role.PROMPT), heard(policy, *place) & runner.windowed)
            for place in product(Phase, Channel, Turn)
        }
        return cls(policy, runner, generation, policy.named("model"), policy.named("tool"), wanted, dict(instead or {}), asked)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was decided about one conversation, and what becomes of its texts."""

    conversation: Conversation
    rulings: tuple[Ruling, ...]
    blocked: tuple[Phase, Fired] | None
    changes: Mapping[int, tuple[Change, ...]]
    """By segment; merged."""
    removals: Mapping[int, Removal]
    media: Mapping[str, str]
    """Media to be replaced by a label, by path."""
    names: Names
    supplied: Mapping[tuple[str, str], Origin] = field(default_factory=dict)

    @property
    def action(self) -> Action:
        return max((r.outcome.action for r in self.rulings), default=Action.ALLOW)

    @property
    def would(self) -> Action:
        return max((r.outcome.would for r in self.rulings), default=Action.ALLOW)

    @property
    def degraded(self) -> bool:
        return any(r.outcome.degraded for r in self.rulings)

    def text(self, index: int) -> str:
        """What goes on of one segment."""
        removal = self.removals.get(index)
        if removal is not None:
            return removal.label
        return apply(self.conversation.segments[index].text, self.changes.get(index, ()))

    @property
    def texts(self) -> dict[int, str]:
        """The segments that do not go on as they came, by index."""
        return {index: self.text(index) for index in sorted({*self.changes, *self.removals})}


async def read(
    active: Active,
    conversation: Conversation,
    scope: Scope,
    *,
    supplied: Mapping[tuple[str, str], Origin] | None = None,
    names: Names | None = None,
    too_large: bool = False,
) -> Verdict:
    """Judge every text of a conversation.

    `supplied` and `names` come from the request where an answer is judged. With `too_large` every detector counts as Unknown,
    because what they said does not fit the log.
    """
    origins = dict(supplied or {})
    by_phase: dict[Phase, list[int]] = {}
    for index, segment in enumerate(conversation.segments):
        by_phase.setdefault(segment.phase, []).append(index)
    ruled: list[Ruled] = []
    first = Phase.OUTPUT if Phase.OUTPUT in by_phase or Phase.TOOL_CALL in by_phase else Phase.INPUT
    for phase in _ORDER:
        indexes = by_phase.get(phase, [])
        pictures: Sequence[Media] = conversation.media if phase is first else ()
        if not indexes and not pictures and phase is not first:
            continue
        ruling, owners = await _rule(active, conversation, indexes, pictures, phase, scope, origins, too_large)
        ruled.append((ruling, owners, pictures))
    return _settle(active, conversation, scope, ruled, names, origins)


def _settle(
    active: Active, conversation: Conversation, scope: Scope, ruled: Sequence[Ruled],
    names: Names | None, supplied: Mapping[tuple[str, str], Origin],
) -> Verdict:
    """What becomes of the texts, once each phase is decided. `names` are those of the request where it is an answer."""
    request = names is None
    names = Names() if names is None else names
    naming = names if request else names.fork()
    _give_names(conversation.segments, [ruling for ruling, _, _ in ruled], naming)
    rulings: list[Ruling] = []
    changes: dict[int, list[Change]] = {}
    removals: dict[int, Removal] = {}
    media: dict[str, str] = {}
    blocked: tuple[Phase, Fired] | None = None
    for ruling, owners, pictures in ruled:
        made = Made({}, {}, {})
        if ruling.outcome.fired and blocked is None and blocker(ruling.outcome) is None:
            act(active.policy, conversation.segments, ruling, owners, pictures, made, naming)
            left = stuck(conversation.segments, made)
            if left:
                windows = (*ruling.windows, *(uneditable_window(_bare(active, conversation.segments[index])) for index in left))
                ruling = replace(ruling, windows=windows, outcome=decide_all(active.policy, ruling.phase, scope, windows))
        rulings.append(ruling)
        rule = blocker(ruling.outcome)
        if rule is not None:
            blocked = blocked or (ruling.phase, rule)
        for index, some in made.changes.items():
            changes.setdefault(index, []).extend(some)
        removals |= made.removals
        media |= made.media
    if request and pseudonymises(active.policy):
        for index, segment in enumerate(conversation.segments):
            for span in names.literals(segment.text):
                value = segment.text[span.start : span.end]
                if editable(segment.path):
                    name = names.name(LITERAL, value)
                    changes.setdefault(index, []).append(Change(span, Action.PSEUDONYMISE, name, LITERAL))
    if not request:
        for index, segment in enumerate(conversation.segments):
            if editable(segment.path):
                for span, value in names.found(segment.text, 0, final=True)[0]:
                    changes.setdefault(index, []).append(Change(span, Action.ALLOW, value, "restored"))
    merged = {index: merge(some) for index, some in changes.items() if some and index not in removals}
    return Verdict(conversation, tuple(rulings), blocked, merged, removals, media, names, supplied)


def _give_names(segments: Sequence[Segment], rulings: Sequence[Ruling], names: Names) -> None:
    """Name every value that will be pseudonymised in the order of the body: a later turn only adds to it, whatever the phases."""
    places: list[tuple[int, Span, str]] = []
    for ruling in rulings:
        if not any(fired.action is Action.PSEUDONYMISE for fired in ruling.outcome.fired):
            continue
        fired_in = by_window(ruling.outcome)
        for item in ruling.found:
            found = named(fired_in(item.window), item.seen)
            if found is not None:
                places.append((item.segment, *found))
    for index, span, kind in sorted(places, key=lambda place: (place[0], place[1].start, place[1].end)):
        names.name(kind, segments[index].text[span.start : span.end])


def origin_of(supplied: Mapping[tuple[str, str], Origin], finding: Finding, value: str) -> Origin:
    """Who supplied a value of an answer, as far as exact repeats tell."""
    return supplied.get((finding.entity or finding.category, value), Origin.MODEL)


def pseudonymises(policy: Policy) -> bool:
    """True where a rule of this policy can give names, so that what looks like a name must be escaped."""
    return any(rule.then is Action.PSEUDONYMISE for rule in policy.rules)


async def _rule(
    active: Active,
    conversation: Conversation,
    indexes: Sequence[int],
    pictures: Sequence[Media],
    phase: Phase,
    scope: Scope,
    supplied: dict[tuple[str, str], Origin],
    too_large: bool,
) -> tuple[Ruling, list[int]]:
    """Decide one phase; `owners` tells which segment each window belongs to (-1 for media)."""
    segments = [conversation.segments[i] for i in indexes]
    wanted = active.wanted[phase]
    size = ANSWER_WINDOW if phase is Phase.OUTPUT else INPUT_WINDOW
    if too_large:
        keys = dict.fromkeys(_bare(active, segment) for segment in segments)
        windows = unread_windows(keys, wanted)
        by_key = {key: number for number, key in enumerate(keys)}
        owners = [[by_key[_bare(active, segment)]] for segment in segments]
        flat = _owners(owners, indexes, len(windows), pictures)
        windows += [media_window(m) for m in pictures]
        return Ruling(phase, decide_all(active.policy, phase, scope, windows), tuple(windows), ()), flat
    asked = [active.asked(phase, s.channel, s.turn) for s in segments] if wanted & active.runner.windowed else ()
    texts = [s.text for s in segments]
    examined = await active.runner.examine(texts, wanted, scope.tenant, size, asked) if segments else ()
    windows, flat, found = [], list[int](), list[Located]()
    calls: dict[tuple[str, str | None], int] = {}
    for turn, (index, segment, one) in enumerate(zip(indexes, segments, examined, strict=True), 1):
        if not turn % BREATH:
            await asyncio.sleep(0)
        bare = _bare(active, segment)
        if one.quiet and segment.channel is not Channel.TOOL_CALL:
            count = len(one.windows)
            windows.extend([bare_window(bare)] * count)
            flat.extend([index] * count)
            continue
        for findings, unknown in zip(one.findings, one.unknown, strict=True):
            seen = [see(bare, f, _origin(segment, f, supplied)) for f in findings]
            call = (segment.path.partition("#")[0], segment.tool)
            if segment.channel is Channel.TOOL_CALL and call in calls:
                at = calls[call]
                windows[at] = joined(windows[at], window(bare, seen, unknown))
            else:
                at = len(windows)
                windows.append(window(bare, seen, unknown))
                flat.append(index)
                if segment.channel is Channel.TOOL_CALL:
                    calls[call] = at
            found.extend(Located(index, at, item) for item in seen)
    if phase in (Phase.INPUT, Phase.TOOL_RESULT):
        await _across(active, conversation.segments, wanted, scope.tenant, frozenset(indexes), supplied, windows, found, flat)
    windows += [media_window(m) for m in pictures]
    flat += [-1] * len(pictures)
    outcome = decide_all(active.policy, phase, scope, windows)
    models = active.runner.versions(frozenset().union(*(names for _, names in asked)))
    return Ruling(phase, outcome, tuple(windows), tuple(found), models), flat


async def _across(
    active: Active, segments: Sequence[Segment], wanted: frozenset[str], tenant: str, ours: frozenset[int],
    supplied: dict[tuple[str, str], Origin], windows: list[Window], found: list[Located], owners: list[int],
) -> None:
    """What stands across seams: a window for each later text that ends such a finding, or whose seam nobody could read."""
    if not (near := [seam for seam in seams(segments) if seam.segments[-1] in ours]):
        return
    read = await active.runner.examine([s.text for s in near], wanted - active.runner.windowed, tenant, INPUT_WINDOW)
    for later, (told, lost) in crossing(zip(near, read, strict=True)).items():
        bare = _bare(active, segments[later])
        counted = []
        for pieces in told:
            seen = [see(bare, part, _origin(segments[index], part, supplied)) for index, part in pieces]
            counted.append(seen[-1])  # and all pieces stand under its key
            found.extend(Located(index, len(windows), Seen(part, seen[-1].key)) for index, part in pieces)
        windows.append(window(bare, counted, lost))
        owners.append(later)


def _owners(owners: Sequence[Sequence[int]], indexes: Sequence[int], count: int, pictures: Sequence[Media]) -> list[int]:
    flat = [-1] * (count + len(pictures))
    for index, numbers in zip(indexes, owners, strict=True):
        for number in numbers:
            flat[number] = index
    return flat


def _bare(active: Active, segment: Segment) -> Key:
    tool = segment.tool
    return _key(segment.channel, segment.turn, tool if tool is None or tool in active.tools else "other")


_key = lru_cache(maxsize=256)(Key)


def _origin(segment: Segment, finding: Finding, supplied: dict[tuple[str, str], Origin]) -> Origin | None:
    """Learn who supplied a value from a request; tell it in an answer."""
    if finding.span is None:
        return None
    value = segment.text[finding.span.start : finding.span.end]
    if segment.phase in (Phase.OUTPUT, Phase.TOOL_CALL):
        return origin_of(supplied, finding, value)
    origin = _SUPPLIED.get(segment.channel, Origin.MODEL)
    if origin is not Origin.MODEL:
        known = supplied.get((finding.entity or finding.category, value))
        if known is None or origin is Origin.USER:
            supplied[(finding.entity or finding.category, value)] = origin
    return origin


def scoped(scope: Scope, active: Active, model: str | None, language: str) -> Scope:
    """The scope with what the body says, as far as the policy names it."""
    return replace(scope, model=model if model is not None and model in active.models else "other", language=language)


def newest_user_text(conversation: Conversation) -> str:
    """The text whose script tells the language: the newest of the user, else the newest of all."""
    users = [s.text for s in conversation.segments if s.channel is Channel.USER and s.turn is Turn.NEW]
    every = [s.text for s in conversation.segments]
    return users[-1] if users else every[-1] if every else ""
