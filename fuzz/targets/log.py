"""audit/: a small log, harmed in the ways that an input says, and then checked, searched and started again.

An input is harms of six bytes each: which, to which file, where (two bytes), with what, how much. What is not filled up is a text
that some harms put in. The log is made anew each time from the same requests; its lengths are the same, its boot number is not.
"""

from __future__ import annotations

import base64
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple
from zlib import crc32

from fuzz.target import Run, Target, law
from moderation.audit.canon import CanonError, decode, encode
from moderation.audit.disk import Disk
from moderation.audit.index import Index, Query, Row
from moderation.audit.merkle import Tree, leaf_hash
from moderation.audit.note import Signer
from moderation.audit.opening import open_folder
from moderation.audit.qseg import commit_frame, header_for, ordered, read, record_frame
from moderation.audit.recall import RecallError, joined
from moderation.audit.store import SystemClock
from moderation.audit.verify import verify
from moderation.audit.verify_trust import Trust
from moderation.audit.writer import Limits
from moderation.errors import LogError
from tests.audit.samples import fill, ulid

SEEDED = Signer("moderation/fuzz/log-0", bytes(range(32)))


class QuickDisk(Disk):
    """Nothing here outlives the process, so nothing is synced."""

    def fdatasync(self, fd: int) -> None:
        pass

    def _sync_folder(self, folder: Path) -> None:
        pass


Files = dict[str, bytes]

ODD: tuple[object, ...] = (None, True, -1, 0, 2**53 - 1, 10**9, "", "x", "../../../x", "a\0b", "\u202e", [], [[]], [[None] * 5],
                           {}, {"a": 1},
                           ["x"] * 9, [["log-9", 3, "AAAA"]], "decision", "close", "log_open", "recovery", "gap",
                           "policy_activate")
"""In place of a member of a leaf."""
ODD_FIRST = (1, 4, 5, 99, 10**6, 2**40, 10**15)
STRAY = ("checkpoint.tmp-1", "seg-0.qseg.torn-84", "seg-99.qseg", "seg-00.qseg", "seg-0.qseg.torn-0-2", "seg-x.qseg")
"""Names of files that were not there."""


class Harm(NamedTuple):
    file: str
    at: int
    value: int
    size: int
    text: bytes


