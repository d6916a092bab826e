"""`moderation serve`: the sidecar, with a flag for each setting."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from moderation import __version__
from moderation.cli.verb import Argument, Verb
from moderation.config import Config, load
from moderation.events import Say
from moderation.settings import SETTINGS, Setting

if TYPE_CHECKING:
    from moderation.tracing import Tracing


def configuration(flags: Mapping[str, str | None]) -> Config:
    """The configuration from flags, environment and file; raises UsageError with every fault."""
    return load(flags, os.environ)


def serve(config: Config) -> int:
    """Run the sidecar in an event loop of its own. From here on, stderr holds the operational log alone.

    A sidecar that does not start ends by an error for people; the lines before it are those of the log.
    """
    from moderation import house, oplog
    from moderation.metrics import Metrics

    metrics = Metrics()
    say, writer = oplog.opened(
        config.log_level, dropped=lambda lines: metrics.add("oplog_dropped", amount=lines),
        count=lambda level: metrics.add("oplog_lines", level),
    )

    def ready(address: str) -> None:
        upstream = ", ".join(dict.fromkeys(route.upstream for route in config.routes))
        say("ready", address=f"{address}/v1", upstream=upstream, version=__version__)

    try:
        with oplog.listening(say, config.log_level), asyncio.Runner(loop_factory=_loop()) as runner:
            for warning in config.warnings:
                say("config_warning", what=warning)
            oplog.hear_loop(runner.get_loop(), say)
            return runner.run(house.run(config, metrics, say, ready, _traces(say)))
    finally:
        writer.close()


def _traces(say: Say) -> Tracing:
    """Traces as the standard variables ask for them; without them the sidecar runs as well."""
    from moderation import tracing

    try:
        traces = tracing.from_environ(os.environ)
    except tracing.TracingMissing as missing:
        say("tracing_off", why=str(missing))
        return tracing.NoTracing()
    if not isinstance(traces, tracing.NoTracing):
        say("tracing")
    return traces


def _loop() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def _serve(args: argparse.Namespace) -> int:
    flags = {setting.name: getattr(args, setting.name, None) for setting in SETTINGS if setting.flag}
    return serve(configuration(flags))


def _help(setting: Setting) -> str:
    default = setting.shown_default
    return f"{setting.help} Default: {default}." if default else setting.help


FLAGS = tuple(
    Argument((setting.flag_name,), {"dest": setting.name, "metavar": "VALUE", "help": _help(setting)})
    for setting in SETTINGS
    if setting.flag_name
)

VERBS = (Verb(("serve",), "run the sidecar", FLAGS, _serve),)
