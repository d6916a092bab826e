"""A folder as Hugging Face lays out an exported classifier: config.json, tokenizer.json, model.onnx. From it to a Manifest.

What it says of its labels is read (detect/labels.py), what is not there is told with what to do. Its scores are the graph's own
chances: nobody has measured how often they are wrong. Knows no runtime.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from moderation.detect.classifier.manifest import MANIFEST, Chances, Head, Kind, Listed, Manifest, read_manifest
from moderation.detect.labels import CONFIG, category, labels, several
from moderation.errors import UsageError
from moderation.text import Role

GRAPHS = ("model.onnx", "onnx/model.onnx")
TOKENIZER = "tokenizer.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_BESIDES = (_TOKENIZER_CONFIG, "special_tokens_map.json")
MOST_TOKENS = 512
"""Where neither says how many a call takes; also where it is more: attention costs the square of them."""
_LEAST_TOKENS = 16
_EXPORT = "`optimum-cli export onnx --model NAME --task text-classification FOLDER` writes such a folder"
_CHANCE = ((0.0, 0.0), (1.0, 1.0))
"""The knots of what is a chance already."""


def described(folder: Path) -> Manifest:
    """What a folder says of itself, by a manifest of ours or by Hugging Face's files. Raises UsageError, saying what to do."""
    return read_manifest(folder) if (folder / MANIFEST).exists() else read_layout(folder)


def read_layout(folder: Path) -> Manifest:
    """The same, of a folder without a manifest."""
    where = str(folder)
    graph = next((one for one in GRAPHS if (folder / one).is_file()), None)
    gone = [one for one in (CONFIG, TOKENIZER) if not (folder / one).is_file()] + ([] if graph else ["model.onnx"])
    if gone or graph is None:
        raise UsageError(f"there is no {MANIFEST}, nor {', '.join(gone)}. {_advice(folder, gone)}", where)
    said, more = _object(folder / CONFIG), _object(folder / _TOKENIZER_CONFIG) if (folder / _TOKENIZER_CONFIG).is_file() else {}
    named = labels(said, where)
    files = {name: _listed(folder / name) for name in (graph, CONFIG, TOKENIZER, *_BESIDES) if (folder / name).is_file()}
    told = "".join(f"{name} {one.sha256}\n" for name, one in sorted(files.items()))
    heads = tuple(Head(label, counted, _CHANCE) for label in named if (counted := category(label)) is not None)
    if not heads:
        raise UsageError(f"none of the labels in {CONFIG} tells of harm: {', '.join(named)}", where)
    return Manifest(
        folder, hashlib.sha256(told.encode()).hexdigest(), folder.resolve().name, "", Kind.EXPORTED, (), files,
        _tokens(said, more, where), dict.fromkeys(Role, ""), heads, {}, Chances(named, several(said, len(named), where)),
    )  # fmt: skip


def counted(found: Manifest, many: bool | None) -> Manifest:
    """The same, with what the policy says of its labels. Raises UsageError where a calibration says it."""
    if many is None:
        return found
    if found.chances is None:
        raise UsageError(f"its scores are calibrated by its {MANIFEST}: leave out `scores`", str(found.folder))
    return replace(found, chances=replace(found.chances, many=many))


def _advice(folder: Path, gone: list[str]) -> str:
    if "model.onnx" in gone:
        others = sorted(path.relative_to(folder).as_posix() for path in (*folder.glob("*.onnx"), *folder.glob("onnx/*.onnx")))
        if others:
            return f"Copy the graph that is to run to model.onnx; there is {', '.join(others[:5])}"
    if gone == [TOKENIZER]:
        return f"Write it with the tokenizer's `save_pretrained`, as of a fast one (use_fast=True). {_EXPORT}"
    return _EXPORT


def _object(path: Path) -> Mapping[str, Any]:
    try:
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot be read ({type(error).__name__})", str(path)) from None
    if not isinstance(said, dict):
        raise UsageError("is no object", str(path))
    return said


def _tokens(config: Mapping[str, Any], tokenizer: Mapping[str, Any], where: str) -> int:
    """The most tokens of one call, special ones too."""
    most, places = tokenizer.get("model_max_length"), config.get("max_position_embeddings")
    # Two less, for some count their positions from two on (RoBERTa and what comes of it).
    held = [_whole(most), _whole(places) - 2 if _whole(places) > 2 else 0]
    found = min([MOST_TOKENS, *(one for one in held if one > 0)])
    if found < _LEAST_TOKENS:
        raise UsageError(f"it takes {found} tokens, too few for a text", where)
    return found


def _whole(value: object) -> int:
    """A number of tokens; 0 for what says none, such as the 1e30 that transformers writes for no bound."""
    return int(value) if type(value) in (int, float) and isinstance(value, (int, float)) and 0 < value < 1e9 else 0


def _listed(path: Path) -> Listed:
    try:
        status = path.stat()
        return Listed(_hash(path, status.st_size, status.st_mtime_ns), status.st_size)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", str(path)) from None


@lru_cache(maxsize=256)
def _hash(file: Path, size: int, changed: int) -> str:
    """Of a file as it stands: the numbers say when it must be read again."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
