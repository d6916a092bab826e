"""The auditor's check: everything derived anew from the raw files, without the code that wrote them.

With its other files, verify_*, it imports canon and merkle alone from this project, so that it can disagree with the rest. Gives
three verdicts: INTEGRITY (nothing was altered), COMPLETENESS (nothing is missing), FRESHNESS (someone else saw it lately; not
claimed without a witness).
"""

from __future__ import annotations

import re
from pathlib import Path

from moderation.audit.verify_log import LogAudit
from moderation.audit.verify_policies import check_policies, kept_policies
from moderation.audit.verify_report import Claim, Report, Verdict
from moderation.audit.verify_trust import Trust, compare, known_logs

LOG = re.compile(r"log-[0-9]+")
_BACKUP = "Put the folder back from a backup."


def verify(data: Path, trust: Trust | None = None) -> Report:
    """Check all logs of a data folder, and hold them against what is kept elsewhere.

    Raises FileNotFoundError where there is nothing to check, and OSError for what cannot be read.
    """
    trust, report, audits = trust or Trust(), Report(), dict[str, LogAudit]()
    keys = trust.keys or _beside(data, report)
    known, kept = known_logs(keys) if keys else set(), kept_policies(data)
    for folder in _folders(data):
        audits[folder.name] = LogAudit(folder, report)
        audits[folder.name].look()
    for folder in _folders(data):  # once more: a log that another one has seen may be new
        audit = audits.setdefault(folder.name, LogAudit(folder, report))
        audit.read_claims(keys / f"{folder.name}.checkpoint" if keys else None)
    if not audits and not known and not kept and not trust.given:
        raise FileNotFoundError(f"{data}: no log folders (log-0, log-1, …) here; expected the --data folder of a sidecar")
    for audit in audits.values():
        audit.read_leaves()
        report.logs.append(audit.state)
    for name in sorted(known - audits.keys()):
        report.fault(Verdict.COMPLETENESS, str(data / name), "a key exists for this log, its folder is gone", _BACKUP)
    _check_siblings(data, audits, report)
    compare(trust, audits.values(), report)
    for audit in audits.values():
        audit.check_claims()
    _check_names(audits, report)
    _check_empty(data, audits, check_policies(data, kept, audits.values(), report), report)
    if (data / "index.sqlite").exists():
        report.notes.append(f"{data / 'index.sqlite'}: derived, and not looked at. A query checks each decision that it shows "
                            "against the log; one that was taken out of the index would be missed. Delete the file in doubt.")
    return report


def _beside(data: Path, report: Report) -> Path | None:
    """The keys folder where it lies beside the logs, and may be read."""
    keys = data / "keys"
    try:
        found = known_logs(keys)
    except PermissionError:
        report.notes.append(f"{keys}: cannot be read by you, so its copies of checkpoints were not compared. It lies beside the "
                            "logs, so whoever can write here could have signed anew.")
        return None
    if found:
        report.notes.append(f"{keys}: the private keys lie beside the logs, so whoever can write here could have signed anew. "
                            "Keep them apart with --keys, and keep copies of checkpoints elsewhere.")
    return keys


def _folders(data: Path) -> list[Path]:
    return sorted((p for p in data.iterdir() if p.is_dir() and LOG.fullmatch(p.name)), key=lambda p: int(p.name[4:]))


def _check_siblings(data: Path, audits: dict[str, LogAudit], report: Report) -> None:
    """What the logs say of each other."""
    gone: dict[str, Claim] = {}
    for sibling, claim in [pair for audit in audits.values() for pair in audit.siblings]:
        if sibling in audits:
            audits[sibling].claims.append(claim)
        else:
            gone[sibling] = claim
    for sibling, claim in gone.items():
        report.fault(Verdict.COMPLETENESS, str(data / sibling), f"{claim.source} saw this log with {claim.size} leaves, its "
                     "folder is gone", _BACKUP)


def _check_names(audits: dict[str, LogAudit], report: Report) -> None:
    """One folder a log: a copy under another name would tell its decisions twice."""
    places: dict[str, Path] = {}
    for name, audit in audits.items():
        if audit.key is None:
            continue
        origin, todo = audit.key[0], "Find out who put it there, and take it away."
        if not origin.endswith(f"/{name}"):
            report.fault(Verdict.INTEGRITY, str(audit.folder), f"the log {origin} has no place in this folder", todo)
        if places.setdefault(origin, audit.folder) != audit.folder:
            report.fault(Verdict.INTEGRITY, str(audit.folder), f"the same log as {places[origin]}", todo)


def _check_empty(data: Path, audits: dict[str, LogAudit], orphans: set[str], report: Report) -> None:
    """A folder without leaves is what a process leaves that died at once, or what is left of a log."""
    problem = "policies are kept that no log here has activated, so a log was here that is gone"
    if not audits and orphans:
        report.fault(Verdict.COMPLETENESS, str(data), problem, _BACKUP)
    for audit in audits.values():
        if audit.state.leaves or audit.claims:
            continue
        if orphans and not audit.state.in_use:
            report.fault(Verdict.COMPLETENESS, str(audit.folder), f"no leaf is in it, and {problem}",
                         f"{_BACKUP} If no sidecar ever ran to the end of its start here, take away this folder and policies/.")
        else:
            report.notes.append(f"{audit.folder}: no leaf is in it; a process took the folder and wrote nothing, or not yet.")
