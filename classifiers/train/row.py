"""A row of the corpus, a source of rows, and what each head means.

What a head means (a source labels a head only where its own labels fit the meaning; else the head is masked):

- `hate_harassment`: attacks, demeans or threatens a person or a group, or asks for a text that does.
- `sexual`: sexually explicit, or asks for explicit content; any sexual content about a minor.
- `violence`: threatens, incites or praises violence, or asks how to hurt people or make what hurts them.
- `self_harm`: asks for a method, tells an intent or a plan, or speaks of an acute risk (for oneself or for somebody
  near). Distress without risk, prevention, grief, and clinical or literary talk are 0. A row that is positive here
  because somebody is in distress is never `illicit`.
- `illicit`: asks for help with a crime or a serious wrong: weapons, drugs, fraud, cyber crime, trafficking, spying on
  people, disinformation.
- `injection`: tries to override the instructions that a model has, to take out its prompt, or to smuggle orders in data.
- `jailbreak`: a frame (a persona, a game, a fiction, an emergency, a claimed authority) that frees a model of its rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

HEADS = ("hate_harassment", "sexual", "violence", "self_harm", "illicit", "injection", "jailbreak")

BENIGN: Mapping[str, int] = MappingProxyType(dict.fromkeys(HEADS, 0))


class Role(StrEnum):
    """Whose words a text is."""

    PROMPT = "prompt"
    RESPONSE = "response"
    TOOL_RESULT = "tool_result"


class Split(StrEnum):
    """`train` trains, `dev` picks thresholds and checkpoints, `test` is only ever evaluated."""

    TRAIN = "train"
    DEV = "dev"
    TEST = "test"


@dataclass(frozen=True)
class Row:
    """One labelled text.

    `labels` holds 0 or 1 by head; a head that is not in it is unknown. `group` is a template or a pair that the source
    knows of (empty: none); near-duplicates are joined later. `also` holds the other fields of the raw record: a row is
    dropped when any of them is held out. `pin` sets the split of the whole group, `slice` names an evaluation slice.
    """

    text: str
    lang: str
    labels: Mapping[str, int]
    source: str
    role: Role = Role.PROMPT
    group: str = ""
    slice: str | None = None
    also: tuple[str, ...] = ()
    pin: Split | None = None


Reader = Callable[[Path], Iterable[Row]]


@dataclass(frozen=True)
class Source:
    """A source of rows: where it comes from, what it may teach, and how much of it is used.

    `positive` and `negative` are the heads that the source may label 1 and 0; any other label is a defect of the
    reader. `cap` bounds its rows by (language, any-positive) class, the rest is left out by a stable hash.
    """

    name: str
    licence: str
    languages: frozenset[str]
    positive: frozenset[str]
    negative: frozenset[str]
    read: Reader = field(repr=False)
    cap: int | None = None


def ones(*heads: str) -> dict[str, int]:
    """Labels with 1 for each of `heads`; every other head is unknown."""
    return dict.fromkeys(heads, 1)


def zeros(*heads: str) -> dict[str, int]:
    """Labels with 0 for each of `heads`; every other head is unknown."""
    return dict.fromkeys(heads, 0)
