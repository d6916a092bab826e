"""Every file of a small log, cut at every byte and with bits flipped: the verdict is exact, and no command falls over.

P3 and P4 on a whole data folder, whose checkpoint covers everything.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest

from moderation.audit.index import Index, Query
from moderation.audit.verify import verify
from moderation.cli import main
from tests.audit.samples import POLICY, fill, ulid

QSEG, NOTE, KEY = "log-0/seg-0.qseg", "log-0/checkpoint", "log-0/key.pub"
KEPT = f"policies/{POLICY.hash}/policy.yaml"
LAST_COMMIT = 53
"""Bytes of the last frame of a log file, a commit."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("sound") / "data"
    fill(data, [1])
    with Index(data) as index:
        index.catch_up()
    assert verify(data).exit_code == 0
    return data


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "data")
    return tmp_path / "data"


def command(*words: str) -> int:
    """A command as a shell would run it; an exception would go through."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(list(words))
    assert "Traceback" not in said.getvalue()
    return code


def expected_cut(name: str, at: int, whole: bytes) -> set[int]:
    """Exit codes that are right for a file cut at this byte."""
    if name == QSEG:
        return {4}
    if name == KEY and at == len(whole) - 1:
        return {0}  # its newline alone, which says nothing
    return {3}


@pytest.mark.parametrize("name", [QSEG, NOTE, KEY, KEPT])
def test_cut_at_every_byte(data: Path, name: str) -> None:
    path = data / name
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at])
        report = verify(data)
        assert report.exit_code in expected_cut(name, at, whole), (at, report.faults)
        if at % 97 == 0:
            assert command("audit", "verify", "--data", str(data)) == report.exit_code
            assert command("audit", "query", "--data", str(data)) in (0, 2)
            assert command("audit", "show", ulid(1), "--data", str(data)) in (0, 1, 2)


BITS = [(QSEG, 4, 1), (NOTE, 1, 2), (KEY, 1, 8), (KEPT, 1, 8)]
"""Of each so-manieth byte so many bits. All bits of a log file are flipped in test_qseg, without a folder."""


@pytest.mark.parametrize(("name", "step", "bits"), BITS, ids=[bits[0] for bits in BITS])
def test_flipped_bits(data: Path, name: str, step: int, bits: int) -> None:
    path = data / name
    whole = path.read_bytes()
    for at in range(0, len(whole), step):
        for bit in {(at // step * 5 + more) % 8 for more in range(bits)}:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            code = verify(data).exit_code
            # A last commit whose length is altered is like one that was torn off: then leaves are missing that a checkpoint covers.
            torn = name == QSEG and len(whole) - LAST_COMMIT <= at < len(whole) - LAST_COMMIT + 4
            assert code == 3 or (torn and code == 4), (at, bit, code)
    path.write_bytes(whole)
    assert verify(data).exit_code == 0


def test_the_index_however_damaged_is_believed_in_nothing(data: Path) -> None:
    path = data / "index.sqlite"
    whole = path.read_bytes()
    with Index(data) as index:
        index.catch_up()
        rows = index.find(Query())
    assert rows
    for at in range(0, len(whole), 997):
        for harmed in (whole[:at], whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]):
            path.write_bytes(harmed)
            assert verify(data).exit_code == 0
            with Index(data) as index:
                index.catch_up()
                assert index.find(Query()) in (rows, [])  # a decision may be hidden by it (docs/audit.md), never another shown
            path.write_bytes(harmed)
            assert command("audit", "show", ulid(1), "--data", str(data), "--json") in (0, 1)
    path.unlink()
    with Index(data) as index:
        index.catch_up()
        assert index.find(Query()) == rows


def test_json_says_the_same(data: Path) -> None:
    (data / QSEG).write_bytes((data / QSEG).read_bytes()[:-1])
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
        assert main(["audit", "verify", "--data", str(data), "--json"]) == 4
    told = json.loads(out.getvalue())
    assert (told["exit"], told["ok"]) == (4, False)
