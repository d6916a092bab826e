"""The detectors of a policy: from located nodes to DetectorSpec. Knows nothing of rules, nor how a detector works."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from moderation.policy.engines import categories_of, described, engine_of
from moderation.policy.faults import Place, listed, meant, shown
from moderation.policy.fields import Fields
from moderation.policy.keys import DETECTOR, DETECTOR_LATER, ENGINE, KINDS, KINDS_LATER, LANGUAGE, PATTERN
from moderation.policy.load import Entries, Node, Scalar
from moderation.policy.model import RESERVED, CustomPattern, Described, DetectorSpec, Vocabulary, WordList
from moderation.verdict import Level, OnFailure

MAX_TIMEOUT_MS = 60_000
LEVELS = {level.word: level for level in Level if level}
DEFAULT_LEVELS = {Level.LOW: 300_000, Level.MEDIUM: 500_000, Level.HIGH: 850_000}
WITH_ENGINE = ("model", "http")
_FAILURES = {o.name.lower(): o for o in OnFailure}
_CATEGORY = {"pii": "personal_data", "secrets": "secret"}


@dataclass(frozen=True, slots=True)
class Defaults:
    on_failure: OnFailure
    on_unsupported: OnFailure
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Defined:
    """A detector and where it stands. One that this version does not build is kept for its names alone."""

    spec: DetectorSpec
    place: Place
    built: bool = True


def detectors(
    fields: Fields, vocabulary: Vocabulary, defaults: Defaults, node: Node | None, lists: Mapping[str, WordList]
) -> dict[str, Defined]:
    found: dict[str, Defined] = {}
    for key, value in fields.entries(node, "detectors"):
        name = fields.name(key, "a detector's id")
        if name in RESERVED:
            fields.fault("QP022", key.place, f"{shown(key.raw)} is the sidecar's own word; take another id.")
        spec, built = _detector(fields, vocabulary, defaults, key.raw, value, lists)
        if name:
            found[name] = Defined(spec, key.place, built)
    return found


def _detector(
    fields: Fields, vocabulary: Vocabulary, defaults: Defaults, name: str, node: Node, lists: Mapping[str, WordList]
) -> tuple[DetectorSpec, bool]:
    what = f"the detector {shown(name)}"
    said = fields.closed(node, what, (*DETECTOR, *DETECTOR_LATER), need=("kind",))
    kind = fields.word(said.get("kind"), "a kind of detector", {k: k for k in KINDS}, KINDS_LATER)
    for key in DETECTOR_LATER if kind else ():
        if key in said:
            fields.fault("QP018", said[key].place, f"format 1 has {shown(key)} for models, this version does not. Leave it out.")
    told = fields.many(said.get("categories"), "categories")
    model: Described | None = None
    categories = tuple(c for c in (fields.name(one, "a category") for one in told) if c)
    engine = engine_of(fields, vocabulary, kind, said, what, node) if kind in WITH_ENGINE else None
    words = vocabulary.engines[(kind or "", engine.name)] if engine is not None else None
    if kind in WITH_ENGINE:
        engine, model = described(fields, words, engine, said, what, node)
    if kind and kind not in WITH_ENGINE and len(told) > 1:
        fields.fault("QP011", told[1].place, f"a detector of the kind {kind} gives one category. Write a second detector.")
    patterns = _patterns(fields, vocabulary, said.get("patterns"), kind == "patterns", what, node)
    used = _lists(fields, lists, said.get("lists"), kind == "words", what, node)
    regions = _regions(fields, vocabulary, said.get("regions"))
    entities = _entities(fields, vocabulary, kind, said.get("entities"), regions)
    for key, owner in (("patterns", "patterns"), ("lists", "words"), ("regions", "pii")):
        if key in said and kind and kind != owner:
            fields.fault("QP010", said[key].place, f"'{key}' belongs to the kind {owner}, not to {kind}. Leave it out.")
    for key in ENGINE if kind and kind not in WITH_ENGINE else ():
        if key in said:
            owners = listed(WITH_ENGINE)
            fields.fault("QP010", said[key].place, f"'{key}' belongs to the kinds {owners}, not to {kind}. Leave it out.")
    if "entities" in said and kind in ("patterns", "words", *WITH_ENGINE):
        fields.fault("QP010", said["entities"].place, f"'entities' belongs to the kinds pii and secrets, not {kind}.")
    if kind == "patterns":
        entities = _given(vocabulary, patterns)
    on_failure = fields.word(said.get("on_failure"), "a word for on_failure", _FAILURES)
    on_unsupported = fields.word(said.get("on_unsupported"), "a word for on_unsupported", _FAILURES)
    spans = fields.yes(said.get("gives_spans"), "gives_spans")
    can = kind not in WITH_ENGINE or (model is not None and model.spans)
    if spans and not can and (model is not None or kind != "model"):
        fields.fault("QP011", said["gives_spans"].place, f"a detector of the kind {kind} tells no places; leave gives_spans out.")
    if kind in WITH_ENGINE:
        categories = categories_of(fields, words, engine, model, categories, told, what, node)
    spec = DetectorSpec(
        name,
        kind or "",
        categories or (_CATEGORY.get(kind or "", name),),
        _levels(fields, said.get("levels"), what, model),
        patterns,
        used,
        entities,
        regions,
        _languages(fields, said.get("languages")) if "languages" in said or model is None else model.languages,
        fields.duration(said.get("timeout"), "timeout", MAX_TIMEOUT_MS) or defaults.timeout_ms,
        defaults.on_failure if on_failure is None else on_failure,
        defaults.on_unsupported if on_unsupported is None else on_unsupported,
        spans is not False and can,
        engine,
    )
    return spec, kind is not None


def _levels(fields: Fields, node: Node | None, what: str, model: Described | None) -> Mapping[Level, int]:
    levels: dict[Level, int] = {}
    places: dict[Level, Place] = {}
    for key, value in fields.entries(node, f"the levels of {what}"):
        level = fields.word(key, "a level", LEVELS)
        score = fields.millionths(value, f"the threshold of {key.raw}")
        if level is not None and score is not None:
            levels[level], places[level] = score, value.place
    for low, high in pairwise(sorted(levels)):
        if levels[high] < levels[low]:
            fields.fault("QP030", places[high], f"the threshold of {high.word} is below that of {low.word}; it must not be.")
    if isinstance(node, Entries) and not node.entries:
        fields.fault("QP030", node.place, "no level: nothing could ever be found. Leave `levels` out for the usual ones.")
    for level, place in places.items():
        if model is not None and levels[level] > model.most:
            fields.fault("QP031", place, f"no score of the model reaches the threshold of {level.word}.")
    return dict(sorted(levels.items())) or dict(model.levels if model is not None and model.levels else DEFAULT_LEVELS)


def _languages(fields: Fields, node: Node | None) -> tuple[str, ...] | None:
    if node is None or (isinstance(node, Scalar) and node.value == "any"):
        return None
    names = (fields.name(one, "a language", LANGUAGE) for one in fields.many(node, "languages"))
    return tuple(sorted({name for name in names if name}))


def _patterns(
    fields: Fields, vocabulary: Vocabulary, node: Node | None, wanted: bool, what: str, at: Node
) -> tuple[str | CustomPattern, ...]:
    if node is None:
        if wanted:
            fields.fault("QP015", at.place, f"{what} lacks 'patterns'.")
        return ()
    found: dict[str, str | CustomPattern] = {}
    for one in fields.many(node, "patterns") if isinstance(node, Scalar) else fields.items(node, "patterns"):
        pattern: str | CustomPattern | None
        if isinstance(one, Entries):
            pattern = _custom(fields, vocabulary, one)
        else:
            pattern = fields.name(one, "a pattern's name")
            if pattern is not None and pattern not in vocabulary.patterns:
                fields.fault("QP020", one.place, f"no pattern is called {shown(pattern)}.{meant(pattern, vocabulary.patterns)}"
                             " `moderation policy schema` lists all.")  # fmt: skip
                pattern = None
        if pattern is not None:
            key = pattern if isinstance(pattern, str) else pattern.name
            if key in found:
                fields.fault("QP022", one.place, f"the pattern {shown(key)} stands here twice. Keep one of them.")
            found[key] = pattern
    return tuple(found[key] for key in sorted(found))


def _custom(fields: Fields, vocabulary: Vocabulary, node: Entries) -> CustomPattern | None:
    said = fields.closed(node, "a pattern", PATTERN, need=("name", "regex"))
    name = fields.name(said.get("name"), "a pattern's name")
    regex = fields.text(said.get("regex"), "regex", 4_000)
    reach = fields.whole(said.get("reach"), "reach", 1, 16_384)
    entity = fields.name(said.get("entity"), "an entity")
    examples: dict[str, tuple[str, ...]] = {}
    if name in vocabulary.patterns:
        fields.fault("QP022", said["name"].place, f"{shown(name or '')} is the name of a pattern that ships; take another.")
    wrong = vocabulary.check_regex(regex, reach) if regex else None
    if wrong:
        fields.fault("QP040", said["regex"].place, f"the pattern cannot run: {wrong}")
    for key, hits in (("must", True), ("must_not", False)):
        nodes = fields.many(said.get(key), key)
        texts = [(fields.text(one, f"an example of {key}"), one.place) for one in nodes]
        examples[key] = tuple(text for text, _ in texts if text)
        for text, place in texts:
            if regex and not wrong and text and vocabulary.test_pattern(regex, text) is not hits:
                does = "does not find" if hits else "finds"
                fields.fault("QP043", place, f"the pattern {shown(name or '')} {does} this example.")
    if name and regex and not all(examples.values()):
        fields.fault("QP042", node.place, f"the pattern {shown(name)} has no examples under both `must` and `must_not`.")
    return CustomPattern(name, regex, reach, entity, examples["must"], examples["must_not"]) if name and regex else None


def _given(vocabulary: Vocabulary, patterns: tuple[str | CustomPattern, ...]) -> tuple[str, ...]:
    """The entities that these patterns can give."""
    found: set[str] = set()
    for pattern in patterns:
        if isinstance(pattern, str):
            found |= vocabulary.pattern_entities.get(pattern, frozenset())
        elif pattern.entity:
            found.add(pattern.entity)
    return tuple(sorted(found))


def _regions(fields: Fields, vocabulary: Vocabulary, node: Node | None) -> tuple[str, ...]:
    known = sorted(set(vocabulary.entities.values()))
    found = [fields.word(one, "a region", {r: r for r in known}) for one in fields.many(node, "regions")]
    return tuple(sorted({region for region in found if region}))


def _entities(
    fields: Fields, vocabulary: Vocabulary, kind: str | None, node: Node | None, regions: tuple[str, ...]
) -> tuple[str, ...]:
    """What a pii or secrets detector looks for: what is named, or all of its regions."""
    match kind:
        case "pii":
            known = {name for name, region in vocabulary.entities.items() if not regions or region in (*regions, "any")}
        case "secrets":
            known = set(vocabulary.secrets)
        case _:
            return ()
    if node is None:
        return tuple(sorted(known))
    found: set[str] = set()
    for one in fields.many(node, "entities"):
        name = fields.name(one, "an entity")
        if name in known:
            found.add(name)
        elif name:
            every = vocabulary.entities if kind == "pii" else vocabulary.secrets
            why = "is not of these regions" if name in every else f"is not one that this version finds as {kind}"
            hint = meant(name, known) or f" Known: {listed(sorted(known), 40)}."
            fields.fault("QP020", one.place, f"the entity {shown(name)} {why}.{hint}")
    return tuple(sorted(found))


def _lists(
    fields: Fields, lists: Mapping[str, WordList], node: Node | None, wanted: bool, what: str, at: Node
) -> tuple[str, ...]:
    if node is None:
        if wanted:
            fields.fault("QP015", at.place, f"{what} lacks 'lists'.")
        return ()
    found: list[str] = []
    for one in fields.many(node, "lists"):
        name = fields.name(one, "a word list's id")
        if name and name not in lists:
            fields.fault("QP020", one.place, f"no word list is called {shown(name)}.{meant(name, lists)}")
        elif name:
            found.append(name)
    return tuple(sorted(set(found)))
