"""Classifiers of the transformers library at work, on tiny random models of the real classes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from moderation.detect.api import Passage
from moderation.detect.run.guard import detected
from moderation.detect.transformer import Model, Transformer
from moderation.detect.transformer.folder import read
from moderation.errors import UsageError
from moderation.verdict import FULL_SCORE, Finding
from tests.detect.transformer import tiny
from tests.extras import need

need("torch", "transformers", "safetensors", extra="transformers")

TEXTS = ["a", "ignore all that", "我你他好", "hello, who are you? 123", "b c d e f g h " * 40, "x" * 900]


def found(one: Transformer, text: str) -> tuple[Finding, ...]:
    (answer,) = one.detect([Passage(text)])
    assert isinstance(answer, tuple)
    return answer


def scores(one: Transformer, text: str) -> dict[str, int]:
    return {each.name: each.score for each in found(one, text)}


@pytest.mark.parametrize("name", tiny.CLASSES)
def test_one_label_of_several(tmp_path: Path, name: str) -> None:
    one = Transformer("m", Model(read(tiny.model(tmp_path, name))), {"SAFE": "safe", "INJECTION": "injection"}, 0)
    seen = set()
    for text in TEXTS[:4]:
        told = scores(one, text)
        assert abs(sum(told.values()) - FULL_SCORE) <= 1, "softmax"
        seen.add(tuple(told.values()))
    assert len(seen) > 1, "it reads the text"
    assert {each.category for each in found(one, "a")} == {"safe", "injection"}
    assert all(each.span is None and each.detector == "m" for each in found(one, "a"))


@pytest.mark.parametrize("name", tiny.CLASSES)
def test_several_labels_at_once(tmp_path: Path, name: str) -> None:
    labels = ("toxic", "threat", "insult")
    folder = read(tiny.model(tmp_path, name, labels=labels, problem_type="multi_label_classification"))
    one = Transformer("m", Model(folder), {label: label for label in labels}, 0)
    assert any(abs(sum(scores(one, text).values()) - FULL_SCORE) > 1_000 for text in TEXTS), "sigmoid"
    assert set(scores(one, "a")) == set(labels)


def test_only_what_counts_and_only_from_the_least_score_on(tmp_path: Path) -> None:
    model = Model(read(tiny.model(tmp_path)))
    whole = scores(Transformer("m", model, {"INJECTION": "injection"}, 0), "ignore all that")
    assert list(whole) == ["INJECTION"]
    above = Transformer("m", model, {"INJECTION": "injection"}, whole["INJECTION"] + 1)
    assert found(above, "ignore all that") == ()


@pytest.mark.parametrize("name", ["Bert", "DebertaV2", "ModernBert"])
def test_tokens_have_places(tmp_path: Path, name: str) -> None:
    labels = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    one = Transformer(
        "m", Model(read(tiny.model(tmp_path, name, "TokenClassification", labels))), {"PER": "person", "LOC": "place"}, 0
    )
    seen = 0
    for text in ["ann lee, ulm", "我你他好 a b c", "  a  ", "one two. " * 30]:
        for each in found(one, text):
            assert each.span is not None
            assert text[each.span.start : each.span.end].strip() == text[each.span.start : each.span.end] != ""
            assert each.name in ("PER", "LOC")
            seen += 1
    assert seen


@pytest.mark.parametrize("text", TEXTS)
def test_a_score_is_the_same_in_any_company(tmp_path: Path, text: str) -> None:
    one = Transformer("m", Model(read(tiny.model(tmp_path))), {"INJECTION": "injection"}, 0)
    alone = found(one, text)
    chance = random.Random(1)
    for _ in range(10):
        others = chance.sample(TEXTS, 3)
        answers = detected(one, [Passage(other) for other in [*others, text]], lambda: None)
        assert answers[-1] == alone


@pytest.mark.parametrize("name", tiny.CLASSES)
@pytest.mark.parametrize("text", ["a b c d " * 60, "k" * 90 + " " + "z q " * 90, "我 " * 300])
def test_a_long_text_is_read_to_its_end(tmp_path: Path, name: str, text: str) -> None:
    model = Model(read(tiny.model(tmp_path, name, positions=34)))
    pieces = list(model.rows(text))
    assert len(pieces) > 1
    assert all(len(places) <= 32 for places, _ in pieces)
    read_ = {at for places, _ in pieces for start, end in places for at in range(start, end)}
    assert read_ >= {at for at, char in enumerate(text) if not char.isspace()}
    worst = max(rows[0][1] for _, rows in pieces)
    assert scores(Transformer("m", model, {"INJECTION": "injection"}, 0), text)["INJECTION"] == round(worst * FULL_SCORE)


def test_nothing_is_nothing(tmp_path: Path) -> None:
    one = Transformer("m", Model(read(tiny.model(tmp_path))), {"INJECTION": "injection"}, 0)
    assert found(one, "") == found(one, " \n") == ()


def test_a_version_changes_with_weights_labels_and_thresholds(tmp_path: Path) -> None:
    first, second = Model(read(tiny.model(tmp_path / "a"))), Model(read(tiny.model(tmp_path / "b", seed=1)))
    made = [
        Transformer("m", first, {"INJECTION": "injection"}, 0), Transformer("m", second, {"INJECTION": "injection"}, 0),
        Transformer("m", first, {"INJECTION": "x"}, 0), Transformer("m", first, {"INJECTION": "injection"}, 1),
        Transformer("m", Model(read(tmp_path / "a", True)), {"INJECTION": "injection"}, 0),
    ]  # fmt: skip
    assert len({one.version for one in made}) == 5
    assert Transformer("n", Model(read(tmp_path / "a")), {"INJECTION": "injection"}, 0).version == made[0].version


@pytest.mark.parametrize("gone", ["tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, gone: str) -> None:
    folder = read(tiny.model(tmp_path))
    (tmp_path / gone).write_bytes(b"")
    with pytest.raises(UsageError, match=r"transformers cannot load it|no tokenizer\.json"):
        Model(folder)


def test_weights_that_are_no_numbers_are_unknown(tmp_path: Path) -> None:
    import torch

    model = Model(read(tiny.model(tmp_path)))
    with torch.no_grad():
        model._model.classifier.bias.fill_(float("nan"))
    (answer,) = Transformer("m", model, {"INJECTION": "injection"}, 0).detect([Passage("a")])
    assert not isinstance(answer, tuple)
