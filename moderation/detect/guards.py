"""Detectors of the kind `model` that are guards: Qwen3Guard in process, from a policy's words. Knows policy and model."""

from __future__ import annotations

import os
from collections.abc import Mapping

from moderation.detect.guard.exchange import HIGH
from moderation.detect.guard.qwen3guard import CATEGORY, Strictness
from moderation.detect.judges import STRICTNESS
from moderation.detect.transformer.folder import place, read_written
from moderation.detect.transformer.generator import Generator
from moderation.detect.transformer.guard import Guard
from moderation.errors import UsageError
from moderation.policy.model import Described, DetectorSpec, EngineWords


def guard(spec: DetectorSpec, environ: Mapping[str, str]) -> Guard:
    """The detector of a spec. Raises UsageError where its model is not there, cannot be run, or is not the one that is pinned."""
    said = spec.engine
    if said is None or said.model is None:
        raise ValueError("it has no model")
    folder = read_written(place(said.model, environ))
    if said.pin != folder.pin:
        raise UsageError(f"the model is another than the policy pins: {folder.pin}", str(folder.path))
    strictness = Strictness(str(said.options.get("strictness", Strictness.GRADED)))
    return Guard(spec.id, Generator(folder), strictness, frozenset(spec.categories), said.labels, spec.languages)


def describe(model: str) -> Described | str:
    """What the model of this name or folder gives, or in words why there is none."""
    try:
        folder = read_written(place(model, os.environ))
    except UsageError as error:
        return str(error)
    return Described(folder.pin, CATEGORY, None, {}, HIGH)


ENGINES: Mapping[str, EngineWords] = {
    "qwen3guard": EngineWords(
        frozenset(("model",)), frozenset(("labels", "pin")), {"strictness": STRICTNESS}, frozenset(), describe, pinned=True
    ),
}
"""What a policy may say of each."""
