"""An encoder of ours: a passage in pieces, each with the sentences before it that fit, one call a piece."""

from __future__ import annotations

from bisect import bisect_left

from moderation.detect.api import Passage
from moderation.detect.classifier.graph import Graph, inner, tokenizer
from moderation.detect.classifier.manifest import Manifest
from moderation.detect.classifier.pieces import flat, pieces
from moderation.errors import UsageError

_LEAST_ROOM = 8
"""Tokens of text that one call must have room for."""
_INPUTS = ("input_ids", "attention_mask")


class Encoder:
    """A loaded model; see Model in the folder's first file. May be used from several threads at once."""

    def __init__(self, manifest: Manifest) -> None:
        """Raises UsageError for files that are not of this form; ImportError without onnxruntime or tokenizers."""
        self.manifest = manifest
        graph, words = (str(manifest.folder / file) for file in ("model.onnx", "tokenizer.json"))
        self._graph = Graph(manifest.read("model.onnx"), graph)
        self._tokenizer = tokenizer(manifest.read("tokenizer.json"), words)
        self.runtime = self._graph.runtime
        if self._graph.inputs.keys() != set(_INPUTS):
            raise UsageError(f"takes {sorted(self._graph.inputs)}, not {sorted(_INPUTS)}", graph)
        for prefix in set(manifest.roles.values()):
            if manifest.tokens - len(self._tokenizer.encode(prefix).ids) < _LEAST_ROOM:
                raise UsageError("windows.tokens leaves no room for a text", str(manifest.folder))
        self.logits(Passage("a"))  # so that a model of another shape is told of here

    def logits(self, passage: Passage) -> list[list[float]]:
        """A row for each piece of the passage, by head; none for a text without a sign in it."""
        text, new, sentences = flat(passage.before, passage.text)
        if new >= len(text):
            return []
        prefix = self.manifest.roles[passage.role]
        found = self._tokenizer.encode(prefix + text)
        first, last = inner(found, len(prefix.rstrip()))
        head, tail = found.ids[:first], found.ids[last:]
        # Found by where each token ends, for the space before a sentence is its own, as a token or as part of one.
        ends = [end - len(prefix) for _, end in found.offsets[first:last]]
        places = [bisect_left(ends, one + (one > 0 and text[one - 1] != " ")) for one in sentences]
        room = self.manifest.tokens - len(head) - len(tail)
        ids = found.ids[first:last]
        return [
            self._run([*head, *ids[one.begin : one.end], *tail])
            for one in pieces(places, places[bisect_left(sentences, new)], len(ids), room)
        ]

    def _run(self, ids: list[int]) -> list[float]:
        _, made = self._graph.run({"input_ids": ids, "attention_mask": [1] * len(ids)})
        if len(made) != len(self.manifest.heads):
            raise UsageError(f"gives {len(made)} logits for {len(self.manifest.heads)} heads", str(self.manifest.folder))
        return made
