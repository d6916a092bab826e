"""Leaves on their way to the log, and who waits for them, in whatever event loop. Knows nothing of files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moderation.audit.canon import CanonError
from moderation.audit.leaf import Value
from moderation.errors import LogError

Bodies = Sequence[Mapping[str, Value]]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Leaves on their way, and who waits for them."""

    bodies: Bodies
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[int]


def tell(results: Sequence[tuple[Waiting, int | CanonError | LogError]]) -> None:
    """Hand results to the loops that wait for them; one call a loop."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[int], int | CanonError | LogError]]] = {}
    for waiting, result in results:
        loops.setdefault(waiting.loop, []).append((waiting.done, result))
    for loop, settled in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits
            loop.call_soon_threadsafe(_settle, settled)


def _settle(settled: Sequence[tuple[asyncio.Future[int], int | CanonError | LogError]]) -> None:
    for done, result in settled:
        if done.done():
            continue  # cancelled by its caller; the leaf stays
        if isinstance(result, int):
            done.set_result(result)
        else:
            done.set_exception(result)
