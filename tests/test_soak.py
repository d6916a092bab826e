"""The soak runs, and sees growth where there is some."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from bench.beside import Beside
from bench.crowd import Crowd, Cut, Link, Reply, post
from bench.growth import COLUMNS, MIB, Limits, Row, cells, grown
from bench.soak import complete, recorded, said
from tests.kitchen import POLICY

ROOT = Path(__file__).parent.parent
REST = Row(0.0, 200 * MIB, 200 * MIB, 17, 5, 5, 0, 0, 0, 0, 2, {})
NOISE = random.Random(7)


def rows(rss: Callable[[float], float], seconds: int = 600) -> list[Row]:
    """A run, looked at every 5 s; `rss` in MiB."""
    return [replace(REST, seconds=float(at), rss=int(rss(at) * MIB), fds=60, tasks=40) for at in range(5, seconds + 1, 5)]


MEMORY: list[tuple[str, Callable[[float], float], int, bool]] = [
    ("it stays", lambda at: 250, 600, False),
    ("noise", lambda at: 250 + NOISE.uniform(-6, 6), 600, False),
    ("waves", lambda at: 250 + 12 * (at % 60 < 30), 600, False),
    ("policies that are built, more slowly in the end", lambda at: 250 + 60 * (at % 30 < (10 if at < 400 else 20)), 600, False),
    ("a leak under them", lambda at: 250 + at / 20 + 60 * (at % 30 < 15), 600, True),
    ("growth while it warms up", lambda at: 100 + min(at, 110), 600, False),
    ("one peak at the end", lambda at: 250 + 300 * (at > 590), 600, False),
    ("it falls", lambda at: 300 - at / 10, 600, False),
    ("a leak of 3 MiB a minute", lambda at: 250 + at / 20, 600, True),
    ("the same, in noise", lambda at: 250 + at / 20 + NOISE.uniform(-6, 6), 600, True),
    ("a leak of each reload", lambda at: 250 + 40 * (at // 60), 600, True),
    ("a small process that grows by a tenth", lambda at: 50 + at / 60, 600, True),
    ("too short to tell", lambda at: 100 + at, 60, False),
]


@pytest.mark.parametrize(("note", "rss", "seconds", "seen"), MEMORY, ids=[case[0] for case in MEMORY])
def test_growth_of_memory_is_seen_and_noise_is_not(note: str, rss: Callable[[float], float], seconds: int, seen: bool) -> None:
    faults = grown(REST, rows(rss, seconds), replace(REST, seconds=600.0), Limits())
    assert [fault.startswith("memory grew") for fault in faults] == [True] * seen, faults


LEFT = [
    ("nothing", {}, []),
    ("a few", {"fds": 20, "tasks": 8, "threads": 11}, []),
    ("file descriptors", {"fds": 30}, ["file descriptors were left over: 17 before the load, 30 after it"]),
    ("tasks", {"tasks": 40}, ["tasks were left over: 5 before the load, 40 after it"]),
    ("requests", {"in_flight": 1}, ["1 requests are in flight after the load"]),
    ("lost threads", {"lost": 2}, ["2 threads of detectors hang"]),
]


@pytest.mark.parametrize(("note", "left", "told"), LEFT, ids=[case[0] for case in LEFT])
def test_what_is_left_after_the_load_is_seen(note: str, left: dict[str, int], told: list[str]) -> None:
    assert grown(REST, rows(lambda at: 250), replace(REST, **left), Limits()) == told  # type: ignore[arg-type]  # they are whole numbers


def test_threads_that_become_more_are_seen() -> None:
    more = [replace(row, threads=int(5 + row.seconds // 30)) for row in rows(lambda at: 250)]
    assert [fault[:12] for fault in grown(REST, more, REST, Limits())] == ["threads grew"]


ANSWERS: list[tuple[str, int, dict[str, str], bytes, str, int]] = [
    ("its own", 200, {}, b'{"choices":[{"message":{"content":"for abc"}}]}', "abc", 0),
    ("another's", 200, {}, b'{"choices":[{"message":{"content":"for xyz"}}]}', "abc", 1),
    ("a stream", 200, {"content-type": "text/event-stream"}, b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: {"choices":[{"delta":{"content":"bc"}}]}\n\n', "abc", 0),
    ("degraded", 200, {"x-moderation-degraded": "true"}, b"{}", "abc", 0),
    ("an error of the sidecar", 500, {}, b'{"error":{"code":"internal_error"}}', "abc", 1),
    ("overload", 503, {}, b'{"error":{"code":"not_ready"}}', "abc", 0),
    ("a log that cannot be written", 503, {}, b'{"error":{"code":"audit_unavailable"}}', "abc", 1),
]


@pytest.mark.parametrize(("note", "status", "headers", "body", "own", "wrong"), ANSWERS, ids=[case[0] for case in ANSWERS])
def test_clients_see_a_wrong_answer(note: str, status: int, headers: dict[str, str], body: bytes, own: str, wrong: int) -> None:
    crowd = Crowd(0, 0, ())
    crowd.check("a client", Reply(status, {**headers, "x-moderation-decision": "01A.0"}, body), 200, own)
    assert crowd.tally.wrong == wrong, crowd.tally.faults
    assert crowd.tally.decisions == ["01A.0"]


SERVED = [
    ("it comes whole", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", False),
    ("it is cut", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", True),
    ("nothing comes", b"", True),
]


@pytest.mark.parametrize(("note", "sent", "cut"), SERVED, ids=[case[0] for case in SERVED])
def test_a_connection_stays_where_its_answer_came_whole(note: str, sent: bytes, cut: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()

    links: list[Link] = []

    class Kept(Crowd):
        async def open(self) -> Link:
            links.append(await super().open())
            return links[-1]

    async def go() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            crowd = Kept(server.sockets[0].getsockname()[1], 0, ())
            with pytest.raises(Cut) if cut else nullcontext():
                await crowd.ask("a client", post("/", {}), 200)
            (link,) = links
            assert link.writer.is_closing() is cut
            link.close()

    asyncio.run(go())


def test_lines_on_stderr_are_counted_by_event(tmp_path: Path) -> None:
    (tmp_path / "stderr").write_text('{"event":"policy_fault"}\n{"event":"policy_fault"}\nTraceback\n', encoding="utf-8")
    assert said(tmp_path / "stderr") == Counter(policy_fault=2, crashed=1)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command: Sequence[str] = (sys.executable, "-m", "bench.soak", *arguments)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it reads memory and file descriptors from /proc")
def test_a_short_one_runs_and_keeps_what_it_saw(tmp_path: Path) -> None:
    done = run("--minutes", "0.1", "--policy", str(POLICY), "--seed", "3", "--out", str(tmp_path), "--json")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    kept, = tmp_path.glob("soak-*.json")
    assert kept.read_text() == done.stdout.removesuffix("\n")
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert result["last"]["in_flight"] == 0
    assert result["last"]["rss"] > 20 * MIB
    assert result["last"]["leaves"] > result["decisions"] > 100
    assert {"answered", "blocked", "refused", "failed", "cancelled"} <= result["last"]["outcomes"].keys()
    assert result["events"]["policy_fault"] >= 1
    assert cells(REST)[0] == "0 s"
    assert kept.with_suffix(".md").read_text().count("\n| ") == len(result["rows"]) + 3  # the head, at rest, and after
    assert len(COLUMNS) == len(cells(REST))


def test_a_decision_that_the_log_does_not_hold_is_told(tmp_path: Path) -> None:
    told, faults = recorded(tmp_path, ["01ARZ3NDEKTSV4RRFFQ69G5FAV.0"])
    assert told.startswith("1 decisions that clients were told of, 0 in the log")
    assert [fault[:40] for fault in faults] == ["1 decisions that clients were told of are"[:40], faults[1][:40]]
    assert faults[1].startswith("audit verify ended with")


def test_nothing_is_measured_before_all_workers_are_there() -> None:
    counts = [0, 1, 1, 2]

    class Slow(Beside):
        async def ready(self) -> int:
            return counts.pop(0)

    asyncio.run(complete(Slow(0, 0, Path(), Path()), 2))
    assert counts == []
