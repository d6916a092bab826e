"""The model folders that ship are whole: files as the manifest says, small enough, every head calibrated, a card with figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifiers.train import manifest
from classifiers.train.calibrate import LEVELS
from classifiers.train.row import HEADS
from moderation.detect.classifier.manifest import read_manifest

ROOT = Path(__file__).parents[2] / "classifiers"
MOST = 60_000_000  # bytes of a folder
FOLDERS = sorted(path.parent for path in ROOT.glob("*/manifest.yaml"))


def test_the_fallback_ships() -> None:
    assert "ngram" in {folder.name for folder in FOLDERS}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_are_those_of_the_manifest(folder: Path) -> None:
    about = manifest.read(folder)
    assert about["name"] == folder.name
    assert about["files"] == manifest.files(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_head_is_calibrated_on_one_scale(folder: Path) -> None:
    about = manifest.read(folder)
    assert list(about["heads"]) == list(HEADS)
    assert about["levels"] == LEVELS
    for head in about["heads"].values():
        knots = head["calibration"]
        assert knots == sorted(knots)
        assert [score for _, score in knots] == sorted(score for _, score in knots)
        assert set(LEVELS.values()) < {score for _, score in knots}
    for level, promised in (("medium", 0.05), ("high", 0.01), ("critical", 0.002)):
        assert all(rate <= promised for rate, _, _ in about["union"][level].values())


def test_a_gate_is_of_the_model_that_ships_beside_it() -> None:
    """Whoever trains or calibrates one of the two anew measures the gate anew: `python -m classifiers.train.gate`."""
    for folder in FOLDERS:
        gate = manifest.read(folder).get("gate")
        if gate is not None:
            assert gate["pin"] == read_manifest(ROOT / gate["model"]).pin, folder.name
            assert not gate["default"] or all(high < 0.01 for _, _, high in gate["lost"].values()), "less than 1 %"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_card_tells_sources_and_figures(folder: Path) -> None:
    text = (folder / "card.md").read_text("utf-8")
    for part in ("must not be trusted with", "| source | licence |", "AUPRC", "scary_harmless", *HEADS):
        assert part in text
    assert "see the corpus code" not in text, "a source without a licence"
