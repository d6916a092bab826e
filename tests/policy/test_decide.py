"""The engine: each rule of its semantics as a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from moderation.policy.decide import decide
from moderation.policy.model import Policy
from moderation.text import Channel, Origin, Phase, Scope, Turn
from moderation.verdict import Action, Cause, Fired, Key, Mode, Outcome, Signal, Unknown, Window
from tests.policy import oracle
from tests.policy.doubles import policy

BARE = Key(Channel.USER, Turn.NEW)
OLD = replace(BARE, turn=Turn.HISTORY)


def window(*signals: tuple[str, str, float] | Key, bare: Key = BARE, unknown: Sequence[Unknown] = (), **more: Any) -> Window:
    """A bare signal, and (detector, category, score) beside it, with `more` in their keys."""
    made = [Signal(bare, 0, 1)]
    for one in signals:
        if isinstance(one, Key):
            made.append(Signal(one, 1_000_000, 1))
        else:
            detector, category, score = one
            made.append(Signal(replace(bare, detector=detector, category=category, **more), int(score * 1_000_000), 1))
    return Window(tuple(made), tuple(unknown))


CARD = ("cards", "personal_data", 1.0)
BOMB = ("terms", "weapons", 0.5)
KEY = ("keys", "secret", 1.0)
LOST = Unknown("cards", Cause.TIMEOUT)
KEYS_LOST = Unknown("keys", Cause.ERROR)
TERMS_LOST = Unknown("terms", Cause.ERROR)
FOREIGN = Unknown("cards", Cause.UNSUPPORTED)
MORE_LOST = Unknown("more", Cause.ERROR)
MORE_FOREIGN = Unknown("more", Cause.UNSUPPORTED)


EVERYWHERE = Scope()


@dataclass(frozen=True)
class Row:
    note: str
    rule: str
    """Its condition and what else it says; it blocks unless it says otherwise."""
    window: Window
    action: Action
    phase: Phase = Phase.INPUT
    scope: Scope = EVERYWHERE
    bad: bool = False
    """Degraded."""
    whole: bool = False


_A, _F, _P, _R, _B = Action.ALLOW, Action.FLAG, Action.PSEUDONYMISE, Action.REDACT, Action.BLOCK
ROWS = [
    # Levels
    Row("at the threshold is at the level", "{category: weapons}, at_least: medium", window(BOMB), _B),
    Row("a millionth below is not", "{category: weapons}", window(("terms", "weapons", 0.499999)), _A),
    Row("medium where nothing is said", "{category: weapons}", window(("terms", "weapons", 0.2)), _A),
    Row("an atom's own level wins", "{category: weapons, at_least: low}", window(("terms", "weapons", 0.2)), _B),
    Row("an atom's own level wins upwards", "{category: weapons, at_least: high}, at_least: low", window(BOMB), _A),
    # Atoms
    Row("a detector by name", "{detector: terms}", window(BOMB), _B),
    Row("another detector", "{detector: cards}", window(BOMB), _A),
    Row("a list of values", "{detector: [cards, terms]}", window(BOMB), _B),
    Row("in", "{category: {in: [weapons]}}", window(BOMB), _B),
    Row("not_in", "{category: {not_in: [weapons]}}", window(BOMB), _A),
    Row("not_in of a category needs a finding", "{category: {not_in: [weapons]}}", window(), _A),
    Row("an entity", "{entity: CN_ID_CARD}", window(CARD, entity="CN_ID_CARD"), _B),
    Row("another entity", "{entity: CN_ID_CARD}", window(CARD, entity="EMAIL_ADDRESS"), _A),
    Row("not that entity", "{entity: {not_in: [CN_ID_CARD]}}", window(CARD, entity="EMAIL_ADDRESS"), _B),
    Row("no entity is not that entity", "{entity: {not_in: [CN_ID_CARD]}}", window(BOMB), _B),
    Row("a channel alone", "{channel: user}", window(), _B),
    Row("another channel", "{channel: [system, answer]}", window(), _A),
    Row("several keys hold of one signal", "{category: weapons, channel: user}", window(BOMB), _B),
    Row("several keys, one wrong", "{category: weapons, channel: system}", window(BOMB), _A),
    Row("keys do not mix two signals", "{detector: cards, entity: CN_ID_CARD}",
        window(CARD, replace(BARE, detector="terms", category="weapons", entity="CN_ID_CARD")), _A),
    Row("what the user did not supply", "{detector: cards, span_origin: {not_in: [user_supplied]}}, then: redact",
        window(CARD, origin=Origin.MODEL), _R, Phase.OUTPUT),
    Row("what the user did supply", "{detector: cards, span_origin: {not_in: [user_supplied]}}, then: redact",
        window(CARD, origin=Origin.USER), _A, Phase.OUTPUT),
    Row("an origin that nobody told is not the user's", "{detector: cards, span_origin: {not_in: [user_supplied]}}, then: redact",
        window(CARD), _R, Phase.OUTPUT),
    Row("an origin alone needs a finding", "{span_origin: {not_in: [user_supplied]}}", window(), _A),
    Row("an origin alone asks for no level", "{span_origin: user_supplied}",
        window(("cards", "personal_data", 0.01), origin=Origin.USER), _B),
    Row("a tool alone", "{tool: [pay]}", window(bare=Key(Channel.TOOL_CALL, Turn.NEW, "pay")), _B, Phase.TOOL_CALL),
    Row("another tool", "{tool: [pay]}", window(bare=Key(Channel.TOOL_CALL, Turn.NEW, "x")), _A, Phase.TOOL_CALL),
    Row("any other tool", "{tool: {not_in: [kb]}}", window(bare=Key(Channel.TOOL_RESULT, Turn.NEW, "x")), _B),
    Row("a tool without a name is not kb", "{tool: {not_in: [kb]}}", window(bare=Key(Channel.TOOL_RESULT, Turn.NEW)), _B),
    Row("a user's words are no tool's", "{tool: {not_in: [kb]}}", window(), _A),
    Row("a route", "{route: chat}", window(), _B, scope=Scope(route="chat")),
    Row("another route", "{route: chat}", window(), _A),
    Row("scope and finding", "{all: [{route: chat}, {category: weapons}]}", window(BOMB), _B, scope=Scope(route="chat")),
    Row("tenant, region, model, language", "{tenant: t, region: cn, model: qwen3-max, language: zh}", window(), _B,
        scope=Scope("t", "r", "cn", "qwen3-max", "zh")),
    Row("one of them wrong", "{tenant: t, region: cn, model: qwen3-max, language: zh}", window(), _A,
        scope=Scope("t", "r", "cn", "qwen3-max", "en")),
    # Groups
    Row("all", "{all: [{category: weapons}, {detector: cards}]}", window(BOMB, CARD), _B),
    Row("all, one missing", "{all: [{category: weapons}, {detector: cards}]}", window(BOMB), _A),
    Row("any", "{any: [{category: weapons}, {detector: cards}]}", window(CARD), _B),
    Row("none", "{all: [{category: weapons}, {none: [{detector: cards}]}]}", window(BOMB), _B),
    Row("none, one there", "{all: [{category: weapons}, {none: [{detector: cards}]}]}", window(BOMB, CARD), _A),
    Row("two of three", "{at_least_n: {n: 2, of: [{category: weapons}, {detector: cards}, {detector: keys}]}}",
        window(BOMB, KEY), _B),
    Row("one of three", "{at_least_n: {n: 2, of: [{category: weapons}, {detector: cards}, {detector: keys}]}}",
        window(KEY), _A),
    # Unknown
    Row("fail closed", "{detector: cards}", window(unknown=[LOST]), _B, bad=True),
    Row("fail to a flag", "{detector: keys}", window(unknown=[KEYS_LOST]), _F, bad=True),
    Row("fail open, and say so", "{detector: terms}", window(unknown=[TERMS_LOST]), _A, bad=True),
    Row("a flag is no more than the rule", "{detector: keys}, then: allow", window(unknown=[KEYS_LOST]), _A, bad=True),
    Row("the strictest of two", "{any: [{detector: terms}, {detector: cards}]}", window(unknown=[TERMS_LOST, LOST]), _B,
        bad=True),
    Row("a failure that does not matter", "{all: [{route: x}, {detector: cards}]}", window(unknown=[LOST]), _A),
    Row("another detector's failure", "{detector: cards}", window(unknown=[KEYS_LOST]), _A),
    Row("a category's other detector failed", "{category: personal_data}",
        window(unknown=[MORE_LOST]), _B, bad=True),
    Row("a detector without that entity failed", "{entity: CN_ID_CARD}", window(unknown=[MORE_LOST]), _A),
    Row("none of an unknown is unknown", "{all: [{category: weapons}, {none: [{detector: terms, at_least: high}]}]}",
        window(unknown=[TERMS_LOST]), _A, bad=True),
    Row("true whatever failed", "{any: [{category: weapons}, {detector: cards}]}", window(BOMB, unknown=[LOST]), _B),
    Row("unsupported is ignored", "{detector: cards}", window(unknown=[FOREIGN]), _A),
    Row("unless the detector says otherwise", "{detector: more}", window(unknown=[MORE_FOREIGN]), _B, bad=True),
    # Spans and failures
    Row("redact takes spans", "{detector: cards}, then: redact", window(CARD), _R),
    Row("on a failure it takes the segment", "{detector: cards}, then: redact",
        window(unknown=[LOST]), _R, bad=True, whole=True),
    Row("so does pseudonymise", "{detector: cards}, then: pseudonymise", window(unknown=[LOST]), _P, bad=True, whole=True),
    Row("a tool call has no label: block", "{detector: cards}, then: redact", window(unknown=[LOST]), _B, Phase.TOOL_CALL,
        bad=True),
    Row("a failure beside a finding hides spans", "{category: personal_data}, then: redact", window(CARD, unknown=[MORE_LOST]),
        _R, bad=True, whole=True),
    Row("the same in a tool call", "{category: personal_data}, then: redact", window(CARD, unknown=[MORE_LOST]),
        _B, Phase.TOOL_CALL, bad=True),
    Row("hidden spans of a detector whose failures are flags", "{any: [{detector: cards}, {detector: keys}]}, then: redact",
        window(CARD, unknown=[KEYS_LOST]), _R, bad=True),
    # History
    Row("a block in history removes", "{category: weapons}", window(BOMB, bare=OLD), _R, whole=True),
    Row("a bare block in history removes", "{channel: user}", window(bare=OLD), _R, whole=True),
    Row("a block by scope in history removes", "{route: default}", window(bare=OLD), _R, whole=True),
    Row("unless it is to block", "{category: weapons}, in_history: block", window(BOMB, bare=OLD), _B),
    Row("redact in history redacts", "{detector: cards}, then: redact", window(CARD, bare=OLD), _R),
    Row("a failure in history removes", "{detector: cards}", window(unknown=[LOST], bare=OLD), _R, bad=True,
        whole=True),
    Row("a rule on new text", "{all: [{category: weapons}, {turn: new}]}", window(BOMB, bare=OLD), _A),
    Row("a rule on history", "{category: weapons, turn: history}, then: flag", window(BOMB, bare=OLD), _F),
    # Phases and modes
    Row("another phase", "{category: weapons}, phases: [output]", window(BOMB), _A),
    Row("a rule that is off", "{category: weapons}, mode: off", window(BOMB), _A),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.note for row in ROWS])
def test_semantics(row: Row) -> None:
    made = policy(r=f"when: {row.rule}" + ("" if "then:" in row.rule else ", then: block"))
    outcome = decide(made, row.phase, row.scope, [row.window])
    assert outcome.action is row.action
    assert outcome.degraded is row.bad
    assert [f.whole for f in outcome.fired] == [row.whole] * len(outcome.fired)
    assert bool(outcome.fired) is (row.action is not Action.ALLOW) or "then: allow" in row.rule
    if "tool" not in row.rule:
        assert oracle.action(made, row.phase, row.scope, [row.window]) is row.action


def test_the_notes_of_the_rows_differ() -> None:
    assert len({row.note for row in ROWS}) == len(ROWS)


def test_a_monitored_rule_only_would() -> None:
    made = policy(a="when: {category: weapons}, then: block, mode: monitor", b="when: {category: weapons}, then: flag")
    outcome = decide(made, Phase.INPUT, Scope(), [window(BOMB)])
    assert (outcome.action, outcome.would) == (Action.FLAG, Action.BLOCK)
    assert [(f.rule, f.mode) for f in outcome.fired] == [("a", Mode.MONITOR), ("b", Mode.ENFORCE)]
    assert outcome.message is None


def test_the_message_is_that_of_the_most_severe_block_then_of_the_smallest_id() -> None:
    block = "when: {category: weapons}, then: block"
    made = policy(
        a=f"{block}, severity: medium, message: no_cards",
        b=f"{block}, severity: high, message: no_arms",
        c=f"{block}, severity: high",
        d="when: {category: weapons}, then: flag, severity: critical, message: no_cards",
    )
    assert decide(made, Phase.INPUT, Scope(), [window(BOMB)]).message == "no_arms"
    assert decide(policy(a=f"{block}, message: no_cards", b=block), Phase.INPUT, Scope(), [window(BOMB)]).message == "no_cards"


def test_what_fired_names_the_signals_of_positive_atoms_with_their_thresholds() -> None:
    made = policy(r="when: {all: [{category: weapons}, {channel: user}, {none: [{detector: keys}]}]}, then: redact")
    one = window(BOMB, CARD)
    fired = decide(made, Phase.INPUT, Scope(), [window(), one]).fired
    key = replace(BARE, detector="terms", category="weapons")
    assert [(f.window, f.keys, f.at_least) for f in fired] == [(1, (key,), (500_000,))]


def test_one_signal_for_two_atoms_counts_with_the_lower_threshold() -> None:
    made = policy(r="when: {any: [{category: weapons, at_least: low}, {detector: terms}]}, then: redact")
    assert decide(made, Phase.INPUT, Scope(), [window(BOMB)]).fired[0].at_least == (200_000,)


def test_on_a_failure_the_key_names_the_detector() -> None:
    fired = decide(policy(r="when: {detector: cards}, then: redact"), Phase.INPUT, Scope(), [window(unknown=[LOST])]).fired
    assert fired[0].keys == (replace(BARE, detector="cards"),)
    assert fired[0].on_unknown


def test_failures_are_listed_even_where_no_rule_asks() -> None:
    lost = window(unknown=[LOST])
    outcome = decide(policy(r="when: {detector: terms}, then: block"), Phase.INPUT, Scope(), [lost, lost])
    assert outcome == Outcome(Action.ALLOW, Action.ALLOW, (), (LOST,), False, None)


def test_conditions_hold_within_one_window() -> None:
    rule = "when: {all: [{category: weapons}, {detector: cards}]}, then: block"
    apart = [window(BOMB), window(CARD)]
    assert decide(policy(r=rule), Phase.INPUT, Scope(), apart).action is Action.ALLOW
    assert decide(policy(r=f"{rule}, over: request"), Phase.INPUT, Scope(), apart).action is Action.BLOCK
    assert decide(policy(r=f"{rule}, over: answer"), Phase.INPUT, Scope(), [window(BOMB, CARD)]).fired[0].window == -1


def test_over_a_request_new_text_blocks_and_old_text_is_removed_where_it_stands() -> None:
    made = policy(r="when: {category: weapons}, then: block, over: request")
    old, new, quiet = window(BOMB, bare=OLD), window(BOMB), window()
    assert decide(made, Phase.INPUT, Scope(), [old, quiet, new]).action is Action.BLOCK
    outcome = decide(made, Phase.INPUT, Scope(), [quiet, old, quiet, old])
    assert outcome.action is Action.REDACT
    assert [(f.window, f.whole) for f in outcome.fired] == [(1, True), (3, True)]


def test_a_removal_is_about_what_stands_in_its_own_window() -> None:
    made = policy(r="when: {category: {in: [weapons, personal_data]}}, then: block, over: request")
    fired = decide(made, Phase.INPUT, Scope(), [window(BOMB, bare=OLD), window(CARD, bare=OLD)]).fired
    assert [[key.category for key in f.keys] for f in fired] == [["weapons"], ["personal_data"]]


def test_a_rule_of_the_scope_alone_removes_the_whole_history() -> None:
    made = policy(r="when: {route: default}, then: block, over: request")
    fired = decide(made, Phase.INPUT, Scope(), [window(bare=OLD), window(bare=OLD)]).fired
    assert [(f.window, f.action, f.whole) for f in fired] == [(0, Action.REDACT, True), (1, Action.REDACT, True)]


def test_over_a_request_any_new_part_of_what_it_hangs_on_blocks() -> None:
    old, quiet = window(BOMB, bare=OLD), window()
    either = policy(r="when: {any: [{category: weapons}, {channel: user}]}, then: block, over: request")
    assert decide(either, Phase.INPUT, Scope(), [old, quiet]).action is Action.BLOCK
    apart = policy(r="when: {all: [{category: weapons}, {channel: user}]}, then: block, over: request")
    assert decide(apart, Phase.INPUT, Scope(), [old, quiet]).action is Action.BLOCK
    together = policy(r="when: {category: weapons, channel: user}, then: block, over: request")
    assert decide(together, Phase.INPUT, Scope(), [old, quiet]).action is Action.REDACT


def test_what_was_found_in_history_does_not_hide_that_new_text_was_not_read() -> None:
    made = policy(a="when: {category: personal_data}, over: request, then: block")
    old, new = window(CARD, bare=OLD), window(unknown=[LOST])
    assert decide(made, Phase.INPUT, Scope(), [old, window()]).action is Action.REDACT
    outcome = decide(made, Phase.INPUT, Scope(), [old, new])
    assert (outcome.action, outcome.degraded) == (Action.BLOCK, True)
    assert oracle.action(made, Phase.INPUT, Scope(), [old, new]) is Action.BLOCK
    old_lost = window(CARD, bare=OLD, unknown=[MORE_LOST])
    assert decide(made, Phase.INPUT, Scope(), [old_lost, window()]).action is Action.REDACT


def test_each_window_fires_for_itself() -> None:
    made = policy(r="when: {category: weapons}, then: block")
    outcome = decide(made, Phase.INPUT, Scope(), [window(BOMB, bare=OLD), window(BOMB)])
    assert [(f.window, f.action, f.whole) for f in outcome.fired] == [(0, Action.REDACT, True), (1, Action.BLOCK, False)]


def test_no_windows_no_rules_fire() -> None:
    assert decide(policy(r="when: {category: weapons}, then: block"), Phase.INPUT, Scope(), []).action is Action.ALLOW


def test_a_quiet_window_costs_little() -> None:
    """Streams decide at every piece: rules that need a finding are not even looked at where there is none."""
    made = policy(**{f"r{n}": "when: {category: weapons}, then: block" for n in range(50)})
    looked: list[Fired] = [*decide(made, Phase.OUTPUT, Scope(), [window()]).fired]
    assert looked == []
    assert all(rule.needs_finding for rule in made.rules)


def test_a_policy_is_a_value() -> None:
    one, other = policy(r="when: {category: weapons}, then: block"), policy(r="when: {category: weapons}, then: block")
    assert isinstance(one, Policy)
    assert one.ref == other.ref
