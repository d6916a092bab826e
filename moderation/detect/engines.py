"""Every engine that this version builds, in one table: what a policy may say of it, and what makes a detector of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moderation.detect import brought, guards, judges
from moderation.detect.api import Detector
from moderation.detect.guards import TokenGuards
from moderation.detect.models import Models
from moderation.policy.model import DetectorSpec, EngineWords


@dataclass(frozen=True, slots=True)
class Engine:
    words: EngineWords
    build: Callable[[DetectorSpec, Mapping[str, str]], Detector]
    """From a spec and the environment, which has the keys. Raises ValueError or UsageError for what cannot be built."""


Engines = Mapping[tuple[str, str], Engine]
"""By kind and name: one judge may be had over the network and in process."""


def engines(models: Models, token_guards: TokenGuards | None = None) -> Engines:
    """With the models that lie on this machine, and the guards that are installed."""
    streamed = token_guards if token_guards is not None else TokenGuards()
    found = {("http", name): Engine(words, judges.judge) for name, words in judges.ENGINES.items()}
    found |= {("model", name): Engine(words, models.detector) for name, words in models.engines.items()}
    found |= {("model", name): Engine(words, brought.brought) for name, words in brought.ENGINES.items()}
    found |= {("model", name): Engine(words, guards.guard) for name, words in guards.ENGINES.items()}
    return found | {("model", name): Engine(words, streamed.detector) for name, words in streamed.engines.items()}


ENGINES = engines(Models())
