"""The corpus as the training steps read it: one example a line of JSONL, and labels as one array."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifiers.train.row import HEADS

UNKNOWN = -1

Labels = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Example:
    """A labelled text of the corpus. `labels` holds 0 or 1 by head; a head that is not there is unknown."""

    text: str
    role: str
    lang: str
    labels: Mapping[str, int]
    source: str
    group: str
    slice: str | None = None

    @property
    def benign(self) -> bool:
        """Nothing is known to be harmful, and every head is known: only such rows measure false positives of the union."""
        return not any(self.labels.values()) and all(head in self.labels for head in HEADS)


def read(path: Path) -> list[Example]:
    """All examples of a file, in its order."""
    return list(_lines(path))


def _lines(path: Path) -> Iterator[Example]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield Example(**json.loads(line))


def labels_of(examples: Sequence[Example]) -> Labels:
    """[examples, heads] of 1, 0 and UNKNOWN, heads in the order of HEADS."""
    return np.array([[one.labels.get(head, UNKNOWN) for head in HEADS] for one in examples], np.int8).reshape(-1, len(HEADS))
