"""`moderation serve` where it does not come to serving: what is said, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moderation.cli import main

UPSTREAM = ["--upstream", "http://127.0.0.1:9/v1"]


def test_a_policy_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODERATION_PROT", "8081")
    assert main(["serve", *UPSTREAM, "--host", "0.0.0.0", "--policy", "no.yaml", "--data", "data"]) == 2
    lines = capsys.readouterr().err.splitlines()
    first, second = map(json.loads, lines[:2])
    assert (first["event"], first["level"]) == ("config_warning", "warning")
    assert first["message"] == "the variable MODERATION_PROT is no setting and has no effect. Did you mean MODERATION_PORT?"
    assert second["message"].startswith("anybody who reaches the port may use it")
    assert lines[2:] == ["moderation: no.yaml:1:1 error QP000 the file cannot be read: No such file or directory."]


def test_a_policy_of_which_a_test_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("""\
format: 1
policy: {id: p}
detectors: {mail: {kind: pii, entities: [EMAIL_ADDRESS]}}
rules:
  - {id: mail, phases: [input], when: {detector: mail}, then: redact, tests: [
      {name: one, phase: input, text: "to b at y.com", expect: {action: redact}},
      {name: none, phase: input, text: "to you", expect: {action: allow}}]}
""", encoding="utf-8")
    assert main(["serve", *UPSTREAM, "--policy", str(policy), "--data", str(tmp_path / "data")]) == 2
    told = "the test 'one' of the rule 'mail' fails: action: expected redact, got allow."
    assert capsys.readouterr().err == f"moderation: {policy}:6:7 error QP304 {told}\n"


def test_authorities_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *UPSTREAM, "--upstream-ca", "no.pem", "--data", str(tmp_path / "data")]) == 2
    told = "--upstream-ca upstream_ca: no.pem cannot be read: No such file or directory."
    assert capsys.readouterr().err == f"moderation: {told}\n"
