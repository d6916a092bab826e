"""Detectors of the kind model from a policy's words: which model, where it lies, what its heads count as. Knows policy and model.

`builtin` runs a model that ships, and has a stand-in where nothing runs it here; `onnx` runs a folder of the same form, or one
exported from transformers, which lies anywhere or in the cache, and which the policy must pin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from moderation.detect.api import Windowed
from moderation.detect.classifier import FALLBACK, LEAST, STORE, Classifier, Store, gated, loaded, names, shipped
from moderation.detect.classifier.layout import counted, described
from moderation.detect.classifier.manifest import MANIFEST, Manifest, read_manifest
from moderation.detect.legible import Legible
from moderation.detect.transformer.folder import place
from moderation.errors import UsageError
from moderation.policy.faults import listed, meant
from moderation.policy.model import Described, DetectorSpec, EngineWords, Option
from moderation.verdict import FULL_SCORE, Level

_NEEDS, _TAKES = frozenset(("model",)), frozenset(("labels", "pin"))
_SCORES = {"softmax": False, "sigmoid": True}
_EXPORTED = {"scores": Option("softmax: one label of several; sigmoid: each for itself (default: the model's)", tuple(_SCORES))}
"""The same words as those of the engine transformers."""
_NO_GATE = "none"
_GATE = {
    "gate": Option(
        "ngram: what a cheap model finds harmless is not asked of the model; none: all is (default: as measured of a model that "
        "ships, else none)",
        (FALLBACK, _NO_GATE),
    )
}


class Models:
    """The models of this machine; `folder` holds those that ship, `store` runs them."""

    def __init__(self, folder: Path | None = None, store: Store = STORE) -> None:
        self._folder = folder
        self._store = store

    @property
    def folder(self) -> Path:
        return self._folder if self._folder is not None else shipped()

    @property
    def engines(self) -> Mapping[str, EngineWords]:
        """What a policy may say of each engine."""
        return {
            "builtin": EngineWords(_NEEDS, _TAKES, _GATE, frozenset(), self._builtin),
            "onnx": EngineWords(_NEEDS, _TAKES, _EXPORTED | _GATE, frozenset(), _own, pinned=True),
        }

    def _builtin(self, name: str) -> Described | str:
        every = names(self.folder)
        if name not in every:
            return f"none that ships is called {name!r}.{meant(name, every) or f' Known: {listed(every)}.'}"
        return _told(self.folder / name)

    def detector(self, spec: DetectorSpec, environ: Mapping[str, str]) -> Legible:
        """The detector of a spec. Raises UsageError where its model is not there, not whole, or not the one that is pinned."""
        said = spec.engine
        if said is None or said.model is None:
            raise ValueError("it has no model")
        ships = said.name == "builtin"
        folder = self.folder / said.model if ships else located(said.model, environ)
        stand_in = self.folder / FALLBACK
        pinned = counted(described(folder), _SCORES.get(str(said.options.get("scores"))))
        if said.pin != pinned.pin:
            raise UsageError(f"{_what(pinned)} is another than the policy pins: {pinned.pin}", str(folder))
        model, instead = loaded(pinned, stand_in if ships and (stand_in / MANIFEST).exists() else None, self._store)
        counts = {
            head.name: category
            for head in model.manifest.heads
            if (category := said.labels.get(head.name, head.category)) in spec.categories
        }
        least = min(LEAST, *spec.levels.values())
        inner = Classifier(spec.id, model, counts, least, instead)
        wanted = said.options.get("gate", None if ships else _NO_GATE)
        asked = inner if instead is not None else self._gated(inner, pinned, wanted, min(spec.levels.values()))
        return Legible(asked, spec.languages)

    def _gated(self, inner: Classifier, found: Manifest, wanted: str | int | None, least: int) -> Windowed:
        """A model behind its gate, where the policy wants one, or says nothing and it is worth it.

        `least`: the policy's lowest threshold; what a gate costs was measured at `medium`, and is not known below it. Raises
        UsageError where a gate that the policy wants cannot be had.
        """
        gate = found.gate
        worth = gate is not None and gate.default and least >= found.levels.get(Level.MEDIUM, FULL_SCORE)
        if wanted == _NO_GATE or (wanted is None and not worth):
            return inner
        try:
            return gated(inner, found, read_manifest(self.folder / FALLBACK), self._store)
        except UsageError as error:
            if wanted is None:  # all is asked of the model, then
                return inner
            raise UsageError(f"cannot have the gate {wanted}: {error}", str(found.folder)) from None


def located(model: str, environ: Mapping[str, str]) -> Path:
    """Where a model of one's own lies: a folder, or an id (`owner/name`) in the cache of huggingface_hub. Raises UsageError."""
    folder = Path(model)
    return folder if folder.is_dir() else place(model, environ)


def _own(model: str) -> Described | str:
    try:
        return _told(located(model, os.environ))
    except UsageError as error:
        return str(error)


def _told(folder: Path) -> Described | str:
    try:
        found = described(folder)
    except UsageError as error:
        return str(error)
    return _words(found)


def _words(found: Manifest) -> Described:
    """What the policy's reader needs of a manifest."""
    most = max((round(head.knots[-1][1] * 1_000_000) for head in found.heads), default=0)
    return Described(found.pin, {head.name: head.category for head in found.heads}, found.languages or None, found.levels, most)


def _what(found: Manifest) -> str:
    return MANIFEST if found.chances is None else "the model"


def stand_ins(detectors: Mapping[str, object]) -> dict[str, str]:
    """By detector: in words, what stands in for the model that it was meant to have. All others are what they should be."""
    inner = {name: one.inner for name, one in detectors.items() if isinstance(one, Legible)}
    return {name: one.instead for name, one in inner.items() if isinstance(one, Classifier) and one.instead is not None}
