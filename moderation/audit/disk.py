"""What the log asks of the file system, in one small class, so that tests can break each call once.

Knows nothing of logs. Every method raises OSError as the system gave it.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Disk:
    """The file system itself."""

    def open_append(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(self, fd: int, data: bytes) -> None:
        """Write all of it, or raise. A short write (full disk, file size limit) is tried on, so that the cause shows."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def fdatasync(self, fd: int) -> None:
        _sync_data(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def inode(self, path: Path) -> tuple[int, int]:
        """Which file stands at this path now."""
        stat = os.stat(path)
        return stat.st_dev, stat.st_ino

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def names(self, folder: Path) -> list[str]:
        return sorted(os.listdir(folder))

    def make_folder(self, folder: Path, mode: int = 0o755) -> None:
        if not folder.is_dir():
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            self._sync_folder(folder.parent)

    def replace(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        """Put a whole file in place: tmp, fsync, rename, fsync of the folder. Readers see the old bytes or the new."""
        tmp = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            self.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(tmp, path)
        self._sync_folder(path.parent)

    def create(self, path: Path, data: bytes, mode: int) -> None:
        """Put a whole new file in place, or raise FileExistsError: of two processes that try, one wins."""
        tmp = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            self.write(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        try:
            os.link(tmp, path)
        finally:
            os.unlink(tmp)
        self._sync_folder(path.parent)

    def move_folder(self, source: Path, target: Path) -> None:
        """Rename a folder in one step; raises OSError where `target` is a folder with files."""
        os.rename(source, target)
        self._sync_folder(target.parent)

    def truncate(self, path: Path, size: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def lock(self, folder: Path) -> int | None:
        """Take the folder for this process; None where another has it. The lock ends with the descriptor."""
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for attempt in range(3):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # A reader asking "is it in use?" holds a shared lock for microseconds.
                if attempt < 2:
                    time.sleep(0.01)
            except OSError:
                os.close(fd)
                raise
            else:
                return fd
        os.close(fd)
        return None

    def _sync_folder(self, folder: Path) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
