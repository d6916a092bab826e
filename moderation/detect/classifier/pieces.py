"""A passage in pieces that a model takes: whole sentences up to a number of tokens, each with the sentences before it that fit.

Pure. Linear in length: two pieces that follow each other bring more new tokens than one can hold, but where a sentence is cut.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from moderation.sentence import windows


class Piece(NamedTuple):
    """Places among the tokens: it is read from `begin` on, and judges what stands from `start` to `end`."""

    begin: int
    start: int
    end: int


def pieces(sentences: Sequence[int], new: int, count: int, room: int) -> Iterator[Piece]:
    """`sentences`: the token at which each sentence starts, ascending; `new`: the first token that is to be judged.

    A sentence that is longer than `room` is cut, and each of its pieces but the first begins with the end of the one before.
    """
    starts = sorted({new, *(one for one in sentences if one < count)})
    part = max(1, room * 3 // 4)
    start = new
    while start < count:
        at = bisect_right(starts, start) - 1
        inside = starts[at] < start
        most = part if inside else room
        end = count
        if count - start > most:
            last = starts[bisect_right(starts, start + most) - 1]
            end = last if last > start else start + part
        begin = max(starts[at], end - room) if inside else starts[bisect_left(starts, end - room)]
        yield Piece(begin, start, end)
        start = end


def flat(before: str, text: str) -> tuple[str, int, list[int]]:
    """Both as one text in which each run of white space is one space, where `text` begins in it, and where its sentences do."""
    made, starts = "", list[int]()
    new = 0
    for part in (before, text):
        new = len(made)
        for span in windows(part, 1):
            words = " ".join(part[span.start : span.end].split())
            if words:
                starts.append(len(made))
                made += words + " " * part[span.end - 1].isspace()
    return made.rstrip(), new, starts
