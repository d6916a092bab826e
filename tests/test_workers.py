"""`serve --workers N`: real processes that act as one, whatever happens to any of them."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from moderation.audit.merkle import Tree
from moderation.audit.note import parse_verifier
from moderation.audit.qseg import NO_PREV, ordered, read
from moderation.audit.verify import verify
from moderation.cli.serve import configuration
from moderation.errors import ModerationError
from moderation.metrics import Metrics
from moderation.oplog import OperationalLog
from moderation.supervisor import _RESTS, Supervisor, _agreed
from moderation.tracing import Step
from tests.fakes import FakeUpstream, Pause, Script, json_script, sse, stream_script
from tests.kitchen import POLICY, answer, chunk
from tests.test_server import ROOT, Process, ask, read_all, served

TEXT = POLICY.read_text("utf-8")
BROKEN = TEXT.replace("then: redact", "then: redakt", 1)
MENDED = TEXT.replace("severity: low", "severity: medium")


def workers(process: Process) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(process.child.pid)], capture_output=True, text=True, check=False, timeout=10)
    return sorted(map(int, done.stdout.split()))


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")


def all_ready(process: Process) -> bool:
    return bool(process.get("/readyz")[1]["workers"] == {"configured": 2, "ready": 2})


def counts(process: Process) -> dict[str, float]:
    """Each sample of /metrics, by its name and labels."""
    link = http.client.HTTPConnection("127.0.0.1", process.port, timeout=10)
    link.request("GET", "/metrics")
    reply = link.getresponse()
    text = reply.read().decode()
    link.close()
    assert reply.status == 200, text
    return {name: float(value) for name, value in re.findall(r"^([^# ].*) (\S+)$", text, re.MULTILINE)}


def leaves(data: Path, log: str) -> list[dict[str, Any]]:
    folder = data / log
    origin = parse_verifier((folder / "key.pub").read_text()).name
    files = ((name, (folder / name).read_bytes()) for name in ordered(os.listdir(folder)))
    return [json.loads(leaf.data) for scan in read(origin, files, Tree(), NO_PREV) for leaf in scan.leaves]


def logs(data: Path) -> list[str]:
    return sorted(path.name for path in data.glob("log-*"))


@contextmanager
def apart(*scripts: Script) -> Iterator[FakeUpstream]:
    """A server that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = FakeUpstream(*scripts)
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@contextmanager
def two(*flags: str, data: Path, policy: Path = POLICY, script: list[Script] | None = None) -> Iterator[Process]:
    """Two workers before an upstream."""
    with (
        apart(*(script or [json_script(answer("Fine."))])) as upstream,
        served("--workers", "2", *flags, data=data, policy=policy, upstream=upstream.base) as process,
    ):
        pids = workers(process)
        assert len(pids) == 2, process.said
        try:
            yield process
        finally:
            process.end(signal.SIGKILL)
            try:
                until(lambda: all(map(gone, pids)))
            finally:
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Live:
    """Two workers that serve, and their policy as Kubernetes mounts a ConfigMap: the file is a link through a link to a folder."""

    process: Process
    folder: Path

    def swap(self, text: str) -> None:
        """The file stays as it is, the folder that it leads through is another."""
        fresh = self.folder / f"..{len(list(self.folder.iterdir()))}"
        fresh.mkdir()
        (fresh / "policy.yaml").write_text(text)
        os.utime(fresh / "policy.yaml", (1, 1))
        (self.folder / "..tmp").symlink_to(fresh.name)
        (self.folder / "..tmp").rename(self.folder / "..data")

    def change(self, text: str, event: str) -> dict[str, Any]:
        """Have them see another policy; what is said of that."""
        said = len(self.process.said)
        self.swap(text)
        until(lambda: any(f'"event":"{event}"' in line for line in self.process.said[said:]))
        return next(line for line in map(json.loads, self.process.said[said:]) if line["event"] == event)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    etc, data = folder / "etc", folder / "data"
    etc.mkdir()
    (etc / "policy.yaml").symlink_to("..data/policy.yaml")
    Live.swap(Live(None, etc), TEXT)  # type: ignore[arg-type]
    with two("--allowed-hosts", "localhost, 127.0.0.1, ours", data=data, policy=etc / "policy.yaml") as process:
        told = [json.loads(line) for line in process.said]
        assert [(line["event"], line.get("worker")) for line in told] == [("ready", None)]
        yield Live(process, etc)
        assert process.end() == 0
        told = [json.loads(line) for line in process.said]
        assert [line["event"] for line in told].count("ready") == 1
        assert sorted(line["worker"] for line in told if line["event"] == "stopped") == [1, 2]
    assert logs(data) == ["log-0", "log-1"]
    assert verify(data).exit_code == 0
    decided = [[leaf["policy"]["hash"] for leaf in leaves(data, log) if leaf["kind"] == "policy_activate"] for log in logs(data)]
    assert decided[0][-1] == decided[1][-1]


