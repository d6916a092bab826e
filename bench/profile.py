"""Where the sidecar's time goes: py-spy looks at the running process while the load generator asks, and a table tells by part.

`python -m bench.profile [--durability fast] [--seconds 10]`, on Linux, with the right to trace a process of one's own. A sample
counts for the innermost file of `moderation` on its stack, so what a library does for a part is the part's.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.load import Shape
from bench.report import machine, row
from bench.run import ROOT, command, family_seconds, free_port, listening, process, start

PARTS: tuple[tuple[str, str], ...] = (
    ("HTTP with the client", r"moderation/(server|connection|desk|flow/(http|coding|account|admission))|uvicorn|httptools"),
    ("HTTP with the upstream", r"moderation/upstream|aiohttp|yarl|multidict"),
    ("reading bodies and events", r"moderation/(wire|flow/speech|flow/hearing)"),
    ("judging: detectors", r"moderation/(detect|normalise|escapes|confusables|sentence|language)"),
    ("judging: rules", r"moderation/(judge|policy|act|flow/(reading|seams|editing))"),
    ("releasing streams", r"moderation/(stream|flow/streaming)"),
    ("records and log", r"moderation/(audit|flow/(ledger|recording))"),
    ("the call itself", r"moderation/(flow/chat|flow/saying|house|ulid)"),
    ("figures, traces, the operator's log", r"moderation/(metrics|tracing|oplog|events|pulse)"),
)
LOADS = (("whole, 32 clients", Shape(0, 32, 640)), ("64-chunk stream, 8 clients, back to back", Shape(0, 8, 80, True)))
_WAITS = re.compile(r";(?:wait|Condition\.wait|_worker) \([^;]*\)$")
_FRAME = re.compile(r".*\((.*):\d+\)$")


def part_of(frames: Sequence[str]) -> str:
    """Which part a stack belongs to; `frames` are `function (file:line)`, the innermost last."""
    files = [found[1] if (found := _FRAME.match(frame)) else frame for frame in frames]
    ours = [file for file in files if "moderation/" in file and "/site-packages/" not in file and "/cli/" not in file
            and not file.endswith(("/__main__.py", "/process.py"))]
    for file in (*reversed(ours), *reversed(files)):
        for name, files_of in PARTS:
            if re.search(files_of, file):
                return name
    return "the event loop, and the rest"


def shares(stacks: Iterable[str]) -> Mapping[str, float]:
    """The part of all samples that belongs to each part; `stacks` are py-spy's raw lines, `frame;frame;… count`."""
    counts: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        if _WAITS.search(frames):  # a thread that waits for work; py-spy takes some of them for busy
            continue
        counts[part_of(frames.split(";"))] += int(count)
    total = sum(counts.values()) or 1
    return {name: count / total for name, count in counts.most_common()}


def table(measured: Mapping[str, tuple[float, Mapping[str, float]]]) -> str:
    """A table of each load's microseconds of CPU a request, by part."""
    lines = []
    for load, (micros, parts) in measured.items():
        lines += [f"## {load}: {micros:.0f} µs of CPU a request", "", row(("part", "share", "µs")), "|---|---|---|",
                  *(row((name, f"{share:.1%}", f"{micros * share:.0f}")) for name, share in parts.items()), ""]
    return "\n".join(lines)


def profiled(port: int, pid: int, shape: Shape, seconds: float, raw: Path) -> tuple[float, Mapping[str, float]]:
    """CPU a request without the profiler, and the shares with it."""
    asked = Shape(port, shape.clients, shape.requests, shape.stream)

    def ask() -> None:
        subprocess.run(command(asked), cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=120)

    ask()
    before = family_seconds(pid)
    for _ in range(3):
        ask()
    micros = (family_seconds(pid) - before) * 1e6 / (3 * shape.requests)
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or "py-spy"
    with subprocess.Popen([spy, "record", "--pid", str(pid), "--format", "raw", "--output", str(raw), "--rate", "250",
                           "--duration", f"{seconds:g}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as looking:
        while looking.poll() is None:
            ask()
    if looking.returncode:
        raise SystemExit(f"bench: py-spy ended with {looking.returncode}; it needs the right to trace this process")
    return micros, shares(raw.read_text().splitlines())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description="Where the sidecar's time goes.")
    parser.add_argument("--durability", choices=("strict", "fast"), default="fast")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to look at each load (default: 10)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", metavar="DIR", help="where the table goes")
    chosen = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        upstream_port = free_port()
        listening(stack.enter_context(process(sys.executable, "-m", "bench.upstream", str(upstream_port))), upstream_port)
        target = start(chosen.durability, upstream_port, folder, stack)
        assert target.pid is not None
        measured = {name: profiled(target.port, target.pid, shape, chosen.seconds, folder / "raw") for name, shape in LOADS}
    facts = machine(ROOT)
    head = [f"# Profile of {facts.pop('date')}, durability {chosen.durability}", "", *(f"- {k}: {v}" for k, v in facts.items()),
            f"- command: `{' '.join(['python -m bench.profile', *arguments])}`", ""]
    text = "\n".join([*head, table(measured)])
    print(text)
    path: Path = chosen.out / f"{time.strftime('%Y-%m-%d-%H%M%S', time.gmtime())}-profile-{chosen.durability}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
