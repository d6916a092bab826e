"""Starts after a crash: whatever was open is closed, once, also where the next start crashed too."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import pytest

from moderation.audit.qseg import commit_frame, record_frame
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.audit.writer import Limits
from tests.audit.mini_verifier import check
from tests.audit.samples import closed, fill, opened, ulid
from tests.audit.test_store import until


def crashed(data: Path, opens: int, limits: Limits) -> Path:
    """A log with so many open requests, whose process died. Gives its last file."""
    async def run() -> None:
        log = Log.open(data, limits=limits)
        for number in range(opens):
            await log.append(opened(ulid(number)), strict=True)
            if number % 2:
                await log.append(closed(ulid(number), 0), strict=True)
        if limits.checkpoint_leaves == 1:
            await until(lambda: f"\n{log.size}\n" in (log.folder / "checkpoint").read_text())

    child = os.fork()
    if child == 0:
        asyncio.run(run())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return max((data / "log-0").glob("*.qseg"), key=lambda path: int(path.name[4:-5]))


@pytest.mark.parametrize("junk", [
    pytest.param(record_frame(b'{"kind":"log_open"}'), id="a boot without its commit"),
    pytest.param(record_frame(b'{"kind":"log_open"}') + commit_frame(1, bytes(32), 1)[:-1], id="a boot with half a commit"),
    pytest.param(record_frame(b'{"kind":"log_open"}')[:-1], id="half a boot"),
    pytest.param(b"", id="nothing"),
])
def test_two_crashes_in_a_row(tmp_path: Path, junk: bytes) -> None:
    last = crashed(tmp_path, 9, Limits(roll_bytes=1500, checkpoint_every=3600))
    assert last.name != "seg-0.qseg"
    assert b"log_open" not in last.read_bytes()
    with last.open("ab") as file:
        file.write(junk)
    fill(tmp_path, [50])
    leaves = check(tmp_path / "log-0")
    opens, closes = (Counter(leaf["req"] for leaf in leaves if leaf["kind"] == kind) for kind in ("open", "close"))
    assert opens == closes
    assert set(closes.values()) == {1}
    report = verify(tmp_path)
    assert report.exit_code == 0, report.faults


@pytest.mark.parametrize(("limits", "unsigned"), [
    (Limits(checkpoint_every=3600), 7), (Limits(checkpoint_every=3600, checkpoint_leaves=1), 0),
])
def test_leaves_under_no_checkpoint_leave_a_mark_at_the_next_start(tmp_path: Path, limits: Limits, unsigned: int) -> None:
    crashed(tmp_path, 5, limits)
    for again in range(2):
        fill(tmp_path, [50 + again])
        starts = [leaf["unsigned"] for leaf in check(tmp_path / "log-0") if leaf["kind"] == "log_open"]
        assert starts == [0, unsigned, *[0] * again]
        report = verify(tmp_path)
        assert report.exit_code == 0, report.faults
        assert report.logs[0].unsigned_at_starts == unsigned
        assert any(f"found {unsigned} leaves" in note for note in report.notes) == bool(unsigned)
