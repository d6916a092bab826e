"""Character n-grams of texts as numbers of buckets (the hashing trick): the features of what runs, for many texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moderation.detect.classifier.ngram import features

Buckets = npt.NDArray[np.uint32]


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
