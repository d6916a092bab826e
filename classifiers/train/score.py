"""Logits of a model folder for examples: the quantised encoder, one text a call on one thread, or the n-gram model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.train import ngram
from classifiers.train.examples import Example
from classifiers.train.features import sparse
from classifiers.train.manifest import PREFIXES, TOKENS
from classifiers.train.metrics import Floats


def session(path: Path) -> Any:
    """An onnxruntime session with one thread, as what runs has it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def encoder_logits(path: Path, ids: Sequence[Sequence[int]]) -> Floats:
    """[texts, heads], one text a call: dynamic scales of int8 would depend on what else is in the batch."""
    running = session(path)
    made = []
    for one in ids:
        row = np.array([one], np.int64)
        made.append(running.run(["logits"], {"input_ids": row, "attention_mask": np.ones_like(row)})[0][0])
    return np.array(made, np.float64)


def logits(folder: Path, examples: Sequence[Example]) -> Floats:
    """[examples, heads], heads in the order of HEADS. A text is cut at TOKENS; rows of the corpus are windows already."""
    if (folder / "weights.npz").exists():
        model = ngram.load(folder / "weights.npz")
        return model.logits(sparse([one.text for one in examples], model.orders, len(model.weights)))
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS)
    found = tokenizer.encode_batch_fast([PREFIXES[one.role] + one.text for one in examples])
    return encoder_logits(folder / "model.onnx", [one.ids for one in found])
