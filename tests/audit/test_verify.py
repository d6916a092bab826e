"""Each kind of tampering gives the right verdict, and the independent verifier agrees on what is sound."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any
from zlib import crc32

import pytest

from moderation.audit.canon import encode
from moderation.audit.merkle import Tree, leaf_hash
from moderation.audit.note import Checkpoint, Signer, parse_signer
from moderation.audit.qseg import NO_PREV, commit_frame, header_for, read, record_frame
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.audit.verify_report import Report
from moderation.audit.writer import Limits
from tests.audit.mini_verifier import check
from tests.audit.samples import POLICY, activation, closed, decided, fill, leaves_of, opened, ulid

Harm = Callable[[Path], object]
Change = Callable[[list[dict[str, object]]], list[dict[str, object]]]
SMALL = Limits(roll_bytes=2500)


def leaves(data: Path, log: str = "log-0") -> list[dict[str, object]]:
    folder = data / log
    origin = (folder / "key.pub").read_text().split("+")[0]
    files = sorted(folder.glob("*.qseg"), key=lambda path: int(path.name[4:-5]))
    return [json.loads(leaf.data) for scan in read(origin, ((p.name, p.read_bytes()) for p in files)) for leaf in scan.leaves]


def rewrite(data: Path, change: Change, *, chain: bool = True, sign: bool = False) -> None:
    """Write the whole log anew with changed leaves, hashes and commits and all, as an insider would; with the key, if `sign`."""
    folder = data / "log-0"
    origin = (folder / "key.pub").read_text().split("+")[0]
    new = change(leaves(data))
    for path in folder.glob("*.qseg"):
        path.unlink()
    tree, prev, frames = Tree(), NO_PREV, b""
    for index, leaf in enumerate(new):
        if chain:
            leaf = {**leaf, "idx": index, "prev": base64.b64encode(prev).decode()}
        body = encode(leaf)
        prev = leaf_hash(body)
        tree.append(prev)
        frames += record_frame(body) + commit_frame(tree.size, tree.root(), 1)
    (folder / "seg-0.qseg").write_bytes(header_for(origin, Tree(), NO_PREV).to_bytes() + frames)
    if sign:
        signer = parse_signer((data / "keys" / "log-0.key").read_text())
        note = signer.sign(Checkpoint(origin, tree.size, tree.root()).text()).to_bytes()
        (folder / "checkpoint").write_bytes(note)
        (data / "keys" / "log-0.checkpoint").write_bytes(note)


def edit(at: int, **members: object) -> Change:
    return lambda all_leaves: [{**leaf, **members} if i == at else leaf for i, leaf in enumerate(all_leaves)]


def without(*kept_out: int) -> Change:
    return lambda all_leaves: [leaf for i, leaf in enumerate(all_leaves) if i not in kept_out]


def flip(name: str, at: int) -> Harm:
    def harm(data: Path) -> None:
        path = data / name
        content = bytearray(path.read_bytes())
        content[at] ^= 0x10
        path.write_bytes(content)
    return harm


def cut(name: str, count: int) -> Harm:
    return lambda data: os.truncate(data / name, (data / name).stat().st_size - count)


def steps(*harms: Harm) -> Harm:
    def harm(data: Path) -> None:
        for one in harms:
            one(data)
    return harm


def rewritten(change: Change, *, chain: bool = True, sign: bool = False) -> Harm:
    return lambda data: rewrite(data, change, chain=chain, sign=sign)


def emptied(log: str) -> Harm:
    def harm(data: Path) -> None:
        for path in (data / log).iterdir():
            path.unlink()
    return harm


def remove(name: str) -> Harm:
    return lambda data: shutil.rmtree(data / name) if (data / name).is_dir() else (data / name).unlink()


def fix_crc(data: Path) -> None:
    """A change of one letter in a leaf, with the frame's checksum made to fit."""
    path = data / "log-0" / "seg-0.qseg"
    content = bytearray(path.read_bytes())
    at = content.index(b'"act":"redact"')
    content[at + 7 : at + 13] = b"review"
    start = content.rindex(b"\x01{", 0, at) - 8
    length = struct.unpack(">I", content[start : start + 4])[0]
    content[start + 4 : start + 8] = struct.pack(">I", crc32(content[start + 8 : start + 8 + length]))
    path.write_bytes(content)


def new_key(data: Path) -> None:
    """Everything signed anew with another key; key.pub too."""
    origin = (data / "log-0" / "key.pub").read_text().split("+")[0]
    signer = Signer(origin, bytes(32))
    size, root = len(leaves(data)), Tree()
    for leaf in leaves(data):
        root.append(leaf_hash(encode(leaf)))
    (data / "log-0" / "key.pub").write_text(signer.verifier.line() + "\n")
    (data / "log-0" / "checkpoint").write_bytes(signer.sign(Checkpoint(origin, size, root.root()).text()).to_bytes())


