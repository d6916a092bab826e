"""The one table of settings: names, flags, variables, types, defaults, help. Knows no value and reads nothing.

The command line, the environment, moderation.yaml and docs/settings.md are all made from SETTINGS; config.py puts values in.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

ENV_PREFIX = "MODERATION_"
KIB, MIB = 1 << 10, 1 << 20
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_UNIT_BYTES = {"": 1, "kb": 1000, "mb": 1_000_000, "kib": KIB, "mib": MIB}
_HOST = re.compile(r"[A-Za-z0-9_.\-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")  # a name, or an IPv6 address without its brackets


class Unfit(ValueError):
    """A value that a setting cannot take. Its text goes on after `expected `."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value: what it is for people, and how a string (flag, variable) or a YAML value becomes one."""

    words: str
    read: Callable[[object], object]


def _text(value: object, pattern: str, words: str) -> str:
    if isinstance(value, str) and re.fullmatch(pattern, value):
        return value
    raise Unfit(words)


def _whole(value: object, low: int, high: int, words: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise Unfit(words)


def _seconds(value: object) -> float:
    if isinstance(value, str) and (found := re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h)?", value)):
        value = float(found[1]) * _UNIT_SECONDS[found[2] or "s"]
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 86_400 * 7:
        return float(value)
    raise Unfit(SECONDS.words)


def _size(value: object) -> int:
    if isinstance(value, str) and (found := re.fullmatch(r"(?i)([0-9]{1,12}) ?(kb|mb|kib|mib|)", value)):
        value = int(found[1]) * _UNIT_BYTES[found[2].lower()]
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1 << 40:
        return value
    raise Unfit(SIZE.words)


def _url(value: object) -> str:
    text = _text(value, r"https?://[^\s?#@\\]+", URL.words)
    try:
        parts = urlsplit(text)
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        raise Unfit(URL.words) from None
    if not port_fits or not parts.hostname or not _HOST.fullmatch(parts.hostname) or not plain_path(parts.path):
        raise Unfit(URL.words)
    return text.rstrip("/")


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        paths = tuple("/" + name.strip("/") for name in value)
        if all(plain_path(path) and path != "/" for path in paths):
            return paths
    raise Unfit(PATH_NAMES.words)


def plain_path(path: str) -> bool:
    """Whether every reader takes this path for the same one: no dot segments, no empty ones, no backslash, none of these encoded.

    A path that is refused by name must not come back through `/v1/chat/../files`.
    """
    return not _MURKY.search(path)


_MURKY = re.compile(r"(?i)//|\\|%5c|%2f|%00|[\x00-\x20\x7f#?]|/(?:\.|%2e){1,2}(?=/|$)")


def _proxy(value: object) -> str:
    try:
        fit = _url(value)
    except Unfit:
        raise Unfit(PROXY.words) from None
    if urlsplit(fit).path or not fit.startswith("http://"):
        raise Unfit(PROXY.words)
    return fit


def choice(*words: str) -> Kind:
    said = "one of " + ", ".join(words)

    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise Unfit(said)

    return Kind(said, read)


def count(low: int, high: int) -> Kind:
    words = f"a whole number from {low} to {high}"
    return Kind(words, lambda value: _whole(value, low, high, words))


def text(pattern: str, words: str) -> Kind:
    return Kind(words, lambda value: _text(value, pattern, words))


def _hosts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if isinstance(value, list) and all(isinstance(name, str) and (name == "*" or _HOST.fullmatch(name)) for name in value):
        return tuple(name.lower() for name in value)
    raise Unfit(HOSTS.words)


URL = Kind("a URL like https://host or https://host/compatible-mode/v1, without user, query or fragment", _url)
PROXY = Kind("a proxy like http://proxy:3128, without a path; its user goes into MODERATION_UPSTREAM_PROXY_AUTH", _proxy)
PROXY_AUTH = text(r"[^:\x00-\x1f\x7f]+:[^\x00-\x1f\x7f]*", "USER:PASSWORD")
SECONDS = Kind("a time like 30, 500ms, 30s, 5m, at most 7 days", _seconds)
SIZE = Kind("a size in bytes like 65536, 64KiB, 20MiB", _size)
PORT = count(0, 65_535)
PATH = text(r"[^\x00]{1,4096}", "a path")
NAME = text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name of at most 64 letters, digits, `.`, `_`, `-`, a letter or digit first")
HOST = text(r"[A-Za-z0-9_.:\-]{1,255}", "a host name or address")
ENV_NAME = text(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "the name of an environment variable")
ERROR_CODE = text(r"[A-Za-z][A-Za-z0-9_.]{0,63}", "a code of at most 64 letters, digits, `.`, `_`")
ORIGIN = text(r"[^\s+]{1,255}", "a name without spaces and `+`")
TOKEN = text(r"[\x21-\x7e]{16,512}", "16 to 512 printable ASCII characters without spaces")
HOSTS = Kind("a list of host names or addresses without ports, like moderation.svc, ::1; `*` for any", _hosts)
PATH_NAMES = Kind("a list of paths like /embeddings, /files", _names)


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    kind: Kind
    default: object
    help: str
    flag: bool = True
    file: bool = True
    secret: bool = False
    """True where neither the value nor a part of it may be shown."""

    @property
    def flag_name(self) -> str | None:
        return "--" + self.name.replace("_", "-") if self.flag else None

    @property
    def env_name(self) -> str:
        return ENV_PREFIX + self.name.upper()

    @property
    def shown_default(self) -> str:
        match self.default:
            case None | ():
                return ""
            case float(seconds):
                return f"{seconds:g}s"
            case int(number) if self.kind is SIZE:
                return f"{number // MIB}MiB" if number % MIB == 0 else f"{number // KIB}KiB"
            case value:
                return str(value)


SETTINGS: tuple[Setting, ...] = (
    Setting("config", PATH, None, "The YAML file of settings; `moderation.yaml` in the working directory, where there is one.",
            file=False),
    Setting("upstream", URL, None, "Where requests go: a base URL (served at /v1) or an origin alone (served path by path)."),
    Setting("policy", PATH, None, "The policy file; without it the default policy that ships."),
    Setting("host", HOST, "127.0.0.1", "The address to listen on."),
    Setting("port", PORT, 8080, "The port to listen on; 0 takes a free one."),
    Setting("workers", count(1, 64), 1, "Processes that serve the port; each has a log of its own in the data folder."),
    Setting("data", PATH, "./moderation-data", "The folder of the decision log."),
    Setting("keys", PATH, None, "The folder of the log's private keys; `keys` in the data folder where not given."),
    Setting("origin", ORIGIN, None,
            "The log's name in its checkpoints, fixed at its first start; `moderation/HOST/log-N` where not given."),
    Setting("admin_port", PORT, None, "The port of /metrics and /docs when `host` is not loopback."),
    Setting("admin_token", TOKEN, None, "The token that these paths want on the admin port.",
            flag=False, file=False, secret=True),
    Setting("tenant", NAME, "default", "The tenant of requests that neither a client key nor a route gives one."),
    Setting("region", NAME, "default", "The region of `upstream`."),
    Setting("upstream_key_env", ENV_NAME, None,
            "The variable that holds the upstream's API key; with neither it nor `clients`, the caller's Authorization goes on."),
    Setting("upstream_ca", PATH, None, "A PEM file of authorities to trust for the upstream, instead of the system's."),
    Setting("upstream_client_cert", PATH, None, "A PEM file of the certificate, and its chain, that the upstream may ask for."),
    Setting("upstream_client_key", PATH, None, "Its private key, PEM without a password; in the same file where not given."),
    Setting("upstream_proxy", PROXY, None, "An HTTP proxy to go through; an https upstream is reached by CONNECT."),
    Setting("upstream_proxy_auth", PROXY_AUTH, None, "What the proxy wants to know, as USER:PASSWORD.",
            flag=False, file=False, secret=True),
    Setting("upstream_connections", count(0, 100_000), 0,
            "The most connections to one upstream, of each worker; a request waits for a free one as long as for a new one "
            "(`connect_timeout`). 0 is one for each request in flight."),
    Setting("durability", choice("strict", "fast"), "strict",
            "`strict` forwards and releases what is on disk in the log; `fast` lets the disk follow within 50 ms."),
    Setting("block_as", choice("error", "completion"), "error",
            "How a blocked request is answered: an HTTP 400 error, or a normal completion with the policy's message."),
    Setting("block_code", ERROR_CODE, "data_inspection_failed", "`error.code` of a block."),
    Setting("passthrough", PATH_NAMES, (), "Paths under the base that pass unmoderated, by name. What they carry is not read."),
    Setting("max_body", SIZE, 20 * MIB, "The largest request body, after content-coding."),
    Setting("max_answer", SIZE, 64 * MIB, "The largest answer that is not streamed."),
    Setting("max_streams", count(1, 100_000), 1000,
            "The most requests in flight, in each worker; one more is refused with 503."),
    Setting("max_memory", SIZE, 128 * MIB,
            "The most bytes of bodies held at once, over all requests in flight of a worker; one that would need more is refused "
            "with 503."),
    Setting("max_wait", SECONDS, 1.0,
            "How long requests may wait for the processor before new ones are refused with 503; 0 refuses none for that."),
    Setting("stream_buffer", SIZE, 256 * KIB, "How much of one answer is read ahead of a slow client."),
    Setting("cache", SIZE, 32 * MIB, "Memory for judged segments, in each worker."),
    Setting("allowed_hosts", HOSTS, (),
            "The names that requests may call this host by (their header Host, any port); `*` allows all. Where not given: "
            "all, but on loopback only `localhost`, loopback addresses and `host`: no web page gets in by a name of its own."),
    Setting("head_timeout", SECONDS, 30.0, "How long a client may take to send a request's headers; 0 waits for ever."),
    Setting("body_timeout", SECONDS, 300.0, "How long a client may take to send a request's body; 0 waits for ever."),
    Setting("connect_timeout", SECONDS, 10.0, "How long a connection to the upstream may take."),
    Setting("first_byte_timeout", SECONDS, 600.0, "How long the upstream may take to begin its answer."),
    Setting("idle_timeout", SECONDS, 120.0, "How long the upstream may be silent in the middle of an answer."),
    Setting("total_timeout", SECONDS, 3600.0, "How long one answer may take altogether."),
    Setting("drain", SECONDS, 30.0, "How long streams may go on after SIGTERM."),
    Setting("log_level", choice("debug", "info", "warning", "error"), "info", "What is said on stderr. It never holds content."),
)

BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}
