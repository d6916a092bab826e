"""The soak: a real sidecar under mixed load for minutes or hours. Does anything grow, or go wrong? `make soak MINUTES=10`.

Well-behaved clients, hasty, slow and broken ones (bench.ways), an upstream with moods (bench.moods), policy reloads, SIGHUP and
`audit query` beside it. Prints memory, file descriptors and tasks over time. Ends with 1 where a limit of bench.growth is passed,
a client got what it should not have, a decision that a client was told of is not in the log, or the log does not verify.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

from bench.beside import Beside
from bench.crowd import SECRETS, Crowd, Tally
from bench.growth import COLUMNS, Limits, Row, cells, grown, growth
from bench.moods import Upstream
from bench.report import machine, row
from bench.run import ROOT, free_port, listening
from bench.ways import WAYS
from moderation.audit.index import Index, Query
from moderation.settings import BY_NAME

EVERY = 5.0
"""Seconds between two looks, in a run that is long enough for twelve of them."""
PRINTED = 30.0
"""Seconds between two rows that are printed, in a run of three minutes or more."""
SETTLE = 20.0
"""Seconds after the load in which connections and tasks may end."""
LIMITS = Limits()
WRONG = frozenset({"internal_error", "task_failed", "crashed", "log_failed", "log_refused", "lines_dropped"})
"""Events of the operational log that nothing in a soak excuses."""
BOUNDS = {"cache": "4MiB", "max-body": "1MiB", "body-timeout": "5s", "head-timeout": "5s", "first-byte-timeout": "4s",
          "idle-timeout": "4s", "log-level": "warning"}
"""Settings by which all bounds are met within the time: the cache is full soon, and what hangs is given up."""


@dataclass(frozen=True)
class Result:
    """What came of a run."""

    machine: dict[str, str]
    command: str
    limits: Limits
    rest: Row
    rows: Sequence[Row]
    last: Row
    tally: Tally
    notes: Sequence[str]
    events: Counter[str]
    """Lines of the operational log, by event."""
    faults: Sequence[str]

    def json(self) -> str:
        body = {**self.machine, "command": self.command, "limits": asdict(self.limits), "rest": asdict(self.rest),
                "rows": [asdict(one) for one in self.rows], "last": asdict(self.last), **vars(self.tally),
                "decisions": len(self.tally.decisions), "notes": self.notes, "events": self.events, "faults": self.faults}
        return json.dumps(body, indent=1) + "\n"

    def page(self, shown: Sequence[Row]) -> str:
        rows = [["at rest", *cells(self.rest)[1:]], *map(cells, shown), ["after", *cells(self.last)[1:]]]
        statuses = ", ".join(f"{name}: {count}" for name, count in sorted(self.tally.statuses.items()))
        lines = [f"# Soak of {self.machine['date']}", "",
                 *(f"- {name}: {value}" for name, value in self.machine.items() if name != "date"),
                 f"- command: `{self.command.strip()}`", f"- limits: {self.limits.told()}", "",
                 row(COLUMNS), "|" + "---|" * len(COLUMNS), *map(row, rows), "", *(f"- {note}" for note in self.notes),
                 f"- answers by kind of client and status: {statuses}", "",
                 *(["What is wrong:", "", *(f"- {fault}" for fault in self.faults)] if self.faults else ["Nothing is wrong."])]
        return "\n".join(lines) + "\n"


def served(chosen: argparse.Namespace, folder: Path, upstream: int, port: int) -> list[str]:
    """The command of the sidecar."""
    given = {"upstream": f"http://127.0.0.1:{upstream}/v1", "host": "127.0.0.1", "port": str(port), "data": str(folder / "data"),
             "policy": str(folder / chosen.policy.name), "durability": chosen.durability, **BOUNDS}
    if chosen.workers > 1:
        given["workers"] = str(chosen.workers)
    flags = [part for name, value in given.items() for part in (f"--{name}", value)]
    return [sys.executable, "-m", "moderation", "serve", *flags]


async def soak(chosen: argparse.Namespace, folder: Path) -> Result:
    seconds = chosen.minutes * 60
    every, printed = min(EVERY, seconds / 12), PRINTED if seconds >= 180 else 0.0
    shown: list[Row] = []

    def show(now: Row) -> None:
        shown.append(now)
        if not chosen.json:
            print(row(cells(now)), flush=True)

    upstream = Upstream(SECRETS)
    await upstream.start()
    port = free_port()
    with (folder / "stderr").open("wb") as stderr:
        asked = served(chosen, folder, upstream.port, port)
        child = subprocess.Popen(asked, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=stderr)  # noqa: ASYNC220 - nothing runs yet
        try:
            await asyncio.to_thread(listening, child, port, "/readyz")
            beside = Beside(child.pid, port, folder / chosen.policy.name, folder / "data", time.monotonic())
            await complete(beside, chosen.workers)
            await beside.look()
            rest = await beside.look()
            if not chosen.json:
                print(row(COLUMNS), "|" + "---|" * len(COLUMNS), row(["at rest", *cells(rest)[1:]]), sep="\n", flush=True)
            chance = random.Random(chosen.seed)
            crowd = Crowd(port, chosen.seed, WAYS)
            jobs = [asyncio.create_task(job) for job in (
                beside.watch(every, printed, show), beside.reload(min(chosen.reload, seconds / 6), chance),
                beside.query(min(60.0, seconds / 2)))]
            try:
                await crowd.come(chosen.rate, seconds)
            finally:
                for job in jobs:
                    job.cancel()
                done = await asyncio.gather(*jobs, return_exceptions=True)
            faults = [f"beside the load: {error!r}" for error in done if isinstance(error, Exception)] + beside.faults
            last = await settled(beside, rest)
            if not chosen.json:
                print(row(["after", *cells(last)[1:]]), flush=True)
        finally:
            child.terminate()
            code = await asyncio.to_thread(child.wait, 60)
            upstream.stop()
    events = said(folder / "stderr")
    faults += [f"the sidecar ended with {code}"] if code else []
    faults += [f"the operational log tells of {events[name]} x {name}" for name in sorted(WRONG & events.keys())]
    faults += [f"{upstream.leaks} requests reached the upstream with what the policy takes out"] if upstream.leaks else []
    faults += crowd.tally.faults + ([f"… {crowd.tally.wrong} wrong answers in all"] if crowd.tally.wrong else [])
    faults += grown(rest, beside.rows, last, LIMITS)
    told, missing = await asyncio.to_thread(recorded, folder / "data", crowd.tally.decisions)
    faults += missing
    tally, memory = crowd.tally, growth(beside.rows, "rss", LIMITS)
    notes = [
        f"memory: {memory.told() if memory else 'too short a run to tell'}",
        f"{tally.sent} clients came ({tally.held_back} more were held back), the upstream was asked {upstream.asked} times",
        f"{beside.reloads} policy files written, {beside.queries} audit queries beside the load",
        f"{tally.overloaded} answers were 503 for overload, {tally.degraded} degraded", told,
        "operational log: " + (", ".join(f"{count} x {name}" for name, count in sorted(events.items())) or "nothing")]
    command = "python -m bench.soak " + " ".join(chosen.arguments)
    return Result(machine(ROOT), command, LIMITS, rest, beside.rows, last, tally, notes, events, faults)


async def complete(beside: Beside, workers: int) -> None:
    """Wait until all workers are there: one alone answers /readyz, and would be taken for all of them at rest."""
    end = time.monotonic() + 60
    while (await beside.ready()) < workers:
        if time.monotonic() > end:
            raise SystemExit(f"bench: {workers} workers were not ready after 60 s")
        await asyncio.sleep(0.1)


async def settled(beside: Beside, rest: Row) -> Row:
    """The sidecar after the load: what is left when connections and tasks had time to end."""
    end = time.monotonic() + SETTLE
    while True:
        now = await beside.look()
        over = now.in_flight or now.fds > rest.fds or now.tasks > rest.tasks
        if not over or time.monotonic() > end:
            return now
        await asyncio.sleep(0.5)


def said(stderr: Path) -> Counter[str]:
    events: Counter[str] = Counter()
    for line in stderr.read_text("utf-8", "replace").split("\n"):
        if line:
            try:
                events[str(json.loads(line)["event"])] += 1
            except (ValueError, LookupError, TypeError):
                events["crashed"] += 1  # a line that is none of the log's
    return events


def recorded(data: Path, decisions: Sequence[str]) -> tuple[str, list[str]]:
    """Whether the log holds every decision that a client was told of, and verifies."""
    with Index(data) as index:
        index.catch_up()
        kept = {found.id for found in index.find(Query())}
    told = set(decisions)
    missing = sorted(told - kept)
    asked = (sys.executable, "-m", "moderation", "audit", "verify", "--data", str(data))
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    faults: list[str] = []
    if missing:
        faults.append(f"{len(missing)} decisions that clients were told of are not in the log: {', '.join(missing[:5])}")
    if done.returncode:
        faults.append(f"audit verify ended with {done.returncode}: {done.stdout.strip()[-500:]}")
    found = f"{len(told)} decisions that clients were told of, {len(kept)} in the log; audit verify: {done.returncode}"
    return found, faults


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="Does anything grow, get lost or go wrong?")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long the load lasts (default: 10)")
    parser.add_argument("--rate", type=float, default=50.0, metavar="N", help="clients a second (default: 50)")
    parser.add_argument("--seed", type=int, default=1, help="of the clients' behaviour (default: 1)")
    parser.add_argument("--reload", type=float, default=10.0, metavar="S", help="seconds between policy changes (default: 10)")
    parser.add_argument("--durability", choices=("strict", "fast"), default="strict")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes of the sidecar (default: 1)")
    parser.add_argument("--policy", type=Path, default=ROOT / "policies" / "default.yaml", metavar="FILE")
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing before it")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", metavar="DIR", help="where the results go")
    chosen = parser.parse_args(arguments)
    chosen.arguments = arguments
    if chosen.workers > 1 and "workers" not in BY_NAME:
        parser.error("this version has no setting `workers`")
    if not Path("/proc/self/stat").exists():
        parser.error("memory and file descriptors are read from /proc: run this on Linux")
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        shutil.copy(chosen.policy, folder)
        with contextlib.suppress(FileNotFoundError):
            shutil.copytree(chosen.policy.parent / "lists", folder / "lists")
        result = uvloop.run(soak(chosen, folder))
    page = result.page([one for at, one in enumerate(result.rows) if at % max(1, round(len(result.rows) / 20)) == 0])
    print(result.json() if chosen.json else "\n" + page[page.index("\n- memory:") :])
    stem = time.strftime("soak-%Y-%m-%d-%H%M%S", time.gmtime())
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / f"{stem}.json").write_text(result.json())
    (chosen.out / f"{stem}.md").write_text(page)
    print(f"kept in {chosen.out / stem}.json and .md", file=sys.stderr)
    return 1 if result.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
