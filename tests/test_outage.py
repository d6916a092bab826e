"""A real process whose disk fails, whose log is taken away, and that is killed under load: what a client saw is in the log."""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from moderation.audit.index import Index, Query
from moderation.audit.verify import verify
from tests.audit.mini_verifier import check
from tests.fakes import FakeUpstream, Received, Reply, Script, ask, ask_json, json_script, sse, stream_script
from tests.kitchen import answer, chunk
from tests.test_server import ROOT, Process

SOME = [chunk({"content": "One. "}), chunk({"content": "mail b@c.de Two. "}), chunk({}, "stop")]


def serve(request: Received) -> Script:
    return stream_script(*sse(*SOME)) if request.json.get("stream") else json_script(answer("Fine."))


async def chat(port: int, text: str = "hi", *, stream: bool = False, path: str = "/v1") -> Reply:
    body = {"messages": [{"role": "user", "content": text}], "stream": stream}
    return await ask_json(port, f"{path}/chat/completions", body)


async def started(*flags: str, data: Path, upstream: FakeUpstream) -> Process:
    process = Process(*flags, data=data, upstream=upstream.base)
    return await asyncio.to_thread(process.ready)


async def over(process: Process, number: int = signal.SIGTERM) -> int:
    return await asyncio.to_thread(process.end, number)


async def get(process: Process, path: str) -> tuple[int, Any]:
    return await asyncio.to_thread(process.get, path)


async def until(fact: Callable[[], Any], seconds: float = 20) -> None:
    """Until `fact`, a coroutine function, says so."""
    end = asyncio.get_running_loop().time() + seconds
    while not await fact():
        assert asyncio.get_running_loop().time() < end, "did not happen"
        await asyncio.sleep(0.05)


