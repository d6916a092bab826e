"""What is wrong with a policy that can be read: gaps, dead ends and promises that it cannot keep. One small check each.

Knows the compiled policy and where its parts stand; reads no YAML.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from moderation.policy.conditions import Atom, Condition, Group, Kind, atoms, positive
from moderation.policy.detectors import Defined
from moderation.policy.faults import Faults, Grade, Place, listed, shown
from moderation.policy.model import PLACEHOLDERS, Over, Policy, Rule, Test, spoken
from moderation.policy.places import Lines
from moderation.policy.proof import proves
from moderation.text import Phase, Turn
from moderation.verdict import Action, Mode, OnFailure, Severity

_SPANS = (Action.PSEUDONYMISE, Action.REDACT)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def lint(policy: Policy, specs: Mapping[str, Defined], faults: Faults, lines: Lines) -> None:
    """Add every fault that the compiled policy shows. `specs` also holds detectors that this version does not build."""
    readable = not faults.broken
    _unused(policy, specs, faults, lines, frozenset() if readable else lines.words)
    if readable:
        _cited(policy, faults, lines)
    _messages(policy, faults, lines)
    _languages(policy, specs, faults)
    for rule in policy.rules:
        used = sorted({name for atom in atoms(rule.when) for name in atom.able})
        _guards(rule, specs, faults)
        _failures(rule, used, specs, faults)
        _spans(rule, specs, faults)
        _reach(rule, faults)
        whole = [_possible(policy, test, specs, faults) for test in rule.tests if readable]
        if rule.id not in lines.torn and all(whole):
            _covered(rule, faults)


def _unused(policy: Policy, specs: Mapping[str, Defined], faults: Faults, lines: Lines, mentioned: frozenset[str]) -> None:
    every = [atom for rule in policy.rules for atom in atoms(rule.when)]
    detectors = {name for atom in every for name in atom.able}
    lists = {name for d in specs.values() for name in d.spec.lists}
    messages = {rule.message for rule in policy.rules}
    cited = {name for rule in policy.rules for name in rule.cite}
    for what, defined, used in (
        ("detector", {name: d.place for name, d in specs.items()}, detectors),
        ("word list", lines.lists, lists),
        ("message", lines.messages, messages),
        ("regulation", lines.regulations, cited),
    ):
        for name, place in defined.items():
            gives = specs[name].spec.categories if what == "detector" else ()
            if name not in used and not mentioned & {name, *gives}:
                faults.add("QP021", place, f"the {what} {shown(name)} is never used. Use it in a rule, or leave it out.")


def _messages(policy: Policy, faults: Faults, lines: Lines) -> None:
    for name, texts in policy.messages.items():
        place = lines.messages[name]
        for language in policy.languages if name in lines.whole_messages else ():
            if spoken(texts, language) is None:
                worst = language == policy.default_language
                which = "the default language" if worst else "the language"
                faults.add(
                    "QP601", place, f"the message {shown(name)} lacks {which} '{language}'.", None if worst else Grade.WARNING
                )
        for language, text in texts.items():
            for placeholder in _PLACEHOLDER.findall(text):
                if placeholder not in PLACEHOLDERS:
                    known = listed(f"{{{p}}}" for p in PLACEHOLDERS)
                    where = lines.texts.get((name, language), place)
                    faults.add("QP601", where, f"{shown('{' + placeholder + '}')} is no placeholder. Known: {known}.")


def _languages(policy: Policy, specs: Mapping[str, Defined], faults: Faults) -> None:
    for name, defined in specs.items():
        languages = defined.spec.languages
        if languages is None or defined.spec.on_unsupported is not OnFailure.IGNORE:
            continue
        missing = [tag for tag in policy.languages if tag.split("-")[0] not in {own.split("-")[0] for own in languages}]
        if missing:
            faults.add("QP505", defined.place, f"the detector {shown(name)} does not support {listed(missing)}; texts in it pass"
                       " unread. Add a detector for it, or set on_unsupported.")  # fmt: skip


def _cited(policy: Policy, faults: Faults, lines: Lines) -> None:
    enforced = {name for rule in policy.rules if rule.mode is Mode.ENFORCE for name in rule.cite}
    cited = {name for rule in policy.rules for name in rule.cite}
    for name, place in lines.regulations.items():
        if name in cited - enforced:
            faults.add("QP603", place, f"no enforced rule cites the regulation {shown(name)}.")
    for rule in policy.rules:
        if rule.severity >= Severity.HIGH and not rule.cite:
            faults.add("QP603", rule.place, f"the rule {shown(rule.id)} has severity {rule.severity.word} and cites nothing.")


def _under_none(condition: Condition) -> Iterator[Atom]:
    match condition:
        case Group(kind=Kind.NONE):
            yield from atoms(condition)
        case Group():
            for inner in condition.of:
                yield from _under_none(inner)
        case Atom():
            return


def _guards(rule: Rule, specs: Mapping[str, Defined], faults: Faults) -> None:
    loose = {n for atom in _under_none(rule.when) for n in atom.able if specs[n].spec.on_failure is OnFailure.IGNORE}
    for name in sorted(loose):
        faults.add("QP105", rule.place, f"the rule {shown(rule.id)} has {shown(name)} under `none`, and its on_failure is ignore:"
                   " when it fails, the rule does nothing. Set on_failure: assume_match.")  # fmt: skip
    if rule.then is Action.ALLOW:
        faults.add("QP106", rule.place, f"the rule {shown(rule.id)} allows, and so does nothing: what no rule stops is allowed.")


def _failures(rule: Rule, used: list[str], specs: Mapping[str, Defined], faults: Faults) -> None:
    if rule.severity < Severity.HIGH or rule.mode is not Mode.ENFORCE or rule.then <= Action.FLAG:
        return
    for name in used:
        failure = specs[name].spec.on_failure
        if failure is not OnFailure.ASSUME_MATCH:
            faults.add("QP501", rule.place, f"the rule {shown(rule.id)} has severity {rule.severity.word}, and the on_failure of"
                       f" {shown(name)} is {failure.name.lower()}: a failure lets through what it is there to stop.")  # fmt: skip


def _spans(rule: Rule, specs: Mapping[str, Defined], faults: Faults) -> None:
    if rule.then not in _SPANS:
        return
    word = rule.then.word
    if not rule.needs_finding:
        faults.add("QP504", rule.place, f"the rule {shown(rule.id)} can fire without a finding, and then there is nothing to"
                   f" {word}. Let each way to fire need a category, detector or entity, or use block.")  # fmt: skip
    blind = sorted({n for atom in positive(rule.when) for n in atom.able if not specs[n].spec.gives_spans})
    if blind:
        faults.add("QP504", rule.place, f"the rule {shown(rule.id)} would {word} what {listed(blind)} finds, without a span."
                   " Use block, or another detector.")  # fmt: skip
    outwards = [phase.value for phase in (Phase.OUTPUT, Phase.TOOL_CALL) if phase in rule.phases]
    if rule.then is Action.PSEUDONYMISE and outwards:
        faults.add("QP506", rule.place, f"the rule {shown(rule.id)} pseudonymises in {listed(outwards)}, where nothing turns"
                   " the names back into values. Use redact.")  # fmt: skip


def _reach(rule: Rule, faults: Faults) -> None:
    if rule.over is not Over.WINDOW and Phase.OUTPUT in rule.phases and rule.mode is Mode.ENFORCE and rule.then > Action.FLAG:
        faults.add("QP503", rule.place, f"the rule {shown(rule.id)} looks over the whole answer, so a stream of its channels is"
                   " held to the end.")  # fmt: skip


def _covered(rule: Rule, faults: Faults) -> None:
    if rule.mode is Mode.OFF or rule.then is Action.ALLOW:
        return
    grade = Grade.WARNING if rule.mode is Mode.MONITOR else None
    for wanted, what in ((True, "that must match"), (False, "that must not match")):
        if not any(proves(rule, test) is wanted for test in rule.tests):
            faults.add("QP301", rule.place, f"the rule {shown(rule.id)} has no test {what}. Add one under `tests`.", grade)


def _possible(policy: Policy, test: Test, specs: Mapping[str, Defined], faults: Faults) -> bool:
    """Whether what a test expects can come out of its phase."""
    history = test.context.get("turn") == Turn.HISTORY
    enforced, every = {Action.ALLOW}, {Action.ALLOW}
    for rule in policy.rules_in(test.phase):
        actions = {rule.then}
        if rule.then is Action.BLOCK and not rule.in_history_block and history:
            actions = {Action.REDACT}
        if rule.then in _SPANS and test.phase is Phase.TOOL_CALL:
            actions.add(Action.BLOCK)
        used = {name for atom in atoms(rule.when) for name in atom.able}
        if any(OnFailure.FLAG in (specs[n].spec.on_failure, specs[n].spec.on_unsupported) for n in used):
            actions.add(Action.FLAG)
        every |= actions
        enforced |= actions if rule.mode is Mode.ENFORCE else set()
    possible = True
    for key, wanted, can in (("action", test.expect.action, enforced), ("would", test.expect.would, every)):
        if wanted is not None and wanted not in can:
            possible = False
            words = listed(a.word for a in sorted(can))
            where = Place(test.place.line, test.place.column)
            faults.add("QP302", where, f"the test {shown(test.name)} expects {key}: {wanted.word}, and the rules of the phase"
                       f" {test.phase.value} can only come to {words}.")  # fmt: skip
    return possible
