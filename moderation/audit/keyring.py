"""The log's private keys on disk: one Ed25519 key a log, and the key behind fingerprints.

They lie apart from the log, mode 0600. Knows nothing of leaves.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from moderation.audit.disk import Disk
from moderation.audit.note import NoteError, Signer, parse_signer
from moderation.errors import LogError


@dataclass(frozen=True, slots=True)
class Keyring:
    """The folder of keys."""

    folder: Path
    disk: Disk

    def signer(self, log: Path, origin: str | None, host: str) -> Signer:
        """The key of this log, made at its first start. The origin is fixed then: `<origin or moderation/host>/<log folder>`."""
        self.disk.make_folder(self.folder, 0o700)
        path = self.folder / f"{log.name}.key"
        wanted = None if origin is None else _named(origin, log.name)
        if not path.exists():
            if (log / "key.pub").exists():
                raise LogError(f"{path}: the private key of {log} is missing. Put it back (see --keys), or move the log folder "
                               "away for keeping and start a new one; a new key for an old log would look like a forgery")
            try:
                signer = Signer(wanted or _named(f"moderation/{host}", log.name), secrets.token_bytes(32))
            except NoteError as error:
                raise LogError(f"origin: {error}") from None
            self.disk.create(path, f"{signer.line()}\n".encode(), 0o600)
        try:
            signer = parse_signer(self._secret(path).decode("utf-8"))
        except (NoteError, UnicodeDecodeError) as error:
            raise LogError(f"{path}: not a private key ({error}); put the right file back") from None
        if wanted is not None and wanted != signer.verifier.name:
            raise LogError(f"origin: {wanted}, but {log} has been {signer.verifier.name} since its first start; an origin is "
                           "fixed. Take the setting back, or use another --data and --keys")
        self._publish(log / "key.pub", f"{signer.verifier.line()}\n".encode())
        return signer

    def fingerprint_key(self) -> bytes:
        """The key behind fingerprints of names, one for all logs of these keys."""
        self.disk.make_folder(self.folder, 0o700)
        path = self.folder / "fingerprint.key"
        if not path.exists():
            with contextlib.suppress(FileExistsError):  # another process was quicker, and its key serves as well
                self.disk.create(path, secrets.token_bytes(32).hex().encode() + b"\n", 0o600)
        try:
            key = bytes.fromhex(self._secret(path).decode("ascii"))
        except ValueError:
            key = b""
        if len(key) != 32:
            raise LogError(f"{path}: expected 64 hexadecimal digits; put the right file back")
        return key

    def _secret(self, path: Path) -> bytes:
        mode = stat.S_IMODE(os.stat(path).st_mode)
        if mode & 0o077:
            raise LogError(f"{path}: mode {mode:04o} lets others read the key; run chmod 600 on it")
        return self.disk.read(path)

    def _publish(self, path: Path, line: bytes) -> None:
        if not path.exists():
            self.disk.replace(path, line)
        elif self.disk.read(path) != line:
            raise LogError(f"{path}: not the public half of the private key in {self.folder}; one of the two was replaced")


def _named(origin: str, log: str) -> str:
    return origin if origin.endswith(f"/{log}") else f"{origin}/{log}"