def append_forged(data: Path) -> None:
    folder = data / "log-0"
    old = (folder / "checkpoint").read_bytes()
    copy = (data / "keys" / "log-0.checkpoint").read_bytes()
    rewrite(data, lambda all_leaves: [*all_leaves, {**all_leaves[-3], "req": ulid(77)}])
    (folder / "checkpoint").write_bytes(old)
    (data / "keys" / "log-0.checkpoint").write_bytes(copy)


def _edit_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _roll_back(data: Path) -> None:
    """Put an older state back whole, checkpoint and all; the copy where the keys lie tells."""
    copy = (data / "keys" / "log-0.checkpoint").read_bytes()
    rewrite(data, lambda x: x[:8], sign=True)
    (data / "keys" / "log-0.checkpoint").write_bytes(copy)


def _far_file(data: Path) -> None:
    """A file whose header says that a million billion leaves stand before it."""
    header = header_for(leaves(data)[0]["log"], Tree(10**15, [bytes(32)] * (10**15).bit_count()), bytes(32))  # type: ignore[arg-type]
    (data / "log-0" / header.name).write_bytes(header.to_bytes())


POLICY_FILE = f"policies/{POLICY.hash}/policy.yaml"
TAMPERING: list[tuple[str, Harm, int, str]] = [
    ("a byte of a leaf", flip("log-0/seg-0.qseg", 700), 3, "no sound frame"),
    ("a byte of the header", flip("log-0/seg-0.qseg", 20), 3, "header"),
    ("a byte of the last commit", flip("log-0/seg-0.qseg", -5), 3, "no sound frame"),
    ("a letter of a leaf, checksum made to fit", fix_crc, 3, "commit"),
    ("a leaf changed, everything hashed anew", rewritten(edit(3, act="allow")), 3, "not the root"),
    ("a leaf taken out, everything hashed anew", rewritten(without(3)), 4, "missing"),
    ("two leaves swapped, hashed anew", rewritten(lambda x: [*x[:2], x[3], x[2], *x[4:]]), 3, "not the root"),
    ("idx and prev not kept", rewritten(without(3), chain=False), 3, "`idx`"),
    ("another log's name in a leaf", rewritten(edit(3, log="x"), sign=True), 3, "`log`"),
    ("an unknown schema", rewritten(edit(3, v=2), sign=True), 3, "`v`"),
    ("a decision taken out with the key at hand", rewritten(without(3), sign=True), 4, "decisions"),
    ("a close taken out with the key", steps(lambda data: fill(data, [9]), rewritten(without(4), sign=True)), 4, "never closed"),
    ("an open taken out with the key at hand", rewritten(without(2), sign=True), 4, "never opened"),
    ("a part of a decision taken out", rewritten(edit(3, parts=2), sign=True), 4, "2 parts"),
    ("a leaf that is no decision", rewritten(edit(3, n="zero"), sign=True), 3, "not a `decision`"),
    ("policy_activate taken out", rewritten(without(1), sign=True), 4, "policy_activate"),
    ("the end cut off at a commit", rewritten(lambda x: x[:-1]), 4, "last ones are missing"),
    ("the end cut off in a frame", cut("log-0/seg-0.qseg", 20), 4, "last ones are missing"),
    ("the end cut off, no checkpoint", steps(cut("log-0/seg-0.qseg", 20), remove("log-0/checkpoint")), 4, "checkpoint"),
    ("the file emptied", lambda data: os.truncate(data / "log-0/seg-0.qseg", 0), 4, "missing"),
    ("the file removed", remove("log-0/seg-0.qseg"), 4, "missing"),
    ("the file renamed", lambda data: (data / "log-0/seg-0.qseg").rename(data / "log-0/seg-3.qseg"), 3, "header"),
    ("the folder removed", remove("log-0"), 4, "folder is gone"),
    ("the folder emptied", emptied("log-0"), 4, "missing"),
    ("the checkpoint removed", remove("log-0/checkpoint"), 4, "checkpoint is gone"),
    ("the checkpoint's size raised", lambda data: _edit_text(data / "log-0/checkpoint", "\n11\n", "\n9\n"), 3, "not signed"),
    ("the checkpoint's signature", lambda data: _edit_text(data / "log-0/checkpoint", "\u2014 ", "\u2014 x"), 3, "not signed"),
    ("the checkpoint is junk", lambda data: (data / "log-0/checkpoint").write_bytes(b"\xff\x00"), 3, "not a checkpoint"),
    ("an older checkpoint with the same key, log cut to it", _roll_back, 4, "last ones are missing"),
    ("key.pub removed", remove("log-0/key.pub"), 3, "public key is gone"),
    ("key.pub is junk", lambda data: (data / "log-0/key.pub").write_text("a+b"), 3, "not a verifier key"),
    ("signed anew with another key", new_key, 3, "another key"),
    ("a kept policy changed", lambda data: (data / POLICY_FILE).write_bytes(b"format: 2\n"), 3, "SHA-256"),
    ("a kept policy removed", remove(POLICY_FILE), 4, "gone"),
    ("all kept policies removed", remove("policies"), 4, "gone"),
    ("a copy of the file under a later name", lambda data: shutil.copy(data / "log-0/seg-0.qseg", data / "log-0/seg-11.qseg"), 3, "another file"),
    ("a file that begins far behind", _far_file, 3, "begins with leaf"),
    ("more parts than memory holds", rewritten(edit(3, parts=2**53 - 1), sign=True), 4, "parts"),
    ("bytes added behind the end", lambda data: (data / "log-0/seg-0.qseg").open("ab").write(b"\x00" * 80), 3, "no sound frame"),
]


