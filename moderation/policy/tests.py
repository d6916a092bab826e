"""The tests that stand inside a policy: from located nodes to Test. Running them is cases.py's."""

from __future__ import annotations

from collections.abc import Mapping

from moderation.policy.detectors import LEVELS, Defined
from moderation.policy.faults import listed, meant, shown
from moderation.policy.fields import Fields
from moderation.policy.keys import (
    ACTIONS_LATER,
    CONTEXT,
    CONTEXT_LATER,
    EXPECT,
    EXPECT_LATER,
    LANGUAGE,
    TEST,
    TEST_LATER,
)
from moderation.policy.load import Entries, Node, Scalar
from moderation.policy.model import Expect, Test
from moderation.text import Channel, Origin, Phase, Turn
from moderation.verdict import Action, Cause, Level

_ACTIONS = {a.word: a for a in Action if a.word not in ACTIONS_LATER}
_CAUSES = {c.value: c.value for c in Cause}
_LEVELS = LEVELS | {"none": Level.NONE}
_CONTEXT_WORDS = {
    "channel": {c.value: c.value for c in Channel},
    "turn": {t.value: t.value for t in Turn},
    "span_origin": {o.value: o.value for o in Origin},
}


def read_tests(fields: Fields, detectors: Mapping[str, Defined], node: Node | None, rules: set[str]) -> tuple[Test, ...]:
    """The tests of one rule; `rules` are the ids of all rules."""
    found = (_test(fields, detectors, one, rules) for one in fields.items(node, "tests"))
    return tuple(test for test in found if test is not None)


def _test(fields: Fields, detectors: Mapping[str, Defined], node: Node, rules: set[str]) -> Test | None:
    said = fields.closed(node, "a test", TEST, TEST_LATER, need=("name", "phase"))
    name = fields.line(said.get("name"), "a test's name")
    phase = fields.word(said.get("phase"), "a phase", {p.value: p for p in Phase})
    language = fields.name(said.get("language"), "a language", LANGUAGE)
    text = fields.text(said.get("text"), "text")
    given = _given(fields, detectors, said.get("given"))
    context = _context(fields, said.get("context"))
    if "text" in said and "given" in said:
        fields.fault("QP302", said["given"].place, "a test has either a text or given signals. Make two tests of it.")
    elif not {"text", "given", "context"} & set(said) and isinstance(node, Entries):
        fields.fault("QP302", node.place, "a test needs a text, given signals or a context.")
    expect = _expect(fields, said.get("expect"), rules)
    if expect is None:
        if isinstance(node, Entries) and "expect" not in said:
            fields.fault("QP302", node.place, "a test must say what it expects: `expect: {action: block}`.")
        return None
    if expect.text is not None and "text" not in said and isinstance(node, Entries):
        fields.fault("QP302", said["expect"].place, "given signals have no text that could be compared. Give the test a text.")
    if name is None or phase is None:
        return None
    return Test(name, phase, node.place, expect, language, given, text, context)


def _expect(fields: Fields, node: Node | None, rules: set[str]) -> Expect | None:
    if node is None:
        return None
    said = fields.closed(node, "expect", EXPECT, EXPECT_LATER)
    action = fields.word(said.get("action"), "an action", _ACTIONS, ACTIONS_LATER)
    would = fields.word(said.get("would"), "an action", _ACTIONS, ACTIONS_LATER)
    degraded = fields.yes(said.get("degraded"), "degraded")
    # An expected text may be empty or odd: it is compared, not obeyed.
    text = said.get("text")
    words = text.value if isinstance(text, Scalar) and isinstance(text.value, str) else None
    if text is not None and words is None:
        fields.text(text, "text")
    names: list[str] = []
    for one in fields.items(said.get("rules"), "rules"):
        name = fields.name(one, "a rule's id")
        if name and name not in rules:
            fields.fault("QP302", one.place, f"no rule is called {shown(name)}.{meant(name, rules)}")
        elif name:
            names.append(name)
    if isinstance(node, Entries) and "action" not in said:
        fields.fault("QP302", node.place, "expect must name an action: `expect: {action: allow}`.")
    if action is None:
        return None
    return Expect(action, would, tuple(names) if "rules" in said else None, degraded, words)


def _given(fields: Fields, detectors: Mapping[str, Defined], node: Node | None) -> dict[str, Mapping[str, Level] | str]:
    found: dict[str, Mapping[str, Level] | str] = {}
    for key, value in fields.entries(node, "given"):
        defined = detectors.get(key.raw)
        if defined is None:
            fields.fault("QP302", key.place, f"no detector is called {shown(key.raw)}.{meant(key.raw, detectors)}")
            continue
        if isinstance(value, Scalar):
            cause = fields.word(value, "a cause", _CAUSES)
            if cause:
                found[key.raw] = cause
            continue
        levels: dict[str, Level] = {}
        for category, level_node in fields.entries(value, f"the signals of {shown(key.raw)}"):
            level = fields.word(level_node, "a level", _LEVELS)
            if category.raw not in defined.spec.categories:
                known = listed(defined.spec.categories)
                hint = meant(category.raw, defined.spec.categories) or f" It gives: {known}."
                fields.fault("QP302", category.place, f"{shown(key.raw)} does not give {shown(category.raw)}.{hint}")
            elif level and level not in defined.spec.levels:
                own = listed(one.word for one in defined.spec.levels)
                fields.fault("QP302", level_node.place, f"{shown(key.raw)} has no level {level.word}. It has: {own}.")
            elif level is not None:
                levels[category.raw] = level
        found[key.raw] = levels
    return found


def _context(fields: Fields, node: Node | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in fields.closed(node, "context", CONTEXT, CONTEXT_LATER).items():
        words = _CONTEXT_WORDS.get(key)
        text = fields.word(value, f"a word for {key}", words) if words else fields.line(value, key, 200)
        if text:
            found[key] = text
    return found
