"""The configuration: flag > environment > moderation.yaml > default, and which route a request takes.

Knows the table of settings, not what they do. Files, variables and the YAML reader come in as arguments; every fault names the
setting, where its value came from and what was expected, and all faults are told at once.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from moderation.document import ConfigError, Document, Told, Where, YamlReader, nothing, read_yaml, source, unknown
from moderation.errors import Refused
from moderation.policy.faults import nearest
from moderation.routes import Client, Route
from moderation.routing import Routing, beside, shown
from moderation.settings import BY_NAME, ENV_PREFIX, PATH, SETTINGS, Setting, Unfit

__all__ = ["DEFAULT_FILE", "MODERATED", "Config", "ConfigError", "load"]

DEFAULT_FILE = "moderation.yaml"
MODERATED = "/chat/completions"
_BASES = ("/compatible-mode/v1", "/v1")
_IN_FILE = (*[setting.name for setting in SETTINGS if setting.file], "routes", "clients")
_LINKS = re.compile(r"MODERATION(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT(_.*)?)|PORT_[0-9]+_(TCP|UDP|SCTP)(_.*)?)")
"""What Kubernetes sets for services whose names begin so."""


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, by the names of SETTINGS, and the routes and clients. `routes` ends with the default route, if any."""

    config: str | None
    upstream: str | None
    policy: str | None
    host: str
    port: int
    workers: int
    data: str
    keys: str | None
    origin: str | None
    admin_port: int | None
    admin_token: str | None = field(repr=False)
    tenant: str
    region: str
    upstream_key_env: str | None
    upstream_ca: str | None
    upstream_client_cert: str | None
    upstream_client_key: str | None
    upstream_proxy: str | None
    upstream_proxy_auth: str | None = field(repr=False)
    upstream_connections: int
    durability: str
    block_as: str
    block_code: str
    passthrough: tuple[str, ...]
    max_body: int
    max_answer: int
    max_streams: int
    max_memory: int
    max_wait: float
    stream_buffer: int
    cache: int
    allowed_hosts: tuple[str, ...]
    head_timeout: float
    body_timeout: float
    connect_timeout: float
    first_byte_timeout: float
    idle_timeout: float
    total_timeout: float
    drain: float
    log_level: str
    routes: tuple[Route, ...]
    clients: tuple[Client, ...]
    clients_by_key: Mapping[str, Client] = field(repr=False)
    warnings: tuple[str, ...] = ()
    """What is allowed, and probably not meant."""

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port that requests come in by: the main one first, then those that routes match."""
        return tuple(dict.fromkeys([self.port, *(route.match.port for route in self.routes if route.match.port is not None)]))

    @property
    def loopback(self) -> bool:
        return _loops(self.host)

    def answers_for(self, host: str) -> bool:
        """Whether a request may name this host (the header Host, with a port or without)."""
        name = re.sub(r":[0-9]*$", "", host).strip("[]").lower()
        if self.allowed_hosts:
            return "*" in self.allowed_hosts or name in self.allowed_hosts
        return not self.loopback or _loops(name) or name == self.host.lower()

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


def load(flags: Mapping[str, str | None], environ: Mapping[str, str], read_file: Callable[[Path], bytes] = Path.read_bytes,
         read_yaml: YamlReader = read_yaml) -> Config:
    """`flags` by the names of SETTINGS, None or absent where not given. Raises ConfigError with every fault."""
    told = Told()
    document = _document(told, flags, environ, read_file, read_yaml)
    reading = _Reading(document, told, environ)
    values = {setting.name: reading.setting(setting, flags) for setting in SETTINGS}
    values["passthrough"] = tuple(_below_base(name) for name in cast(Sequence[str], values["passthrough"] or ()))
    reading.authorities(cast(str | None, values["upstream_ca"]), read_file)
    reading.client_certificate(cast(str | None, values["upstream_client_cert"]), cast(str | None, values["upstream_client_key"]))
    routing = Routing(document, told, environ)
    clients = tuple(routing.clients())
    routes = tuple(routing.routes(values, clients))
    told.raise_any()
    config = Config(**cast(dict[str, Any], values), routes=routes, clients=clients,
                    clients_by_key={client.key_sha256: client for client in clients},
                    warnings=tuple(_strangers(environ, routing.named)))
    return replace(config, warnings=(*config.warnings, _OPEN)) if not config.loopback and not clients else config


def _loops(host: str) -> bool:
    return host in {"localhost", "::1"} or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


_OPEN = ("anybody who reaches the port may use it: `host` is not loopback, and there are no `clients` in the configuration. "
         "Give each client a key, or let the network keep others out.")


def _strangers(environ: Mapping[str, str], named: set[str]) -> Iterator[str]:
    """Variables that look like settings and are none: a setting that is misspelt there would be silently without effect."""
    known = {setting.env_name.removeprefix(ENV_PREFIX) for setting in SETTINGS}
    for name in sorted(environ):
        rest = name.removeprefix(ENV_PREFIX)
        if rest not in {name, *known} and name not in named and not _LINKS.fullmatch(name):
            near = nearest(rest, known)
            hint = f" Did you mean {ENV_PREFIX}{near}?" if near else ""
            yield f"the variable {name} is no setting and has no effect.{hint}"


def _document(told: Told, flags: Mapping[str, str | None], environ: Mapping[str, str], read_file: Callable[[Path], bytes],
              read_yaml: YamlReader) -> Document:
    name = flags.get("config") or environ.get(BY_NAME["config"].env_name)
    file = name or DEFAULT_FILE
    try:
        document = read_yaml(file, read_file(Path(file)))
    except FileNotFoundError:
        if name:
            told.add(source(name), "config: there is no such file")
            told.doubt.update(_IN_FILE)
        return nothing(file)
    except OSError as error:
        told.add(source(file), f"config: cannot be read: {error.strerror}")
        told.doubt.update(_IN_FILE)
        return nothing(file)
    told.found += document.faults
    if not isinstance(document.data, dict):
        if document.data is not None:
            told.add(document.at(()), "expected `setting: value` lines")
            told.doubt.update(_IN_FILE)
        return nothing(file)
    for key, value in document.data.items():
        if key not in _IN_FILE:
            told.add(document.key((key,)), _misplaced(key))
            told.doubt.update({nearest(key, _IN_FILE) or ""} - document.data.keys())
        elif value is None and document.faults:
            told.doubt.add(key)
    return document


def _misplaced(key: str) -> str:
    setting = BY_NAME.get(key)
    if setting is not None:
        return f"{setting.name}: cannot be set here; set {setting.flag_name or setting.env_name}"
    return "unknown setting " + unknown(key, _IN_FILE)


@dataclass(slots=True)
class _Reading:
    """One pass over the settings; faults are gathered, a broken value reads as None."""

    document: Document
    told: Told
    environ: Mapping[str, str]
    came: dict[str, Where] = field(default_factory=dict)
    """Where each setting that was given came from."""

    def setting(self, setting: Setting, flags: Mapping[str, str | None]) -> object:
        data = cast(Mapping[str, object], self.document.data)
        if flags.get(setting.name) is not None:
            return self.value(setting, flags[setting.name], source(str(setting.flag_name)))
        if self.environ.get(setting.env_name):
            return self.value(setting, self.environ[setting.env_name], source(setting.env_name))
        if setting.file and data.get(setting.name) is not None:
            value = self.value(setting, data[setting.name], self.document.at((setting.name,)))
            return beside(self.document, value) if setting.kind is PATH else value
        return setting.default

    def value(self, setting: Setting, value: object, where: Where) -> object:
        self.came[setting.name] = where
        self.told.doubt.discard(setting.name)  # whatever the file says of it does not count
        try:
            fit = setting.kind.read(value)
            if setting.name == "passthrough":
                self.passthrough(cast(tuple[str, ...], fit), where)
            return fit
        except Unfit as unfit:
            got = "" if setting.secret or "@" in str(value) else f", got {shown(value)}"  # a URL may hold a password
            self.told.add(where, f"{setting.name}: expected {unfit}{got}.{_service_link(setting, value)}")
            self.told.doubt.add(setting.name)
            return None

    def passthrough(self, names: Sequence[str], where: Where) -> None:
        moderated = [base + MODERATED + "/" for base in ("", *_BASES)]
        for name in names:
            if any(path.startswith(below + "/") for path in moderated for below in (name, _below_base(name))):
                self.told.add(where, f"passthrough: {name} would let {MODERATED} through unmoderated; name what lies beside it.")

    def authorities(self, file: str | None, read_file: Callable[[Path], bytes]) -> None:
        """That the file holds what the upstream's certificate will be checked against."""
        if file is None:
            return
        try:
            # Comments may be in any encoding; certificates are ASCII. An empty text would be an error of another kind.
            pem = re.sub(rb"[^\x00-\x7f]", b"?", read_file(Path(file))).decode("ascii") + "\n"
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
        except ssl.SSLError:
            self.told.add(self.came["upstream_ca"], f"upstream_ca: expected a PEM file of certificates; {file} holds none.")
        except OSError as error:
            self.told.add(self.came["upstream_ca"], f"upstream_ca: {file} cannot be read: {error.strerror}.")


    def client_certificate(self, cert: str | None, key: str | None) -> None:
        """That the two can be read and belong together."""
        if cert is None:
            if key is not None:
                self.told.add(self.came["upstream_client_key"], "upstream_client_key: needs upstream_client_cert beside it.")
            return
        where = self.came["upstream_client_cert"]
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key, password=lambda: "")
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                self.told.add(where, "upstream_client_cert: the certificate and the private key do not belong together.")
            else:
                self.told.add(where, "upstream_client_cert: expected PEM files of a certificate and of its private key without a "
                                     f"password; {cert}{f' and {key}' if key else ''} do not hold them.")
        except OSError as error:
            # The library does not say which of the two it is.
            both = cert if key is None else f"{cert} or {key}"
            self.told.add(where, f"upstream_client_cert: {both} cannot be read: {error.strerror}.")


def _service_link(setting: Setting, value: object) -> str:
    if setting.name == "port" and isinstance(value, str) and value.startswith("tcp://"):
        return " Kubernetes sets this for a service called `moderation`: set enableServiceLinks: false, or pass --port."
    return ""