def test_what_clients_saw_survives_kill_9(tmp_path: Path) -> None:
    """Whole answers and streams from several clients, killed at moments that nobody chose, again and again on one log."""
    rng, seen, data = random.Random(11), list[str](), tmp_path / "data"

    async def client(port: int, number: int) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                reply = await chat(port, f"text {number} of a@b.com", stream=bool(number % 2))
                decision = reply.header("x-moderation-decision")
                assert (reply.status, decision is not None) == (200, True)
                seen.append(decision or "")

    async def go() -> None:
        async with FakeUpstream(serve) as upstream:
            for _ in range(2):
                process = await started(data=data, upstream=upstream)
                before = len(seen)
                clients = [asyncio.create_task(client(process.port, number)) for number in range(5)]
                while len(seen) < before + 12:  # noqa: ASYNC110 - the process says nothing that could be waited for
                    await asyncio.sleep(0.01)
                await asyncio.sleep(rng.random() * 0.2)
                await over(process, signal.SIGKILL)
                await asyncio.gather(*clients)
            process = await started(data=data, upstream=upstream)
            assert await over(process) == 0

    asyncio.run(go())
    report = verify(data)
    assert report.exit_code == 0, report.faults
    with Index(data) as index:
        index.catch_up()
        assert set(seen) <= {row.id for row in index.find(Query())}
    command = [sys.executable, "-m", "moderation", "audit", "show", seen[-1], "--data", str(data), "--json"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(shown.stdout)
    leaves = check(data / "log-0")
    opens, closes = (Counter(leaf["req"] for leaf in leaves if leaf["kind"] == kind) for kind in ("open", "close"))
    assert opens == closes


class Outage:
    """Something that keeps the log from being written, and its end."""

    def begin(self, process: Process) -> None: ...
    def end(self, process: Process) -> None: ...


class FileSize(Outage):
    """RLIMIT_FSIZE, as a service manager sets it. (Python ignores SIGXFSZ, so a write says EFBIG.)"""

    def begin(self, process: Process) -> None:
        resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def end(self, process: Process) -> None:
        resource.prlimit(process.child.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class FullDisk(Outage):
    """A small file system without a byte left."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"

    def begin(self, process: Process) -> None:
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def end(self, process: Process) -> None:
        self._ballast.unlink()


class Moved(Outage):
    """The log's file under another name, and back."""

    def __init__(self, data: Path) -> None:
        self._file, self._away = data / "log-0" / "seg-0.qseg", data / "away"

    def begin(self, process: Process) -> None:
        self._file.rename(self._away)

    def end(self, process: Process) -> None:
        self._away.rename(self._file)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here (that needs root): {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_file_size_limit(tmp_path: Path) -> None:
    asyncio.run(outage(tmp_path, tmp_path / "data", FileSize(), "File too large"))


def test_a_full_disk(tmp_path: Path, small: Path) -> None:
    asyncio.run(outage(tmp_path, small / "data", FullDisk(small), "No space left on device"))


def test_a_log_file_that_is_moved_away_and_back(tmp_path: Path) -> None:
    asyncio.run(outage(tmp_path, tmp_path / "data", Moved(tmp_path / "data"), "move the very same file back"))


async def outage(tmp_path: Path, data: Path, trouble: Outage, words: str) -> None:
    """It refuses, in every route, says why, and goes on by itself with one gap that counts what was refused."""
    config = tmp_path / "moderation.yaml"
    config.write_text("routes:\n  - {name: quick, match: {path: /quick}, durability: fast}\n")
    flags = ("--config", str(config), "--keys", str(tmp_path / "keys"))
    refused = 0
    async with FakeUpstream(serve) as upstream:
        process = await started(*flags, data=data, upstream=upstream)
        try:
            good = [(await chat(process.port, path=path)).header("x-moderation-decision") for path in ("/v1", "/quick/v1")]
            await asyncio.sleep(0.2)  # what is fast is on the disk within 50 ms; an error before that takes it, and counts it
            trouble.begin(process)
            for number in range(40):  # the last page of a full disk takes some more
                reply = await chat(process.port, stream=bool(number % 2))
                if reply.status == 503:
                    break
                good.append(reply.header("x-moderation-decision"))
                refused += b"audit_unavailable" in reply.body  # in mid-stream
            asked = len(upstream.received)
            for path, stream in (("/v1", False), ("/v1", True), ("/quick/v1", False), ("/quick/v1", True)):
                refused += 1
                assert (reply.status, reply.json["error"]["code"]) == (503, "audit_unavailable")
                assert (reply.json["error"]["type"], reply.header("retry-after")) == ("server_error", "1")
                assert reply.header("x-should-retry") is None
                reply = await chat(process.port, stream=stream, path=path)
            refused += 1
            assert reply.status == 503
            assert len(upstream.received) == asked, "nothing is forwarded that is not recorded"
            status, state = await get(process, "/readyz")
            assert (status, state["log"]["status"]) == (503, "failed")
            assert words in state["log"]["error"]
            assert (await get(process, "/healthz"))[0] == 200
            assert await failed(process.port) == 1
            await asyncio.sleep(1.5)  # it tries to go on, in vain
            assert sum('"log_failed"' in line and words in line for line in process.said) == 1
            assert (await get(process, "/readyz"))[0] == 503
            query = [sys.executable, "-m", "moderation", "audit", "query", "--data", str(data), "--json"]
            if not isinstance(trouble, Moved):
                done = await asyncio.to_thread(subprocess.run, query, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
                assert done.returncode == 0, done.stderr
                assert set(good) <= {json.loads(line)["id"] for line in done.stdout.strip().split("\n")}
            trouble.end(process)

            async def ready() -> bool:
                return (await get(process, "/readyz"))[0] == 200

            await until(ready)
            assert await failed(process.port) == 0
            await asyncio.to_thread(process.wait_for, '"log_recovered"')
            for path in ("/v1", "/quick/v1"):
                reply = await chat(process.port, path=path)
                assert reply.status == 200
                good.append(reply.header("x-moderation-decision"))
            assert await over(process) == 0
        finally:
            await over(process, signal.SIGKILL)
    report = verify(data)
    assert report.exit_code == 0, report.faults
    gaps = [leaf for leaf in check(data / "log-0") if leaf["kind"] == "gap"]
    assert [gap["lost"] for gap in gaps] == [2 * refused], "an open and a decision of each"
    with Index(data) as index:
        index.catch_up()
        assert set(good) <= {row.id for row in index.find(Query())}


async def failed(port: int) -> int:
    """The metric."""
    reply = await ask(port, "GET", "/metrics", headers=[("connection", "close")])
    text = (await reply.read_all()).decode()
    return int(float(next(line for line in text.split("\n") if line.startswith("moderation_log_failed ")).split()[1]))


def test_a_log_that_stays_broken_ends_with_74(tmp_path: Path) -> None:
    """A log file that is gone for good: refused until the end, and the end says so; the next start does not begin anew in silence."""
    data = tmp_path / "data"

    async def go() -> None:
        async with FakeUpstream(serve) as upstream:
            process = await started(data=data, upstream=upstream)
            try:
                assert (await chat(process.port)).status == 200
                os.unlink(data / "log-0" / "seg-0.qseg")
                assert (await chat(process.port)).status == 503
                assert (await get(process, "/readyz"))[0] == 503
                assert await over(process) == 74
                assert any("closed without a last checkpoint" in line for line in process.said)
            finally:
                await over(process, signal.SIGKILL)
            again = await started(data=data, upstream=upstream)
            assert await over(again) == 74
            assert any("LOSS" in line for line in again.said)

    asyncio.run(go())
    assert verify(data).exit_code == 4
