"""Which detectors a phase needs, and how long a tape must wait: one row a reason."""

from __future__ import annotations

import pytest

from moderation.policy.reading import Patience, heard, needs, patience
from moderation.text import Channel, Phase, Scope, Turn
from tests.policy.doubles import HEAD, policy

_N, _L, _W, _A = Patience.NONE_NEEDED, Patience.LOCAL, Patience.WINDOW, Patience.ALL
ALL_HELD = "defaults: {stream: {hold: all}}\n"
NOT_HELD = "defaults: {stream: {hold: none, routes: {slow: sentence}}}\n"
HERE = Scope(route="chat")
CARDS = frozenset({"cards"})
"""`cards`, as if it judged whole windows."""


@pytest.mark.parametrize(
    ("rule", "windowed", "expected", "note"),
    [
        ("when: {detector: cards}, then: redact", (), _L, "one local finding"),
        ("when: {detector: cards}, then: redact, phases: [input]", (), _N, "another phase"),
        ("when: {detector: cards}, then: redact, mode: off", (), _N, "a rule that is off"),
        ("when: {detector: cards}, then: redact, mode: monitor", (), _L, "a monitored rule still reads"),
        ("when: {any: [{detector: cards}, {detector: keys}]}, then: redact", (), _L, "either finding suffices"),
        ("when: {at_least_n: {n: 1, of: [{detector: cards}, {detector: keys}]}}, then: redact", (), _L, "one of two"),
        ("when: {all: [{detector: cards}, {route: chat}]}, then: redact", (), _L, "the scope is known"),
        ("when: {all: [{detector: cards}, {route: x}]}, then: redact", (), _N, "on another route"),
        ("when: {detector: cards, tenant: x}, then: redact", (), _N, "for another tenant"),
        ("when: {all: [{detector: cards}, {none: [{route: x}]}]}, then: redact", (), _L, "not on another route"),
        ("when: {all: [{detector: cards}, {none: [{route: chat}]}]}, then: redact", (), _N, "but on this one"),
        ("when: {detector: cards, channel: answer}, then: redact", (), _L, "this channel"),
        ("when: {detector: cards, channel: reasoning}, then: redact", (), _N, "another channel"),
        ("when: {detector: cards, turn: history}, then: redact", (), _N, "an answer is new"),
        ("when: {detector: cards, tool: pay}, then: redact", (), _N, "an answer has no tool"),
        ("when: {detector: cards, span_origin: {not_in: [user_supplied]}}, then: redact", (), _L, "an origin is of one finding"),
        ("when: {all: [{detector: cards}, {detector: keys}]}, then: block", (), _W, "two findings"),
        ("when: {all: [{detector: cards}, {detector: keys}]}, then: flag", (), _L, "two findings that only flag"),
        ("when: {all: [{detector: cards}, {detector: keys}]}, then: block, mode: monitor", (), _L, "two findings, monitored"),
        ("when: {all: [{any: [{detector: cards}, {detector: keys}]}, {channel: answer}]}, then: redact",
         (), _L, "a known channel beside"),
        ("when: {at_least_n: {n: 2, of: [{detector: cards}, {detector: keys}, {route: x}]}}, then: block",
         (), _W, "two of two left"),
        ("when: {at_least_n: {n: 2, of: [{detector: cards}, {route: chat}, {route: x}]}}, then: block",
         (), _L, "one of them is known"),
        ("when: {at_least_n: {n: 2, of: [{detector: cards}, {route: y}, {route: x}]}}, then: block", (), _N, "not enough left"),
        ("when: {all: [{detector: cards}, {none: [{detector: keys}]}]}, then: redact", (), _W, "there being none"),
        ("when: {channel: answer}, then: block", (), _L, "a channel alone"),
        ("when: {route: chat}, then: block", (), _L, "a route alone"),
        ("when: {none: [{route: chat}]}, then: block", (), _N, "none of what is so"),
        ("when: {detector: cards}, then: block, over: answer", (), _A, "over the answer"),
        ("when: {detector: cards}, then: block, over: request", (), _A, "over the request is over all that was given"),
        ("when: {detector: cards}, then: flag, over: answer", (), _L, "over the answer, but only a flag"),
        ("when: {detector: cards, channel: reasoning}, then: block, over: answer", (), _N, "over the answer of another channel"),
        ("when: {all: [{detector: cards, channel: reasoning}, {detector: keys, channel: answer}]}, then: block, over: answer",
         (), _A,
         "over the answer, this channel among them"),
        ("when: {all: [{detector: cards}, {route: x}]}, then: block, over: answer", (), _N, "over the answer of another route"),
        ("when: {detector: cards}, then: redact", CARDS, _W, "a window detector's finding"),
        ("when: {detector: cards}, then: flag", CARDS, _L, "a window detector's flag may come late"),
        ("when: {all: [{detector: cards}, {detector: keys}]}, then: flag",
         CARDS, _W, "but not where another finding must be beside"),
        ("when: {detector: keys}, then: redact", CARDS, _L, "another detector is a window detector"),
    ],
)
def test_patience(rule: str, windowed: frozenset[str], expected: Patience, note: str) -> None:
    made = policy(r=rule)
    assert patience(made, Phase.OUTPUT, Channel.ANSWER, HERE, frozenset(windowed)) is expected, note


