"""Running the tests that stand inside a policy: signals that are given are decided, texts are examined by whoever can.

Pure but for `examine`, which is given in. Knows what a test expects, not how a text is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from moderation.policy.decide import decide
from moderation.policy.model import DetectorSpec, Policy, Rule, Test
from moderation.policy.proof import proves
from moderation.text import Channel, Origin, Phase, Scope, Turn
from moderation.verdict import Action, Cause, Key, Level, Mode, Outcome, Signal, Unknown, Window

USUAL_CHANNEL = {
    Phase.INPUT: Channel.USER,
    Phase.TOOL_RESULT: Channel.TOOL_RESULT,
    Phase.OUTPUT: Channel.ANSWER,
    Phase.TOOL_CALL: Channel.TOOL_CALL,
}
"""The channel of a text of which only the phase is known."""


@dataclass(frozen=True, slots=True)
class Examined:
    """What became of a text."""

    outcome: Outcome
    text: str
    """After the action; empty on a block."""


Examine = Callable[[Policy, Phase, str, Mapping[str, str]], Examined]
"""(policy, phase, text, context) -> what became of it. The context may set what keys.CONTEXT lists."""


@dataclass(frozen=True, slots=True)
class Result:
    """One test that was run."""

    rule: str
    name: str
    line: int
    column: int
    problems: tuple[str, ...]
    """What was expected and what came, a line each; empty where the test passed."""

    @property
    def passed(self) -> bool:
        return not self.problems


def run(policy: Policy, examine: Examine, only: Callable[[Rule, Test], bool] = lambda rule, test: True) -> tuple[Result, ...]:
    """Run the tests of a policy, in the order of the file."""
    chosen = [(rule, test) for rule in policy.rules for test in rule.tests if only(rule, test)]
    chosen.sort(key=lambda pair: pair[1].place)
    return tuple(
        Result(rule.id, test.name, test.place.line, test.place.column, _problems(rule, test, _examined(policy, test, examine)))
        for rule, test in chosen
    )


def _examined(policy: Policy, test: Test, examine: Examine) -> Examined:
    context = dict(test.context)
    if test.language is not None:
        context.setdefault("language", test.language)
    if test.text is not None:
        return examine(policy, test.phase, test.text, context)
    outcome = decide(policy, test.phase, scope_of(context), [given_window(policy.detectors, test, context)])
    return Examined(outcome, "")


def scope_of(context: Mapping[str, str]) -> Scope:
    """The scope that a context sets."""
    named = {key: context[key] for key in ("route", "tenant", "region", "model", "language") if key in context}
    return replace(Scope(), **named)


def bare_key(phase: Phase, context: Mapping[str, str]) -> Key:
    """Where a text stands, as far as a context says."""
    channel = Channel(context.get("channel", USUAL_CHANNEL[phase]))
    return Key(channel, Turn(context.get("turn", Turn.NEW)), context.get("tool"))


def given_window(detectors: Mapping[str, DetectorSpec], test: Test, context: Mapping[str, str]) -> Window:
    """The signals that a test gives, each with the least score of its level."""
    bare = bare_key(test.phase, context)
    origin = Origin(context["span_origin"]) if "span_origin" in context else None
    signals = [Signal(bare, 0, 1)]
    unknown: list[Unknown] = []
    for name, given in sorted(test.given.items()):
        if isinstance(given, str):
            unknown.append(Unknown(name, Cause(given)))
            continue
        for category, level in sorted(given.items()):
            if level is not Level.NONE:
                key = replace(bare, detector=name, category=category, entity=context.get("entity"), origin=origin)
                signals.append(Signal(key, detectors[name].levels[level], 1))
    return Window(tuple(signals), tuple(unknown))


def _problems(rule: Rule, test: Test, examined: Examined) -> tuple[str, ...]:
    expect, outcome = test.expect, examined.outcome
    fired = sorted({f.rule for f in outcome.fired})
    enforced = sorted({f.rule for f in outcome.fired if f.mode is Mode.ENFORCE})
    found: list[str] = []
    _compare(found, "action", expect.action.word, outcome.action.word, enforced)
    if expect.would is not None:
        _compare(found, "would", expect.would.word, outcome.would.word, fired)
    if expect.degraded is not None and expect.degraded is not outcome.degraded:
        found.append(f"degraded: expected {str(expect.degraded).lower()}, got {str(outcome.degraded).lower()}")
    if expect.rules is not None:
        missing = [rule for rule in expect.rules if rule not in fired]
        if missing or (not expect.rules and fired):
            found.append(f"rules: expected {_words(expect.rules)}, got {_words(fired)}")
    proven = proves(rule, test)
    if proven is not None and proven is not (rule.id in fired) and not found:
        what = "fires" if proven else "does not fire"
        found.append(f"rules: expected that {rule.id} {what}, got {_words(fired)}")
    if expect.text is not None and expect.text != examined.text:
        found.append(f"text: expected {expect.text!r}, got {examined.text!r}")
    return tuple(found)


def _compare(found: list[str], what: str, expected: str, got: str, rules: Sequence[str]) -> None:
    if expected != got:
        by = f" by {_words(rules)}" if got != Action.ALLOW.word else ""
        found.append(f"{what}: expected {expected}, got {got}{by}")


def _words(rules: Sequence[str]) -> str:
    return ", ".join(rules) or "no rule"
