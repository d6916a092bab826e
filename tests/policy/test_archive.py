"""The canonical form: what changes the hash and what does not, and a kept policy that decides again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from moderation.errors import UsageError
from moderation.policy.archive import COMPILED_FILE, ENGINE_FILE, archive, canonical, from_archive, policy_hash
from moderation.policy.decide import decide, needs
from moderation.policy.model import Policy
from moderation.text import Phase, Scope
from moderation.verdict import Window
from tests.policy.doubles import HEAD, VOCABULARY, compiled, policy
from tests.policy.test_decide_always import rule_sets, window_lists

RULE = "when: {any: [{detector: cards}, {category: weapons}]}, then: block, message: no_arms"
LISTED = """
format: 1
policy: {id: p}
detectors: {arms: {kind: words, lists: [arms]}}
word_lists: {arms: {file: lists/arms.txt}}
rules:
  - {id: r, phases: [input], when: {detector: arms}, then: block, tests: [
      {name: a, phase: input, given: {arms: {arms: high}}, expect: {action: block}},
      {name: b, phase: input, given: {}, expect: {action: allow}}]}
"""
_MATCH = "[{name: x, regex: ab, must: [ab], must_not: [b]}]"
PATTERN = LISTED.replace("kind: words, lists: [arms]", f"kind: patterns, patterns: {_MATCH}")


def _hash(source: str, files: dict[str, bytes] | None = None) -> str:
    return compiled(source, files or {"lists/arms.txt": b"one\ntwo\n"}).usable().ref.hash


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("format: 1\n", "# a comment\n\nformat: 1\n", "comments and space"),
        ("{id: p}", '{"id": "p"}', "quotes"),
        ("name: a", "name: another", "names of tests"),
        ("{name: a, phase: input", "{name: a, language: en, phase: input", "tests"),
        ("when: {detector: arms}", "when: {detector: {in: [arms]}}", "another way to say it"),
        ("phases: [input]", "phases: input", "one for a list of one"),
        ("then: block", "then: block, at_least: medium, mode: enforce", "defaults written out"),
    ],
)
def test_what_does_not_change_the_hash(old: str, new: str, note: str) -> None:
    assert old in LISTED
    assert _hash(LISTED) == _hash(LISTED.replace(old, new)), note


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("then: block", "then: block, at_least: high", "a level"),
        ("then: block", "then: block, label: x", "a label"),
        ("then: block", "then: block, in_history: block", "what happens in history"),
        ("phases: [input]", "phases: [input, output]", "a phase"),
        ("{id: p}", "{id: q}", "its id"),
        ("lists: [arms]", "lists: [arms], timeout: 1s", "a time-out"),
        ("lists: [arms]", "lists: [arms], on_failure: flag", "what a failure means"),
    ],
)
def test_what_changes_the_hash(old: str, new: str, note: str) -> None:
    assert old in LISTED
    assert _hash(LISTED) != _hash(LISTED.replace(old, new)), note


def test_the_contents_of_word_lists_count_and_their_order_does_not() -> None:
    one = _hash(LISTED, {"lists/arms.txt": b"one\ntwo\n"})
    assert one == _hash(LISTED, {"lists/arms.txt": b"# arms\ntwo\n\n  one\r\ntwo\n"})
    assert one != _hash(LISTED, {"lists/arms.txt": b"one\ntwos\n"})


def test_the_definition_of_a_pattern_counts_and_its_examples_do_not() -> None:
    assert "regex: ab" in PATTERN
    assert _hash(PATTERN) != _hash(PATTERN.replace("regex: ab", "regex: 'a[b]'"))
    assert _hash(PATTERN) == _hash(PATTERN.replace("must: [ab]", "must: [cab]"))


def test_the_order_of_rules_and_conditions_does_not_count() -> None:
    other = "when: {detector: keys}, then: redact"
    turned = "when: {any: [{category: weapons}, {detector: cards}]}, then: block, message: no_arms"
    assert policy(a=RULE, b=other).ref == policy(b=other, a=turned).ref


def test_the_canonical_form_has_sorted_keys_and_no_fractions() -> None:
    data = canonical(policy(a=RULE))
    assert json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == data
    json.loads(data, parse_float=lambda text: pytest.fail(f"a fraction: {text}"))


def test_an_archive_holds_all_that_was_read() -> None:
    made = compiled(LISTED, {"lists/arms.txt": b"one\n"}).usable()
    files = archive(made)
    assert files["policy.yaml"] == LISTED.lstrip("\n").encode()
    assert files["lists/arms.txt"] == b"one\n"
    assert files[ENGINE_FILE]
    again = from_archive(files)
    assert again == made
    assert again.word_lists["arms"].words == ("one",)
    assert archive(again) == files


@settings(max_examples=100, deadline=None)
@given(rule_sets(), window_lists())
def test_a_kept_policy_decides_alike(rules: dict[str, str], windows: list[Window]) -> None:
    made = policy(**rules)
    again = from_archive({COMPILED_FILE: archive(made)[COMPILED_FILE]})
    assert policy_hash(again) == made.ref.hash
    assert again.ref == made.ref
    for phase in Phase:
        assert decide(again, phase, Scope(), windows) == decide(made, phase, Scope(), windows)
        assert needs(again, phase) == needs(made, phase)


@pytest.mark.parametrize("broken", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1}', b"\xff"])
def test_what_is_no_archive_is_refused(broken: bytes) -> None:
    with pytest.raises(UsageError, match=r"compiled\.json"):
        from_archive({COMPILED_FILE: broken})
    with pytest.raises(UsageError):
        from_archive({})


def test_an_archive_that_was_altered_has_another_hash() -> None:
    files = archive(policy(a=RULE))
    files[COMPILED_FILE] = files[COMPILED_FILE].replace(b'"then":"block"', b'"then":"allow"')
    assert from_archive(files).ref != policy(a=RULE).ref


def test_messages_in_the_users_language_else_in_the_default() -> None:
    made: Policy = policy(a=RULE)
    assert made.say("no_arms", "zh", "X.0") == "不行。"
    assert made.say("no_arms", "fr", "X.0") == "Not here (X.0)."
    assert "X.0" in made.say(None, "zh", "X.0")
    assert "X.0" in made.say(None, "fr", "X.0")


def test_the_names_that_conditions_mention() -> None:
    made = policy(a="when: {tool: {not_in: [pay, kb]}, model: qwen3-max}, then: block")
    assert made.named("tool") == {"pay", "kb"}
    assert made.named("model") == {"qwen3-max"}
    assert made.named("route") == set()


def test_entities_are_written_out() -> None:
    head = HEAD.replace("kind: pii, entities: [EMAIL_ADDRESS, CN_ID_CARD]", "kind: pii, regions: [cn]")
    made = policy(r="when: {detector: cards}, then: flag", head=head)
    assert made.detectors["cards"].entities == ("CN_ID_CARD", "CN_MOBILE", "EMAIL_ADDRESS")
    assert made.detectors["keys"].entities == tuple(sorted(VOCABULARY.secrets))
    assert made.detectors["more"].entities == ("EMAIL_ADDRESS",)
