"""Texts that models are evaluated on and that must never be learnt: kept as hashes, so that no text is here."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Set
from pathlib import Path


def norm(text: str) -> str:
    """The text as NFKC in lower case with nothing but letters and digits: the form that is hashed and compared."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def key(text: str) -> str:
    """The first 24 hex digits of the SHA-256 of the normal form."""
    return hashlib.sha256(norm(text).encode()).hexdigest()[:24]


def read_keys(path: Path) -> frozenset[str]:
    """The keys of a held-out file, one a line; an empty file is an error, since it would let everything through."""
    keys = frozenset(line.strip() for line in path.read_text(encoding="ascii").splitlines() if line.strip())
    if not keys:
        raise ValueError(f"{path}: no held-out key")
    wrong = next((k for k in keys if len(k) != 24 or set(k) - set("0123456789abcdef")), None)
    if wrong is not None:
        raise ValueError(f"{path}: not a key of 24 hex digits: {wrong!r}")
    return keys


def is_held_out(fields: Iterable[str], keys: Set[str]) -> bool:
    """Whether any of the fields is a held-out text."""
    return any(norm(field) and key(field) in keys for field in fields)
