"""`moderation try` as a person runs it: rows of a file, broken ones among them, and what a context may be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.cli import main
from moderation.cli.tryout import _row, _told
from moderation.errors import Refused
from moderation.text import Phase

POLICY = """\
format: 1
policy: {id: p}
detectors: {mail: {kind: pii, entities: [EMAIL_ADDRESS], categories: [personal_data]}}
rules:
  - id: mail
    phases: [input]
    when: {detector: mail}
    then: redact
    tests:
      - {name: one, phase: input, text: "to b@y.com", expect: {action: redact}}
      - {name: none, phase: input, text: "to you", expect: {action: allow}}
"""
GOOD = b'{"text": "to b@y.com"}\n'


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "p.yaml"
    path.write_text(POLICY, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("row", "place", "problem"),
    [
        (b'{"text": "a\xff"}', "2:12", "not UTF-8"),
        (b"[" * 100_000, "2:1", "the JSON is nested deeper than 100 levels"),
        (b'{"text": "a"', "2:13", "Expecting ',' delimiter"),
        (b'{"text": 1}', "2:1", "no `text`"),
        (b'"text"', "2:1", "no `text`"),
        (b'{"text": "a", "phase": []}', "2:1", "no such phase"),
        (b'{"text": "a", "phase": "inptu"}', "2:1", "no such phase"),
        (b'{"text": "a", "text": "b"}', "2:15", "this key stands twice"),
        (b'{"text": "a", "n": NaN}', "2:20", "NaN and Infinity are not JSON"),
        (b'\xef\xbb\xbf{"text": "a"}', "2:1", "the body starts with a byte order mark"),
    ],
)
def test_a_broken_row_is_told_and_the_rest_goes_on(
    row: bytes, place: str, problem: str, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(GOOD + row + b"\n\n" + GOOD)
    assert main(["try", "--jsonl", str(rows), "--policy", policy]) == 2
    out, err = capsys.readouterr()
    assert [json.loads(line)["action"] for line in out.splitlines()] == ["redact", "redact"]
    assert err.startswith(f"{rows}:{place} error {problem}")
    assert err.count("\n") == 1
    assert err.endswith('; expected {"text": "…", "phase": "input"} on one line\n')


@pytest.mark.parametrize(
    ("row", "goes_on", "note"),
    [
        (b'\xef\xbb\xbf{"text": "to b@y.com"}', "to [removed: email]", "a mark at the start of the file"),
        (b'{"text": "\\ud800 to b@y.com"}\r\n', "\ufffd to [removed: email]", "a lone surrogate, as in a request"),
        (b'{"text": "\\ud83d\\ude00"}', "\U0001f600", "a pair is one character"),
        (b'{"text": "a", "labels": {"x": 1}, "n": ' + b"9" * 5000 + b"}", "a", "columns that nobody knows, long numbers"),
        ('{"text": "a\u2028b"}'.encode(), "a\u2028b", "no end of a line"),
    ],
)
def test_rows_that_can_be_read(
    row: bytes, goes_on: str, note: str, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes(row)
    assert main(["try", "--jsonl", str(rows), "--policy", policy]) == 0, note
    assert json.loads(capsys.readouterr().out)["segments"][0]["text"] == goes_on, note


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: json.dumps({"text": text}).encode()))
def test_any_row_is_read_or_refused(line: bytes) -> None:
    told = ""
    try:
        text, phase = _row(line, Phase.INPUT)
    except Refused as fault:
        told, text, phase = _told(fault), "", Phase.INPUT
    assert told == "" or re.fullmatch("[0-9]+ error [^;\n]+", told)
    assert text.encode().decode() == text
    assert phase in list(Phase)


def test_rows_that_are_not_there(policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", "--jsonl", str(tmp_path / "no.jsonl"), "--policy", policy]) == 2
    assert capsys.readouterr().err == f"moderation: {tmp_path}/no.jsonl No such file or directory\n"


@pytest.mark.parametrize(("raw", "code", "said"), [("给b@y.com".encode(), 0, "redact\n"), (b"\xff", 2, "")])
def test_standard_input_is_utf_8_whatever_the_terminal_says(raw: bytes, code: int, said: str, policy: str) -> None:
    command = [sys.executable, "-m", "moderation", "try", "-", "--policy", policy]
    environ = {**os.environ, "PYTHONIOENCODING": "ascii:backslashreplace"}
    done = subprocess.run(command, input=raw, capture_output=True, check=False, timeout=60, env=environ)
    assert (done.returncode, done.stdout.decode()[: len(said)]) == (code, said)
    assert done.stderr == (b"moderation: try the text is not valid UTF-8\n" if code else b"")


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("tenant=acme.hr-1", None),
        ("language=zh-CN", None),
        ("model=qwen3-max (latest)", None),
        ("tenant=not a name!", "tenant: expected a name of at most 64 letters"),
        ("route=", "route: expected a name"),
        ("region=/cn", "region: expected a name"),
        ("language=Chinese", "language: expected a language tag such as en or zh"),
        ("model=", "model: expected a model's name"),
        ("tenat=acme", "expected KEY=VALUE with KEY of language, model, region, route, tenant"),
        ("tenant", "expected KEY=VALUE"),
    ],
)
def test_a_context_takes_what_the_settings_take(pair: str, said: str | None, policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["try", "hello", "--policy", policy, "--context", pair]) == (2 if said else 0)
    assert (capsys.readouterr().err or "moderation: --context ").startswith(f"moderation: --context {said or ''}")
