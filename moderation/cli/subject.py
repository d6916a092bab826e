"""What `moderation classifiers` looks at: a model that ships, a folder, or a cached model, of any engine that runs in process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moderation.errors import UsageError
from moderation.verdict import Level

_GRAPHS = ("manifest.yaml", "model.onnx", "onnx/model.onnx")

if TYPE_CHECKING:
    from moderation.detect.api import Windowed
    from moderation.detect.guards import Offer
    from moderation.detect.transformer.folder import Folder, Written


@dataclass(frozen=True, slots=True)
class Opened:
    """What runs: a loaded model as a detector whose findings' categories are its heads; whatever score they have."""

    bare: Windowed
    """It reads a text as it stands."""
    whole: Windowed
    """It reads all that a text shows and hides, as in a running sidecar."""
    name: str
    pin: str
    runtime: str
    heads: tuple[str, ...]
    levels: Mapping[Level, int]
    instead: str | None = None
    """In words, what stands in for the model that was meant."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, not loaded."""

    name: str
    engine: str
    pin: str
    folder: Path
    heads: Mapping[str, str]
    """What each of its heads or labels counts as."""
    levels: Mapping[Level, int]
    open: Callable[[], Opened] = field(repr=False)
    """Loads it. Raises UsageError."""
    said: Mapping[str, Any] = field(default_factory=dict)
    """What else it says of itself."""
    check: Callable[[], None] = lambda: None
    """Raises UsageError where a file of it is another than it says."""


def subject(name: str, environ: Mapping[str, str]) -> Subject:
    """The model of a name: one that ships or that an installed package offers, a folder, or the id of one that is cached.

    Raises UsageError. Where a folder has a graph for onnxruntime, that is meant, whatever weights stand beside it.
    """
    from moderation.detect.classifier import names, shipped
    from moderation.detect.guards import TokenGuards
    from moderation.detect.models import located
    from moderation.detect.transformer.folder import read, read_written, writes
    from moderation.policy.faults import listed, meant

    if name in (every := names(shipped())):
        return _graph(shipped() / name, ships=True)
    offers = TokenGuards()
    if name in offers.names:
        return _offered(name, offers.offer(name))
    if "/" not in name and not Path(name).is_dir():
        near = meant(name, every) or f" Known: {listed(every) or '-'}."
        raise UsageError(f"no model that ships is called {name!r}.{near}")
    path = located(name, environ)
    if not any(path.glob("*.safetensors")) or any((path / graph).exists() for graph in _GRAPHS):
        return _graph(path, ships=False)
    return _guard(name, read_written(path)) if writes(path) else _brought(name, read(path))


def _graph(folder: Path, *, ships: bool) -> Subject:
    from moderation.detect.classifier.layout import described
    from moderation.policy.detectors import DEFAULT_LEVELS

    found = described(folder)

    def opened() -> Opened:
        from moderation.detect.classifier import FALLBACK, Classifier, loaded, names, shipped
        from moderation.detect.legible import Legible

        instead = shipped() / FALLBACK if ships and FALLBACK in names(shipped()) else None
        model, told = loaded(found, instead)
        run = model.manifest
        bare = Classifier("eval", model, {head.name: head.name for head in run.heads}, 0)
        every = tuple(head.name for head in run.heads)
        return Opened(bare, Legible(bare), run.name, run.pin, model.runtime, every, run.levels or DEFAULT_LEVELS, told)

    def check() -> None:
        for file in found.files:
            found.read(file)

    said = {
        "version": found.version, "languages": list(found.languages), "tokens": found.tokens,
        "files": {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in found.files.items()},
    }  # fmt: skip
    heads = {head.name: head.category for head in found.heads}
    return Subject(found.name, found.kind.value, found.pin, found.folder, heads, found.levels, opened, said, check)


def _brought(name: str, folder: Folder) -> Subject:
    from moderation.detect.brought import labels
    from moderation.policy.detectors import DEFAULT_LEVELS

    heads = labels(folder)

    def opened() -> Opened:
        from moderation.detect.legible import Legible
        from moderation.detect.transformer import Model, Transformer

        model = Model(folder)
        bare = Transformer("eval", model, {label: label for label in heads}, 0)
        return Opened(bare, Legible(bare), name, folder.pin, model.runtime, tuple(heads), DEFAULT_LEVELS)

    said = {"of": folder.of.value, "scores": "sigmoid" if folder.many else "softmax"}
    return Subject(name, "transformers", folder.pin, folder.path, heads, DEFAULT_LEVELS, opened, said)


def _guard(name: str, folder: Written) -> Subject:
    from moderation.detect.guard.qwen3guard import CATEGORY, Strictness
    from moderation.policy.detectors import DEFAULT_LEVELS

    heads = {category: category for category in CATEGORY.values()}

    def opened() -> Opened:
        from moderation.detect.transformer.generator import Generator
        from moderation.detect.transformer.guard import Guard

        writer = Generator(folder)
        guard = Guard("eval", writer, Strictness.GRADED, frozenset(heads))
        return Opened(guard, guard, name, folder.pin, writer.runtime, tuple(heads), DEFAULT_LEVELS)

    return Subject(name, "qwen3guard", folder.pin, folder.path, heads, DEFAULT_LEVELS, opened)


def _offered(name: str, offer: Offer) -> Subject:
    from moderation.detect.guard.exchange import OTHER
    from moderation.detect.guard.qwen3guard import Strictness
    from moderation.detect.guard.qwen3guard_stream import CATEGORY
    from moderation.policy.detectors import DEFAULT_LEVELS

    heads = {category: category for category in (*CATEGORY.values(), OTHER)}

    def opened() -> Opened:
        from moderation.detect.transformer.token_guard import TokenGuard

        guard = TokenGuard("eval", offer.open(), offer.pin, Strictness.GRADED, frozenset(heads))
        return Opened(guard, guard, name, offer.pin, "an installed package", tuple(heads), DEFAULT_LEVELS)

    return Subject(name, "qwen3guard_stream", offer.pin, Path(), heads, DEFAULT_LEVELS, opened)
