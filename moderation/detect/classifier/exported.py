"""A classifier as the tools around transformers export it to ONNX: chances of labels, for pieces of a text that share tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from moderation.detect.api import Passage
from moderation.detect.classifier.graph import Graph, tokenizer
from moderation.detect.classifier.layout import GRAPHS, TOKENIZER
from moderation.detect.classifier.manifest import Chances, Manifest
from moderation.errors import UsageError

if TYPE_CHECKING:
    from tokenizers import Encoding

_SHARED = 4
"""The part of a piece, one in so many, that the next piece reads again."""
_LEAST_ROOM = 8
_GIVEN = ("input_ids", "attention_mask", "token_type_ids")
_LARGER = ("model.onnx_data", "model.onnx.data")
"""Where exports put weights that one file does not hold."""


class Exported:
    """A loaded model; see Model in the folder's first file: its logits are chances. May be used from several threads at once.

    It reads the passage alone: such models were trained on single texts.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Raises UsageError for files that are not of this form; ImportError without onnxruntime or tokenizers."""
        if manifest.chances is None:
            raise ValueError("it does not tell what its numbers are")
        self.manifest = manifest
        folder = manifest.folder
        file = next(one for one in GRAPHS if one in manifest.files)
        where = str(folder / file)
        try:
            self._graph = Graph(manifest.read(file), where)
        except UsageError:
            apart = [one for one in _LARGER if (folder / file).with_name(one).exists()]
            if apart:
                raise UsageError(f"has its weights in {apart[0]}: export it into one file", where) from None
            raise
        self._tokenizer = tokenizer(manifest.read(TOKENIZER), str(folder / TOKENIZER))
        self._chances: Chances = manifest.chances
        self._heads = tuple(self._chances.labels.index(head.name) for head in manifest.heads)
        # The settings of how many labels hold are of this detector, and no part of the folder.
        self.runtime = f"{self._graph.runtime} {'sigmoid' if self._chances.many else 'softmax'}"
        asked = self._graph.inputs.keys()
        if "input_ids" not in asked or not asked <= set(_GIVEN):
            told = f"takes {', '.join(sorted(asked))}; this version gives input_ids and, where asked for, {', '.join(_GIVEN[1:])}"
            raise UsageError(f"{told}. Export it as a classifier of texts (--task text-classification)", where)
        room = manifest.tokens - len(self._tokenizer.encode("").ids)
        if room < _LEAST_ROOM:
            raise UsageError("it takes too few tokens for a text", str(folder))
        self._tokenizer.enable_truncation(manifest.tokens, stride=room // _SHARED)
        first = self._tokenizer.encode("a")
        if error := self._graph.fails(self._given(first)):
            raise UsageError(f"fails on a text ({error}): is {TOKENIZER} of another model?", where)
        shape, made = self._graph.run(self._given(first))
        if len(shape) != 2 or len(made) != len(self._chances.labels):
            told = (
                f"gives numbers of the shape {list(shape)} for a text, and config.json names {len(self._chances.labels)} labels"
            )
            raise UsageError(f"{told}. Export it as a classifier of texts (--task text-classification)", where)

    def logits(self, passage: Passage) -> list[list[float]]:
        """A row of chances for each piece of the passage, by head; none for a text without a sign in it."""
        if not passage.text.strip():
            return []
        found = self._tokenizer.encode(passage.text)
        rows = [self._graph.run(self._given(one))[1] for one in (found, *found.overflowing)]
        return [[row[at] for at in self._heads] for row in map(self._of, rows)]

    def _of(self, row: Sequence[float]) -> list[float]:
        """Chances of all labels. What is no number stays none."""
        if not all(math.isfinite(one) for one in row):
            return [math.nan] * len(row)
        return [_sigmoid(one) for one in row] if self._chances.many else _softmax(row)

    def _given(self, found: Encoding) -> Mapping[str, Sequence[int]]:
        every: Iterable[Sequence[int]] = (found.ids, found.attention_mask, found.type_ids)
        return {name: row for name, row in zip(_GIVEN, every, strict=True) if name in self._graph.inputs}


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit))


def _softmax(row: Sequence[float]) -> list[float]:
    most = max(row)
    raised = [math.exp(one - most) for one in row]
    total = math.fsum(raised)
    return [one / total for one in raised]
