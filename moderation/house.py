"""The house of one running sidecar: builds every part from a configuration, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from moderation import __version__
from moderation.audit.bundle import Bundles
from moderation.audit.clock import Clock, SystemClock
from moderation.audit.disk import Disk
from moderation.audit.store import Log
from moderation.config import Config
from moderation.crew import Alone, Crew
from moderation.desk import Desk
from moderation.errors import LogError, UsageError
from moderation.events import Say
from moderation.flow.admission import BEAT, Admission
from moderation.flow.chat import Chat
from moderation.flow.ledger import Ledger
from moderation.flow.loading import FileLoader
from moderation.flow.policies import Policies
from moderation.listening import address, listeners, pages_off
from moderation.metrics import Metrics
from moderation.pulse import Pulse
from moderation.routes import Route
from moderation.server import Ending, Sidecar, listen
from moderation.tracing import NoTracing, Tracing
from moderation.ulid import ulid
from moderation.upstream import Reach, Timeouts, Upstream

PAGES = Path(__file__).parent / "pages"
WATCH = 0.5
"""Seconds between looks at the policy files."""
COLLECT = (10_000, 20, 20)
"""Containers made before the youngest are looked through for cycles, which a request makes none of, and so on up."""
SWITCH = 0.001
"""Seconds that one thread may keep the interpreter from the others."""


class Upstreams:
    """One Upstream for each base URL of the configuration."""

    def __init__(self, config: Config) -> None:
        times = Timeouts(config.connect_timeout, config.first_byte_timeout, config.idle_timeout, config.total_timeout)
        reach = Reach(
            config.upstream_ca, config.upstream_client_cert, config.upstream_client_key, config.upstream_proxy,
            config.upstream_proxy_auth, config.upstream_connections,
        )
        self._of = {
            route.upstream: Upstream(route.upstream, times, buffer=config.stream_buffer, reach=reach) for route in config.routes
        }

    def __call__(self, route: Route) -> Upstream:
        return self._of[route.upstream]

    async def close(self) -> None:
        for upstream in self._of.values():
            await upstream.close()


def new_id(clock: Clock) -> str:
    """A request id: the time and 80 random bits. A clock that says a time before 1970 is told as 1970."""
    return ulid(max(0, clock.wall() // 1000), os.urandom(10))


def check(config: Config) -> None:
    """What can only be told of a whole configuration. Raises UsageError."""
    if sys.platform not in ("linux", "darwin"):
        raise UsageError(f"moderation runs on Linux, and on macOS for development; this is {sys.platform}")
    if not config.routes:
        raise UsageError("there is no upstream: give --upstream URL, MODERATION_UPSTREAM, or `upstream` in moderation.yaml")


@dataclass(slots=True)
class House:
    """All parts of one process. `open` brings them up in order, `close` takes them down in the other."""

    config: Config
    log: Log
    metrics: Metrics
    policies: Policies
    loader: FileLoader
    upstreams: Upstreams
    sidecar: Sidecar
    crew: Crew
    say: Say
    tracing: Tracing
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    async def open(
        cls, config: Config, metrics: Metrics, loader: FileLoader, say: Say, disk: Disk | None = None,
        tracing: Tracing | None = None, clock: Clock | None = None, crew: Crew | None = None,
        versions: Mapping[str | None, str] | None = None,
    ) -> House:
        """Open the log, load the policies, of these versions if given. Raises UsageError or LogError, and leaves nothing open."""
        crew = crew or Alone()
        check(config)
        clock = clock or SystemClock()
        metrics.know("route", (route.name for route in config.routes))
        data = Path(config.data)
        keys = Path(config.keys) if config.keys else None

        def batch(leaves: int, seconds: float) -> None:
            metrics.observe("log_batch_leaves", leaves)
            metrics.observe("log_sync_seconds", seconds)

        log = await asyncio.to_thread(
            lambda: Log.open(
                data, keys=keys, origin=config.origin, version=__version__, disk=disk, clock=clock, observe=batch,
                count=lambda kind, leaves: metrics.add("log_leaves", kind, amount=leaves),
            )
        )
        try:
            policies = Policies(loader, log, Bundles(data, disk), metrics, __version__, say)
            await policies.start([route.policy or config.policy for route in config.routes], versions)
        except BaseException:
            await log.close()
            raise
        upstreams = Upstreams(config)
        ledger = Ledger(log, log.fingerprint_key, os.urandom, __version__)
        chat = Chat(config, ledger, metrics, upstreams, lambda: clock.wall() // 1_000_000, time.monotonic)
        desk = Desk(config, policies, ledger, metrics, lambda: log.latched, lambda: sidecar.draining, PAGES, crew)
        tracing = tracing or NoTracing()
        admission = Admission(
            config.max_streams, config.max_memory, config.max_wait, clock=time.monotonic,
            refused=lambda reason: metrics.add("admission_refused", reason),
            waited=lambda seconds: metrics.observe("queueing_seconds", seconds),
        )
        name = partial(new_id, clock)
        verbose = config.log_level == "debug"
        sidecar = Sidecar(config, chat, desk, metrics, upstreams, name, say, admission, tracing, verbose)
        house = cls(config, log, metrics, policies, loader, upstreams, sidecar, crew, say, tracing)
        metrics.know("version", (__version__,))
        metrics.only("build_info", ((__version__,),))
        metrics.sample(house.sample)
        return house

    def sample(self) -> None:
        """Set the gauges that stand elsewhere already."""
        put = self.metrics.set
        waiting, lost = self.loader.load
        put("in_flight", self.sidecar.in_flight)
        put("detector_queue", waiting)
        put("detector_threads_lost", lost)
        put("tasks", len(asyncio.all_tasks()))
        put("cache_bytes", self.loader.cached)
        self.metrics.only("detector_stand_in", {(name,) for active in self.policies.every.values() for name in active.instead})
        put("ready", self.sidecar.desk.readiness()[1])
        put("policy_rejected", len(self.policies.faults))
        put("log_failed", self.log.latched is not None)
        put("log_queue", self.log.waiting)
        unsigned = self.log.unsigned
        put("held_bytes", self.sidecar.admission.held)
        put("log_unsigned_leaves", unsigned)
        with contextlib.suppress(OSError):  # the folder is gone; the log says so itself
            signed_at = (self.log.folder / "checkpoint").stat().st_mtime
            # An idle log signs nothing: its age must not stand for that of another worker's log.
            put("log_checkpoint_timestamp_seconds", signed_at if unsigned else time.time())
            room = os.statvfs(self.log.folder)
            put("log_disk_free_bytes", room.f_bavail * room.f_frsize)
            put("log_disk_free_inodes", room.f_favail)

    def reload(self) -> None:
        """Read the policies again, in the background."""
        self._background(asyncio.create_task(self.crew.renew(self.policies, force=True)))

    def watch(self) -> None:
        """Look for changed policy files, and after the log and the loop, in the background."""
        changed = partial(self.crew.renew, self.policies, force=False)
        self._background(asyncio.create_task(self.policies.watch(WATCH, changed)))
        pulse = Pulse(lambda: self.log.latched, self.say, lambda late: self.metrics.observe("loop_lag_seconds", late))
        self._background(asyncio.create_task(pulse.beat(WATCH)))
        self._background(asyncio.create_task(self._beat()))

    async def _beat(self) -> None:
        """Let admission see, for ever, how long the event loop takes to come round."""
        while True:
            self.sidecar.admission.beat()
            await asyncio.sleep(BEAT)

    async def serve(self, sockets: list[socket.socket], ready: Callable[[], None], ending: Ending | None = None) -> None:
        """Answer requests until told to stop."""
        self.watch()
        # What stands now stays: without this, each full collection walks all of it and stops every stream for some 40 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT)
        # A detector's thread gives the interpreter back after this, so that no stream waits long for a long prompt.
        sys.setswitchinterval(SWITCH)
        await listen(self.sidecar, sockets, drain=self.config.drain, ready=ready, reload=self.reload, ending=ending)

    def _background(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop watching, close the connections, then the log with its last checkpoint."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.upstreams.close()
        await self.loader.end()
        self.loader.close()
        try:
            await self.log.close()
        except LogError as error:
            self.say("log_failed", why=str(error))
        await asyncio.to_thread(self.tracing.close)

    def stopped(self) -> int:
        """Say that all is closed; the exit code."""
        self.say("stopped", in_flight=self.sidecar.in_flight)
        return 74 if self.log.latched is not None else 0


async def run(
    config: Config, metrics: Metrics, say: Say, ready: Callable[[str], None], tracing: Tracing | None = None
) -> int:
    """Serve until told to stop; the exit code. `ready` is told the address once requests are answered."""
    house = await House.open(config, metrics, FileLoader(config.cache, metrics, say=say), say, tracing=tracing)
    try:
        sockets = listeners(config)
        if pages_off(config):
            say("admin_off")
        await house.serve(sockets, lambda: ready(address(config, sockets)))
    finally:
        await house.close()
    return house.stopped()
