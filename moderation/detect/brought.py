"""Detectors of the engine `transformers` from a policy's words: a model that a user brings. Knows policy and model."""

from __future__ import annotations

import os
from collections.abc import Mapping

from moderation.detect.labels import category
from moderation.detect.legible import Legible
from moderation.detect.transformer import Model, Transformer
from moderation.detect.transformer.folder import Folder, Of, place, read
from moderation.detect.transformer.tokens import OUTSIDE, plain
from moderation.errors import UsageError
from moderation.policy.model import Described, DetectorSpec, EngineWords, Option

LEAST = 250_000
"""A score below this, and below every level of the policy, says nothing: it is no finding."""
_SCORES = {"softmax": False, "sigmoid": True}


def brought(spec: DetectorSpec, environ: Mapping[str, str]) -> Legible:
    """The detector of a spec. Raises UsageError where its model is not there, cannot be run, or is not the one that is pinned."""
    said = spec.engine
    if said is None or said.model is None:
        raise ValueError("it has no model")
    folder = read(place(said.model, environ), _SCORES.get(str(said.options.get("scores"))))
    if said.pin != folder.pin:
        raise UsageError(f"the model is another than the policy pins: {folder.pin}", str(folder.path))
    counts = {
        label: counted for label, own in labels(folder).items() if (counted := said.labels.get(label, own)) in spec.categories
    }
    return Legible(Transformer(spec.id, Model(folder), counts, min(LEAST, *spec.levels.values())), spec.languages)


def labels(folder: Folder) -> dict[str, str]:
    """What each label counts as where the policy says nothing, without those that say that nothing was found."""
    named = dict.fromkeys(plain(one) for one in folder.labels) if folder.of is Of.TOKENS else dict.fromkeys(folder.labels)
    return {label: counted for label in named if label != OUTSIDE and (counted := category(label)) is not None}


def describe(model: str) -> Described | str:
    """What the model of this name or folder gives, or in words why there is none."""
    try:
        folder = read(place(model, os.environ))
    except UsageError as error:
        return str(error)
    return Described(folder.pin, labels(folder), None, {}, spans=folder.of is Of.TOKENS)


ENGINES: Mapping[str, EngineWords] = {
    "transformers": EngineWords(
        frozenset(("model",)), frozenset(("labels", "pin")),
        {"scores": Option("softmax: one label of several; sigmoid: each for itself (default: the model's)", tuple(_SCORES))},
        frozenset(), describe, pinned=True,
    ),
}  # fmt: skip
"""What a policy may say of it."""
