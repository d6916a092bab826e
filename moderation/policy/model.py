"""A compiled policy: frozen, complete, and all that deciding needs. Knows nothing of YAML, files or detectors at work.

Numbers are integers (millionths, milliseconds), words are enums, every reference is resolved and every default written out, so
that two policies that mean the same have the same canonical form (see archive) and hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from moderation.policy.conditions import Condition, atoms
from moderation.policy.faults import Place
from moderation.text import Phase
from moderation.verdict import Action, Level, Mode, OnFailure, PolicyRef, Severity


class Over(StrEnum):
    """How far a rule looks: one window, or all of a request or an answer."""

    WINDOW = "window"
    REQUEST = "request"
    ANSWER = "answer"


class Hold(StrEnum):
    """When the text of a streamed answer goes out."""

    SENTENCE = "sentence"
    NONE = "none"
    ALL = "all"


REFUSAL = {
    "en": "This content is outside what may pass here (ref {decision_id}).",
    "zh": "该内容超出此处允许的范围（编号 {decision_id}）。",
}
"""What the user is told where the rule names no message."""
PLACEHOLDERS = ("decision_id",)
RESERVED = frozenset(("unscanned_media", "uneditable"))
"""Ids that the sidecar's own findings and rules have in verdicts and in the log."""


def spoken(languages: Iterable[str], wanted: str) -> str | None:
    """Which of these tags serves a reader of `wanted`: the same, else the language without a region, else one of its regions."""
    primary = wanted.lower().split("-")[0]
    near = [tag for tag in languages if tag.lower().split("-")[0] == primary]
    return min(near, key=lambda tag: (tag.lower() != wanted.lower(), "-" in tag, tag), default=None)


@dataclass(frozen=True, slots=True)
class Option:
    """One key under `options` of a detector: a word of a few, a whole number, a name, a text, or the name of a variable."""

    said: str
    """What it is for."""
    words: tuple[str, ...] = ()
    least: int | None = None
    most: int = 0
    """With `least`: a whole number from one to the other."""
    variable: bool = False
    """The name of an environment variable."""
    holds: str | None = None
    """A text that must hold this; "" for any text. None for what is no text, but a name."""
    needed: bool = False


@dataclass(frozen=True, slots=True)
class Described:
    """What a model says of itself, before it is loaded."""

    pin: str
    """What a policy pins it by: `sha256:` and 64 hexadecimal digits."""
    labels: Mapping[str, str]
    """What each of its labels counts as."""
    languages: tuple[str, ...] | None
    levels: Mapping[Level, int]
    most: int = 1_000_000
    """The highest score that it can give, in millionths."""
    spans: bool = False
    """It says where in the text."""


@dataclass(frozen=True, slots=True)
class EngineWords:
    """What a policy may say of one engine, and what the engine gives."""

    needs: frozenset[str]
    """Keys of a detector that it cannot do without …"""
    takes: frozenset[str]
    """… and those that it may have besides."""
    options: Mapping[str, Option]
    categories: frozenset[str]
    """Where it has labels of its own; empty where the policy says what it judges, or the model does."""
    describe: Callable[[str], Described | str] | None = None
    """Of the kind model: what the model of this name gives, or in words why there is none."""
    pinned: bool = False
    """Its models must be pinned."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the detectors of this build know: names and checks, given in so that policies need not import detectors."""

    patterns: Mapping[str, str]
    """Names of patterns, each with what it finds."""
    pattern_entities: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The entities that a named pattern can give."""
    entities: Mapping[str, str] = field(default_factory=dict)
    """Entities of the kind pii, each with its region (`any`, `cn`, `us` …)."""
    secrets: frozenset[str] = frozenset()
    """Entities of the kind secrets, SECRET_…"""
    check_regex: Callable[[str, int | None], str | None] = lambda regex, reach: None
    """What is wrong with a regex of an officer's, in words; None where it can run. The int is its `reach`."""
    test_pattern: Callable[[str, str], bool] = lambda regex, text: False
    """True where a regex, or a named pattern, finds something in a text."""
    normalise: Callable[[str], str] = lambda text: text
    """What detectors see of a text."""
    engines: Mapping[tuple[str, str], EngineWords] = field(default_factory=dict)
    """By kind and name."""


