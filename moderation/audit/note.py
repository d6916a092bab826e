"""C2SP signed notes, verifier keys and tlog-checkpoints.

Pure but for Ed25519, which comes from `cryptography`. Knows nothing of files, nor of what a log holds.
Formats: c2sp.org/signed-note, c2sp.org/tlog-checkpoint, c2sp.org/tlog-cosignature (timestamped Ed25519 only).
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from moderation.errors import ModerationError

ED25519 = 0x01
COSIGNATURE = 0x04
_DASH = "\u2014 "
_MAX_NOTE = 1_000_000
_PRIVATE = "PRIVATE+KEY+"


class NoteError(ModerationError):
    """Bytes that are not a signed note, a checkpoint or a key line, or a signature that does not hold."""


@dataclass(frozen=True, slots=True)
class Signature:
    name: str
    blob: bytes
    """Key id (4 bytes) and the signature itself."""


@dataclass(frozen=True, slots=True)
class Note:
    text: str
    """Signed text, with its last newline."""
    signatures: tuple[Signature, ...]

    def to_bytes(self) -> bytes:
        lines = "".join(f"{_DASH}{s.name} {base64.b64encode(s.blob).decode()}\n" for s in self.signatures)
        return f"{self.text}\n{lines}".encode()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with its name; `kind` is ED25519 or COSIGNATURE."""

    name: str
    kind: int
    public: bytes

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, self.kind, self.public)

    def line(self) -> str:
        """name+keyid+base64(type || public key)"""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"

    def verify(self, note: Note) -> int | None:
        """Check this key's signature on the note. Gives a cosignature's time, None for a plain one."""
        for signature in note.signatures:
            if signature.name != self.name or signature.blob[:4] != self.key_id:
                continue
            blob, message, when = signature.blob[4:], note.text.encode(), None
            if self.kind == COSIGNATURE:
                if len(blob) != 72:
                    raise NoteError(f"signature of {self.name}: a cosignature has 72 bytes after the key id")
                when = int(struct.unpack(">Q", blob[:8])[0])
                blob, message = blob[8:], f"cosignature/v1\ntime {when}\n{note.text}".encode()
            try:
                Ed25519PublicKey.from_public_bytes(self.public).verify(blob, message)
            except InvalidSignature:
                raise NoteError(f"signature of {self.name}: does not fit the text") from None
            return when
        raise NoteError(f"no signature by {self.name} with key id {self.key_id.hex()}")


class Signer:
    """A private Ed25519 key with its name."""

    __slots__ = ("_private", "verifier")

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(check_name(name), ED25519, self._private.public_key().public_bytes_raw())

    def sign(self, text: str) -> Note:
        _check_text(text)
        return Note(text, (Signature(self.verifier.name, self.verifier.key_id + self._private.sign(text.encode())),))

    def line(self) -> str:
        """The private key as one line, in the form that Go's note package uses."""
        secret = base64.b64encode(bytes([ED25519]) + self._private.private_bytes_raw()).decode()
        return f"{_PRIVATE}{self.verifier.name}+{self.verifier.key_id.hex()}+{secret}"


def key_id(name: str, kind: int, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def check_name(name: str) -> str:
    """A key's or origin's name: not empty, no spaces, control characters or plus signs, at most 120 characters."""
    if not name or len(name) > 120 or "+" in name or any(c.isspace() or not c.isprintable() for c in name):
        raise NoteError("key name: expected 1 to 120 printable characters without spaces and plus signs")
    return name


def parse_verifier(line: str) -> Verifier:
    name, identity, data = _key_parts(line, 0)
    if data[0] not in (ED25519, COSIGNATURE) or len(data) != 33:
        raise NoteError("verifier key: expected type 0x01 or 0x04 and 32 bytes of Ed25519 public key")
    verifier = Verifier(name, data[0], data[1:])
    if verifier.key_id.hex() != identity:
        raise NoteError("verifier key: the key id does not belong to this name and key")
    return verifier


def parse_signer(line: str) -> Signer:
    if not line.startswith(_PRIVATE):
        raise NoteError("private key: expected a line that begins with PRIVATE+KEY+")
    name, identity, data = _key_parts(line, len(_PRIVATE))
    if data[0] != ED25519 or len(data) != 33:
        raise NoteError("private key: expected type 0x01 and 32 bytes of seed")
    signer = Signer(name, data[1:])
    if signer.verifier.key_id.hex() != identity:
        raise NoteError("private key: the key id does not belong to this name and key")
    return signer


def _key_parts(line: str, start: int) -> tuple[str, str, bytes]:
    parts = line[start:].removesuffix("\n").split("+", 2)
    if len(parts) != 3:
        raise NoteError("key: expected NAME+KEYID+BASE64 on one line")
    data = decode_base64(parts[2], "key")
    if not data:
        raise NoteError("key: empty")
    return check_name(parts[0]), parts[1], data


def parse_note(data: bytes) -> Note:
    """Read a signed note. Signatures are parsed, not checked."""
    if len(data) > _MAX_NOTE:
        raise NoteError(f"note: more than {_MAX_NOTE} bytes")
    try:
        whole = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoteError(f"note: not UTF-8 at byte {error.start}") from None
    cut = whole.rfind("\n\n")
    if cut < 0 or not whole.endswith("\n"):
        raise NoteError("note: expected a text, an empty line and signature lines")
    text = whole[: cut + 1]
    _check_text(text)
    lines = whole[cut + 2 : -1].split("\n") if len(whole) > cut + 2 else []
    signatures = tuple(_signature(line) for line in lines)
    if not signatures:
        raise NoteError("note: no signature lines")
    return Note(text, signatures)


def _signature(line: str) -> Signature:
    words = line.removeprefix(_DASH).split(" ")
    if not line.startswith(_DASH) or len(words) != 2:
        raise NoteError("note: a signature line is an em dash, a name and base64, with one space between")
    blob = decode_base64(words[1], "signature")
    if len(blob) < 5:
        raise NoteError("note: a signature of fewer than 5 bytes")
    return Signature(check_name(words[0]), blob)


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in text):
        raise NoteError("note: the text ends with a newline and holds no other control characters")


def parse_checkpoint(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise NoteError("checkpoint: expected the lines origin, size and root, and no more")
    if not lines[1].isascii() or not lines[1].isdecimal() or (lines[1] != "0" and lines[1].startswith("0")) or len(lines[1]) > 16:
        raise NoteError("checkpoint: the size is a decimal number without leading zeros")
    root = decode_base64(lines[2], "checkpoint root")
    if len(root) != 32:
        raise NoteError("checkpoint: the root has 32 bytes")
    return Checkpoint(check_name(lines[0]), int(lines[1]), root)


def open_checkpoint(data: bytes, verifiers: Iterable[Verifier]) -> Checkpoint:
    """Read a checkpoint and check the signatures of all the given keys."""
    note = parse_note(data)
    for verifier in verifiers:
        verifier.verify(note)
    return parse_checkpoint(note.text)


def decode_base64(text: str, what: str) -> bytes:
    """Standard, padded, canonical base64; any other form is refused."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise NoteError(f"{what}: not base64") from None
    if base64.b64encode(data).decode() != text:
        raise NoteError(f"{what}: not canonical base64")
    return data