def kill_one(process: Process) -> float:
    """Kill the first worker, and wait until the others know of it: the time when it was dead."""
    os.kill(workers(process)[0], signal.SIGKILL)
    dead = time.monotonic()
    until(lambda: not all_ready(process))
    return dead


class Load:
    """Requests, one after the other in each of some threads; when each began and ended, and whether it was answered."""

    def __init__(self, port: int, threads: int = 4) -> None:
        self.done: list[tuple[float, float, bool]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(port,), daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                well = read_all(ask(port, stream=False)).startswith(b"HTTP/1.1 200 ")
            except OSError:
                well = False
            self.done.append((began, time.monotonic(), well))

    def more(self, number: int = 20) -> None:
        """Let so many more be answered."""
        wanted = len(self.done) + number
        until(lambda: len(self.done) >= wanted)

    def stop(self) -> list[tuple[float, float]]:
        """Those that failed."""
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        return [(began, ended) for began, ended, well in self.done if not well]


class Watch:
    """What /readyz says all the while: the versions that it claims, and whether it says that they may be changing."""

    def __init__(self, process: Process) -> None:
        self.claims: list[tuple[str, tuple[str, ...]]] = []
        self._process, self._stop = process, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                policy: Any = self._process.get("/readyz")[1]["policy"]
            except (OSError, http.client.HTTPException):
                continue
            self.claims.append((policy["active"][0]["hash"], tuple(policy["changing"])))

    def stop(self) -> list[tuple[str, tuple[str, ...]]]:
        self._stop.set()
        self._thread.join(20)
        return self.claims


def active(process: Process) -> str:
    policy: Any = process.get("/readyz")[1]["policy"]
    return str(policy["active"][0]["hash"])


def test_a_policy_is_broken_and_mended_under_load_and_a_worker_killed(live: Live) -> None:
    process = live.process
    old, before = active(process), len(process.said)
    load, watch = Load(process.port), Watch(process)
    load.more()
    fault = live.change(BROKEN, "policy_fault")
    assert fault["message"].split(" ")[1:3] == ["error", "QP001"]
    load.more()
    killed = kill_one(process)
    process.wait_for("was ended by SIGKILL; it is started again", 60)
    until(lambda: all_ready(process))
    assert {active(process) for _ in range(20)} == {old}  # the file is broken still
    load.more()
    assert live.change(MENDED, "policy_taken")["policy"] == "flow"
    load.more()
    (new,) = {active(process) for _ in range(20)}
    assert new != old
    claims = watch.stop()
    failed = load.stop()
    assert all(began <= killed for began, ended in failed), (killed, failed)
    assert len(failed) <= 4  # at most what each thread had asked the killed worker
    # No worker claims one version alone after another claimed the other one alone.
    alone = [claim for claim, changing in claims if not changing]
    assert alone == [old] * alone.count(old) + [new] * alone.count(new)
    assert {one for _, changing in claims for one in changing} <= {old, new}
    told = [json.loads(line) for line in process.said[before:]]
    assert [line["event"] for line in told].count("policy_taken") == 1
    assert {line["worker"] for line in told if line["event"] == "request"} == {1, 2}
    for log in logs(live.folder.parent / "data"):
        written = leaves(live.folder.parent / "data", log)
        hashes = [leaf["policy"]["hash"] for leaf in written if leaf["kind"] == "policy_activate"]
        assert hashes[-1] == new
        assert old in hashes
        assert any(leaf["kind"] == "policy_reject" for leaf in written)
    assert live.change(TEXT, "policy_taken")["version"] == old[:12]


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGCONT])
def test_a_worker_that_hangs_in_the_middle_of_a_reload(live: Live, ending: signal.Signals) -> None:
    """It is asked to prepare and does not answer; then it is gone, or goes on. All end with the new policy, or none does."""
    process = live.process
    old, second = active(process), workers(process)[1]
    os.kill(second, signal.SIGSTOP)
    later = threading.Timer(1.5, os.kill, (second, ending))
    later.start()
    live.change(MENDED, "policy_taken")
    later.join()
    until(lambda: all_ready(process))
    until(lambda: old not in {active(process) for _ in range(20)})
    (new,) = {active(process) for _ in range(20)}
    assert new != old
    live.change(TEXT, "policy_taken")
    until(lambda: {active(process) for _ in range(20)} == {old})


