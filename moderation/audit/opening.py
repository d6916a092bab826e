"""Taking a log folder: the lock, the keys, recovery, and the first batch of a boot.

Blocks on the disk; runs once, before anything is served. Knows nothing of event loops.
"""

from __future__ import annotations

import base64
import contextlib
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from moderation.audit.canon import CanonError
from moderation.audit.clock import Clock
from moderation.audit.disk import Disk
from moderation.audit.keyring import Keyring
from moderation.audit.note import NoteError, Signer, parse_checkpoint, parse_note
from moderation.audit.record import interrupted, log_open
from moderation.audit.recovery import Recovered, recover
from moderation.audit.writer import Limits, Writer
from moderation.errors import LogError

MAX_LOGS = 1024
"""Logs in one data folder; more processes than that do not share a disk."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A log folder that is this process's own, in order and with its `log_open` durable."""

    folder: Path
    lock: int
    writer: Writer
    fingerprint_key: bytes
    kinds: tuple[str, ...]
    """Of the leaves that the opening wrote."""


def open_folder(
    data: Path, keys: Path, origin: str | None, index: int | None, version: str, clock: Clock, disk: Disk, limits: Limits,
) -> Opened:
    """Take the first free log folder of `data`, or the one asked for. Raises LogError with what to do."""
    try:
        folder, lock = _take(data, index, disk)
        done = False
        try:
            ring = Keyring(keys, disk)
            signer, key = ring.signer(folder, origin, socket.gethostname()), ring.fingerprint_key()
            copy = ring.folder / f"{folder.name}.checkpoint"
            start = recover(disk, folder, signer.verifier, [folder / "checkpoint", copy])
            writer = Writer(folder, signer, disk, clock, limits, secrets.token_hex(8), start, [copy])
            kinds = _boot(writer, signer, folder, start, version, disk)
            done = True
        finally:
            if not done:
                disk.close(lock)
    except OSError as error:
        raise LogError(f"{error.filename or data}: {error.strerror}; the decision log cannot be opened") from None
    return Opened(folder, lock, writer, key, kinds)


def _take(data: Path, index: int | None, disk: Disk) -> tuple[Path, int]:
    """The first folder that no other process holds, or the one asked for, locked."""
    disk.make_folder(data)
    for number in range(MAX_LOGS) if index is None else (index,):
        folder = data / f"log-{number}"
        disk.make_folder(folder)
        lock = disk.lock(folder)
        if lock is not None:
            return folder, lock
    where = data if index is None else data / f"log-{index}"
    raise LogError(f"{where}: another process is writing this log; use another --data, or let that process end")


def _boot(writer: Writer, signer: Signer, folder: Path, start: Recovered, version: str, disk: Disk) -> tuple[str, ...]:
    """The first batch of a boot: who writes, what was torn, and a `close` for every request that was cut off."""
    vouched = start.tree.size == 0 or (folder / "checkpoint").exists()
    opened = log_open(version=version, key=signer.verifier.line(), siblings=_siblings(folder, disk), checkpoint=vouched,
                      unsigned=start.unsigned)
    closes = [interrupted(request, count) for request, count in start.pairs.open.items()]
    bodies = [opened, *start.torn, *closes]
    result = writer.write([bodies])[0]
    if isinstance(result, CanonError):
        raise LogError(f"{folder}: {result}")
    writer.sync(writer.mark())
    writer.checkpoint()
    writer.remember()
    return tuple(str(body["kind"]) for body in bodies)


def _siblings(folder: Path, disk: Disk) -> list[tuple[str, int, str]]:
    """The other logs' checkpoints, so that one that vanishes or is put back to an older state is missed."""
    siblings: list[tuple[str, int, str]] = []
    for name in disk.names(folder.parent):
        path = folder.parent / name / "checkpoint"
        if name.startswith("log-") and name != folder.name and path.exists():
            with contextlib.suppress(NoteError):
                checkpoint = parse_checkpoint(parse_note(disk.read(path)).text)
                siblings.append((name, checkpoint.size, base64.b64encode(checkpoint.root).decode("ascii")))
    return siblings
