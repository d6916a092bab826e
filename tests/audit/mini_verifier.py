"""A verifier written from docs/audit.md alone, for tests: it shares no code with the project.

`check(folder)` raises ValueError for a log folder that is not sound, and gives back its leaves.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def need(fact: bool, what: str) -> None:
    if not fact:
        raise ValueError(what)


def unb64(text: str) -> bytes:
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text, "base64")
    return data


def subtrees(hashes: list[bytes]) -> list[bytes]:
    """Roots of the perfect subtrees, leftmost first."""
    roots: list[bytes] = []
    start = 0
    for bit in range(len(hashes).bit_length() - 1, -1, -1):
        if len(hashes) >> bit & 1:
            roots.append(perfect(hashes[start : start + (1 << bit)]))
            start += 1 << bit
    return roots


def perfect(hashes: list[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [sha(b"\x01", hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


def root(hashes: list[bytes]) -> bytes:
    if not hashes:
        return sha(b"")
    *rest, node = subtrees(hashes)
    for left in reversed(rest):
        node = sha(b"\x01", left, node)
    return node


def check(folder: Path) -> list[dict[str, Any]]:
    line = (folder / "key.pub").read_text().removesuffix("\n")
    name, identity, blob = line.split("+", 2)
    key = unb64(blob)
    need(len(key) == 33 and key[0] == 1 and sha(name.encode(), b"\n", key)[:4].hex() == identity, "key.pub")
    hashes: list[bytes] = []
    leaves: list[dict[str, Any]] = []
    files = sorted((int(p.name[4:-5]), p) for p in folder.glob("seg-*.qseg"))
    for first, path in files:
        data = path.read_bytes()
        need(len(data) >= 84, "header")
        magic, version, k, origin, index, before = struct.unpack(">4sHH32sQ32s", data[:80])
        end = 80 + 32 * k
        need((magic, version, k, origin) == (b"QSEG", 1, len(subtrees(hashes)), sha(name.encode())), "header")
        need(index == first == len(hashes) and before == (hashes[-1] if hashes else bytes(32)), "header place")
        need(data[80:end] == b"".join(subtrees(hashes)), "compact range")
        need(data[end : end + 4] == struct.pack(">I", zlib.crc32(data[:end])), "header crc")
        at, batch = end + 4, []
        while at < len(data):
            need(at + 8 <= len(data), "frame")
            length, crc = struct.unpack(">II", data[at : at + 8])
            payload = data[at + 8 : at + 8 + length]
            need(1 <= length == len(payload) and zlib.crc32(payload) == crc, "frame")
            if payload[0] == 1:
                batch.append(payload[1:])
            else:
                need(payload[0] == 2 and length == 45, "payload")
                size, tree, n = struct.unpack(">Q32sI", payload[1:])
                for leaf in batch:
                    leaves.append(check_leaf(leaf, hashes, name))
                    hashes.append(sha(b"\x00", leaf))
                need(n == len(batch) > 0 and size == len(hashes) and tree == root(hashes), "commit")
                batch = []
            at += 8 + length
        need(not batch, "records without commit")
    check_checkpoint((folder / "checkpoint").read_text(), name, identity, key[1:], hashes)
    return leaves


def check_leaf(data: bytes, hashes: list[bytes], name: str) -> dict[str, Any]:
    leaf: dict[str, Any] = json.loads(data)
    need(json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() == data, "canonical form")
    prev = base64.b64encode(hashes[-1] if hashes else bytes(32)).decode()
    need((leaf["v"], leaf["idx"], leaf["prev"], leaf["log"]) == (1, len(hashes), prev, name), "stamps")
    return leaf


def check_checkpoint(note: str, name: str, identity: str, public: bytes, hashes: list[bytes]) -> None:
    text, _, signatures = note.partition("\n\n")
    origin, size, tree = text.split("\n")
    need(origin == name and int(size) <= len(hashes) and unb64(tree) == root(hashes[: int(size)]), "checkpoint")
    row = next(row for row in signatures.split("\n") if row.startswith(f"\u2014 {name} "))
    blob = unb64(row.split(" ")[2])
    need(blob[:4].hex() == identity, "key id")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(blob[4:], f"{text}\n".encode())
    except InvalidSignature:
        raise ValueError("signature") from None
