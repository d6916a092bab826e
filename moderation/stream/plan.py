"""The words of the release machine: what it asks of policy and dialect, and the commands it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from moderation.act import Change
from moderation.policy.decide import Patience
from moderation.text import Channel, Origin, Phase, Span
from moderation.verdict import Finding, Fired, Outcome, Unknown, Window


class TapeName(Protocol):
    """Which tape: a choice, what it is, and the field that carries it."""

    @property
    def choice(self) -> int: ...
    @property
    def channel(self) -> Channel: ...
    @property
    def name(self) -> str: ...


class Piece(Protocol):
    """What one frame adds to one tape."""

    @property
    def tape(self) -> TapeName: ...
    @property
    def text(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def medium(self) -> str | None:
        """What kind of medium it stands for, which no detector reads; None for text."""
        ...


@dataclass(frozen=True, slots=True)
class Reading:
    """How the policy wants one tape to be read."""

    patience: Patience
    local: Mapping[str, int] = field(default_factory=dict)
    """Local detectors, with how far each looks back."""
    windowed: frozenset[str] = frozenset()
    """Window detectors that judge it."""


class Plan(Protocol):
    """What one response needs to know of policy, request and dialect. All pure."""

    def reading(self, phase: Phase, channel: Channel) -> Reading: ...
    def decide(self, phase: Phase, windows: Sequence[Window]) -> Outcome: ...
    def origin(self, finding: Finding, value: str) -> Origin | None: ...
    def tool(self, tape: TapeName) -> str | None: ...
    def category(self, fired: Fired) -> str: ...
    def parts(self, tape: TapeName, text: str) -> Sequence[str]:
        """The texts to be judged in a whole tape: one, or each scalar of a tool call's arguments."""
        ...

    def fixed(self, tape: TapeName, text: str) -> frozenset[int]:
        """The parts that cannot be replaced; an edit there blocks."""
        ...

    def rebuild(self, tape: TapeName, text: str, parts: Sequence[str | None]) -> str:
        """The whole tape with the parts that are not None put in place."""
        ...

    def rewrite(self, raw: bytes, texts: Mapping[str, str], unfinished: bool) -> bytes:
        """A frame with other texts at these paths, without its finish_reason where `unfinished`."""
        ...


@dataclass(frozen=True, slots=True)
class Judged:
    """What window detectors, or all detectors, said of one text: by window, spans into that text."""

    windows: tuple[Span, ...]
    findings: tuple[tuple[Finding, ...], ...]
    unknown: tuple[tuple[Unknown, ...], ...]


@dataclass(frozen=True, slots=True)
class Inspect:
    """Have these texts judged; `whole` by all detectors, else each is one window for window detectors alone."""

    job: int
    phase: Phase
    texts: tuple[str, ...]
    detectors: frozenset[str]
    whole: bool
    channel: Channel
    before: str = ""
    """The sentences before a window, which its detectors may read to understand it by."""


class Emit(NamedTuple):
    """Send these bytes to the client. A tuple, for a stream makes one for each frame."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """Write this decision to the log before anything that follows."""

    phase: Phase
    outcome: Outcome
    windows: tuple[Window, ...]
    changes: tuple[tuple[str, Change], ...]
    """With the tape each is on."""
    final: bool


@dataclass(frozen=True, slots=True)
class Stop:
    """The answer ends here: cancel the upstream, say the message in `choice`, end each open choice."""

    choice: int
    rule: Fired
    open: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class End:
    """Everything that may go out has gone out."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The upstream's stream cannot be read in a way that every client reads alike."""

    why: str


Command = Inspect | Emit | Note | Stop | End | Broken
