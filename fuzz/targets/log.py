"""audit/: a small log, harmed (harms.py) as an input says, and then checked, searched and started again.

The log is made anew each time from the same requests; its lengths are the same, its boot number is not.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from fuzz.target import Run, Target, law
from fuzz.targets.harms import SEEDED, Files, harmed, segments
from moderation.audit.clock import SystemClock
from moderation.audit.disk import Disk
from moderation.audit.index import Index, Query, Row
from moderation.audit.opening import open_folder
from moderation.audit.verify import verify
from moderation.audit.verify_trust import Trust
from moderation.audit.writer import Limits
from moderation.cli import main
from moderation.errors import LogError
from tests.audit.samples import fill, ulid


class QuickDisk(Disk):
    """Nothing here outlives the process, so nothing is synced."""

    def fdatasync(self, fd: int) -> None:
        pass

    def fsync(self, fd: int) -> None:
        pass


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


def altered(before: Files, after: Files) -> bool:
    """Whether a leaf that the checkpoint covers is gone or another: all are covered, and the last file may have grown."""
    *whole, last = segments(before)
    return any(after.get(name) != before[name] for name in whole) or not after.get(last, b"").startswith(before[last])


def prepare() -> Run:
    shared = Path("/dev/shm")  # memory where there is such, for each input writes the whole log
    folder = TemporaryDirectory(prefix="fuzz-log-", dir=shared if shared.is_dir() else None)
    made = Path(folder.name) / "made"
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
        place = Path(folder.name)  # gone with this function, and no sooner
        after = harmed(files, data)
        broken = altered(files, after)
        _write(place / "data", after)
        _write(place / "apart", keys)
        grown = any(after.get(name) != files.get(name) for name in {*segments(files), *segments(after)})
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
            index.leaves(ulid(1))
    except LogError as error:
        return str(error)[-40:]
    _shown(data)
    law(grown or set(found) <= set(rows), "a decision that is not in the log")
    return f"rows {len(found)}"


def _shown(data: Path) -> None:
    """What an auditor sees of a request: no traceback, and nothing that steers a terminal."""
    for flags in ((), ("--json",)):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = main(["audit", "show", ulid(1), "--data", str(data), *flags])
        law(code in (0, 1, 2), "another exit code than show's")
        law(all(line.isprintable() for line in out.getvalue().split("\n")) or bool(flags), "control characters on a terminal")


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
    odd = [bytes([10, 4, 0, leaf, member, odd]) for leaf in range(7) for member in range(0, 30, 3) for odd in range(24)]
    fitted = [one + bytes([9, one[1], 0, 0, 0, 0]) for one in single[:48]]
    return [b"", *single, *fitted, *odd[::23], bytes([7, 3, 0, 9, 1, 60]) + b'{"kind":"log_open"}'[:5]]


TARGET = Target(
    "log", "However a log is harmed: an exit code and no traceback, and never 0 where a leaf under a checkpoint was altered.",
    _seeds, prepare,
    (bytes([9, 1, 0, 0, 0, 0]), bytes([0, 2, 3, 200, 1, 1]), bytes([7, 1, 0, 9, 1, 60]), b"[" * 5, b"\x00\x00\x00-"), longest=41,
)
