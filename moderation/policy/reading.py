"""What a policy asks of those who read texts for it: which detectors a phase needs, and how long a stream must wait.

Answers from the rules alone, without any signal. Knows nothing of streams or of how detectors work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum, IntEnum
from typing import assert_never

from moderation.policy.conditions import PLACE_KEYS, Atom, Condition, Group, Kind, atoms
from moderation.policy.model import Hold, Over, Policy, Rule
from moderation.text import Channel, Phase, Scope, Turn
from moderation.verdict import Action, Mode

_SUPPLYING = (Phase.INPUT, Phase.TOOL_RESULT)
"""Where it is learnt what the user, the app and the tools supplied."""
_TOOLED = (Channel.TOOL_CALL, Channel.TOOL_RESULT, Channel.TOOL_DEFINITION)


class Patience(Enum):
    """How long the text of one tape must wait."""

    NONE_NEEDED = "none_needed"
    """No rule can touch it: nothing need read it."""
    LOCAL = "local"
    """Each rule hangs on one local finding: text goes out as soon as no match can hold it."""
    WINDOW = "window"
    """Text goes out window by window."""
    ALL = "all"
    """Text goes out at the end."""


def needs(policy: Policy, phase: Phase) -> frozenset[str]:
    """The detectors that a rule of this phase can use, and those whose findings tell where a value came from."""
    asking = (atom for rule in policy.rules_in(phase) for atom in atoms(rule.when))
    return _able(asking) | _telling_origin(policy, phase)


def heard(policy: Policy, phase: Phase, channel: Channel, turn: Turn) -> frozenset[str]:
    """Of those, the ones that a text of this channel and turn is for: what others find there, no condition can take up."""
    asking = (atom for rule in policy.rules_in(phase) for atom in atoms(rule.when) if _stands(atom, channel, turn))
    return _able(asking) | _telling_origin(policy, phase)


def _able(asking: Iterable[Atom]) -> frozenset[str]:
    return frozenset(name for atom in asking for name in atom.able)


def _stands(atom: Atom, channel: Channel, turn: Turn) -> bool:
    """What the atom asks of channel and turn holds; of the tool, it may."""
    place = {"channel": channel, "turn": turn}
    return all(test.admits(place[test.key]) for test in atom.signal if test.key in place)


def _telling_origin(policy: Policy, phase: Phase) -> frozenset[str]:
    if phase not in _SUPPLYING:
        return frozenset()
    rules = (rule for rule in policy.rules if rule.mode is not Mode.OFF)
    asking = (atom for rule in rules for atom in atoms(rule.when))
    return _able(atom for atom in asking if any(test.key == "span_origin" for test in atom.tests))


class _Hang(IntEnum):
    """What a condition hangs on once scope and channel are known; the order means nothing."""

    NEVER = 0
    ALWAYS = 1
    MAYBE = 2
    """On what is known when the tape begins: which tool it is."""
    ONE = 3
    """On one finding of a local detector, each time."""
    LATE = 4
    """On one finding, and a window detector may have to give it."""
    MANY = 5
    """On more than one finding, or on there being none."""


def patience(policy: Policy, phase: Phase, channel: Channel, scope: Scope, windowed: frozenset[str]) -> Patience:
    """How long one tape must wait. `windowed` are the detectors that judge whole windows."""
    hold = policy.hold_for(scope.route)
    if hold is Hold.ALL:
        return Patience.ALL
    longest = Patience.NONE_NEEDED
    for rule in policy.rules_in(phase):
        match _one(rule, channel, scope, windowed, hold):
            case Patience.ALL:
                return Patience.ALL
            case Patience.WINDOW:
                longest = Patience.WINDOW
            case Patience.LOCAL if longest is Patience.NONE_NEEDED:
                longest = Patience.LOCAL
    return longest


def _one(rule: Rule, channel: Channel, scope: Scope, windowed: frozenset[str], hold: Hold) -> Patience:
    touches = rule.mode is Mode.ENFORCE and rule.then > Action.FLAG
    if rule.over is not Over.WINDOW:
        # Other tapes may satisfy its other conditions, so only the scope can be told beforehand.
        hang = _hang(rule.when, None, scope, windowed)
        mine = any(_reads(atom, channel) for atom in atoms(rule.when))
        if hang is _Hang.NEVER or not mine:
            return Patience.NONE_NEEDED
        return Patience.ALL if touches else Patience.LOCAL
    match _hang(rule.when, channel, scope, windowed):
        case _Hang.NEVER:
            return Patience.NONE_NEEDED
        case _Hang.LATE if touches and hold is not Hold.NONE:
            return Patience.WINDOW
        case _Hang.MANY if touches or (windowed and _uses(rule.when, windowed)):
            return Patience.WINDOW
        case _:
            return Patience.LOCAL


def _uses(condition: Condition, windowed: frozenset[str]) -> bool:
    return any(name in windowed for atom in atoms(condition) for name in atom.able)


def _reads(atom: Atom, channel: Channel) -> bool:
    """A signal of this channel can matter to the atom; one that asks the scope alone is about every channel."""
    return all(test.admits(channel) for test in atom.tests if test.key == "channel")


def _hang(condition: Condition, channel: Channel | None, scope: Scope, windowed: frozenset[str]) -> _Hang:
    match condition:
        case Atom():
            return _hang_atom(condition, channel, scope, windowed)
        case Group():
            parts = [_hang(inner, channel, scope, windowed) for inner in condition.of]
            return _hang_none(parts) if condition.kind is Kind.NONE else _hang_some(parts, condition.n)
        case _:
            assert_never(condition)


def _hang_atom(atom: Atom, channel: Channel | None, scope: Scope, windowed: frozenset[str]) -> _Hang:
    if not atom.admits_scope(scope):
        return _Hang.NEVER
    known = True
    for test in atom.signal if channel is not None else ():
        if test.key == "channel" and not test.admits(channel):
            return _Hang.NEVER
        if test.key == "turn" and not test.admits(Turn.NEW):
            return _Hang.NEVER
        if test.key == "tool":
            if channel not in _TOOLED:
                return _Hang.NEVER
            known = False
    if atom.finding:
        if not atom.able:
            return _Hang.NEVER
        return _Hang.LATE if any(name in windowed for name in atom.able) else _Hang.ONE
    if channel is None and any(test.key in PLACE_KEYS for test in atom.signal):
        return _Hang.MAYBE
    return _Hang.ALWAYS if known else _Hang.MAYBE


def _hang_none(parts: Sequence[_Hang]) -> _Hang:
    live = [part for part in parts if part is not _Hang.NEVER]
    if not live:
        return _Hang.ALWAYS
    if _Hang.ALWAYS in live:
        return _Hang.NEVER
    return _Hang.MAYBE if all(part is _Hang.MAYBE for part in live) else _Hang.MANY


def _hang_some(parts: Sequence[_Hang], n: int) -> _Hang:
    """`all`, `any` and `at_least_n` alike: n of the parts must hold."""
    still = n - parts.count(_Hang.ALWAYS)
    live = [part for part in parts if part not in (_Hang.NEVER, _Hang.ALWAYS)]
    found = [part for part in live if part is not _Hang.MAYBE]
    if still <= 0:
        return _Hang.ALWAYS if not found else max(found)
    if len(live) < still:
        return _Hang.NEVER
    if not found:
        return _Hang.MAYBE
    if _Hang.MANY in found:
        return _Hang.MANY
    # `still` parts must hold together: one finding suffices where all but one of any such choice is known when the tape begins.
    if still == 1 or len(found) == 1:
        return max(found)
    return _Hang.MANY
