"""`moderation serve`: the sidecar, with a flag for each setting."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping

from moderation.cli.verb import Argument, Verb
from moderation.config import Config, load
from moderation.settings import SETTINGS, Setting


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def configuration(flags: Mapping[str, str | None]) -> Config:
    """The configuration from flags, environment and file; raises UsageError with every fault."""
    return load(flags, os.environ)


def serve(config: Config) -> int:
    """Run the sidecar: in an event loop of its own, or in several workers under a supervisor."""
    def ready(address: str) -> None:
        upstream = ", ".join(dict.fromkeys(route.upstream for route in config.routes))
        _say(f"moderation is ready on {address}/v1, in front of {upstream}")

    if config.workers > 1:
        from moderation.supervisor import supervise

        return asyncio.run(supervise(config, _say, ready))
    from moderation import house
    from moderation.server import event_loop

    with asyncio.Runner(loop_factory=event_loop()) as runner:
        return runner.run(house.run(config, _say, ready))


def _serve(args: argparse.Namespace) -> int:
    flags = {setting.name: getattr(args, setting.name, None) for setting in SETTINGS if setting.flag}
    config = configuration(flags)
    for warning in config.warnings:
        _say(f"warning: {warning}")
    return serve(config)


def _help(setting: Setting) -> str:
    default = setting.shown_default
    return f"{setting.help} Default: {default}." if default else setting.help


_FLAGS = tuple(
    Argument((setting.flag_name,), {"dest": setting.name, "metavar": "VALUE", "help": _help(setting)})
    for setting in SETTINGS
    if setting.flag_name
)

VERBS = (Verb(("serve",), "run the sidecar", _FLAGS, _serve),)
