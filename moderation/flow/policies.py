"""The policies in force: read, checked, kept, recorded, and swapped while requests go on.

A request keeps the policy it began with. A file that cannot be taken leaves the old version in force, and says so on stderr, in
the log, in the metrics and on /readyz.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy that may be activated, and the files that it was read from."""

    active: Active
    archive: Mapping[str, bytes]
    sources: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


class PolicyRejected(UsageError):
    """A policy file that cannot be taken. `where` is FILE:LINE:COLUMN of the first fault, `lines` all of them."""

    def __init__(self, lines: Sequence[str], code: str, where: str, digest: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)
        self.code = code
        self.place = where
        self.digest = digest


class PolicyLog(Log, Protocol):
    """The store, as far as it is used here."""

    @property
    def latched(self) -> LogError | None: ...


class Loader(Protocol):
    """Reads, compiles and tests a policy, and builds its detectors; None is the default that ships."""

    def __call__(self, path: str | None, generation: int) -> Loaded: ...


@dataclass(slots=True)
class _Slot:
    loaded: Loaded
    seen: str
    fault: str | None = None
    waiting: Loaded | None = None
    """A newer version, sound, that the log could not record yet."""


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

    def active(self, path: str | None) -> Active:
        return self._slots[path].loaded.active

    @property
    def every(self) -> Mapping[str | None, Active]:
        return {path: slot.loaded.active for path, slot in self._slots.items()}

    @property
    def faults(self) -> dict[str, str]:
        """What stands in the way of the newest version of a file, by file."""
        return {str(path or "default"): slot.fault for path, slot in self._slots.items() if slot.fault}

    async def start(self, paths: Sequence[str | None]) -> None:
        """Load and activate every policy; raises PolicyRejected or LogError."""
        for path in dict.fromkeys(paths):
            self._generation += 1
            loaded = await asyncio.to_thread(self._load, path, self._generation)
            await self._activate(path, loaded)

    async def _activate(self, path: str | None, loaded: Loaded) -> None:
        """Keep it, record it durably, swap it in."""
        before = self._slots.get(path)
        ref = loaded.active.policy.ref
        await asyncio.to_thread(self._bundles.keep, ref.hash, loaded.archive)
        body = record.policy_activate(
            ref,
            engine=self._engine,
            files=loaded.archive,
            previous=before.loaded.active.policy.ref.hash if before else None,
            signed=False,
        )
        await self._log.append_all((body,), strict=True)
        self._slots[path] = _Slot(loaded, _digest(loaded.sources))
        self._metrics.know("rule", (rule.id for rule in loaded.active.policy.rules))
        self._metrics.know("detector", loaded.active.policy.detectors)
        for name in filter(loaded.active.runner.has, loaded.active.policy.detectors):
            self._metrics.set("detector_breaker", loaded.active.runner.state(name), name)
        self._metrics.know("policy", (ref.id,))
        self._metrics.know("hash", (ref.hash,))
        refs = [active.policy.ref for active in self.every.values()]
        self._metrics.only("policy_active", [(one.id, one.hash) for one in refs])
        self._metrics.set("policy_activated_timestamp_seconds", self._now(), ref.id)
        for line in loaded.warnings:
            self._say("policy_warning", fault=line)

    async def reload(self, *, force: bool = False) -> None:
        """Take what has changed on disk; never raises for a broken file."""
        async with self._turn:
            for path, slot in list(self._slots.items()):
                digest = await asyncio.to_thread(_digest, slot.loaded.sources)
                if digest != slot.seen or force:
                    slot.seen, slot.waiting = digest, None
                    await self._retake(path, slot)
                elif slot.waiting is not None and self._log.latched is None:
                    await self._take(path, slot, slot.waiting)

    async def _retake(self, path: str | None, slot: _Slot) -> None:
        self._generation += 1
        old = slot.loaded.active.policy.ref
        try:
            loaded = await asyncio.to_thread(self._load, path, self._generation)
        except PolicyRejected as fault:
            slot.fault = fault.lines[0]
            self._metrics.add("policy_reloads", "rejected")
            for line in fault.lines:
                self._say("policy_fault", fault=line)
            self._say("policy_kept", version=old.hash[:12], why="the new file was not taken")
            body = record.policy_reject(source=fault.digest, code=fault.code, where=fault.place, kept=old.hash)
            try:
                await self._log.append_all((body,), strict=True)
            except LogError:
                self._say("policy_unrecorded")
            return
        if loaded.active.policy.ref.hash == old.hash:
            slot.fault = None
            slot.loaded = loaded
            return
        await self._take(path, slot, loaded)

    async def _take(self, path: str | None, slot: _Slot, loaded: Loaded) -> None:
        """Activate a sound version, or let it wait until the log can record it."""
        old = slot.loaded.active.policy.ref
        try:
            await self._activate(path, loaded)
        except LogError as error:
            fault = f"{path or 'default'}: the new version waits until the log can record it: {error}"
            if slot.waiting is None:
                self._metrics.add("policy_reloads", "rejected")
            if slot.fault != fault:
                self._say("policy_kept", version=old.hash[:12], why=fault)
            slot.fault, slot.waiting = fault, loaded
        else:
            ref = loaded.active.policy.ref
            self._metrics.add("policy_reloads", "ok")
            self._say("policy_taken", policy=ref.id, version=ref.hash[:12])

    async def watch(self, every: float) -> None:
        """Look for changed files for ever, and for a log that can record again what waits for it.

        By content, so that a file swapped by a symlink is noticed.
        """
        stamps: dict[Path, tuple[int, int, int] | None] = {}
        while True:
            await asyncio.sleep(every)
            sources = {source for slot in self._slots.values() for source in slot.loaded.sources}
            now = {source: _stamp(source) for source in sources}
            waits = any(slot.waiting is not None for slot in self._slots.values()) and self._log.latched is None
            if now != stamps or waits:
                stamps = now
                await self.reload()


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _digest(sources: Sequence[Path]) -> str:
    """What the files hold now; a missing one counts as such."""
    digest = hashlib.sha256()
    for source in sources:
        try:
            data = source.read_bytes()
        except OSError:
            data = b"\x00missing"
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()
