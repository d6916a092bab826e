"""Runs the benchmark: the same upstream and load generator, each a process of its own, against every target in turn.

Targets: `direct` (no proxy), `pass` (a bare aiohttp pass-through), `strict` and `fast` (the sidecar with that durability of its
log, and the policy that ships without its model: bench/policy.py), `workers` (as `fast`, with two workers), `judged` (as `fast`,
with the whole policy, for some of the loads). The rounds go round the targets, so that a noisy minute hits all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from bench.load import CHARS, Shape
from bench.policy import without_models
from bench.report import Measured, Report, machine

ROOT = Path(__file__).parent.parent
TARGETS = ("direct", "pass", "strict", "fast", "workers", "judged")
SHIPPED = ROOT / "policies" / "default.yaml"
TICKS = os.sysconf("SC_CLK_TCK")
LONG = 1_000_000


@dataclass(frozen=True)
class Load:
    """One shape of load, and how much of it a round takes."""

    name: str
    requests: int
    quick: int
    clients: int = 1
    stream: bool = False
    gap_ms: float = 0.0
    """Between the chunks of a stream. Paced as a model speaks, or back to back: what the work costs, without the waking up."""
    chars: int = CHARS
    turns: int = 1
    beside: int = 0
    """Code points of the prompts that another client sends meanwhile, one after the other."""
    judged: int = 0
    """How many of its requests the target `judged` is given; none: it does not run it."""

    def given(self, target: str, quick: bool) -> int:
        """How many requests a round has for a target."""
        count = self.quick if quick else self.requests
        return min(self.judged, count) if target == "judged" else count

    def shape(self, port: int, requests: int) -> Shape:
        return Shape(port, self.clients, requests, self.stream, self.gap_ms, self.chars, self.turns)


LOADS = (
    Load("whole, 1 client", 300, 60, judged=60),
    Load("whole, 8 clients", 800, 160, clients=8),
    Load("whole, 32 clients", 1600, 320, clients=32, judged=320),
    Load("whole, 128 clients", 1920, 384, clients=128),
    Load("64-chunk stream, 1 client, 5 ms apart", 16, 4, stream=True, gap_ms=5.0),
    Load("64-chunk stream, 32 clients, 5 ms apart", 96, 32, clients=32, stream=True, gap_ms=5.0),
    Load("64-chunk stream, 1 client, back to back", 60, 20, stream=True),
    Load("64-chunk stream, 8 clients, back to back", 400, 80, clients=8, stream=True, judged=80),
    Load("64-chunk stream, 32 clients, back to back", 400, 64, clients=32, stream=True),
    Load("whole, 1 client, prompts of 1,000 characters", 100, 10, chars=1_000, judged=20),
    Load("whole, 1 client, prompts of 10,000 characters", 50, 5, chars=10_000, judged=5),
    Load("whole, 1 client, prompts of 100,000 characters", 10, 2, chars=100_000),
    Load("whole, 1 client, prompts of 1,000,000 characters", 4, 1, chars=LONG),
    Load("64-chunk stream, 1 client, 5 ms apart, beside prompts of 1,000,000 characters", 8, 2, stream=True, gap_ms=5.0,
         beside=LONG),
    Load("chat of 40 turns, 1 client", 2, 1, turns=40),
)


@dataclass
class Target:
    name: str
    port: int
    pid: int | None
    """None where there is no process between."""
    measured: dict[str, Measured] = field(default_factory=dict)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is ended with the block. What it says on stderr is ours."""
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(40)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def listening(child: subprocess.Popen[bytes], port: int, path: str | None = None, seconds: float = 60) -> None:
    """Wait until the child listens, and where a path is given until that answers 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if child.poll() is not None:
            raise SystemExit(f"bench: {child.args!r} ended with {child.returncode}")
        try:
            if path is None:
                socket.create_connection(("127.0.0.1", port), 1).close()
            else:
                urlopen(f"http://127.0.0.1:{port}{path}", timeout=2).close()
            return
        except (URLError, OSError):
            time.sleep(0.05)
    raise SystemExit(f"bench: nothing listens on port {port} after {seconds:g} s")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads: to the nanosecond where the kernel counts so (schedstat), else in ticks (stat)."""
    try:
        return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9 or ticks(pid)
    except FileNotFoundError:  # a thread ended as we looked
        return cpu_seconds(pid)


def family(pid: int) -> list[int]:
    """A process and its children: a supervisor and its workers."""
    children = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    return [pid, *children]


def family_seconds(pid: int) -> float:
    return sum(map(cpu_seconds, family(pid)))


