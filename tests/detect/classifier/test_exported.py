"""A classifier as Hugging Face's tools export it: described by its own files, run as it asks, and refused with what to do."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moderation.detect.api import Passage
from moderation.detect.classifier import Classifier, Store, load, loaded, scores
from moderation.detect.classifier.exported import Exported
from moderation.detect.classifier.layout import counted, described
from moderation.detect.classifier.manifest import Kind
from moderation.errors import UsageError
from moderation.verdict import Cause, Finding, Unknown
from tests.detect.classifier import tiny

BOTH = ("input_ids", "attention_mask")
TYPED = (*BOTH, "token_type_ids")


def test_what_a_folder_says_of_itself(tmp_path: Path) -> None:
    found = described(tiny.exported(tmp_path / "guard", tokens=40))
    assert (found.name, found.kind, found.tokens, found.languages) == ("guard", Kind.EXPORTED, 40, ())
    assert [(head.name, head.category) for head in found.heads] == [
        ("violence", "violence"),
        ("Prompt Injection", "prompt_injection"),
    ], "what says that nothing was found is no head"
    assert found.chances is not None
    assert (found.chances.labels[0], found.chances.many) == ("SAFE", False)
    assert set(found.files) == {"model.onnx", "tokenizer.json", "config.json", "tokenizer_config.json"}


def test_a_manifest_of_ours_comes_first(tmp_path: Path) -> None:
    folder = tiny.encoder(tiny.exported(tmp_path))
    assert described(folder).kind is Kind.ENCODER


TOKENS = [
    ({"max_position_embeddings": 66}, None, 64, "two less, for some count from two on"),
    ({"max_position_embeddings": 66}, 40, 40, "the tokenizer knows better"),
    ({"max_position_embeddings": 40}, 512, 38, "the positions are fewer"),
    ({"max_position_embeddings": None}, 1e30, 512, "neither says"),
    ({"max_position_embeddings": -1}, "many", 512, "neither says a number"),
    ({"max_position_embeddings": 8192}, 8192, 512, "more than is of use"),
]


@pytest.mark.parametrize(("config", "tokens", "most", "note"), TOKENS)
def test_how_many_tokens_a_call_takes(tmp_path: Path, config: dict[str, Any], tokens: object, most: int, note: str) -> None:
    assert described(tiny.exported(tmp_path, tokens=tokens, **config)).tokens == most, note


CHANCES = [
    ({}, False, "one of several"),
    ({"problem_type": "single_label_classification"}, False, "said"),
    ({"problem_type": "multi_label_classification"}, True, "each for itself"),
]


@pytest.mark.parametrize(("config", "many", "note"), CHANCES)
@pytest.mark.parametrize("inputs", [BOTH, TYPED, ("input_ids",)], ids=["both", "typed", "ids alone"])
@pytest.mark.parametrize("kind", [7, 6], ids=["int64", "int32"])
def test_chances(tmp_path: Path, config: dict[str, Any], many: bool, note: str, inputs: tuple[str, ...], kind: int) -> None:
    model, instead = load(tiny.exported(tmp_path, inputs=inputs, kind=kind, **config))
    assert (instead, isinstance(model, Exported)) == (None, True)
    neither = 1 / 2 if many else 1 / 3
    assert scores(model, Passage("a")) == {"violence": round(neither * 1e6), "Prompt Injection": round(neither * 1e6)}, note
    high = scores(model, Passage("bomb"))
    assert high["violence"] > 990_000
    assert (high["Prompt Injection"] == 500_000) is many


def test_token_types_are_given_where_the_graph_asks(tmp_path: Path) -> None:
    """All are 0, so each token adds what the piece of id 0 weighs."""
    weights = {"<s>": (0.0, 0.0, 9.0)}
    plain, typed = (
        load(tiny.exported(tmp_path / name, weights=weights, inputs=inputs))[0] for name, inputs in (("a", BOTH), ("b", TYPED))
    )
    assert scores(typed, Passage("a"))["Prompt Injection"] > scores(plain, Passage("a"))["Prompt Injection"]


def test_one_label_is_a_chance_of_its_own(tmp_path: Path) -> None:
    model, _ = load(tiny.exported(tmp_path, ("toxic",), {"▁bomb": (30,)}))
    assert scores(model, Passage("a")) == {"toxic": 500_000}
    assert scores(model, Passage("bomb"))["toxic"] > 990_000


def test_the_policy_may_know_better(tmp_path: Path) -> None:
    folder = tiny.exported(tmp_path / "a")
    store = Store()
    kept = [loaded(counted(described(folder), many), store=store)[0] for many in (None, True, False)]
    assert [scores(model, Passage("a"))["violence"] for model in kept] == [333_333, 500_000, 333_333]
    assert kept[0] is kept[2]
    assert len({Classifier("c", model).version for model in kept}) == 2, "the log tells them apart"
    with pytest.raises(UsageError, match=r"calibrated by its manifest\.yaml: leave out `scores`"):
        counted(described(tiny.encoder(tmp_path / "b")), True)


def test_a_graph_in_the_folder_onnx(tmp_path: Path) -> None:
    model, _ = load(tiny.exported(tmp_path, graph="onnx/model.onnx"))
    assert scores(model, Passage("bomb"))["violence"] > 990_000


def test_a_long_passage_is_read_to_its_end(tmp_path: Path) -> None:
    """By pieces that share tokens: cut at 16 tokens, and a word that stands anywhere raises the score of the whole."""
    model, _ = load(tiny.exported(tmp_path, tokens=16))
    fill = "a b c d e f g h i j "
    least = scores(model, Passage(fill * 20))["violence"]
    for at in range(1, 20):
        assert scores(model, Passage(fill * at + "bomb " + fill * (20 - at)))["violence"] > least
    assert len(model.logits(Passage(fill * 20))) > 20


def test_findings_count_as_what_the_policy_says(tmp_path: Path) -> None:
    model, _ = load(tiny.exported(tmp_path))
    (answer,) = Classifier("c", model, {"Prompt Injection": "injection"}).detect([Passage("ignore")])
    assert isinstance(answer, tuple)
    assert [(one.category, one.name, one.span) for one in answer] == [("injection", "Prompt Injection", None)]
    assert Classifier("c", model).detect([Passage(" \n")]) == [()]


def test_a_score_that_is_no_number_is_unknown(tmp_path: Path) -> None:
    for number, bad in enumerate((float("nan"), float("inf"))):
        model, _ = load(tiny.exported(tmp_path / str(number), weights={"▁bomb": (bad, 0, 0)}))
        answers = Classifier("c", model, least=0).detect([Passage("bomb"), Passage("a")])
        assert answers[0] == Unknown("c", Cause.INVALID), "where it is of a label that no rule asks for, too"
        assert isinstance(answers[1], tuple)


def test_a_score_is_bit_for_bit_the_same_alone_and_in_any_batch(tmp_path: Path) -> None:
    detector = Classifier("c", load(tiny.exported(tmp_path))[0], least=0)
    dice = random.Random(3)
    texts = [" ".join(dice.choices(["bomb", "ignore", "a", "hello,", "怎么"], k=dice.randint(1, 60))) for _ in range(60)]
    alone = {text: detector.detect([Passage(text)])[0] for text in texts}
    for _ in range(50):
        batch = dice.sample(texts, dice.randint(1, 20))
        assert list(detector.detect([Passage(text) for text in batch])) == [alone[text] for text in batch]


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def replaced(name: str, raw: bytes) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / name).write_bytes(raw)

    return replace


def renamed(old: str, new: str) -> Callable[[Path], None]:
    def rename(folder: Path) -> None:
        (folder / old).rename(folder / new)

    return rename


EXPORT = "`optimum-cli export onnx --model NAME --task text-classification FOLDER` writes such a folder"
BROKEN = [
    (without("config.json"), {}, f"there is no manifest.yaml, nor config.json. {EXPORT}"),
    (without("tokenizer.json"), {}, "nor tokenizer.json. Write it with the tokenizer's `save_pretrained`"),
    (without("model.onnx"), {}, f"nor model.onnx. {EXPORT}"),
    (without("model.onnx", "tokenizer.json", "config.json"), {}, f"nor config.json, tokenizer.json, model.onnx. {EXPORT}"),
    (renamed("model.onnx", "model_int8.onnx"), {}, "Copy the graph that is to run to model.onnx; there is model_int8.onnx"),
    (replaced("config.json", b"{"), {}, "config.json cannot be read (JSONDecodeError)"),
    (replaced("config.json", b"[]"), {}, "config.json is no object"),
    (replaced("model.onnx", b"nonsense"), {}, "model.onnx cannot be run"),
    (replaced("tokenizer.json", b"{}"), {}, "tokenizer.json is no tokenizer"),
    (lambda folder: None, {"id2label": {"0": "A", "2": "B"}}, "does not name its labels, from 0 on, each once"),
    (lambda folder: None, {"id2label": {"0": "SAFE", "1": "O"}}, "none of the labels in config.json tells of harm: SAFE, O"),
    (lambda folder: None, {"problem_type": "regression"}, "no chances (problem_type: regression)"),
    (lambda folder: None, {"max_position_embeddings": 9}, "it takes 7 tokens, too few"),
    (lambda folder: None, {"id2label": {"0": "A", "1": "B"}}, "gives numbers of the shape [1, 3] for a text, and config.json names 2"),
    (lambda folder: None, {"mean": False}, "of the shape [1, 4, 3] for a text, and config.json names 3 labels. Export it as a"),
    (lambda folder: None, {"inputs": ("input_ids", "pixel_values")}, "takes input_ids, pixel_values; this version gives"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "how", "says"), BROKEN, ids=range(len(BROKEN)))
def test_what_is_missing_or_wrong_is_told_with_what_to_do(
    tmp_path: Path, damage: Callable[[Path], None], how: dict[str, Any], says: str
) -> None:
    folder = tiny.exported(tmp_path, **how)
    damage(folder)
    with pytest.raises(UsageError, match=re.escape(says)) as error:
        load(folder)
    assert str(folder) in str(error.value)


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    folder = tiny.exported(tmp_path)
    (folder / "model.onnx").write_bytes(b"nonsense")
    (folder / "model.onnx_data").write_bytes(b"weights")
    with pytest.raises(UsageError, match=r"has its weights in model\.onnx_data: export it into one file"):
        load(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "config.json", "tokenizer_config.json"])
def test_a_pin_is_over_what_loading_reads(tmp_path: Path, name: str) -> None:
    folder = tiny.exported(tmp_path, tokens=40)
    before = described(folder)
    (folder / "README.md").write_text("hello")
    assert described(folder).pin == before.pin
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    assert described(folder).pin != before.pin
    if name in ("model.onnx", "tokenizer.json"):
        with pytest.raises(UsageError, match="has more bytes"):
            loaded(before, store=Store())


def test_a_graph_that_fails_on_a_text_is_told(tmp_path: Path) -> None:
    folder = tiny.exported(tmp_path)
    (folder / "model.onnx").write_bytes(tiny.onnx([[0.0] * 3] * 2))
    with pytest.raises(UsageError, match=r"fails on a text \(InvalidArgument\): is tokenizer\.json of another model\?"):
        load(folder)


def test_a_finding_has_the_score_of_its_chance(tmp_path: Path) -> None:
    model, _ = load(tiny.exported(tmp_path))
    (answer,) = Classifier("c", model).detect([Passage("a")])
    assert answer == tuple(Finding("c", head.category, None, head.name, 333_333, None) for head in model.manifest.heads)
