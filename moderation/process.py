"""What every process of a sidecar has: figures, an operational log, an event loop, traces. Knows not what it does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from moderation import oplog
from moderation.events import Say
from moderation.heap import few_arenas
from moderation.metrics import Metrics

if TYPE_CHECKING:
    from moderation.tracing import Tracing

Work = Callable[[Metrics, Say], Coroutine[Any, Any, int]]
"""What a process does, to its exit code."""
Loop = Callable[[], asyncio.AbstractEventLoop]


def run(level: str, work: Work, loop: Loop | None = None, worker: int | None = None) -> int:
    """Work to the end; the exit code. Meanwhile stderr holds the operational log alone, from this level on.

    `worker`: its number, where there are several, which each of its lines has.
    """
    few_arenas()
    metrics = Metrics()
    say, writer = oplog.opened(
        level, dropped=lambda lines: metrics.add("oplog_dropped", amount=lines),
        count=lambda level: metrics.add("oplog_lines", level), worker=worker,
    )
    try:
        with oplog.listening(say, level), asyncio.Runner(loop_factory=loop) as runner:
            oplog.hear_loop(runner.get_loop(), say)
            return runner.run(work(metrics, say))
    finally:
        writer.close()


def quick() -> Loop | None:
    """uvloop's event loop, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def traces(say: Say) -> Tracing:
    """Traces as the standard variables ask for them; without them the sidecar runs as well."""
    from moderation import tracing

    try:
        found = tracing.from_environ(os.environ)
    except tracing.TracingMissing as missing:
        say("tracing_off", why=str(missing))
        return tracing.NoTracing()
    if not isinstance(found, tracing.NoTracing):
        say("tracing")
    return found
