"""Join near-duplicate texts into groups, so that no split cuts through one.

MinHash over character shingles (five letters, or three where the text is mostly Chinese): texts that share a band of
the signature are candidates, and are joined when their signatures agree in at least `SHARE` of their places. Rows of
one group of their source are joined as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from classifiers.train.heldout import norm
from classifiers.train.windows import LIMIT, limit_of

PLACES, BANDS, SHARE = 48, 12, 0.65

_PRIME = np.uint64(0x100000001B3)
_SEEDS = np.random.default_rng(20261124).integers(1, 2**63, size=(2, PLACES), dtype=np.uint64) | np.uint64(1)


def signature(text: str) -> NDArray[np.uint32]:
    """The MinHash signature of a text: `PLACES` numbers; two texts agree in about as many as they share shingles."""
    form = norm(text) or text
    size = 5 if limit_of(form) == LIMIT else 3
    points = np.frombuffer(form.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    if len(points) < size:
        points = np.pad(points, (0, size - len(points)))
    count = len(points) - size + 1
    shingles = np.zeros(count, dtype=np.uint64)
    for offset in range(size):
        shingles = (shingles ^ points[offset : offset + count]) * _PRIME
    shingles = np.unique(shingles ^ (shingles >> np.uint64(29)))
    mixed = shingles[:, None] * _SEEDS[0] + _SEEDS[1]
    least: NDArray[np.uint32] = (mixed >> np.uint64(32)).min(axis=0).astype(np.uint32)
    return least


class _Sets:
    """Disjoint sets of row numbers; the smallest number of a set stands for it."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, row: int) -> int:
        while self._parent[row] != row:
            self._parent[row] = self._parent[self._parent[row]]
            row = self._parent[row]
        return row

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low


def group_numbers(texts: Sequence[str], groups: Sequence[str]) -> list[int]:
    """For each text the number of the first row of its group; `groups` are those its source knows (empty: none)."""
    sets = _Sets(len(texts))
    named: dict[str, int] = {}
    for row, group in enumerate(groups):
        if group:
            sets.join(named.setdefault(group, row), row)
    signatures = np.stack([signature(text) for text in texts]) if texts else np.zeros((0, PLACES), dtype=np.uint32)
    width = PLACES // BANDS
    for band in range(BANDS):
        first: dict[bytes, int] = {}
        part = np.ascontiguousarray(signatures[:, band * width : (band + 1) * width])
        for row in range(len(texts)):
            seen = first.setdefault(part[row].tobytes(), row)
            if seen != row and sets.find(seen) != sets.find(row) and np.mean(signatures[seen] == signatures[row]) >= SHARE:
                sets.join(seen, row)
    return [sets.find(row) for row in range(len(texts))]
