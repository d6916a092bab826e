"""Engines in a policy: what a detector of the kinds model and http says of its model or judge. From located nodes to EngineSpec.

Knows of engines what the vocabulary tells. A value that might be a key is never shown: people paste keys where names belong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from moderation.policy.faults import listed, meant, shown
from moderation.policy.fields import Fields
from moderation.policy.keys import ENGINE, PIN, URL, VARIABLE
from moderation.policy.load import Node, Scalar
from moderation.policy.model import Described, EngineSpec, EngineWords, Option, Vocabulary

MAX_LABEL = 100


def engine_of(
    fields: Fields, vocabulary: Vocabulary, kind: str | None, said: Mapping[str, Node], what: str, at: Node
) -> EngineSpec | None:
    """The engine of a detector of this kind; None where it cannot be told."""
    known = {name: words for (one, name), words in vocabulary.engines.items() if one == kind}
    if "engine" not in said:
        fields.fault("QP015", at.place, f"{what} lacks 'engine'. Known: {listed(sorted(known))}.")
        return None
    name = fields.word(said["engine"], f"an engine of the kind {kind}", {one: one for one in known})
    if name is None:
        return None
    words = known[name]
    for key in sorted(words.needs - said.keys() - {"categories"}):
        fields.fault("QP015", at.place, f"{what} lacks '{key}', which the engine {name} needs.")
    for key in ENGINE:
        if key in said and key not in words.needs | words.takes | {"engine", "options"}:
            fields.fault("QP010", said[key].place, f"the engine {name} takes no '{key}'. Leave it out.")
    pin = _pin(fields, said.get("pin"))
    model = fields.line(said.get("model"), "model")
    return EngineSpec(
        name,
        model,
        _url(fields, said.get("url")),
        _variable(fields, said.get("key_env"), "key_env"),
        _labels(fields, said.get("labels")),
        _options(fields, name, words, said.get("options"), at),
        pin,
    )


def described(
    fields: Fields, words: EngineWords | None, engine: EngineSpec | None, said: Mapping[str, Node], what: str, at: Node
) -> tuple[EngineSpec | None, Described | None]:
    """What the model of a detector says of itself, and the engine with its pin; no engine where there is no such model."""
    if engine is None or words is None or words.describe is None:
        return engine, None
    if engine.model is None:
        return None, None
    found = words.describe(engine.model)
    if isinstance(found, str):
        fields.fault("QP032", said["model"].place, f"{what} has no model: {found}")
        return None, None
    for label in sorted(engine.labels.keys() - found.labels.keys()):
        hint = meant(label, found.labels) or f" Known: {listed(found.labels, 20)}."
        fields.fault("QP020", said["labels"].place, f"the model {shown(engine.model)} has no label {shown(label)}.{hint}")
    if engine.pin is None and "pin" not in said and words.pinned:
        fields.fault("QP015", at.place, f"{what} lacks 'pin'. That of the model that lies there is {found.pin}.")
    elif engine.pin is not None and engine.pin != found.pin:
        fields.fault("QP032", said["pin"].place, f"the model that lies there is another than {what} pins: {found.pin}.")
    return replace(engine, pin=found.pin), found


def categories_of(
    fields: Fields,
    words: EngineWords | None,
    engine: EngineSpec | None,
    model: Described | None,
    named: tuple[str, ...],
    told: Sequence[Node],
    what: str,
    at: Node,
) -> tuple[str, ...]:
    """What its findings count as: what the policy says, or all that the engine and its labels give."""
    if engine is None or words is None:
        return named
    own = {engine.labels.get(label, category) for label, category in model.labels.items()} if model is not None else set()
    gives = words.categories | set(engine.labels.values()) | own
    if not told:
        if not gives:
            fields.fault("QP015", at.place, f"{what} lacks 'categories': the engine {engine.name} judges what they name.")
        return tuple(sorted(gives))
    wrong = set(named) - gives if words.categories or own else set()
    for one in told if wrong else ():
        if isinstance(one, Scalar) and one.raw in wrong:
            hint = meant(one.raw, gives) or f" It gives: {listed(sorted(gives), 20)}."
            why = f"the engine {engine.name} gives no category {shown(one.raw)}.{hint} `labels` gives a label another category."
            fields.fault("QP020", one.place, why)
    # One mistake, one fault: rules about what it does give are well.
    return tuple(dict.fromkeys(named)) if not wrong else tuple(sorted(gives | wrong))


def _pin(fields: Fields, node: Node | None) -> str | None:
    text = fields.line(node, "pin")
    if text is None or PIN.fullmatch(text):
        return text
    assert isinstance(node, Scalar)
    fields.fault(
        "QP012", node.place, "pin must be sha256: and 64 hexadecimal digits, as `moderation classifiers show` tells."
    )
    return None


def _url(fields: Fields, node: Node | None) -> str | None:
    text = fields.line(node, "url", 500)
    if text is None or URL.fullmatch(text):
        return text.rstrip("/") if text else None
    assert isinstance(node, Scalar)
    fields.fault("QP012", node.place, "url must be http:// or https://, a host and a path, without user, query or spaces.")
    return None


def _variable(fields: Fields, node: Node | None, key: str) -> str | None:
    text = fields.line(node, key, 500)
    if text is None or VARIABLE.fullmatch(text):
        return text
    assert isinstance(node, Scalar)
    fields.fault(
        "QP012", node.place, f"{key} must be the name of an environment variable, such as GUARD_KEY, never the key itself."
    )
    return None


def _labels(fields: Fields, node: Node | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in fields.entries(node, "labels") if node is not None else ():
        label, category = fields.line(key, "a label", MAX_LABEL), fields.name(value, "a category")
        if label and category:
            found[label] = category
    return dict(sorted(found.items()))


def _options(fields: Fields, name: str, words: EngineWords, node: Node | None, at: Node) -> dict[str, str | int]:
    what = f"the options of {name}"
    need = [key for key, option in words.options.items() if option.needed]
    if node is None:
        for key in need:
            fields.fault("QP015", at.place, f"{what} lack '{key}'.")
        return {}
    found: dict[str, str | int] = {}
    for key, value in sorted(fields.closed(node, what, words.options, need=need).items()):
        read = _option(fields, key, words.options[key], value)
        if read is not None:
            found[key] = read
    return found


def _option(fields: Fields, key: str, option: Option, node: Node) -> str | int | None:
    if option.words:
        return fields.word(node, f"a word for {key}", {word: word for word in option.words})
    if option.least is not None:
        return fields.whole(node, key, option.least, option.most)
    if option.variable:
        return _variable(fields, node, key)
    if option.holds is None:
        return fields.name(node, key)
    text = fields.text(node, key)
    if text is not None and option.holds not in text:
        fields.fault("QP011", node.place, f"{key} must hold {option.holds} somewhere.")
    return text
