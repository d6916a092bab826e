"""The policies in force: read, checked, kept, recorded, and swapped while requests go on.

A request keeps the policy it began with. A file that cannot be taken leaves the old version in force, and says so on stderr, in
the log, in the metrics and on /readyz. A change has two steps, `prepare` and `settle`, so that workers can make it together.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from moderation.audit import record
from moderation.audit.bundle import Bundles
from moderation.errors import LogError, UsageError
from moderation.events import Say
from moderation.flow.ledger import Log
from moderation.flow.reading import Active
from moderation.metrics import Metrics

Sources = Mapping[Path, str]
"""The files that a policy was read from, each with the SHA-256 of what it held then; "" where it could not be read."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy that may be activated, and the files that it was read from."""

    active: Active
    archive: Mapping[str, bytes]
    sources: Sources
    warnings: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        return self.active.policy.ref.hash


class PolicyRejected(UsageError):
    """A policy file that cannot be taken. `where` is FILE:LINE:COLUMN of the first fault, `lines` all of them."""

    def __init__(self, lines: Sequence[str], code: str, where: str, digest: str, sources: Sources) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)
        self.code = code
        self.place = where
        self.digest = digest
        self.sources = sources


class PolicyLog(Log, Protocol):
    """The store, as far as it is used here."""

    @property
    def latched(self) -> LogError | None: ...


class Loader(Protocol):
    """Reads, compiles and tests a policy, and builds its detectors; None is the default that ships."""

    def __call__(self, path: str | None, generation: int) -> Loaded: ...

    def kept(self, path: str | None, generation: int, files: Mapping[str, bytes]) -> Loaded: ...


@dataclass(slots=True)
class _Slot:
    loaded: Loaded
    sources: Sources
    """As they were when they were last read, whatever came of it."""
    fault: str | None = None
    rejected: PolicyRejected | None = None
    """What is wrong with the newest version, until it is told."""
    waiting: Loaded | None = None
    """A newer version, sound, that does not decide yet."""
    for_log: bool = False
    """It waits for the log."""


