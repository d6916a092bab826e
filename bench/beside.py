"""What goes on beside a soak's load: looks at the sidecar's figures, policies that change, an auditor who asks."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.crowd import Link
from bench.growth import Row
from bench.run import ROOT, family

_SAMPLE = re.compile(r"^(moderation_[a-z_]+)(?:\{(.*)\})? ([0-9.e+-]+)$", re.MULTILINE)


def kernel(pid: int) -> dict[str, str]:
    """The numbers of proc(5), `status`."""
    return dict(re.findall(r"(?m)^(\w+):\s+(\d+)", Path(f"/proc/{pid}/status").read_text()))


@dataclass
class Beside:
    """Everything but the load."""

    pid: int
    port: int
    policy: Path
    data: Path
    began: float = 0.0
    rows: list[Row] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    reloads: int = 0
    queries: int = 0

    async def ready(self) -> int:
        """How many workers are."""
        link = await Link.open(self.port)
        try:
            reply = await link.ask(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        finally:
            link.close()
        return int(json.loads(reply.body)["workers"]["ready"])

    async def look(self) -> Row:
        """What the sidecar takes now, by the kernel and by its own figures."""
        link = await Link.open(self.port)
        try:
            text = (await link.ask(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")).body.decode()
        finally:
            link.close()
        figures: Counter[str] = Counter()
        outcomes: Counter[str] = Counter()
        for name, labels, value in _SAMPLE.findall(text):
            figures[name] += float(value)  # type: ignore[assignment]  # counters are of numbers
            if name == "moderation_requests_total" and (outcome := re.search('outcome="([a-z]+)"', labels)):
                outcomes[outcome[1]] += int(float(value))
        status = [kernel(pid) for pid in family(self.pid)]
        fds = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family(self.pid))
        rss, peak, threads = (sum(int(one[name]) for one in status) for name in ("VmRSS", "VmHWM", "Threads"))
        of = {name: int(figures[f"moderation_{name}"]) for name in
              ("tasks", "in_flight", "detector_threads_lost", "cache_bytes", "log_leaves_total")}
        log = sum(path.stat().st_size for path in self.data.glob("log-*/*.qseg"))
        return Row(time.monotonic() - self.began, rss * 1024, peak * 1024, fds, threads, of["tasks"], of["in_flight"],
                   of["detector_threads_lost"], of["cache_bytes"], log, of["log_leaves_total"], dict(outcomes))

    async def watch(self, every: float, printed: float, show: Callable[[Row], None]) -> None:
        due = self.began
        shown = 0.0
        while True:
            due += every
            await asyncio.sleep(due - time.monotonic())
            now = await self.look()
            self.rows.append(now)
            if now.seconds + 0.1 >= shown + printed:
                shown = now.seconds
                show(now)

    async def reload(self, every: float, chance: random.Random) -> None:
        """Two sound versions of the policy and a broken one, one after the other, and now and then a SIGHUP."""
        good = self.policy.read_text("utf-8")
        versions = (good.replace("title: ", "title: Another ", 1), good.replace("then: redact", "then: redakt", 1), good)
        while True:
            for text in versions:
                await asyncio.sleep(every * chance.uniform(0.5, 1.5))
                written = self.policy.with_suffix(".new")
                written.write_text(text, "utf-8")
                written.replace(self.policy)
                self.reloads += 1
                if chance.random() < 0.2:
                    os.kill(self.pid, signal.SIGHUP)

    async def query(self, every: float) -> None:
        """An auditor beside it."""
        while True:
            await asyncio.sleep(every)
            asked = (sys.executable, "-m", "moderation", "audit", "query", "--data", str(self.data), "--limit", "5", "--json")
            child = await asyncio.create_subprocess_exec(*asked, cwd=ROOT, stdout=subprocess.DEVNULL)
            try:
                if code := await child.wait():
                    self.faults.append(f"audit query ended with {code}")
                self.queries += 1
            except asyncio.CancelledError:
                child.kill()
                await child.wait()
                raise
