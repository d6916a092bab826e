"""The nouns of judgement: findings, unknowns, signals, outcomes, decisions.

Scores are integer millionths (0..1_000_000) everywhere inside; only JSON for people shows 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from moderation.text import Channel, Origin, Phase, Scope, Span, Turn

FULL_SCORE = 1_000_000


class Action(IntEnum):
    """What is done, least severe first; the most severe wins."""

    ALLOW = 0
    FLAG = 1
    PSEUDONYMISE = 2
    REDACT = 3
    REWRITE = 4
    REVIEW = 5
    BLOCK = 6

    @property
    def word(self) -> str:
        return self.name.lower()


class Level(IntEnum):
    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def word(self) -> str:
        return self.name.lower()


class Severity(IntEnum):
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def word(self) -> str:
        return self.name.lower()


class Mode(StrEnum):
    ENFORCE = "enforce"
    MONITOR = "monitor"
    OFF = "off"


class OnFailure(IntEnum):
    """What a rule does where its detector is Unknown, least strict first."""

    IGNORE = 0
    FLAG = 1
    ASSUME_MATCH = 2


class Cause(StrEnum):
    """Why a detector gave no answer."""

    TIMEOUT = "timeout"
    ERROR = "error"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"
    UNAVAILABLE = "unavailable"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a detector found in one text."""

    detector: str
    category: str
    entity: str | None
    """EMAIL_ADDRESS, SECRET_AWS_ACCESS_KEY …; None for what has no kind of its own."""
    name: str
    """The pattern's or list's name: what a label shows."""
    score: int
    span: Span | None
    """Code points into the text that was given; None where the finding is about the text as a whole."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A detector that gave no answer. Never an exception past detect/run, never an empty list."""

    detector: str
    cause: Cause


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What a signal is about. A bare key (detector None) says only that there is such text, or such a tool call."""

    channel: Channel
    turn: Turn
    tool: str | None = None
    detector: str | None = None
    category: str | None = None
    entity: str | None = None
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """All that decide reads of the findings with one key in one window."""

    key: Key
    score: int
    """The highest, in millionths; 0 for a bare signal."""
    count: int


@dataclass(frozen=True, slots=True)
class Window:
    """The signals of one window of text."""

    signals: tuple[Signal, ...]
    unknown: tuple[Unknown, ...] = ()


@dataclass(frozen=True, slots=True)
class Fired:
    """One rule that fired, in one window."""

    rule: str
    window: int
    """Index into the windows that were given; -1 for a rule over the whole request or answer."""
    action: Action
    """What this rule asks for here (flag where on_failure says flag; redact for a removal from history)."""
    mode: Mode
    severity: Severity
    label: str | None
    """The rule's own label, None for the pattern's or list's name."""
    keys: tuple[Key, ...]
    """The keys of the signals that satisfied positive atoms; findings with these keys are what the action is about."""
    at_least: tuple[int, ...]
    """For each key, the least score in millionths that satisfied its atom."""
    on_unknown: bool
    """True where it fired because a detector was Unknown: then there are no spans, and the whole segment is taken."""
    whole: bool
    """True where the whole segment is acted on: on_unknown, or a blocking rule that removes from history."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What decide says."""

    action: Action
    would: Action
    """What would be enforced if every monitored rule were."""
    fired: tuple[Fired, ...]
    """Enforced and monitored ones, by rule id and window."""
    unknown: tuple[Unknown, ...]
    degraded: bool
    """Some rule was decided on Unknown."""
    message: str | None
    """The id of the message of the rule that decided a block: highest action, then severity, then smallest rule id."""


@dataclass(frozen=True, slots=True)
class PolicyRef:
    id: str
    hash: str
    """SHA-256 hex of the canonical compiled policy."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A span of one segment that goes out as something else."""

    path: str
    span: Span
    action: Action
    text: str
    """What stands there instead."""
    kind: str
    """The entity, category or list; no content. For the log and for people."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision, whole: what the log keeps and what people see."""

    request: str
    """ULID"""
    n: int
    phase: Phase
    scope: Scope
    policy: PolicyRef
    outcome: Outcome
    windows: tuple[Window, ...]

    @property
    def id(self) -> str:
        return f"{self.request}.{self.n}"
