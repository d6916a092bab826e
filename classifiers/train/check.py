"""Check a corpus that was written: nothing held out, no group in two splits, no label or role that is none."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path
from typing import Any

from classifiers.train.heldout import is_held_out
from classifiers.train.row import HEADS, Role, Split


def _row_problems(row: dict[str, Any], keys: Set[str]) -> list[str]:
    found = []
    if is_held_out((row["text"],), keys):
        found.append("the text is held out")
    if not row["labels"] or not row["labels"].keys() <= set(HEADS) or not set(row["labels"].values()) <= {0, 1}:
        found.append(f"labels {row['labels']}")
    if row["role"] not in set(Role):
        found.append(f"role {row['role']}")
    return found


def problems(folder: Path, keys: Set[str]) -> list[str]:
    """What is wrong with the corpus in a folder, one line each; empty when it is sound.

    Raises OSError when one of its files is not there.
    """
    found: list[str] = []
    split_of_group: dict[str, str] = {}
    for split in Split:
        path = folder / f"{split}.jsonl"
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line)
                found += [f"{path.name}:{number}: {problem}" for problem in _row_problems(row, keys)]
                if split_of_group.setdefault(row["group"], split) != split:
                    found.append(f"{path.name}:{number}: group {row['group']} is in {split_of_group[row['group']]} too")
    return found