def test_a_swapped_link_and_sighup_reach_all(live: Live) -> None:
    process = live.process
    old = active(process)
    live.change(MENDED, "policy_taken")
    (new,) = {active(process) for _ in range(20)}
    assert new != old
    before = bounds(process)  # each worker counts for itself
    process.child.send_signal(signal.SIGHUP)
    until(lambda: all(now > then for now, then in zip(bounds(process), before, strict=True)))
    assert {active(process) for _ in range(20)} == {new}
    live.change(TEXT, "policy_taken")


def bounds(process: Process) -> tuple[int, int]:
    """The least and the greatest generation of any worker."""
    found = [state["generation"] for state in generations(process)]
    return min(found), max(found)


def generations(process: Process) -> list[dict[str, Any]]:
    answers: list[Any] = [process.get("/readyz")[1]["policy"] for _ in range(20)]
    return [answer["active"][0] for answer in answers]


def test_the_configuration_reaches_all(live: Live) -> None:
    def status(host: str) -> int:
        link = http.client.HTTPConnection("127.0.0.1", live.process.port, timeout=10)
        link.request("GET", "/metrics", headers={"Host": host})
        reply = link.getresponse()
        link.close()
        return reply.status

    assert {status("ours") for _ in range(10)} == {200}
    assert {status("theirs.example") for _ in range(10)} == {421}


ANSWERED = 'moderation_requests_total{outcome="answered",route="default"}'


def test_figures_are_summed_and_never_go_back(live: Live) -> None:
    process = live.process
    before = counts(process).get(ANSWERED, 0)
    for _ in range(12):
        read_all(ask(process.port, stream=False))
    assert [counts(process)[ANSWERED] for _ in range(6)] == [before + 12] * 6
    second = workers(process)[1]
    time.sleep(1.1)  # what a worker counted in its last second may be missing
    kill_one(process)
    assert counts(process)["moderation_ready"] == 1
    until(lambda: all_ready(process))
    assert [counts(process)[ANSWERED] for _ in range(6)] == [before + 12] * 6
    read_all(ask(process.port, stream=False))
    now = counts(process)
    assert now[ANSWERED] == before + 13
    assert now["moderation_worker_restarts_total"] >= 1
    assert now['moderation_log_leaves_total{leaf="log_open"}'] >= 2
    assert (now["moderation_in_flight"], now['moderation_workers{state="answered"}']) == (0, 2)
    assert now["process_resident_memory_bytes"] > 2 * 40e6
    assert (now["moderation_ready"], now['moderation_build_info{version="0.1.0"}']) == (1, 1)
    assert now["moderation_log_disk_free_bytes"] > 0
    # One that hangs takes part with its last figures, and keeps nobody waiting.
    os.kill(second, signal.SIGSTOP)
    try:
        now = counts(process)
    finally:
        os.kill(second, signal.SIGCONT)
    assert (now[ANSWERED], now['moderation_workers{state="answered"}']) == (before + 13, 1)


