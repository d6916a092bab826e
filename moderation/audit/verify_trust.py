"""What an auditor keeps elsewhere, and the comparison with it: keys, checkpoints, the keys folder. Part of verify.

A folder that was forged as a whole agrees with itself. It does not agree with these.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moderation.audit.verify_files import Key, Signed, is_signed, read_checkpoint, read_key
from moderation.audit.verify_log import LogAudit
from moderation.audit.verify_report import Claim, Report, Verdict

_OF_A_LOG = re.compile(r"(log-[0-9]+)\.(?:key|checkpoint)")
_FIND_OUT = "Find out who replaced it, and put the log back from a backup."


class TrustError(ValueError):
    """What was given to compare with cannot be read as that."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What is kept elsewhere; each with the place that it came from."""

    keys: Path | None = None
    """The folder of the sidecar's --keys."""
    lines: tuple[tuple[str, Key], ...] = ()
    checkpoints: tuple[tuple[str, Signed], ...] = ()

    @classmethod
    def read(cls, keys: Path | None = None, lines: Sequence[str] = (), checkpoints: Sequence[Path] = ()) -> Trust:
        """`lines` are verifier key lines or files with one. Raises TrustError, or OSError for what cannot be read."""
        if keys is not None and not known_logs(keys):
            raise TrustError(f"{keys}: no log-N.key and no log-N.checkpoint here; expected the --keys folder of a sidecar")
        signed: list[tuple[str, Signed]] = []
        for path in checkpoints:
            found = read_checkpoint(path.read_bytes())
            if found is None:
                raise TrustError(f"{path}: not a checkpoint (origin, size, root, empty line, signature)")
            signed.append((str(path), found))
        return cls(keys, tuple(_line(text) for text in lines), tuple(signed))

    @property
    def given(self) -> list[str]:
        kinds = (("keys", self.keys), ("key", self.lines), ("checkpoint", self.checkpoints))
        return [name for name, value in kinds if value]


def _line(text: str) -> tuple[str, Key]:
    key = read_key(text.encode("utf-8", "surrogateescape"))
    if key is not None:
        return "the key given", key
    path = Path(text)
    key = read_key(path.read_bytes()) if len(text) < 4096 and path.is_file() else None
    if key is None:
        raise TrustError(f"{text}: neither a verifier key line (NAME+KEYID+BASE64) nor a file with one")
    return str(path), key


def known_logs(keys: Path) -> set[str]:
    """The logs that a keys folder has files of."""
    matches = (_OF_A_LOG.fullmatch(path.name) for path in keys.iterdir()) if keys.is_dir() else ()
    return {match[1] for match in matches if match is not None}


def compare(trust: Trust, audits: Collection[LogAudit], report: Report) -> None:
    """Hold the logs against what is kept elsewhere. Their keys and claims are read, their leaves too."""
    report.compared_with = trust.given
    by_name = {audit.key[0]: audit for audit in audits if audit.key is not None}
    if trust.keys is not None:
        for audit in audits:
            _compare_copy(trust.keys, audit, report)
    if trust.lines:
        _compare_keys(trust.lines, by_name, report)
    trusted = {key[0]: key for _, key in trust.lines}
    for source, signed in trust.checkpoints:
        _compare_checkpoint(source, signed, by_name, trusted, report)
    if not trust.given:
        report.notes.append("Nothing that is kept elsewhere was given (--keys, --key, --checkpoint), so this was not checked: "
                            "whether a log was made anew as a whole with another key, put back to an older state, or taken away.")
    elif not trust.checkpoints and trust.keys is None:
        report.notes.append("No checkpoint that is kept elsewhere was given (--checkpoint or --keys), so this was not checked: "
                            "whether a log was put back to an older state.")


def _compare_copy(keys: Path, audit: LogAudit, report: Report) -> None:
    name = audit.folder.name
    copy = keys / f"{name}.checkpoint"
    if not audit.began or audit.has_copy or copy.exists():
        return
    if (keys / f"{name}.key").exists():
        report.fault(Verdict.COMPLETENESS, str(copy), "the copy of this log's checkpoint is gone",
                     "Put it back from a backup, or give another one with --checkpoint.")
    else:
        report.fault(Verdict.INTEGRITY, str(audit.folder), f"{keys} knows no such log: no sidecar with these keys wrote it",
                     "Find out who put it there.")


def _compare_keys(lines: Sequence[tuple[str, Key]], by_name: Mapping[str, LogAudit], report: Report) -> None:
    trusted: dict[str, set[str]] = {}
    for source, key in lines:
        trusted.setdefault(key[0], set()).add(key[2])
        if key[0] not in by_name:
            report.fault(Verdict.COMPLETENESS, source, f"no log here has the name {key[0]}", "Put its folder back from a backup.")
    for name, audit in by_name.items():
        if audit.key is not None and audit.key[2] not in trusted.get(name, ()):
            report.fault(Verdict.INTEGRITY, str(audit.folder / "key.pub"), f"not a key that was given with --key for {name}",
                         _FIND_OUT if name in trusted else "Give the key of each log; if it is new, find out who began it.")


def _compare_checkpoint(
    source: str, signed: Signed, by_name: Mapping[str, LogAudit], trusted: Mapping[str, Key], report: Report,
) -> None:
    text, signatures, origin, size, root = signed
    audit = by_name.get(origin)
    if audit is None:
        report.fault(Verdict.COMPLETENESS, source, f"{size} leaves of {origin} are signed for, and no log here has that name",
                     "Put its folder back from a backup.")
        return
    key = trusted.get(origin, audit.key)
    if key is not None and not is_signed(text, signatures, key):
        report.fault(Verdict.INTEGRITY, source, f"not signed by the key of {audit.folder}", _FIND_OUT)
        return
    audit.claims.append(Claim(source, size, root))
