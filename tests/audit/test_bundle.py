"""Kept policies: whole or not at all, and never overwritten."""

from __future__ import annotations

import errno
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation.audit.bundle import Bundles
from moderation.errors import LogError
from tests.audit.samples import BrokenDisk

HASH = "ab" * 32
FILES = {"policy.yaml": b"format: 1\n", "compiled.json": b"{}", "lists/words.txt": b"heron\n"}
names = st.from_regex(r"[a-z][a-z0-9_.-]{0,5}(/[a-z][a-z0-9]{0,5})?", fullmatch=True)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, st.binary(max_size=50), max_size=5))
def test_goes_round(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    if any(one != other and (other + "/").startswith(one + "/") for one in files for other in files):
        return  # a name that is a file and a folder at once
    bundles = Bundles(tmp_path_factory.mktemp("data"))
    bundles.keep(HASH, files)
    bundles.keep(HASH, files)
    assert bundles.read(HASH) == files
    assert bundles.hashes() == [HASH]


def test_other_bytes_of_the_same_meaning_are_kept_beside(tmp_path: Path) -> None:
    bundles = Bundles(tmp_path)
    bundles.keep(HASH, FILES)
    for _ in range(2):
        bundles.keep(HASH, {**FILES, "policy.yaml": b"format: 1 # comment\n", "engine": b"0.2\n"})
    assert bundles.read(HASH) == {**FILES, "engine": b"0.2\n"}
    variant = tmp_path / "policies" / HASH / f"policy.yaml.v-{sha256(b'format: 1 # comment' + bytes([10])).hexdigest()[:16]}"
    assert variant.read_bytes() == b"format: 1 # comment\n"
    assert len(list((tmp_path / "policies" / HASH).iterdir())) == 5


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "", ".hidden", "x.v-0123456789abcdef", "a\nb"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(LogError, match="file name"):
        Bundles(tmp_path).keep(HASH, {name: b""})
    assert not (tmp_path / "policies").exists()


@pytest.mark.parametrize("policy", ["", "x" * 64, "AB" * 32, "../" + HASH])
def test_bad_hashes(tmp_path: Path, policy: str) -> None:
    with pytest.raises(LogError, match="64"):
        Bundles(tmp_path).keep(policy, FILES)


def test_not_kept(tmp_path: Path) -> None:
    assert Bundles(tmp_path).hashes() == []
    with pytest.raises(LogError, match="not kept here"):
        Bundles(tmp_path).read(HASH)


@pytest.mark.parametrize("at", range(3))
def test_whole_or_not_at_all(tmp_path: Path, at: int) -> None:
    suffixes = [".yaml", ".json", ".txt"]
    disk = BrokenDisk(lambda name, _: errno.ENOSPC if name == f"replace {suffixes[at]}" else None)
    with pytest.raises(LogError, match="cannot be kept"):
        Bundles(tmp_path, disk).keep(HASH, FILES)
    assert Bundles(tmp_path).hashes() == []
    Bundles(tmp_path).keep(HASH, FILES)
    assert Bundles(tmp_path).read(HASH) == FILES


def test_of_two_writers_one_wins(tmp_path: Path) -> None:
    class Late(BrokenDisk):
        def move_folder(self, source: Path, target: Path) -> None:
            target.mkdir()
            (target / "policy.yaml").write_bytes(b"other\n")  # the other writer, just now
            super().move_folder(source, target)

    Bundles(tmp_path, Late()).keep(HASH, FILES)
    kept = Bundles(tmp_path).read(HASH)
    assert kept == {**FILES, "policy.yaml": b"other\n"}
    assert sorted(path.name for path in (tmp_path / "policies").iterdir()) == [HASH]
