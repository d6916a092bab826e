"""The house of one running sidecar: builds every part from a configuration, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from moderation import __version__
from moderation.audit.bundle import Bundles
from moderation.audit.disk import Disk
from moderation.audit.store import Log
from moderation.config import Config
from moderation.desk import Desk
from moderation.errors import LogError, UsageError
from moderation.events import Say
from moderation.flow.chat import Chat
from moderation.flow.ledger import Ledger
from moderation.flow.loading import FileLoader
from moderation.flow.policies import Policies
from moderation.metrics import Metrics
from moderation.pulse import Pulse
from moderation.routes import Route
from moderation.server import Sidecar, bind, listen
from moderation.tracing import NoTracing, Tracing
from moderation.ulid import ulid
from moderation.upstream import Timeouts, Upstream

PAGES = Path(__file__).parent / "pages"
WATCH = 0.5
"""Seconds between looks at the policy files."""
COLLECT = (10_000, 20, 20)
"""Containers made before the youngest are looked through for cycles, which a request makes none of, and so on up."""
SWITCH = 0.001
"""Seconds that one thread may keep the interpreter from the others."""
ARENAS = 2
"""Heaps of the C library, which gives each thread one of its own up to 8 a processor."""
_M_ARENA_MAX = -8  # mallopt(3)


class Upstreams:
    """One Upstream for each base URL of the configuration."""

    def __init__(self, config: Config) -> None:
        times = Timeouts(config.connect_timeout, config.first_byte_timeout, config.idle_timeout, config.total_timeout)
        self._of = {
            route.upstream: Upstream(route.upstream, times, buffer=config.stream_buffer, ca_file=config.upstream_ca)
            for route in config.routes
        }

    def __call__(self, route: Route) -> Upstream:
        return self._of[route.upstream]

    async def close(self) -> None:
        for upstream in self._of.values():
            await upstream.close()


def few_arenas() -> None:
    """Have all threads share a few heaps: each in which a policy was built once would keep the room for it, some 50 MB.

    Where the C library has no such setting (musl, macOS), nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def new_id() -> str:
    """A request id: the time and 80 random bits."""
    return ulid(time.time_ns() // 1_000_000, os.urandom(10))


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
    say: Say
    tracing: Tracing
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    async def open(
        cls, config: Config, metrics: Metrics, loader: FileLoader, say: Say, disk: Disk | None = None,
        tracing: Tracing | None = None,
    ) -> House:
        """Open the log, load the policies. Raises UsageError or LogError, and leaves nothing open then."""
        check(config)
        metrics.know("route", (route.name for route in config.routes))
        data = Path(config.data)
        keys = Path(config.keys) if config.keys else None

        def batch(leaves: int, seconds: float) -> None:
            metrics.observe("log_batch_leaves", leaves)
            metrics.observe("log_sync_seconds", seconds)

        log = await asyncio.to_thread(
            lambda: Log.open(
                data, keys=keys, origin=config.origin, version=__version__, disk=disk, observe=batch,
                count=lambda kind, leaves: metrics.add("log_leaves", kind, amount=leaves),
            )
        )
        try:
            policies = Policies(loader, log, Bundles(data), metrics, __version__, say)
            await policies.start([route.policy or config.policy for route in config.routes])
        except BaseException:
            await log.close()
            raise
        upstreams = Upstreams(config)
        ledger = Ledger(log, log.fingerprint_key, os.urandom, __version__)
        chat = Chat(config, ledger, metrics, upstreams, lambda: int(time.time()), time.monotonic)
        desk = Desk(config, policies, ledger, metrics, lambda: log.latched, lambda: sidecar.draining, PAGES)
        tracing = tracing or NoTracing()
        sidecar = Sidecar(config, chat, desk, metrics, upstreams, new_id, say, tracing, config.log_level == "debug")
        house = cls(config, log, metrics, policies, loader, upstreams, sidecar, say, tracing)
        metrics.know("version", (__version__,))
        metrics.only("build_info", ((__version__,),))
        metrics.sample(house.sample)
        return house

    def sample(self) -> None:
        """Set the gauges that stand elsewhere already."""
        put = self.metrics.set
        waiting, lost = self.loader.load
        put("detector_queue", waiting)
        put("detector_threads_lost", lost)
        put("tasks", len(asyncio.all_tasks()))
        put("cache_bytes", self.loader.cached)
        put("ready", self.sidecar.desk.readiness()[1])
        put("policy_rejected", len(self.policies.faults))
        put("log_failed", self.log.latched is not None)
        put("log_queue", self.log.waiting)
        put("log_unsigned_leaves", self.log.unsigned)
        with contextlib.suppress(OSError):  # the folder is gone; the log says so itself
            put("log_checkpoint_timestamp_seconds", (self.log.folder / "checkpoint").stat().st_mtime)
            room = os.statvfs(self.log.folder)
            put("log_disk_free_bytes", room.f_bavail * room.f_frsize)
            put("log_disk_free_inodes", room.f_favail)

    def reload(self) -> None:
        """Read the policies again, in the background."""
        self._background(asyncio.create_task(self.policies.reload(force=True)))

    def watch(self) -> None:
        """Look for changed policy files, and after the log and the loop, in the background."""
        self._background(asyncio.create_task(self.policies.watch(WATCH)))
        pulse = Pulse(lambda: self.log.latched, self.say, lambda late: self.metrics.observe("loop_lag_seconds", late))
        self._background(asyncio.create_task(pulse.beat(WATCH)))

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
        self.loader.close()
        try:
            await self.log.close()
        except LogError as error:
            self.say("log_failed", why=str(error))
        await asyncio.to_thread(self.tracing.close)


async def run(
    config: Config, metrics: Metrics, say: Say, ready: Callable[[str], None], tracing: Tracing | None = None
) -> int:
    """Serve until told to stop; the exit code. `ready` is told the address once requests are answered."""
    few_arenas()
    house = await House.open(config, metrics, FileLoader(config.cache, metrics), say, tracing=tracing)
    try:
        ports = config.ports if config.admin_port is None else (*config.ports, config.admin_port)
        try:
            sockets = bind(config.host, tuple(dict.fromkeys(ports)))
        except OSError as error:
            raise UsageError(f"{error.strerror}; choose another with --port") from None
        if not config.loopback and (config.admin_port is None or config.admin_token is None):
            say("admin_off")
        house.watch()
        # What stands now stays: without this, each full collection walks all of it and stops every stream for some 40 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT)
        # A detector's thread gives the interpreter back after this, so that no stream waits long for a long prompt.
        sys.setswitchinterval(SWITCH)

        def listening() -> None:
            host = f"[{config.host}]" if ":" in config.host else config.host
            ready(f"http://{host}:{sockets[0].getsockname()[1]}")

        await listen(house.sidecar, sockets, drain=config.drain, ready=listening, reload=house.reload)
    finally:
        await house.close()
    say("stopped", in_flight=house.sidecar.in_flight)
    return 74 if house.log.latched is not None else 0
