"""The open file of one log: stamps leaves, writes batches, syncs, rolls, signs checkpoints, goes back to what is durable.

Blocking and without locks or threads of its own; the store calls it. One write per batch, and nothing is tried twice.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moderation.audit.canon import CanonError
from moderation.audit.clock import Clock
from moderation.audit.disk import Disk
from moderation.audit.leaf import Value, encode
from moderation.audit.merkle import Tree, leaf_hash
from moderation.audit.note import Checkpoint, Signer
from moderation.audit.qseg import commit_frame, header_for, parse_header, record_frame, scan
from moderation.audit.recovery import Recovered
from moderation.errors import LogError

SCHEMA = 1
"""`v` of every leaf."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes and times of the log; the defaults are those of docs/audit.md."""

    roll_bytes: int = 64 << 20
    roll_micros: int = 15 * 60 * 1_000_000
    queue: int = 4096
    wait: float = 0.1
    """Seconds that a strict append waits for a place in a full queue."""
    siblings: int = 4
    gather: float = 0.002
    """With so many requests open, a strict append waits so many seconds for others to share its fdatasync."""
    lag: float = 0.04
    """Seconds until an fsync covers a fast append; with the fsync itself it stays below 50 ms."""
    checkpoint_every: float = 1.0
    checkpoint_leaves: int = 4096
    reopen_every: float = 1.0
    room: int = 1 << 20
    """Free bytes on the disk without which a log that failed does not go on: what the largest decision takes."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A state of the log that an fsync can cover."""

    tree: Tree
    prev: bytes
    path: Path
    end: int

    @property
    def size(self) -> int:
        return self.tree.size


