"""`moderation serve`: the sidecar, with a flag for each setting."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from moderation import __version__
from moderation.cli.verb import Argument, Verb
from moderation.config import Config, load
from moderation.events import Say
from moderation.settings import SETTINGS, Setting

if TYPE_CHECKING:
    from moderation.metrics import Metrics


def configuration(flags: Mapping[str, str | None]) -> Config:
    """The configuration from flags, environment and file; raises UsageError with every fault."""
    return load(flags, os.environ)


def serve(config: Config) -> int:
    """Run the sidecar: in this process, or in several workers under a supervisor. stderr holds the operational log alone.

    A sidecar that does not start ends by an error for people; the lines before it are those of the log.
    """
    from moderation import process

    several = config.workers > 1

    async def work(metrics: Metrics, say: Say) -> int:
        def ready(address: str) -> None:
            upstream = ", ".join(dict.fromkeys(route.upstream for route in config.routes))
            say("ready", address=f"{address}/v1", upstream=upstream, version=__version__)

        for warning in config.warnings:
            say("config_warning", what=warning)
        if several:
            from moderation.supervisor import supervise

            return await supervise(config, metrics, say, ready)
        from moderation import house

        return await house.run(config, metrics, say, ready, process.traces(say))

    return process.run(config.log_level, work, None if several else process.quick())


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
