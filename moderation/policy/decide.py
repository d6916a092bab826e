"""The one function that decides: signals and scope in, outcome out. Pure, total, and free of any order.

Rules of this file
1. It reads signals, failures and the scope. No text, no span, no clock, no state.
2. Three values: true, false, unknown (a detector failed). `none` of an unknown is unknown, so a failure never loosens.
3. Rules do not know of each other; the most severe of what they say wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import assert_never

from moderation.policy.conditions import Atom, Condition, Group, Kind
from moderation.policy.model import Over, Policy, Rule
from moderation.policy.reading import Patience, heard, needs, patience
from moderation.text import Phase, Scope, Turn
from moderation.verdict import Action, Cause, Fired, Key, Mode, OnFailure, Outcome, Unknown, Window

__all__ = ["Patience", "decide", "heard", "needs", "patience"]

_SPANS = (Action.PSEUDONYMISE, Action.REDACT)


class Truth(IntEnum):
    FALSE = 0
    UNKNOWN = 1
    TRUE = 2


@dataclass(frozen=True, slots=True)
class Hit:
    """A signal that satisfies an atom."""

    window: int
    key: Key
    least: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A failure that hides whether, or how often, an atom is satisfied."""

    window: int
    key: Key
    least: int
    unknown: Unknown


@dataclass(frozen=True, slots=True)
class Found:
    """What a condition comes to. Of a true one, the gaps hide further findings; of an unknown one, whether it is true."""

    truth: Truth
    hits: tuple[Hit, ...] = ()
    gaps: tuple[Gap, ...] = ()


_FALSE = Found(Truth.FALSE)


def decide(policy: Policy, phase: Phase, scope: Scope, windows: Sequence[Window]) -> Outcome:
    """What the policy says of these windows; each is judged alone but by rules that look over all of them."""
    rules = policy.rules_in(phase)
    loud = tuple((i,) for i, w in enumerate(windows) if _is_loud(w))
    if not loud and all(rule.needs_finding for rule in rules):
        return NOTHING
    together = tuple(range(len(windows)))
    alone = loud if len(loud) == len(windows) else tuple((i,) for i in together)
    fired: list[Fired] = []
    degraded = False
    for rule in rules:
        if rule.needs_finding and not loud:
            continue
        for at in (together,) if rule.over is not Over.WINDOW else loud if rule.needs_finding else alone:
            found = _judge(rule.when, scope, windows, at)
            if found.truth is Truth.FALSE:
                continue
            action, open_ = rule.then, found.truth is Truth.UNKNOWN
            if open_ or (found.gaps and (action in _SPANS or _hides_new(rule, found))):
                # The rule is undecided; or it is true, and a failure hides some of the spans that it is about, or new text.
                degraded |= any(_counts(policy, gap.unknown) for gap in found.gaps)
                strict = max((_handling(policy, gap.unknown) for gap in found.gaps), default=OnFailure.ASSUME_MATCH)
                if open_ and strict is OnFailure.IGNORE:
                    continue
                action = min(action, Action.FLAG) if open_ and strict is OnFailure.FLAG else action
                open_ = open_ or strict is OnFailure.ASSUME_MATCH
            fired.extend(_fire(rule, phase, windows, at, action, found, open_))
    enforced = [f for f in fired if f.mode is Mode.ENFORCE]
    blocks = [f for f in enforced if f.action is Action.BLOCK]
    blocker = min(blocks, key=lambda f: (-f.severity, f.rule)) if blocks else None
    return Outcome(
        max((f.action for f in enforced), default=Action.ALLOW),
        max((f.action for f in fired), default=Action.ALLOW),
        tuple(fired),
        tuple(sorted({u for w in windows for u in w.unknown}, key=lambda u: (u.detector, u.cause))),
        degraded,
        policy.rule(blocker.rule).message if blocker else None,
    )


NOTHING = Outcome(Action.ALLOW, Action.ALLOW, (), (), False, None)
"""What is said where no detector found anything and none failed, and every rule needs a finding."""


def _is_loud(window: Window) -> bool:
    """Whether a detector found something there, or failed."""
    if len(window.signals) == 1:  # as nearly always
        return window.signals[0].key.detector is not None or bool(window.unknown)
    return bool(window.unknown) or any(signal.key.detector is not None for signal in window.signals)


