"""Looks at the log's folder, its disk and its keys. Writes nothing but a probe that it removes; safe beside a running sidecar."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from moderation.audit.note import Checkpoint, NoteError, open_checkpoint, parse_verifier
from moderation.doctor.checks import Found, fault, ok, warn
from moderation.doctor.given import Given
from moderation.doctor.machine import Machine

_LOG = re.compile(r"log-([0-9]+)")
_TIME = re.compile(rb'"ts":([0-9]+)')
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "virtiofs"})
_GOING = {"tmpfs": "memory: it is gone at the next start of the machine", "ramfs": "memory: it is gone at the next start",
          "overlay": "a container's own layer: it goes with the container", "aufs": "a container's own layer"}
_SLOW = 0.02
_FULL, _LOW = 128 << 20, 1 << 30
_TAIL = 1 << 16
_DAY = 86_400.0
_AHEAD = 60.0


def look(given: Given, machine: Machine) -> Iterator[Found]:
    data = given.data
    there = _nearest(data)
    if data.exists() and not data.is_dir():
        yield fault("data folder", f"{data} is a file", "Give another `--data`.")
        return
    yield _place(there, machine)
    yield from _room(data, there, machine)
    if data.is_dir():
        yield from _write(data, machine)
        yield from _logs(data, machine)
    elif os.access(there, os.W_OK | os.X_OK):
        yield ok("data folder", f"{data} is not there yet, and will be made at the first start")
    else:
        yield fault("data folder", f"{data} is not there, and {there} cannot be written")
    yield from _keys(given, machine)


def _nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path.resolve()


def _write(data: Path, machine: Machine) -> Iterator[Found]:
    try:
        seconds = machine.sync_seconds(data)
    except OSError as error:
        yield fault("data folder", f"{data} cannot be written: {error.strerror}")
        return
    yield ok("data folder", f"{data} can be written")
    said = f"one durable write takes {seconds * 1000:.1f} ms"
    yield warn("disk speed", f"{said}, and each strict request waits for one") if seconds > _SLOW else ok("disk speed", said)


def _place(there: Path, machine: Machine) -> Found:
    kind = machine.file_system(there)
    if kind is None:
        return ok("file system", "its type is not told here")
    if kind in _NETWORK or kind.startswith("fuse"):
        return warn("file system", f"{kind}: over a network or a helper program, it may lose what it has said is kept, and "
                                   "its locks may not keep a second sidecar out")
    if kind in _GOING:
        return warn("file system", f"{kind} is {_GOING[kind]}")
    return ok("file system", kind)


def _room(data: Path, there: Path, machine: Machine) -> Iterator[Found]:
    try:
        room = machine.room(there)
    except OSError as error:
        yield fault("disk room", f"{there}: {error.strerror}")
        return
    if room.most_files and room.files < 1000:
        yield warn("disk room", f"{room.files} more files can be made; the log begins one every 15 minutes")
    rate = _rate(data, machine.now())
    lasts = f"; at the rate of the last day, {rate / (1 << 20):.1f} MiB, it lasts {room.free / rate:.0f} days" if rate else ""
    said = f"{room.free >> 20} MiB of {room.whole >> 20} MiB free{lasts}"
    if room.free < _FULL:
        yield fault("disk room", f"{said}: the log is about to fail, and strict requests with it")
    elif room.free < _LOW or (rate and room.free / rate < 7):
        yield warn("disk room", said)
    else:
        yield ok("disk room", said)


def _rate(data: Path, now: float) -> float:
    """Bytes a day that the log has grown by in the last day; 0 where it is younger than an hour."""
    files = []
    for path in data.glob("log-*/seg-*.qseg") if data.is_dir() else ():
        try:
            found = path.stat()
        except OSError:
            continue
        files.append((found.st_mtime, found.st_size))
    recent = [(when, size) for when, size in files if now - when < _DAY]
    span = now - min((when for when, _ in recent), default=now)
    return sum(size for _, size in recent) * _DAY / span if span > 3600 else 0.0


def _keys(given: Given, machine: Machine) -> Iterator[Found]:
    keys = given.keys
    if not keys.is_dir():
        if any((folder / "key.pub").exists() for folder in _folders(given.data)):
            yield fault("keys", f"{keys} is missing, and there are logs that were signed with its keys",
                        "Put the folder back, or give the right `--keys`; a new key for an old log would look like a forgery.")
        else:
            yield ok("keys", f"{keys} is not there yet, and will be made at the first start")
        return
    bad = 0
    try:
        names = sorted(path for path in keys.iterdir() if path.suffix == ".key")
        for path in (keys, *names):
            found = path.stat()
            if stat.S_IMODE(found.st_mode) & 0o077:
                bad += 1
                yield fault("keys", f"{path}: mode {stat.S_IMODE(found.st_mode):04o} lets others at it")
            elif found.st_uid != machine.user():
                bad += 1
                yield warn("keys", f"{path} belongs to user {found.st_uid}, and you are {machine.user()}",
                           "Run this as the user that runs the sidecar, or `chown` the folder.")
    except OSError as error:
        yield fault("keys", f"{keys} cannot be read: {error.strerror}", "Run this as the user that runs the sidecar.")
        return
    for folder in _folders(given.data):
        if (folder / "key.pub").exists() and not (keys / f"{folder.name}.key").exists():
            bad += 1
            yield fault("keys", f"{keys / folder.name}.key is missing: {folder.name} cannot go on",
                        "Put it back, or move the log's folder away for keeping.")
    if not bad and keys.absolute().is_relative_to(given.data.absolute()):
        yield warn("keys", f"{keys}: only you can read them, but they lie beside the logs: who can write here could sign anew",
                   "Keep them apart with `--keys`, and copies of checkpoints elsewhere.")
    elif not bad:
        yield ok("keys", f"{keys}: only you can read them")


def _folders(data: Path) -> list[Path]:
    try:
        found = [path for path in data.iterdir() if _LOG.fullmatch(path.name) and path.is_dir()]
    except OSError:
        return []
    return sorted(found, key=lambda path: int(path.name[4:]))


def _logs(data: Path, machine: Machine) -> Iterator[Found]:
    folders = _folders(data)
    if not folders:
        yield ok("logs", "none yet")
    newest = 0.0
    for folder in folders:
        try:
            used, size = _used(folder), _signed(folder)
            newest = max(newest, _last(folder))
        except NoteError as error:
            yield fault("logs", f"{folder.name}: its checkpoint does not hold: {error}", "Run `moderation audit verify`.")
            continue
        except OSError as error:
            yield fault("logs", f"{error.filename or folder}: {error.strerror}")
            continue
        held = "held by a running sidecar" if used else "held by nobody"
        if size is None:
            yield warn("logs", f"{folder.name}: {held}; no checkpoint", "Run `moderation audit verify`.")
        else:
            yield ok("logs", f"{folder.name}: {held}; its newest checkpoint holds, over {size.size} leaves")
    yield _clock(newest, machine.now())


def _clock(newest: float, now: float) -> Found:
    shown = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    if newest > now + _AHEAD:
        return fault("clock", f"it is {shown}, and the log's last leaf is {newest - now:.0f} s later: the clock went back")
    return ok("clock", f"it is {shown}" + (f"; the log's last leaf is {now - newest:.0f} s old" if newest else ""))


def _used(folder: Path) -> bool:
    """Whether a process writes this log: it holds the folder's lock, which is asked for, and given back at once."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _signed(folder: Path) -> Checkpoint | None:
    """The newest checkpoint, its signature checked. Raises NoteError."""
    path = folder / "checkpoint"
    if not path.exists():
        return None
    try:
        verifier = parse_verifier((folder / "key.pub").read_text("ascii").rstrip("\n"))
    except UnicodeDecodeError:
        raise NoteError("key.pub is not a verifier key") from None
    return open_checkpoint(path.read_bytes(), [verifier])


def _last(folder: Path) -> float:
    """The time of the last leaf, in seconds since 1970; 0 where there is none."""
    files = sorted(folder.glob("seg-*.qseg"), key=lambda path: int(re.sub(r"\D", "", path.name) or 0))
    for path in reversed(files[-2:]):  # the newest may hold nothing yet
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            times = _TIME.findall(file.read())
        if times:
            return int(times[-1]) / 1_000_000
    return 0.0