FINISHES = stream_script(*sse(chunk({"content": "One. "}), done=False), Pause(0.5), *sse(chunk({"content": "Two. "}), chunk({}, "stop")))
ENDLESS = stream_script(*sse(chunk({"content": "One. "}), done=False), Pause(60))


def test_whatever_ends_it_streams_finish_and_the_next_start_takes_up_the_same_logs(tmp_path: Path) -> None:
    """The supervisor is killed, and its workers drain and end. Then each process gets a SIGTERM, as systemd sends it, which lets
    streams finish, and the supervisor a second one, which waits for nothing."""
    data = tmp_path / "data"
    for life in ("killed", "told"):
        with two(data=data, script=[*[FINISHES] * 6, ENDLESS]) as process:
            pids = workers(process)
            links = [ask(process.port, stream=True) for _ in range(6)]
            firsts = [link.recv(65536) for link in links]
            if life == "killed":
                process.end(signal.SIGKILL)
            else:
                others = [ask(process.port, stream=True) for _ in range(4)]
                starts = [link.recv(65536) for link in others]
                for pid in (*pids, process.child.pid):
                    os.kill(pid, signal.SIGTERM)
            bodies = [first + read_all(link) for first, link in zip(firsts, links, strict=True)]
            assert all(b"Two. " in body and b"[DONE]" in body for body in bodies)
            if life == "told":
                began = time.monotonic()
                assert process.end() == 0
                assert time.monotonic() - began < 20
                assert all(b"[DONE]" not in start + read_all(link) for start, link in zip(starts, others, strict=True))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", process.port)).close()
        assert logs(data) == ["log-0", "log-1"]
        report = verify(data)
        assert (report.exit_code, [note for note in report.notes if "under no checkpoint" in note]) == (0, [])
        if life == "killed":
            torn = data / "log-1" / "seg-0.qseg"
            torn.write_bytes(torn.read_bytes() + b"\x00\x00\x01\x00half a frame")
    written = {log: leaves(data, log) for log in logs(data)}
    assert {log: [leaf["kind"] for leaf in some].count("recovery") for log, some in written.items()} == {"log-0": 0, "log-1": 1}
    ends = [leaf["outcome"] for some in written.values() for leaf in some if leaf["kind"] == "close"]
    assert ends.count("interrupted") == 4


