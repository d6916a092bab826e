"""Every recorded decision, decided again: what decide says to the recorded Signals must be what the log says.

How to decide is given; knows nothing of policies. Reads the log files, never the index.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from moderation.audit.canon import CanonError, decode
from moderation.audit.note import NoteError, parse_verifier
from moderation.audit.qseg import ordered, read
from moderation.audit.recall import Recalled, RecallError, recall
from moderation.errors import LogError, ModerationError
from moderation.text import Phase, Scope
from moderation.verdict import Outcome, Window

Decide = Callable[[str, Phase, Scope, tuple[Window, ...]], Outcome]
"""Policy hash, phase, scope and windows in; raises ModerationError where that policy cannot decide any more."""


@dataclass(frozen=True, slots=True)
class Difference:
    id: str
    recorded: Outcome
    replayed: Outcome


@dataclass(slots=True)
class Replayed:
    decisions: int = 0
    same: int = 0
    different: list[Difference] = field(default_factory=list)
    not_replayable: Counter[str] = field(default_factory=Counter)
    """How many, by cause."""

    @property
    def matrix(self) -> Counter[str]:
        """recorded->replayed action, of those that differ."""
        return Counter(f"{d.recorded.action.word}->{d.replayed.action.word}" for d in self.different)


def replay(data: Path, decide: Decide) -> Replayed:
    """Decide every recorded decision again, with `decide`, and compare whole outcomes."""
    report = Replayed()
    for leaves in decisions(data):
        report.decisions += 1
        try:
            recorded = recall(leaves)
        except RecallError:
            report.not_replayable["unreadable"] += 1
            continue
        try:
            outcome = decide(recorded.policy.hash, recorded.phase, recorded.scope, recorded.windows)
        except ModerationError:
            report.not_replayable["no_policy"] += 1
            continue
        if _same(recorded, outcome):
            report.same += 1
        else:
            report.different.append(Difference(recorded.id, recorded.outcome, outcome))
    return report


def _same(recorded: Recalled, outcome: Outcome) -> bool:
    return _comparable(recorded.outcome) == _comparable(outcome)


def _comparable(outcome: Outcome) -> tuple[object, ...]:
    # The order of fired rules and of unknowns says nothing.
    return (outcome.action, outcome.would, outcome.degraded, outcome.message, Counter(outcome.fired), set(outcome.unknown))


def decisions(data: Path) -> Iterator[list[dict[str, object]]]:
    """The leaves of each decision in all logs of a data folder, one decision at a time."""
    folders = [path for path in data.iterdir() if re.fullmatch("log-[0-9]+", path.name) and (path / "key.pub").exists()]
    for folder in sorted(folders):
        parts: list[dict[str, object]] = []
        for leaf in _leaves(folder):
            if leaf.get("kind") != "decision":
                continue
            parts.append(leaf)
            if len(parts) == parts[0].get("parts"):
                yield parts
                parts = []
        if parts:
            yield parts


def _leaves(folder: Path) -> Iterator[dict[str, object]]:
    try:
        origin = parse_verifier((folder / "key.pub").read_text("utf-8")).name
        for scan in read(origin, ((name, (folder / name).read_bytes()) for name in ordered(os.listdir(folder)))):
            for leaf in scan.leaves:
                yield decode(leaf.data)
    except (NoteError, CanonError, LogError) as error:
        raise LogError(f"{folder}: {error}. Run `moderation audit verify`") from None
