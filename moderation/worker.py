"""`python -m moderation.worker`: one worker of `serve --workers N`. Only the supervisor starts it.

It is a whole sidecar with a log of its own; it takes sockets and configuration from the supervisor, and ends when that is gone.
"""

from __future__ import annotations

import asyncio
import pickle
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from moderation import process
from moderation.channel import Channel
from moderation.config import Config
from moderation.errors import ModerationError, Refused
from moderation.events import Say
from moderation.flow.loading import FileLoader
from moderation.flow.policies import Policies
from moderation.house import House
from moderation.metrics import Metrics, Snapshot
from moderation.oplog import place_of
from moderation.server import Ending

_BEAT = 1.0
"""Seconds between two signs of life."""
_PATIENCE = 5.0
"""Seconds that the supervisor has to tell what the others counted."""


class Worker:
    """One worker's end of the channel, and its crew."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        loop = asyncio.get_running_loop()
        self.counts: Mapping[str, int] = {"configured": config.workers, "ready": 0}
        self.versions: asyncio.Future[dict[str | None, str] | None] = loop.create_future()
        """The policies to begin with; None for what the files hold."""
        self.opened: asyncio.Future[House] = loop.create_future()
        self.may_serve, self.serves = asyncio.Event(), asyncio.Event()
        self.ending = Ending(commanded=True)
        self._metrics = metrics
        self.channel: Channel

    async def others(self, own: Snapshot) -> Sequence[Snapshot]:
        try:
            return list(await asyncio.wait_for(self.channel.ask("others", own), _PATIENCE))
        except (ConnectionError, TimeoutError):
            raise Refused("not_ready", "the supervisor does not tell what the other workers counted") from None

    async def renew(self, policies: Policies, *, force: bool) -> None:
        self.channel.tell("renew", force)

    async def answer(self, what: str, value: Any) -> object:
        """What the supervisor asks or tells."""
        match what:
            case "open":
                self.versions.set_result(None if value is None else {path or None: version for path, version in value.items()})
                return _named((await asyncio.shield(self.opened)).policies.versions)
            case "serve":
                self.may_serve.set()
                await self.serves.wait()
                return True
            case "prepare":
                return _named(await self.opened.result().policies.prepare(force=value))
            case "settle":
                policies = self.opened.result().policies
                await policies.settle([path or None for path in value["take"]], loud=value["loud"])
                return _named(policies.versions)
            case "settled":
                self.opened.result().policies.settled()
            case "counts":
                self.counts = value
            case "figures":
                self.channel.tell("figures", self._metrics.snapshot())  # in order with all other tellings, so that none is older
                return True
            case "cut":
                if self.ending.cut is not None:
                    self.ending.cut()
        return None

    async def beat(self) -> None:
        """Signs of life. They say what was counted, so that a worker that is killed leaves its figures."""
        while True:
            self.channel.tell("figures", self._metrics.snapshot())
            await self.channel.flush()
            await asyncio.sleep(_BEAT)


async def work(config: Config, control: int, listeners: Sequence[int], metrics: Metrics, say: Say) -> int:
    """Serve until told to stop or left alone; the exit code. What is in its way is told to the supervisor."""
    this = asyncio.current_task()
    assert this is not None
    worker = Worker(config, metrics)
    channel = worker.channel = await Channel.over(socket.socket(fileno=control), worker.answer)

    def end(reading: asyncio.Task[None] | None = None) -> None:
        error = None if reading is None or reading.cancelled() else reading.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None:
            say("task_failed", kind=type(error).__name__, place=place_of(error))
        if worker.ending.drain is not None:
            worker.ending.drain()
        else:
            this.cancel()

    reading, beating = asyncio.create_task(channel.run()), asyncio.create_task(worker.beat())
    reading.add_done_callback(end)  # the supervisor is gone
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    channel.tell("here")
    try:
        versions = await worker.versions
        loader = FileLoader(config.cache, metrics, say=say)
        house = await House.open(config, metrics, loader, say, tracing=process.traces(say), crew=worker, versions=versions)
        worker.opened.set_result(house)
        try:
            await worker.may_serve.wait()
            await house.serve([socket.socket(fileno=one) for one in listeners], worker.serves.set, worker.ending)
        finally:
            await house.close()
        return house.stopped()
    except ModerationError as error:
        channel.tell("failed", str(error))
        return error.exit_code
    finally:
        reading.remove_done_callback(end)
        for task in (beating, reading):
            task.cancel()
        await asyncio.gather(beating, reading, return_exceptions=True)


def _named(versions: Mapping[str | None, str | None]) -> dict[str, str | None]:
    """By file; "" is the default policy, for JSON has no other name for it."""
    return {path or "": version for path, version in versions.items()}


def main() -> int:
    # A signal that is meant for a group of processes must not end a worker that is only coming up.
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    try:
        config, number, control, listeners = pickle.load(sys.stdin.buffer)
    except EOFError:
        return 2  # nobody said what to do
    try:
        return process.run(config.log_level, partial(work, config, control, listeners), process.quick(), number)
    except asyncio.CancelledError:
        return 0  # told to end before it served


if __name__ == "__main__":
    sys.exit(main())
