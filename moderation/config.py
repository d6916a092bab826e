"""The configuration: flag > environment > moderation.yaml > default, and which route a request takes.

Knows the table of settings, not what they do. Files, variables and the YAML reader come in as arguments; every fault names the
setting, where its value came from and what was expected, and all faults are told at once.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from moderation.errors import Refused, UsageError
from moderation.policy.faults import Faults
from moderation.policy.load import find, parse, plain
from moderation.routes import Client, Match, Route
from moderation.settings import BY_NAME, ENV_NAME, NAME, PATH, PORT, SETTINGS, URL, Kind, Setting, Unfit, choice, plain_path

DEFAULT_FILE = "moderation.yaml"
DEFAULT_ROUTE = "default"
MODERATED = "/chat/completions"
_BASES = ("/compatible-mode/v1", "/v1")

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file as plain values, and where each place of it stands."""

    file: str
    data: object
    at: Callable[[Place], str]
    """(`routes`, 0, `name`) -> FILE:LINE:COLUMN"""


YamlReader = Callable[[str, bytes], Document]
"""(file name, its bytes); raises UsageError with FILE:LINE:COLUMN."""


class ConfigError(UsageError):
    """All faults of a configuration, one a line."""

    def __init__(self, faults: Sequence[UsageError]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, by the names of SETTINGS, and the routes and clients. `routes` ends with the default route, if any."""

    config: str | None
    upstream: str | None
    policy: str | None
    host: str
    port: int
    data: str
    keys: str | None
    origin: str | None
    admin_port: int | None
    admin_token: str | None = field(repr=False)
    tenant: str
    region: str
    upstream_key_env: str | None
    upstream_ca: str | None
    durability: str
    block_as: str
    block_code: str
    passthrough: tuple[str, ...]
    max_body: int
    max_answer: int
    max_streams: int
    stream_buffer: int
    cache: int
    connect_timeout: float
    first_byte_timeout: float
    idle_timeout: float
    total_timeout: float
    drain: float
    log_level: str
    routes: tuple[Route, ...]
    clients: tuple[Client, ...]
    clients_by_key: Mapping[str, Client] = field(repr=False)

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port that requests come in by: the main one first, then those that routes match."""
        return tuple(dict.fromkeys([self.port, *(route.match.port for route in self.routes if route.match.port is not None)]))

    @property
    def loopback(self) -> bool:
        return self.host in {"localhost", "::1"} or re.fullmatch(r"127(\.[0-9]{1,3}){3}", self.host) is not None

    def route_for(self, path: str, client: str | None, port: int) -> tuple[Route, str]:
        """The first route that matches, and the path that is left below it."""
        for route in self.routes:
            rest = route.match.rest_of(path, client, port)
            if rest is not None:
                return route, rest
        raise Refused("not_found", "no route of the configuration matches this path, key and port")

    def client_for(self, authorization: str | None) -> Client | None:
        """The client whose key this Authorization header holds. Looked up by hash, so timing tells nothing about keys."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return None
        return self.clients_by_key.get(hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest())

    def tenant_of(self, route: Route, client: Client | None) -> str:
        """A client's key is proof, a path is not: the client's tenant comes first."""
        return (client.tenant if client else None) or route.tenant or self.tenant

    def passes(self, path: str) -> bool:
        """Whether the configuration lets this path through unmoderated, by name; `path` with or without its base."""
        path = _below_base(path)
        return any(path == name or path.startswith(name + "/") for name in self.passthrough)


def _below_base(path: str) -> str:
    for base in _BASES:
        if path == base or path.startswith(base + "/"):
            return path[len(base):]
    return path


def read_yaml(file: str, raw: bytes) -> Document:
    """The policies' own YAML reader: moderation.yaml has no surprises that a policy has not. Comments alone are no fault."""
    if all(not line.strip() or line.lstrip().startswith(b"#") for line in raw.split(b"\n")):
        return Document(file, {}, lambda _: f"{file}:1:1")
    faults = Faults(file)
    tree = parse(raw, faults)
    if tree is None or faults.broken:
        raise ConfigError([UsageError(f"{fault.code} {fault.message}", f"{fault.file}:{fault.line}:{fault.column}")
                           for fault in faults.sorted()])

    def at(place: Place) -> str:
        found = find(tree, place)
        return f"{file}:{found.line}:{found.column}"

    return Document(file, plain(tree), at)


def load(flags: Mapping[str, str | None], environ: Mapping[str, str], read_file: Callable[[Path], bytes] = Path.read_bytes,
         read_yaml: YamlReader = read_yaml) -> Config:
    """`flags` by the names of SETTINGS, None or absent where not given. Raises ConfigError with every fault."""
    document, faults = _document(flags, environ, read_file, read_yaml)
    reading = _Reading(document, faults, environ)
    values = {setting.name: reading.setting(setting, flags) for setting in SETTINGS}
    values["passthrough"] = tuple(_below_base(name) for name in cast(Sequence[str], values["passthrough"] or ()))
    if faults:  # routes and clients lean on the settings: their faults would mislead while those are wrong
        raise ConfigError(faults)
    clients = tuple(reading.clients())
    routes = tuple(reading.routes(values, clients))
    if faults:
        raise ConfigError(faults)
    return Config(**cast(dict[str, Any], values), routes=routes, clients=clients,
                  clients_by_key={client.key_sha256: client for client in clients})


def _document(flags: Mapping[str, str | None], environ: Mapping[str, str], read_file: Callable[[Path], bytes],
              read_yaml: YamlReader) -> tuple[Document, list[UsageError]]:
    setting = BY_NAME["config"]
    name = flags.get("config") or environ.get(setting.env_name)
    try:
        raw = read_file(Path(name or DEFAULT_FILE))
    except FileNotFoundError:
        fault = UsageError("config: there is no such file", name) if name else None
        return Document(DEFAULT_FILE, {}, lambda _: DEFAULT_FILE), [fault] if fault else []
    except OSError as error:
        fault = UsageError(f"config: cannot be read: {error.strerror}", name or DEFAULT_FILE)
        return Document(DEFAULT_FILE, {}, lambda _: DEFAULT_FILE), [fault]
    document = read_yaml(name or DEFAULT_FILE, raw)
    if document.data is None:
        return Document(document.file, {}, document.at), []
    if not isinstance(document.data, dict):
        return Document(document.file, {}, document.at), [UsageError("expected `setting: value` lines", document.at(()))]
    known = [setting.name for setting in SETTINGS if setting.file] + ["routes", "clients"]
    return document, [_unknown(document, (key,), key, known) for key in document.data if key not in known]


def _unknown(document: Document, place: Place, key: object, known: Sequence[str]) -> UsageError:
    setting = BY_NAME.get(str(key)) if len(place) == 1 else None
    if setting is not None and not setting.file:
        return UsageError(f"{setting.name}: cannot be set here; set {setting.flag_name or setting.env_name}", document.at(place))
    near = difflib.get_close_matches(str(key), known, 1)
    said = f"Did you mean {near[0]!r}?" if near else "Known: " + ", ".join(known)
    return UsageError(f"unknown setting. {said}", document.at(place))


@dataclass(slots=True)
class _Reading:
    """One pass over the sources; faults are gathered, a broken value reads as None."""

    document: Document
    faults: list[UsageError]
    environ: Mapping[str, str]

    def fault(self, where: str, message: str) -> None:
        self.faults.append(UsageError(message, where))

    def setting(self, setting: Setting, flags: Mapping[str, str | None]) -> object:
        data = cast(dict[str, object], self.document.data)
        if flags.get(setting.name) is not None:
            return self.value(setting, flags[setting.name], str(setting.flag_name))
        if self.environ.get(setting.env_name):
            return self.value(setting, self.environ[setting.env_name], setting.env_name)
        if setting.file and data.get(setting.name) is not None:
            value = self.value(setting, data[setting.name], self.document.at((setting.name,)))
            return self.beside_file(value) if setting.kind is PATH else value
        return setting.default

    def beside_file(self, value: Any) -> Any:
        """Paths in the file are relative to the file, so that it means the same from everywhere."""
        return str(Path(self.document.file).parent / value) if isinstance(value, str) else value

    def value(self, setting: Setting, value: object, source: str) -> object:
        try:
            fit = setting.kind.read(value)
            if setting.name == "passthrough":
                self.passthrough(cast(tuple[str, ...], fit), source)
            return fit
        except Unfit as unfit:
            got = "" if setting.secret else f", got {_shown(value)}"
            self.fault(source, f"{setting.name}: expected {unfit}{got}.{_service_link(setting, value)}")
            return None

    def passthrough(self, names: Sequence[str], source: str) -> None:
        moderated = [base + MODERATED + "/" for base in ("", *_BASES)]
        for name in names:
            if any(path.startswith(below + "/") for path in moderated for below in (name, _below_base(name))):
                self.fault(source, f"passthrough: {name} would let {MODERATED} through unmoderated; name what lies beside it.")

    def entries(self, name: str, known: Sequence[str]) -> list[tuple[Place, dict[str, object]]]:
        """The mappings in a list of the file, with unknown keys told."""
        data = cast(dict[str, object], self.document.data).get(name)
        if data is None:
            return []
        if not isinstance(data, list):
            self.fault(self.document.at((name,)), f"{name}: expected a list, each entry with `name: …`")
            return []
        found: list[tuple[Place, dict[str, object]]] = []
        for index, entry in enumerate(data):
            if isinstance(entry, dict):
                self.faults += [_unknown(self.document, (name, index, key), key, known) for key in entry if key not in known]
                found.append(((name, index), entry))
            else:
                self.fault(self.document.at((name, index)), f"{name}: expected an entry with " + ", ".join(known))
        return found

    def field(self, place: Place, entry: Mapping[str, object], key: str, kind: Kind, needed: bool = False) -> Any:
        if entry.get(key) is None:
            if needed:
                self.fault(self.document.at(place), f"{place[0]}: needs `{key}`: {kind.words}")
            return None
        try:
            return kind.read(entry[key])
        except Unfit as unfit:
            self.fault(self.document.at((*place, key)), f"{place[0]}.{key}: expected {unfit}, got {_shown(entry[key])}.")
            return None

    def clients(self) -> list[Client]:
        clients: list[Client] = []
        for place, entry in self.entries("clients", [each.name for each in fields(Client)]):
            name = self.field(place, entry, "name", NAME, needed=True)
            key, tenant = entry.get("key_sha256"), self.field(place, entry, "tenant", NAME)
            if not isinstance(key, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", key):
                self.fault(self.document.at((*place, "key_sha256") if key is not None else place),
                           "clients.key_sha256: expected the SHA-256 of the key, 64 hex digits (printf %s KEY | sha256sum).")
            elif any(key.lower() == other.key_sha256 for other in clients):
                self.fault(self.document.at((*place, "key_sha256")), "clients.key_sha256: another client has this key.")
            elif any(name == other.name for other in clients):
                self.fault(self.document.at((*place, "name")), "clients.name: another client has this name.")
            elif name is not None:
                clients.append(Client(name, key.lower(), tenant))
        return clients

    def routes(self, values: Mapping[str, Any], clients: Sequence[Client]) -> list[Route]:
        routes: list[Route] = []
        key = self.upstream_key(values["upstream_key_env"], "upstream_key_env")
        base = Route(DEFAULT_ROUTE, values["upstream"] or "", Match(), None, values["region"], values["policy"],
                     values["durability"], key)
        known = ["name", "match", "tenant", "region", "upstream", "upstream_key_env", "policy", "durability"]
        pinned = {base.region: base.upstream} if base.upstream and base.region != "default" else {}
        for place, entry in self.entries("routes", known):
            route = self.route(place, entry, base, clients, pinned)
            if any(route.name == other.name for other in routes):
                self.fault(self.document.at((*place, "name")), "routes.name: another route has this name.")
            if any(other.match == Match() for other in routes):
                self.fault(self.document.at(place), "routes: an earlier route without `match` takes every request before it.")
            routes.append(route)
        if base.upstream and all(route.match != Match() for route in routes):
            if any(route.name == DEFAULT_ROUTE for route in routes):
                self.fault(self.document.at(("routes",)),
                           f"routes.name: `{DEFAULT_ROUTE}` is the name of what no route matches; choose another.")
            routes.append(base)
        if not routes:
            self.fault("--upstream", f"upstream: expected {URL.words}; set --upstream, MODERATION_UPSTREAM or `upstream:` "
                                     f"in {DEFAULT_FILE}.")
        return routes

    def route(self, place: Place, entry: Mapping[str, object], base: Route, clients: Sequence[Client],
              pinned: dict[str, str]) -> Route:
        name = self.field(place, entry, "name", NAME, needed=True) or ""
        upstream, region = self.field(place, entry, "upstream", URL), self.field(place, entry, "region", NAME)
        if upstream is None:
            region = region or base.region
            upstream = base.upstream if region == base.region else pinned.get(region)
            if not upstream and entry.get("upstream") is None:
                self.fault(self.document.at(place), f"routes: `{name}` needs an `upstream`: region `{region}` has none yet, "
                                                    "and a region's text goes to no other region's upstream.")
        elif region is None:
            by_upstream = {known: region for region, known in [*pinned.items(), (base.region, base.upstream)]}
            region = by_upstream.get(upstream, "default")
        if upstream and region != "default" and pinned.setdefault(region, upstream) != upstream:
            self.fault(self.document.at((*place, "upstream")),
                       f"routes.upstream: region `{region}` is pinned to {pinned[region]}; a region has one upstream.")
        key_env, key = self.field(place, entry, "upstream_key_env", ENV_NAME), None
        if key_env:
            key = self.upstream_key(key_env, self.document.at((*place, "upstream_key_env")))
        elif upstream == base.upstream:  # a key must not travel to an upstream that it was not given for
            key = base.upstream_key
        return Route(name, upstream or "", self.match(place, entry, clients), self.field(place, entry, "tenant", NAME), region,
                     self.beside_file(self.field(place, entry, "policy", PATH)) or base.policy,
                     self.field(place, entry, "durability", choice("strict", "fast")) or base.durability, key)

    def match(self, place: Place, entry: Mapping[str, object], clients: Sequence[Client]) -> Match:
        match = entry.get("match")
        if match is None:
            return Match()
        inside = (*place, "match")
        known = [each.name for each in fields(Match)]
        if not isinstance(match, dict) or not match:
            self.fault(self.document.at(inside), "routes.match: expected `path: /payroll`, `key: NAME` or `port: 8081`.")
            return Match(path="")
        self.faults += [_unknown(self.document, (*inside, key), key, known) for key in match if key not in known]
        path, key, port = match.get("path"), self.field(inside, match, "key", NAME), self.field(inside, match, "port", PORT)
        if path is not None and not (isinstance(path, str) and re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path) and plain_path(path)):
            self.fault(self.document.at((*inside, "path")), "routes.match.path: expected a prefix like /payroll, no end slash.")
            path = None
        if key is not None and all(key != client.name for client in clients):
            self.fault(self.document.at((*inside, "key")), f"routes.match.key: `clients` names no `{key}`.")
        if port == 0:
            self.fault(self.document.at((*inside, "port")), "routes.match.port: expected a fixed port, from 1.")
        return Match(path, key, port)

    def upstream_key(self, name: str | None, where: str) -> str | None:
        if name is None:
            return None
        key = self.environ.get(name, "").strip()
        if not key:
            self.fault(where, f"upstream_key_env: the variable {name} is not set or empty.")
        elif not re.fullmatch(r"[\x21-\x7e]+", key):
            self.fault(where, f"upstream_key_env: the variable {name} holds characters that cannot stand in a header.")
        return key or None


def _shown(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "…"


def _service_link(setting: Setting, value: object) -> str:
    if setting.name == "port" and isinstance(value, str) and value.startswith("tcp://"):
        return " Kubernetes sets this for a service called `moderation`: set enableServiceLinks: false, or pass --port."
    return ""
