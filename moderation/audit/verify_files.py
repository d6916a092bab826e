"""The formats of the log as the verifier reads them: locks, signatures, headers, frames, members of leaves.

Written a second time, on purpose: imports nothing of the code that wrote the files, so that the two can disagree.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import os
import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from zlib import crc32

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Key = tuple[str, bytes, str]
"""Name, public key, and the line they came from."""
Header = tuple[bytes, int, bytes, tuple[bytes, ...], int]
"""Origin hash, first index, hash of the leaf before, compact range, and where the frames begin."""

Signed = tuple[str, str, str, int, bytes]
"""Signed text, signature lines, origin, size and root of a checkpoint."""

FRAME = struct.Struct(">II")
HEAD = struct.Struct(">4sHH32sQ32s")
COMMIT = struct.Struct(">BQ32sI")
_MAX_PAYLOAD = 65_536


def read_key(data: bytes) -> Key | None:
    """A verifier key line; None where it is none."""
    try:
        line = data.decode("utf-8").removesuffix("\n")
        name, identity, blob = line.split("+", 2)
        key = base64.b64decode(blob, validate=True)
    except (ValueError, binascii.Error):
        return None
    expected = sha256(name.encode() + b"\n" + key).digest()[:4].hex()
    sound = len(key) == 33 and key[0] == 1 and identity == expected and base64.b64encode(key).decode() == blob
    return (name, key[1:], line) if sound else None


def read_checkpoint(data: bytes) -> Signed | None:
    """A checkpoint; None where it is none. Checks no signature."""
    try:
        text, _, signatures = data.decode("utf-8").partition("\n\n")
        origin, size, blob = text.split("\n")
        root = base64.b64decode(blob, validate=True)
        sound = data.endswith(b"\n") and size.isascii() and size.isdecimal() and str(int(size)) == size and len(root) == 32
    except (ValueError, binascii.Error):
        return None
    return (f"{text}\n", signatures, origin, int(size), root) if sound and base64.b64encode(root).decode() == blob else None


def is_in_use(folder: Path) -> bool:
    """Whether a process holds the folder's lock."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def is_signed(text: str, signatures: str, key: Key) -> bool:
    name, public, line = key
    for row in signatures.split("\n"):
        if row.startswith(f"\u2014 {name} "):
            try:
                blob = base64.b64decode(row.rsplit(" ", 1)[1], validate=True)
                if blob[:4].hex() == line.split("+")[1] and base64.b64encode(blob).decode() == row.rsplit(" ", 1)[1]:
                    Ed25519PublicKey.from_public_bytes(public).verify(blob[4:], text.encode())
                    return True
            except (InvalidSignature, ValueError, binascii.Error):
                continue
    return False


def header(data: bytes) -> Header | None:
    """The header a file begins with; None where there is no sound one."""
    if len(data) < HEAD.size:
        return None
    magic, version, count, origin, first, prev = HEAD.unpack_from(data)
    end = HEAD.size + 32 * count
    sound = magic == b"QSEG" and version == 1 and count == first.bit_count()
    if not sound or data[end : end + 4] != struct.pack(">I", crc32(data[:end])):
        return None
    return origin, first, prev, tuple(data[i : i + 32] for i in range(HEAD.size, end, 32)), end + 4


def frames(data: bytes, at: int) -> Iterator[tuple[int, bytes | None]]:
    """Sound frames, up to the end or the first bad one (None)."""
    while at < len(data):
        payload = _payload(data, at)
        yield at, payload
        if payload is None:
            return
        at += FRAME.size + len(payload)


def _payload(data: bytes, at: int) -> bytes | None:
    if len(data) - at < FRAME.size:
        return None
    length, crc = FRAME.unpack_from(data, at)
    payload = data[at + FRAME.size : at + FRAME.size + length]
    if not 1 <= length <= _MAX_PAYLOAD or len(payload) < length or crc32(payload) != crc:
        return None
    return payload if payload[0] == 1 or (payload[0] == 2 and length == COMMIT.size) else None


def ends_inside(data: bytes, at: int) -> bool:
    """Whether the file ends in the middle of the frame at this byte: what an interrupted write leaves."""
    rest = len(data) - at - FRAME.size
    return rest < 0 or (1 <= FRAME.unpack_from(data, at)[0] <= _MAX_PAYLOAD and rest < FRAME.unpack_from(data, at)[0])


def commit_after(data: bytes, at: int) -> bool:
    mark = struct.pack(">I", COMMIT.size)
    found = data.find(mark, at + 1)
    while found >= 0:
        payload = _payload(data, found)
        if payload is not None and payload[0] == 2:
            return True
        found = data.find(mark, found + 1)
    return False


def number(leaf: dict[str, object], name: str) -> int:
    value = leaf[name]
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def text(leaf: dict[str, object], name: str) -> str:
    value = leaf[name]
    if type(value) is not str:
        raise ValueError
    return value


def mapping(leaf: dict[str, object], name: str) -> dict[str, object]:
    value = leaf[name]
    if not isinstance(value, dict):
        raise ValueError
    return value


def rows(leaf: dict[str, object], name: str) -> list[list[object]]:
    value = leaf[name]
    if not isinstance(value, list) or not all(isinstance(row, list) for row in value):
        raise ValueError
    return value
