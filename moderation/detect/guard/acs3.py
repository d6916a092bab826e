"""Alibaba Cloud's request signature, version 3: ACS3-HMAC-SHA256 over method, path, query, headers and the body's hash.

Written from "V3 request structure and signature" (help.aliyun.com/zh/sdk/product-overview/v3-request-structure-and-signature);
its worked example is a test. Pure: date and nonce are handed in.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

ALGORITHM = "ACS3-HMAC-SHA256"
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An AccessKey pair."""

    id: str
    secret: str = field(repr=False)


def escaped(text: str) -> str:
    """Percent-encoded as RFC 3986 has it: a space is %20, a tilde stays."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())


def form(fields: Mapping[str, str]) -> str:
    """Fields as a query or a form, sorted by name."""
    return "&".join(f"{escaped(name)}={escaped(value)}" for name, value in sorted(fields.items()))


def signed(
    credentials: Credentials,
    host: str,
    action: str,
    version: str,
    date: str,
    nonce: str,
    *,
    query: str = "",
    body: bytes = b"",
    content_type: str | None = None,
) -> dict[str, str]:
    """The headers of a signed POST to `/`: all that must go out, `host` and `authorization` among them."""
    digest = hashlib.sha256(body).hexdigest()
    headers = {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": digest,
        "x-acs-date": date,
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    if content_type is not None:
        headers["content-type"] = content_type
    names = ";".join(sorted(headers))
    canonical = "".join(f"{name}:{headers[name].strip()}\n" for name in sorted(headers))
    request = "\n".join(("POST", "/", query, canonical, names, digest))
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(credentials.secret.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    return headers | {"authorization": f"{ALGORITHM} Credential={credentials.id},SignedHeaders={names},Signature={signature}"}
