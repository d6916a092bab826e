"""The auditor's check: everything derived anew from the raw files, without the code that wrote them.

With verify_log and verify_files it imports canon and merkle alone from this project, so that it can disagree with the rest. Gives
three verdicts: INTEGRITY (nothing was altered), COMPLETENESS (nothing is missing), FRESHNESS (someone else saw it lately; not
claimed without a witness).
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

from moderation.audit.verify_log import RESTORE, Claim, Fault, LogAudit, Report, Verdict

LOG = re.compile(r"log-[0-9]+")


def verify(data: Path) -> Report:
    """Check all logs of a data folder. Raises FileNotFoundError where there is none."""
    folders = sorted((p for p in data.iterdir() if p.is_dir() and LOG.fullmatch(p.name)), key=lambda p: int(p.name[4:]))
    known = {path.stem for path in (data / "keys").glob("log-*.key")} if (data / "keys").is_dir() else set()
    if not folders and not known:
        raise FileNotFoundError(f"{data}: no log folders (log-0, log-1, …) here; expected the --data folder of a sidecar")
    report = Report()
    audits = {folder.name: LogAudit(folder, report) for folder in folders}
    for audit in audits.values():
        audit.read()
    for name in sorted(known - audits.keys()):
        report.faults.append(Fault(Verdict.COMPLETENESS, str(data / name), "a key exists for this log, its folder is gone",
                                   "Put the folder back from a backup."))
    gone: dict[str, Claim] = {}
    for sibling, claim in [pair for audit in audits.values() for pair in audit.siblings]:
        if sibling in audits:
            audits[sibling].claims.append(claim)
        else:
            gone[sibling] = claim
    for sibling, claim in gone.items():
        report.faults.append(Fault(Verdict.COMPLETENESS, str(data / sibling), f"{claim.source} saw this log with {claim.size} "
                                   "leaves, its folder is gone", "Put the folder back from a backup."))
    for audit in audits.values():
        copy = data / "keys" / f"{audit.state.log}.checkpoint"
        if copy.exists():
            audit.read_checkpoint(copy)
        audit.check_claims()
    _check_policies(data, audits, report)
    if any(path.exists() for path in ((data / "keys" / f"{name}.key") for name in audits)):
        report.notes.append(f"{data / 'keys'}: the private keys lie beside the logs, so whoever can write here could have signed "
                            "anew. Keep them apart with --keys, and keep copies of checkpoints elsewhere.")
    return report


def _check_policies(data: Path, audits: dict[str, LogAudit], report: Report) -> None:
    activated = {policy for audit in audits.values() for policy in audit.activated}
    for audit in audits.values():
        for policy, leaf in audit.decided_by.items():
            if policy not in audit.activated:
                audit.fault(Verdict.COMPLETENESS, f"leaf {leaf}", f"decided by policy {policy}, which no policy_activate leaf "
                            "names", "Look for missing leaves before this one.")
        for policy, files in audit.activated.items():
            for name, digest in sorted(set(files)):
                path = data / "policies" / policy / name
                paths = [path, path.with_name(f"{path.name}.v-{digest[:16]}")]
                found = [p for p in paths if p.is_file()]
                if not found:
                    audit.fault(Verdict.COMPLETENESS, str(path), "this file of an activated policy is gone", RESTORE)
                elif not any(sha256(p.read_bytes()).hexdigest() == digest for p in found):
                    audit.fault(Verdict.INTEGRITY, str(path), "not the file that was activated (another SHA-256)", RESTORE)
    for kept in sorted((data / "policies").glob("?" * 64)):
        if kept.name not in activated:
            report.notes.append(f"{kept}: kept, but no log says that it was activated (a crash in between, or a log is gone).")
