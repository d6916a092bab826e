"""The supervisor of `serve --workers N`: holds the sockets, starts workers and starts them again, and lets them act as one.

It answers no request and has neither policy nor log. What workers must do together goes through it: a change of policies in two
steps (all read and test, then all take), the sum of what they counted, and the end.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from moderation.channel import Channel
from moderation.config import Config
from moderation.errors import ModerationError
from moderation.events import Say
from moderation.listening import address, listeners, pages_off
from moderation.metrics import Metrics, Snapshot
from moderation.oplog import place_of

Versions = Mapping[str, str]
"""The hash of the policy that decides, by file; "" is the default policy."""

_BEAT = 1.0
"""Seconds between two looks at the workers."""
_SILENT = 30
"""Beats without a sign of a worker until it is killed."""
_BOOT = 120
"""The same until its first sign."""
_GRACE = 15.0
"""Seconds beyond the drain that a worker may take to end."""
_FRESH = 0.5
"""Seconds that workers have to tell what they counted; of one that is slower its last figures count."""
_RESTS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds until a worker that ended is started again: first where it had served, then for each time in a row that it did not.
The last one holds for all that follow."""
_COMMAND = (sys.executable, "-P", "-m", "moderation.worker")


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process, as the supervisor sees it."""

    number: int
    process: asyncio.subprocess.Process
    channel: Channel
    silent: int = _SILENT - _BOOT
    figures: Snapshot = field(default_factory=dict)
    here: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it can be told something."""
    late: bool = False
    """The policies changed while it opened: it is to be started again with the new ones."""
    why: str | None = None
    """What it said was in its way."""

    def signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


async def supervise(config: Config, metrics: Metrics, say: Say, ready: Callable[[str], None]) -> int:
    """Serve with several workers until told to stop; the exit code. `ready` is told the address once all answer requests.

    Raises ModerationError, with the exit code of the worker that could not start, where they cannot.
    """
    sockets = listeners(config)
    if pages_off(config):
        say("admin_off")
    where = address(config, sockets)
    return await Supervisor(config, metrics, sockets, say, lambda: ready(where)).run()


