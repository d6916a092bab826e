"""`moderation serve`: the sidecar, with a flag for each setting."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from moderation.cli.verb import Argument, Verb
from moderation.config import Config, ConfigError, Document, load
from moderation.errors import UsageError
from moderation.policy.faults import Faults
from moderation.policy.load import find, parse, plain
from moderation.settings import SETTINGS


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def configuration(flags: Mapping[str, str | None]) -> Config:
    """The configuration from flags, environment and file; raises UsageError with every fault."""
    return load(flags, os.environ, lambda path: Path(path).read_bytes(), _document)


def _document(name: str, source: bytes) -> Document:
    """moderation.yaml as plain values; raises ConfigError with every fault of its YAML."""
    faults = Faults(name)
    node = parse(source, faults)
    if node is None or faults.broken:
        raise ConfigError([UsageError(fault.message, f"{fault.file}:{fault.line}:{fault.column}") for fault in faults.sorted()])

    def at(place: tuple[str | int, ...]) -> str:
        found = find(node, place)
        return f"{name}:{found.line}:{found.column}"

    return Document(name, plain(node), at)


def serve(config: Config) -> int:
    """Run the sidecar in an event loop of its own."""
    from moderation import house

    def ready(address: str) -> None:
        upstream = ", ".join(dict.fromkeys(route.upstream for route in config.routes))
        _say(f"moderation is ready on {address}/v1, in front of {upstream}")

    runner = asyncio.Runner(loop_factory=_loop())
    with runner:
        return runner.run(house.run(config, _say, ready))


def _loop() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


def _serve(args: argparse.Namespace) -> int:
    flags = {setting.name: getattr(args, setting.name, None) for setting in SETTINGS if setting.flag}
    return serve(configuration(flags))


_FLAGS = tuple(
    Argument(
        (setting.flag_name,),
        {"dest": setting.name, "metavar": "VALUE", "help": setting.help + (f" Default: {setting.shown_default}." if setting.shown_default else "")},
    )
    for setting in SETTINGS
    if setting.flag_name
)

VERBS = (Verb(("serve",), "run the sidecar", _FLAGS, _serve),)
