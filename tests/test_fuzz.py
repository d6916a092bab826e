"""The fuzzer's targets hold their laws on a few inputs, and the fuzzer notices faults that are planted."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random

import pytest

from fuzz.engine import Campaign
from fuzz.mutate import WORDS, mutated
from fuzz.run import main
from fuzz.target import Run, Target, law
from fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_few_inputs(target: Target) -> None:
    campaign = Campaign(target, seed=1)
    campaign.work(executions=30)
    assert campaign.executions == 30
    assert [(one.key, one.data) for one in campaign.findings.values()] == []
    assert campaign.corpus


def planted(run: Run, seconds: float = 5.0) -> Target:
    return Target("planted", "A law.", lambda: [b'{"a": [1, 2]}', b"some words"], lambda: run, (b"[[[[",), seconds)


def deep(data: bytes) -> str:
    law(data.count(b"[") < 9, "too deep")
    return str(data.count(b"["))


def index(data: bytes) -> str:
    return "" if data.count(b"[") < 9 else str(data[len(data)])


def hang(data: bytes) -> str:
    while data.count(b"[") >= 9:
        pass
    return ""


@pytest.mark.parametrize(("run", "broke"), [(deep, "LawBroken"), (index, "IndexError"), (hang, "TooSlow")])
def test_a_planted_fault_is_found_written_and_repeated(
    run: Run, broke: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = [planted(run, 0.2)]
    assert main(["--executions", "200", "--seed", "1", "--out", str(tmp_path), "--json"], targets) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["executions"] == 200
    path, = tmp_path.iterdir()
    assert told["findings"] == [str(path)]
    found = json.loads(path.read_text())
    assert found["broke"].startswith(broke)
    assert found["seed"] == 1
    assert found["repeat"].endswith(str(path))
    if broke != "TooSlow":
        assert base64.b64decode(found["input"]) == b"[" * 9, "it is made as small as it can be"
    assert main(["--repeat", str(path)], targets) == 1
    assert broke in capsys.readouterr().out
    assert main(["--repeat", str(path)], [planted(lambda data: "sound")]) == 0


def test_nothing_is_found_where_nothing_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = [planted(lambda data: str(len(data)))]
    assert main(["--minutes", "0.005", "--seed", "1", "--out", str(tmp_path)], targets) == 0
    assert list(tmp_path.iterdir()) == []
    head, line = capsys.readouterr().out.rstrip().split("\n")
    assert head.split()[0] == "target"
    assert line.split()[0] == "planted"


@pytest.mark.parametrize("argv", [["--only", "nothing"], ["--minutes", "0"], ["--executions", "-1"]])
def test_wrong_use(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2


def test_a_seed_gives_the_same_inputs() -> None:
    pool = [b'{"a": 1}', b"x\ny\nz", b""]
    once, twice = ([mutated(b"[1,2]", pool, WORDS, dice, 500) for _ in range(300)] for dice in (Random(7), Random(7)))
    assert once == twice
    assert len(set(once)) > 200
    assert max(map(len, once)) <= 500


def test_what_reaches_something_for_the_first_time_is_kept() -> None:
    campaign = Campaign(planted(lambda data: "many" if data.count(b"[") > 5 else "few"), seed=1)
    campaign.work(executions=300)
    assert {one.count(b"[") > 5 for one in campaign.corpus} == {True, False}
    assert len(campaign.corpus) < 10
