"""Measurements as a table for people and as JSON. Knows nothing of how they were made."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.upstream import CHUNKS

BASELINE = "pass"


@dataclass
class Measured:
    """What one target did under one load; times in microseconds."""

    stream: bool
    whole: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    turns: list[list[int]] = field(default_factory=list)
    """Of chats: the times of the first turns, of the second ones, and so on."""
    seconds: float = 0.0
    cpu: float = 0.0
    peak_mib: float = 0.0

    def add(self, got: Mapping[str, Any]) -> None:
        """What the load generator says of one round."""
        self.whole += got["whole"]
        self.first += got["first"]
        self.events += got["events"]
        self.seconds += got["seconds"]
        if len(got["turns"]) > 1:
            before = self.turns or [[]] * len(got["turns"])
            self.turns = [[*some, *more] for some, more in zip(before, got["turns"], strict=True)]

    @property
    def cpu_per_request(self) -> float:
        return self.cpu * 1e6 / len(self.whole)

    def figures(self) -> dict[str, float]:
        return {"requests": len(self.whole), "p50_us": at(self.whole, 0.5), "p99_us": at(self.whole, 0.99),
                "ttft_p50_us": at(self.first, 0.5), "ttft_p99_us": at(self.first, 0.99),
                "event_p50_us": at(self.events, 0.5), "event_p99_us": at(self.events, 0.99),
                "per_second": len(self.whole) / self.seconds, "cpu_us_per_request": self.cpu_per_request,
                "peak_mib": self.peak_mib, "event_max_us": max(self.events, default=0),
                **({"turn_1_p50_us": at(self.turns[0], 0.5), f"turn_{len(self.turns)}_p50_us": at(self.turns[-1], 0.5)}
                   if self.turns else {})}


@dataclass(frozen=True)
class Report:
    machine: Mapping[str, str]
    command: str
    rounds: int
    sync: Sequence[int]
    targets: Mapping[str, Mapping[str, Measured]]

    def json(self) -> str:
        targets = {name: {load: measured.figures() for load, measured in loads.items()} for name, loads in self.targets.items()}
        body = {**self.machine, "command": self.command, "rounds": self.rounds, "chunks": CHUNKS,
                "fdatasync_p50_us": at(self.sync, 0.5), "fdatasync_p99_us": at(self.sync, 0.99), "targets": targets}
        return json.dumps(body, indent=1) + "\n"

    def table(self) -> str:
        lines = [f"# Benchmark of {self.machine['date']}", "",
                 *(f"- {name}: {value}" for name, value in self.machine.items() if name != "date"),
                 f"- command: `{self.command.strip()}`, {self.rounds} round(s)",
                 f"- one fdatasync of 4 KiB on the log's disk: p50 {at(self.sync, 0.5):.0f} µs, p99 {at(self.sync, 0.99):.0f} µs",
                 ""]
        names = next(iter(self.targets.values())).keys() if self.targets else ()
        for load in names:
            measured = {name: loads[load] for name, loads in self.targets.items() if load in loads}
            rows = _turns(measured) if any(one.turns for one in measured.values()) else self._rows(measured)
            lines += [f"## {load}", "", *rows, ""]
        lines += ["`over pass` compares with the bare pass-through, times at p50. An event's time runs from the upstream's write "
                  "to the client's read."]
        return "\n".join(lines) + "\n"

    def _rows(self, targets: Mapping[str, Measured]) -> list[str]:
        stream = any(measured.stream for measured in targets.values())
        events = ["TTFT p50 ms", "event p50 µs", "event p99 µs", "event max µs", "event over pass µs"]
        streamed = events if stream else ["over pass ms"]
        columns = ["target", "p50 ms", "p99 ms", *streamed, "CPU µs/request",
                   "CPU over pass µs/" + ("chunk" if stream else "request"), "peak MiB", "requests/s", "of pass"]
        base = targets.get(BASELINE)
        rows = [row([*_cells(name, measured, base), _share(measured, base)]) for name, measured in targets.items()]
        return [row(columns), "|" + "---|" * len(columns), *rows]


def _turns(targets: Mapping[str, Measured]) -> list[str]:
    """What a turn of a chat takes, as its history grows."""
    some = [turn for turn in (1, 2, 10, 20, 40) if turn <= len(next(iter(targets.values())).turns)]
    rows = [row(["target", *(f"turn {turn} p50 ms" for turn in some), "last / first"]), "|" + "---|" * (len(some) + 2)]
    for name, measured in targets.items():
        times = [at(measured.turns[turn - 1], 0.5) / 1000 for turn in some]
        rows.append(row([name, *(f"{time:.3f}" for time in times), f"{times[-1] / times[0]:.2f}"]))
    return rows


def _cells(name: str, measured: Measured, base: Measured | None) -> list[str]:
    got = measured.figures()
    against = base if name != BASELINE else None
    cells = [name, f"{got['p50_us'] / 1000:.3f}", f"{got['p99_us'] / 1000:.3f}"]
    if measured.stream:
        cells += [f"{got['ttft_p50_us'] / 1000:.3f}", f"{got['event_p50_us']:.0f}", f"{got['event_p99_us']:.0f}",
                  f"{got['event_max_us']:.0f}",
                  f"{got['event_p50_us'] - at(against.events, 0.5):+.0f}" if against else ""]
    else:
        cells.append(f"{(got['p50_us'] - at(against.whole, 0.5)) / 1000:+.3f}" if against else "")
    if name == "direct":
        return [*cells, "", "", "", f"{got['per_second']:.0f}"]
    more = measured.cpu_per_request - against.cpu_per_request if against else 0.0
    over = f"{more / (CHUNKS if measured.stream else 1):+.1f}" if against else ""
    return [*cells, f"{measured.cpu_per_request:.0f}", over, f"{measured.peak_mib:.0f}", f"{got['per_second']:.0f}"]


def _share(measured: Measured, base: Measured | None) -> str:
    """How many requests a second, as a part of the bare pass-through's."""
    return f"{measured.figures()['per_second'] / base.figures()['per_second']:.2f}" if base else ""


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def at(values: Sequence[int], share: float) -> float:
    """The value below which this share lies; 0 of nothing."""
    return float(sorted(values)[min(len(values) - 1, int(len(values) * share))]) if values else 0.0


def machine(root: Path) -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().split("\n")
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True).stdout.strip()
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "cpu": f"{len(models)} x {models[0] if models else platform.machine()}",
            "system": f"{platform.system()} {platform.release()}", "python": platform.python_version(),
            "commit": commit or "unknown"}
