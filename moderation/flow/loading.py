"""From a policy file to an Active policy: read, compile, build the detectors, run the tests. Blocks; run it in a thread."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from moderation.detect.api import Detector
from moderation.detect.build import build, vocabulary
from moderation.detect.patterns import Patterns
from moderation.detect.pii import Pii
from moderation.detect.run import Runner
from moderation.detect.run.cache import Cache
from moderation.detect.words import Words
from moderation.flow.policies import Loaded, PolicyRejected
from moderation.flow.reading import Active
from moderation.metrics import Metrics
from moderation.policy.archive import archive
from moderation.policy.compile import Compiled, compile_policy
from moderation.policy.faults import Fault, Grade
from moderation.policy.model import Policy
from moderation.verdict import Cause


def default_policy() -> Path:
    """The policy that ships: in the package, or beside it in a checkout."""
    packaged = Path(str(resources.files("moderation"))) / "policies" / "default.yaml"
    return packaged if packaged.exists() else Path(__file__).parents[2] / "policies" / "default.yaml"


@dataclass(slots=True)
class Reading:
    """Reads the files that a policy names, relative to it, and remembers which."""

    folder: Path
    files: list[Path] = field(default_factory=list)

    def __call__(self, name: str) -> bytes:
        path = self.folder / name
        self.files.append(path)
        return path.read_bytes()


def compiled(path: Path) -> tuple[Compiled, tuple[Path, ...]]:
    """A policy file, compiled, and the files that it was read from. Raises OSError where it cannot be read."""
    reading = Reading(path.parent)
    found = compile_policy(path.read_bytes(), str(path), vocabulary(), reading)
    return found, (path, *reading.files)


class FileLoader:
    """Loads policies for one process; their detectors share one cache of judged texts."""

    def __init__(
        self, cache: int, metrics: Metrics, make: Callable[[Policy], Mapping[str, Detector]] = build
    ) -> None:
        """`cache`: bytes; `make` builds a policy's detectors."""
        self._make = make
        self._cache = Cache(cache)
        self._metrics = metrics
        self._runners: list[Runner] = []

    def __call__(self, path: str | None, generation: int) -> Loaded:
        """Raises PolicyRejected with every fault."""
        file = Path(path) if path is not None else default_policy()
        try:
            found, sources = compiled(file)
        except OSError as error:
            line = f"{file}:1:1 error QP001 {error.strerror}"
            raise PolicyRejected([line], "QP001", f"{file.name}:1:1", "") from None
        digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources if source.exists())).hexdigest()
        if found.policy is None:
            errors = [fault for fault in found.faults if fault.level is Grade.ERROR]
            raise PolicyRejected([str(f) for f in errors], errors[0].code, _where(errors[0]), digest)
        runner = self.runner(found.policy)
        active = Active.of(found.policy, runner, generation)
        warnings = tuple(str(fault) for fault in found.faults)
        return Loaded(active, archive(found.policy), sources, warnings)

    def runner(self, policy: Policy) -> Runner:
        """The detectors of a policy, ready to run."""
        detectors = self._make(policy)
        timeouts = {name: spec.timeout_ms / 1000 for name, spec in policy.detectors.items()}
        runner = Runner(detectors, timeouts, inline=inline(detectors), cache=self._cache, observe=self._observe)
        self._runners.append(runner)
        return runner

    def _observe(self, detector: str, seconds: float, cause: Cause | None) -> None:
        self._metrics.observe("detector_seconds", seconds, detector)
        if cause is not None:
            self._metrics.add("detector_unknown", detector, cause.value)

    def close(self) -> None:
        for runner in self._runners:
            runner.close()


def _where(fault: Fault) -> str:
    """The place of a fault as the log keeps it: without folders."""
    return f"{Path(fault.file).name}:{fault.line}:{fault.column}"


def inline(detectors: Mapping[str, Detector]) -> frozenset[str]:
    """The detectors that are ours and linear in time: short texts need no thread for them."""
    return frozenset(name for name, one in detectors.items() if isinstance(one, (Patterns, Words, Pii)))
