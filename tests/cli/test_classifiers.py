"""`moderation classifiers`: what models say, and scores for people's own tables, row by row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moderation.cli import main
from moderation.cli.classifiers import whole
from moderation.cli.subject import subject
from tests.detect.classifier import tiny
from tests.detect.transformer import tiny as tiny_transformer
from tests.detect.transformer import tiny_guard
from tests.extras import need


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.encoder(tmp_path_factory.mktemp("models") / "tiny")


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.split("\n") if line]


def test_show(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "card.md").write_text("# A card", "utf-8")
    assert main(["classifiers", "show", str(folder)]) == 0
    assert "# A card" in capsys.readouterr().out
    assert main(["classifiers", "show", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["name"], said["heads"], said["languages"]) == (
        "tiny",
        {"violence": "violence", "injection": "injection"},
        ["en", "zh"],
    )
    assert said["pin"].startswith("sha256:")


def test_an_exported_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.exported(tmp_path / "guard")
    assert main(["classifiers", "show", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["engine"], said["heads"]) == ("exported", {"violence": "violence", "Prompt Injection": "prompt_injection"})
    data, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    data.write_text('{"text": "bomb", "labels": {"violence": 1}}\n{"text": "a", "labels": {"violence": 0}}\n', "utf-8")
    assert main(["classifiers", "eval", str(folder), "--data", str(data), "--scores", str(out)]) == 0
    first, second = lines(out.read_text("utf-8"))
    assert first["levels"] == {"violence": "high", "Prompt Injection": "none"}, "the usual levels, where a model has none"
    assert second["scores"] == {"violence": 0.333333, "Prompt Injection": 0.333333}
    assert main(["classifiers", "bench", str(folder), "--seconds", "0", "--json"]) == 0


def test_show_checks_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny.encoder(tmp_path / "tiny")
    (folder / "tokenizer.json").write_text("{}")
    assert main(["classifiers", "show", str(folder)]) == 2
    assert "tokenizer.json" in capsys.readouterr().err


def test_no_such_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classifiers", "show", "nosuch"]) == 2
    assert "no model that ships is called 'nosuch'" in capsys.readouterr().err


def test_list_tells_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classifiers", "list", "--json"]) == 0
    for row in lines(capsys.readouterr().out):
        assert {"name", "ships", "default", "heads", "languages"} <= row.keys()


GOOD = [
    {"text": "how to make a bomb", "labels": {"violence": 1, "injection": 0}, "group": "a", "extra": [1]},
    {"text": "hello", "labels": {"violence": 0, "injection": 0}, "group": "b"},
    {"text": "ignore it", "role": "tool_result", "labels": {"injection": 1}},
    {"text": "", "labels": {}},
    {"text": "no label"},
    {"text": "bomb", "role": "response", "labels": {"spam": 1}},
]


def test_eval(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in GOOD), "utf-8")
    assert main(["classifiers", "eval", str(folder), "--data", str(data), "--scores", str(out)]) == 0
    rows = lines(out.read_text("utf-8"))
    assert [row["i"] for row in rows] == list(range(len(GOOD)))
    assert rows[0] == {
        "i": 0,
        "scores": {"violence": 1.0, "injection": 0.0},
        "levels": {"violence": "critical", "injection": "none"},
    }
    assert [row["levels"] for row in rows[1:5:3]] == [{"violence": "none", "injection": "none"}] * 2
    said = capsys.readouterr()
    table = [line.split() for line in said.out.split("\n") if line]
    assert table[0] == ["label", "group", "yes", "no", "recall", "false", "positives", "precision", "F1"]
    assert ["violence", "(all)", "1", "1", "1.000", "0.000", "1.000", "1.000"] in table
    assert ["violence", "a", "1", "0", "1.000", "-", "1.000", "-"] in table
    assert ["injection", "b", "0", "1", "-", "0.000", "-", "-"] in table
    assert "1 label(s) are of no head" in said.err


BROKEN = [
    ("{", "is no JSON"),
    ("[]", 'must be an object with a "text"'),
    ('{"text": 1}', 'must be an object with a "text"'),
    ('{"text": "a", "role": "user"}', '"role" must be one of prompt, response, tool_result'),
    ('{"text": "a", "labels": {"violence": 2}}', '"labels" must be a mapping to 0 or 1'),
    ('{"text": "a", "labels": [1]}', '"labels" must be'),
    ('{"text": "a", "group": 1}', '"group" must be a text'),
    ('{"text": "\udce9"}', "is no JSON"),
]


@pytest.mark.parametrize(("line", "told"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_line_is_told_and_the_rest_goes_on(
    folder: Path, tmp_path: Path, line: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    data.write_bytes(b'{"text": "hello"}\n' + line.encode("utf-8", "surrogateescape") + b'\n\n{"text": "bomb"}\n')
    assert main(["classifiers", "eval", str(folder), "--data", str(data), "--scores", str(out)]) == 2
    assert f"{data}:2:1 {told}" in (err := capsys.readouterr().err)
    assert "1 broken line(s)" in err
    assert [row["i"] for row in lines(out.read_text("utf-8"))] == [0, 3], "numbered as the lines are"


@pytest.mark.parametrize("argument", ["--data", "--scores"])
def test_files_that_are_not_there(folder: Path, tmp_path: Path, argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a"}\n')
    given = {"--data": str(data), "--scores": str(tmp_path / "out")} | {argument: str(tmp_path / "no" / "where")}
    assert main(["classifiers", "eval", str(folder), *(part for pair in given.items() for part in pair)]) == 2
    assert "No such file" in capsys.readouterr().err


def test_a_long_text_is_read_by_windows(folder: Path) -> None:
    opened = subject(str(folder), {}).open()
    text = "Nothing of note. " * 100 + "make a bomb. " + "Nothing of note. " * 100
    found = whole(opened.whole, opened.heads, text, "prompt")
    assert isinstance(found, dict)
    assert found["violence"] > 0


def test_bench(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classifiers", "bench", str(folder), "--seconds", "0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["name"] == "tiny"
    assert [one["calls"] for one in said["results"]] == [1, 1]


# ---- models that a user brings


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("torch", "transformers", "safetensors", extra="transformers")
    return tiny_guard.model(tmp_path_factory.mktemp("models") / "guard")


def test_a_guard_is_shown_without_being_loaded(guard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classifiers", "show", str(guard), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["engine"], said["name"]) == ("qwen3guard", str(guard))
    assert {"violence", "jailbreak"} <= said["heads"].keys()
    assert said["pin"].startswith("sha256:")


def test_a_guard_is_measured_and_what_it_has_no_answer_to_is_told(
    guard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    rows: list[dict[str, object]] = [
        {"text": "how to bomb", "labels": {"violence": 1}}, {"text": "how to hello", "labels": {"violence": 0}},
        {"text": "how to boom", "role": "response", "labels": {"violence": 1}}, {"text": "how to chatter", "labels": {"violence": 1}},
    ]  # fmt: skip
    data.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    assert main(["classifiers", "eval", str(guard), "--data", str(data), "--scores", str(out)]) == 2
    told = lines(out.read_text("utf-8"))
    assert [row["i"] for row in told] == [0, 1, 2, 3]
    assert [row["scores"]["violence"] for row in told[:3] if isinstance(row["scores"], dict)] == [0.9, 0.0, 0.9]
    assert isinstance(told[0]["levels"], dict)
    assert (told[0]["levels"]["violence"], told[0]["levels"]["sexual"]) == ("high", "none")
    assert told[3] == {"i": 3, "scores": {}, "levels": {}, "unknown": "invalid"}
    said = capsys.readouterr()
    assert ["violence", "(all)", "2", "1", "1.000", "0.000", "1.000", "1.000"] in [line.split() for line in said.out.split("\n")]
    assert "1 row(s) have no answer" in said.err


def test_a_guard_is_timed(guard: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classifiers", "bench", str(guard), "--seconds", "0", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["name"], [one["calls"] for one in said["results"]]) == (str(guard), [1, 1])


@pytest.mark.parametrize("verb", ["show", "eval", "bench"])
def test_a_classifier_of_the_transformers_library(tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    need("torch", "transformers", "safetensors", extra="transformers")
    folder = tiny_transformer.model(tmp_path / "bert")
    data, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    data.write_text('{"text": "hello", "labels": {"INJECTION": 0}}')
    given = {"show": ["--json"], "eval": ["--data", str(data), "--scores", str(out)], "bench": ["--seconds", "0", "--json"]}
    assert main(["classifiers", verb, str(folder), *given[verb]]) == 0
    said = capsys.readouterr().out
    match verb:
        case "show":
            assert json.loads(said)["heads"] == {"INJECTION": "injection"}
        case "eval":
            (row,) = lines(out.read_text("utf-8"))
            assert isinstance(row["scores"], dict)
            assert list(row["scores"]) == ["INJECTION"]
        case _:
            assert len(json.loads(said)["results"]) == 2


def test_a_model_that_is_not_there_is_told_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classifiers", "show", "acme/no-such-guard"]) == 2
    assert "hf download acme/no-such-guard" in capsys.readouterr().err
