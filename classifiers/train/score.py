"""Logits of a model folder for examples: the quantised encoder, one text a call on one thread, or the n-gram model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from classifiers.train import ngram
from classifiers.train.examples import Example
from classifiers.train.features import sparse
from classifiers.train.metrics import Floats


def logits(folder: Path, examples: Sequence[Example]) -> Floats:
    """[examples, heads], heads in the order of HEADS."""
    if (folder / "weights.npz").exists():
        model = ngram.load(folder / "weights.npz")
        return model.logits(sparse([one.text for one in examples], model.orders, len(model.weights)))
    from tokenizers import Tokenizer

    from classifiers.train.quantise import logits_of
    from classifiers.train.train import PREFIX, TOKENS

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    return logits_of(
        folder / "model.onnx", [one.ids for one in tokenizer.encode_batch_fast([PREFIX[one.role] + one.text for one in examples])]
    )
