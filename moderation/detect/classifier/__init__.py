"""Small classifier models as window detectors: a folder with a manifest, loaded, checked, calibrated; or an exported one.

`manifest` and `layout` read the folder, `graph` runs onnxruntime for `encoder` (ours) and `exported` (others'), `ngram` is the
fallback without it and the `gate` before it, `pieces` cuts what is too long for one call. The only place that imports
onnxruntime, tokenizers and numpy, and only as a model is loaded. Knows no policy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Protocol, assert_never
from weakref import WeakValueDictionary

from moderation.detect.api import Passage, Windowed
from moderation.detect.classifier.encoder import Encoder
from moderation.detect.classifier.exported import Exported
from moderation.detect.classifier.gate import Gated
from moderation.detect.classifier.layout import described
from moderation.detect.classifier.manifest import MANIFEST, Chances, Kind, Manifest, read_manifest
from moderation.detect.classifier.ngram import Ngram
from moderation.errors import UsageError
from moderation.verdict import Cause, Finding, Unknown

FALLBACK = "ngram"
"""The shipped folder that is used where an encoder cannot be run."""
LEAST = 250_000
"""A score below this, and below every level of the policy, says nothing: it is no finding."""


class Model(Protocol):
    """A loaded model. May be used from several threads at once."""

    manifest: Manifest
    runtime: str
    """What runs it, with its version."""

    def logits(self, passage: Passage) -> list[list[float]]:
        """A row for each piece that the passage is read in, by head; none where there is nothing to read."""
        ...


def shipped() -> Path:
    """The folder of the models that ship: in the package, or beside it in a checkout."""
    packaged = Path(str(resources.files("moderation"))) / "classifiers"
    return packaged if packaged.exists() else Path(__file__).parents[3] / "classifiers"


def names(folder: Path) -> tuple[str, ...]:
    """The models that lie in a folder of models."""
    return tuple(sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}")))


class Store:
    """Loaded models, each once in a process and as long as a detector uses it."""

    def __init__(self) -> None:
        self._loaded: WeakValueDictionary[tuple[str, Chances | None], Encoder | Ngram | Exported] = WeakValueDictionary()

    def load(self, manifest: Manifest) -> Encoder | Ngram | Exported:
        """Raises UsageError for a folder that is not whole, ImportError where what runs it is not there."""
        key = (manifest.digest, manifest.chances)
        found = self._loaded.get(key)
        if found is not None:
            for file in manifest.files:  # what is in memory is right: that the folder still is, is not said with that
                manifest.read(file)
            return found
        made = _made(manifest)
        self._loaded[key] = made
        return made


def _made(manifest: Manifest) -> Encoder | Ngram | Exported:
    match manifest.kind:
        case Kind.ENCODER:
            return Encoder(manifest)
        case Kind.NGRAM:
            return Ngram(manifest)
        case Kind.EXPORTED:
            return Exported(manifest)
        case _:
            assert_never(manifest.kind)


STORE = Store()


def load(folder: Path, fallback: Path | None = None, store: Store = STORE) -> tuple[Model, str | None]:
    """The model of a folder, and in words what stands in for it where it cannot be run.

    Raises UsageError where a folder is not whole, or nothing runs it and there is no `fallback`.
    """
    return loaded(described(folder), fallback, store)


def loaded(manifest: Manifest, fallback: Path | None = None, store: Store = STORE) -> tuple[Model, str | None]:
    """The same, of a folder that was read."""
    try:
        return store.load(manifest), None
    except ImportError as error:
        why = f"{error.name or 'onnxruntime'} cannot be imported"
    if fallback is None:
        raise UsageError(
            f"{why}, and the model {manifest.name} needs it: `pip install onnxruntime tokenizers`", str(manifest.folder)
        )
    try:
        other = store.load(read_manifest(fallback))
    except ImportError as error:
        raise UsageError(f"{why}, nor {error.name or 'numpy'}, which what stands in for it needs", str(manifest.folder)) from None
    return other, f"{why}: {other.manifest.name} stands in for the model {manifest.name}, and finds less"


def gated(inner: Windowed, found: Manifest, gate: Manifest, store: Store = STORE) -> Gated:
    """A detector of the model `found` behind its gate. Raises UsageError where that is not the one that was measured."""
    if found.gate is None:
        raise UsageError(f"nobody has measured one for the model {found.name}")
    if gate.kind is not Kind.NGRAM or gate.pin != found.gate.pin:
        raise UsageError(f"that of the model {found.name} was measured with another {gate.name} than the one that lies there")
    model, _ = loaded(gate, store=store)
    assert isinstance(model, Ngram)
    return Gated(inner, model, found.gate)


class Classifier:
    """A model as a detector (detect/api.py, Windowed). It reads what it is given as it is; detect/legible.py goes around it."""

    batch = 1

    def __init__(
        self, id: str, model: Model, categories: Mapping[str, str] | None = None, least: int = LEAST, instead: str | None = None
    ) -> None:
        """`categories`: what heads count as, by head; others are not wanted. `least`: scores below it are no findings.

        `instead` tells what stands in for the model that was meant.
        """
        self.id, self.model, self.instead = id, model, instead
        heads = model.manifest.heads
        self._wanted = [
            (number, head, head.category if categories is None else categories[head.name])
            for number, head in enumerate(heads)
            if categories is None or head.name in categories
        ]
        self._least = least
        told = (model.manifest.digest, model.runtime, [(head.name, category) for _, head, category in self._wanted], least)
        self.version = hashlib.sha256(repr(told).encode()).hexdigest()

    def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
        return [self._one(passage) for passage in passages]

    def _one(self, passage: Passage) -> tuple[Finding, ...] | Unknown:
        rows = self.model.logits(passage)
        if not all(math.isfinite(logit) for row in rows for logit in row):
            return Unknown(self.id, Cause.INVALID)
        found = []
        for number, head, category in self._wanted if rows else ():
            score = head.score(max(row[number] for row in rows))
            if score >= self._least:
                found.append(Finding(self.id, category, None, head.name, score, None))
        return tuple(found)


def scores(model: Model, passage: Passage) -> dict[str, int]:
    """The score of every head, in millionths; 0 where there is nothing to read. Raises ValueError where one is no number."""
    rows = model.logits(passage)
    if not all(math.isfinite(logit) for row in rows for logit in row):
        raise ValueError("the model gave a score that is no number")
    heads = model.manifest.heads
    return {head.name: head.score(max(row[number] for row in rows)) if rows else 0 for number, head in enumerate(heads)}
