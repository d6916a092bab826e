"""The fallback: a linear model over character n-grams, in numpy, where onnxruntime is not there.

Features, which the training takes from here: NFKC, casefold, each run of white space as one space, one space before and
one behind; then for each order n and each place i, over code points c: h = 0x811C9DC5 ^ n; for k = 0 … n-1: h = (h ^ c[i+k]) *
0x01000193 mod 2^32; h ^= h >> 15; the bucket is h mod buckets. A text is the set of its buckets.

logit[h] = bias[h] + scales[h] * (sum of weights[b, h] over the text's buckets b) / sqrt(how many buckets it has)
"""

from __future__ import annotations

import io
import unicodedata
import zipfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

from moderation.detect.api import Passage
from moderation.detect.classifier.manifest import Manifest
from moderation.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BASIS, _PRIME = 0x811C9DC5, 0x01000193
STRETCH = 64
"""Code points that are read by themselves where a text is longer."""
_ARRAYS = ("weights", "scales", "bias", "orders")


class Ngram:
    """A loaded model; see Model in the folder's first file."""

    runtime = "numpy"

    def __init__(self, manifest: Manifest) -> None:
        """Raises UsageError for weights that are not of this form; ImportError without numpy."""
        import numpy as np

        self.manifest = manifest
        raw = manifest.read("weights.npz")
        where = str(manifest.folder / "weights.npz")
        try:
            with np.load(io.BytesIO(raw), allow_pickle=False) as held:
                weights, scales, bias, orders = (held[name] for name in _ARRAYS)
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise UsageError(f"is no npz with {', '.join(_ARRAYS)} ({type(error).__name__})", where) from None
        heads = len(manifest.heads)
        shapes = (weights.ndim, scales.shape, bias.shape, orders.ndim)
        if shapes != (2, (heads,), (heads,), 1) or weights.shape[1] != heads or not len(weights) or not len(orders):
            raise UsageError(f"has weights of other shapes than its manifest's {heads} heads need", where)
        self._weights: npt.NDArray[np.int8] = weights
        self._scales = scales.astype(np.float32)
        self._bias = bias.astype(np.float32)
        self._orders = tuple(int(one) for one in orders)

    def logits(self, passage: Passage) -> list[list[float]]:
        """One row, by head; none for a text without a sign in it. What stands before the passage is not read."""
        if not passage.text.strip():
            return []
        return [self._row(features(passage.text, self._orders, len(self._weights)))]

    def stretches(self, text: str) -> list[list[float]]:
        """The row of a whole text, and one of each of its stretches of STRETCH code points, which overlap by half.

        The sum of a long text is thin: one sentence among many hardly moves it, but fills a stretch.
        """
        import numpy as np

        if not text.strip():
            return []
        points = _points(text)
        each = [_places(points, order) % np.uint32(len(self._weights)) for order in self._orders]
        rows = [self._row(np.unique(np.concatenate(each)))]
        for start in range(0, len(points) - STRETCH // 2, STRETCH // 2) if len(points) > STRETCH else ():
            some = [one[start : start + STRETCH - order + 1] for order, one in zip(self._orders, each, strict=True)]
            rows.append(self._row(np.unique(np.concatenate(some))))
        return rows

    def _row(self, buckets: npt.NDArray[np.uint32]) -> list[float]:
        import numpy as np

        sums = self._weights[buckets].astype(np.float32).sum(0)
        made = sums / np.sqrt(np.float32(max(1, len(buckets)))) * self._scales + self._bias
        return [float(one) for one in made]


def prepared(text: str) -> str:
    """The text as its n-grams are taken."""
    return f" {' '.join(unicodedata.normalize('NFKC', text).casefold().split())} "


def features(text: str, orders: Sequence[int], buckets: int) -> npt.NDArray[np.uint32]:
    """The distinct buckets of a text, ascending. `buckets` is their number."""
    import numpy as np

    points = _points(text)
    found = [_places(points, order) % np.uint32(buckets) for order in orders]
    return np.unique(np.concatenate([*found, np.empty(0, np.uint32)]))


def _points(text: str) -> npt.NDArray[np.uint32]:
    import numpy as np

    return np.frombuffer(prepared(text).encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32)


def _places(points: npt.NDArray[np.uint32], order: int) -> npt.NDArray[np.uint32]:
    """The hash of the n-gram at each place; none where the text is shorter."""
    import numpy as np

    places = max(0, len(points) - order + 1)
    value = np.full(places, _BASIS ^ order, np.uint32)
    for k in range(order):
        value = (value ^ points[k : k + places]) * np.uint32(_PRIME)
    return value ^ (value >> np.uint32(15))
