"""A model's folder: found, described, pinned, and refused, without transformers or torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moderation.detect.labels import category
from moderation.detect.transformer.folder import Of, place, read
from moderation.errors import UsageError

CONFIG: dict[str, Any] = {
    "architectures": ["DebertaV2ForSequenceClassification"],
    "id2label": {"0": "SAFE", "1": "INJECTION"},
    "model_type": "deberta-v2",
}


def made(folder: Path, config: object = CONFIG, *, weights: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / weights).write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    return folder


def test_a_folder_is_described(tmp_path: Path) -> None:
    found = read(made(tmp_path))
    assert (found.of, found.labels, found.many) == (Of.TEXTS, ("SAFE", "INJECTION"), False)
    assert found.pin.startswith("sha256:")


@pytest.mark.parametrize(
    ("change", "of", "many"),
    [
        ({"problem_type": "multi_label_classification"}, Of.TEXTS, True),
        ({"id2label": {"0": "toxic"}}, Of.TEXTS, True),
        ({"architectures": ["XLMRobertaForTokenClassification"]}, Of.TOKENS, False),
        ({"architectures": ["BertForTokenClassification"], "problem_type": "multi_label_classification"}, Of.TOKENS, False),
    ],
)
def test_what_labels_are_of(tmp_path: Path, change: dict[str, Any], of: Of, many: bool) -> None:
    found = read(made(tmp_path, CONFIG | change))
    assert (found.of, found.many) == (of, many)


def test_the_policy_may_know_better(tmp_path: Path) -> None:
    assert read(made(tmp_path), True).many
    assert not read(made(tmp_path, CONFIG | {"problem_type": "multi_label_classification"}), False).many


@pytest.mark.parametrize(
    ("config", "weights", "says"),
    [
        (CONFIG | {"auto_map": {"AutoModel": "x.py"}}, "model.safetensors", "code of its own"),
        (CONFIG, "pytorch_model.bin", r"no \*\.safetensors"),
        (CONFIG | {"architectures": ["Qwen3ForCausalLM"]}, "model.safetensors", "no classifier"),
        (CONFIG | {"architectures": None}, "model.safetensors", "no classifier"),
        (CONFIG | {"id2label": {"0": "A", "1": "A"}}, "model.safetensors", "each once"),
        (CONFIG | {"id2label": {"0": "A", "2": "B"}}, "model.safetensors", "from 0 on"),
        (CONFIG | {"id2label": {}}, "model.safetensors", "id2label"),
        (CONFIG | {"problem_type": "regression"}, "model.safetensors", "no chances"),
        ([], "model.safetensors", "no object"),
    ],
)
def test_what_is_refused(tmp_path: Path, config: object, weights: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read(made(tmp_path, config, weights=weights))


def test_a_pin_is_over_what_loading_reads(tmp_path: Path) -> None:
    folder = made(tmp_path)
    pin = read(folder).pin
    (folder / "README.md").write_text("hello")
    assert read(folder).pin == pin
    seen = {pin}
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        file = folder / name
        file.write_bytes(file.read_bytes() + b" ")
        seen.add(read(folder).pin)
    (folder / "vocab.txt").write_text("a")
    seen.add(read(folder).pin)
    assert len(seen) == 5


def test_a_model_is_found_by_folder_or_in_the_cache(tmp_path: Path) -> None:
    folder = made(tmp_path / "mine")
    assert place(str(folder), {}) == folder
    hub = tmp_path / "home" / "hub" / "models--acme--guard"
    cached = made(hub / "snapshots" / "abc123")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc123")
    assert place("acme/guard", {"HF_HOME": str(tmp_path / "home")}) == cached
    assert place("acme/guard", {"HF_HUB_CACHE": str(tmp_path / "home" / "hub")}) == cached
    assert place("acme/guard", {"HF_HOME": "/nowhere", "HF_HUB_CACHE": str(tmp_path / "home" / "hub")}) == cached


@pytest.mark.parametrize("model", ["acme/other", "/no/such/folder", "../../etc", "acme/../guard", "a/b/c", ""])
def test_a_model_that_is_not_there_says_what_to_do(tmp_path: Path, model: str) -> None:
    with pytest.raises(UsageError, match="Nothing is fetched while it runs: where there is a network run `hf download"):
        place(model or "none", {"HF_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    ("label", "counts"),
    [
        ("SAFE", None),
        ("Non-Toxic", None),
        ("O", None),
        ("INJECTION", "injection"),
        ("identity_hate", "identity_hate"),
        ("LABEL_1", "label_1"),
        ("违规", None),
    ],
)
def test_what_labels_count_as(label: str, counts: str | None) -> None:
    assert category(label) == counts