@pytest.mark.parametrize(
    ("extra", "route", "rule", "expected", "note"),
    [
        (ALL_HELD, "chat", "when: {detector: keys}, then: redact", _A, "all is held"),
        (ALL_HELD, "chat", "when: {detector: keys}, then: redact, phases: [input]", _A, "whatever the rules are"),
        (NOT_HELD, "chat", "when: {detector: cards}, then: block", _L, "a window detector is not waited for"),
        (NOT_HELD, "slow", "when: {detector: cards}, then: block", _W, "but on this route"),
        (NOT_HELD, "chat", "when: {all: [{detector: more}, {detector: keys}]}, then: block", _W, "two findings are"),
        (NOT_HELD, "chat", "when: {detector: keys}, then: block, over: answer", _A, "and so is the whole answer"),
    ],
)
def test_holds(extra: str, route: str, rule: str, expected: Patience, note: str) -> None:
    made = policy(r=rule, extra=extra)
    assert patience(made, Phase.OUTPUT, Channel.ANSWER, Scope(route=route), CARDS) is expected, note


def test_the_longest_patience_wins() -> None:
    made = policy(
        a="when: {detector: keys}, then: redact",
        b="when: {all: [{detector: cards}, {detector: keys}]}, then: block",
        c="when: {detector: keys}, then: flag",
    )
    assert patience(made, Phase.OUTPUT, Channel.ANSWER, HERE, frozenset()) is _W


def test_a_tool_call_is_read_where_its_tool_may_matter() -> None:
    made = policy(r="when: {tool: pay}, then: block")
    assert patience(made, Phase.TOOL_CALL, Channel.TOOL_CALL, HERE, frozenset()) is _L
    both = policy(r="when: {all: [{tool: pay}, {detector: keys}]}, then: block")
    assert patience(both, Phase.TOOL_CALL, Channel.TOOL_CALL, HERE, frozenset()) is _L


def test_needs_are_those_of_the_rules_of_the_phase() -> None:
    made = policy(
        a="when: {category: personal_data}, then: redact, phases: [input]",
        b="when: {all: [{detector: keys}, {none: [{category: weapons}]}]}, then: block, phases: [tool_result]",
        c="when: {entity: SECRET_JWT}, then: redact, phases: [output], mode: off",
    )
    assert needs(made, Phase.INPUT) == {"cards", "more"}
    assert needs(made, Phase.TOOL_RESULT) == {"keys", "terms"}
    assert needs(made, Phase.OUTPUT) == set()


def test_who_asks_for_an_origin_needs_the_detector_where_values_come_in() -> None:
    made = policy(r="when: {detector: cards, span_origin: {not_in: [user_supplied]}}, then: redact, phases: [output]")
    assert [needs(made, phase) for phase in Phase] == [{"cards"}, {"cards"}, {"cards"}, set()]
    off = policy(r="when: {detector: cards, span_origin: user_supplied}, then: redact, phases: [output], mode: off")
    assert needs(off, Phase.INPUT) == set()


def test_an_atom_of_any_finding_needs_every_detector() -> None:
    made = policy(r="when: {span_origin: user_supplied}, then: flag, phases: [output]", head=HEAD)
    assert needs(made, Phase.OUTPUT) == {"cards", "keys", "terms", "more"}


@pytest.mark.parametrize(
    ("rule", "channel", "turn", "expected", "note"),
    [
        ("when: {detector: cards}", Channel.SYSTEM, Turn.HISTORY, {"cards"}, "asked of everything"),
        ("when: {detector: cards, channel: user}", Channel.USER, Turn.HISTORY, {"cards"}, "asked of users"),
        ("when: {detector: cards, channel: user}", Channel.SYSTEM, Turn.NEW, set(), "not of the app"),
        ("when: {detector: cards, turn: new}", Channel.USER, Turn.NEW, {"cards"}, "asked of what is new"),
        ("when: {detector: cards, turn: new}", Channel.USER, Turn.HISTORY, set(), "not of what was said before"),
        ("when: {detector: cards, channel: {not_in: [system]}}", Channel.USER, Turn.NEW, {"cards"}, "all but the app"),
        ("when: {detector: cards, channel: {not_in: [system]}}", Channel.SYSTEM, Turn.NEW, set(), "the app"),
        ("when: {detector: cards, tool: pay}", Channel.TOOL_CALL, Turn.NEW, {"cards"}, "which tool it is, is not known yet"),
        ("when: {all: [{detector: keys, channel: user}, {none: [{detector: cards, turn: history}]}]}", Channel.SYSTEM,
         Turn.HISTORY, {"cards"}, "one under none is asked as well, and each for itself"),
        ("when: {all: [{detector: keys}, {channel: user}]}", Channel.SYSTEM, Turn.NEW, {"keys"}, "by atom: what is beside is not weighed"),
        ("when: {detector: cards, channel: user}, phases: [output]", Channel.USER, Turn.NEW, set(), "another phase"),
        ("when: {detector: cards, channel: user}, mode: off", Channel.USER, Turn.NEW, set(), "a rule that is off"),
        ("when: {detector: cards, span_origin: user_supplied}, phases: [output]", Channel.SYSTEM, Turn.HISTORY, {"cards"},
         "whose a value is, is learnt from every text that comes in"),
    ],
)
def test_who_is_heard_of_a_text(rule: str, channel: Channel, turn: Turn, expected: set[str], note: str) -> None:
    made = policy(r=rule + ", then: flag" + ("" if "phases" in rule else ", phases: [input]"))
    assert heard(made, Phase.INPUT, channel, turn) == expected, note
    assert heard(made, Phase.INPUT, channel, turn) <= needs(made, Phase.INPUT)
