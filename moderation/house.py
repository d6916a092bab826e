"""The house of one running sidecar: builds every part from a configuration, runs it, and takes it down in order."""

from __future__ import annotations

import asyncio
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
from moderation.flow.admission import BEAT, Admission
from moderation.flow.chat import Chat
from moderation.flow.ledger import Ledger
from moderation.flow.loading import FileLoader
from moderation.flow.policies import Policies
from moderation.metrics import Metrics
from moderation.routes import Route
from moderation.server import Sidecar, bind, listen
from moderation.ulid import ulid
from moderation.upstream import Reach, Timeouts, Upstream

PAGES = Path(__file__).parent / "pages"
WATCH = 0.5
"""Seconds between looks at the policy files."""
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
    say: Callable[[str], None]
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    async def open(
        cls, config: Config, metrics: Metrics, loader: FileLoader, say: Callable[[str], None], disk: Disk | None = None
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
        admission = Admission(
            config.max_streams, config.max_memory, config.max_wait, clock=time.monotonic,
            refused=lambda reason: metrics.add("admission_refused", reason),
            waited=lambda seconds: metrics.observe("queueing_seconds", seconds),
        )
        sidecar = Sidecar(config, chat, desk, metrics, upstreams, new_id, say, admission)
        return cls(config, log, metrics, policies, loader, upstreams, sidecar, say)

    def reload(self) -> None:
        """Read the policies again, in the background."""
        self._background(asyncio.create_task(self.policies.reload(force=True)))

    def watch(self) -> None:
        """Look for changed policy files, and at the event loop's delay, in the background."""
        self._background(asyncio.create_task(self.policies.watch(WATCH)))
        self._background(asyncio.create_task(self._beat()))

    async def _beat(self) -> None:
        """Measure for ever how long the event loop takes to come round."""
        admission = self.sidecar.admission
        while True:
            self.metrics.observe("event_loop_delay_seconds", admission.beat())
            self.metrics.set("held_bytes", admission.held)
            await asyncio.sleep(BEAT)

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
            self.say(str(error))


async def run(config: Config, say: Callable[[str], None], ready: Callable[[str], None]) -> int:
    """Serve until told to stop; the exit code. `ready` is told the address once requests are answered."""
    metrics = Metrics()
    house = await House.open(config, metrics, FileLoader(config.cache, metrics), say)
    try:
        ports = config.ports if config.admin_port is None else (*config.ports, config.admin_port)
        try:
            sockets = bind(config.host, tuple(dict.fromkeys(ports)))
        except OSError as error:
            raise UsageError(f"{error.strerror}; choose another with --port") from None
        if not config.loopback and (config.admin_port is None or config.admin_token is None):
            say("/metrics and /docs are off: they need loopback, or --admin-port with MODERATION_ADMIN_TOKEN")
        house.watch()
        # What stands now stays: without this, each full collection walks all of it and stops every stream for some 40 ms.
        gc.collect()
        gc.freeze()
        # A detector's thread gives the interpreter back after this, so that no stream waits long for a long prompt.
        sys.setswitchinterval(SWITCH)

        def listening() -> None:
            host = f"[{config.host}]" if ":" in config.host else config.host
            ready(f"http://{host}:{sockets[0].getsockname()[1]}")

        await listen(house.sidecar, sockets, drain=config.drain, ready=listening, reload=house.reload)
    finally:
        await house.close()
    return 74 if house.log.latched is not None else 0
