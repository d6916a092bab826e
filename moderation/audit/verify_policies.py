"""The check of kept policies: what a leaf says was activated is there, and nothing else passes for it. Part of verify."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path

from moderation.audit.verify_log import LogAudit
from moderation.audit.verify_report import RESTORE, Report, Verdict

_HASH = re.compile(r"[0-9a-f]{64}")
_VARIANT = re.compile(r"(.+)\.v-([0-9a-f]{16})")


def kept_policies(data: Path) -> set[str]:
    """The hashes of all kept policies. Ask before the leaves are read: a policy is kept first, and then activated."""
    folder = data / "policies"
    return {path.name for path in folder.iterdir() if _HASH.fullmatch(path.name)} if folder.is_dir() else set()


def check_policies(data: Path, kept: set[str], audits: Collection[LogAudit], report: Report) -> set[str]:
    """Compare policies/ with the policy_activate leaves of all logs. Gives those of `kept` that no leaf names."""
    recorded: dict[str, dict[str, set[str]]] = {}
    for audit in audits:
        for policy, leaf in audit.decided_by.items():
            if policy not in audit.activated:
                audit.fault(Verdict.COMPLETENESS, f"leaf {leaf}", f"decided by policy {policy}, which no policy_activate leaf "
                            "names", "Look for missing leaves before this one.")
        for policy, files in audit.activated.items():
            names = recorded.setdefault(policy, {})
            for name, digest in files:
                names.setdefault(name, set()).add(digest)
    for policy, digests in sorted(recorded.items()):
        if _HASH.fullmatch(policy):
            _check_folder(data / "policies" / policy, digests, report)
        else:
            report.fault(Verdict.INTEGRITY, str(data), "a policy_activate leaf whose policy hash is none", RESTORE)
    report.notes += [f"{data / 'policies' / name}: kept, but no log says that it was activated (a crash in between, or a log is "
                     "gone)." for name in sorted(kept - recorded.keys())]
    return kept - recorded.keys()


def _files(folder: Path) -> list[Path]:
    """All files of a kept policy. Not by glob, which takes a folder that may not be read for an empty one."""
    found: list[Path] = []
    folders = [folder] if folder.is_dir() else []
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.is_dir():
                folders.append(path)
            elif ".tmp-" not in path.name:
                found.append(path)
    return found


def _check_folder(folder: Path, recorded: Mapping[str, set[str]], report: Report) -> None:
    """Each file must be one that was activated: a forged one that stands beside the true one is a fault as well."""
    sound: set[tuple[str, str]] = set()
    altered: set[str] = set()
    for path in _files(folder):
        name, digest = path.relative_to(folder).as_posix(), sha256(path.read_bytes()).hexdigest()
        variant = _VARIANT.fullmatch(name)
        if variant is not None:
            name = variant[1]
        sound.add((name, digest))
        if digest in recorded.get(name, ()):
            continue
        if variant is not None and digest.startswith(variant[2]):
            report.notes.append(f"{path}: kept, but no leaf says that it was activated (a crash in between).")
            continue
        altered.add(name)
        report.fault(Verdict.INTEGRITY, str(path), "not a file that was activated (no policy_activate leaf has this SHA-256)",
                     f"{RESTORE} Keep a copy of this one: somebody put it there.")
    for name, digests in sorted(recorded.items()):
        for digest in sorted(digests):
            if (name, digest) not in sound and name not in altered:
                report.fault(Verdict.COMPLETENESS, str(folder / name),
                             f"this file of an activated policy is gone (SHA-256 {digest})", RESTORE)
