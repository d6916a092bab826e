"""Looks at the upstreams: name, connection, certificate, `GET /models` with the key where there is one. Never shows a key."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

from moderation.doctor.checks import Found, fault, ok, warn
from moderation.doctor.given import Given, Target
from moderation.doctor.machine import Machine

_SECONDS = 5.0
_SOON, _DRIFT = 14.0, 60.0
_MODEL_STUDIO = re.compile(r"(^|\.)(dashscope[a-z0-9-]*|maas)\.aliyuncs\.com$")
_MOST = 4 << 20
_KEY = re.compile(r"[\x21-\x7e]+")
_REGION = ("A wrong key, or a key of another region: Model Studio's keys belong to one region each. Take the key of the region "
           "of {host}, or the URL of the key's region.")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    date: str | None
    certificate: dict[str, object] | None


def look(given: Given, machine: Machine) -> Iterator[Found]:
    for target in given.targets:
        yield from _target(target, given.upstream_ca, machine)


def _target(target: Target, authorities: str | None, machine: Machine) -> Iterator[Found]:
    parts = urlsplit(target.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = sorted({str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError) as error:
        yield fault("upstream name", f"{host} is not known: {getattr(error, 'strerror', None) or 'not a name'}")
        return
    yield ok("upstream name", f"{host}: {', '.join(addresses[:3])}")
    if target.key is not None and not _KEY.fullmatch(target.key):
        yield fault("upstream answer", "the key holds a space, a line's end or another character that no key has",
                    "Set the variable anew, without quotes and line ends.")
        return
    try:
        answer = _ask(parts, host, port, target.key, authorities)
    except ssl.SSLCertVerificationError as error:
        yield fault("upstream certificate", f"{host}: {error.verify_message}")
    except ssl.SSLError as error:
        yield fault("upstream connection", f"{host}:{port} does not speak TLS as it should: {error.reason}",
                    "Check the URL: https:// for TLS, http:// without.")
    except (OSError, http.client.HTTPException) as error:
        yield fault("upstream connection", f"{host}:{port}: {_why(error)}")
    else:
        yield ok("upstream connection", f"{host}:{port} answers")
        yield _certificate(parts, host, answer, machine.now())
        yield _models(target, host, answer)
        yield from _clock(host, answer, machine.now())


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_SECONDS:g} s"
    if isinstance(error, OSError):
        return error.strerror or "the connection ended"
    return "what answers does not speak HTTP"


def _ask(parts: SplitResult, host: str, port: int, key: str | None, authorities: str | None) -> _Answer:
    """GET /models. Raises OSError (and so ssl.SSLError) and HTTPException."""
    link: http.client.HTTPConnection
    if parts.scheme == "https":
        link = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=ssl.create_default_context(cafile=authorities))
    else:
        link = http.client.HTTPConnection(host, port, timeout=_SECONDS)
    base = parts.path.rstrip("/") or ("/compatible-mode/v1" if _MODEL_STUDIO.search(host) else "/v1")
    try:
        link.connect()
        certificate = link.sock.getpeercert() if isinstance(link.sock, ssl.SSLSocket) else None
        link.request("GET", f"{base}/models", headers={"authorization": f"Bearer {key}"} if key else {})
        answer = link.getresponse()
        return _Answer(answer.status, answer.read(_MOST), answer.getheader("date"), certificate)  # type: ignore[arg-type]
    finally:
        link.close()


def _certificate(parts: SplitResult, host: str, answer: _Answer, now: float) -> Found:
    if answer.certificate is None:
        near = host in ("localhost", "::1") or host.startswith("127.")
        plain = f"{host} is asked over http, without TLS"
        return ok("upstream certificate", plain) if near else warn(
            "upstream certificate", f"{plain}: prompts, answers and the key can be read on the way",
            "Use https:// unless the network is yours.")
    until = ssl.cert_time_to_seconds(str(answer.certificate["notAfter"]))
    said = f"trusted, until {datetime.fromtimestamp(until, UTC):%Y-%m-%d}"
    return ok("upstream certificate", said) if until - now > _SOON * 86_400 else warn(
        "upstream certificate", said, "Have it renewed; where it is not yours, tell its owner.")


def _models(target: Target, host: str, answer: _Answer) -> Found:
    sent, status = target.key is not None, answer.status
    match status:
        case 200:
            count = _count(answer.body)
            if count is None:
                return warn("upstream answer", f"{host} answers GET /models with something that is no list of models",
                            "Check that --upstream is the base of an OpenAI-compatible API.")
            return ok("upstream answer", f"{count} models" + ("; the key is taken" if sent else "; no key was sent"))
        case 401 if sent:
            other = "Check the key: is it this upstream's, and still good?"
            return fault("upstream answer", "401: the key is refused",
                         _REGION.format(host=host) if _MODEL_STUDIO.search(host) else other)
        case 401:
            return ok("upstream answer", "401: it wants a key, and none was given to try; `--key-env NAME` tries one")
        case 403:
            return fault("upstream answer", "403: this key or this address may not ask",
                         "Check what the key may do, and from which addresses.")
        case 404 | 405:
            return warn("upstream answer", f"{status}: it has no list of models, which some servers lack",
                        "Check that the URL ends as your SDK's base_url did, in /compatible-mode/v1 for Model Studio.")
        case 407:
            return fault("upstream answer", "407: a proxy stands between, and wants to know who asks",
                         "Let the sidecar reach the upstream directly.")
        case 429:
            return warn("upstream answer", "429: too many requests just now", "Look at the key's quota.")
        case _ if 300 <= status < 400:
            return fault("upstream answer", f"{status}: it sends one elsewhere, and the sidecar follows nobody",
                         "Give the URL that it leads to.")
        case _:
            return (fault if status >= 500 else warn)("upstream answer", f"{status}", "Ask whoever runs the upstream.")


def _count(body: bytes) -> int | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    data = value.get("data") if isinstance(value, dict) else None
    return len(data) if isinstance(data, list) else None


def _clock(host: str, answer: _Answer, now: float) -> Iterator[Found]:
    try:
        theirs = parsedate_to_datetime(answer.date or "").timestamp()
    except ValueError:
        return
    drift = now - theirs
    if abs(drift) > _DRIFT:
        yield warn("clock", f"it is {abs(drift):.0f} s {'ahead of' if drift > 0 else 'behind'} the clock of {host}")