class Supervisor:
    """All workers of one sidecar."""

    def __init__(
        self, config: Config, metrics: Metrics, sockets: list[socket.socket], say: Say, ready: Callable[[], None],
        command: Sequence[str] = _COMMAND, rests: Sequence[float] = _RESTS,
    ) -> None:
        self._config, self._sockets, self._say, self._all_ready = config, sockets, say, ready
        self._command, self._rests, self._code, self._why = command, rests, 0, ""
        self._workers: list[Worker] = []
        self._serving: list[Worker] = []
        self._versions: Versions | None = None
        self._known = asyncio.Event()
        """Set with the first `_versions`: the first worker reads the files, the others take the same versions."""
        self._complete = False
        """All workers have served at once. Before that a worker that fails ends everything; after it, it is started again."""
        self._turn = asyncio.Lock()
        """INVARIANT: held while a worker joins and while policies change, so all that serve decide by `_versions`."""
        self._reload, self._force = asyncio.Event(), False
        self._stop = asyncio.Event()
        self._past = metrics
        """What the supervisor counts itself, and what workers that are gone had counted."""
        self._past.set("workers", config.workers, "configured")

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._renew, True)
        chores = [self._background(self._reloads()), self._background(self._look())]
        await asyncio.gather(*(self._keep(number) for number in range(1, self._config.workers + 1)))
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        if self._why:
            error = ModerationError(self._why)
            error.exit_code = self._code
            raise error
        return self._code

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have something done; what goes wrong with it is told."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._heard)
        return task

    def _heard(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None:
            self._say("task_failed", kind=type(error).__name__, place=place_of(error))

    # ---- one worker ----------------------------------------------------------------------------------------------

    async def _keep(self, number: int) -> None:
        """Have a worker of this number, until the end."""
        failures = 0
        while not self._stop.is_set():
            try:
                worker = await self._start(number)
            except OSError as error:  # no memory, process or descriptor to be had: no reason to end those that serve
                await self._unstarted(number, error.strerror or "", failures := failures + 1)
                continue
            served, code = await self._live(worker)
            if worker.late and not self._stop.is_set():
                continue
            if self._stop.is_set() or not self._complete:
                if not self._stop.is_set():
                    self._fail(_exit_code(code), worker.why or f"worker {number} {_ended(code)}")
                elif code != -signal.SIGTERM:  # that is how one ends that had only begun to start
                    self._code = self._code or _exit_code(code)
                return
            self._past.add("worker_restarts")
            failures = 0 if served else failures + 1
            how = _ended(code) + (f": {worker.why}" if worker.why else "")
            self._say("worker_ended", worker=number, how=how, wait=self._rest(failures))
            await self._pause(self._rest(failures))

    async def _unstarted(self, number: int, why: str, failures: int) -> None:
        if self._complete:
            self._say("worker_unstarted", worker=number, why=why, wait=self._rest(failures))
            await self._pause(self._rest(failures))
        elif not self._stop.is_set():
            self._fail(os.EX_OSERR, f"worker {number} cannot be started: {why}")

    def _fail(self, code: int, why: str) -> None:
        """Not all have come up: end, and say why."""
        self._code, self._why = code, why
        self.stop()

    def _rest(self, failures: int) -> float:
        """Seconds until a worker that has failed so many times in a row is started again."""
        return self._rests[min(failures, len(self._rests) - 1)]

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), seconds)

    async def _start(self, number: int) -> Worker:
        """A new process of the same interpreter: nothing of this one's memory, threads or locks goes over. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            shared = [theirs.fileno(), *(one.fileno() for one in self._sockets)]
            try:
                process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=asyncio.subprocess.PIPE, pass_fds=shared,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                    process_group=0,  # Ctrl-C reaches the supervisor alone, which then drains the workers
                )
            except OSError:
                ours.close()
                raise
        assert process.stdin is not None
        # The configuration goes over as it is, for its file may have changed since.
        process.stdin.write(pickle.dumps((self._config, number, shared[0], shared[1:])))
        process.stdin.close()

        async def answer(what: str, value: Any) -> object:
            return await self._answer(worker, what, value)

        worker = Worker(number, process, await Channel.over(ours, answer))
        self._workers.append(worker)
        if self._stop.is_set():
            worker.signal(signal.SIGTERM)
        return worker

    async def _live(self, worker: Worker) -> tuple[bool, int]:
        """From the start of a worker to its end: whether it came to serve, and its return code."""
        reading, joining = self._background(worker.channel.run()), self._background(self._join(worker))
        code = await worker.process.wait()
        await asyncio.wait([reading], timeout=_BEAT)  # what it still told
        for task in (reading, joining):
            task.cancel()
        await asyncio.gather(reading, joining, return_exceptions=True)
        self._past.absorb(worker.figures, gauges=False)
        self._workers.remove(worker)
        served = worker in self._serving
        if served:
            self._serving.remove(worker)
            self._tell_counts()
        return served, code

    async def _join(self, worker: Worker) -> None:
        """Let a worker open its log and its policies, and serve once it decides as the others do."""
        with suppress(ConnectionError):  # it has ended, and `_live` sees to that
            await worker.here.wait()
            if worker.number > 1:
                await self._known.wait()
            versions = await worker.channel.ask("open", self._versions)
            async with self._turn:
                if self._versions is None:
                    self._versions = versions
                    self._known.set()
                if versions != self._versions:
                    worker.late = True
                    worker.signal(signal.SIGTERM)
                    return
                await worker.channel.ask("serve")
                self._serving.append(worker)
                self._tell_counts()
                self._renew(False)  # what the files hold may be newer, or broken
            if len(self._serving) == self._config.workers and not self._complete:
                self._complete = True
                self._all_ready()

    async def _look(self) -> None:
        """Kill a worker that gives no sign: it holds connections and answers none."""
        while True:
            await asyncio.sleep(_BEAT)
            for worker in self._workers:
                worker.silent += 1
                if worker.silent == _SILENT:
                    self._kill(worker, "gives no sign of life")

    # ---- what they do together -----------------------------------------------------------------------------------

    async def _answer(self, worker: Worker, what: str, value: Any) -> object:
        worker.silent = 0
        match what:
            case "here":
                worker.here.set()
            case "figures":
                worker.figures = value
            case "failed":
                worker.why = value
            case "renew":
                self._renew(value)
            case "others":
                worker.figures = value
                return await self._others(worker)
        return None

    def _renew(self, force: bool) -> None:
        self._force = self._force or force
        self._reload.set()

    async def _reloads(self) -> None:
        while True:
            await self._reload.wait()
            force, self._force = self._force, False
            self._reload.clear()
            async with self._turn:
                await self._change(force)

    async def _change(self, force: bool) -> None:
        """Change policies in all workers or in none: each reads and tests, and what all can take, all take."""
        offers: dict[Worker, dict[str, str | None]] = await self._ask(self._serving, "prepare", lambda _: force)
        if not offers:
            return
        agreed = _agreed(offers.values())
        speaker = next((one for one, offer in offers.items() if None in offer.values()), next(iter(offers)))
        done: dict[Worker, Versions] = await self._ask(
            offers, "settle", lambda worker: {"take": list(agreed), "loud": worker is speaker}
        )
        wanted = {**(self._versions or {}), **agreed}
        if wanted in done.values():
            self._versions = wanted
        if all(versions == self._versions for versions in done.values()):
            for worker in done:
                worker.channel.tell("settled")

    async def _others(self, asking: Worker) -> list[Snapshot]:
        """What all others have counted. Whoever does not say so at once is known by what it said last."""
        others = [worker for worker in self._workers if worker is not asking and worker.here.is_set()]
        fresh = await self._ask(others, "figures", lambda _: None, _FRESH)
        self._past.set("workers", len(self._serving), "ready")
        self._past.set("workers", 1 + len(fresh), "answered")
        return [self._past.snapshot(), *(worker.figures for worker in self._workers if worker is not asking)]

    async def _ask(
        self, workers: Iterable[Worker], what: str, value: Callable[[Worker], object], seconds: float | None = None
    ) -> dict[Worker, Any]:
        """The answers of those that give one (in this time)."""

        async def one(worker: Worker) -> Any:
            with suppress(ConnectionError, TimeoutError):
                return await asyncio.wait_for(worker.channel.ask(what, value(worker)), seconds)
            return None

        asked = list(workers)
        answers = await asyncio.gather(*map(one, asked))
        return {worker: answer for worker, answer in zip(asked, answers, strict=True) if answer is not None}

    def _tell_counts(self) -> None:
        for worker in self._workers:
            worker.channel.tell("counts", {"configured": self._config.workers, "ready": len(self._serving)})

    # ---- the end -------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let all workers drain; called once more, let them end at once."""
        cut, seconds = self._stop.is_set(), _GRACE
        if not cut:
            self._stop.set()
            seconds += self._config.drain
            for one in self._sockets:
                one.close()
        for worker in self._workers:
            if cut:
                worker.channel.tell("cut")
            worker.signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(seconds, self._end)

    def _end(self) -> None:
        for worker in self._workers:
            self._kill(worker, "does not end")

    def _kill(self, worker: Worker, why: str) -> None:
        self._say("worker_killed", worker=worker.number, process=worker.process.pid, why=why)
        worker.signal(signal.SIGKILL)


def _agreed(offers: Iterable[Mapping[str, str | None]]) -> dict[str, str]:
    """The versions that every worker can take, by file."""
    first, *more = offers
    return {path: version for path, version in first.items()
            if version is not None and all(offer.get(path) == version for offer in more)}


def _exit_code(code: int) -> int:
    """A process that a signal ended counts as a shell counts it."""
    return code if code >= 0 else 128 - code


def _ended(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"
