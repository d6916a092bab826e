"""From labels of tokens to marked stretches of a text. Pure.

Labels are plain (`PERSON`) or say where in a name a token stands: B-, I-, E-, S- before it (IOB, BIOES); `O` is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from moderation.text import Span

OUTSIDE = "O"
_FIRST, _LAST = ("B", "S"), ("E", "S")


@dataclass(frozen=True, slots=True)
class Marked:
    label: str
    """Without what says where a token stands."""
    chance: float
    """0 to 1; of a stretch the mean of its tokens'."""
    span: Span | None


def plain(label: str) -> str:
    """A label without what says where in a name its token stands."""
    where, dash, rest = label.partition("-")
    return rest if dash and rest and where in ("B", "I", "E", "S", "L", "U") else label


def joined(
    text: str, places: Sequence[tuple[int, int]], rows: Sequence[Sequence[float]], labels: Sequence[str]
) -> Iterator[Marked]:
    """The stretches that tokens of one label make up. A token at (0, 0) is not of the text.

    `labels` are those of the columns, as the model has them.
    """
    names = [plain(label) for label in labels]
    start = end = 0
    name: str | None = None
    closed = False
    chances: list[float] = []

    def made() -> Iterator[Marked]:
        shown = text[start:end]
        left, right = len(shown) - len(shown.lstrip()), len(shown) - len(shown.rstrip())
        if name is not None and left + right < len(shown):
            yield Marked(name, sum(chances) / len(chances), Span(start + left, end - right))

    for (begin, stop), row in zip(places, rows, strict=True):
        if begin >= stop:
            continue
        best = max(range(len(row)), key=row.__getitem__)
        label, where = names[best], labels[best].partition("-")[0] if names[best] != labels[best] else "I"
        chance = sum(value for value, one in zip(row, names, strict=True) if one == label)
        if label == name and not closed and where not in _FIRST and not text[end:begin].strip():
            end = stop
            chances.append(chance)
        else:
            yield from made()
            name = None if label == OUTSIDE else label
            start, end, chances = begin, stop, [chance]
        closed = where in _LAST
    yield from made()
