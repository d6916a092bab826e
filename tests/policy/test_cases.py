"""Tests of policies, tested: what passes, what fails, and what is said then."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from moderation.policy.cases import Examined, Result, bare_key, run, scope_of
from moderation.policy.decide import decide
from moderation.policy.model import Policy
from moderation.text import Channel, Phase, Scope, Turn
from moderation.verdict import Action, Key, Outcome, Signal, Window
from tests.policy.doubles import compiled

HEAD = """
format: 1
policy: {id: p}
detectors:
  cards: {kind: pii, levels: {low: 0.3, high: 0.8}}
  keys: {kind: secrets, on_failure: flag}
rules:
  - {id: other, phases: [input], when: {detector: keys}, then: redact, mode: monitor, tests: [
      {name: a, phase: input, given: {keys: {secret: high}}, expect: {action: allow, would: redact}},
      {name: b, phase: input, given: {keys: {}}, expect: {action: allow}}]}
  - id: cards
    phases: [input, output, tool_call]
    when: {all: [{detector: cards, at_least: high}, {none: [{route: safe}]}, {none: [{span_origin: user_supplied}]}]}
    then: block
    tests:
      - {name: must, phase: input, given: {cards: {personal_data: high}}, expect: {action: block, rules: [cards]}}
      - {name: must not, phase: input, given: {cards: {personal_data: low}}, expect: {action: allow, rules: []}}
"""
LINE = 17
"""Of the first test that a row adds."""


class Upper:
    """Examines by the word `card`; what goes on is in capitals."""

    def __init__(self) -> None:
        self.seen: list[tuple[Phase, str, dict[str, str]]] = []

    def __call__(self, policy: Policy, phase: Phase, text: str, context: Mapping[str, str]) -> Examined:
        self.seen.append((phase, text, dict(context)))
        bare = Key(Channel.USER, Turn.NEW)
        card = [Signal(Key(Channel.USER, Turn.NEW, None, "cards", "personal_data"), 1_000_000, 1)] if "card" in text else []
        outcome: Outcome = decide(policy, phase, Scope(), [Window((Signal(bare, 0, 1), *card))])
        return Examined(outcome, "" if outcome.action is Action.BLOCK else text.upper())


def _run(test: str) -> Result:
    made = compiled(f"{HEAD}      - {{name: row, {test}}}\n").usable()
    return run(made, Upper(), lambda rule, one: one.name == "row")[0]


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        ("phase: input, given: {cards: {personal_data: high}}, expect: {action: block}", None),
        ("phase: input, given: {cards: {personal_data: low}}, expect: {action: allow}", None),
        ("phase: input, given: {cards: {personal_data: none}}, expect: {action: allow}", None),
        ("phase: input, given: {cards: {personal_data: high}}, expect: {action: allow}", "action: expected allow, got block by cards"),
        ("phase: input, given: {cards: {}}, expect: {action: block}", "action: expected block, got allow"),
        ("phase: input, given: {cards: unavailable}, expect: {action: block, degraded: true}", None),
        ("phase: input, given: {cards: timeout}, expect: {action: block, degraded: false}", "degraded: expected false, got true"),
        ("phase: input, given: {cards: unsupported}, expect: {action: allow, degraded: false}", None),
        ("phase: input, given: {keys: {secret: high}}, expect: {action: allow, would: redact, rules: [other]}", None),
        ("phase: input, given: {keys: {secret: high}}, expect: {action: allow, would: block}",
         "would: expected block, got redact by other"),
        ("phase: input, given: {keys: {secret: high}}, expect: {action: allow, rules: [cards]}", "rules: expected cards, got other"),
        ("phase: input, given: {keys: {secret: high}}, expect: {action: allow, rules: []}", "rules: expected no rule, got other"),
        ("phase: input, given: {cards: {personal_data: high}}, context: {route: safe}, expect: {action: allow}", None),
        ("phase: output, given: {cards: {personal_data: high}}, context: {span_origin: user_supplied}, expect: {action: allow}", None),
        ("phase: input, given: {cards: {personal_data: high}}, context: {turn: history}, expect: {action: redact}", None),
        ("phase: input, context: {route: safe}, expect: {action: allow}", None),
        ("phase: input, text: a card, expect: {action: block, text: ''}", None),
        ("phase: input, text: a letter, expect: {action: allow, text: A LETTER}", None),
        ("phase: input, text: a letter, expect: {action: allow, text: a}", "text: expected 'a', got 'A LETTER'"),
    ],
)
def test_expectations(test: str, problem: str | None) -> None:
    result = _run(test)
    assert result.problems == ((problem,) if problem else ())
    assert result.passed is (problem is None)
    assert (result.rule, result.name, result.line) == ("cards", "row", LINE)


PROOF = """
format: 1
policy: {id: p}
detectors:
  cards: {kind: pii}
  keys: {kind: secrets}
