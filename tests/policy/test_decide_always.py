"""What must hold of every policy and every input: the oracle agrees, no order matters, no failure loosens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.policy.decide import decide, heard
from moderation.text import Channel, Origin, Phase, Scope, Turn
from moderation.verdict import Cause, Key, Outcome, Signal, Unknown, Window
from tests.policy import oracle
from tests.policy.doubles import policy

HEAD_CLOSED = """
format: 1
policy: {id: p}
detectors:
  cards: {kind: pii, entities: [EMAIL_ADDRESS, CN_ID_CARD]}
  keys: {kind: secrets}
  terms: {kind: words, categories: [weapons], lists: [arms], levels: {low: 0.2, medium: 0.5, high: 0.8}}
  more: {kind: patterns, categories: [personal_data], patterns: [email]}
word_lists:
  arms: {words: [bomb]}
"""

_DETECTORS = {"cards": "personal_data", "keys": "secret", "terms": "weapons", "more": "personal_data"}
_ATOMS = [
    "{category: weapons}", "{category: [weapons, secret], at_least: low}", "{detector: cards}",
    "{detector: more, at_least: high}",
    "{category: {not_in: [weapons]}}", "{entity: EMAIL_ADDRESS}", "{entity: {not_in: [EMAIL_ADDRESS]}}", "{channel: user}",
    "{turn: new}", "{turn: history, category: secret}", "{route: chat}", "{route: {not_in: [chat]}}",
    "{span_origin: {not_in: [user_supplied]}}", "{detector: cards, span_origin: user_supplied}",
    "{detector: keys, channel: [answer]}",
]  # fmt: skip


def _conditions(negative: bool) -> st.SearchStrategy[str]:
    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        some = st.lists(inner, min_size=1, max_size=3)
        kinds = ["all", "any", *(["none"] if negative else [])]
        groups = st.tuples(st.sampled_from(kinds), some).map(lambda g: f"{{{g[0]}: [{', '.join(g[1])}]}}")
        several = some.flatmap(lambda of: st.integers(1, len(of)).map(lambda n: _several(n, of)))
        return groups | several

    return st.recursive(st.sampled_from(_ATOMS), grow, max_leaves=5).filter(lambda when: _depth(when) <= 7)


def _several(n: int, of: list[str]) -> str:
    return f"{{at_least_n: {{n: {n}, of: [{', '.join(of)}]}}}}"


def _depth(text: str) -> int:
    """How deep the brackets go: a policy's YAML is nested 12 deep at most."""
    steps = [(c in "{[") - (c in "}]") for c in text]
    return max(accumulate(steps))


@st.composite
def rule_sets(draw: st.DrawFn, negative: bool = True) -> dict[str, str]:
    rules: dict[str, str] = {}
    for name in ("a", "b", "c")[: draw(st.integers(1, 3))]:
        when = draw(_conditions(negative))
        then = draw(st.sampled_from(["flag", "pseudonymise", "redact", "block"]))
        if then in ("pseudonymise", "redact"):
            # These need a finding in each way to fire.
            when = f"{{all: [{when}, {{category: [weapons, personal_data]}}]}}"
        mode = draw(st.sampled_from(["enforce", "enforce", "monitor", "off"]))
        over = draw(st.sampled_from(["window", "window", "request"]))
        level = draw(st.sampled_from(["low", "medium", "high"]))
        history = draw(st.sampled_from(["remove", "block"]))
        severity = draw(st.sampled_from(["low", "high"]))
        asked = f"when: {when}, at_least: {level}, over: {over}"
        rules[name] = f"{asked}, then: {then}, mode: {mode}, in_history: {history}, severity: {severity}"
    return rules


_SCORES = st.sampled_from([0, 200_000, 300_000, 499_999, 500_000, 800_000, 1_000_000])


@st.composite
def window_lists(draw: st.DrawFn, failures: bool = True) -> list[Window]:
    made: list[Window] = []
    for _ in range(draw(st.integers(0, 3))):
        bare = Key(draw(st.sampled_from([Channel.USER, Channel.ANSWER])), draw(st.sampled_from(list(Turn))))
        found: dict[Key, Signal] = {}
        for _ in range(draw(st.integers(0, 3))):
            detector = draw(st.sampled_from(sorted(_DETECTORS)))
            entity = draw(st.sampled_from([None, "EMAIL_ADDRESS", "CN_ID_CARD"]))
            origin = draw(st.sampled_from([None, Origin.USER, Origin.MODEL]))
            key = replace(bare, detector=detector, category=_DETECTORS[detector], entity=entity, origin=origin)
            found[key] = Signal(key, draw(_SCORES), 1)
        unknown = draw(st.sets(st.sampled_from(sorted(_DETECTORS)), max_size=2)) if failures else set()
        causes = {name: draw(st.sampled_from([Cause.TIMEOUT, Cause.UNSUPPORTED])) for name in sorted(unknown)}
        made.append(Window((Signal(bare, 0, 1), *found.values()), tuple(Unknown(n, c) for n, c in causes.items())))
    return made


_PHASES = st.sampled_from(list(Phase))
_SCOPES = st.sampled_from([Scope(), Scope(route="chat")])