@pytest.mark.parametrize(("note", "harm", "code", "words"), TAMPERING, ids=[case[0] for case in TAMPERING])
def test_tampering(tmp_path: Path, note: str, harm: Harm, code: int, words: str) -> None:
    fill(tmp_path)
    assert verify(tmp_path).exit_code == 0
    harm(tmp_path)
    report = verify(tmp_path)
    assert report.exit_code == code, report.faults
    assert any(words in fault.problem for fault in report.faults), report.faults
    assert all(fault.todo and fault.where for fault in report.faults)


@pytest.mark.parametrize("number", range(4))
def test_a_middle_file_missing_damaged_or_doubled(tmp_path: Path, number: int) -> None:
    fill(tmp_path, range(1, 12), SMALL)
    files = sorted((tmp_path / "log-0").glob("*.qseg"), key=lambda path: int(path.name[4:-5]))
    assert len(files) > 5
    report: Report
    match number:
        case 0:
            files[2].unlink()
            code, words = 4, f"missing before {files[3].name}"
        case 1:
            flip(f"log-0/{files[2].name}", 300)(tmp_path)
            code, words = 3, "no sound frame"
        case 2:
            shutil.copy(files[2], files[4])
            code, words = 3, "another file"
        case _:
            cut(f"log-0/{files[2].name}", 1)(tmp_path)
            code, words = 3, "no sound frame"
    report = verify(tmp_path)
    assert report.exit_code == code, report.faults
    assert any(words in fault.problem for fault in report.faults), report.faults
    with pytest.raises((ValueError, struct.error)):
        check(tmp_path / "log-0")


def test_every_flipped_bit_breaks_something(tmp_path: Path) -> None:
    """P4 on a folder: with its checkpoint, no flip passes, in any file of the log."""
    async def small() -> None:
        log = Log.open(tmp_path)
        await log.append(opened(ulid(1)), strict=True)
        await log.append(closed(ulid(1), 0), strict=True)
        await log.close()

    asyncio.run(small())
    for name in ("seg-0.qseg", "checkpoint", "key.pub"):
        path = tmp_path / "log-0" / name
        sound = path.read_bytes()
        # The segment's every bit is flipped in test_qseg; here the verifier's own reading of it is at stake.
        for at in range(0, len(sound), 5 if name == "seg-0.qseg" else 2):
            path.write_bytes(sound[:at] + bytes([sound[at] ^ 1 << at % 8]) + sound[at + 1 :])
            assert verify(tmp_path).exit_code in (3, 4), (name, at)
        path.write_bytes(sound)
    assert verify(tmp_path).exit_code == 0


def test_a_log_in_use_is_sound(tmp_path: Path) -> None:
    async def run() -> None:
        log = Log.open(tmp_path)
        await log.append(activation(tmp_path), strict=True)
        await log.append(opened(ulid(1)), strict=True)
        with (tmp_path / "log-0" / "seg-0.qseg").open("rb+") as file:
            file.seek(0, 2)
            end = file.tell()
            file.write(record_frame(b"{}")[:5])  # a write that is just under way
            report = verify(tmp_path)
            file.truncate(end)
        assert (report.exit_code, report.logs[0].in_use, report.logs[0].open) == (0, True, 1), report.faults
        await log.append_all(leaves_of(decided(ulid(1))), strict=True)
        await log.append(closed(ulid(1), 1), strict=True)
        await log.close()

    asyncio.run(run())
    report = verify(tmp_path)
    assert (report.exit_code, report.logs[0].in_use, report.logs[0].open, report.logs[0].decisions) == (0, False, 0, 1)
    assert report.logs[0].signed == report.logs[0].leaves == len(check(tmp_path / "log-0"))


