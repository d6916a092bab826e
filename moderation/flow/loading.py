"""From a policy file to an Active policy: read, compile, build the detectors, run the tests. Blocks; run it in a thread."""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from errno import EPERM
from importlib import resources
from os.path import realpath
from pathlib import Path

from moderation.detect.api import Detector
from moderation.detect.build import build, inline, vocabulary
from moderation.detect.models import stand_ins
from moderation.detect.run import Runner
from moderation.detect.run.breaker import State
from moderation.detect.run.cache import Cache
from moderation.detect.run.workers import Workers
from moderation.errors import UsageError
from moderation.events import Say, Value
from moderation.flow.policies import Loaded, PolicyRejected, Sources
from moderation.flow.reading import Active
from moderation.flow.trial import Quiet, hanging, trial
from moderation.heap import trim
from moderation.metrics import Metrics
from moderation.policy.archive import archive, from_archive
from moderation.policy.compile import Compiled, compile_policy
from moderation.policy.faults import Fault, Faults, Grade, Place, shown
from moderation.policy.model import Policy
from moderation.text import Phase
from moderation.verdict import Cause


def silent(event: str, request_id: str | None = None, /, **fields: Value) -> None:
    """Tells nobody, where nobody serves."""


def default_policy() -> Path:
    """The policy that ships: in the package, or beside it in a checkout."""
    packaged = Path(str(resources.files("moderation"))) / "policies" / "default.yaml"
    return packaged if packaged.exists() else Path(__file__).parents[2] / "policies" / "default.yaml"


@dataclass(slots=True)
class Reading:
    """Reads the files that a policy names, relative to it, and remembers which."""

    folder: Path
    files: dict[Path, str] = field(default_factory=dict)

    def __call__(self, name: str) -> bytes:
        """Raises OSError, also for a link that leads elsewhere: what a policy holds is kept with the log."""
        path = self.folder / name
        self.files[path] = ""
        # Not resolve(): that raises something else where links go in a circle.
        if not Path(realpath(path)).is_relative_to(realpath(self.folder)):
            raise PermissionError(EPERM, "it leads out of the policy's folder")
        return self.read(path)

    def read(self, path: Path) -> bytes:
        """Remembers what was read, for a file may change while the others are being read."""
        self.files[path] = ""
        data = path.read_bytes()
        self.files[path] = hashlib.sha256(data).hexdigest()
        return data


def compiled(path: Path) -> tuple[Compiled, Sources]:
    """A policy file, compiled, and the files that it was read from. One that cannot be read is a fault like any other."""
    reading = Reading(path.parent)
    try:
        source = reading.read(path)
    except OSError as error:
        faults = Faults(str(path))
        faults.add("QP000", Place(1, 1), f"the file cannot be read: {error.strerror}.")
        return Compiled(None, faults.sorted()), reading.files
    return compile_policy(source, str(path), vocabulary(), reading), reading.files


