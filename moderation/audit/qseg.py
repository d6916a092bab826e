"""The bytes of a log file (`.qseg`): header, frames, batches; writing them and reading them back.

Pure: takes and gives bytes. Knows nothing of folders, nor of what leaves hold. docs/audit.md has the layout byte by byte.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from zlib import crc32

from moderation.audit.canon import MAX_LEAF
from moderation.audit.merkle import HASH_LENGTH, Tree, leaf_hash
from moderation.errors import LogError

MAGIC = b"QSEG"
VERSION = 1
RECORD = 1
COMMIT = 2
NO_PREV = bytes(HASH_LENGTH)
_FIXED = struct.Struct(">4sHH32sQ32s")
_FRAME = struct.Struct(">II")
_COMMIT = struct.Struct(">BQ32sI")
_COMMIT_LENGTH = struct.pack(">I", _COMMIT.size)
_NAME = re.compile(r"seg-(0|[1-9][0-9]{0,15})\.qseg")


class SegmentError(LogError):
    """A log file is not what a writer wrote: altered, damaged, or not ours. Says the byte."""


class Tail(Enum):
    """What stands after the last commit of a file."""

    NONE = "none"
    CUT = "cut"
    """The file ends inside a batch, and all that is there is well formed: what a crash leaves."""
    DAMAGED = "damaged"
    """Bytes that are no frame: a crash of the machine, or an alteration."""


@dataclass(frozen=True, slots=True)
class Header:
    origin: bytes
    """SHA-256 of the origin."""
    first: int
    """Index of the first leaf of the file."""
    prev: bytes
    """Hash of leaf first-1; 32 zero bytes before leaf 0."""
    compact: tuple[bytes, ...]
    """The tree of the `first` leaves before: roots of its perfect subtrees, biggest first."""

    def to_bytes(self) -> bytes:
        fixed = _FIXED.pack(MAGIC, VERSION, len(self.compact), self.origin, self.first, self.prev)
        head = fixed + b"".join(self.compact)
        return head + struct.pack(">I", crc32(head))

    @property
    def name(self) -> str:
        return f"seg-{self.first}.qseg"


@dataclass(frozen=True, slots=True)
class Leaf:
    index: int
    data: bytes
    hash: bytes
    offset: int
    """Where its frame begins in its file."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One file, read as far as its last commit."""

    leaves: tuple[Leaf, ...]
    end: int
    """The byte after the last commit."""
    tail: Tail
    tree: Tree
    """The tree at the last commit."""
    prev: bytes
    """Hash of the last committed leaf."""


def header_for(origin: str, tree: Tree, prev: bytes) -> Header:
    """The header of a file that goes on after `tree`, whose last leaf has the hash `prev`."""
    return Header(sha256(origin.encode()).digest(), tree.size, prev, tree.compact)


def parse_header(data: bytes) -> Header | None:
    """The header that a file begins with; None where there is no whole and sound one of this version."""
    if len(data) < _FIXED.size:
        return None
    _, _, count, origin, first, prev = _FIXED.unpack_from(data)
    hashes = data[_FIXED.size : _FIXED.size + count * HASH_LENGTH]
    header = Header(origin, first, prev, tuple(hashes[i : i + HASH_LENGTH] for i in range(0, len(hashes), HASH_LENGTH)))
    return header if count == first.bit_count() and data.startswith(header.to_bytes()) else None