def test_open_requests_at_the_end_are_a_note_for_a_while(tmp_path: Path) -> None:
    fill(tmp_path)
    last = leaves(tmp_path)[-1]
    rewrite(tmp_path, without(10), sign=True)  # the last close
    report = verify(tmp_path)
    assert (report.exit_code, report.logs[0].open) == (0, 1)
    assert any("open at the end" in note for note in report.notes)
    mono = last["mono"]
    assert isinstance(mono, int)
    later = {**last, "kind": "gap", "lost": 0, "mono": mono + 16 * 60 * 1_000_000}
    rewrite(tmp_path, lambda all_leaves: [*all_leaves, {**later, "boot": "0" * 16}], sign=True)
    assert verify(tmp_path).exit_code == 4
    rewrite(tmp_path, lambda all_leaves: [*all_leaves[:-1], {**later, "kind": "unknown kind of a later version"}], sign=True)
    assert verify(tmp_path).exit_code == 4


def test_leaves_under_no_checkpoint_are_a_note(tmp_path: Path) -> None:
    fill(tmp_path)
    append_forged(tmp_path)
    report = verify(tmp_path)
    assert report.exit_code == 0
    assert any("under no checkpoint" in note for note in report.notes)


class Locked(PosixPath):
    """A data folder whose keys may be read by their owner alone."""

    def iterdir(self) -> Any:
        if self.name == "keys":
            raise PermissionError(13, "Permission denied", str(self))
        return super().iterdir()


def test_keys_that_an_auditor_may_not_read_are_a_note(tmp_path: Path) -> None:
    fill(tmp_path)
    report = verify(Locked(tmp_path))
    assert report.exit_code == 0
    assert any("cannot be read by you" in note for note in report.notes)


def test_keys_beside_the_logs_are_a_note(tmp_path: Path) -> None:
    fill(tmp_path)
    assert any("private keys lie beside" in note for note in verify(tmp_path).notes)


def _two(data: Path) -> None:
    async def run() -> None:
        for _ in range(2):
            first, second = Log.open(data), Log.open(data)
            await first.append(activation(data), strict=True)
            await second.append(opened(ulid(5)), strict=True)
            await second.append(closed(ulid(5), 0), strict=True)
            await first.close()
            await second.close()

    asyncio.run(run())


@pytest.mark.parametrize(("note", "harm", "code"), [
    ("folder removed with its key", steps(remove("log-1"), remove("keys/log-1.key")), 4),
    ("folder removed with all keys", steps(remove("log-1"), remove("keys")), 4),
    ("one log put back to nothing", steps(emptied("log-1"), remove("keys")), 4),
    ("nothing", lambda data: None, 0),
])
def test_logs_watch_each_other(tmp_path: Path, note: str, harm: Harm, code: int) -> None:
    _two(tmp_path)
    harm(tmp_path)
    report = verify(tmp_path)
    assert report.exit_code == code, report.faults


def test_torn_bytes_are_kept_and_checked(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    with (folder / "seg-0.qseg").open("ab") as file:
        file.write(b"\x00\x00\x01")
    assert verify(tmp_path).exit_code == 0
    fill(tmp_path, [4])
    (torn,) = folder.glob("*.torn-*")
    assert torn.read_bytes() == b"\x00\x00\x01"
    assert verify(tmp_path).exit_code == 0
    torn.write_bytes(b"other")
    assert verify(tmp_path).exit_code == 3
    torn.unlink()
    assert verify(tmp_path).exit_code == 4
    check(folder)


def test_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="log-0"):
        verify(tmp_path)


def test_the_report_as_json(tmp_path: Path) -> None:
    fill(tmp_path)
    sound = json.loads(json.dumps(verify(tmp_path).to_json()))
    assert (sound["ok"], sound["exit"], sound["integrity"], sound["completeness"], sound["freshness"]) == (
        True, 0, "ok", "ok", "not claimed")
    assert sound["logs"][0]["root"] == (tmp_path / "log-0" / "checkpoint").read_text().split("\n")[2]
    remove("log-0/checkpoint")(tmp_path)
    broken = json.loads(json.dumps(verify(tmp_path).to_json()))
    assert (broken["ok"], broken["exit"], broken["completeness"]) == (False, 4, "broken")
    assert set(broken["faults"][0]) == {"verdict", "where", "problem", "todo"}


def test_policy_files_of_every_activation_are_checked(tmp_path: Path) -> None:
    fill(tmp_path)
    assert [leaf["kind"] for leaf in leaves(tmp_path)].count("policy_activate") == 1
    (tmp_path / "policies" / ("cd" * 32)).mkdir()
    report = verify(tmp_path)
    assert report.exit_code == 0
    assert any("no log says that it was activated" in note for note in report.notes)
