"""An encoder in onnxruntime: one text a call on one thread, so that a score never depends on what else is asked.

The only file that imports onnxruntime and tokenizers, and only as a model is loaded.
"""

from __future__ import annotations

from bisect import bisect_left
from types import ModuleType
from typing import TYPE_CHECKING

from moderation.detect.api import Passage
from moderation.detect.classifier.manifest import Manifest
from moderation.detect.classifier.pieces import flat, pieces
from moderation.errors import UsageError

if TYPE_CHECKING:
    from tokenizers import Encoding

_LEAST_ROOM = 8
"""Tokens of text that one call must have room for."""
_INPUTS = ("input_ids", "attention_mask")


class Encoder:
    """A loaded model; see Model in the folder's first file. May be used from several threads at once."""

    def __init__(self, manifest: Manifest) -> None:
        """Raises UsageError for files that are not of this form; ImportError without onnxruntime or tokenizers."""
        import numpy
        import onnxruntime
        import tokenizers

        self.manifest = manifest
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self._numpy = numpy
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model, spelling = manifest.read("model.onnx"), manifest.read("tokenizer.json")
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except _errors(onnxruntime) as error:
            raise UsageError(f"cannot be run ({type(error).__name__})", str(manifest.folder / "model.onnx")) from None
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(spelling)
        except ValueError as error:
            raise UsageError(f"is no tokenizer ({type(error).__name__})", str(manifest.folder / "tokenizer.json")) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        given = {one.name for one in self._session.get_inputs()}
        if given != set(_INPUTS):
            raise UsageError(f"takes {sorted(given)}, not {sorted(_INPUTS)}", str(manifest.folder / "model.onnx"))
        self._output = self._session.get_outputs()[0].name
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
        first, last = _inner(found, len(prefix.rstrip()))
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
        np = self._numpy
        given = np.array([ids], np.int64)
        (rows,) = self._session.run([self._output], {"input_ids": given, "attention_mask": np.ones_like(given)})
        made = [float(one) for one in rows[0]]
        if len(made) != len(self.manifest.heads):
            raise UsageError(f"gives {len(made)} logits for {len(self.manifest.heads)} heads", str(self.manifest.folder))
        return made


def _inner(found: Encoding, start: int) -> tuple[int, int]:
    """The tokens of the text itself: between what the role and the tokenizer put before it and what stands behind it."""
    special, offsets = found.special_tokens_mask, found.offsets
    last = len(found.ids)
    while last and special[last - 1]:
        last -= 1
    first = 0
    while first < last and (special[first] or offsets[first][1] <= start):
        first += 1
    return first, last


def _errors(onnxruntime: ModuleType) -> tuple[type[Exception], ...]:
    """The classes of what it raises: each stands by itself, right below Exception."""
    state = onnxruntime.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
    return (RuntimeError, ValueError, *(getattr(state, name) for name in names))
