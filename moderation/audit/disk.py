"""What the log asks of the file system, in one small class, so that tests can break each call once.

Every system call that changes something is a method of its own, so that a test which wraps all methods misses none. Knows nothing
of logs. Every method raises OSError as the system gave it.
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

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def open_new(self, path: Path, mode: int) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def open_folder(self, folder: Path) -> int:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def cut(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def rename(self, source: Path, target: Path) -> None:
        os.rename(source, target)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def mkdir(self, folder: Path, mode: int) -> None:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)

    def inode(self, path: Path) -> tuple[int, int]:
        """Which file stands at this path now."""
        stat = os.stat(path)
        return stat.st_dev, stat.st_ino

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def names(self, folder: Path) -> list[str]:
        return sorted(os.listdir(folder))

    def room(self, folder: Path) -> int:
        """Bytes that this process may still write there."""
        stat = os.statvfs(folder)
        return stat.f_bavail * stat.f_frsize

    # What follows is made of the above.

    def make_folder(self, folder: Path, mode: int = 0o755) -> None:
        if not folder.is_dir():
            self.mkdir(folder, mode)
            self.sync_folder(folder.parent)

    def replace(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        """Put a whole file in place: tmp, fsync, rename, fsync of the folder. Readers see the old bytes or the new."""
        self.rename(self._written(path, data, mode), path)
        self.sync_folder(path.parent)

    def create(self, path: Path, data: bytes, mode: int) -> None:
        """Put a whole new file in place, or raise FileExistsError: of two processes that try, one wins."""
        tmp = self._written(path, data, mode)
        try:
            self.link(tmp, path)
        finally:
            self.unlink(tmp)
        self.sync_folder(path.parent)

    def _written(self, path: Path, data: bytes, mode: int) -> Path:
        tmp = path.with_name(f"{path.name}.tmp-{os.getpid()}")
        if tmp.exists():  # of a process with our number, or of a try whose fsync failed: no file is synced again after that
            self.unlink(tmp)
        fd = self.open_new(tmp, mode)
        try:
            self.write(fd, data)
            self.fsync(fd)
        finally:
            self.close(fd)
        return tmp

    def move_folder(self, source: Path, target: Path) -> None:
        """Rename a folder in one step; raises OSError where `target` is a folder with files."""
        self.rename(source, target)
        self.sync_folder(target.parent)

    def truncate(self, path: Path, size: int) -> None:
        fd = self.open_append(path)
        try:
            self.cut(fd, size)
            self.fsync(fd)
        finally:
            self.close(fd)

    def sync_folder(self, folder: Path) -> None:
        fd = self.open_folder(folder)
        try:
            self.fsync(fd)
        finally:
            self.close(fd)

    def lock(self, folder: Path) -> int | None:
        """Take the folder for this process; None where another has it. The lock ends with the descriptor."""
        fd = self.open_folder(folder)
        for attempt in range(3):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # A reader asking "is it in use?" holds a shared lock for microseconds.
                if attempt < 2:
                    time.sleep(0.01)
            except OSError:
                self.close(fd)
                raise
            else:
                return fd
        self.close(fd)
        return None
