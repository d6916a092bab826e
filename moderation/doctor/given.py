"""What the doctor looks at: the configuration, or as much of it as can be read. Looks at it, too."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from errno import EADDRINUSE
from pathlib import Path
from typing import Any

from moderation.config import Config, ConfigError, load
from moderation.doctor.checks import Found, fault, ok, warn
from moderation.doctor.machine import Machine
from moderation.settings import SETTINGS, Unfit

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream, and the key that goes there."""

    url: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """Where the configuration cannot be read: what flags and variables give, and the defaults."""

    data: Path
    keys: Path
    policies: tuple[str | None, ...]
    targets: tuple[Target, ...]
    upstream_ca: str | None
    max_streams: int
    stream_buffer: int
    cache: int
    config: Config | None


def read(flags: Mapping[str, str | None], environ: Mapping[str, str], key: str | None) -> tuple[Given, tuple[Found, ...]]:
    """`key` is used where the configuration has none for an upstream."""
    try:
        config = load(flags, environ)
    except ConfigError as error:
        found = tuple(fault("configuration", str(one)) for one in error.faults)
        rest = warn("configuration", "what follows goes by flags, variables and defaults alone", "Mend the faults above first.")
        return _partly(flags, environ, key), (*found, rest)
    targets = dict.fromkeys(Target(route.upstream, route.upstream_key or key) for route in config.routes)
    policies = dict.fromkeys(route.policy or config.policy for route in config.routes) or {config.policy: None}
    data = Path(config.data)
    given = Given(data, Path(config.keys) if config.keys else data / "keys", tuple(policies), tuple(targets), config.upstream_ca,
                  config.max_streams, config.stream_buffer, config.cache, config)
    return given, tuple(_configuration(config))


def _partly(flags: Mapping[str, str | None], environ: Mapping[str, str], key: str | None) -> Given:
    said: dict[str, Any] = {}
    for setting in SETTINGS:
        raw = flags.get(setting.name) or environ.get(setting.env_name)
        said[setting.name] = setting.default
        if raw:
            try:
                said[setting.name] = setting.kind.read(raw)
            except Unfit:
                continue  # load has told of it
    data = Path(said["data"])
    targets = (Target(said["upstream"], key),) if said["upstream"] else ()
    keys = Path(said["keys"]) if said["keys"] else data / "keys"
    return Given(data, keys, (said["policy"],), targets, None, said["max_streams"], said["stream_buffer"], said["cache"], None)


def _configuration(config: Config) -> Iterator[Found]:
    for warning in config.warnings:
        yield warn("configuration", warning, "Do what it says, if it is not meant.")
    if not config.warnings:
        yield ok("configuration", f"{len(config.routes)} route(s), {len(config.clients)} client(s)")


def look(given: Given, machine: Machine) -> Iterator[Found]:
    """Who can reach it, and whether its ports are free."""
    config = given.config
    if config is None:
        return
    if config.loopback:
        yield ok("access", f"{config.host} is loopback: only this machine can reach it")
    else:
        if not config.clients:
            yield warn("access", f"whoever reaches the port may use it: {config.host} is not loopback, there are no `clients`",
                       "List `clients` in moderation.yaml, or let the network keep others out.")
        if config.admin_port is None or config.admin_token is None:
            yield warn("access", "/metrics and /docs are off", "Give `--admin-port` and MODERATION_ADMIN_TOKEN.")
        elif config.clients:
            yield ok("access", f"{len(config.clients)} client(s) by key; /metrics on port {config.admin_port} with a token")
    for port in (*config.ports, *([] if config.admin_port is None else [config.admin_port])):
        yield _port(config.host, port, machine)


def _port(host: str, port: int, machine: Machine) -> Found:
    if port == 0:
        return ok("ports", "a free one will be taken")
    try:
        machine.bind(host, port)
    except OSError as error:
        if error.errno == EADDRINUSE and _ours(host, port):
            return ok("ports", f"{host}:{port} is served by a sidecar")
        return fault("ports", f"cannot listen on {host}:{port}: {error.strerror}")
    return ok("ports", f"{host}:{port} is free")


def _ours(host: str, port: int) -> bool:
    """Whether a sidecar answers there."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    link = http.client.HTTPConnection(near, port, timeout=_SECONDS)
    try:
        link.request("GET", "/healthz")
        answer = link.getresponse()
        return answer.status == 200 and answer.read(200) == b'{"status": "ok"}'
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()
