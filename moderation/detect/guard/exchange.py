"""The nouns of asking a judge over HTTP: a question, its reply, and what the reply says. Knows no engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from moderation.detect.api import Passage
from moderation.errors import Refused
from moderation.text import Role
from moderation.verdict import Cause
from moderation.wire.body import parse

OTHER = "other_harm"
"""The category of what a judge names and its engine has no category for: found is found, under whatever name."""
NONE, LOW, MEDIUM, HIGH = 100_000, 400_000, 600_000, 900_000
"""Scores in millionths for judges that say words and no numbers: each reaches the level of its name and not the next one, with
the usual thresholds and with those that policies usually set."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What makes a question unlike any other, for engines that sign."""

    date: str
    """UTC, 2026-11-24T17:00:00Z"""
    nonce: str
    """Never used before: 32 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Question:
    """One POST. Neither the text nor a key is in its repr."""

    path: str
    """What follows the base URL."""
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whole."""

    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that a judge says of a text."""

    label: str
    """In the judge's own words, out of the engine's table or of its grammar."""
    score: int
    """Millionths."""


Judged = tuple[Said, ...] | Cause
"""What a judge says of a text; () where it finds nothing; a cause where there is no telling."""


class Engine(Protocol):
    """One kind of judge. Every method is a function of its arguments. What tools say is asked about as what users say."""

    @property
    def categories(self) -> frozenset[str]:
        """All that `category` can give."""
        ...

    @property
    def version(self) -> str:
        """All that its judgements depend on here, but for the text; no keys."""
        ...

    def category(self, label: str) -> str:
        """The category of a label, where the policy names none."""
        ...

    def limit(self, role: Role) -> int | None:
        """The most UTF-16 units of text in one question; None for any number."""
        ...

    def question(self, passage: Passage, stamp: Stamp) -> Question: ...

    def read(self, reply: Reply, role: Role) -> Judged: ...


def bearer(key: str | None) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a question in JSON, with the key that the judge asks for."""
    told = ((b"content-type", b"application/json"), (b"accept", b"application/json"))
    return told if key is None else (*told, (b"authorization", b"Bearer " + key.encode()))


def refused(status: int) -> Cause | None:
    """Why a reply with this status is none; None for 200. Any other 2xx, and a redirect, is not what was asked for."""
    match status:
        case 200:
            return None
        case 413:
            return Cause.TOO_LARGE
        case 408 | 425 | 429:
            return Cause.UNAVAILABLE
        case _ if 500 <= status < 600:
            return Cause.UNAVAILABLE
        case _:
            return Cause.ERROR


def an_object(body: bytes) -> Mapping[str, Any] | None:
    """The JSON object that these bytes are, as every reader reads it; None where they are none."""
    try:
        value = parse(body)
    except Refused:
        return None
    return value if isinstance(value, dict) else None


def millionths(value: object, most: float = 1.0) -> int | None:
    """A number from 0 to `most` as millionths of `most`; None for anything else."""
    if type(value) not in (int, float) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        return None
    return round(value / most * 1_000_000)
