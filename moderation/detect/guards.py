"""Detectors of the kind `model` that are guards: Qwen3Guard in process, from a policy's words. Knows policy and model.

`qwen3guard` is a folder that transformers loads. Qwen3Guard-Stream comes with code of its own, which is never run from a folder:
`qwen3guard_stream` takes it from a Python package that the operator installed, by a name that the package registers. A policy can
name what is installed, and nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Protocol, runtime_checkable

from moderation.detect.guard import qwen3guard_stream
from moderation.detect.guard.exchange import HIGH, OTHER
from moderation.detect.guard.qwen3guard import CATEGORY, Strictness
from moderation.detect.judges import STRICTNESS
from moderation.detect.transformer.folder import place, read_written
from moderation.detect.transformer.generator import Generator
from moderation.detect.transformer.guard import Guard
from moderation.detect.transformer.token_guard import Streamed, TokenGuard
from moderation.errors import UsageError
from moderation.policy.faults import listed, meant
from moderation.policy.keys import PIN
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

GROUP = "moderation.token_guards"
"""The entry points under which installed packages register what they offer."""
_WORDS = frozenset(("model",)), frozenset(("labels", "pin"))
_LOAD_ERRORS = (ImportError, AttributeError, OSError, ValueError, TypeError, KeyError, RuntimeError)


@runtime_checkable
class Offer(Protocol):
    """What an entry point names: a model that can be had, not loaded."""

    @property
    def pin(self) -> str:
        """`sha256:` and 64 hexadecimal digits, over all that its verdicts depend on: weights, tokenizer, code."""
        ...

    def open(self) -> Streamed:
        """Load it."""
        ...


def installed() -> Mapping[str, Callable[[], object]]:
    """What the packages of this environment offer, by name. None of them is imported to tell."""
    return {one.name: one.load for one in entry_points(group=GROUP)}


class TokenGuards:
    """Qwen3Guard-Stream as installed packages offer it."""

    def __init__(self, offers: Callable[[], Mapping[str, Callable[[], object]]] = installed) -> None:
        self._offers = offers

    @property
    def engines(self) -> Mapping[str, EngineWords]:
        """What a policy may say of it."""
        words = EngineWords(*_WORDS, {"strictness": STRICTNESS}, frozenset((OTHER,)), self._describe, pinned=True)
        return {"qwen3guard_stream": words}

    def detector(self, spec: DetectorSpec, environ: Mapping[str, str]) -> TokenGuard:
        """The detector of a spec. Raises UsageError where nothing of its name is installed, works, or is the one pinned."""
        said = spec.engine
        if said is None or said.model is None:
            raise ValueError("it has no model")
        offer = self.offer(said.model)
        if said.pin != offer.pin:
            raise UsageError(f"the model is another than the policy pins: {offer.pin}", said.model)
        strictness = Strictness(str(said.options.get("strictness", Strictness.GRADED)))
        try:
            opened = offer.open()
        except _LOAD_ERRORS as error:
            raise UsageError(f"it cannot be loaded ({type(error).__name__})", said.model) from None
        return TokenGuard(spec.id, opened, offer.pin, strictness, frozenset(spec.categories), said.labels, spec.languages)

    def _describe(self, name: str) -> Described | str:
        try:
            offer = self.offer(name)
        except UsageError as error:
            return str(error)
        return Described(offer.pin, qwen3guard_stream.CATEGORY, None, {}, HIGH, spans=True)

    @property
    def names(self) -> frozenset[str]:
        """All that is offered."""
        return frozenset(self._offers())

    def offer(self, name: str) -> Offer:
        """What is offered under a name. Raises UsageError."""
        every = self._offers()
        if name not in every:
            hint = meant(name, every) or f" Known: {listed(sorted(every)) or '-'}."
            raise UsageError(f"no installed package offers it under the entry points {GROUP}.{hint}", name)
        try:
            found = every[name]()
        except _LOAD_ERRORS as error:
            raise UsageError(f"the package that offers it cannot be imported ({type(error).__name__})", name) from None
        if not isinstance(found, Offer) or not isinstance(found.pin, str) or not PIN.fullmatch(found.pin):
            raise UsageError("what the package offers has no pin (sha256:…), or no open()", name)
        return found
