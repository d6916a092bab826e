"""A verdict as `try`, /moderate and /v1/moderations show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moderation.flow.acting import Located, Ruling
from moderation.flow.reading import Active, Verdict
from moderation.policy.limits import MEDIA, UNEDITABLE
from moderation.policy.model import Policy
from moderation.text import Phase
from moderation.verdict import Action, Fired, Level, Outcome
from moderation.wire.moderations import Score, result_json
from moderation.wire.verdicts import Shown, verdict_json

UNCHECKED = {
    "en": "This could not be checked just now, so it was not passed on. Please try again (ref {decision_id}).",
    "zh": "内容暂时无法完成安全检查，因此未予处理，请稍后重试（编号 {decision_id}）。",
    "de": "Das konnte gerade nicht geprüft werden und wurde deshalb nicht weitergegeben. Bitte noch einmal ({decision_id}).",
}
"""What a block says that rests on a detector's failure alone."""


def level_of(policy: Policy, detector: str, score: int) -> Level:
    spec = policy.detectors.get(detector)
    return spec.level(score) if spec else Level.NONE


def merged(verdict: Verdict) -> Outcome:
    """The outcomes of all phases as one."""
    outcomes = [ruling.outcome for ruling in verdict.rulings]
    unknown = dict.fromkeys(u for outcome in outcomes for u in outcome.unknown)
    fired = tuple(f for outcome in outcomes for f in outcome.fired)
    return Outcome(verdict.action, verdict.would, fired, tuple(unknown), verdict.degraded, None)


def used_by(ruling: Ruling, item: Located) -> tuple[str, ...]:
    """The rules that a finding satisfied."""
    rules = {f.rule for f in ruling.outcome.fired if f.window in (item.window, -1) and _uses(f, item)}
    return tuple(sorted(rules))


def _uses(fired: Fired, item: Located) -> bool:
    pairs = zip(fired.keys, fired.at_least, strict=True)
    return any(key == item.seen.key and item.seen.finding.score >= least for key, least in pairs)


def show(active: Active, verdict: Verdict, decision: str, phase: Phase, language: str) -> dict[str, Any]:
    """The verdict object of interfaces.md."""
    findings = [
        Shown(
            item.seen.finding,
            item.segment,
            level_of(active.policy, item.seen.finding.detector, item.seen.finding.score),
            used_by(ruling, item),
        )
        for ruling in verdict.rulings
        for item in ruling.found
    ]
    message = None
    if verdict.blocked is not None:
        message = block_message(active.policy, verdict.blocked[1], language, decision)
    segments = verdict.conversation.segments
    texts = [verdict.text(index) for index in range(len(segments))]
    return verdict_json(decision, phase, merged(verdict), findings, segments, texts, message, active.policy.ref)


def block_message(policy: Policy, rule: Fired, language: str, decision: str) -> str:
    """What the user is told of a block. Where no detector said that there is anything, no rule's own words fit."""
    if rule.on_unknown:
        texts = UNCHECKED
        return (texts.get(language) or texts["en"]).replace("{decision_id}", decision)
    message = None if rule.rule in (MEDIA, UNEDITABLE) else policy.rule(rule.rule).message
    return policy.say(message, language, decision)


def result(active: Active, verdict: Verdict, shown: Mapping[str, Any], types: tuple[str, ...]) -> dict[str, Any]:
    """One result of /v1/moderations."""
    scores: dict[str, Score] = {}
    for ruling in verdict.rulings:
        for item in ruling.found:
            finding = item.seen.finding
            before = scores.get(finding.category, Score(0, False))
            used = bool(used_by(ruling, item))
            scores[finding.category] = Score(max(before.score, finding.score), before.flagged or used)
    ours = {category for spec in active.policy.detectors.values() for category in spec.categories}
    action = Action.ALLOW if verdict.action is Action.ALLOW else verdict.action
    return result_json(action, scores, sorted(ours), dict(shown), types=types)
