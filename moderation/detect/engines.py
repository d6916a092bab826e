"""Every engine that this version builds, in one table: what a policy may say of it, and what makes a detector of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moderation.detect import brought, judges
from moderation.detect.api import Detector
from moderation.detect.models import Models
from moderation.policy.model import DetectorSpec, EngineWords


@dataclass(frozen=True, slots=True)
class Engine:
    words: EngineWords
    """Its kind is in there, too."""
    build: Callable[[DetectorSpec, Mapping[str, str]], Detector]
    """From a spec and the environment, which has the keys. Raises ValueError or UsageError for what cannot be built."""


def engines(models: Models) -> Mapping[str, Engine]:
    """By name, with the models that lie on this machine."""
    asked = {name: Engine(words, judges.judge) for name, words in judges.ENGINES.items()}
    run = {name: Engine(words, models.detector) for name, words in models.engines.items()}
    run |= {name: Engine(words, brought.brought) for name, words in brought.ENGINES.items()}
    return {**asked, **run}


ENGINES = engines(Models())