class FileLoader:
    """Loads policies for one process; their detectors share one cache of judged texts."""

    def __init__(
        self, cache: int, metrics: Metrics, make: Callable[[Policy], Mapping[str, Detector]] = build, *, tested: bool = True,
        say: Say = silent,
    ) -> None:
        """`cache`: bytes; `make` builds a policy's detectors; `tested`: a policy of which a test fails is not taken."""
        self._say = say
        self._make = make
        self._tested = tested
        self._cache = Cache(cache, count=lambda result, times: metrics.add("cache", result, amount=times))
        self._metrics = metrics
        self._runners: list[weakref.ref[Runner]] = []
        """Of the policies that decide, and of those that requests still keep."""
        self._newest: dict[str | None, Runner] = {}
        """The newest runner of each file: older ones have no requests but those that began with them."""

    def __call__(self, path: str | None, generation: int) -> Loaded:
        """Raises PolicyRejected with every fault."""
        try:
            return self._load(path, generation)
        finally:
            trim()

    def _load(self, path: str | None, generation: int) -> Loaded:
        file = Path(path) if path is not None else default_policy()
        found, sources = compiled(file)
        errors = [fault for fault in found.faults if fault.level is Grade.ERROR]
        detectors: Mapping[str, Detector] = {}
        if found.policy is not None:
            try:
                detectors = self._make(found.policy)
            except UsageError as error:
                errors = [_unbuilt(str(file), error)]
            else:
                errors = _failing(found.policy, detectors, str(file)) if self._tested else []
        if found.policy is None or errors:
            raise PolicyRejected([str(f) for f in errors], errors[0].code, _where(errors[0]), _digest(sources), sources)
        active = self._active(path, found.policy, detectors, generation)
        return Loaded(active, archive(found.policy), sources, tuple(str(fault) for fault in found.faults))

    def kept(self, path: str | None, generation: int, files: Mapping[str, bytes]) -> Loaded:
        """A policy as it was kept when it was activated; its file counts as not read. UsageError where it is not whole."""
        policy = from_archive(files)
        file = Path(path) if path is not None else default_policy()
        active = self._active(path, policy, self._make(policy), generation)
        return Loaded(active, files, {file: "not read"})

    def _active(self, path: str | None, policy: Policy, detectors: Mapping[str, Detector], generation: int) -> Active:
        instead = stand_ins(detectors)
        active = Active.of(policy, self._runner(path, policy, detectors), generation, instead)
        weakref.finalize(active, active.runner.leave).atexit = False
        if self._tested:
            active.runner.warm((names, phase is Phase.OUTPUT) for phase, names in active.wanted.items())
        return active

    def _runner(self, path: str | None, policy: Policy, detectors: Mapping[str, Detector]) -> Runner:
        """The detectors of a policy, ready to run."""
        workers = Workers(waited=lambda seconds: self._metrics.observe("detector_wait_seconds", seconds))
        timeouts = {name: spec.timeout_ms / 1000 for name, spec in policy.detectors.items()}
        dead: set[str] = set()

        def tell(detector: str, state: State) -> None:
            one = ref()
            if one is not None and self._newest.get(path) is one:
                self._changed(detector, state, dead, one.why(detector))

        categories = {name: frozenset(spec.categories) for name, spec in policy.detectors.items()}
        runner = Runner(detectors, timeouts, inline=inline(detectors), cache=self._cache, observe=self._observe, workers=workers,
                        categories=categories, tell=tell)
        ref = weakref.ref(runner)  # `tell` must not hold it: a circle waits for the garbage collector, and that for hours
        self._runners = [*(one for one in self._runners if one() is not None), ref]
        self._newest[path] = runner
        return runner

    def _observe(self, detector: str, seconds: float, cause: Cause | None) -> None:
        self._metrics.observe("detector_seconds", seconds, detector)
        if cause is not None:
            self._metrics.add("detector_unknown", detector, cause.value)

    def _changed(self, detector: str, state: State, dead: set[str], why: str) -> None:
        """A breaker has changed. `dead` are the detectors of its runner that the operator was told of."""
        states = {runner.state(detector) for runner in self._newest.values() if runner.has(detector)}
        worst = next(one for one in (State.OPEN, State.HALF_OPEN, State.CLOSED) if one in states)
        self._metrics.set("detector_breaker", worst, detector)
        if state is State.OPEN and detector not in dead:
            dead.add(detector)
            self._metrics.add("detector_breaker_trips", detector)
            self._say("detector_dead", detector=detector, why=why)
        elif state is State.CLOSED:
            dead.discard(detector)
            self._say("detector_back", detector=detector)

    @property
    def load(self) -> tuple[int, int]:
        """Pieces of work that wait for threads of detectors, and threads that hang."""
        loads = [runner.load for one in self._runners if (runner := one()) is not None]
        return sum(waiting for waiting, _ in loads), sum(lost for _, lost in loads)

    @property
    def cached(self) -> int:
        """Bytes of judged texts that are kept."""
        return self._cache.size

    async def end(self) -> None:
        """Close the connections to judges, before `close`."""
        for one in self._runners:
            if (runner := one()) is not None:
                await runner.end()

    def close(self) -> None:
        for one in self._runners:
            if (runner := one()) is not None:
                runner.close()


def _unbuilt(file: str, error: UsageError) -> Fault:
    faults = Faults(file)
    faults.add("QP044", Place(1, 1), f"{error}.")
    return faults.sorted()[0]


def _failing(policy: Policy, detectors: Mapping[str, Detector], file: str) -> list[Fault]:
    """What the policy's own tests say against it. Without the texts: these lines go where anybody may read them.

    Tests that would ask a judge over the network are left to `policy test --models`: whether a policy is taken must not hang on
    others. So are those of a model that another stands in for: what it is to find is not asked of the one that finds less.
    """
    faults = Faults(file)
    quiet = {*stand_ins(detectors), *(name for name, spec in policy.detectors.items() if spec.kind == "http")}
    tried = {name: Quiet(name) if name in quiet else one for name, one in detectors.items()}
    hangs = hanging(policy, quiet)
    for result in trial(policy, lambda _: tried, lambda rule, test: not hangs(rule, test)):
        for problem in result.problems:
            said = "text: not what was expected" if problem.startswith("text: ") else problem
            test = f"the test {shown(result.name)} of the rule {shown(result.rule)} fails"
            faults.add("QP304", Place(result.line, result.column), f"{test}: {said}.")
    return list(faults.sorted())


def _digest(sources: Iterable[Path]) -> str:
    """SHA-256 over what the files hold, as far as they can be read."""
    digest = hashlib.sha256()
    for source in sources:
        with suppress(OSError):
            digest.update(source.read_bytes())
    return digest.hexdigest()


def _where(fault: Fault) -> str:
    """The place of a fault as the log keeps it: without folders."""
    return f"{Path(fault.file).name}:{fault.line}:{fault.column}"
