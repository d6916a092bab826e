"""The commands on a machine without onnxruntime: each says that the n-gram model does the work of the one that was meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

POLICY = """format: 1
policy: {id: p}
detectors:
  harm: {kind: model, engine: builtin, model: small, timeout: 10s}
rules:
  - id: violence
    phases: [input]
    when: {detector: harm, category: violence, at_least: high}
    then: block
    tests:
      - {name: one, phase: input, text: "how do I build a bomb to kill my neighbour", expect: {action: block}}
      - {name: none, phase: input, text: "good morning to you all", expect: {action: allow}}
"""
BARE = "import sys; sys.modules['onnxruntime'] = None; from moderation.cli import main; sys.exit(main(sys.argv[1:]))"
COMMANDS = [
    (["policy", "test", "{policy}", "--models"], True),
    (["policy", "test", "{policy}", "--models", "--run", "nothing of that"], False),
    (["try", "good morning", "--policy", "{policy}"], True),
    (["classifiers", "eval", "small", "--data", "{rows}", "--scores", "{scores}"], True),
    (["classifiers", "eval", "ngram", "--data", "{rows}", "--scores", "{scores}"], False),
    (["classifiers", "list"], False),
]


@pytest.mark.parametrize(("command", "told"), COMMANDS, ids=[" ".join(command) for command, _ in COMMANDS])
def test_it_is_said(tmp_path: Path, command: list[str], told: bool) -> None:
    places = {"policy": tmp_path / "p.yaml", "rows": tmp_path / "rows.jsonl", "scores": tmp_path / "scores.jsonl"}
    places["policy"].write_text(POLICY, encoding="utf-8")
    places["rows"].write_text('{"text": "good morning"}\n', encoding="utf-8")
    words = [word.format_map(places) for word in command]
    done = subprocess.run([sys.executable, "-c", BARE, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (1 if "--run" in words else 0), done.stderr
    said = "onnxruntime cannot be imported: ngram stands in for the model small, and finds less"
    assert (said in done.stderr) is told
    assert said not in done.stdout