def test_what_cannot_start_ends_with_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("format: 2\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "MODERATION_WORKERS": "2"}
    command = [sys.executable, "-m", "moderation", "serve", "--upstream", "http://127.0.0.1:9/v1", "--port", "0",
               "--policy", "broken.yaml", "--data", "d"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("moderation: broken.yaml:1:1")
    assert len([line for line in done.stderr.split("\n") if line.startswith("moderation: ")]) == 1
    assert "Traceback" not in done.stderr


WORKER = """\
import asyncio, os, pickle, signal, socket, sys
from moderation.channel import Channel
config, number, control, listeners = pickle.load(sys.stdin.buffer)
async def main():
    counts = asyncio.Queue()
    async def answer(what, value):
        if what == "counts":
            counts.put_nowait(value["ready"])
        return {"": "v"} if what in ("open", "prepare", "settle") else True
    async def ready(wanted):
        while await counts.get() != wanted:
            pass
    with open(sys.argv[1] + str(number), "a") as lives:
        lives.write(".")
        lives.flush()
        life = lives.tell()
    channel = await Channel.over(socket.socket(fileno=control), answer)
    reading = asyncio.create_task(channel.run())
    channel.tell("here")
    DO
asyncio.run(main())
"""
ENDS = [
    ("it says why", 'channel.tell("failed", "data: it is a file"); sys.exit(74)', 74, "data: it is a file"),
    ("it says nothing", "os.kill(os.getpid(), signal.SIGKILL)", 137, "was ended by SIGKILL"),
]


Said = list[dict[str, Any]]


def oversee(
    work: str, enough: Callable[[Said], bool], folder: Path, rests: Sequence[float] = (0.0,),
    interpreter: Path = Path(sys.executable), ready: Callable[[], None] = lambda: None,
) -> tuple[Said, int, ModerationError | None]:
    """A supervisor over processes that only do this, until it has said enough; what it said, its code, and the error.

    The work may wait until so many are `ready`, and knows which `life` of its number it is: 1, and one more at each start.
    """
    lines: list[str] = []
    over = asyncio.Event()

    def write(line: str) -> None:
        lines.append(line)
        if enough([json.loads(line) for line in lines]):
            over.set()

    async def go() -> int:
        config = configuration({"upstream": "http://127.0.0.1:9/v1", "port": "0", "workers": "2", "drain": "0"})
        say = OperationalLog(write)
        command = [str(interpreter), "-c", WORKER.replace("DO", work), str(folder / "lives-")]

        def served() -> None:
            say("ready", address="", upstream="", version="")
            ready()

        supervisor = Supervisor(config, Metrics(), [], say, served, command, rests)
        running = asyncio.create_task(supervisor.run())
        ending = asyncio.create_task(over.wait())
        await asyncio.wait((running, ending), return_when=asyncio.FIRST_COMPLETED, timeout=60)
        ending.cancel()
        if not running.done():
            supervisor.stop()
        return await running

    raised = None
    try:
        code = asyncio.run(go())
    except ModerationError as error:
        code, raised = error.exit_code, error
    return [json.loads(line) for line in lines], code, raised


@pytest.mark.parametrize(("note", "work", "code", "told"), ENDS, ids=[one[0] for one in ENDS])
def test_a_worker_that_cannot_start_ends_all(note: str, work: str, code: int, told: str, tmp_path: Path) -> None:
    said, ended, error = oversee(work, lambda said: False, tmp_path)
    assert (said, ended) == ([], code)
    assert told in str(error)


def ends(said: Said, worker: int) -> Said:
    return [line for line in said if line["event"] == "worker_ended" and line["worker"] == worker]


def test_a_worker_that_ends_later_is_told_with_its_reason(tmp_path: Path) -> None:
    later = """await ready(2)
    if number == 1:
        channel.tell("failed", "the disk")
        sys.exit(74)
    await reading"""
    said, _, error = oversee(later, lambda said: bool(ends(said, 1)), tmp_path)
    assert error is None
    assert said[0]["event"] == "ready"
    assert said[1]["message"] == "worker 1 ended with exit code 74: the disk; it is started again in 0 s"


def test_a_worker_that_cannot_be_started_again_is_tried_again_and_ends_nothing(tmp_path: Path) -> None:
    """As where there is no memory or descriptor for a process: the others go on."""

    def unstarted(said: Said) -> bool:
        return any(line["event"] == "worker_unstarted" for line in said)

    interpreter = tmp_path / "python"
    interpreter.symlink_to(sys.executable)
    lost = """await ready(2)
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    await reading"""
    said, code, error = oversee(lost, unstarted, tmp_path, (0.0, 1.0), interpreter, interpreter.unlink)
    assert (code, error) == (0, None)
    assert [line["event"] for line in said] == ["ready", "worker_ended", "worker_unstarted"]
    assert said[2]["message"] == "worker 1 cannot be started: No such file or directory; it is tried again in 1 s"


def test_a_first_worker_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    said, code, error = oversee("", lambda said: False, tmp_path, interpreter=tmp_path / "python")
    assert (said, code) == ([], 71)
    assert str(error) == "worker 1 cannot be started: No such file or directory"


def test_a_worker_that_fails_again_and_again_rests_longer_until_it_serves(tmp_path: Path) -> None:
    fickle = """if number == 1 and life in (1, 7):
        await ready(2)
    if number == 1:
        sys.exit(life)
    await reading"""
    said, code, error = oversee(fickle, lambda said: len(ends(said, 1)) == 9, tmp_path, (0.0, 0.001, 0.002, 0.003))
    assert (code, error) == (0, None)
    assert [line["how"] for line in ends(said, 1)] == [f"ended with exit code {life}" for life in range(1, 10)]
    served = 0.0
    assert [line["wait"] for line in ends(said, 1)] == [served, 0.001, 0.002, 0.003, 0.003, 0.003, served, 0.001, 0.002]
    assert [line["event"] for line in said].count("ready") == 1
    assert not ends(said, 2)


def test_a_worker_that_rests_is_left_alone_until_the_end(tmp_path: Path) -> None:
    """The other one ends whenever it serves alone, and is started again at once, time after time."""
    apart = """if life == 1:
        await ready(2)
    if number == 2:
        await ready(1)
    sys.exit(life)"""

    def enough(said: Said) -> bool:
        resting = next((place for place, line in enumerate(said) if line.get("wait") == 3600), len(said))
        return len(ends(said[resting:], 2)) >= 4

    said, _, error = oversee(apart, enough, tmp_path, (0.0, 3600.0))
    assert error is None
    assert [line["wait"] for line in ends(said, 1)] == [0, 3600]
    assert {line["wait"] for line in ends(said, 2)} == {0}
    assert len((tmp_path / "lives-1").read_text()) == 2


def test_the_rests_between_failures_grow_and_end() -> None:
    assert _RESTS[0] == 0
    assert all(longer > rest for rest, longer in pairwise(_RESTS))
    assert _RESTS[-1] == 30


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = Process("--workers", "2", "--port", str(taken.getsockname()[1]), data=tmp_path / "data").ready()
        assert process.end() == 2
        assert any("cannot listen on" in line for line in process.said)


def spans(collector: FakeUpstream) -> list[tuple[Span, dict[str, str]]]:
    """All that came over OTLP, each with its attributes that are texts."""
    found = []
    for one in collector.received:
        body = gzip.decompress(one.body) if one.header("content-encoding") == "gzip" else one.body
        batches = ExportTraceServiceRequest.FromString(body).resource_spans
        found += [span for batch in batches for scope in batch.scope_spans for span in scope.spans]
    return [(span, {one.key: one.value.string_value for one in span.attributes}) for span in found]


def test_each_worker_traces_what_it_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One span a request of each, with its steps, in the caller's trace; the last ones go out before the worker ends."""
    with apart(Script([b""], 200, framing="length")) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.origin)
        with two(data=tmp_path / "data") as process:
            def answered() -> list[dict[str, Any]]:
                return [line for line in map(json.loads, process.said) if line["event"] == "request"]

            asked = 0
            while {line["worker"] for line in answered()} != {1, 2}:
                read_all(ask(process.port, stream=False))
                asked += 1
                until(lambda: len(answered()) == asked)  # noqa: B023 - it is called at once
            assert process.end() == 0
        told = spans(collector)
    roots = {text["moderation.request_id"]: span for span, text in told if span.kind == Span.SPAN_KIND_SERVER}
    assert sorted(roots) == sorted(line["request_id"] for line in answered())
    assert len({span.trace_id for span in roots.values()}) == asked
    for root in roots.values():
        below = {span.name for span, _ in told if (span.trace_id, span.parent_span_id) == (root.trace_id, root.span_id)}
        assert below == set(Step)
    assert len([text for _, text in told if "moderation.request_id" in text]) == asked


VERSIONS = st.dictionaries(st.sampled_from(["", "a", "b"]), st.one_of(st.none(), st.sampled_from("xyz")), max_size=3)


@given(st.lists(VERSIONS, min_size=1, max_size=4))
def test_all_take_what_all_can_take(offers: list[dict[str, str | None]]) -> None:
    agreed = _agreed(offers)
    for path in ("", "a", "b"):
        said = {offer.get(path) for offer in offers}
        assert agreed.get(path) == (said.pop() if len(said) == 1 else None)
