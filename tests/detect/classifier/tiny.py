"""A model of a few hundred bytes, with a tokenizer of a token a character: made here, for nothing that large is kept for tests.

Each token has a weight for each head, and a logit is their mean. `bomb` and `kill` stand for harm; all else is harmless.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from moderation.detect.classifier.ngram import features

HEADS = ("violence", "injection")
WEIGHTS = {"▁bomb": (30.0, 0.0), "▁kill": (4.0, 0.0), "▁ignore": (0.0, 8.0), "爆": (8.0, 0.0)}
"""By token."""
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"-()。，！？"
_HAN = "怎么制造炸弹爆你好天气很今"


def tokenizer() -> Tokenizer:
    """Unigram with Metaspace, as the encoder that ships has it: a token a character, but for the words that have a weight."""
    pieces = ["<s>", "</s>", "<unk>", "▁", *_LETTERS, *_HAN, *WEIGHTS]
    scores = [0.0, 0.0, 0.0, *(-3.0 for _ in ("▁", *_LETTERS, *_HAN)), *(-1.0 for _ in WEIGHTS)]
    unique = dict(zip(pieces, scores, strict=True))
    made = Tokenizer(models.Unigram(list(unique.items()), unk_id=2))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return made


def onnx(
    weights: Sequence[Sequence[float]], inputs: Sequence[str] = ("input_ids", "attention_mask"), mean: bool = True, kind: int = 7
) -> bytes:
    """input_ids -> Gather(weights) -> ReduceMean over the tokens -> logits, in the words of onnx.proto, IR version 8, opset 13.

    With token_type_ids among the inputs their rows of the same weights are added; `kind` is 7 for int64, 6 for int32. Without
    `mean` there is a row of logits a token.
    """
    count, heads = len(weights), len(weights[0])
    raw = struct.pack(f"<{count * heads}f", *(one for row in weights for one in row))
    table = _number(1, count) + _number(1, heads) + _number(2, 1) + _bytes(8, b"weights") + _bytes(9, raw)
    last = b"each" if mean else b"logits"
    typed = "token_type_ids" in inputs
    nodes = [_bytes(1, b"weights") + _bytes(1, b"input_ids") + _bytes(2, b"words" if typed else last) + _bytes(4, b"Gather")]
    if typed:
        nodes.append(_bytes(1, b"weights") + _bytes(1, b"token_type_ids") + _bytes(2, b"types") + _bytes(4, b"Gather"))
        nodes.append(_bytes(1, b"words") + _bytes(1, b"types") + _bytes(2, last) + _bytes(4, b"Add"))
    if mean:
        axes = _bytes(1, b"axes") + _number(8, 1) + _number(20, 7)
        flat = _bytes(1, b"keepdims") + _number(3, 0) + _number(20, 2)
        nodes.append(_bytes(1, last) + _bytes(2, b"logits") + _bytes(4, b"ReduceMean") + _bytes(5, axes) + _bytes(5, flat))
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"tiny") + _bytes(5, table)
    graph += b"".join(_bytes(11, _tensor(one.encode(), kind)) for one in inputs)
    graph += _bytes(12, _tensor(b"logits", 1, 2 if mean else 3))
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def _tensor(name: bytes, kind: int, dimensions: int = 2) -> bytes:
    """A tensor whose dimensions are of any size."""
    dims = b"".join(_bytes(1, _bytes(2, one)) for one in (b"batch", b"size", b"labels")[:dimensions])
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, dims)))


def manifest(folder: Path, **changes: object) -> dict[str, Any]:
    """What the manifest of a folder says, with the hashes of what lies there; a change to None leaves a key out."""
    listed = {
        path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name not in ("manifest.yaml", "card.md")
    }
    engine = "encoder" if (folder / "model.onnx").exists() else "ngram"
    said: dict[str, Any] = {
        "format": 1, "name": folder.name, "version": "1", "engine": engine, "languages": ["en", "zh"], "files": listed,
        "windows": {"input": 400, "answer": 100, "tokens": 40},
        "roles": {"prompt": "query: ", "response": "passage: ", "tool_result": "passage: "} if engine == "encoder"
        else dict.fromkeys(("prompt", "response", "tool_result"), ""),
        "heads": {name: {"category": name, "calibration": [[0.0, 0.0], [0.2, 0.5], [0.4, 1.0]]} for name in HEADS},
        "levels": {"medium": 0.5, "high": 0.85, "critical": 0.97},
    }  # fmt: skip
    said |= changes
    return {key: value for key, value in said.items() if value is not None}


def write(folder: Path, said: Mapping[str, object]) -> Path:
    """JSON is YAML."""
    (folder / "manifest.yaml").write_text(json.dumps(said, ensure_ascii=False, indent=1), "utf-8")
    return folder


def encoder(folder: Path, weights: Mapping[str, Sequence[float]] = WEIGHTS, **changes: object) -> Path:
    """A folder with an encoder."""
    folder.mkdir(parents=True, exist_ok=True)
    spelling = tokenizer()
    (folder / "tokenizer.json").write_text(spelling.to_str(), "utf-8")
    rows = [[0.0] * len(HEADS) for _ in range(spelling.get_vocab_size())]
    for token, row in weights.items():
        rows[spelling.token_to_id(token) or 0] = list(row)
    (folder / "model.onnx").write_bytes(onnx(rows))
    return write(folder, manifest(folder, **changes))


def ngram(folder: Path, **changes: object) -> Path:
    """A folder with a linear model over character n-grams: what has the letters of `bomb` in it is violence."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = np.zeros((4096, len(HEADS)), np.int8)
    weights[features(" bomb ", (4,), 4096), 0] = 100
    made = io.BytesIO()
    np.savez(made, weights=weights, scales=np.full(2, 0.01, np.float32), bias=np.full(2, -0.1, np.float32), orders=np.array([4]))
    (folder / "weights.npz").write_bytes(made.getvalue())
    return write(folder, manifest(folder, **changes))


def exported(
    folder: Path,
    labels: Sequence[str] = ("SAFE", "violence", "Prompt Injection"),
    weights: Mapping[str, Sequence[float]] | None = None,
    *,
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    graph: str = "model.onnx",
    mean: bool = True,
    kind: int = 7,
    tokens: object = None,
    **config: object,
) -> Path:
    """A folder as an export from transformers leaves it: no manifest of ours. `bomb` is the second label, `ignore` the third."""
    (folder / graph).parent.mkdir(parents=True, exist_ok=True)
    spelling = tokenizer()
    given = weights if weights is not None else {"▁bomb": (0, 30, 0), "▁ignore": (0, 0, 30)}
    rows = [[0.0] * len(labels) for _ in range(spelling.get_vocab_size())]
    for token, row in given.items():
        rows[spelling.token_to_id(token) or 0] = [float(one) for one in row[: len(labels)]]
    (folder / graph).write_bytes(onnx(rows, inputs, mean, kind))
    spelling.enable_padding(length=30)  # as many are saved
    spelling.enable_truncation(4)
    (folder / "tokenizer.json").write_text(spelling.to_str(), "utf-8")
    said = {
        "architectures": ["BertForSequenceClassification"],
        "max_position_embeddings": 66,
        "id2label": dict(enumerate(labels)),
    }
    (folder / "config.json").write_text(json.dumps(said | config), "utf-8")
    if tokens is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": tokens}), "utf-8")
    return folder
