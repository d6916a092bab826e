"""Turns: a long text is read in parts, so that nobody waits for it but who sent it. Knows neither threads nor detectors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from moderation.verdict import Unknown

TURN = 8
"""So many passages a window detector reads before others' work has its turn."""

T = TypeVar("T")
Q = TypeVar("Q")


async def by_turns(
    run: Callable[[Sequence[Q]], Awaitable[Sequence[T | Unknown] | Unknown]], batch: Sequence[Q], size: int
) -> Sequence[T | Unknown] | Unknown:
    """Have a batch run in parts, one after the other, each behind what waits by then. After a failure the rest is not tried."""
    answers: list[T | Unknown] = []
    for at in range(0, len(batch), size):
        found = await run(batch[at : at + size])
        if isinstance(found, Unknown):
            return [*answers, *[found] * (len(batch) - len(answers))]
        answers += found
    return answers
