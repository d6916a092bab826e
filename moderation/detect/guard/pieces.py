"""A text in pieces that a service takes: cut where a sentence or a word ends if it can be, never inside what reads as one sign.

A piece begins some way before the last one ended, so that what stands across a cut is read whole. Length is counted in UTF-16
units, as services written in Java count it: a sign of the supplementary planes counts as two, so the count is never too low.
"""

from __future__ import annotations

import re
import unicodedata

OVERLAP = 64
"""Code points that two pieces share."""
_LOOK = 400
"""Code points before the limit in which a good place to cut is looked for."""
_SENTENCE = re.compile(r"[。！？｡…][\"'”’」』）】》]*|[.!?][\"'”’)\]]*(?=\s)|\n")
_WORD = re.compile(r"\s|[，、；：,;:](?=\D)")
_SIGN = 32
"""Code points: a sign with more marks than fit in here is nobody's word, and is cut like anything else."""
_JOINS = frozenset("\u200d\ufe0e\ufe0f")


def units(text: str) -> int:
    """The length in UTF-16 units."""
    return len(text) + sum(char > "\uffff" for char in text)


def pieces(text: str, limit: int | None, overlap: int = OVERLAP) -> tuple[str, ...]:
    """The text in pieces of at most `limit` units each, in order; as it is where it is short enough.

    Every piece is a stretch of the text, the pieces cover it, and each but the first begins at or before the last one's end.
    """
    if limit is None or units(text) <= limit:
        return (text,)
    if limit < 4:
        raise ValueError("a limit below four units cannot hold a sign and its marks")
    found: list[str] = []
    start = end = 0
    while units(text[start : start + limit]) > limit or start + limit < len(text):
        cut = _cut(text, start, _most(text, start, limit))
        if cut <= end:  # what two pieces share left no room for anything new
            start = end
            continue
        found.append(text[start:cut])
        end = cut
        back = max(end - min(overlap, (end - start) // 2), start + 1)
        start = _whole(text, start, back) if back < end else end
    found.append(text[start:])
    return tuple(found)


def _most(text: str, start: int, limit: int) -> int:
    """The last place up to which the text from `start` on has at most `limit` units."""
    taken, at = 0, start
    while at < len(text):
        taken += 2 if text[at] > "\uffff" else 1
        if taken > limit:
            break
        at += 1
    return at


def _cut(text: str, start: int, most: int) -> int:
    """Where to end a piece that may go up to `most`: after a sentence, else a word, else between two signs."""
    least = max(start + (most - start) // 2, most - _LOOK)
    for good in (_SENTENCE, _WORD):
        ends = [found.end() for found in good.finditer(text, least, most)]
        if ends and not _joined(text, ends[-1]):
            return ends[-1]
    return _whole(text, start, most)


def _whole(text: str, start: int, at: int) -> int:
    """The last place at or before `at`, and after `start`, that is not inside a sign and its marks; `at` where none is near."""
    least = max(start + 1, at - _SIGN)
    return next((place for place in range(at, least - 1, -1) if not _joined(text, place)), at)


def _joined(text: str, at: int) -> bool:
    """Whether the code points on both sides of a place read as one sign."""
    if not 0 < at < len(text):
        return False
    after, before = text[at], text[at - 1]
    return (
        after in _JOINS
        or before == "\u200d"
        or unicodedata.category(after) in ("Mn", "Me", "Mc")
        or "\U0001f3fb" <= after <= "\U0001f3ff"
    )
