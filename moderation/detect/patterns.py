"""The detector of kind `patterns`: named patterns of the catalogue and expressions that officers wrote.

Weak patterns give way: where something stronger stands, there is no match of theirs, and so a long number that only looks like
a telephone's never hides the card in it. Knows nothing of policies: it is handed patterns, and a category for each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from moderation.detect.api import Scan
from moderation.detect.matcher import Match, Matcher, Pattern
from moderation.text import Span
from moderation.verdict import Finding


class Patterns:
    """A local detector (detect/api.py) over any patterns."""

    def __init__(self, id: str, patterns: Sequence[Pattern], categories: Sequence[str]) -> None:
        """`categories` has one for each pattern. Raises detect.regex.BadRegex."""
        self._id = id
        weak = [pattern for pattern in patterns if pattern.weak]
        self._matcher = Matcher([pattern for pattern in patterns if not pattern.weak])
        self._weak = Matcher(weak) if weak else None
        self._categories = dict(zip(patterns, categories, strict=True))

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        return tuple(self._categories)

    @property
    def id(self) -> str:
        return self._id

    @property
    def version(self) -> str:
        if self._weak is None:
            return self._matcher.version
        return hashlib.sha256(f"{self._matcher.version} {self._weak.version}".encode()).hexdigest()

    @property
    def behind(self) -> int:
        return max(self._matcher.behind, self._weak.behind if self._weak is not None else 0)

    @property
    def reach(self) -> int:
        if self._weak is None:
            return self._matcher.reach
        # As far as a place may be pending, and then a match that ends there.
        return 2 * max(self._matcher.reach, self._weak.reach)

    def scan(self, text: str, start: int, final: bool) -> Scan:
        matches, hold = self._matcher.scan(text, start, final)
        if self._weak is not None:
            matches, hold = self._with_weak(self._weak, matches, hold, text, start, final)
        if not matches:
            return Scan((), hold)
        return Scan(tuple(map(self._finding, matches)), hold)

    def _with_weak(
        self, weak: Matcher, strong: list[Match], settled: int, text: str, start: int, final: bool
    ) -> tuple[list[Match], int]:
        """All matches that end before the hold of both, and that hold. None overlaps another; only strong ones can cross it."""
        found, hold = weak.scan(text, start, final, strong, settled)
        crossed = next((one.start for one in reversed(strong) if one.start < hold < one.end), hold)
        merged = sorted((*strong, *found), key=lambda one: one.end)
        return [one for one in merged if one.end <= crossed], crossed

    def _finding(self, match: Match) -> Finding:
        return Finding(
            self._id,
            self._categories[match.pattern],
            match.hit.entity or match.pattern.entity,
            match.hit.entity.lower() if match.hit.entity else match.pattern.name,
            match.hit.score,
            Span(match.start, match.end),
        )
