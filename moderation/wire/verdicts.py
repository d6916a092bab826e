"""The verdict object of `try`, /moderate and /v1/moderations, and what /moderate takes. Renders; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from moderation.errors import Refused
from moderation.text import Channel, Conversation, Phase, Segment, Turn
from moderation.verdict import FULL_SCORE, Action, Finding, Level, Outcome, PolicyRef
from moderation.wire.openai import read_request

CONTEXT_KEYS = ("language", "model", "region", "route", "tenant")


@dataclass(frozen=True, slots=True)
class Shown:
    """One finding as people see it."""

    finding: Finding
    segment: int
    level: Level
    rules: tuple[str, ...] = ()
    """The rules that used it."""


def verdict_json(
    decision_id: str,
    phase: Phase,
    outcome: Outcome,
    findings: Sequence[Shown],
    segments: Sequence[Segment],
    texts: Sequence[str],
    message: str | None,
    policy: PolicyRef,
) -> dict[str, Any]:
    """The verdict as outsiders read it. `texts` are the segments' texts after the action; spans are into the original ones."""
    blocked = outcome.action is Action.BLOCK
    rules: dict[str, dict[str, Any]] = {}
    for fired in sorted(outcome.fired, key=lambda fired: (fired.rule, -fired.action)):
        # A rule that fired in several windows is told once, with the most severe of what it did.
        rules.setdefault(fired.rule, {
            "id": fired.rule,
            "action": fired.action.word,
            "mode": fired.mode.value,
            "severity": fired.severity.word,
        })
    return {
        "decision_id": decision_id,
        "phase": phase.value,
        "action": outcome.action.word,
        "would": outcome.would.word,
        "degraded": outcome.degraded,
        "rules": list(rules.values()),
        "findings": [_finding(shown) for shown in findings],
        "unknown": [{"detector": one.detector, "cause": one.cause.value} for one in outcome.unknown],
        "segments": [] if blocked else [_segment(one, text) for one, text in zip(segments, texts, strict=True)],
        "message": message if blocked else None,
        "policy": {"id": policy.id, "hash": policy.hash},
    }


def _finding(shown: Shown) -> dict[str, Any]:
    finding = shown.finding
    return {
        "detector": finding.detector,
        "category": finding.category,
        "entity": finding.entity,
        "name": finding.name,
        "level": shown.level.word,
        "score": finding.score / FULL_SCORE,
        "segment": shown.segment,
        "start": finding.span.start if finding.span else None,
        "end": finding.span.end if finding.span else None,
        "rules": list(shown.rules),
    }


def _segment(segment: Segment, text: str) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "channel": segment.channel.value,
        "turn": segment.turn.value,
        "path": segment.path,
        "text": text,
    }
    if segment.tool is not None:
        shown["tool"] = segment.tool
    return shown


@dataclass(frozen=True, slots=True)
class Question:
    """What /moderate was asked."""

    phase: Phase
    conversation: Conversation
    context: dict[str, str] = field(default_factory=dict)
    """Who may set which of its keys is for the server to say."""


_CHANNELS = {
    Phase.INPUT: Channel.USER,
    Phase.TOOL_RESULT: Channel.TOOL_RESULT,
    Phase.OUTPUT: Channel.ANSWER,
    Phase.TOOL_CALL: Channel.TOOL_CALL,
}


def text_conversation(phase: Phase, text: str, path: str = "/text") -> Conversation:
    """One text on its own, as `try` and /moderate judge it."""
    return Conversation((Segment(_CHANNELS[phase], phase, Turn.NEW, text, path),))


def read_moderate(body: Any) -> Question:
    """Read the body of /moderate. Raises Refused(invalid_body) with the place.

    `messages` hold texts of two phases, input and tool_result; they are read as in a chat request, whatever `phase` says of
    the two, so that nothing in them is left out.
    """
    if not isinstance(body, dict):
        raise Refused("invalid_body", "the body: expected an object with `phase`, and `text` or `messages`")
    named = body.get("phase", "input")
    if not isinstance(named, str) or named not in list(Phase):
        raise Refused("invalid_body", f"/phase: expected one of {', '.join(Phase)}")
    phase = Phase(named)
    context = body.get("context")
    if context is not None and not (
        isinstance(context, dict)
        and context.keys() <= set(CONTEXT_KEYS)
        and all(isinstance(value, str) for value in context.values())
    ):
        raise Refused("invalid_body", f"/context: expected an object of strings with keys of {', '.join(CONTEXT_KEYS)}")
    if ("text" in body) == ("messages" in body):
        raise Refused("invalid_body", "the body: expected either `text` or `messages`")
    if "messages" in body:
        if phase not in (Phase.INPUT, Phase.TOOL_RESULT):
            raise Refused("invalid_body", "/phase: messages are judged as input or tool_result; send `text` for an answer")
        return Question(phase, read_request(body), dict(context or {}))
    if not isinstance(body["text"], str):
        raise Refused("invalid_body", "/text: expected a string")
    return Question(phase, text_conversation(phase, body["text"]), dict(context or {}))
