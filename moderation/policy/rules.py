"""The rules of a policy: from located nodes to Rule, with bound conditions and tests. Knows nothing of what is unwise (lint)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from moderation.policy.conditions import Atom, Condition, Group, Kind, Test, atoms, needs_finding, rebind
from moderation.policy.detectors import LEVELS, Defined
from moderation.policy.faults import Place, listed, meant, shown
from moderation.policy.fields import Fields
from moderation.policy.keys import ACTIONS_LATER, AT_LEAST_N, ATOM, GROUPS, LANGUAGE, RULE, RULE_LATER, VALUES
from moderation.policy.load import Broken, Entries, Items, Node, Scalar
from moderation.policy.model import RESERVED, Over, Regulation, Rule
from moderation.policy.places import Lines
from moderation.policy.tests import read_tests
from moderation.text import Channel, Origin, Phase, Turn
from moderation.verdict import Action, Level, Mode, Severity

ACTIONS = {a.word: a for a in Action if a.word not in ACTIONS_LATER}
PHASES = {p.value: p for p in Phase}
_WORDS = {
    "channel": {c.value: c.value for c in Channel},
    "turn": {t.value: t.value for t in Turn},
    "span_origin": {o.value: o.value for o in Origin},
}
_MAX_RULES = 2_000


@dataclass(frozen=True, slots=True)
class Known:
    """What rules may refer to."""

    detectors: Mapping[str, Defined]
    messages: Mapping[str, Mapping[str, str]]
    regulations: Mapping[str, Regulation]
    mode: Mode

    @property
    def categories(self) -> set[str]:
        return {c for d in self.detectors.values() for c in d.spec.categories}

    @property
    def entities(self) -> set[str]:
        return {e for d in self.detectors.values() for e in d.spec.entities}


def rules(fields: Fields, lines: Lines, known: Known, node: Node | None) -> list[Rule]:
    found: dict[str, Rule] = {}
    nodes = fields.items(node, "rules")
    if node is not None and not nodes and not isinstance(node, Broken):
        fields.fault("QP015", node.place, "a policy needs at least one rule.")
    if len(nodes) > _MAX_RULES:
        fields.fault("QP013", nodes[_MAX_RULES].place, f"more than {_MAX_RULES} rules.")
    names = {
        value.raw
        for one in nodes
        for key, value in _entries(one) if key.raw == "id" and isinstance(value, Scalar)
    }  # fmt: skip
    for one in nodes[:_MAX_RULES]:
        rule = _rule(fields, lines, known, one, names)
        if rule is None:
            continue
        if rule.id in found:
            first = found[rule.id].place.line
            fields.fault("QP022", rule.place, f"the rule {shown(rule.id)} stands in line {first} already. Give each its own id.")
        elif rule.id in RESERVED:
            fields.fault("QP022", rule.place, f"{shown(rule.id)} is the sidecar's own word; take another id.")
        if any(key.raw == "tests" and len(_items(value)) > len(rule.tests) for key, value in _entries(one)):
            lines.torn.add(rule.id)
        found[rule.id] = rule
    return list(found.values())


def _entries(node: Node) -> tuple[tuple[Scalar, Node], ...]:
    return node.entries if isinstance(node, Entries) else ()


def _items(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, Items) else ()


def _rule(fields: Fields, lines: Lines, known: Known, node: Node, names: set[str]) -> Rule | None:
    said = fields.closed(node, "a rule", RULE, RULE_LATER, need=("id", "phases", "when", "then"))
    name = fields.name(said.get("id"), "a rule's id")
    at_least = fields.word(said.get("at_least"), "a level", LEVELS) or Level.MEDIUM
    phases = [fields.word(one, "a phase", PHASES) for one in fields.many(said.get("phases"), "phases")]
    condition = _condition(fields, known, said["when"]) if "when" in said else None
    then = fields.word(said.get("then"), "an action", ACTIONS, ACTIONS_LATER)
    cite = [_of(fields, one, "regulation", known.regulations) for one in fields.many(said.get("cite"), "cite")]
    message = _of(fields, said.get("message"), "message", known.messages)
    severity = fields.word(said.get("severity"), "a severity", {s.word: s for s in Severity}) or Severity.MEDIUM
    mode = fields.word(said.get("mode"), "a mode", {m.value: m for m in Mode})
    over = fields.word(said.get("over"), "a word for over", {o.value: o for o in Over}) or Over.WINDOW
    history = fields.word(said.get("in_history"), "a word for in_history", {"remove": "remove", "block": "block"})
    label = fields.line(said.get("label"), "a label", 80)
    title = fields.line(said.get("title"), "a title") or ""
    tests = read_tests(fields, known.detectors, said.get("tests"), names)
    if condition is None or name is None:
        return None
    bound = rebind(condition, at_least, {name: d.spec for name, d in known.detectors.items()})
    assert "when" in said
    if then is None or (mode is None and "mode" in said):
        lines.torn.add(name)
    _reachable(fields, known, bound, at_least, said["when"].place)
    return Rule(
        name, title, tuple(c for c in cite if c), severity, frozenset(p for p in phases if p), bound, at_least,
        Action.FLAG if then is None else then, message, label, mode or known.mode, history == "block", over, tests, node.place,
        needs_finding(bound),
    )  # fmt: skip


def _of(fields: Fields, node: Node | None, what: str, known: Mapping[str, object]) -> str | None:
    """A reference to something that the policy defines."""
    name = fields.name(node, f"a {what}'s id")
    if name is None or name in known:
        return name
    assert node is not None
    fields.fault("QP020", node.place, f"no {what} is called {shown(name)}.{meant(name, known)}")
    return None


def _reachable(fields: Fields, known: Known, condition: Condition, at_least: Level, place: Place) -> None:
    """Every atom about findings can be satisfied by some detector at its level."""
    for atom in atoms(condition):
        if not atom.finding or atom.able:
            continue
        level = atom.at_least or at_least
        lowered = rebind(Atom(atom.tests, Level.LOW), Level.LOW, {name: d.spec for name, d in known.detectors.items()})
        assert isinstance(lowered, Atom)
        asked = ", ".join(test.key for test in atom.tests)
        if lowered.able:
            names = listed(sorted(lowered.able))
            fields.fault("QP030", place, f"{names} cannot reach the level {level.word}: the rule could never fire.")
        elif all(d.built for d in known.detectors.values()):
            fields.fault("QP020", place, f"no detector gives what {asked} asks for together: the rule could never fire.")


def _condition(fields: Fields, known: Known, node: Node) -> Condition | None:
    if not isinstance(node, Entries):
        fields.entries(node, "a condition")
        return None
    groups = [key.raw for key, _ in node.entries if key.raw in GROUPS]
    if not groups:
        return _read_atom(fields, known, node)
    if len(node.entries) > 1:
        other = next((key for key, _ in node.entries if key.raw != groups[0]), node.entries[0][0])
        fields.fault("QP011", other.place, f"'{groups[0]}' must stand alone in a condition, not beside {shown(other.raw)}."
                     " Put both into one `all: [...]`.")  # fmt: skip
        return None
    kind, inner = Kind(groups[0]), node.entries[0][1]
    n: int | None = None
    if kind is Kind.AT_LEAST_N:
        said = fields.closed(inner, "at_least_n", AT_LEAST_N, need=("n", "of"))
        nodes = fields.items(said.get("of"), "of")
        n = fields.whole(said.get("n"), "n", 1, max(1, len(nodes)))
        if n is None:
            return None
        place = said["of"].place if "of" in said else inner.place
    else:
        nodes, place = fields.items(inner, f"'{kind.value}'"), inner.place
    if not nodes:
        if not isinstance(inner, Broken | Scalar):
            fields.fault("QP011", place, f"'{kind.value}' must be a list that is not empty.")
        return None
    parts = [_condition(fields, known, one) for one in nodes]
    whole = tuple(part for part in parts if part is not None)
    if len(whole) < len(parts):
        return None
    return Group(kind, whole, n or {Kind.ALL: len(whole), Kind.ANY: 1}.get(kind, 0))


def _read_atom(fields: Fields, known: Known, node: Entries) -> Atom | None:
    said = fields.closed(node, "a condition", (*ATOM, *GROUPS))
    whole = len(said) == len(node.entries)
    level = fields.word(said.pop("at_least", None), "a level", LEVELS)
    if whole and not said:
        fields.fault("QP015", node.place, f"a condition needs one of {listed((*GROUPS, *ATOM), 20)}.")
    tests = [_test(fields, known, key, value) for key, value in sorted(said.items())]
    good = tuple(test for test in tests if test is not None)
    return Atom(good, level) if whole and good and len(good) == len(tests) else None


def _test(fields: Fields, known: Known, key: str, node: Node) -> Test | None:
    among, nodes = True, fields.many(node, key) if not isinstance(node, Entries) else ()
    if isinstance(node, Entries):
        said = fields.closed(node, f"the values of {key}", VALUES)
        if len(said) != 1:
            if len(said) > 1 or not node.entries:
                fields.fault("QP011", node.place, f"{key} takes either 'in' or 'not_in', with a list.")
            return None
        among = "in" in said
        nodes = fields.many(next(iter(said.values())), key)
    values = {_value(fields, known, key, one) for one in nodes}
    return Test(key, frozenset(v for v in values if v), among) if values and None not in values else None


def _value(fields: Fields, known: Known, key: str, node: Node) -> str | None:
    if key in _WORDS:
        return fields.word(node, f"a word for {key}", _WORDS[key])
    if key == "language":
        return fields.name(node, "a language", LANGUAGE)
    if key in ("category", "detector", "entity"):
        name = fields.name(node, f"a {key}")
        defined: set[str] = {"category": known.categories, "detector": set(known.detectors), "entity": known.entities}[key]
        later = any(not d.built for d in known.detectors.values()) and key == "entity"
        if name is None or name in defined or later:
            return name
        owner = "no detector is called" if key == "detector" else f"no detector gives the {key}"
        hint = meant(name, defined) or f" Known: {listed(sorted(defined), 30)}."
        fields.fault("QP020", node.place, f"{owner} {shown(name)}.{hint}")
        return None
    return fields.line(node, f"a {key}", 200)
