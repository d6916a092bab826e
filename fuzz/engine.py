"""One target's campaign: choose, mutate, run, keep what is new, write down what broke. Chance comes from the seed alone."""

from __future__ import annotations

import base64
import json
import re
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import NoReturn

from fuzz.coverage import Coverage
from fuzz.mutate import WORDS, mutated
from fuzz.target import Run, Target

ROOT = str(Path(__file__).parent.parent)
MOST_CORPUS = 4000
_DIGITS = re.compile(r"\d+")


class TooSlow(BaseException):
    """An input took longer than its target allows. No Exception, so that nobody takes it for one of theirs."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The first input of its kind that broke a target."""

    key: str
    """What broke, and where: findings of one key are one fault."""
    data: bytes
    told: str
    """The traceback."""


@dataclass(slots=True)
class Campaign:
    """All that is kept of one target while it runs."""

    target: Target
    seed: int
    executions: int = 0
    seconds: float = 0.0
    longest: float = 0.0
    corpus: list[bytes] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)
    outcomes: set[str] = field(default_factory=set)
    inflight: Path | None = None
    """Holds the input while it runs: what is left of one that takes the process with it."""
    _run: Run | None = None
    _todo: list[bytes] = field(default_factory=list)
    _random: Random = field(default_factory=Random)
    _coverage: Coverage = field(default_factory=Coverage)
    _words: tuple[bytes, ...] = ()

    def work(self, seconds: float | None = None, executions: int | None = None) -> None:
        """Go on for so long or for so many inputs, whichever ends first. The seeds come first."""
        until = None if seconds is None else time.monotonic() + seconds
        stop = None if executions is None else self.executions + executions
        begun = time.monotonic()
        if self._run is None:
            self._prepare()
        while (until is None or time.monotonic() < until) and (stop is None or self.executions < stop):
            self._one(self._next(), until)
        self.seconds += time.monotonic() - begun

    def _prepare(self) -> None:
        self._run = self.target.prepare()
        self._random = Random(f"{self.target.name} {self.seed}")
        self._todo = [seed[: self.target.longest] for seed in reversed(self.target.seeds())]
        self._words = (*WORDS, *self.target.words * 3)

    def _next(self) -> bytes:
        if self._todo:
            return self._todo.pop()
        # The newest reach what is least explored.
        few = self.corpus[-32:] if self._random.random() < 0.4 else self.corpus
        base = self._random.choice(few or [b""])
        return mutated(base, self.corpus or [b""], self._words, self._random, self.target.longest)

    def _one(self, data: bytes, until: float | None) -> None:
        begun = time.perf_counter()
        outcome, finding = self.attempt(data)
        self.longest = max(self.longest, time.perf_counter() - begun)
        self.executions += 1
        if finding is not None:
            if finding.key not in self.findings:
                self.findings[finding.key] = Finding(finding.key, *self._smaller(finding, until))
            return
        shape = _DIGITS.sub("#", outcome)[:200]
        if self._coverage.fresh or (shape not in self.outcomes and len(self.outcomes) < MOST_CORPUS):
            self.outcomes.add(shape)
            if len(self.corpus) < MOST_CORPUS:
                self.corpus.append(data)
            else:
                self.corpus[self._random.randrange(MOST_CORPUS)] = data

    def attempt(self, data: bytes) -> tuple[str, Finding | None]:
        """One run, within the target's time. Any exception at all is a finding."""
        if self._run is None:
            self._prepare()
        assert self._run is not None
        if self.inflight is not None:
            self.inflight.write_bytes(data)
        try:
            with alarm(self.target.seconds), self._coverage:
                return self._run(data), None
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - whatever escapes the code under test is what is looked for
            return "", Finding(_key(error), data, "".join(traceback.format_exception(error, limit=-25))[-6000:])

    def _smaller(self, finding: Finding, until: float | None) -> tuple[bytes, str]:
        """The same fault from less input, as far as a few hundred tries go."""
        best = finding
        tries, size = 300, max(1, len(best.data) // 2)
        slow = "TooSlow" in finding.key
        while size and tries and not slow and (until is None or time.monotonic() < until):
            at = 0
            while at < len(best.data) and tries:
                tries -= 1
                _, found = self.attempt(best.data[:at] + best.data[at + size :])
                if found is not None and found.key == finding.key:
                    best = found
                else:
                    at += size
            size //= 2
        return best.data, best.told

    def write(self, folder: Path) -> list[Path]:
        """Each finding as a file that says how to see it again."""
        written: list[Path] = []
        for number, one in enumerate(self.findings.values(), 1):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{self.target.name}-{number}.json"
            path.write_text(json.dumps({
                "target": self.target.name, "law": self.target.law, "seed": self.seed, "broke": one.key,
                "repeat": f"python -m fuzz.run --repeat {path}", "shown": repr(one.data[:2000]),
                "input": base64.b64encode(one.data).decode(), "traceback": one.told.split("\n"),
            }, indent=1) + "\n")
            written.append(path)
        return written


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """TooSlow is raised in here after so long."""

    def ring(signum: int, frame: FrameType | None) -> NoReturn:
        raise TooSlow(f"more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _key(error: BaseException) -> str:
    """The kind of error and the innermost place of this project; for a law, its words."""
    if isinstance(error, TooSlow):
        return "TooSlow"
    places = [f"{frame.filename.removeprefix(ROOT + '/')}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
              if frame.filename.startswith(ROOT) and not frame.filename.endswith(("/fuzz/target.py", "/fuzz/engine.py"))
              and "/.venv/" not in frame.filename]
    words = f" {_DIGITS.sub('#', str(error))[:80]}" if type(error).__name__ == "LawBroken" else ""
    return f"{type(error).__name__} at {places[-1] if places else '?'}{words}"