class Policies:
    """All policies of one process, by file."""

    def __init__(
        self, load: Loader, log: PolicyLog, bundles: Bundles, metrics: Metrics, engine: str, say: Say,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._load = load
        self._log = log
        self._bundles = bundles
        self._metrics = metrics
        self._engine = engine
        self._say, self._now = say, now
        self._slots: dict[str | None, _Slot] = {}
        self._generation = 0
        self._turn = asyncio.Lock()
        self.changing: list[str] = []
        """Between `prepare` and `settled`: the old and the new versions, for another worker may decide by either."""
        self._news: list[Loaded] = []
        """To be said once it is true of all."""

    def active(self, path: str | None) -> Active:
        return self._slots[path].loaded.active

    @property
    def every(self) -> Mapping[str | None, Active]:
        return {path: slot.loaded.active for path, slot in self._slots.items()}

    @property
    def faults(self) -> dict[str, str]:
        """What stands in the way of the newest version of a file, by file."""
        return {str(path or "default"): slot.fault for path, slot in self._slots.items() if slot.fault}

    @property
    def versions(self) -> dict[str | None, str]:
        """The hash of the policy that decides, by file."""
        return {path: slot.loaded.hash for path, slot in self._slots.items()}

    async def start(self, paths: Sequence[str | None], versions: Mapping[str | None, str] | None = None) -> None:
        """Load and activate every policy, of these versions where they are given; raises PolicyRejected or LogError."""
        for path in dict.fromkeys(paths):
            self._generation += 1
            loaded = await asyncio.to_thread(self._version, path, versions[path] if versions else None)
            await self._activate(path, loaded)
            if versions is None:
                self._warn(loaded)

    def _version(self, path: str | None, version: str | None) -> Loaded:
        """The policy as its file has it; or of this version, as it was kept when it was activated, where the file has another."""
        try:
            loaded = self._load(path, self._generation)
        except PolicyRejected:
            if version is None:
                raise
        else:
            if version in (None, loaded.hash):
                return loaded
        assert version is not None
        kept = self._load.kept(path, self._generation, self._bundles.read(version))
        if kept.hash != version:
            raise UsageError(f"policies/{version}: the files kept there give another policy ({kept.hash})")
        return kept

    async def _activate(self, path: str | None, loaded: Loaded) -> None:
        """Keep it, record it durably, swap it in."""
        before = self._slots.get(path)
        ref = loaded.active.policy.ref
        await asyncio.to_thread(self._bundles.keep, ref.hash, loaded.archive)
        body = record.policy_activate(
            ref,
            engine=self._engine,
            files=loaded.archive,
            previous=before.loaded.hash if before else None,
            signed=False,
        )
        await self._log.append_all((body,), strict=True)
        self._slots[path] = _Slot(loaded, loaded.sources)
        self._metrics.know("rule", (rule.id for rule in loaded.active.policy.rules))
        self._metrics.know("detector", loaded.active.policy.detectors)
        for name in filter(loaded.active.runner.has, loaded.active.policy.detectors):
            self._metrics.set("detector_breaker", loaded.active.runner.state(name), name)
        self._metrics.know("policy", (ref.id,))
        self._metrics.know("hash", (ref.hash,))
        refs = [active.policy.ref for active in self.every.values()]
        self._metrics.only("policy_active", [(one.id, one.hash) for one in refs])
        self._metrics.set("policy_activated_timestamp_seconds", self._now(), ref.id)

    async def reload(self, *, force: bool = False) -> None:
        """Take what has changed on disk; never raises for a broken file."""
        async with self._turn:
            offers = await self.prepare(force=force)
            await self.settle([path for path, offer in offers.items() if offer is not None])
            self.settled()

    async def prepare(self, *, force: bool = False) -> dict[str | None, str | None]:
        """Read what has changed on disk, or everything. For each file the version that could decide from now on, or None."""
        offers = {path: await self._prepare(path, slot, force) for path, slot in list(self._slots.items())}
        coming = [(slot.loaded, slot.waiting) for path, slot in self._slots.items() if slot.waiting and offers[path]]
        self.changing = sorted({*self.changing, *(one.hash for pair in coming for one in pair)})
        return offers

    async def _prepare(self, path: str | None, slot: _Slot, force: bool) -> str | None:
        if force or await asyncio.to_thread(look, slot.sources) != slot.sources:
            self._generation += 1
            slot.fault = slot.rejected = slot.waiting = None
            try:
                loaded = await asyncio.to_thread(self._load, path, self._generation)
            except PolicyRejected as fault:
                slot.fault, slot.rejected, slot.sources = fault.lines[0], fault, fault.sources
            else:
                slot.sources = loaded.sources
                if loaded.hash == slot.loaded.hash:
                    slot.loaded = loaded
                else:
                    slot.waiting, slot.for_log = loaded, False
        if slot.waiting is not None:
            return slot.waiting.hash if self._log.latched is None else None
        return None if slot.fault else slot.loaded.hash

    async def settle(self, take: Collection[str | None], *, loud: bool = True) -> None:
        """Activate what was prepared for these files; the others stay as they are. `loud`: say so on stderr."""
        for path, slot in list(self._slots.items()):
            if slot.rejected is not None:
                await self._reject(slot, slot.rejected, loud)
            elif slot.waiting is not None and path in take:
                await self._take(path, slot, slot.waiting, loud)
            elif slot.waiting is not None:
                self._wait(path, slot, self._log.latched, loud)

    def settled(self) -> None:
        """All workers decide by the same versions."""
        self.changing = []
        for loaded in self._news:
            self._warn(loaded)
            ref = loaded.active.policy.ref
            self._say("policy_taken", policy=ref.id, version=ref.hash[:12])
        self._news = []

    def _warn(self, loaded: Loaded) -> None:
        for line in loaded.warnings:
            self._say("policy_warning", fault=line)
        for detector, told in loaded.active.instead.items():
            self._say("detector_stand_in", detector=detector, why=told)

    async def _reject(self, slot: _Slot, fault: PolicyRejected, loud: bool) -> None:
        slot.rejected = None
        self._metrics.add("policy_reloads", "rejected")
        old = slot.loaded.hash
        if loud:
            for line in fault.lines:
                self._say("policy_fault", fault=line)
            self._say("policy_kept", version=old[:12], why="the new file was not taken")
        body = record.policy_reject(source=fault.digest, code=fault.code, where=fault.place, kept=old)
        try:
            await self._log.append_all((body,), strict=True)
        except LogError:
            self._say("policy_unrecorded")

    async def _take(self, path: str | None, slot: _Slot, loaded: Loaded, loud: bool) -> None:
        """Activate a sound version, or let it wait until the log can record it."""
        try:
            await self._activate(path, loaded)
        except LogError as error:
            self._wait(path, slot, error, True)
        else:
            self._metrics.add("policy_reloads", "ok")
            if loud:
                self._news.append(loaded)

    def _wait(self, path: str | None, slot: _Slot, error: LogError | None, loud: bool) -> None:
        """Keep the old version in force: the log cannot record the new one, or another worker has not taken it."""
        why = f"waits until the log can record it: {error}" if error else "waits until every worker can take it"
        fault = f"{path or 'default'}: the new version {why}"
        if slot.fault is None:
            self._metrics.add("policy_reloads", "rejected")
        if slot.fault != fault and loud:
            self._say("policy_kept", version=slot.loaded.hash[:12], why=fault)
        slot.fault, slot.for_log = fault, error is not None

    async def watch(self, every: float, changed: Callable[[], Awaitable[None]]) -> None:
        """Look for changed files for ever, and for a log that can record again what waits for it.

        By content in the end, so that a file swapped by a symlink is noticed, and one that was only touched is not.
        """
        stamps: dict[Path, tuple[int, int, int] | None] = {}
        while True:
            await asyncio.sleep(every)
            sources = {source for slot in self._slots.values() for source in slot.sources}
            now = {source: _stamp(source) for source in sources}
            waits = any(slot.waiting and slot.for_log for slot in self._slots.values()) and self._log.latched is None
            if now != stamps or waits:
                stamps = now
                await changed()


def look(sources: Iterable[Path]) -> Sources:
    """What these files hold at this moment."""
    return {source: _sha256(source) for source in sources}


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
