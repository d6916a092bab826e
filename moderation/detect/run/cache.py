"""What detectors said of texts that were judged before, bounded in bytes, without the texts.

A key is a keyed hash (BLAKE2b, RFC 7693 2.9) under a key of this process, over tenant and text, beside the detector's version:
nobody can tell from it what was said, nor can one tenant's text answer for another's. Used from one thread. Knows nothing of
detectors.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

ENTRY = 400
FINDING = 360
WINDOW = 180
"""Bytes that an entry, a finding and a window take, about."""


class Cache:
    """Least recently used goes first. A bound of 0 keeps nothing."""

    def __init__(
        self, bound: int, key: bytes | None = None, count: Callable[[str, int], None] = lambda result, times: None
    ) -> None:
        """`bound` is in bytes; `key` is for tests, else it is drawn anew for each process.

        `count` is told `hit` or `miss`, and how many.
        """
        self._count = count
        self._bound = bound
        self._key = key if key is not None else secrets.token_bytes(32)
        self._begun: dict[str, blake2b] = {}
        """The hash so far, for each tenant."""
        self._kept: OrderedDict[tuple[bytes, str], tuple[object, int]] = OrderedDict()
        self._size = 0
        self.hits = 0
        self.misses = 0

    @property
    def size(self) -> int:
        """Bytes held, about."""
        return self._size

    def fingerprint(self, tenant: str, text: str, before: str = "") -> bytes:
        """What stands for a text of a tenant, after another where it depends on that; also the first half of a key."""
        begun = self._begun.get(tenant)
        if begun is None:  # tenants come from the configuration, so they are few
            owner = tenant.encode("utf-8", "surrogatepass")
            begun = self._begun[tenant] = blake2b(len(owner).to_bytes(4, "big") + owner, digest_size=32, key=self._key)
        whole = begun.copy()
        whole.update(text.encode("utf-8", "surrogatepass"))
        if before:
            # No text has a byte FF in it, so no other text says the same.
            whole.update(b"\xff" + before.encode("utf-8", "surrogatepass"))
        return whole.digest()

    def count(self, hits: int, misses: int) -> None:
        """Tell how many of the last look-ups found something: once for many, for counting takes longer than looking."""
        self.hits += hits
        self.misses += misses
        if hits:
            self._count("hit", hits)
        if misses:
            self._count("miss", misses)

    def get(self, text: bytes, version: str) -> object | None:
        """What was put under this key; None where nothing is kept."""
        found = self._kept.get((text, version))
        if found is None:
            return None
        self._kept.move_to_end((text, version))
        return found[0]

    def put(self, text: bytes, version: str, kept: object, weight: int) -> None:
        """Keep something, without text in it, that takes `weight` bytes besides its entry."""
        key = (text, version)
        if (before := self._kept.pop(key, None)) is not None:
            self._size -= before[1]
        self._kept[key] = (kept, ENTRY + weight)
        self._size += ENTRY + weight
        while self._size > self._bound and self._kept:
            _, (_, gone) = self._kept.popitem(last=False)
            self._size -= gone
