"""Which way a request takes: clients, what a route matches, and the route itself. Knows no file and no flag."""

from __future__ import annotations

from dataclasses import dataclass, field

from moderation.errors import Refused
from moderation.settings import plain_path


@dataclass(frozen=True, slots=True)
class Client:
    """Who may ask, known by the SHA-256 of the key; the key itself is nowhere."""

    name: str
    key_sha256: str = field(repr=False)
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """What makes a request take a route: all that is stated must hold."""

    path: str | None = None
    key: str | None = None
    port: int | None = None

    def rest_of(self, path: str, client: str | None, port: int) -> str | None:
        """The path that is left below this route; None where the route does not match."""
        if (self.port is not None and port != self.port) or (self.key is not None and client != self.key):
            return None
        if self.path is None:
            return path
        if not path.startswith(self.path):
            return None
        rest = path[len(self.path):]
        return rest if rest.startswith("/") else None if rest else "/"


@dataclass(frozen=True, slots=True)
class Route:
    """One way through the sidecar. `tenant` is None where neither the route nor the configuration names one."""

    name: str
    upstream: str
    match: Match = Match()
    tenant: str | None = None
    region: str = "default"
    policy: str | None = None
    durability: str = "strict"
    upstream_key: str | None = field(default=None, repr=False)

    def forward(self, path: str) -> str | None:
        """The path below the upstream's base; None where this upstream is not served there.

        A base URL is served at /v1; an origin alone is served path by path. Refuses a path that another reader could take for
        a different one, so that what is refused by name cannot come in through dots.
        """
        if not plain_path(path):
            raise Refused("not_found", "the path holds `//`, dot segments, a backslash or encoded slashes; write it plainly")
        if "/" not in self.upstream.split("://", 1)[1]:
            return path
        if path == "/v1" or path.startswith("/v1/"):
            return path[len("/v1"):]
        return None
