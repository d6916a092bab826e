"""What a target is: seeds, words of its format, and a run that raises where its law is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from zlib import crc32


class LawBroken(AssertionError):
    """The input was taken, and what came of it is not what must hold."""


def law(holds: bool, what: str) -> None:
    """Not `assert`: it must hold under `python -O` as well."""
    if not holds:
        raise LawBroken(what)


Run = Callable[[bytes], str]
"""Give an input to the code. Returns the outcome in a word or two (an error's code, what was read), for inputs with an outcome of
their own are worth keeping; any exception is a finding."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that reads what others wrote."""

    name: str
    law: str
    """What must hold for every input, in a sentence."""
    seeds: Callable[[], Sequence[bytes]]
    prepare: Callable[[], Run]
    """Made once, for a run may need a policy or a folder."""
    words: tuple[bytes, ...] = ()
    """Of its format, beside those that every target gets."""
    seconds: float = 5.0
    """An input that takes longer is a finding."""
    longest: int = 16 << 10
    """Bytes of an input."""


def dice(data: bytes) -> Random:
    """Chance that is the input's own, so that the input alone repeats a run."""
    return Random(crc32(data))


def cut(data: bytes, random: Random, most: int = 8) -> list[bytes]:
    """The same bytes in chunks, some of them empty."""
    places = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(most + 1)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def cut_text(text: str, random: Random, most: int = 8) -> list[str]:
    places = sorted(random.randrange(len(text) + 1) for _ in range(random.randrange(most + 1)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def loose(data: bytes) -> str:
    """Any bytes as a text: UTF-8 where it is that, with surrogates where it says so, and something wherever it does not."""
    return data.decode("utf-8", "surrogatepass") if _is_loose(data) else data.decode("utf-8", "replace")


def _is_loose(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
