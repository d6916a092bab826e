"""Another way to decide, written to be compared: Kleene's values as fractions, sets in place of marks, no short cuts."""

from __future__ import annotations

from collections.abc import Sequence

from moderation.policy.conditions import Condition, Group
from moderation.policy.model import Policy
from moderation.text import Phase, Scope
from moderation.verdict import Action, Cause, Window

HALF = 0.5
ASSUME = 2
FINDING = {"category": "category", "detector": "detector", "entity": "entity", "span_origin": "origin"}
"""What an atom asks of findings, by the field of their keys."""


Value = tuple[float, set[int], set[str], set[str]]


def value(policy: Policy, level: int, c: Condition, scope: Scope, windows: Sequence[Window]) -> Value:
    """(0, 1/2 or 1; what the failures that it hangs on mean; the turns that it hangs on; those that failures hide)."""
    if isinstance(c, Group):
        parts = [value(policy, level, inner, scope, windows) for inner in c.of]
        ranked = sorted((part[0] for part in parts), reverse=True)
        v = 1 - ranked[0] if c.kind == "none" else ranked[c.n - 1]
        kept = [p for p in parts if v and (p[0] == HALF or (p[0] == v and c.kind != "none"))]
        hung = {t for p in kept if p[0] == v for t in p[2]}
        return v, {f for p in kept for f in p[1]}, hung, {t for p in kept for t in p[3]}
    asked = {t.key: t for t in c.tests}
    if not all(t.admits(getattr(scope, k)) for k, t in asked.items() if hasattr(scope, k)):
        return 0, set(), set(), set()
    about = {k: t for k, t in asked.items() if k in FINDING}
    local = [t for k, t in asked.items() if k in ("channel", "turn")]
    if not about and not local:
        return 1, set(), set(), set()
    sure, open_, late = set[str](), set[int](), set[str]()
    for w in windows:
        near = [s for s in w.signals if all(t.admits(getattr(s.key, t.key)) for t in local)]
        for s in near:
            spec = policy.detectors.get(s.key.detector or "")
            good = (spec is None) != bool(about) and all(t.admits(getattr(s.key, FINDING[k])) for k, t in about.items())
            if good and (spec is None or set(about) == {"span_origin"} or spec.level(s.score) >= (c.at_least or level)):
                sure.add(s.key.turn)
        for u in w.unknown if about else ():
            spec = policy.detectors[u.detector]
            gives = {"category": spec.categories, "detector": (spec.id,), "entity": (*spec.entities, None)}
            able = set(about) == {"span_origin"} or max(spec.levels) >= (c.at_least or level)
            if able and near and all(k == "span_origin" or any(t.admits(x) for x in gives[k]) for k, t in about.items()):
                open_.add(spec.on_unsupported if u.cause is Cause.UNSUPPORTED else spec.on_failure)
                late |= {s.key.turn for s in near}
    return (1, open_, sure, late) if sure else (HALF, open_, late, late) if open_ else (0, set(), set(), set())


def action(policy: Policy, phase: Phase, scope: Scope, windows: Sequence[Window], monitored: bool = False) -> Action:
    """What decide must come to."""
    worst = Action.ALLOW
    for rule in policy.rules:
        if phase not in rule.phases or rule.mode == "off" or (rule.mode == "monitor" and not monitored):
            continue
        for group in [[w] for w in windows] if rule.over == "window" else [list(windows)]:
            v, failures, turns, unseen = value(policy, rule.at_least, rule.when, scope, group)
            strict = max(failures, default=ASSUME)
            did = rule.then if v == 1 or (v and strict == ASSUME) else min(rule.then, Action(strict)) if v else Action.ALLOW
            hidden = v == HALF or (bool(failures) and strict == ASSUME)
            if did is rule.then and did in (Action.REDACT, Action.PSEUDONYMISE) and hidden and phase is Phase.TOOL_CALL:
                did = Action.BLOCK
            elif did is Action.BLOCK and not rule.in_history_block:
                if turns == {"history"} and strict == ASSUME and failures:
                    turns = turns | unseen
                turns = turns or {s.key.turn for w in group for s in w.signals}
                did = Action.REDACT if turns == {"history"} else did
            worst = max(worst, did)
    return worst
