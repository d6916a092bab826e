"""The contract of a detector.

Local detectors read a growing text and say how far they are done; window detectors read whole windows.
Local ones get *normalised* text (moderation.normalise: one code point, or one escape of JSON, maps to zero or more, context-free,
so that normalising is independent of chunks); spans are into that text, and the caller maps them back.

The law of a local detector, tested for each one: cutting a text anywhere gives the findings of the whole text.
That is, for t = a + b: scan(a, 0, final=False) -> (f1, h1), then scan(t, h1, final=True) -> (f2, len(t)),
and f1 + f2 == scan(t, 0, final=True).findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeGuard

from moderation.text import Role
from moderation.verdict import Finding, Unknown


@dataclass(frozen=True, slots=True)
class Scan:
    findings: tuple[Finding, ...]
    """Those that start at or after `start` and end at or before `hold`, by (end, start); none crosses `hold`.
    Every finding has a span, in the text given."""
    hold: int
    """Whatever is appended, every finding that starts before `hold` is already in `findings` (or came earlier)."""


class Local(Protocol):
    """Finds what depends on itself and a bounded stretch around it: patterns, words, secrets, personal data."""

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> str:
        """A hash of everything that its findings depend on; part of the cache key and of the log."""
        ...

    @property
    def behind(self) -> int:
        """How many code points before `start` it may look at."""
        ...

    @property
    def reach(self) -> int:
        """The most code points that can stand between `hold` and the end of the text, when not final."""
        ...

    def scan(self, text: str, start: int, final: bool) -> Scan:
        """Look at text[start:], with text[:start] as context only. `hold` equals len(text) when final."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """What a window detector is asked about: some whole sentences of one text."""

    text: str
    role: Role = Role.PROMPT
    before: str = ""
    """The sentences before it in the same text, as many as a bound lets in: to understand `text` by, and not judged."""
    trial: bool = False
    """It is asked to see whether a model answers at all: nothing that stands before the model may answer for it."""


class Windowed(Protocol):
    """Reads whole windows: models, judges. Findings may have no span.

    An answer depends on its own passage alone, never on those that are asked about with it.
    """

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> str:
        """A hash of everything that its findings depend on; part of the cache key and of the log."""
        ...

    @property
    def batch(self) -> int:
        """How many passages it is asked about at once, at most. Its time-out is for one such call."""
        ...

    def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
        """An answer for each passage, in their order; spans are into its `text`. Called in threads, in several at once."""
        ...


class Remote(Protocol):
    """Reads whole windows, too, and waits for an answer over the network: asked on the event loop, and never in a thread."""

    @property
    def id(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def at_once(self) -> int:
        """How many passages it is asked about at the same time, at most. Its time-out is for each of them."""
        ...

    @property
    def why(self) -> str | None:
        """In words for an operator, why a question last had no answer: nothing of a text, an answer or a key. None before."""
        ...

    async def ask(self, passage: Passage) -> tuple[Finding, ...] | Unknown:
        """May be cancelled, and then ends its question at once."""
        ...

    async def close(self) -> None:
        """End all questions and connections; a later question opens new ones."""
        ...


Detector = Local | Windowed | Remote


def is_local(detector: Detector) -> TypeGuard[Local]:
    return hasattr(detector, "scan")


def is_windowed(detector: Detector) -> TypeGuard[Windowed]:
    return hasattr(detector, "detect")


def is_remote(detector: Detector) -> TypeGuard[Remote]:
    return hasattr(detector, "ask")
