"""The cases of tests/cases/evasion.yaml, and the table that docs/evasion.md makes of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from moderation.flow.loading import FileLoader
from moderation.flow.reading import Active, read
from moderation.metrics import Metrics
from moderation.text import Scope
from moderation.wire import openai

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "evasion.md"
CASES: list[dict[str, Any]] = yaml.safe_load((HERE / "cases" / "evasion.yaml").read_text("utf-8"))["cases"]
DETECTORS = ("injection_phrases", "self_harm_terms", "pii")
KINDS = {"injection_phrases": "phrases", "self_harm_terms": "word lists", "pii": "personal data"}


@cache
def active() -> Active:
    return FileLoader(0, Metrics(), tested=False)(None, 1).active


def messages(case: dict[str, Any]) -> list[dict[str, Any]]:
    if "parts" in case:
        return [{"role": "user", "content": [{"type": "text", "text": text} for text in case["parts"]]}]
    if "results" in case:
        return [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"},
                *({"role": "tool", "tool_call_id": "c", "content": text} for text in case["results"])]
    return [{"role": "user", "content": text} for text in case.get("messages") or [case["text"]]]


def found(case: dict[str, Any]) -> set[str]:
    verdict = asyncio.run(read(active(), openai.read_request({"messages": messages(case)}), Scope()))
    return {item.seen.finding.detector for ruling in verdict.rulings for item in ruling.found}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['evasion']}, {case['detector']}")
def test_case(case: dict[str, Any]) -> None:
    assert (case["detector"] in found(case)) is case.get("caught", True), case.get("note", case["evasion"])


def page(cases: Sequence[dict[str, Any]]) -> str:
    """The table, from the cases alone: a cell says what the cases of its row and column say."""
    rows = [
        "| evasion | " + " | ".join(KINDS[one] for one in DETECTORS) + " | not caught |", "|---|" + "---|" * (len(DETECTORS) + 1)
    ]
    for evasion in dict.fromkeys(case["evasion"] for case in cases):
        mine = [case for case in cases if case["evasion"] == evasion]
        cells = []
        for detector in DETECTORS:
            said = {case.get("caught", True) for case in mine if case["detector"] == detector}
            cells.append("" if not said else "caught" if said == {True} else "not caught" if said == {False} else "in part")
        notes = "; ".join(case["note"] for case in mine if not case.get("caught", True) and "note" in case)
        rows.append(f"| {evasion} | {' | '.join(cells)} | {notes} |")
    head = PAGE.read_text("utf-8").split("<!-- table -->")[0]
    return head + "<!-- table -->\n" + "\n".join(rows) + "\n"


def test_the_page_is_made_of_the_cases() -> None:
    assert PAGE.read_text("utf-8") == page(CASES), "run python -m tests.test_evasion"


if __name__ == "__main__":
    PAGE.write_text(page(CASES), "utf-8")
    sys.exit(0)
