"""The fallback: a linear model over character n-grams, in numpy, where onnxruntime is not there.

Features as classifiers/train/features.py takes them: NFKC, casefold, each run of white space as one space, one space before and
one behind; then for each order n and each place i, over code points c: h = 0x811C9DC5 ^ n; for k = 0 … n-1: h = (h ^ c[i+k]) *
0x01000193 mod 2^32; h ^= h >> 15; the bucket is h mod buckets. A text is the set of its buckets.

logit[h] = bias[h] + scales[h] * (sum of weights[b, h] over the text's buckets b) / sqrt(how many buckets it has)
"""

from __future__ import annotations

import io
import unicodedata
import zipfile
from typing import TYPE_CHECKING

from moderation.detect.api import Passage
from moderation.detect.classifier.manifest import Manifest
from moderation.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_BASIS, _PRIME = 0x811C9DC5, 0x01000193
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
        import numpy as np

        if not passage.text.strip():
            return []
        buckets = features(passage.text, self._orders, len(self._weights))
        sums = self._weights[buckets].astype(np.float32).sum(0)
        made = sums / np.sqrt(np.float32(max(1, len(buckets)))) * self._scales + self._bias
        return [[float(one) for one in made]]


def features(text: str, orders: tuple[int, ...], buckets: int) -> npt.NDArray[np.uint32]:
    """The distinct buckets of a text, ascending."""
    import numpy as np

    ready = f" {' '.join(unicodedata.normalize('NFKC', text).casefold().split())} "
    points = np.frombuffer(ready.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32)
    found = []
    for order in orders:
        places = len(points) - order + 1
        if places > 0:
            value = np.full(places, _BASIS ^ order, np.uint32)
            for k in range(order):
                value = (value ^ points[k : k + places]) * np.uint32(_PRIME)
            found.append((value ^ (value >> np.uint32(15))) % np.uint32(buckets))
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint32)