def _judge(condition: Condition, scope: Scope, windows: Sequence[Window], at: Sequence[int]) -> Found:
    """Kleene's three-valued logic over the atoms."""
    match condition:
        case Atom():
            return _atom(condition, scope, windows, at)
        case Group():
            parts = [_judge(inner, scope, windows, at) for inner in condition.of]
            sure = sum(part.truth is Truth.TRUE for part in parts)
            most = sum(part.truth is not Truth.FALSE for part in parts)
            if condition.kind is Kind.NONE:
                truth = Truth.FALSE if sure else Truth.UNKNOWN if most else Truth.TRUE
            else:
                truth = Truth.TRUE if sure >= condition.n else Truth.UNKNOWN if most >= condition.n else Truth.FALSE
            hits = (hit for part in parts if part.truth is truth for hit in part.hits)
            gaps = (gap for part in parts if part.truth is truth or part.truth is Truth.UNKNOWN for gap in part.gaps)
            return Found(truth, tuple(hits), tuple(gaps)) if truth else _FALSE
        case _:
            assert_never(condition)


def _atom(atom: Atom, scope: Scope, windows: Sequence[Window], at: Sequence[int]) -> Found:
    if not atom.admits_scope(scope):
        return _FALSE
    if not atom.signal:
        return Found(Truth.TRUE)
    hits: list[Hit] = []
    gaps: list[Gap] = []
    for i in at:
        for s in windows[i].signals:
            least = atom.least.get(s.key.detector) if s.key.detector is not None else None if atom.finding else 0
            if least is not None and s.score >= least and atom.admits_key(s.key):
                hits.append(Hit(i, s.key, least))
        for u in windows[i].unknown:
            if u.detector in atom.able:
                near = (s.key for s in windows[i].signals if atom.admits_place(s.key))
                keys = {Key(key.channel, key.turn, key.tool, u.detector) for key in near}
                gaps.extend(Gap(i, key, atom.least[u.detector], u) for key in keys)
    return Found(Truth.TRUE if hits else Truth.UNKNOWN if gaps else Truth.FALSE, tuple(hits), tuple(gaps))


def _hides_new(rule: Rule, found: Found) -> bool:
    """Whether a block that would only remove from history may be about new text, too, for all that the failed detectors tell."""
    if rule.then is not Action.BLOCK or rule.in_history_block:
        return False
    return {hit.key.turn for hit in found.hits} == {Turn.HISTORY} and any(gap.key.turn is Turn.NEW for gap in found.gaps)


def _handling(policy: Policy, unknown: Unknown) -> OnFailure:
    spec = policy.detectors[unknown.detector]
    return spec.on_unsupported if unknown.cause is Cause.UNSUPPORTED else spec.on_failure


def _counts(policy: Policy, unknown: Unknown) -> bool:
    """A decision on this failure is a degraded one."""
    return unknown.cause is not Cause.UNSUPPORTED or _handling(policy, unknown) is not OnFailure.IGNORE


def _fire(
    rule: Rule, phase: Phase, windows: Sequence[Window], at: Sequence[int], action: Action, found: Found, open_: bool
) -> Iterator[Fired]:
    """What a rule that fired asks for: about its spans, or about whole segments. `open_`: it fired on a failure."""
    whole = open_ and action in _SPANS
    marks: list[Hit | Gap] = [*(hit for hit in found.hits if hit.key.detector is not None), *(found.gaps if open_ else ())]
    causes: Sequence[Hit | Gap] = marks or found.hits
    turns = {mark.key.turn for mark in (*marks, *found.hits)} or {s.key.turn for i in at for s in windows[i].signals}
    if whole and phase is Phase.TOOL_CALL:
        # Half of a call's arguments cannot be replaced by words, and nobody knows which half.
        action, whole = Action.BLOCK, False
    elif action is Action.BLOCK and not rule.in_history_block and turns == {Turn.HISTORY}:
        # Apps resend what was once blocked: taking it out keeps the conversation alive, and the way round closed.
        action, whole = Action.REDACT, True
    one = at[0] if rule.over is Over.WINDOW else -1
    for place in (sorted({mark.window for mark in causes}) or at) if whole else (one,):
        least: dict[Key, int] = {}
        for mark in marks:
            if not whole or mark.window == place:
                least[mark.key] = min(mark.least, least.get(mark.key, mark.least))
        keys = tuple(sorted(least, key=_order))
        scores = tuple(least[key] for key in keys)
        yield Fired(rule.id, place, action, rule.mode, rule.severity, rule.label, keys, scores, open_, whole)


def _order(key: Key) -> tuple[str, ...]:
    parts = (key.channel, key.turn, key.tool, key.detector, key.category, key.entity, key.origin)
    return tuple(part or "" for part in parts)