def ticks(pid: int) -> float:
    """The same, from proc(5), fields 14 and 15."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(after_name[11]) + int(after_name[12])) / TICKS


def peak_mib(pid: int) -> float:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().split("\n") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def sync_micros(folder: Path, count: int = 200) -> list[int]:
    """What one fdatasync of an appended 4 KiB costs on the log's disk."""
    taken: list[int] = []
    path = folder / "sync-probe"
    with path.open("wb", buffering=0) as file:
        for _ in range(count):
            file.write(b"x" * 4096)
            start = time.perf_counter_ns()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter_ns() - start) // 1000)
    path.unlink()
    return taken


def command(shape: Shape) -> list[str]:
    return [sys.executable, "-m", "bench.load", shape.json()]


def measure(target: Target, load: Load, requests: int) -> None:
    with ExitStack() as stack:
        if load.beside:
            stack.enter_context(process(*command(Shape(target.port, requests=1000, chars=load.beside))))
            time.sleep(0.5)
        before = family_seconds(target.pid) if target.pid else 0.0
        asked = command(load.shape(target.port, requests))
        done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise SystemExit(f"bench: {target.name}, {load.name}: {done.stderr.strip()[-2000:]}")
        got = json.loads(done.stdout)
        kept = target.measured.setdefault(load.name, Measured(load.stream))
        kept.add(got)
        if target.pid:
            kept.cpu += family_seconds(target.pid) - before
            kept.peak_mib = max(kept.peak_mib, sum(peak_mib(pid) for pid in family(target.pid)))


def start(name: str, upstream_port: int, folder: Path, stack: ExitStack) -> Target:
    if name == "direct":
        return Target(name, upstream_port, None)
    port = free_port()
    if name == "pass":
        child = stack.enter_context(process(sys.executable, "-m", "bench.passthrough", str(port), str(upstream_port)))
        listening(child, port)
    else:
        durability = name if name in ("strict", "fast") else "fast"
        workers = "2" if name == "workers" else "1"
        child = stack.enter_context(process(
            sys.executable, "-m", "moderation", "serve", "--upstream", f"http://127.0.0.1:{upstream_port}/v1",
            "--host", "127.0.0.1", "--port", str(port), "--data", str(folder / name), "--durability", durability,
            "--policy", str(SHIPPED if name == "judged" else without_models(SHIPPED, folder / "policy")),
            "--workers", workers, "--log-level", "error"))
        listening(child, port, "/readyz")
    return Target(name, port, child.pid)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="What the sidecar costs.")
    parser.add_argument("--quick", action="store_true", help="one short round: a look, not a measurement")
    parser.add_argument("--targets", default=",".join(TARGETS), help=f"which of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--loads", default="", metavar="TEXT", help="only those with this in their names")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="rounds over all targets (default: 5; with --quick 1)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the disk for the logs (default: a temporary folder)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", metavar="DIR", help="where the results go")
    chosen = parser.parse_args(arguments)
    names = chosen.targets.split(",")
    if unknown := set(names) - set(TARGETS):
        parser.error(f"unknown targets {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    loads = [load for load in LOADS if chosen.loads in load.name]
    if not loads:
        parser.error(f"no load has {chosen.loads!r} in its name; there are: {'; '.join(load.name for load in LOADS)}")
    if not Path("/proc/self/stat").exists():
        parser.error("CPU and memory are read from /proc: run this on Linux")
    rounds = chosen.rounds or (1 if chosen.quick else 5)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=chosen.data)))
        upstream_port = free_port()
        upstream = stack.enter_context(process(sys.executable, "-m", "bench.upstream", str(upstream_port)))
        listening(upstream, upstream_port)
        targets = [start(name, upstream_port, folder, stack) for name in names]
        for target in targets:  # imports, connections, caches of the code: none of what is asked
            for load in loads:
                if load.given(target.name, chosen.quick):
                    measure(target, load, load.clients if load.clients > 1 else 2)
            target.measured.clear()
        for count in range(rounds):
            for load in loads:
                for target in targets:
                    requests = load.given(target.name, chosen.quick)
                    if not requests:
                        continue
                    said = f"\rround {count + 1} of {rounds}: {load.name}, {target.name}"
                    print(f"{said:70}", end="", file=sys.stderr, flush=True)
                    measure(target, load, requests)
        print(file=sys.stderr)
        report = Report(machine(ROOT), "python -m bench.run " + " ".join(arguments), rounds, sync_micros(folder),
                        {target.name: target.measured for target in targets})
    print(report.table())
    stem = time.strftime("%Y-%m-%d-%H%M%S", time.gmtime()) + ("-quick" if chosen.quick else "")
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / f"{stem}.json").write_text(report.json())
    (chosen.out / f"{stem}.md").write_text(report.table())
    print(f"\nkept in {chosen.out / stem}.json and .md", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