rules:
  - {id: keys, phases: [input], when: {detector: keys}, then: block, tests: [
      {name: a, phase: input, given: {keys: {secret: high}}, expect: {action: block}},
      {name: b, phase: input, given: {keys: {}}, expect: {action: allow}}]}
  - {id: watch, phases: [input], when: {detector: cards}, then: block, mode: monitor}
  - {id: cards, phases: [input], when: {detector: cards}, then: redact}
"""


@pytest.mark.parametrize(
    ("rule", "test", "problem"),
    [
        ("cards", "given: {cards: {personal_data: high}, keys: {secret: high}}, expect: {action: block, rules: [keys]}",
         "rules: expected that cards does not fire, got cards, keys, watch"),
        ("cards", "given: {keys: {secret: high}}, expect: {action: block, rules: [keys]}", None),
        ("cards", "given: {cards: {personal_data: high}, keys: {secret: high}}, expect: {action: block}", None),
        ("keys", "given: {cards: {personal_data: high}}, expect: {action: redact}", None),
        ("keys", "given: {cards: {personal_data: high}}, expect: {action: redact, rules: [cards]}", None),
        ("watch", "given: {cards: {}}, expect: {action: allow}", None),
        ("watch", "given: {cards: {personal_data: high}}, expect: {action: redact, would: block}", None),
        ("watch", "given: {keys: {secret: high}}, expect: {action: block, would: block}",
         "rules: expected that watch fires, got keys"),
        ("cards", "given: {cards: timeout}, expect: {action: redact, rules: [cards], degraded: true}", None),
    ],
)
def test_a_test_shows_its_own_rule_at_work_or_at_rest(rule: str, test: str, problem: str | None) -> None:
    source = PROOF.replace("mode: monitor}", "mode: monitor, tests: []}").replace("then: redact}", "then: redact, tests: []}")
    head, mark, tail = source.partition(f"{{id: {rule},")
    source = head + mark + tail.replace("tests: [", f"tests: [{{name: row, phase: input, {test}}}, ", 1)
    result = run(compiled(source).usable(), Upper(), lambda _, one: one.name == "row")[0]
    assert (result.rule, result.problems) == (rule, (problem,) if problem else ())


def test_a_monitored_rule_that_fires_is_seen() -> None:
    source = PROOF.replace("mode: monitor}", "mode: monitor, tests: [{name: row, phase: input, given: {cards: {personal_data: high}}, "
                           "expect: {action: allow}}]}").replace("then: redact", "then: flag, mode: monitor")
    result = run(compiled(source).usable(), Upper(), lambda _, one: one.name == "row")[0]
    assert result.problems == ("rules: expected that watch does not fire, got cards, watch",)


def test_all_tests_run_in_the_order_of_the_file() -> None:
    results = run(compiled(HEAD).usable(), Upper())
    assert [(r.rule, r.name, r.passed) for r in results] == [
        ("other", "a", True), ("other", "b", True), ("cards", "must", True), ("cards", "must not", True),
    ]  # fmt: skip


def test_a_text_is_examined_in_its_context() -> None:
    extra = "      - {name: row, phase: output, language: zh, text: a letter, context: {tool: pay, route: x}, expect: {action: allow}}\n"
    upper = Upper()
    run(compiled(HEAD + extra).usable(), upper)
    assert upper.seen == [(Phase.OUTPUT, "a letter", {"tool": "pay", "route": "x", "language": "zh"})]


def test_where_a_text_stands() -> None:
    assert bare_key(Phase.INPUT, {}) == Key(Channel.USER, Turn.NEW)
    assert bare_key(Phase.TOOL_CALL, {"tool": "pay"}) == Key(Channel.TOOL_CALL, Turn.NEW, "pay")
    assert bare_key(Phase.INPUT, {"channel": "system", "turn": "history"}) == Key(Channel.SYSTEM, Turn.HISTORY)
    assert scope_of({"route": "r", "tenant": "t", "tool": "x"}) == Scope(route="r", tenant="t")