def _read(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if name.endswith(".key"):
            path.chmod(0o600)
    folder.mkdir(parents=True, exist_ok=True)


def _flip(files: Files, harm: Harm) -> bytes:
    data = files[harm.file]
    return data[: harm.at] + bytes([data[harm.at] ^ (harm.value or 1)]) + data[harm.at + 1 :] if harm.at < len(data) else data


def _cut(files: Files, harm: Harm) -> bytes:
    return files[harm.file][: harm.at]


def _drop(files: Files, harm: Harm) -> bytes:
    return files[harm.file][: harm.at] + files[harm.file][harm.at + harm.size :]


def _twice(files: Files, harm: Harm) -> bytes:
    data = files[harm.file]
    return data[: harm.at + harm.size] + data[harm.at :]


def _put(files: Files, harm: Harm) -> bytes:
    return files[harm.file][: harm.at] + harm.text + files[harm.file][harm.at :]


def _append(files: Files, harm: Harm) -> bytes:
    return files[harm.file] + harm.text


def _frame(files: Files, harm: Harm) -> bytes:
    """A sound frame behind all others, and half a commit, or one that does not fit."""
    commit = commit_frame(harm.at, bytes(32), harm.value)
    return files[harm.file] + record_frame(harm.text) + commit[: harm.size]


def _over(files: Files, harm: Harm) -> bytes:
    return files[sorted(files)[harm.value % len(files)]]


def _batch(files: Files, harm: Harm) -> bytes:
    """A sound batch behind all others, with a leaf that was there before but for one member: no key is needed for that."""
    if not harm.file.endswith(".qseg"):
        return files[harm.file]
    try:
        scans = list(read(SEEDED.verifier.name, [(name[6:], files[name]) for name in _segments(files)]))
        leaves = [leaf for scan in scans for leaf in scan.leaves]
        members = decode(leaves[harm.at % len(leaves)].data)
    except (LogError, CanonError, ZeroDivisionError):
        return files[harm.file]
    names = sorted({*members, "siblings", "parts", "decisions"})
    members[names[harm.value % len(names)]] = ODD[harm.size % len(ODD)]
    if harm.size % 2:
        members |= {"idx": scans[-1].tree.size, "prev": base64.b64encode(scans[-1].prev).decode()}
    body, tree = encode(members), scans[-1].tree.copy()
    tree.append(leaf_hash(body))
    made = files[_segments(files)[-1]] + record_frame(body) + commit_frame(tree.size, tree.root(), 1)
    return made if harm.file == _segments(files)[-1] else files[harm.file]


def _segments(files: Files) -> list[str]:
    """The log files, in the order of their leaves."""
    return [f"log-0/{name}" for name in ordered(name[6:] for name in files if name.startswith("log-0/"))]


def _sums(files: Files, harm: Harm) -> bytes:
    """The checksums of all frames made to fit, as somebody would who knows the format. Headers are variable; see qseg."""
    data = bytearray(files[harm.file])
    count = int.from_bytes(data[6:8], "big") if len(data) > 8 else 0
    at = 84 + 32 * count
    if harm.file.endswith(".qseg") and len(data) > at:
        data[at - 4 : at] = struct.pack(">I", crc32(data[: at - 4]))
        while at + 8 < len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            data[at + 4 : at + 8] = struct.pack(">I", crc32(data[at + 8 : at + 8 + length]))
            at += 8 + length
    return bytes(data)


_Way = Callable[[Files, Harm], bytes]
_WAYS: tuple[_Way, ...] = (_flip, _flip, _cut, _drop, _twice, _put, _append, _frame, _over, _sums, _batch, _batch)


def harmed(files: Files, data: bytes) -> Files:
    made = dict(files)
    text = data[len(data) - len(data) % 6 :] or b'{"kind":"open"}'
    for start in range(0, min(len(data) - len(data) % 6, 36), 6):
        way, which, high, low, value, size = data[start : start + 6]
        if not made:
            break
        name = sorted(made)[which % len(made)]
        harm = Harm(name, (high << 8 | low) % (len(made[name]) + 1), value, size, text)
        if way % 16 == 12:
            del made[name]
        elif way % 16 == 13:
            made[f"log-0/{STRAY[value % len(STRAY)]}"] = made[name]
        elif way % 16 == 14:
            first = ODD_FIRST[value % len(ODD_FIRST)]
            header = header_for(SEEDED.verifier.name, Tree(first, [bytes(32)] * first.bit_count()), bytes(32))
            made[f"log-0/{header.name}"] = header.to_bytes() + made[name][size:]
        else:
            made[name] = _WAYS[way % 16 % len(_WAYS)](made, harm)
    return made


def altered(before: Files, after: Files) -> bool:
    """Whether a leaf that the checkpoint covers is gone or another: all are covered, and the last file may have grown."""
    segments = sorted((name for name in before if name.endswith(".qseg")), key=lambda name: int(name[10:-5]))
    rest = [name for name in segments[:-1] if after.get(name) != before[name]]
    return bool(rest) or not after.get(segments[-1], b"").startswith(before[segments[-1]])


def prepare() -> Run:
    place = Path(tempfile.mkdtemp(prefix="fuzz-log-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    made = place / "made"
    (made / "keys").mkdir(parents=True)
    (made / "keys" / "log-0.key").write_text(f"{SEEDED.line()}\n")
    (made / "keys" / "log-0.key").chmod(0o600)
    fill(made, (1, 2), Limits(roll_bytes=3000))
    with Index(made) as index:
        index.catch_up()
        rows = index.find(Query())
    files = _read(made)
    keys = {name: files.pop(name) for name in list(files) if name.startswith("keys/")}
    files = {name: data for name, data in files.items() if not name.startswith("index.sqlite-")}

    def run(data: bytes) -> str:
        after = harmed(files, data)
        broken = altered(files, after)
        _write(place / "data", after)
        _write(place / "apart", keys)
        grown = any(after.get(name) != files.get(name) for name in {*_segments(files), *_segments(after)})
        told = [_verified(place, broken), _searched(place / "data", grown, rows), _started(place, broken)]
        if after == files:
            law(told[0] == "exit 0", "a sound log does not verify")
        return " ".join(told)

    return run


def _verified(place: Path, broken: bool) -> str:
    try:
        report = verify(place / "data", Trust.read(place / "apart" / "keys"))
    except OSError as error:
        return type(error).__name__
    law(report.exit_code in (0, 3, 4, 5), "another exit code than verify's")
    law(not (broken and report.exit_code == 0), "a covered leaf was altered, and verify says that all is well")
    report.to_json()
    return f"exit {report.exit_code}" + "".join(sorted({f" {fault.problem[:30]}" for fault in report.faults}))


def _searched(data: Path, grown: bool, rows: Sequence[Row]) -> str:
    try:
        with Index(data) as index:
            index.catch_up()
            found = index.find(Query())
            leaves = index.leaves(ulid(1))
        parts = [leaf for leaf in leaves if leaf["kind"] == "decision" and leaf["n"] == 0]
        if parts:
            joined(parts)
    except (LogError, RecallError) as error:
        return str(error)[-40:]
    law(grown or set(found) <= set(rows), "a decision that is not in the log")
    return f"rows {len(found)}"


def _started(place: Path, broken: bool) -> str:
    """The next start of a sidecar on what is there."""
    disk = QuickDisk()
    try:
        opened = open_folder(place / "data", place / "apart" / "keys", "moderation/fuzz", 0, "0", SystemClock(), disk, Limits())
    except LogError as error:
        return str(error)[:8]
    opened.writer.release()
    disk.close(opened.lock)
    return f"started {_verified(place, broken)}"


def _seeds() -> Sequence[bytes]:
    random = Random(0)
    single = [bytes([way, file, random.randrange(40), random.randrange(256), 1, 40]) for way in range(16) for file in range(8)]
    odd = [bytes([10, 4, 0, leaf, member, value]) for leaf in range(7) for member in range(0, 30, 3) for value in (1, 3, 5, 9, 11,
    21)]
    fitted = [one + bytes([9, one[1], 0, 0, 0, 0]) for one in single[:48]]
    return [b"", *single, *fitted, *odd[::7], bytes([7, 3, 0, 9, 1, 60]) + b'{"kind":"log_open"}'[:5]]


TARGET = Target(
    "log", "However a log is harmed: an exit code and no traceback, and never 0 where a leaf under a checkpoint was altered.",
    _seeds, prepare, (bytes([9, 1, 0, 0, 0, 0]), bytes([0, 2, 3, 200, 1, 1]), bytes([7, 1, 0, 9, 1, 60]), b"[" * 5,
    b"\x00\x00\x00-"), longest=41,
)
