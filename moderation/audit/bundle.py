"""Policies as they were when they decided, kept under DATA/policies/<hash>/ so that each decision can be decided again.

Files in, files out; knows nothing of what stands in them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path, PurePosixPath

from moderation.audit.disk import Disk
from moderation.errors import LogError

_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_VARIANT = re.compile(r".+\.v-[0-9a-f]{16}")


class Bundles:
    """All kept policies of one data folder."""

    def __init__(self, data: Path, disk: Disk | None = None) -> None:
        self.folder = data / "policies"
        self._disk = disk or Disk()

    def keep(self, policy_hash: str, files: Mapping[str, bytes]) -> None:
        """Keep the files of a policy. They are durable when this returns; a policy that is kept already costs a comparison.

        The hash covers what the policy means. Where a file differs all the same (a comment, another engine version), it is kept
        beside the first one as NAME.v-<16 hex digits of its SHA-256>.
        """
        target = self._target(policy_hash)
        for name in files:
            if not _NAME.fullmatch(name) or _VARIANT.fullmatch(name):
                raise LogError(f"policies/{policy_hash}: {name!r} is no file name that can be kept")
        try:
            if target.is_dir():
                self._keep_variants(target, files)
            else:
                self._keep_new(target, files)
        except OSError as error:
            raise LogError(f"{target}: {error.strerror}; the policy cannot be kept, so it cannot be activated") from None

    def read(self, policy_hash: str) -> dict[str, bytes]:
        """The files of a kept policy as they were first kept. Raises LogError where there are none."""
        target = self._target(policy_hash)
        if not target.is_dir():
            raise LogError(f"{target}: this policy is not kept here; put the folder back from a backup")
        paths = sorted(path for path in target.rglob("*") if path.is_file() and not _VARIANT.fullmatch(path.name))
        return {path.relative_to(target).as_posix(): self._disk.read(path) for path in paths}

    def hashes(self) -> list[str]:
        """All policies that are kept."""
        return [name for name in self._disk.names(self.folder) if _HASH.fullmatch(name)] if self.folder.is_dir() else []

    def _target(self, policy_hash: str) -> Path:
        if not _HASH.fullmatch(policy_hash):
            raise LogError("a policy hash has 64 lower-case hexadecimal digits")
        return self.folder / policy_hash

    def _keep_new(self, target: Path, files: Mapping[str, bytes]) -> None:
        self._disk.make_folder(self.folder)
        tmp = self.folder / f"{target.name}.tmp-{os.getpid()}"
        if tmp.exists():
            shutil.rmtree(tmp)  # left by a crash of a process with our number
        self._disk.make_folder(tmp)
        for name, data in files.items():
            path = tmp / PurePosixPath(name)
            self._disk.make_folder(path.parent)
            self._disk.replace(path, data)
        try:
            self._disk.move_folder(tmp, target)
        except OSError:
            if not target.is_dir():
                raise
            shutil.rmtree(tmp)  # another process was quicker
            self._keep_variants(target, files)

    def _keep_variants(self, target: Path, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            path = target / PurePosixPath(name)
            if path.exists():
                if self._disk.read(path) == data:
                    continue
                path = path.with_name(f"{path.name}.v-{sha256(data).hexdigest()[:16]}")
            if not path.exists():
                self._disk.make_folder(path.parent)
                self._disk.replace(path, data)
