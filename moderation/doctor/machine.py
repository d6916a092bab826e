"""What the doctor asks of the machine, in one small class, so that tests can answer otherwise."""

from __future__ import annotations

import os
import resource
import socket
import stat
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from moderation.audit.disk import Disk

PROBE = ".doctor-probe"


@dataclass(frozen=True, slots=True)
class Room:
    """What is free, and how much there is: bytes, files. A file system without a limit of files has 0 of 0."""

    free: int
    whole: int
    files: int
    most_files: int


@dataclass(slots=True)
class Machine:
    """This machine, as far as this process may see it."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    disk: Disk = field(default_factory=Disk)

    def python(self) -> tuple[int, int, int]:
        return sys.version_info[:3]

    def platform(self) -> str:
        return sys.platform

    def needs(self) -> list[str]:
        """Requirements of the installed package, like `aiohttp>=3.12`; none where it runs from a bare checkout."""
        try:
            return metadata.requires("moderation") or []
        except metadata.PackageNotFoundError:
            return []

    def version(self, package: str) -> str | None:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def user(self) -> int:
        return os.geteuid()

    def open_files(self) -> int:
        """The most that may be open; -1 for no limit."""
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return -1 if most == resource.RLIM_INFINITY else most

    def memory(self) -> int | None:
        """The limit of this control group in bytes, None where there is none."""
        for path in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
            try:
                text = path.read_text().strip()
            except OSError:
                continue
            return int(text) if text.isdigit() and int(text) < 1 << 60 else None
        return None

    def stderr(self) -> str | None:
        """What stderr is, None where it is closed."""
        try:
            mode = os.fstat(2).st_mode
        except OSError:
            return None
        if os.isatty(2):
            return "a terminal"
        kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISREG, "a file"))
        return next((word for fits, word in kinds if fits(mode)), "a device")

    def file_system(self, path: Path) -> str | None:
        """The type of the file system below a path, as /proc/self/mountinfo has it."""
        try:
            lines = Path("/proc/self/mountinfo").read_text().split("\n")
        except OSError:
            return None
        best, kind = -1, None
        for line in lines:
            before, dash, after = line.partition(" - ")
            if dash:
                point = before.split(" ")[4].replace("\\040", " ")
                if (path == Path(point) or Path(point) in path.parents) and len(point) >= best:
                    best, kind = len(point), after.split(" ")[0]
        return kind

    def room(self, path: Path) -> Room:
        """Raises OSError."""
        found = os.statvfs(path)
        return Room(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, found.f_favail, found.f_files)

    def sync_seconds(self, folder: Path) -> float:
        """How long one small durable write takes here: the best of three, on a file that is gone after. Raises OSError."""
        path = folder / f"{PROBE}-{os.getpid()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            times = []
            for _ in range(3):
                began = time.perf_counter()
                self.disk.write(descriptor, b"probe\n")
                self.disk.fdatasync(descriptor)
                times.append(time.perf_counter() - began)
            return min(times)
        finally:
            os.close(descriptor)
            os.unlink(path)

    def bind(self, host: str, port: int) -> None:
        """Raises OSError where nothing can listen there."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, port))
            one.listen(1)
