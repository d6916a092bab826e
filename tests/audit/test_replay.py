"""Decided again, every decision must come out the same; and where it does not, that is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation.audit.replay import decisions as recorded_decisions
from moderation.audit.replay import replay
from moderation.audit.store import Log
from moderation.errors import LogError, ModerationError
from moderation.text import Phase, Scope
from moderation.verdict import Action, Decision, Fired, Key, Mode, Outcome, Severity, Signal, Window
from tests.audit.samples import BARE, EMAIL, POLICY, decided, decisions, fill, leaves_of


def judge(policy: str, phase: Phase, scope: Scope, windows: tuple[Window, ...]) -> Outcome:
    """A small decide: redacts where a window has a finding over one half. Order, phase and scope show in what it says."""
    assert policy == POLICY.hash
    fired: list[Fired] = []
    for number, window in enumerate(windows):
        for signal in window.signals:
            if signal.score > 500_000 and signal.key.tool != "kb_search":
                fired.append(Fired(f"{phase.value}-{scope.tenant}", number, Action.REDACT, Mode.ENFORCE, Severity.HIGH, None,
                                   (signal.key,), (signal.score,), False, False))
    unknown = tuple(unknown for window in windows for unknown in window.unknown)
    action = Action.REDACT if fired else Action.ALLOW
    return Outcome(action, action, tuple(fired), unknown, bool(unknown), None)


def log_of(data: Path, ones: Sequence[Decision]) -> None:
    async def run() -> None:
        log = Log.open(data)
        for one in ones:
            await log.append_all(leaves_of(one), strict=False)
        await log.close()

    asyncio.run(run())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(decisions, min_size=1, max_size=12))
def test_all_come_out_the_same(tmp_path_factory: pytest.TempPathFactory, drawn: list[Decision]) -> None:
    data = tmp_path_factory.mktemp("log")
    ones = [replace(one, n=number, outcome=judge(POLICY.hash, one.phase, one.scope, one.windows))
            for number, one in enumerate(drawn)]
    log_of(data, ones)
    report = replay(data, judge)
    assert (report.decisions, report.same, report.different, report.not_replayable) == (len(ones), len(ones), [], {})


def test_long_ones_and_unlisted_tools_too(tmp_path: Path) -> None:
    tool = Key(EMAIL.channel, EMAIL.turn, "a tool that no policy names", EMAIL.detector, EMAIL.category, EMAIL.entity)
    windows = tuple(Window((Signal(BARE, 0, 1), Signal(tool if i % 3 else EMAIL, i * 200, i))) for i in range(4500))
    one = replace(decided(), windows=windows)
    log_of(tmp_path, [one])
    assert len(next(recorded_decisions(tmp_path))) > 1
    # The tool's name is a fingerprint in the log, so the recorded outcome speaks of that one.
    masked = next(iter(replay(tmp_path, judge).different)).replayed
    log_of(tmp_path / "again", [replace(one, outcome=judge(POLICY.hash, one.phase, one.scope, one.windows))])
    report = replay(tmp_path / "again", judge)
    assert (report.same, report.different) == (1, [])
    assert masked.action is Action.REDACT


def test_differences_are_told(tmp_path: Path) -> None:
    log_of(tmp_path, [decided(), replace(decided(n=1), outcome=replace(decided().outcome, message="other"))])
    report = replay(tmp_path, lambda *_: decided().outcome)
    assert (report.decisions, report.same, [d.id for d in report.different]) == (2, 1, [decided(n=1).id])
    blocked = replay(tmp_path, lambda *_: replace(decided().outcome, action=Action.BLOCK))
    assert blocked.matrix == {"redact->block": 2}


def test_what_cannot_be_decided_again_is_counted(tmp_path: Path) -> None:
    log_of(tmp_path, [decided(), decided(n=1)])

    def gone(*_: object) -> Outcome:
        raise ModerationError("this policy is not kept here")

    report = replay(tmp_path, gone)
    assert (report.same, report.not_replayable) == (0, {"no_policy": 2})

    async def strange() -> None:
        log = Log.open(tmp_path)
        await log.append({"kind": "decision", "part": 0, "parts": 1}, strict=True)
        await log.close()

    asyncio.run(strange())
    assert replay(tmp_path, lambda *_: decided().outcome).not_replayable == {"unreadable": 1}


def test_damage_is_told(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    (folder / "seg-0.qseg").rename(folder / "seg-1.qseg")
    with pytest.raises(LogError, match="audit verify"):
        replay(tmp_path, judge)
