"""Give each group a split: by the pins of its rows, else by the hash of its name.

A pin of a row holds for its whole group; where pins differ, `test` wins over `dev`, and `dev` over `train`, so that
nothing near to a tested text is ever learnt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from classifiers.train.row import Split

TEST_SHARE, DEV_SHARE = 0.10, 0.08

_ORDER = (Split.TEST, Split.DEV, Split.TRAIN)


def fraction(name: str, salt: str = "split") -> float:
    """A number in [0, 1) that depends on the name and the salt alone."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{name}".encode()).digest()[:7], "big") / 2**56


def split_of(group: str, pins: Iterable[Split | None]) -> Split:
    """The split of a group, given the pins of all its rows."""
    pinned = set(pins)
    for split in _ORDER:
        if split in pinned:
            return split
    at = fraction(group)
    if at < TEST_SHARE:
        return Split.TEST
    return Split.DEV if at < TEST_SHARE + DEV_SHARE else Split.TRAIN
