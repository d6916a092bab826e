"""A model that writes, at work: the likeliest tokens up to the end, and nothing where there is no end."""

from __future__ import annotations

from pathlib import Path

import pytest

from moderation.detect.transformer.folder import read_written
from moderation.detect.transformer.generator import Generator
from moderation.errors import UsageError
from moderation.verdict import Cause
from tests.detect.transformer import tiny_guard as tiny
from tests.extras import need

need("torch", "transformers", "safetensors", extra="transformers")


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator(read_written(tiny.model(tmp_path_factory.mktemp("models") / "tiny")))


@pytest.mark.parametrize(
    ("text", "most", "said", "note"),
    [
        ("how to bomb", 8, tiny.UNSAFE, "one token and the end"),
        ("how to slowly", 8, tiny.UNSAFE, "several tokens, each after those before it"),
        ("how to slowly", 3, tiny.UNSAFE, "the end is a token, too"),
        ("how to slowly", 2, Cause.INVALID, "no end within the limit is no answer"),
        ("how to endless", 128, Cause.INVALID, "nor is one that never ends"),
        ("how " * 2000 + "bomb", 128, Cause.TOO_LARGE, "more than the model takes"),
        ("how \udcff bomb", 8, tiny.UNSAFE, "half a pair"),
    ],
)
def test_what_it_writes(generator: Generator, text: str, most: int, said: object, note: str) -> None:
    assert generator.write([("user", text)], most) == said, note


def test_the_answer_is_the_same_each_time_whatever_the_folder_says_of_sampling(generator: Generator) -> None:
    assert {generator.write([("user", "to hello")], 8) for _ in range(5)} == {tiny.SAFE}


def test_what_marks_the_end_elsewhere_is_shown(tmp_path: Path) -> None:
    """Marks of the tokenizer's own in an answer are not taken out: with them it is no judgement."""
    odd = Generator(read_written(tiny.model(tmp_path, {"bomb": ("[UNK]", tiny.SAFE)})))
    assert odd.write([("user", "bomb")], 8) == f"[UNK] {tiny.SAFE}"


def test_weights_that_are_no_numbers_are_no_answer(tmp_path: Path) -> None:
    import torch

    made = Generator(read_written(tiny.model(tmp_path)))
    with torch.no_grad():
        made._model.lm_head.weight.fill_(float("nan"))
    assert made.write([("user", "bomb")], 8) is Cause.INVALID


def test_nothing_is_said_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """There stands the operational log, in JSON."""
    folder = read_written(tiny.model(tmp_path))
    capfd.readouterr()
    Generator(folder).write([("user", "how to bomb")], 8)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("gone", ["tokenizer.json", "model.safetensors"])
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, gone: str) -> None:
    folder = read_written(tiny.model(tmp_path))
    (tmp_path / gone).write_bytes(b"")
    with pytest.raises(UsageError, match="transformers cannot load it"):
        Generator(folder)
