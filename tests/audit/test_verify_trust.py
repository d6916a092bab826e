"""Forgeries that agree with themselves, and what tells them: a key, a checkpoint or the keys folder kept elsewhere."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from moderation.audit.canon import encode
from moderation.audit.merkle import Tree, leaf_hash
from moderation.audit.note import Checkpoint, Signer
from moderation.audit.qseg import NO_PREV, commit_frame, header_for, record_frame
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.audit.verify_trust import Trust, TrustError
from moderation.errors import LogError
from tests.audit.mini_verifier import check
from tests.audit.samples import POLICY, fill
from tests.audit.test_verify import Change, append_forged, emptied, leaves, remove, steps, without

Harm = Callable[[Path], object]


class Office:
    """A data folder, and what an auditor keeps of it: the keys folder, the key line, the newest checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.data, self.keys, self.safe = folder / "data", folder / "keys", folder / "safe"
        self.safe.mkdir()
        fill(self.data)
        shutil.copytree(self.data / "log-0", self.safe / "older")
        (self.data / "keys").rename(self.keys)
        (self.data / "keys").symlink_to(self.keys)
        fill(self.data, [4, 5])
        (self.data / "keys").unlink()
        for name in ("key.pub", "checkpoint"):
            shutil.copy(self.data / "log-0" / name, self.safe / name)

    def trust(self, kind: str) -> Trust:
        line = (self.safe / "key.pub").read_text()
        return Trust.read(self.keys if "keys" in kind.split() else None, [line.strip()] if "key" in kind.split() else [],
                          [self.safe / "checkpoint"] if "checkpoint" in kind.split() else [])


def made_anew(data: Path, change: Change, log: str = "log-0", source: str = "log-0", origin: str | None = None) -> None:
    """A log written anew, as a whole, with a key of one's own: key.pub, log_open and checkpoint fit each other."""
    old = leaves(data, source)
    folder = data / log
    name = origin or (data / source / "key.pub").read_text().split("+")[0]
    signer = Signer(name, bytes(range(32)))
    folder.mkdir(exist_ok=True)
    for path in folder.glob("*.qseg"):
        path.unlink()
    tree, prev, frames = Tree(), NO_PREV, b""
    for index, leaf in enumerate(change(old)):
        leaf = {**leaf, "log": name, "idx": index, "prev": base64.b64encode(prev).decode()}
        if leaf["kind"] == "log_open":
            leaf["key"] = signer.verifier.line()
        body = encode(leaf)
        prev = leaf_hash(body)
        tree.append(prev)
        frames += record_frame(body) + commit_frame(tree.size, tree.root(), 1)
    (folder / "seg-0.qseg").write_bytes(header_for(name, Tree(), NO_PREV).to_bytes() + frames)
    (folder / "key.pub").write_text(signer.verifier.line() + "\n")
    (folder / "checkpoint").write_bytes(signer.sign(Checkpoint(name, tree.size, tree.root()).text()).to_bytes())


def roll_back(data: Path) -> None:
    shutil.rmtree(data / "log-0")
    shutil.copytree(data.parent / "safe" / "older", data / "log-0")


def another_log(data: Path) -> None:
    origin = (data / "log-0" / "key.pub").read_text().split("+")[0]
    made_anew(data, lambda all_leaves: all_leaves, "log-7", origin=origin.removesuffix("0") + "7")


KINDS = ("", "keys", "key", "checkpoint", "keys key checkpoint")
# Exit codes with nothing kept elsewhere, with the keys folder, with a key, with a checkpoint, and with all three.
FORGERIES: list[tuple[str, Harm, tuple[int, int, int, int, int]]] = [
    ("nothing", lambda data: None, (0, 0, 0, 0, 0)),
    ("a request taken out, all signed anew with another key", lambda data: made_anew(data, without(2, 3, 4)), (0, 3, 3, 3, 3)),
    ("nothing taken out, all signed anew with another key", lambda data: made_anew(data, lambda x: x), (0, 3, 3, 3, 3)),
    ("an older copy put back", roll_back, (0, 4, 0, 4, 4)),
    ("the log emptied", emptied("log-0"), (4, 4, 4, 4, 4)),
    ("the log and the policies emptied", steps(emptied("log-0"), remove("policies")), (0, 4, 4, 4, 4)),
    ("the log's folder removed", remove("log-0"), (4, 4, 4, 4, 4)),
    ("a copy under another name", lambda data: shutil.copytree(data / "log-0", data / "log-7"), (3, 3, 3, 3, 3)),
    ("moved to another name", lambda data: (data / "log-0").rename(data / "log-7"), (3, 3, 3, 3, 3)),
    ("another log put beside", another_log, (0, 3, 3, 0, 3)),
]


@pytest.mark.parametrize("number", range(5), ids=[kind or "nothing elsewhere" for kind in KINDS])
@pytest.mark.parametrize(("note", "harm", "codes"), FORGERIES, ids=[note for note, _, _ in FORGERIES])
def test_forgeries(tmp_path: Path, note: str, harm: Harm, codes: tuple[int, ...], number: int) -> None:
    office = Office(tmp_path)
    harm(office.data)
    report = verify(office.data, office.trust(KINDS[number]))
    assert report.exit_code == codes[number], report.faults
    assert report.compared_with == KINDS[number].split()
    assert all(fault.todo and fault.where for fault in report.faults)
    said = " ".join(report.notes)
    assert ("Nothing that is kept elsewhere was given" in said) == (number == 0)
    assert ("put back to an older state" in said) == (number in (0, 2))
    assert verify(office.data).compared_with == []


