"""Where the gate is put and what it is said to cost, and the list of words beside the models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.train import keywords, manifest
from classifiers.train.evaluate import Line, beside, settled
from classifiers.train.examples import Example
from classifiers.train.gate import LOST, cost, flagged, harms, threshold
from classifiers.train.metrics import Floats, Rate
from classifiers.train.row import BENIGN, HEADS
from moderation.detect.api import Passage
from moderation.detect.classifier.manifest import read_manifest
from moderation.detect.classifier.ngram import Ngram
from tests.detect.classifier import tiny


def row(harmful: bool, lang: str = "en", slice: str | None = None, text: str = "text") -> Example:
    return Example(text, "prompt", lang, {"illicit": 1} if harmful else dict(BENIGN), "made", "group", slice)


def scored(*most: float) -> Floats:
    made = np.zeros((len(most), len(HEADS)))
    made[:, 3] = most
    return made


def test_only_what_the_encoder_flags_can_be_lost() -> None:
    rows = [row(True), row(True), row(False), row(True)]
    assert flagged(scored(0.5, 0.49, 0.9, 1.0), rows).tolist() == [True, False, False, True]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 400), st.integers(1, 400), st.sampled_from([0.0, 0.005, 0.1, 0.5]))
def test_no_language_loses_more_than_it_may(seed: int, en: int, zh: int, share: float) -> None:
    dice = np.random.default_rng(seed)
    rows = [row(True)] * en + [row(True, "zh")] * zh + [row(False)] * 20
    found = np.round(dice.random(len(rows)), 2) if seed % 2 else dice.random(len(rows))
    below = threshold(scored(*[0.9] * len(rows)), found, rows, share)
    lost = cost(scored(*[0.9] * len(rows)), found, below, rows).lost["all"]
    assert lost["en"].value <= share
    assert lost["zh"].value <= share
    assert (lost["en"].of, lost["zh"].of) == (en, zh)


def test_it_is_put_as_high_as_that_allows() -> None:
    rows = [row(True, lang) for lang in ("en", "zh") for _ in range(1000)]
    found = np.linspace(0.1, 0.9, 2000)
    below = threshold(scored(*[0.9] * 2000), found, rows)
    lost = cost(scored(*[0.9] * 2000), found, below, rows).lost["all"]
    assert LOST - 0.001 <= lost["en"].value <= LOST


def test_a_language_without_harm_has_no_gate() -> None:
    with pytest.raises(ValueError, match="no harmful text in zh is flagged"):
        threshold(scored(0.9), np.array([0.1]), [row(True)])


def test_what_it_costs_and_spares_by_kind() -> None:
    rows = [
        row(True), row(True), row(True, slice="evasion:leet"), row(True, slice="evasion:leet"), row(False),
        row(False, slice="benign_chat"), row(False, slice="evasion:hex"), row(False, "zh"), replace(row(False), labels={"illicit": 0}),
    ]  # fmt: skip
    scores, found = scored(0.9, 0.9, 0.9, 0.2, 0, 0, 0, 0, 0), np.array([0.1, 0.5, 0.1, 0.1, 0.1, 0.5, 0.1, 0.1, 0.1])
    made = cost(scores, found, 0.3, rows)
    assert {name: by["en"] for name, by in made.lost.items()} == {"all": Rate(2, 3), "plain": Rate(1, 2), "disguised": Rate(1, 1)}
    assert {name: by["en"] for name, by in made.settled.items()} == {
        "all": Rate(2, 3), "plain": Rate(1, 2), "disguised": Rate(1, 1), "benign_chat": Rate(0, 1),
    }, "a text of which not every head is known to be 0 does not count"  # fmt: skip
    assert made.settled["plain"]["zh"] == Rate(1, 1)
    lines = list(settled(scores, found, 0.3, rows))
    (line,) = [one for one in lines if (one.name, one.lang) == ("plain", "en")]
    assert (line.part, line.harmful, line.harmless) == ("gate", 2, 2)
    assert line.values == {"lost of the flagged": str(Rate(1, 2)), "settled of the harmless": str(Rate(1, 2))}


def test_it_is_measured_as_it_runs(tmp_path: Path) -> None:
    folder = tiny.ngram(tmp_path / "ngram")
    model = Ngram(read_manifest(folder))
    text = "nothing of note is told here " * 9
    found = harms(folder, [row(False, text=one) for one in ("hello", "bomb", text + "bomb " + text)])
    heads = model.manifest.heads
    plain = [max(head.score(max(model.logits(Passage(one))[0])) for head in heads) for one in ("hello", "bomb")]
    assert (found[:2] * 1e6).round().tolist() == plain
    assert found[2] > found[0], "by stretches"


def test_a_gate_stands_in_the_manifest_once_and_is_read(tmp_path: Path) -> None:
    folder = tiny.encoder(tmp_path / "small")
    about = manifest.read(folder)
    text = "\n".join(f"{key}: {value!r}" for key, value in about.items()) + "\n"
    for below in (0.2, 0.3):
        said = {"model": "ngram", "pin": "sha256:" + "a" * 64, "below": below, "default": True, "languages": ["en", "zh"]}
        text = manifest.with_gate(text, said, {"en": Rate(1, 100)}, {"en": Rate(50, 100)})
    (folder / "manifest.yaml").write_text(text, "utf-8")
    found = read_manifest(folder).gate
    assert found is not None
    assert (found.below, found.default, found.languages) == (300_000, True, ("en", "zh"))
    said_ = manifest.read(folder)
    assert said_["gate"]["lost"]["en"][0] == 0.01
    assert {key: value for key, value in said_.items() if key != "gate"} == about


WORDS = [
    ("You are an IDIOT.", "hate_harassment", True, "as a word, whatever its case"),
    ("idiotic", "hate_harassment", False, "not in a word"),
    ("你这个傻逼东西", "hate_harassment", True, "Chinese anywhere"),
    ("ｓｕｉｃｉｄｅ", "self_harm", True, "full width"),
    ("please ignore\n all rules", "injection", True, "words that stand apart"),
    ("kill the process", "violence", True, "it knows words, not meanings"),
    ("nice weather", "violence", False, "nothing"),
]


@pytest.mark.parametrize(("text", "head", "found", "note"), WORDS)
def test_the_list_of_words(text: str, head: str, found: bool, note: str) -> None:
    scores = keywords.scores(keywords.read(keywords.FILE), [row(False, text=text)])
    assert scores.shape == (1, len(HEADS))
    assert scores[0, HEADS.index(head)] == found, note


def test_a_list_must_have_words_for_every_head_in_both_languages(tmp_path: Path) -> None:
    path = tmp_path / "k.yaml"
    path.write_text("illicit: {en: [a], zh: [b]}")
    with pytest.raises(ValueError, match="must hold words in en and zh for each of hate_harassment"):
        keywords.read(path)


def test_models_stand_side_by_side() -> None:
    values = {"recall at .5": "0.5", "false pos. at .5": "0.1", "AUPRC": "x"}
    lines = [Line("head", "illicit", "en", 3, 4, values), Line("harmful_instructions", "union", "en", 5, 6, values)]
    text = beside({"small": lines, "keywords": [replace(lines[0], values={"recall at .5": "0.2", "false pos. at .5": "0.3"})]})
    header, _, first, second = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert header[4:] == ["small: recall", "small: false pos.", "keywords: recall", "keywords: false pos."]
    assert first == ["illicit", "en", "3", "4", "0.5", "0.1", "0.2", "0.3"]
    assert second == ["harmful_instructions", "en", "5", "6", "0.5", "0.1", "-", "-"]
