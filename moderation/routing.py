"""Clients and routes as moderation.yaml lists them: from plain values to Client and Route, every fault with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from moderation.document import Document, Place, Told, Where, source, unknown
from moderation.policy.faults import nearest
from moderation.routes import Client, Match, Route
from moderation.settings import ENV_NAME, NAME, PATH, PORT, URL, Kind, Unfit, choice, plain_path

DEFAULT_ROUTE = "default"
CLIENT_KEYS = tuple(each.name for each in fields(Client))
ROUTE_KEYS = ("name", "match", "tenant", "region", "upstream", "upstream_key_env", "policy", "durability")
MATCH_KEYS = tuple(each.name for each in fields(Match))
_DOUBTFUL = Match(path="")
"""Stands where a match could not be read: not the one that takes everything."""


def shown(value: object) -> str:
    """A value as a message shows it: never long."""
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "…"


def beside(document: Document, value: Any) -> Any:
    """Paths in the file are relative to the file, so that it means the same from everywhere."""
    return str(Path(document.file).parent / value) if isinstance(value, str) else value


@dataclass(slots=True)
class _Entry:
    """One mapping in the file, read field by field."""

    document: Document
    told: Told
    place: Place
    said: Mapping[str, object]
    known: Sequence[str]
    doubt: set[str] = field(default_factory=set)
    """Keys that were given and could not be read, misspelt ones among them."""

    def __post_init__(self) -> None:
        for key in self.said:
            if key not in self.known:
                self.fault("unknown key " + unknown(key, self.known), self.document.key((*self.place, key)))
                self.doubt.add(nearest(key, self.known) or "")
            elif self.said[key] is None and self.document.faults:
                self.doubt.add(key)

    @property
    def name(self) -> str:
        return ".".join(step for step in self.place if isinstance(step, str))

    def at(self, key: str) -> Where:
        return self.document.at((*self.place, key))

    def fault(self, message: str, where: Where) -> None:
        self.told.add(where, f"{self.name}: {message}")

    def wrong(self, key: str, message: str) -> None:
        self.doubt.add(key)
        self.told.add(self.at(key), f"{self.name}.{key}: {message}")

    def get(self, key: str, kind: Kind, needed: bool = False) -> Any:
        """The value; None where it is not given, or wrong."""
        if self.said.get(key) is None:
            if needed and key not in self.doubt:
                self.fault(f"needs `{key}`: {kind.words}", self.document.at(self.place))
            return None
        try:
            return kind.read(self.said[key])
        except Unfit as unfit:
            self.wrong(key, f"expected {unfit}, got {shown(self.said[key])}.")
            return None


@dataclass(slots=True)
class Routing:
    """One pass over `clients` and `routes`."""

    document: Document
    told: Told
    environ: Mapping[str, str]
    pinned: dict[str, str] = field(default_factory=dict)
    """The upstream of each region but `default`."""
    dim: set[str | None] = field(default_factory=set)
    """Regions whose upstream could not be read; None where the region itself could not."""
    named: set[str] = field(default_factory=set)
    """The variables that hold upstream keys."""

    def entries(self, name: str, known: Sequence[str]) -> list[_Entry]:
        """The mappings in a list of the file, with unknown keys told."""
        data = cast(Mapping[str, object], self.document.data)
        found: list[_Entry] = []
        if data.get(name) is None:
            if name in data and self.document.faults:
                self.told.doubt.add(name)
            return found
        entries = data[name]
        if not isinstance(entries, list):
            self.told.doubt.add(name)
            self.told.add(self.document.at((name,)), f"{name}: expected a list, each entry with `name: …`")
            return found
        for index, entry in enumerate(entries):
            if isinstance(entry, dict):
                found.append(_Entry(self.document, self.told, (name, index), entry, known))
            else:
                self.told.doubt.add(name)
                if entry is not None or not self.document.faults:
                    expected = f"{name}: expected an entry with {', '.join(known)}"
                    self.told.add(self.document.at((name, index)), expected)
        return found

    def clients(self) -> list[Client]:
        clients: list[Client] = []
        for entry in self.entries("clients", CLIENT_KEYS):
            name = entry.get("name", NAME, needed=True)
            key, tenant = entry.said.get("key_sha256"), entry.get("tenant", NAME)
            expected = "expected the SHA-256 of the key, 64 hex digits (printf %s KEY | sha256sum)."
            if key is None and "key_sha256" not in entry.doubt:
                entry.fault(f"needs `key_sha256`: {expected}", self.document.at(entry.place))
            elif key is not None and (not isinstance(key, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", key)):
                entry.wrong("key_sha256", expected)
            elif isinstance(key, str) and any(key.lower() == other.key_sha256 for other in clients):
                entry.wrong("key_sha256", "another client has this key.")
            if name is None:
                # Routes may mean this one by a name that could not be read.
                self.told.doubt.add("clients")
            elif any(name == other.name for other in clients):
                entry.wrong("name", "another client has this name.")
            else:
                clients.append(Client(name, str(key).lower(), tenant))
        return clients

    def routes(self, values: Mapping[str, Any], clients: Sequence[Client]) -> list[Route]:
        """`values` are the settings by name. The last route is the default one, if there is an upstream for it."""
        key = self.upstream_key(values["upstream_key_env"], source("upstream_key_env"))
        base = Route(DEFAULT_ROUTE, values["upstream"] or "", Match(), None, values["region"] or DEFAULT_ROUTE, values["policy"],
                     values["durability"], key)
        if base.upstream and base.region != "default":
            self.pinned[base.region] = base.upstream
        if self.told.doubt & {"upstream", "region"}:
            self.dim.add(None if "region" in self.told.doubt else base.region)
        routes: list[Route] = []
        for entry in self.entries("routes", ROUTE_KEYS):
            route = self.route(entry, base, clients)
            if route.name and any(route.name == other.name for other in routes):
                entry.wrong("name", "another route has this name.")
            if any(other.match == Match() for other in routes):
                entry.fault("an earlier route without `match` takes every request before it.", self.document.at(entry.place))
            routes.append(route)
        if base.upstream and all(route.match != Match() for route in routes):
            if any(route.name == DEFAULT_ROUTE for route in routes):
                self.told.add(self.document.at(("routes",)),
                              f"routes.name: `{DEFAULT_ROUTE}` is the name of what no route matches; choose another.")
            routes.append(base)
        if not routes and not self.told.doubt & {"upstream", "routes"}:
            self.told.add(source("--upstream"), f"upstream: expected {URL.words}; set --upstream, MODERATION_UPSTREAM or "
                                                "`upstream:` in moderation.yaml.")
        return routes

    def route(self, entry: _Entry, base: Route, clients: Sequence[Client]) -> Route:
        name = entry.get("name", NAME, needed=True) or ""
        upstream, region = entry.get("upstream", URL), entry.get("region", NAME)
        if "region" in entry.doubt:
            self.dim.add(None)
        elif "upstream" in entry.doubt:
            self.dim.add(region or base.region)
        elif upstream is None:
            region = region or base.region
            upstream = base.upstream if region == base.region else self.pinned.get(region)
            if not upstream and not self.dim & {region, None}:
                entry.fault(f"`{name}` needs an `upstream`: region `{region}` has none yet, and a region's text goes to no other "
                            "region's upstream.", self.document.at(entry.place))
        elif region is None:
            by_upstream = {known: region for region, known in [*self.pinned.items(), (base.region, base.upstream)]}
            region = by_upstream.get(upstream, "default")
        region = region or "default"
        if upstream and region != "default" and self.pinned.setdefault(region, upstream) != upstream:
            entry.wrong("upstream", f"region `{region}` is pinned to {self.pinned[region]}; a region has one upstream.")
        key_env, key = entry.get("upstream_key_env", ENV_NAME), None
        if key_env:
            key = self.upstream_key(key_env, entry.at("upstream_key_env"))
        elif upstream == base.upstream:  # a key must not travel to an upstream that it was not given for
            key = base.upstream_key
        return Route(name, upstream or "", self.match(entry, clients), entry.get("tenant", NAME), region,
                     beside(self.document, entry.get("policy", PATH)) or base.policy,
                     entry.get("durability", choice("strict", "fast")) or base.durability, key)

    def match(self, entry: _Entry, clients: Sequence[Client]) -> Match:
        if "match" in entry.doubt:
            return _DOUBTFUL
        if "match" not in entry.said:
            return Match()
        said = entry.said["match"]
        if not isinstance(said, dict) or not said:
            entry.wrong("match", "expected `path: /payroll`, `key: NAME` or `port: 8081`.")
            return _DOUBTFUL
        inner = _Entry(self.document, self.told, (*entry.place, "match"), said, MATCH_KEYS)
        path, key, port = said.get("path"), inner.get("key", NAME), inner.get("port", PORT)
        if path is not None and not (isinstance(path, str) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path) and plain_path(path)):
            inner.wrong("path", "expected a prefix like /payroll, no end slash.")
        if key is not None and "clients" not in self.told.doubt and all(key != client.name for client in clients):
            inner.wrong("key", f"`clients` names no `{key}`.")
        if port == 0:
            inner.wrong("port", "expected a fixed port, from 1.")
        found = Match(path if isinstance(path, str) else None, key, port)
        if found == Match() and not inner.doubt:
            entry.wrong("match", "expected `path: /payroll`, `key: NAME` or `port: 8081`.")
        return _DOUBTFUL if inner.doubt or found == Match() else found

    def upstream_key(self, name: str | None, where: Where) -> str | None:
        if name is None:
            return None
        self.named.add(name)
        key = self.environ.get(name, "").strip()
        if not key:
            self.told.add(where, f"upstream_key_env: the variable {name} is not set or empty.")
        elif not re.fullmatch(r"[\x21-\x7e]+", key):
            self.told.add(where, f"upstream_key_env: the variable {name} holds characters that cannot stand in a header.")
        return key or None