def test_all_gone(tmp_path: Path) -> None:
    office = Office(tmp_path)
    for name in ("log-0", "policies"):
        shutil.rmtree(office.data / name)
    for kind in KINDS[1:]:
        assert verify(office.data, office.trust(kind)).exit_code == 4
    with pytest.raises(FileNotFoundError):
        verify(office.data)


def test_a_copy_of_the_checkpoint_that_is_gone(tmp_path: Path) -> None:
    office = Office(tmp_path)
    (office.keys / "log-0.checkpoint").unlink()
    report = verify(office.data, office.trust("keys"))
    assert (report.exit_code, [fault.problem for fault in report.faults]) == (4, ["the copy of this log's checkpoint is gone"])


@pytest.mark.parametrize("text", ["", "nowhere", "a+b", "x" * 5000, "checkpoint"])
def test_what_is_no_key(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Office(tmp_path).safe)
    with pytest.raises(TrustError, match="neither"):
        Trust.read(None, [text])


def test_what_is_no_checkpoint_and_no_keys_folder(tmp_path: Path) -> None:
    office = Office(tmp_path)
    with pytest.raises(TrustError, match="not a checkpoint"):
        Trust.read(None, [], [office.safe / "key.pub"])
    with pytest.raises(FileNotFoundError):
        Trust.read(None, [], [office.safe / "nothing"])
    for folder in (office.safe, office.safe / "nothing"):
        with pytest.raises(TrustError, match="--keys folder"):
            Trust.read(folder)
    assert Trust.read(None, [str(office.safe / "key.pub")]).lines[0][1][2] == (office.safe / "key.pub").read_text().strip()


def test_forged_leaves_behind_the_checkpoint_leave_a_mark(tmp_path: Path) -> None:
    """The next start signs them, and says for ever that nobody had signed them before."""
    fill(tmp_path)
    append_forged(tmp_path)
    before = verify(tmp_path)
    assert any("under no checkpoint" in note for note in before.notes)
    for number in (8, 9):
        fill(tmp_path, [number])
        report = verify(tmp_path)
        assert report.logs[0].unsigned_at_starts == 1
        assert any("leaf 12: this start found 1 leaves (from leaf 11 on) under no checkpoint" in note
                   for note in report.notes)
    assert [leaf["unsigned"] for leaf in check(tmp_path / "log-0") if leaf["kind"] == "log_open"] == [0, 1, 0]


@pytest.mark.parametrize(("name", "size", "code"), [
    ("seg-9999.qseg", 0, 3), ("seg-9999.qseg", 50, 3), ("seg-11.qseg", 0, 0), ("seg-11.qseg", 50, 0), ("seg-11.qseg", -50, 3),
    ("seg-3.qseg", 0, 3),
])
def test_a_start_and_the_verifier_agree_on_an_unfinished_file(tmp_path: Path, name: str, size: int, code: int) -> None:
    folder = fill(tmp_path)
    origin = (folder / "key.pub").read_text().split("+")[0]
    tree = Tree()
    prev = NO_PREV
    for leaf in leaves(tmp_path):
        prev = leaf_hash(encode(leaf))
        tree.append(prev)
    header = header_for(origin, tree, prev).to_bytes()
    (folder / name).write_bytes(header[:size] if size >= 0 else os.urandom(-size))
    assert verify(tmp_path).exit_code == code
    if code:
        with pytest.raises(LogError, match="CORRUPT"):
            Log.open(tmp_path)
    else:
        fill(tmp_path, [9])
        assert verify(tmp_path).exit_code == 0


def test_a_batch_of_no_leaves_is_refused(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    tree = Tree()
    for leaf in leaves(tmp_path):
        tree.append(leaf_hash(encode(leaf)))
    with (folder / "seg-0.qseg").open("ab") as file:
        file.write(commit_frame(tree.size, tree.root(), 0))
    assert verify(tmp_path).exit_code == 3
    with pytest.raises(LogError, match="CORRUPT"):
        Log.open(tmp_path)


POLICY_FILE = f"policies/{POLICY.hash}/policy.yaml"


def test_a_forged_policy_stays_a_fault(tmp_path: Path) -> None:
    """The next start keeps the true file beside the forged one, and that heals nothing."""
    fill(tmp_path)
    (tmp_path / POLICY_FILE).write_bytes(b"format: 1\nrules: []\n")
    assert verify(tmp_path).exit_code == 3
    for number in (8, 9):
        fill(tmp_path, [number])
        report = verify(tmp_path)
        assert report.exit_code == 3
        assert [fault.where for fault in report.faults] == [str(tmp_path / POLICY_FILE)]


@pytest.mark.parametrize(("note", "name", "data", "code"), [
    ("a file more", "lists/more.txt", b"egret\n", 3), ("a variant that is not what its name says", "policy.yaml.v-" + "0" * 16, b"x", 3),
    ("a file on its way", "policy.yaml.tmp-77", b"format", 0),
    ("a variant that was kept, and then the process died", "policy.yaml.v-2d711642b726b044", b"x", 0),
])
def test_other_files_beside_a_kept_policy(tmp_path: Path, note: str, name: str, data: bytes, code: int) -> None:
    fill(tmp_path)
    (tmp_path / f"policies/{POLICY.hash}" / name).write_bytes(data)
    report = verify(tmp_path)
    assert report.exit_code == code, report.faults
