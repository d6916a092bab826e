"""Decisions read back from leaves: the inverse of record.decision, so that each can be decided again.

Pure. Takes decoded leaves; trusts nothing in them and raises RecallError for what no writer wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from moderation.audit.record import LISTS, DetectorStatus
from moderation.errors import ModerationError
from moderation.text import Channel, Origin, Phase, Scope, Turn
from moderation.verdict import Action, Cause, Fired, Key, Mode, Outcome, PolicyRef, Severity, Signal, Unknown, Window

T = TypeVar("T")

MAX_WINDOWS = 4_000_000
"""More windows than a body of 1 GiB has; a run that claims more is no writer's."""


class RecallError(ModerationError):
    """Leaves that are not one whole decision."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """One decision, as far as the log tells."""

    request: str
    n: int
    phase: Phase
    scope: Scope
    policy: PolicyRef
    engine: str
    outcome: Outcome
    windows: tuple[Window, ...]
    detectors: tuple[DetectorStatus, ...]

    @property
    def id(self) -> str:
        return f"{self.request}.{self.n}"


def joined(leaves: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """The parts of one decision as one object, with its lists whole."""
    parts = sorted(leaves, key=lambda leaf: _whole(leaf, "part"))
    if not parts or any(leaf.get("kind") != "decision" for leaf in parts):
        raise RecallError("expected the leaves of a decision")
    head = parts[0]
    if _whole(head, "parts") != len(parts) or [leaf["part"] for leaf in parts] != list(range(len(parts))):
        raise RecallError(f"decision {head.get('req')}.{head.get('n')}: its parts are not all here, each once")
    if any(leaf.get(name) != head.get(name) for leaf in parts for name in ("req", "n", "phase")):
        raise RecallError(f"decision {head.get('req')}.{head.get('n')}: a part belongs to another decision")
    return {**head, **{name: [item for leaf in parts for item in _list(leaf, name)] for name in LISTS}}


def windows_of(leaves: Sequence[Mapping[str, object]]) -> tuple[Window, ...]:
    """The windows as decide read them: all of them, in their order."""
    return _guard(lambda: _windows(joined(leaves)))


def recall(leaves: Sequence[Mapping[str, object]]) -> Recalled:
    """One decision, from all its leaves."""
    return _guard(lambda: _recall(joined(leaves)))


def _guard(read: Callable[[], T]) -> T:
    try:
        return read()
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise RecallError(f"a decision leaf of a form that this version does not know ({type(error).__name__})") from None


def _whole(leaf: Mapping[str, object], name: str) -> int:
    value = leaf.get(name)
    if type(value) is not int or value < 0:
        raise RecallError(f"{name}: expected a number")
    return value


def _list(leaf: Mapping[str, object], name: str) -> list[object]:
    value = leaf.get(name, [])
    if not isinstance(value, list):
        raise RecallError(f"{name}: expected a list")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError
    return value


def _rows(leaf: Mapping[str, object], name: str) -> list[list[object]]:
    rows = _list(leaf, name)
    if not all(isinstance(row, list) for row in rows):
        raise TypeError
    return rows  # type: ignore[return-value]  # all rows are lists


def _numbers(value: object) -> list[int]:
    if not isinstance(value, list) or not all(type(item) is int and item >= -1 for item in value):
        raise TypeError
    return value


def _maybe(value: object) -> str | None:
    return None if value is None else _text(value)


def _key(row: Sequence[object]) -> Key:
    channel, turn, tool, *rest = row
    detector, category, entity, origin = rest or (None, None, None, None)
    return Key(Channel(_text(channel)), Turn(_text(turn)), _maybe(tool), _maybe(detector), _maybe(category), _maybe(entity),
               None if origin is None else Origin(_text(origin)))


def _at(table: Sequence[T], number: int) -> T:
    if number < 0:
        raise IndexError
    return table[number]


def _windows(leaf: Mapping[str, object]) -> tuple[Window, ...]:
    keys = [_key(row) for row in _rows(leaf, "keys")]
    signals = [Signal(_at(keys, key), score, count) for key, score, count in map(_numbers, _list(leaf, "sigs"))]
    unknowns = [_unknown(row) for row in _rows(leaf, "unks")]
    windows = [
        Window(tuple(_at(signals, i) for i in _numbers(row[0])), tuple(_at(unknowns, i) for i in _numbers(row[1])))
        for row in _rows(leaf, "wins")
    ]
    runs = [(number, count) for number, count in map(_numbers, _list(leaf, "runs"))]
    if sum(count for _, count in runs) > MAX_WINDOWS:
        raise RecallError("runs: more windows than any text has")
    return tuple(window for number, count in runs for window in [_at(windows, number)] * count)


def _unknown(row: Sequence[object]) -> Unknown:
    detector, cause = row
    return Unknown(_text(detector), Cause(_text(cause)))


def _fired(leaf: Mapping[str, object]) -> tuple[Fired, ...]:
    keys = [_key(row) for row in _rows(leaf, "keys")]
    fired: list[Fired] = []
    for rule in [*_list(leaf, "rules"), *_list(leaf, "would")]:
        if not isinstance(rule, dict):
            raise TypeError
        why = [(_at(keys, key), least) for key, least in map(_numbers, rule["why"])]
        for first, count in map(_numbers, rule["win"]):
            if not 0 < count <= MAX_WINDOWS:
                raise ValueError
            fired += [
                Fired(_text(rule["id"]), window, Action[_text(rule["act"]).upper()], Mode(rule["mode"]), Severity(rule["sev"]),
                      _maybe(rule["label"]), tuple(key for key, _ in why), tuple(least for _, least in why),
                      rule["on_unknown"] is True, rule["whole"] is True)
                for window in range(first, first + count)
            ]
    return tuple(sorted(fired, key=lambda one: (one.rule, one.window)))


def _recall(leaf: Mapping[str, object]) -> Recalled:
    scope, policy = leaf["scope"], leaf["policy"]
    if not isinstance(scope, dict) or not isinstance(policy, dict):
        raise TypeError
    outcome = Outcome(
        Action[_text(leaf["act"]).upper()], Action[_text(leaf["would_act"]).upper()], _fired(leaf),
        tuple(_unknown(row) for row in _rows(leaf, "unknown")), leaf["degraded"] is True, _maybe(leaf["message"]),
    )
    detectors: list[DetectorStatus] = []
    for entry in _list(leaf, "det"):
        if not isinstance(entry, dict):
            raise TypeError
        detectors.append(DetectorStatus(_text(entry["id"]), _text(entry["bin"]), _text(entry["st"]), *_numbers([entry["us"]])))
    return Recalled(
        _text(leaf["req"]), _whole(leaf, "n"), Phase(_text(leaf["phase"])),
        Scope(*(_text(scope[name]) for name in ("tenant", "route", "region", "model", "lang"))),
        PolicyRef(_text(policy["id"]), _text(policy["hash"])), _text(policy["engine"]), outcome, _windows(leaf), tuple(detectors),
    )
