"""The list of mutants is sound: each can be applied, names tests that are there, and says what harm it would do.

Whether the tests notice them is seen by `make mutants`, which takes some minutes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MUTANTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "tests" / "mutants.yaml").read_text("utf-8"))


def _name(mutant: dict[str, Any]) -> str:
    return f"{mutant['file']}: {mutant['note']}"


def test_there_are_enough_and_none_stands_twice() -> None:
    changes = [(one["file"], one["find"], one["replace"]) for one in MUTANTS]
    assert len(set(changes)) == len(changes) >= 50
    notes = [_name(one) for one in MUTANTS]
    assert len(set(notes)) == len(notes)


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_a_mutant_can_be_applied(mutant: dict[str, Any]) -> None:
    assert mutant.keys() - {"needs"} == {"file", "find", "replace", "tests", "note"}
    assert mutant["file"].startswith(("moderation/", "classifiers/"))
    source = (ROOT / mutant["file"]).read_text("utf-8")
    assert source.count(mutant["find"]) == 1, "the text to replace is gone, or stands there more than once"
    assert mutant["replace"] != mutant["find"]
    compile(source.replace(mutant["find"], mutant["replace"]), mutant["file"], "exec")
    assert mutant["note"].strip()


@pytest.mark.parametrize("mutant", MUTANTS, ids=_name)
def test_its_tests_are_there(mutant: dict[str, Any]) -> None:
    assert mutant["tests"]
    for test in mutant["tests"]:
        path, _, function = test.partition("::")
        source = (ROOT / path).read_text("utf-8")
        wanted = rf"^(?:async )?def {re.escape(function)}\(" if function else r"^(?:async )?def test_"
        assert re.search(wanted, source, re.MULTILINE), test
