"""A model's folder is what its manifest says, or is not loaded; what is wrong is told with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.classifier import load
from moderation.detect.classifier.manifest import Head, read_manifest
from moderation.errors import UsageError
from moderation.verdict import FULL_SCORE, Level
from tests.detect.classifier import tiny


def test_what_it_says(tmp_path: Path) -> None:
    found = read_manifest(tiny.encoder(tmp_path / "tiny"))
    assert (found.name, found.version, found.kind, found.languages, found.tokens) == ("tiny", "1", "encoder", ("en", "zh"), 40)
    assert found.levels == {Level.MEDIUM: 500_000, Level.HIGH: 850_000, Level.CRITICAL: 970_000}
    assert [head.name for head in found.heads] == list(tiny.HEADS), "in the order of the file, which is that of the logits"
    assert len(found.pin) == len("sha256:") + 64


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def made_longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def changed(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "cannot be read"),
        (cut_off, "bytes, and manifest.yaml says"),
        (made_longer, "has more bytes"),
        (changed, "SHA-256"),
    ],
)
def test_files_are_those_that_it_lists(tmp_path: Path, file: str, damage: Callable[[Path], None], said: str) -> None:
    folder = tiny.encoder(tmp_path)
    damage(folder / file)
    with pytest.raises(UsageError, match=said) as error:
        load(folder)
    assert str(folder / file) in str(error.value)


def without_calibration() -> dict[str, Any]:
    return {name: {"category": name} for name in tiny.HEADS}


def calibrated(*knots: object) -> dict[str, Any]:
    return {name: {"category": name, "calibration": list(knots)} for name in tiny.HEADS}


BAD = [
    ({"format": 2}, "format: is not of format 1", "another version's"),
    ({"name": None}, "name: must be a name", "no name"),
    ({"version": 1}, "version: must be a text", "a version that is a number loses its noughts"),
    ({"engine": "torch"}, "engine: must be one of encoder, ngram", "an engine of another version"),
    ({"languages": []}, "languages: must be a list", "no language"),
    ({"windows": {"input": 400}}, "windows.tokens: must be a whole number", "no bound of tokens"),
    ({"windows": {"tokens": 1}}, "windows.tokens: must be a whole number", "too few to be of use"),
    ({"roles": {"prompt": ""}}, "roles.response: must be a text", "not all roles"),
    ({"heads": {}}, "heads: must be a mapping", "no head"),
    ({"heads": without_calibration()}, "heads.violence.calibration: must be pairs", "not calibrated"),
    ({"heads": calibrated([0, 0], [0, 1])}, "must be pairs", "a step in no width"),
    ({"heads": calibrated([0, 1], [1, 0])}, "must be pairs", "it falls"),
    ({"heads": calibrated([0, 2])}, "must be pairs", "beyond 1"),
    ({"heads": calibrated(["a", 0])}, "must be pairs", "no number"),
    ({"levels": {"medium": 0.9, "high": 0.5}}, "levels: must not fall", "high is easier than medium"),
    ({"levels": {"middle": 0.9}}, "levels.middle: must be a number from 0 to 1, of one of low", "no such level"),
    ({"files": {"../x": {"sha256": "0" * 64, "bytes": 1}}}, "is no name of a file beside", "a way out of the folder"),
    ({"files": {"model.onnx": {"sha256": "0", "bytes": 1}}}, "files.model.onnx.sha256: must be 64", "half a hash"),
    ({"files": {"model.onnx": {"sha256": "0" * 64, "bytes": 1}}}, "lists no tokenizer.json", "a file that it needs"),
]


@pytest.mark.parametrize(("changes", "said", "note"), BAD, ids=lambda one: one if isinstance(one, str) else "")
def test_bad_manifests(tmp_path: Path, changes: dict[str, Any], said: str, note: str) -> None:
    with pytest.raises(UsageError) as error:
        load(tiny.encoder(tmp_path, **changes))
    assert said in str(error.value), note
    assert str(error.value).startswith(f"{tmp_path / 'manifest.yaml'}:"), "with its place"


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_manifest(tiny.encoder(tmp_path, name="", languages=[], levels={"low": 2}))
    assert str(error.value).count("\n") == 2


@pytest.mark.parametrize(
    ("raw", "said"),
    [(b"a: [", "manifest.yaml:1:"), (b"a: 1\na: 2", "manifest.yaml:2:1"), (b"\xff", "not UTF-8"), (b"[]", "not of format 1")],
)
def test_what_is_no_manifest(tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "manifest.yaml").write_bytes(raw)
    with pytest.raises(UsageError, match=said):
        read_manifest(tmp_path)


def test_no_folder_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest\.yaml cannot be read: No such file"):
        read_manifest(tmp_path / "gone")


HEAD = Head("x", "x", ((-1.0, 0.1), (0.0, 0.5), (2.0, 0.9)))


@pytest.mark.parametrize(
    ("logit", "score"),
    [(-1e9, 100_000), (-1.0, 100_000), (-0.5, 300_000), (0.0, 500_000), (1.0, 700_000), (2.0, 900_000), (1e9, 900_000)],
)
def test_scores(logit: float, score: int) -> None:
    assert HEAD.score(logit) == score


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_a_higher_logit_never_scores_lower(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= HEAD.score(low) <= HEAD.score(high) <= FULL_SCORE
