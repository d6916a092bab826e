"""Read the file formats that sources come in: CSV, JSON, JSON lines and parquet, each as an iterable of records."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

csv.field_size_limit(1 << 24)


def csv_records(path: Path, encoding: str = "utf-8-sig") -> Iterator[dict[str, str]]:
    """The records of a CSV file with a header line."""
    with path.open(encoding=encoding, newline="") as lines:
        yield from csv.DictReader(lines)


def csv_cells(path: Path) -> list[str]:
    """The first cell of each line of a CSV file without a header."""
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return [cells[0] for cells in csv.reader(lines) if cells]


def json_value(path: Path) -> Any:
    """The value of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def json_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON lines file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                yield json.loads(line)


def parquet_records(path: Path) -> list[dict[str, Any]]:
    """The records of a parquet file (needs pyarrow, which the `train` extra brings)."""
    from pyarrow import parquet

    records: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return records
