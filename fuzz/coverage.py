"""Which lines of moderation/ an input reaches that none before it did. A line that was seen costs nothing more.

On `sys.settrace`, for it is there in every Python that this runs on. Only calls are seen once a function's lines are all known;
so a run under it is slower at first, and nearly as fast as any later.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import moderation

HOUSE = str(Path(moderation.__file__).parent)
PATIENCE = 400
"""Calls of a function without a line that is new, after which it is taken for known: some lines are hard to reach."""

_Local = Callable[[FrameType, str, Any], Any]


class Coverage:
    """Use it as a context around a run; `fresh` then says how many lines were new."""

    def __init__(self) -> None:
        self.seen: set[tuple[CodeType, int]] = set()
        self._left: dict[CodeType, int] = {}
        """How often a function is still watched."""
        self.fresh = 0

    def __enter__(self) -> Coverage:
        self.fresh = 0
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, arg: Any) -> _Local | None:
        code = frame.f_code
        left = self._left.get(code)
        if left is None:
            left = PATIENCE if code.co_filename.startswith(HOUSE) else 0
        if not left:
            self._left[code] = 0
            return None
        self._left[code] = left - 1
        return self._line

    def _line(self, frame: FrameType, event: str, arg: Any) -> _Local:
        if event == "line":
            place = frame.f_code, frame.f_lineno
            if place not in self.seen:
                self.seen.add(place)
                self.fresh += 1
                self._left[frame.f_code] = PATIENCE
        return self._line
