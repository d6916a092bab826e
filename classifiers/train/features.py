"""Character n-grams of a text as numbers of buckets (the hashing trick). What runs computes the same.

NFKC, casefold, each run of white space as one space, one space before and one behind. Then for each order n and each place i,
over code points c: h = 0x811C9DC5 ^ n; for k = 0 … n-1: h = (h ^ c[i+k]) * 0x01000193 mod 2^32; h ^= h >> 15; the bucket is h
mod buckets. A text is the set of its buckets: how often one comes does not count.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BASIS, PRIME = 0x811C9DC5, 0x01000193  # of FNV-1a, 32 bits

Buckets = npt.NDArray[np.uint32]


def prepared(text: str) -> str:
    """The text as its n-grams are taken."""
    return f" {' '.join(unicodedata.normalize('NFKC', text).casefold().split())} "


def features(text: str, orders: Sequence[int], buckets: int) -> Buckets:
    """The distinct buckets of a text, ascending. `buckets` is their number."""
    points = np.frombuffer(prepared(text).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32)
    found = []
    for order in orders:
        places = len(points) - order + 1
        if places > 0:
            value = np.full(places, BASIS ^ order, np.uint32)
            for k in range(order):
                value = (value ^ points[k : k + places]) * np.uint32(PRIME)
            found.append((value ^ (value >> np.uint32(15))) % np.uint32(buckets))
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint32)


@dataclass(frozen=True)
class Sparse:
    """Texts as sets of buckets, one behind the other: those of text i are `buckets[starts[i] : starts[i + 1]]`."""

    buckets: Buckets
    starts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def taken(self, chosen: npt.NDArray[np.int64]) -> Sparse:
        """The texts `chosen`, in that order."""
        lengths = self.starts[chosen + 1] - self.starts[chosen]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        places = np.arange(starts[-1]) + np.repeat(self.starts[chosen] - starts[:-1], lengths)
        return Sparse(self.buckets[places], starts)


def sparse(texts: Sequence[str], orders: Sequence[int], buckets: int) -> Sparse:
    """The features of all texts."""
    each = [features(text, orders, buckets) for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(one) for one in each])]).astype(np.int64)
    return Sparse(np.concatenate([*each, np.empty(0, np.uint32)]).astype(np.uint32), starts)
