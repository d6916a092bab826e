"""A model's folder as transformers lays it out: found here or in the cache, described and hashed, and not loaded.

Refused: weights that are not safetensors (a pickle runs code), and models that bring code of their own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any

from moderation.detect.labels import CONFIG, labels, several
from moderation.errors import UsageError

_WRITES = "ForCausalLM"
TEMPLATE = "chat_template.jinja"
_READ = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "additional_chat_templates/*.jinja")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?")


class Of(StrEnum):
    """What the labels are of."""

    TEXTS = "ForSequenceClassification"
    TOKENS = "ForTokenClassification"


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path
    of: Of
    labels: tuple[str, ...]
    """Of the columns, as the model has them."""
    many: bool
    """Several labels can hold of one text: each has its own chance (sigmoid), and they do not sum to one (softmax)."""
    pin: str
    """`sha256:` over the names and hashes of the files that loading reads."""


@dataclass(frozen=True, slots=True)
class Written:
    """The folder of a model that writes: it is asked in messages, which its chat template puts into one text."""

    path: Path
    pin: str


def place(model: str, environ: Mapping[str, str]) -> Path:
    """Where a model lies: a folder, or an id (`owner/name`) that is in the cache of huggingface_hub. Raises UsageError."""
    folder = Path(model)
    if (folder / CONFIG).is_file():
        return folder
    if _ID.fullmatch(model):
        base = _cache(environ) / f"models--{model.replace('/', '--')}"
        try:
            found = base / "snapshots" / (base / "refs" / "main").read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError):
            found = base / "snapshots" / "none"
        if (found / CONFIG).is_file():
            return found
    raise UsageError(
        f"there is no folder with a {CONFIG}, nor a cached model of this name. Nothing is fetched while it runs: "
        f"where there is a network run `hf download {model}`, or copy the model's folder here and name that",
        model,
    )


def _cache(environ: Mapping[str, str]) -> Path:
    """huggingface_hub's, by its own variables."""
    if named := environ.get("HF_HUB_CACHE"):
        return Path(named)
    home = environ.get("HF_HOME") or str(Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface")
    return Path(home) / "hub"


def read(path: Path, many: bool | None = None) -> Folder:
    """Describe a folder; `many` overrules what it says of its labels. Raises UsageError, saying what to do."""
    said, where = _said(path), str(path)
    of = _of(said, where)
    named = labels(said, where)
    own = several(said, len(named), where)
    return Folder(path, of, named, (own if many is None else many) and of is Of.TEXTS, _pin(path))


def read_written(path: Path) -> Written:
    """The same for a model that writes. Raises UsageError, saying what to do."""
    said, where = _said(path), str(path)
    if not _writes(said):
        raise UsageError(f"it does not write: `architectures` in {CONFIG} names none that ends in {_WRITES}", where)
    if not (path / TEMPLATE).is_file() and not _has_template(path / "tokenizer_config.json"):
        raise UsageError(f"it has no chat template (a {TEMPLATE}, or one in tokenizer_config.json)", where)
    return Written(path, _pin(path))


def writes(path: Path) -> bool:
    """Whether the folder is of a model that writes. Raises UsageError for one that is never loaded."""
    return _writes(_said(path))


def _writes(said: Mapping[str, Any]) -> bool:
    classes = said.get("architectures")
    return any(isinstance(one, str) and one.endswith(_WRITES) for one in (classes if isinstance(classes, list) else ()))


def _has_template(file: Path) -> bool:
    try:
        said = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and isinstance(said.get("chat_template"), str)


def _said(path: Path) -> Mapping[str, Any]:
    """Its configuration. Raises UsageError for a folder that is never loaded, whatever it is of."""
    where = str(path)
    try:
        said = json.loads((path / CONFIG).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{CONFIG} cannot be read ({type(error).__name__})", where) from None
    if not isinstance(said, dict):
        raise UsageError(f"{CONFIG} is no object", where)
    if "auto_map" in said:
        raise UsageError(
            "it brings code of its own (auto_map), which is never run; use a model of a class in transformers", where
        )
    if not any(path.glob("*.safetensors")):
        told = "there is no *.safetensors, and other weights can run code as they are read; save it anew with save_pretrained"
        raise UsageError(told, where)
    return said


def _of(said: Mapping[str, Any], where: str) -> Of:
    classes = said.get("architectures")
    for one in classes if isinstance(classes, list) else ():
        for of in Of:
            if isinstance(one, str) and one.endswith(of.value):
                return of
    raise UsageError(f"it is no classifier: `architectures` in {CONFIG} names none that ends in {' or '.join(Of)}", where)


def _pin(path: Path) -> str:
    files = sorted({file for pattern in _READ for file in path.glob(pattern)})
    told = "".join(f"{file.relative_to(path)} {_hash(file, *_stamp(file))}\n" for file in files)
    return "sha256:" + hashlib.sha256(told.encode()).hexdigest()


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=256)
def _hash(file: Path, size: int, changed: int) -> str:
    """Of a file as it stands: the numbers say when it must be read again."""
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
