"""Opening a log that may have been left in any state: what is sound, what is torn, what is lost.

Cuts a torn tail (and keeps its bytes); refuses whatever a crash cannot explain. Writes no leaves: the store does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from moderation.audit.disk import Disk
from moderation.audit.leaf import Body
from moderation.audit.merkle import Tree
from moderation.audit.note import Checkpoint, NoteError, Verifier, open_checkpoint
from moderation.audit.qseg import NO_PREV, Scan, SegmentError, Tail, header_for, ordered, parse_header, read, scan
from moderation.audit.record import recovery
from moderation.errors import LogError

_KIND = re.compile(rb'"kind":"(open|close|decision)"')
_REQUEST = re.compile(rb'"req":"([0-9A-Z]{26})"')
_LATER_PART = re.compile(rb'"part":[1-9]')
_TORN = re.compile(r"(seg-[0-9]+\.qseg)\.torn-([0-9]+)(?:-[0-9]+)?")
_BOOT = b'"kind":"log_open"'


@dataclass(slots=True)
class Pairs:
    """Requests that were opened and not closed, with the number of their decisions."""

    open: dict[str, int] = field(default_factory=dict)

    def see(self, kind: str, request: str, counts: bool = True) -> None:
        if kind == "open":
            self.open[request] = 0
        elif kind == "close":
            self.open.pop(request, None)
        elif kind == "decision" and counts and request in self.open:
            self.open[request] += 1

    def see_leaf(self, data: bytes) -> None:
        # In canonical JSON a quote inside a string is escaped, so these bytes stand for members alone.
        kind, request = _KIND.search(data), _REQUEST.search(data)
        if kind and request:
            self.see(kind[1].decode(), request[1].decode(), _LATER_PART.search(data) is None)


@dataclass(frozen=True, slots=True)
class Recovered:
    """Where the log goes on."""

    tree: Tree
    prev: bytes
    file: str | None
    """The file to go on in; None where there is none yet."""
    end: int
    pairs: Pairs
    torn: tuple[Body, ...]
    """The `recovery` leaves to write."""
    unsigned: int = 0
    """Leaves that no checkpoint covers: the last ones before a crash, or somebody else's."""


def recover(disk: Disk, folder: Path, verifier: Verifier, marks: Sequence[Path]) -> Recovered:
    """Read the log as far back as its last boot, cut a torn tail, and compare with the checkpoints at `marks`.

    Raises LogError for damage that a crash cannot explain (CORRUPT) and for leaves that a checkpoint has and the log not (LOSS).
    """
    names = disk.names(folder)
    for name in names:
        if ".tmp-" in name:
            disk.unlink(folder / name)  # a replacement that was never put in place
    files = ordered(names)
    if files and files[0] != "seg-0.qseg":
        raise LogError(f"LOSS: {folder}: the log begins with {files[0]}, seg-0.qseg is missing; put the missing files back")
    start, tree, prev = _last_boot(disk, folder, files)
    checkpoints = [(path, _checkpoint(disk, path, verifier)) for path in marks if path.exists()]
    pairs, last, before, first = Pairs(), None, tree, header_for(verifier.name, tree, prev)
    try:
        for last in read(verifier.name, ((name, disk.read(folder / name)) for name in files[start:]), tree, prev):
            for leaf in last.leaves:
                pairs.see_leaf(leaf.data)
            for path, checkpoint in checkpoints:
                _compare(path, checkpoint, before, last)
            first, before = header_for(verifier.name, before, prev), last.tree
            prev = last.prev
    except LogError as error:
        raise LogError(f"CORRUPT: {folder}/{error}. Nothing was changed. Run `moderation audit verify`, keep a copy of "
                       "the folder, and put back a sound copy or move this one away") from None
    tree = last.tree if last else tree
    for path, checkpoint in checkpoints:
        if checkpoint.size > tree.size:
            raise LogError(f"LOSS: {path} is signed for {checkpoint.size} leaves, {folder} has {tree.size}. Put the missing "
                           "files back; if they are gone for good, move the folder and its files in the keys folder away, and a "
                           "new log begins")
    if last is None:
        return Recovered(tree, prev, None, 0, pairs, ())
    head = first.to_bytes()
    end = _cut(disk, folder, files[-1], last, head)
    unsigned = tree.size - max((checkpoint.size for _, checkpoint in checkpoints), default=0)
    return Recovered(tree, prev, files[-1], end, pairs, _torn(disk, folder, files[-1], last.end, len(head)), unsigned)


def _last_boot(disk: Disk, folder: Path, files: Sequence[str]) -> tuple[int, Tree, bytes]:
    """The newest file that holds a `log_open`, and the state before it, as its header tells.

    What was open before a boot was closed by it, and a signed checkpoint vouches for the header; so a start need not read years.
    """
    for number in range(len(files) - 1, 0, -1):
        data = disk.read(folder / files[number])
        header = parse_header(data)
        if header is None or _BOOT not in data:
            continue
        try:
            booted = any(_BOOT in leaf.data for leaf in scan(data, header).leaves)
        except SegmentError:
            continue  # whoever reads the file from before it says what is wrong
        if booted:  # and committed: a boot that stands in a torn tail has closed nothing
            return number, Tree(header.first, header.compact), header.prev
    return 0, Tree(), NO_PREV


def _checkpoint(disk: Disk, path: Path, verifier: Verifier) -> Checkpoint:
    try:
        checkpoint = open_checkpoint(disk.read(path), [verifier])
    except NoteError as error:
        raise LogError(f"CORRUPT: {path}: {error}. Put back the checkpoint that this log's key has signed") from None
    if checkpoint.origin != verifier.name:
        raise LogError(f"CORRUPT: {path}: a checkpoint of another log ({checkpoint.origin})")
    return checkpoint


def _compare(path: Path, checkpoint: Checkpoint, before: Tree, scan: Scan) -> None:
    if not before.size <= checkpoint.size <= scan.tree.size:
        return
    tree = before.copy()
    for leaf in scan.leaves[: checkpoint.size - before.size]:
        tree.append(leaf.hash)
    if tree.root() != checkpoint.root:
        raise LogError(f"the first {checkpoint.size} leaves do not have the root that {path} is signed for")


def _cut(disk: Disk, folder: Path, name: str, scan: Scan, header: bytes) -> int:
    """Keep the torn bytes beside the file, then cut them off. Safe to be broken off anywhere and done again."""
    if scan.tail is Tail.NONE:
        return scan.end
    path = folder / name
    torn = disk.read(path)[scan.end :]
    number = 1
    while True:
        copy = folder / (f"{name}.torn-{scan.end}" if number == 1 else f"{name}.torn-{scan.end}-{number}")
        if not copy.exists():
            disk.replace(copy, torn)
        if disk.read(copy) == torn:
            break
        number += 1
    if scan.end == 0:
        disk.replace(path, header)
        return len(header)
    disk.truncate(path, scan.end)
    return scan.end


def _torn(disk: Disk, folder: Path, name: str, end: int, head: int) -> tuple[Body, ...]:
    """A boot writes these leaves in its first batch, at `end`: so a torn file with this offset has none yet."""
    offsets = {end, 0} if end <= head else {end}
    leaves: list[Body] = []
    for copy in disk.names(folder):
        match = _TORN.fullmatch(copy)
        if match and match[1] == name and int(match[2]) in offsets:
            torn = disk.read(folder / copy)
            leaves.append(recovery(copy, int(match[2]), len(torn), sha256(torn).hexdigest()))
    return tuple(leaves)
