"""What a judgement depends on but for its text: the second half of a cache's key.

A finding holds its detector's id and a category, and neither need be in the detector's own version: two detectors may be of one
model or of the same patterns, and an officer may give what a detector finds another category. So both are told here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from moderation.detect.api import Detector
from moderation.text import Role


class Versions:
    """Of the detectors of one policy."""

    def __init__(self, detectors: Mapping[str, Detector], categories: Mapping[str, frozenset[str]]) -> None:
        """`categories` are those that the policy knows, by detector."""
        self._told = {name: _sha256(name, one.version, sorted(categories.get(name, ()))) for name, one in detectors.items()}
        self._all: dict[tuple[frozenset[str], int, Role], str] = {}

    def one(self, name: str, role: Role | None = None) -> str:
        """Of a detector's own judgement; a window detector's is about a text in a role."""
        return f"{self._told[name]} {role.value}" if role is not None else self._told[name]

    def all(self, wanted: frozenset[str], window: int, role: Role) -> str:
        """Of a judgement by all of them, of which some need not be there, in windows of a size."""
        found = self._all.get((wanted, window, role))
        if found is None:
            told = [(name, self._told.get(name, "")) for name in sorted(wanted)]
            found = self._all[(wanted, window, role)] = _sha256(window, role.value, told)
        return found


def _sha256(*told: object) -> str:
    return hashlib.sha256(repr(told).encode()).hexdigest()
