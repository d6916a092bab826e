"""What the user is told: in the language, in its nearest relative, in the policy's default."""

from __future__ import annotations

import pytest

from moderation.policy.model import REFUSAL, spoken
from tests.policy.doubles import compiled

SOURCE = """
format: 1
policy: {id: p, default_language: fr-CH, languages: [fr-CH, zh-CN, de]}
detectors: {cards: {kind: pii}}
messages: {m: {fr: F, zh: Z, zh-TW: T, de-CH: D}}
rules:
  - {id: r, phases: [input], when: {detector: cards}, then: block, message: m, tests: [
      {name: a, phase: input, given: {cards: {personal_data: high}}, expect: {action: block}},
      {name: b, phase: input, given: {cards: {}}, expect: {action: allow}}]}
"""


@pytest.mark.parametrize(
    ("message", "language", "text", "note"),
    [
        ("m", "zh", "Z", "the same"),
        ("m", "zh-CN", "Z", "a region's reader reads the language"),
        ("m", "zh-tw", "T", "the same, whatever the case"),
        ("m", "zh-Hant-HK", "Z", "the language before another region"),
        ("m", "de", "D", "one of its regions"),
        ("m", "de-AT", "D", "one of its regions"),
        ("m", "zha", "F", "a tag is no beginning of a word"),
        ("m", "und", "F", "the default's language"),
        (None, "zh-CN", REFUSAL["zh"], "the sidecar's own words too"),
    ],
)
def test_a_message_is_read_in(message: str | None, language: str, text: str, note: str) -> None:
    policy = compiled(SOURCE).policy
    assert policy is not None
    assert policy.say(message, language, "") == text.replace("{decision_id}", ""), note


def test_a_language_is_not_missing_where_its_relative_is_there() -> None:
    assert compiled(SOURCE).faults == ()
    lacking = [fault.message for fault in compiled(SOURCE.replace("fr: F, zh: Z, zh-TW: T", "fro: F")).faults]
    assert lacking == ["the message 'm' lacks the default language 'fr-CH'.", "the message 'm' lacks the language 'zh-CN'."]


def test_of_several_regions_always_the_same_one() -> None:
    assert spoken(["de-CH", "de-AT"], "de") == spoken(["de-AT", "de-CH"], "de-DE") == "de-AT"
    assert spoken([], "de") is None
