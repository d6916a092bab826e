"""What the auditor's check found: faults by verdict, notes, and one line of figures for each log. Part of verify."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum

RESTORE = "Put the file back from a backup; if that is not possible, treat the leaves from here on as not proven."


class Verdict(StrEnum):
    INTEGRITY = "integrity"
    COMPLETENESS = "completeness"
    FRESHNESS = "freshness"


@dataclass(frozen=True, slots=True)
class Fault:
    verdict: Verdict
    where: str
    """File, and byte or leaf."""
    problem: str
    todo: str


@dataclass(slots=True)
class Checked:
    """One log, as far as it could be read."""

    log: str
    origin: str = ""
    in_use: bool = False
    leaves: int = 0
    root: str = ""
    signed: int = 0
    """Leaves that the checkpoint covers."""
    decisions: int = 0
    open: int = 0
    """Requests without a `close` that may still be in flight."""
    first_ts: int | None = None
    last_ts: int | None = None
    gaps: int = 0
    """Decisions that the log itself says were not recorded."""
    unsigned_at_starts: int = 0
    """Leaves that no checkpoint covered when a process found them."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Someone says that a log had this root at this size."""

    source: str
    size: int
    root: bytes


@dataclass(slots=True)
class Report:
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    logs: list[Checked] = field(default_factory=list)
    compared_with: list[str] = field(default_factory=list)
    """Which things kept elsewhere were given: keys, key, checkpoint."""

    def broken(self, verdict: Verdict) -> bool:
        return any(fault.verdict is verdict for fault in self.faults)

    @property
    def exit_code(self) -> int:
        codes = ((Verdict.INTEGRITY, 3), (Verdict.COMPLETENESS, 4), (Verdict.FRESHNESS, 5))
        return next((code for verdict, code in codes if self.broken(verdict)), 0)

    def fault(self, verdict: Verdict, where: str, problem: str, todo: str) -> None:
        self.faults.append(Fault(verdict, where, problem, todo))

    def to_json(self) -> dict[str, object]:
        words = {v.value: "broken" if self.broken(v) else "ok" for v in (Verdict.INTEGRITY, Verdict.COMPLETENESS)}
        logs, faults = [asdict(log) for log in self.logs], [asdict(fault) for fault in self.faults]
        return {"ok": self.exit_code == 0, "exit": self.exit_code, **words, "freshness": "not claimed",
                "compared_with": self.compared_with, "logs": logs, "faults": faults, "notes": self.notes}
