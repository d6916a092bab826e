"""The detector of kind `patterns`: named patterns of the catalogue and expressions that officers wrote.

Knows nothing of policies: it is handed patterns, and a category for each.
"""

from __future__ import annotations

from collections.abc import Sequence

from moderation.detect.api import Scan
from moderation.detect.matcher import Matcher, Pattern
from moderation.text import Span
from moderation.verdict import Finding


class Patterns:
    """A local detector (detect/api.py) over any patterns."""

    def __init__(self, id: str, patterns: Sequence[Pattern], categories: Sequence[str]) -> None:
        """`categories` has one for each pattern. Raises detect.regex.BadRegex."""
        self._id = id
        self._matcher = Matcher(patterns)
        self._categories = dict(zip(patterns, categories, strict=True))

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        return tuple(self._categories)

    @property
    def id(self) -> str:
        return self._id

    @property
    def version(self) -> str:
        return self._matcher.version

    @property
    def behind(self) -> int:
        return self._matcher.behind

    @property
    def reach(self) -> int:
        return self._matcher.reach

    def scan(self, text: str, start: int, final: bool) -> Scan:
        matches, hold = self._matcher.scan(text, start, final)
        if not matches:
            return Scan((), hold)
        return Scan(
            tuple(
                Finding(
                    self._id,
                    self._categories[match.pattern],
                    match.hit.entity or match.pattern.entity,
                    match.hit.entity.lower() if match.hit.entity else match.pattern.name,
                    match.hit.score,
                    Span(match.start, match.end),
                )
                for match in matches
            ),
            hold,
        )
