"""From findings to signals, and from an outcome back to spans."""

from __future__ import annotations

from dataclasses import replace

import pytest

from moderation.act import Change, Names
from moderation.judge import EVERYTHING, NOTHING, Seen, blocker, effect, enforced, see, shifted, window
from moderation.text import Channel, Origin, Span, Turn
from moderation.verdict import (
    FULL_SCORE,
    Action,
    Cause,
    Finding,
    Fired,
    Key,
    Mode,
    Outcome,
    Severity,
    Signal,
    Unknown,
)

BARE = Key(Channel.USER, Turn.NEW)
TEXT = "mail a@x.com or 4111"
MAIL = Finding("pii", "personal_data", "EMAIL_ADDRESS", "email", FULL_SCORE, Span(5, 12))
CARD = Finding("pii", "personal_data", "CREDIT_CARD", "payment_card", 700_000, Span(16, 20))
WHOLE = Finding("model", "harm", None, "harm", 900_000, None)


def seen(*findings: Finding) -> list[Seen]:
    return [see(BARE, finding, Origin.USER) for finding in findings]


def fired(action: Action, *findings: Finding, least: int = 0, **more: object) -> Fired:
    keys = tuple(dict.fromkeys(one.key for one in seen(*findings)))
    rule = Fired("r", 0, action, Mode.ENFORCE, Severity.MEDIUM, None, keys, (least,) * len(keys), False, False)
    return replace(rule, **more)  # type: ignore[arg-type]


def outcome(*rules: Fired) -> Outcome:
    return Outcome(Action.ALLOW, Action.ALLOW, rules, (), False, None)


def done(*rules: Fired, given: tuple[Finding, ...] = (MAIL, CARD)) -> tuple[tuple[Change, ...], Change | None]:
    made = effect(rules, seen(*given), lambda span: TEXT[span.start : span.end], Names(), lambda rule: "its category")
    return made.changes, made.whole


def test_a_window_holds_the_highest_score_and_the_count_of_each_key() -> None:
    low = replace(MAIL, score=1, span=Span(0, 1))
    for order in ([MAIL, low, CARD], [low, MAIL, CARD], [CARD, low, MAIL]):
        made = window(BARE, seen(*order))
        assert made.signals == (
            Signal(BARE, 0, 1),
            Signal(see(BARE, CARD, Origin.USER).key, 700_000, 1),
            Signal(see(BARE, MAIL, Origin.USER).key, FULL_SCORE, 2),
        )


def test_a_window_without_findings_still_says_that_there_is_text() -> None:
    assert window(BARE, ()).signals == (Signal(BARE, 0, 1),)


def test_failures_are_in_the_window_once() -> None:
    lost = [Unknown("b", Cause.ERROR), Unknown("a", Cause.TIMEOUT), Unknown("b", Cause.ERROR)]
    assert window(BARE, (), lost).unknown == (Unknown("a", Cause.TIMEOUT), Unknown("b", Cause.ERROR))


@pytest.mark.parametrize(
    ("rule", "spans", "note"),
    [
        (fired(Action.REDACT, MAIL), [MAIL.span], "only what satisfied it"),
        (fired(Action.REDACT, MAIL, CARD), [MAIL.span, CARD.span], "both keys"),
        (fired(Action.REDACT, MAIL, CARD, least=800_000), [MAIL.span], "a finding below the threshold stays"),
        (fired(Action.REDACT, CARD, least=700_000), [CARD.span], "one at the threshold goes"),
        (fired(Action.REDACT, MAIL, mode=Mode.MONITOR), [], "a monitored rule does nothing"),
        (fired(Action.FLAG, MAIL), [], "a flag does nothing"),
        (fired(Action.BLOCK, MAIL), [], "a block is not about spans"),
    ],
)
def test_what_a_rule_changes(rule: Fired, spans: list[Span | None], note: str) -> None:
    changes, whole = done(rule)
    assert ([change.span for change in changes], whole) == (spans, None), note


def test_labels_and_names() -> None:
    changes, _ = done(fired(Action.PSEUDONYMISE, MAIL), fired(Action.REDACT, CARD, rule="s"), fired(Action.REDACT, MAIL, label="own"))
    assert {change.text for change in changes} == {"<EMAIL_ADDRESS_1>", "[removed: payment_card]", "[removed: own]"}


def test_names_are_given_in_the_order_of_appearance_whatever_rules_are_called() -> None:
    other = replace(MAIL, span=Span(0, 4))
    names = Names()
    effect([fired(Action.PSEUDONYMISE, MAIL)], seen(MAIL, other), lambda span: TEXT[span.start : span.end], names, lambda rule: "")
    assert (names.value("<EMAIL_ADDRESS_1>"), names.value("<EMAIL_ADDRESS_2>")) == ("mail", "a@x.com")


def test_a_finding_about_the_text_as_a_whole_takes_all_of_it() -> None:
    changes, whole = done(fired(Action.REDACT, WHOLE), given=(WHOLE,))
    assert changes == ()
    assert whole == Change(Span(0, EVERYTHING), Action.REDACT, "[removed: harm]", "harm")


def test_a_rule_that_fired_on_a_failure_takes_all_and_names_its_category() -> None:
    _, whole = done(fired(Action.PSEUDONYMISE, on_unknown=True, whole=True), given=())
    assert whole == Change(Span(0, EVERYTHING), Action.REDACT, "[removed: its category]", "its category")


def test_of_two_labels_for_the_whole_the_smaller_is_taken() -> None:
    rules = (fired(Action.REDACT, whole=True, label="b"), fired(Action.REDACT, whole=True, label="a", rule="z"))
    for order in (rules, rules[::-1]):
        _, whole = done(*order, given=())
        assert whole is not None
        assert whole.kind == "a"


def test_which_rules_are_about_a_window() -> None:
    mine, other, over = (fired(Action.REDACT, MAIL, window=n) for n in (0, 1, -1))
    watched = fired(Action.REDACT, MAIL, mode=Mode.MONITOR)
    assert enforced(outcome(mine, other, over, watched), 0) == (mine, over)


@pytest.mark.parametrize(
    ("rules", "expected", "note"),
    [
        ([fired(Action.REDACT, MAIL)], None, "no rule blocks"),
        ([fired(Action.BLOCK, MAIL, mode=Mode.MONITOR)], None, "a monitored rule does not block"),
        ([fired(Action.BLOCK, MAIL, rule="b"), fired(Action.BLOCK, MAIL, rule="a")], "a", "the smaller id"),
        ([fired(Action.BLOCK, MAIL, rule="a"), fired(Action.BLOCK, MAIL, rule="b", severity=Severity.HIGH)], "b", "the more severe"),
    ],
)
def test_who_blocks(rules: list[Fired], expected: str | None, note: str) -> None:
    found = blocker(outcome(*rules))
    assert (found.rule if found else None) == expected, note


def test_shifting() -> None:
    assert shifted(MAIL, 10).span == Span(15, 22)
    assert shifted(MAIL, 0) is MAIL
    assert shifted(WHOLE, 10) is WHOLE
    assert (see(BARE, MAIL, None).end, see(BARE, WHOLE, None).end) == (12, 0)
    assert effect((), (), lambda span: "", Names(), lambda rule: "") == NOTHING
