"""What is skipped where an extra is missing fails in CI, and CI installs what no test may lack."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _pytest.outcomes import Skipped

from tests.extras import missing, need

ROOT = Path(__file__).resolve().parents[1]
ABSENT = "no_such_module_anywhere"


def test_what_is_here_is_no_reason_to_skip() -> None:
    need("json", "pytest", extra="dev", environ={})
    assert missing(("json", ABSENT)) == [ABSENT]


def test_what_is_missing_is_skipped_and_told() -> None:
    with pytest.raises(Skipped, match=f"{ABSENT} not installed: make install EXTRAS=transformers"):
        need(ABSENT, extra="transformers", environ={})


def test_what_is_missing_in_ci_is_a_failure() -> None:
    with pytest.raises(RuntimeError, match="CI must run every test"):
        need(ABSENT, extra="transformers", environ={"CI": "true"})


def test_no_test_is_skipped_in_another_way() -> None:
    """So that nothing is skipped in CI for want of a package; what a machine cannot do is skipped with `skipif`."""
    ways = re.compile(r"pytest[.]importorskip|pytest[.]mark[.]skip\b")
    found = [path.relative_to(ROOT) for path in sorted((ROOT / "tests").rglob("*.py")) if ways.search(path.read_text("utf-8"))]
    assert found == []


def test_ci_installs_every_extra_that_a_test_needs() -> None:
    texts = [path.read_text("utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")) if path.name != "test_extras.py"]
    wanted = {found for text in texts for found in re.findall(r"^\s*need\(.*, extra=\"(\w+)\"\)$", text, re.MULTILINE)} - {"dev"}
    assert wanted == {"transformers", "train"}
    told = re.search(r"(?m)^export EXTRAS=(\S+)$", (ROOT / ".ci" / "run").read_text("utf-8"))
    assert told is not None
    assert set(told[1].split(",")) == wanted
