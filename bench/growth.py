"""What a soak measures, and whether it grew. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

MIB = 1024 * 1024


@dataclass(frozen=True)
class Row:
    """A sidecar at one moment, all its processes together. Sizes are in bytes."""

    seconds: float
    """Since the load began."""
    rss: int
    peak: int
    fds: int
    threads: int
    tasks: int
    """Of the event loop."""
    in_flight: int
    lost: int
    """Threads of detectors that hang."""
    cache: int
    log: int
    leaves: int
    outcomes: dict[str, int]
    """Requests so far, by how they ended."""


@dataclass(frozen=True)
class Limits:
    """What may grow how far. The one place where that is said."""

    rss_share: float = 0.05
    rss_bytes: int = 8 * MIB
    """Memory: neither may be passed, and what grew is told by both measures of `Growth`."""
    left: int = 4
    """File descriptors and tasks that may be open after the load and were not before it."""
    threads: int = 4
    warm: float = 60.0
    """Seconds of warm-up, at least; and at least a fifth of the run."""
    shortest: float = 180.0
    """A run that is shorter than this tells nothing about memory."""

    def told(self) -> str:
        return (f"memory: at most {self.rss_share:.0%} and {self.rss_bytes // MIB} MiB more, after the first fifth (at least "
                f"{self.warm:g} s); file descriptors and tasks after the load: at most {self.left} more than before it; threads: "
                f"at most {self.threads} more after the warm-up; no thread lost, nothing in flight")


STRETCHES = 12
"""Of the time after the warm-up. The lowest of each counts: what a policy takes to be built comes and goes, a leak stays."""


@dataclass(frozen=True)
class Growth:
    """How the lowest of a figure went after the warm-up."""

    before: float
    """The median of the first third of the stretches."""
    after: float
    """The median of the last third."""
    slope: float
    """Of the least-squares line, per second."""
    seconds: float

    @property
    def amount(self) -> float:
        """What both measures agree on: a leak is in both, a peak at the one end or the other is not."""
        return max(0.0, min(self.after - self.before, self.slope * self.seconds))

    def told(self) -> str:
        return (f"{self.before / MIB:.1f} -> {self.after / MIB:.1f} MiB (the lowest of each of {STRETCHES} stretches after the "
                f"warm-up; medians of the first and last third), slope {self.slope * 3600 / MIB:+.1f} MiB an hour over "
                f"{self.seconds:.0f} s")


def growth(rows: Sequence[Row], figure: str, limits: Limits) -> Growth | None:
    """None where the run was too short to tell."""
    end = rows[-1].seconds if rows else 0.0
    start = max(limits.warm, end / 5)
    warm = [row for row in rows if row.seconds >= start]
    if end < limits.shortest or len(warm) < 2 * STRETCHES:
        return None
    stretches = [warm[at * len(warm) // STRETCHES : (at + 1) * len(warm) // STRETCHES] for at in range(STRETCHES)]
    lowest = [min(some, key=lambda row: float(getattr(row, figure))) for some in stretches]
    times, values = [row.seconds for row in lowest], [float(getattr(row, figure)) for row in lowest]
    third = STRETCHES // 3
    return Growth(median(values[:third]), median(values[-third:]), linear_regression(times, values).slope, times[-1] - times[0])


def grown(rest: Row, rows: Sequence[Row], last: Row, limits: Limits) -> list[str]:
    """What is over its limit. `rest` is before the load, `rows` under it, `last` after it."""
    faults: list[str] = []
    memory = growth(rows, "rss", limits)
    if memory and memory.amount > min(limits.rss_bytes, limits.rss_share * memory.before):
        faults.append(f"memory grew: {memory.told()}")
    threads = growth(rows, "threads", limits)
    if threads and threads.after - threads.before > limits.threads:
        faults.append(f"threads grew: {threads.before:.0f} -> {threads.after:.0f}")
    for name, figure in (("file descriptors", "fds"), ("tasks", "tasks")):
        before, after = getattr(rest, figure), getattr(last, figure)
        if after > before + limits.left:
            faults.append(f"{name} were left over: {before} before the load, {after} after it")
    if last.in_flight:
        faults.append(f"{last.in_flight} requests are in flight after the load")
    if last.lost:
        faults.append(f"{last.lost} threads of detectors hang")
    return faults


COLUMNS = ("time", "RSS MiB", "peak MiB", "fds", "threads", "tasks", "in flight", "answered", "blocked", "refused", "failed",
           "cancelled", "passed", "lost", "cache KiB", "log MiB", "leaves")


def cells(row: Row) -> list[str]:
    counts = [str(row.outcomes.get(name, 0)) for name in COLUMNS[7:13]]
    return [f"{row.seconds:.0f} s", f"{row.rss / MIB:.1f}", f"{row.peak / MIB:.1f}", str(row.fds), str(row.threads),
            str(row.tasks), str(row.in_flight), *counts, str(row.lost), str(row.cache // 1024), f"{row.log / MIB:.1f}",
            str(row.leaves)]
