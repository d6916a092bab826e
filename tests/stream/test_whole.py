"""Lanes that are held to the end: tool calls, and what a rule over the answer may touch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from moderation.act import Names
from moderation.judge import enforced
from moderation.stream.lane import Lane
from moderation.stream.plan import Judged, TapeName
from moderation.stream.whole import Whole
from moderation.text import Channel, Phase, Span, Turn
from moderation.verdict import FULL_SCORE, Action, Finding, Fired, Key, Mode, Outcome, Severity, Unknown
from tests.playbook import ANSWER, CALL, Digits, Rule, ToyPlan, Word, deltas, play, timeout

PAIR = ToyPlan([Rule("number", Action.REDACT, also="word")], [Digits(), Word("key")])
OVER = ToyPlan([Rule("number", Action.REDACT, also="word", over=True)], [Digits(), Word("key")])


@dataclass
class Fixed(ToyPlan):
    """A plan for calls whose first argument cannot be replaced."""

    def fixed(self, tape: TapeName, text: str) -> frozenset[int]:
        return frozenset({0})

    def decide(self, phase: Phase, windows: Sequence[object]) -> Outcome:
        outcome = super().decide(phase, windows)  # type: ignore[arg-type]
        if any(s.key.detector == "uneditable" for w in windows for s in w.signals):  # type: ignore[attr-defined]
            rule = Fired("uneditable", len(windows) - 1, Action.BLOCK, Mode.ENFORCE, Severity.MEDIUM, None, (), (), False, False)
            return Outcome(Action.BLOCK, Action.BLOCK, (*outcome.fired, rule), (), False, None)
        return outcome


def test_the_arguments_of_one_call_are_one_window() -> None:
    seen = play(PAIR, deltas(CALL, ['{"a": "1234",', ' "b": "the key"}']))
    assert json.loads(seen.texts[CALL]) == {"a": "[removed: digits]", "b": "the key"}
    assert len(seen.final[0].windows) == 1


def test_a_rule_over_the_answer_edits_whichever_window_holds_its_finding() -> None:
    text = "1234 " + "w" * 99 + ". " + "the key"
    assert play(OVER, deltas(ANSWER, [text])).text == text.replace("1234", "[removed: digits]")


def test_what_had_to_be_edited_and_cannot_be_blocks() -> None:
    plan = Fixed([Rule("number", Action.REDACT)], [Digits()])
    seen = play(plan, deltas(CALL, ['{"a": "1234"}']))
    assert seen.stop is not None
    assert seen.texts == {}
    assert play(plan, deltas(CALL, ['{"a": "x", "b": "1234"}'])).stop is None


def test_names_come_back_in_a_call() -> None:
    names = Names()
    names.name("EMAIL_ADDRESS", 'a"@x.com')
    seen = play(PAIR, deltas(CALL, ['{"to": "<EMAIL_', 'ADDRESS_1>", "cc": "<EMAIL_ADDRESS_2>"}']), names=names)
    assert json.loads(seen.texts[CALL]) == {"to": 'a"@x.com', "cc": "<EMAIL_ADDRESS_2>"}


def test_values_named_in_an_answer_are_not_given_back() -> None:
    plan = ToyPlan([Rule("number", Action.PSEUDONYMISE)], [Digits()])
    names = Names()
    names.name("EMAIL_ADDRESS", "a@x.com")
    seen = play(plan, deltas(CALL, ['{"to": "1234", "and": "<NUMBER_1>"}']), names=names)
    assert json.loads(seen.texts[CALL]) == {"to": "<NUMBER_1>", "and": "<NUMBER_1>"}


def held(text: str, judged: Judged, plan: ToyPlan) -> Whole:
    lane = Lane(CALL, plan.reading(Phase.TOOL_CALL, Channel.TOOL_CALL), Key(Channel.TOOL_CALL, Turn.NEW), Phase.TOOL_CALL, True)
    lane.fed = len(text)
    return Whole(lane, text, tuple(plan.parts(CALL, text)), (judged,))


def test_a_failure_on_a_call_is_in_its_window() -> None:
    lost = timeout("number")
    whole = held('{"a": "x"}', Judged((Span(0, 1),), ((),), ((lost,),)), PAIR)
    ((window, _),) = whole.windows(PAIR)
    assert window.unknown == (Unknown("number", lost.cause),)


def test_a_call_that_is_taken_is_taken_whole() -> None:
    plan = ToyPlan([Rule("number", Action.REDACT)], [Digits("number")])
    found = Finding("number", "number", None, "digits", FULL_SCORE, None)
    whole = held('{"a": "secret"}', Judged((Span(0, 6),), ((found,),), ((),)), plan)
    ((window, seen),) = whole.windows(plan)
    whole.obey(enforced(plan.decide(Phase.TOOL_CALL, (window,)), 0), seen, plan, Names())
    made = whole.finish(plan, Names())
    assert [change.text for change in whole.lane.changes] == ['{"removed": "[removed: digits]"}']
    assert [change.action for change in made] == [Action.REDACT]
