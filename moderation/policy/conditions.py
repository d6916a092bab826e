"""The conditions of rules: atoms that read one signal and the scope, and groups of them.

All thresholds and all detectors that an atom can select are worked out once, when the policy is compiled (`bind`), so that
deciding compares integers. Knows nothing of rules, of YAML, or of how truth is combined (see decide).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, assert_never

from moderation.text import Channel, Scope
from moderation.verdict import Key, Level

SCOPE_KEYS = ("route", "tenant", "region", "model", "language")
"""What an atom can ask of the scope."""
PLACE_KEYS = ("channel", "turn", "tool")
"""What an atom can ask of every signal, bare ones too."""
FINDING_KEYS = ("category", "detector", "entity", "span_origin")
"""What an atom can ask of findings only."""
LEVEL_KEYS = ("category", "detector", "entity")
"""The keys to which `at_least` applies."""
_TOOLED = (Channel.TOOL_CALL, Channel.TOOL_RESULT, Channel.TOOL_DEFINITION)
_FIELDS = {"span_origin": "origin"}


class Specified(Protocol):
    """What an atom needs to know of a detector."""

    @property
    def id(self) -> str: ...
    @property
    def categories(self) -> tuple[str, ...]: ...
    @property
    def entities(self) -> tuple[str, ...]: ...
    @property
    def levels(self) -> Mapping[Level, int]: ...


@dataclass(frozen=True, slots=True, order=True)
class Test:
    """One key of an atom: the value is, or is not, one of these."""

    __test__ = False

    key: str
    values: frozenset[str]
    among: bool
    """True for `in`, False for `not_in`."""

    def admits(self, value: str | None) -> bool:
        return (value in self.values) is self.among

    def admits_any(self, values: Iterable[str | None]) -> bool:
        return any(self.admits(value) for value in values)


@dataclass(frozen=True, slots=True)
class Atom:
    """Tests that must hold of one and the same signal, and of the scope."""

    tests: tuple[Test, ...]
    """As written, by key."""
    at_least: Level | None
    """Its own level; None for the rule's."""
    scope: tuple[Test, ...] = ()
    signal: tuple[Test, ...] = ()
    least: Mapping[str, int] = field(default_factory=dict)
    """The least score of each detector whose level it can judge. What a finding is, its own key tells."""
    able: frozenset[str] = frozenset()
    """The detectors that say of themselves that they can satisfy it: what it needs, and whose failure leaves it open."""

    @property
    def finding(self) -> bool:
        """True where only a finding can satisfy it."""
        return any(test.key in FINDING_KEYS for test in self.tests)

    def admits_scope(self, scope: Scope) -> bool:
        return all(test.admits(getattr(scope, test.key)) for test in self.scope)

    def admits_place(self, key: Key) -> bool:
        """Channel, turn and tool hold of this key."""
        return all(_holds(test, key) for test in self.signal if test.key in PLACE_KEYS)

    def admits_key(self, key: Key) -> bool:
        """All that is asked of a signal's key holds; its score is another matter."""
        return all(_holds(test, key) for test in self.signal)


class Kind(StrEnum):
    ALL = "all"
    ANY = "any"
    NONE = "none"
    AT_LEAST_N = "at_least_n"


@dataclass(frozen=True, slots=True)
class Group:
    """`all`, `any`, `none`, or at least n of some conditions."""

    kind: Kind
    of: tuple[Condition, ...]
    n: int
    """How many must hold: all of them, one, none or n."""


Condition = Atom | Group


def _holds(test: Test, key: Key) -> bool:
    value = getattr(key, _FIELDS.get(test.key, test.key))
    if value is None and not test.among and test.key == "tool":
        # A call or a result whose tool is unknown is not one of those named; a text that belongs to no tool is none at all.
        return key.channel in _TOOLED
    return test.admits(value)


def bind(atom: Atom, level: Level, detectors: Iterable[Specified]) -> Atom:
    """The atom with its thresholds; `level` is the rule's at_least, which its own overrides."""
    scope = tuple(test for test in atom.tests if test.key in SCOPE_KEYS)
    signal = tuple(test for test in atom.tests if test.key not in SCOPE_KEYS)
    least: dict[str, int] = {}
    able: set[str] = set()
    if any(test.key in FINDING_KEYS for test in signal):
        levelled = any(test.key in LEVEL_KEYS for test in signal)
        for spec in detectors:
            score = threshold(spec, atom.at_least or level) if levelled else 0
            if score is not None:
                least[spec.id] = score
                if all(_possible(test, spec) for test in signal):
                    able.add(spec.id)
    return Atom(atom.tests, atom.at_least, scope, signal, least, frozenset(able))


def _possible(test: Test, spec: Specified) -> bool:
    """A finding of this detector can pass the test."""
    match test.key:
        case "detector":
            return test.admits(spec.id)
        case "category":
            return test.admits_any(spec.categories)
        case "entity":
            return not test.among or test.admits_any(spec.entities)
        case _:
            return True


def threshold(spec: Specified, level: Level) -> int | None:
    """The least score that counts as this level or a higher one; None where the detector has none of them."""
    return min((least for own, least in spec.levels.items() if own >= level), default=None)


def rebind(condition: Condition, level: Level, detectors: Mapping[str, Specified]) -> Condition:
    """Bind every atom of a condition."""
    match condition:
        case Atom():
            return bind(condition, level, detectors.values())
        case Group():
            return Group(condition.kind, tuple(rebind(inner, level, detectors) for inner in condition.of), condition.n)
        case _:
            assert_never(condition)


def atoms(condition: Condition) -> Iterator[Atom]:
    match condition:
        case Atom():
            yield condition
        case Group():
            for inner in condition.of:
                yield from atoms(inner)
        case _:
            assert_never(condition)


def positive(condition: Condition) -> Iterator[Atom]:
    """The atoms that are not under a `none`: those whose findings an action is about."""
    match condition:
        case Atom():
            yield condition
        case Group():
            for inner in condition.of if condition.kind is not Kind.NONE else ():
                yield from positive(inner)
        case _:
            assert_never(condition)


def needs_finding(condition: Condition) -> bool:
    """True where it cannot hold, nor be unknown, without a finding or a failed detector. False where that is not sure."""
    match condition:
        case Atom():
            return condition.finding
        case Group(kind=Kind.NONE):
            return False
        case Group():
            return sum(not needs_finding(inner) for inner in condition.of) < condition.n
        case _:
            assert_never(condition)
