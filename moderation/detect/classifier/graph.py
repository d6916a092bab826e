"""A graph in onnxruntime and its tokenizer: one text a call on one thread, so that a score never depends on what else is asked.

The only file that imports onnxruntime and tokenizers, and only as a model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from moderation.errors import UsageError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

_INTEGERS = {"tensor(int64)": "int64", "tensor(int32)": "int32"}


class Graph:
    """A loaded graph. May be used from several threads at once."""

    def __init__(self, raw: bytes, where: str) -> None:
        """Raises UsageError, with `where`, for what cannot be run; ImportError without onnxruntime."""
        import numpy
        import onnxruntime

        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self._numpy = numpy
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(raw, options, providers=["CPUExecutionProvider"])
        except _errors(onnxruntime) as error:
            raise UsageError(f"cannot be run ({type(error).__name__})", where) from None
        self.inputs: Mapping[str, str] = {one.name: one.type for one in self._session.get_inputs()}
        """Their types, by name."""
        outputs = [one.name for one in self._session.get_outputs()]
        self._output = "logits" if "logits" in outputs else outputs[0]
        self._errors = _errors(onnxruntime)

    def run(self, given: Mapping[str, Sequence[int]]) -> tuple[tuple[int, ...], list[float]]:
        """The shape of what it gives for one text, and its numbers. `given`: whole numbers a token, by input."""
        np = self._numpy
        rows = {name: np.array([row], _INTEGERS.get(self.inputs[name], "int64")) for name, row in given.items()}
        (made,) = self._session.run([self._output], rows)
        return tuple(made.shape), [float(one) for one in made.ravel()]

    def fails(self, given: Mapping[str, Sequence[int]]) -> str | None:
        """The name of the error with which it fails on a text, where it does."""
        try:
            self.run(given)
        except self._errors as error:
            return type(error).__name__
        return None


def tokenizer(raw: bytes, where: str) -> Tokenizer:
    """A tokenizer that neither cuts nor fills up. Raises UsageError for what is none; ImportError without tokenizers."""
    import tokenizers

    try:
        made = tokenizers.Tokenizer.from_buffer(raw)
    except ValueError as error:
        raise UsageError(f"is no tokenizer ({type(error).__name__})", where) from None
    made.no_truncation()
    made.no_padding()
    return made


def inner(found: Encoding, start: int) -> tuple[int, int]:
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