@dataclass(frozen=True, slots=True)
class CustomPattern:
    """An officer's own regex."""

    name: str
    regex: str
    reach: int | None
    entity: str | None
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WordList:
    id: str
    words: tuple[str, ...]
    """Sorted, each once."""
    whole_word: bool
    ignore_case: bool


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What a detector of the kinds http and model is made of. Holds no key, but the name of the variable that does."""

    name: str
    model: str | None = None
    url: str | None = None
    """The base: what is asked stands below it."""
    key_env: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    """What a label of the engine's counts as, where that is not the engine's own category."""
    options: Mapping[str, str | int] = field(default_factory=dict)
    pin: str | None = None
    """Of the kind model: the model as it was when the policy was compiled."""


@dataclass(frozen=True, slots=True)
class DetectorSpec:
    """One detector as the policy wants it."""

    id: str
    kind: str
    """patterns | words | secrets | pii | model | http"""
    categories: tuple[str, ...]
    """What its findings count as; exactly one, but for model and http."""
    levels: Mapping[Level, int]
    """The least score in millionths of each level."""
    patterns: tuple[str | CustomPattern, ...] = ()
    lists: tuple[str, ...] = ()
    """Ids of word lists."""
    entities: tuple[str, ...] = ()
    """The entities that it looks for, or can give: resolved, sorted."""
    regions: tuple[str, ...] = ()
    languages: tuple[str, ...] | None = None
    """None for any."""
    timeout_ms: int = 300
    on_failure: OnFailure = OnFailure.ASSUME_MATCH
    on_unsupported: OnFailure = OnFailure.IGNORE
    gives_spans: bool = True
    engine: EngineSpec | None = None

    def level(self, score: int) -> Level:
        """The highest level whose threshold the score reaches."""
        return max((level for level, least in self.levels.items() if least <= score), default=Level.NONE)


@dataclass(frozen=True, slots=True)
class Expect:
    """What a test demands; None for what it does not care about."""

    action: Action
    would: Action | None = None
    rules: tuple[str, ...] | None = None
    degraded: bool | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Test:
    """One test of a rule: signals that are given, or a text that the detectors read."""

    __test__ = False

    name: str
    phase: Phase
    place: Place
    expect: Expect
    language: str | None = None
    given: Mapping[str, Mapping[str, Level] | str] = field(default_factory=dict)
    """By detector: levels by category, or the cause of its failure."""
    text: str | None = None
    context: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rule:
    id: str
    title: str
    cite: tuple[str, ...]
    severity: Severity
    phases: frozenset[Phase]
    when: Condition
    at_least: Level
    then: Action
    message: str | None
    label: str | None
    mode: Mode
    in_history_block: bool
    """True where a block in history blocks, and does not remove."""
    over: Over
    tests: tuple[Test, ...] = field(default=(), compare=False)
    place: Place = field(default=Place(1, 1), compare=False)
    needs_finding: bool = True
    """True where it cannot hold, nor be unknown, in a window without findings and failures: decide then skips it."""


@dataclass(frozen=True, slots=True)
class Regulation:
    title: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """What of a content is kept: nothing, in this version."""

    content: str = "none"
    excerpts: str = "none"
    days: int = 400


@dataclass(frozen=True)
class Policy:
    ref: PolicyRef
    title: str
    owner: str | None
    review_by: str | None
    default_language: str
    languages: tuple[str, ...]
    regulations: Mapping[str, Regulation]
    detectors: Mapping[str, DetectorSpec]
    word_lists: Mapping[str, WordList]
    messages: Mapping[str, Mapping[str, str]]
    rules: tuple[Rule, ...]
    """By id."""
    hold: Hold
    hold_routes: Mapping[str, Hold]
    unscanned_media: Action
    """ALLOW, FLAG or BLOCK."""
    keep: Keep
    files: Mapping[str, bytes] = field(default_factory=dict, compare=False)
    """As they were read: `policy.yaml`, `lists/<id>.txt`. Kept with the log; the hash is not over them."""

    @cached_property
    def _phases(self) -> Mapping[Phase, tuple[Rule, ...]]:
        return {phase: tuple(r for r in self.rules if phase in r.phases and r.mode is not Mode.OFF) for phase in Phase}

    def rules_in(self, phase: Phase) -> tuple[Rule, ...]:
        """The rules of a phase that are not off, by id."""
        return self._phases[phase]

    def rule(self, rule: str) -> Rule:
        return next(r for r in self.rules if r.id == rule)

    def hold_for(self, route: str) -> Hold:
        return self.hold_routes.get(route, self.hold)

    def named(self, what: str) -> frozenset[str]:
        """The names of one kind (`tool`, `model`, `route` …) that conditions mention. Other names stay out of log and metrics."""
        every = (atom for rule in self.rules for atom in atoms(rule.when))
        return frozenset(name for atom in every for test in atom.tests if test.key == what for name in test.values)

    def say(self, message: str | None, language: str, decision_id: str) -> str:
        """A message as the user reads it: in this language (`zh` serves zh-CN), else the policy's default, else English."""
        texts = self.messages.get(message, REFUSAL) if message is not None else REFUSAL
        tags = (spoken(texts, language), spoken(texts, self.default_language), spoken(texts, "en"), *texts)
        text = next(texts[tag] for tag in tags if tag is not None)
        return text.replace("{decision_id}", decision_id)


__all__ = [
    "PLACEHOLDERS", "REFUSAL", "RESERVED", "CustomPattern", "Described", "DetectorSpec", "EngineSpec", "EngineWords", "Expect",
    "Hold", "Keep", "Option", "Over", "Policy", "Regulation", "Rule", "Test", "Vocabulary", "WordList", "spoken",
]  # fmt: skip
