"""The benchmark runs, and its figures are of what they say. It measures nothing here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bench.classifiers import main as classifiers
from bench.classifiers import text_of
from bench.policy import without_models
from bench.profile import shares, table
from bench.report import BASELINE, Measured, Report, at
from bench.run import Load
from classifiers.train.row import HEADS
from moderation.detect.classifier.manifest import read_manifest
from tests.detect.classifier import tiny

ROOT = Path(__file__).parent.parent
LOAD = "64-chunk stream, 1 client, back to back"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it reads CPU and memory from /proc")
def test_it_runs_and_keeps_what_it_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.run", "--quick", "--targets", "direct,pass", "--loads", LOAD, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    kept, = tmp_path.glob("*.json")
    assert kept.with_suffix(".md").read_text() == done.stdout.removesuffix("\n")
    targets = json.loads(kept.read_text())["targets"]
    assert list(targets) == ["direct", "pass"]
    for load in targets["pass"]:
        assert targets["pass"][load]["cpu_us_per_request"] > 0
        assert 5 < targets["pass"][load]["peak_mib"] < 500
        assert targets["direct"][load]["cpu_us_per_request"] == 0
    assert targets["pass"][LOAD]["ttft_p50_us"] > 0


def test_unknown_targets_are_told() -> None:
    command = [sys.executable, "-m", "bench.run", "--targets", "dirct"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "unknown targets dirct" in done.stderr


def test_the_table_compares_with_the_pass_through() -> None:
    whole = {BASELINE: Measured(False, whole=[1000, 1000], seconds=1, cpu=0.002, peak_mib=30),
             "fast": Measured(False, whole=[1700, 1700], seconds=1, cpu=0.003, peak_mib=80)}
    stream = {BASELINE: Measured(True, whole=[9000], first=[500], events=[100] * 64, seconds=1, cpu=0.0064, peak_mib=30),
              "fast": Measured(True, whole=[9000], first=[700], events=[150] * 64, seconds=1, cpu=0.0128, peak_mib=80)}
    report = Report({"date": "then"}, "x", 1, [200], {name: {"whole": whole[name], "stream": stream[name]} for name in whole})
    rows = [line.split(" | ") for line in report.table().split("\n") if line.startswith("| fast")]
    assert rows == [["| fast", "1.700", "1.700", "+0.700", "1500", "+500.0", "80", "2", "1.00 |"],
                    ["| fast", "9.000", "9.000", "0.700", "150", "150", "150", "+50", "12800", "+100.0", "80", "1", "1.00 |"]]


@pytest.mark.parametrize(("values", "share", "value"), [([], 0.5, 0), ([7], 0.99, 7), ([3, 1, 2], 0.5, 2),
                                                        (list(range(100)), 0.99, 99)])
def test_quantiles(values: list[int], share: float, value: float) -> None:
    assert at(values, share) == value


def test_a_sample_counts_for_the_innermost_file_of_ours() -> None:
    stacks = [
        "main (moderation/cli/serve.py:1);run (asyncio/runners.py:1);send (moderation/upstream.py:1);f (aiohttp/client.py:2) 6",
        "run (asyncio/runners.py:1);find (/x/moderation/detect/pattern.py:9);Match (re2/__init__.py:1) 3",
        "data_received (uvicorn/protocols/http/httptools_impl.py:1) 1",
        "run (threading.py:1);_turn (moderation/audit/store.py:1);Condition.wait (threading.py:3) 50",
    ]
    assert shares(stacks) == {"HTTP with the upstream": 0.6, "judging: detectors": 0.3, "HTTP with the client": 0.1}
    text = table({"whole": (1000.0, shares(stacks))})
    assert "| judging: detectors | 30.0% | 300 |" in text


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it reads CPU and memory from /proc")
def test_a_chat_and_a_load_beside_are_measured(tmp_path: Path) -> None:
    for load in ("chat of 40 turns", "beside prompts"):
        command = [sys.executable, "-m", "bench.run", "--quick", "--targets", "pass", "--loads", load, "--out", str(tmp_path / load)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    kept, = (tmp_path / "chat of 40 turns").glob("*.json")
    (figures,) = json.loads(kept.read_text())["targets"]["pass"].values()
    assert figures["requests"] == 40
    assert figures["turn_1_p50_us"] > 0
    assert figures["turn_40_p50_us"] > 0


def test_the_policy_without_models_is_the_one_that_ships_less_what_asks_them(tmp_path: Path) -> None:
    shipped = tmp_path / "shipped" / "p.yaml"
    (shipped.parent / "lists").mkdir(parents=True)
    (shipped.parent / "lists" / "words.txt").write_text("word\n")
    detectors = {"words": {"kind": "words"}, "judge": {"kind": "model"}}
    rules = [{"id": "a", "when": {"detector": "words"}}, {"id": "b", "when": {"any": [{"detector": ["judge"]}, {"entity": "X"}]}},
             {"id": "c", "when": {"category": "judge"}}, {"id": "d", "when": {"none": [{"detector": "judge", "channel": "user"}]}}]
    shipped.write_text(json.dumps({"detectors": detectors, "rules": rules}))
    made = without_models(shipped, tmp_path / "made")
    found = yaml.safe_load(made.read_text())
    assert list(found["detectors"]) == ["words"]
    assert [rule["id"] for rule in found["rules"]] == ["a", "c"]
    assert (made.parent / "lists" / "words.txt").read_text() == "word\n"


def test_what_a_target_is_given() -> None:
    load = Load("x", 100, 10, judged=20)
    assert [load.given(target, quick) for target in ("fast", "judged") for quick in (False, True)] == [100, 10, 20, 10]
    assert Load("x", 100, 10).given("judged", False) == 0


@pytest.mark.parametrize("gate", [True, False], ids=["gate", "none"])
def test_small_models_are_measured_with_what_spares_them(
    tmp_path: Path, gate: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    ngram = tiny.ngram(tmp_path / "ngram")
    said = {"pin": read_manifest(ngram).pin, "below": 0.3, "default": True, "languages": ["en", "zh"]}
    folder = tiny.encoder(tmp_path / "tiny", windows={"tokens": 200}, gate=said if gate else None)
    rows: list[tuple[str, dict[str, int], str | None]] = [("how to make a bomb", {"violence": 1}, None), ("kill kill", {"violence": 1}, None)]
    rows += [(f"a harmless text, number {number}", dict.fromkeys(HEADS, 0), "benign_chat") for number in range(8)]
    labelled = [{"text": text, "role": "prompt", "lang": "en", "labels": labels, "source": "s", "group": "g", "slice": name}
                for text, labels, name in rows]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    asked = ["--model", str(folder), "--gate", str(ngram), "--corpus", str(tmp_path), "--seconds", "0", "--chats", "2", "--turns", "4"]
    assert classifiers([*asked, "--rows", "0", "--out", str(tmp_path / "out")]) == 0
    kept, = (tmp_path / "out").glob("*.json")
    assert kept.with_suffix(".md").read_text() == capsys.readouterr().out.removesuffix("\n")
    body = json.loads(kept.read_text())
    assert [size - 12 < one["tokens"] <= size for one, size in zip(body["speed"]["tiny, " + _onnxruntime()], (32, 128), strict=True)] == [True] * 2
    spared = body["spared"]
    assert (spared["windows"], spared["by_cache"]) == (20, 0.6), "of 1 + 2 + 3 + 4 windows a chat, 4 are new"
    assert spared["by_gate_of_the_rest"] == (1.0 if gate else 0.0)
    assert spared["asked_of_the_encoder"] == (0.0 if gate else 0.4)
    assert ("gate" in body) is gate
    if gate:
        assert body["gate"]["lost"]["all"]["en"] == [1, 2], "the gate knows no kill"
        assert body["gate"]["settled"]["benign_chat"]["en"] == [8, 8]
    assert "Torch was not measured: no --run" in kept.with_suffix(".md").read_text()


def _onnxruntime() -> str:
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


def test_a_text_of_so_many_tokens() -> None:
    assert len(text_of(32, lambda text: len(text.split())).split()) == 32
