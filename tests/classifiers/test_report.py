"""The manifest, the table of an evaluation and the card say what was measured."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from classifiers.train import card, manifest
from classifiers.train.calibrate import LEVELS, Calibration, rates
from classifiers.train.evaluate import Line, measured, table
from classifiers.train.examples import Example
from classifiers.train.metrics import Floats, Rate
from classifiers.train.row import BENIGN, HEADS


def row(labels: dict[str, int], lang: str = "en", slice: str | None = None) -> Example:
    return Example("text", "prompt", lang, labels, "made", "group", slice)


def scored(*most: float) -> Floats:
    """Scores of which the first head has `most`, the rest nothing."""
    made = np.zeros((len(most), len(HEADS)))
    made[:, 0] = most
    return made


def only(lines: list[Line], part: str) -> Line:
    (found,) = [line for line in lines if line.part == part]
    return found


def test_a_manifest_holds_hashes_calibration_and_rates(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"weights")
    (folder / "card.md").write_text("not listed")
    knots = dict.fromkeys(HEADS, ((-1.0, 0.0), (2.0, 0.5), (3.0, 1.0)))
    heads, union = rates(Calibration(knots).scores(np.full((4, 7), [2.5])), {"en": [0, 1], "zh": [2, 3]}, ("en", "zh"))
    (folder / "manifest.yaml").write_text(manifest.written(folder, "1", ("en", "zh"), knots, LEVELS, heads, union), "utf-8")
    about = manifest.read(folder)
    assert (about["format"], about["name"], about["version"], about["engine"]) == (1, "small", "1", "encoder")
    assert about["files"] == {"model.onnx": {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7}}
    assert list(about["heads"]) == list(HEADS)
    assert about["heads"]["illicit"]["calibration"] == [[-1.0, 0.0], [2.0, 0.5], [3.0, 1.0]]
    assert about["heads"]["illicit"]["rates"]["medium"]["zh"][0] == 1.0
    assert about["union"]["high"]["en"][0] == 0.0
    assert about["roles"]["tool_result"] == "passage: "
    assert about["levels"] == LEVELS
    assert about["harmless"] == {"en": 2, "zh": 2}, "how many texts the rates are of"


def test_a_folder_with_weights_is_an_ngram_model(tmp_path: Path) -> None:
    (tmp_path / "weights.npz").write_bytes(b"x")
    knots = dict.fromkeys(HEADS, ((0.0, 0.0), (1.0, 1.0)))
    heads, union = rates(np.zeros((1, 7)), {"en": [0]}, ("en",))
    assert "engine: ngram" in manifest.written(tmp_path, "1", ("en",), knots, LEVELS, heads, union)


def test_heads_leave_out_what_is_unknown_and_what_is_disguised() -> None:
    rows = [
        row({"hate_harassment": 1}),
        row(dict(BENIGN)),
        row({"illicit": 1}),
        row({"hate_harassment": 1}, slice="evasion:leet"),
    ]
    lines = measured(scored(0.9, 0.1, 0.9, 0.0), rows)
    line = next(line for line in lines if (line.part, line.name, line.lang) == ("head", "hate_harassment", "en"))
    assert (line.harmful, line.harmless) == (1, 1)
    assert line.values["AUPRC"].startswith("1.000")
    assert line.values["F1 at .5"] == "1.000"


def test_harmless_slices_count_what_the_union_flags() -> None:
    rows = [
        row(dict(BENIGN), slice="identity"),
        row({"hate_harassment": 0}, slice="identity"),
        row({"hate_harassment": 1}, slice="identity"),
    ]
    line = only(measured(scored(0.6, 0.9, 0.9), rows), "harmless slice")
    assert line.harmless == 2
    assert line.values == {
        "flagged at medium": str(Rate(2, 2)),
        "flagged at high": str(Rate(1, 2)),
        "flagged at critical": str(Rate(0, 2)),
    }


def test_harmful_instructions_are_recalled_by_any_head() -> None:
    rows = [row({"illicit": 1}, slice="harmful_instructions")] * 2 + [row(dict(BENIGN))] * 20
    line = only(measured(scored(0.6, 0.3, 0.4, 0.4, *[0.0] * 18), rows), "harmful_instructions")
    assert line.values["recall at .5"] == str(Rate(1, 2))
    assert line.values["recall at 5 %"] == str(Rate(1, 2))
    assert line.values["false pos. at .5"] == str(Rate(0, 20))


def test_each_evasion_stands_apart() -> None:
    rows = [
        row({"hate_harassment": 1}, slice="evasion:leet"),
        row(dict(BENIGN), slice="evasion:leet"),
        row({"illicit": 1}, slice="evasion:hex"),
    ]
    lines = [line for line in measured(scored(0.6, 0.6, 0.1), rows) if line.part == "evasion"]
    assert [(line.name, line.values["recall at .5"], line.values["false pos. at .5"]) for line in lines] == [
        ("hex", str(Rate(0, 1)), "-"),
        ("leet", str(Rate(1, 1)), str(Rate(1, 1))),
    ]


def test_a_table_has_one_width_a_column_and_a_dash_for_what_is_not() -> None:
    text = table([Line("head", "illicit", "en", 1, 2, {"AUPRC": "0.9"}), Line("head", "sexual", "zh", 0, 2, {})])
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[3].split("|")[5].strip() == "-"


@pytest.mark.parametrize("engine", ["encoder", "ngram"])
def test_a_card_names_sources_licences_limits_and_figures(engine: str) -> None:
    about = {
        "name": "small",
        "version": "1",
        "engine": engine,
        "languages": ["en", "zh"],
        "files": {"model.onnx": {"bytes": 36_000_000}},
        "levels": LEVELS,
        "union": {"medium": {"en": [0.049, 0.04, 0.06]}},
    }
    lines = [Line("head", "illicit", "en", 1, 2, {"AUPRC": "0.912"})]
    text = card.card(about, lines, [row(dict(BENIGN))], {"made": "CC0"}, 61_000, "A note.")
    for part in ("A note.", "36.0 MB", "| made | CC0 | en | 1 |", "0.912", "4.90% [4.00%, 6.00%]", "must not be trusted", *HEADS):
        assert part in text
    assert ("61,000 pieces" in text) == (engine == "encoder")
    assert "## Gate" not in text
    about["gate"] = {"lost": {"en": [0.004, 0.002, 0.006]}, "settled": {"en": [0.5, 0.48, 0.52]}}
    told = card.card(about, lines, [row(dict(BENIGN))], {"made": "CC0"}, 61_000, "A note.")
    assert "| en | 0.40% [0.20%, 0.60%] | 50.00% [48.00%, 52.00%] |" in told