@settings(max_examples=400, deadline=None)
@given(rule_sets(), window_lists(), _PHASES, _SCOPES)
def test_the_oracle_agrees(rules: dict[str, str], windows: list[Window], phase: Phase, scope: Scope) -> None:
    made = policy(**rules)
    outcome = decide(made, phase, scope, windows)
    assert outcome.action is oracle.action(made, phase, scope, windows)
    assert outcome.would is oracle.action(made, phase, scope, windows, monitored=True)


def _unordered(outcome: Outcome, places: Sequence[int]) -> tuple[object, ...]:
    fired = {replace(f, window=places[f.window] if f.window >= 0 else -1) for f in outcome.fired}
    return outcome.action, outcome.would, fired, outcome.unknown, outcome.degraded, outcome.message


@settings(max_examples=150, deadline=None)
@given(rule_sets(), window_lists(), _PHASES, st.randoms(use_true_random=False))
def test_no_order_matters(rules: dict[str, str], windows: list[Window], phase: Phase, chance: random.Random) -> None:
    names, places = list(rules), list(range(len(windows)))
    chance.shuffle(names)
    chance.shuffle(places)
    mixed = [
        Window(tuple(chance.sample(w.signals, len(w.signals))), tuple(chance.sample(w.unknown, len(w.unknown))))
        for w in (windows[place] for place in places)
    ]
    one = decide(policy(**rules), phase, Scope(), windows)
    other = decide(policy(**{name: rules[name] for name in names}), phase, Scope(), mixed)
    assert _unordered(one, range(len(windows))) == _unordered(other, places)


@settings(max_examples=200, deadline=None)
@given(rule_sets(negative=False), window_lists(), _PHASES, st.data())
def test_a_higher_score_never_lowers_the_action_without_none(
    rules: dict[str, str], windows: list[Window], phase: Phase, data: st.DataObject
) -> None:
    # Where a rule hangs on two failures of which one is to be ignored, knowing more can do away with the stricter one (§4.3, 5).
    made = policy(**rules, head=HEAD_CLOSED)
    windows = [replace(w, unknown=tuple(Unknown(u.detector, Cause.TIMEOUT) for u in w.unknown)) for w in windows]

    def raise_(signal: Signal) -> Signal:
        return signal if signal.key.detector is None else replace(signal, score=max(signal.score, data.draw(_SCORES)))

    raised = [Window(tuple(raise_(s) for s in w.signals), w.unknown) for w in windows]
    # A removal from history ranks below the block that it stands for, and a flag on a failure below what the rule would do.
    before = decide(made, phase, Scope(), windows).action
    assert decide(made, phase, Scope(), raised).action >= before


@settings(max_examples=200, deadline=None)
@given(rule_sets(), window_lists(), st.sampled_from([Phase.INPUT, Phase.OUTPUT]), st.data())
def test_a_failure_never_loosens(rules: dict[str, str], windows: list[Window], phase: Phase, data: st.DataObject) -> None:
    """Kleene: what is decided on an unknown is at least what any answer of the detector would have brought, failing closed."""
    strict = policy(**rules, head=HEAD_CLOSED)
    answered: list[Window] = []
    for w in windows:
        bare = w.signals[0].key
        found = [s for s in w.signals if s.key.detector not in {u.detector for u in w.unknown}]
        for u in w.unknown:
            if data.draw(st.booleans()):
                entity = data.draw(st.sampled_from([None, "EMAIL_ADDRESS"])) if u.detector in ("cards", "more") else None
                key = replace(bare, detector=u.detector, category=_DETECTORS[u.detector], entity=entity)
                found.append(Signal(key, data.draw(_SCORES), 1))
        answered.append(Window(tuple(found)))
    lost = [
        Window(tuple(s for s in w.signals if s.key.detector not in {u.detector for u in w.unknown}),
               tuple(Unknown(u.detector, Cause.TIMEOUT) for u in w.unknown))
        for w in windows
    ]  # fmt: skip
    assert decide(strict, phase, Scope(), lost).action >= decide(strict, phase, Scope(), answered).action


@settings(max_examples=400, deadline=None)
@given(rule_sets(), window_lists(), _PHASES, _SCOPES)
def test_a_detector_that_is_not_heard_of_a_text_decides_nothing_there(
    rules: dict[str, str], windows: list[Window], phase: Phase, scope: Scope
) -> None:
    """So a model or a judge need not be asked about it: whether it would find something or fail."""
    made = policy(**rules)
    windows = [replace(window, signals=tuple(_declared(signal) for signal in window.signals)) for window in windows]

    def without(window: Window) -> Window:
        bare = window.signals[0].key
        ours = heard(made, phase, bare.channel, bare.turn) | {None}
        signals = tuple(signal for signal in window.signals if signal.key.detector in ours)
        return Window(signals, tuple(one for one in window.unknown if one.detector in ours))

    one, other = decide(made, phase, scope, windows), decide(made, phase, scope, [without(window) for window in windows])
    assert (one.action, one.would, one.fired, one.message) == (other.action, other.would, other.fired, other.message)


def _declared(signal: Signal) -> Signal:
    """Only `cards` has entities; what a detector does not declare, the runner takes for a failure."""
    return signal if signal.key.detector == "cards" else replace(signal, key=replace(signal.key, entity=None))
