"""SECURITY.md keeps its word: each threat has an id of its own and tests that show it, and each test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
NODE = re.compile(r"`(tests/[^`\s]*)`")


def tables(text: str) -> list[list[dict[str, str]]]:
    """Each table as its rows, by the words of the head. No cell holds a bar."""
    found = []
    for lines in re.findall(r"(?m)(?:^\|.*\|\n)+", text):
        head, rule, *rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines.splitlines()]
        assert all(set(cell) == {"-"} for cell in rule)
        assert all(len(row) == len(head) for row in rows), "a row has as many cells as its head"
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


@cache
def defined_in(path: str) -> frozenset[str]:
    file = ROOT / path
    tree = ast.parse(file.read_text("utf-8")) if file.is_file() else ast.Module([], [])
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                     and node.name.startswith("test_"))


def missing(text: str) -> list[str]:
    """What is named as a test and is none."""
    named = sorted(set(NODE.findall(text)) - {"tests/test_security.py"})
    return [node for node in named if node.partition("::")[2] not in defined_in(node.partition("::")[0])]


ROWS = [row for table in tables(TEXT) for row in table]
THREATS = [row for row in ROWS if "id" in row]


def test_every_threat_has_an_id_of_its_own() -> None:
    ids = [row["id"] for row in THREATS]
    assert ids == [f"T{number}" for number in range(1, len(ids) + 1)]
    assert len(ids) >= 50
    assert all(row["who"] and row["tries"] and row["what stands against it"] for row in THREATS)


@pytest.mark.parametrize("row", [row for row in ROWS if "shown by" in row], ids=lambda row: row.get("id") or row["who"])
def test_every_row_is_shown_by_tests(row: dict[str, str]) -> None:
    assert NODE.findall(row["shown by"])
    assert not NODE.sub("", row["shown by"]).strip(), "names of tests and nothing else"


def test_every_named_test_is_there() -> None:
    assert len(NODE.findall(TEXT)) > 100
    assert missing(TEXT) == []


@pytest.mark.parametrize("node", ["tests/gone.py::test_x", "tests/test_security.py::test_gone", "tests/test_security.py::tables", "tests/test_mutants.py"])
def test_a_test_that_is_not_there_is_told(node: str) -> None:
    assert missing(f"| T1 | `{node}` |") == [node]