def first_index(name: str) -> int | None:
    """The index in a file's name; None for a name that is no log file's."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def record_frame(leaf: bytes) -> bytes:
    payload = b"\x01" + leaf
    return _FRAME.pack(len(payload), crc32(payload)) + payload


def commit_frame(size: int, root: bytes, count: int) -> bytes:
    """Ends a batch of `count` leaves, after which the tree has `size` leaves and this root."""
    payload = _COMMIT.pack(COMMIT, size, root, count)
    return _FRAME.pack(len(payload), crc32(payload)) + payload


def scan(data: bytes, header: Header) -> Scan:
    """Read a file that must begin with `header`. Raises SegmentError for all but a torn tail.

    INVARIANT: what is given out stood before a commit whose size, count and root fit.
    """
    head = header.to_bytes()
    if not data.startswith(head):
        if head.startswith(data):
            return Scan((), 0, Tail.CUT, Tree(header.first, header.compact), header.prev)
        raise SegmentError("byte 0: the header is not the one that follows from the log so far (altered, or of another log)")
    tree, prev, end = Tree(header.first, header.compact), header.prev, len(head)
    leaves: list[Leaf] = []
    batch: list[Leaf] = []
    growing = tree.copy()
    at, tail = end, Tail.NONE
    while at < len(data):
        payload = _payload(data, at)
        if payload is None:
            tail = _tail(data, at)
            break
        if payload[0] == RECORD:
            leaf = Leaf(growing.size, payload[1:], leaf_hash(payload[1:]), at)
            growing.append(leaf.hash)
            batch.append(leaf)
        else:
            _, size, root, count = _COMMIT.unpack(payload)
            if size != growing.size or count != len(batch) or not batch or root != growing.root():
                raise SegmentError(f"byte {at}: a commit that does not fit the leaves before it")
            leaves += batch
            tree, prev, end = growing.copy(), batch[-1].hash, at + _FRAME.size + len(payload)
            batch = []
        at += _FRAME.size + len(payload)
    if tail is Tail.NONE and end < len(data):
        tail = Tail.CUT
    return Scan(tuple(leaves), end, tail, tree, prev)


def _payload(data: bytes, at: int) -> bytes | None:
    """The payload of the frame at this byte, None where there is no whole and sound one."""
    if at + _FRAME.size > len(data):
        return None
    length, crc = _FRAME.unpack_from(data, at)
    start = at + _FRAME.size
    if not 1 <= length <= MAX_LEAF + 1 or start + length > len(data):
        return None
    payload = data[start : start + length]
    if crc32(payload) != crc or payload[0] not in (RECORD, COMMIT) or (payload[0] == COMMIT and length != _COMMIT.size):
        return None
    return payload


def _tail(data: bytes, at: int) -> Tail:
    """Judge what stands from a bad frame on. A sound commit later means that the bad frame was once sound."""
    found = data.find(_COMMIT_LENGTH, at + 1)
    while found >= 0:
        payload = _payload(data, found)
        if payload is not None and payload[0] == COMMIT:
            raise SegmentError(f"byte {at}: a damaged frame, with a sound commit later at byte {found}")
        found = data.find(_COMMIT_LENGTH, found + 1)
    rest = len(data) - at
    if rest < _FRAME.size:
        return Tail.CUT
    length = int.from_bytes(data[at : at + 4], "big")
    return Tail.CUT if 1 <= length <= MAX_LEAF + 1 and rest - _FRAME.size < length else Tail.DAMAGED


def ordered(names: Iterable[str]) -> list[str]:
    """The names of log files among these, in the order of their leaves."""
    return sorted((name for name in names if first_index(name) is not None), key=lambda name: first_index(name) or 0)


def read(origin: str, files: Iterable[tuple[str, bytes]], tree: Tree | None = None, prev: bytes = NO_PREV) -> Iterator[Scan]:
    """Read the files of one log in order, from the first or after `tree` and `prev`. Only the last may have a tail."""
    tree, before = tree or Tree(), Tail.NONE
    for name, data in files:
        header = header_for(origin, tree, prev)
        if before is not Tail.NONE:
            raise SegmentError(f"{name}: the file before it does not end with a commit")
        if name != header.name:
            raise SegmentError(f"{name}: expected {header.name} here; a file is missing, or one too many")
        try:
            result = scan(data, header)
        except SegmentError as error:
            raise SegmentError(f"{name}: {error}") from None
        yield result
        tree, prev, before = result.tree, result.prev, result.tail