class Writer:
    """One log folder, held by this process."""

    def __init__(
        self, folder: Path, signer: Signer, disk: Disk, clock: Clock, limits: Limits, boot: str, start: Recovered,
        copies: Sequence[Path],
    ) -> None:
        self._folder, self._signer, self._disk, self._clock, self._limits = folder, signer, disk, clock, limits
        self._boot, self._copies, self._began, self._pid = boot, copies, clock.mono(), os.getpid()
        self._tree, self._prev, self._end = start.tree, start.prev, start.end
        self._checkpointed = -1
        # INVARIANT: a file that one of these is true of is neither written to nor synced, whoever asks; see `reopen`.
        self._torn = False
        """Whether a write to the open file has failed, and may have left a part."""
        self._in_doubt = False
        """Whether an fsync of the open file has failed."""
        if start.file is None:
            self._begin_file()
        else:
            self._path = folder / start.file
            self._fd = disk.open_append(self._path)
            self._inode = disk.inode(self._path)
            self._opened = clock.mono()
        self.durable = self.mark()

    @property
    def size(self) -> int:
        return self._tree.size

    @property
    def unsigned(self) -> int:
        """How many durable leaves no checkpoint covers yet."""
        return self.durable.size - max(self._checkpointed, 0)

    def mark(self) -> Mark:
        return Mark(self._tree, self._prev, self._path, self._end)

    def write(self, groups: Sequence[Sequence[Mapping[str, Value]]]) -> list[int | CanonError]:
        """Write the leaves of all groups as one batch. Gives each group's first index, or why it has no canonical form."""
        if os.getpid() != self._pid:
            raise LogError("the log belongs to the process that opened it; a forked worker opens its own")
        if self._torn or self._in_doubt:
            raise LogError(f"{self._path}: nothing goes into this file after an error")
        tree, prev, count = self._tree.copy(), self._prev, 0
        results: list[int | CanonError] = []
        frames: list[bytes] = []
        for bodies in groups:
            try:
                leaves = self._stamped(bodies, tree.size, prev)
            except CanonError as error:
                results.append(error)
                continue
            results.append(tree.size)
            for data, digest in leaves:
                frames.append(record_frame(data))
                tree.append(digest)
                prev = digest
            count += len(leaves)
        if count:
            frames.append(commit_frame(tree.size, tree.root(), count))
            batch = b"".join(frames)
            self._torn = True
            self._disk.write(self._fd, batch)
            self._torn = False
            self._tree, self._prev, self._end = tree, prev, self._end + len(batch)
        return results

    def _stamped(self, bodies: Sequence[Mapping[str, Value]], index: int, prev: bytes) -> list[tuple[bytes, bytes]]:
        leaves: list[tuple[bytes, bytes]] = []
        stamps: dict[str, Value] = {"v": SCHEMA, "log": self._signer.verifier.name, "boot": self._boot, "ts": self._clock.wall(),
                  "mono": self._clock.mono() - self._began}
        for number, body in enumerate(bodies, index):
            data = encode({**body, **stamps, "idx": number, "prev": b2a_base64(prev, newline=False).decode("ascii")})
            prev = leaf_hash(data)
            leaves.append((data, prev))
        return leaves

    def sync(self, mark: Mark) -> None:
        """Make durable what stood at `mark` (or more), and see that the file is still the one that others see."""
        if self._in_doubt:
            raise LogError(f"{self._path}: this file is not synced again after an error")
        try:
            self._disk.fdatasync(self._fd)
        except OSError:
            self._in_doubt = True
            raise
        self._check()
        self.durable = mark

    def _check(self) -> None:
        try:
            same = self._disk.inode(self._path) == self._inode
        except FileNotFoundError:
            same = False
        if not same:
            raise LogError(f"{self._path}: the file was removed, renamed or replaced under the running writer; move the very "
                           "same file back, or stop the sidecar and put the log back from a copy")

    def is_full(self) -> bool:
        """Whether the file has reached its size or age; an empty one does not age."""
        aged = self._clock.mono() - self._opened >= self._limits.roll_micros and self._tree.size > self._first
        return self._end >= self._limits.roll_bytes or aged

    @property
    def _first(self) -> int:
        return int(self._path.name[4:-5])

    def roll(self) -> None:
        """Go on in a new file."""
        self.sync(self.mark())
        self.release()
        self._begin_file()
        self.durable = self.mark()

    def _begin_file(self) -> None:
        header = header_for(self._signer.verifier.name, self._tree, self._prev)
        path, data = self._folder / header.name, header.to_bytes()
        self._disk.replace(path, data)
        self._fd = self._disk.open_append(path)
        self._inode = self._disk.inode(path)
        self._path, self._end, self._opened = path, len(data), self._clock.mono()
        self._torn = self._in_doubt = False

    def checkpoint(self) -> None:
        """Sign what is durable, if no checkpoint covers it yet."""
        if self._checkpointed != self.durable.size:
            self._disk.replace(self._folder / "checkpoint", self._signed())
            self._checkpointed = self.durable.size

    def remember(self) -> None:
        """Put copies of the checkpoint where the keys lie, so that a log cut short or removed shows at the next start."""
        for copy in self._copies:
            self._disk.replace(copy, self._signed())

    def _signed(self) -> bytes:
        durable = self.durable
        return self._signer.sign(Checkpoint(self._signer.verifier.name, durable.size, durable.tree.root()).text()).to_bytes()

    def reopen(self) -> None:
        """After an error: go back to what is durable and on in a new file. What the failed file took since then is cut off."""
        mark = self.durable
        self.release()
        self._path, self._tree, self._prev = mark.path, mark.tree, mark.prev
        if mark.size > self._first:  # else it holds no leaf that counts, and the new file takes its place and name
            self._check()
            self._cut(mark)
        self._begin_file()
        self.durable = self.mark()

    def _cut(self, mark: Mark) -> None:
        """Cut off what is not durable.

        A file of which an fsync failed is never synced again, for the next one may say yes although bytes are gone (PostgreSQL's
        fsync errors of 2018). What is durable of it goes into a new file, which takes its name.
        """
        if not self._in_doubt:
            self._in_doubt = True
            self._disk.truncate(mark.path, mark.end)
            self._in_doubt = False
            return
        data = self._disk.read(mark.path)[: mark.end]
        header = parse_header(data)
        if header is None or scan(data, header).tree.root() != mark.tree.root():
            raise LogError(f"{mark.path}: what was on disk can no longer be read as it was written")
        self._disk.replace(mark.path, data)
        self._inode, self._in_doubt = self._disk.inode(mark.path), False

    def release(self) -> None:
        """Let go of the file, whatever state it is in."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                self._disk.close(fd)
            except OSError:
                return  # all that counts was synced before, and a late error of the rest is why we are here
