"""`serve --workers N`: real processes that act as one, whatever happens to any of them."""

from __future__ import annotations

import asyncio
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.audit.merkle import Tree
from moderation.audit.note import parse_verifier
from moderation.audit.qseg import NO_PREV, ordered, read
from moderation.audit.verify import verify
from moderation.supervisor import _agreed
from tests.fakes import FakeUpstream, Pause, Script, Step, json_script, sse, stream_script
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
def two(*flags: str, data: Path, policy: Path = POLICY, script: Script | None = None) -> Iterator[Process]:
    """Two workers before an upstream that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    upstream = FakeUpstream(script or json_script(answer("Fine.")))
    asyncio.run_coroutine_threadsafe(upstream.__aenter__(), loop).result(10)
    try:
        with served("--workers", "2", *flags, data=data, policy=policy, upstream=upstream.base) as process:
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
    finally:
        asyncio.run_coroutine_threadsafe(upstream.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


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


def test_a_policy_is_broken_and_mended_under_load_and_a_worker_killed(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(TEXT)
    data = tmp_path / "data"
    with two(data=data, policy=policy) as process:
        assert [line for line in process.said if "ready" in line] == process.said
        old = active(process)
        load, watch = Load(process.port), Watch(process)
        load.more()
        policy.write_text(BROKEN)
        process.wait_for("QP001", 60)
        load.more()
        killed = kill_one(process)
        process.wait_for("was ended by SIGKILL; it is started again", 60)
        until(lambda: all_ready(process))
        assert {active(process) for _ in range(20)} == {old}  # the file is broken still
        load.more()
        policy.write_text(MENDED)
        process.wait_for("the policy is now flow", 60)
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
        said = [line for line in process.said if "QP001" in line or "the policy is now" in line]
        assert sum("the policy is now" in line for line in said) == 1
        assert process.end() == 0
    assert logs(data) == ["log-0", "log-1"]
    assert verify(data).exit_code == 0
    for log in logs(data):
        hashes = [leaf["policy"]["hash"] for leaf in leaves(data, log) if leaf["kind"] == "policy_activate"]
        assert hashes[-1] == new
        assert old in hashes
        assert any(leaf["kind"] == "policy_reject" for leaf in leaves(data, log))


STEPS: list[Step] = [*sse(chunk({"content": "One. "}), done=False), Pause(1.0), *sse(chunk({"content": "Two. "}), chunk({}, "stop"))]


def test_whatever_ends_it_streams_finish_and_the_next_start_takes_up_the_same_logs(tmp_path: Path) -> None:
    """The supervisor is killed, and its workers drain and end; then each process gets a SIGTERM, as systemd sends it."""
    data = tmp_path / "data"
    for life in ("killed", "told"):
        with two(data=data, script=stream_script(*STEPS)) as process:
            pids = workers(process)
            links = [ask(process.port, stream=True) for _ in range(6)]
            firsts = [link.recv(65536) for link in links]
            if life == "killed":
                process.end(signal.SIGKILL)
            else:
                for pid in (*pids, process.child.pid):
                    os.kill(pid, signal.SIGTERM)
            bodies = [first + read_all(link) for first, link in zip(firsts, links, strict=True)]
            assert all(b"Two. " in body and b"[DONE]" in body for body in bodies)
            if life == "told":
                assert process.end(signal.SIGCONT) == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", process.port)).close()
        assert logs(data) == ["log-0", "log-1"]
        report = verify(data)
        assert (report.exit_code, [note for note in report.notes if "under no checkpoint" in note]) == (0, [])
        if life == "killed":
            torn = data / "log-1" / "seg-0.qseg"
            torn.write_bytes(torn.read_bytes() + b"\x00\x00\x01\x00half a frame")
    recovered = {log: [leaf["kind"] for leaf in leaves(data, log)].count("recovery") for log in logs(data)}
    assert recovered == {"log-0": 0, "log-1": 1}


def test_a_swapped_link_and_signals_reach_all(tmp_path: Path) -> None:
    """The link as Kubernetes swaps a mounted ConfigMap: the file's own stays, the folder that it leads through is another."""
    folder, data = tmp_path / "etc", tmp_path / "data"
    for name, text in (("..1", TEXT), ("..2", MENDED)):
        (folder / name).mkdir(parents=True)
        (folder / name / "policy.yaml").write_text(text)
        os.utime(folder / name / "policy.yaml", (1, 1))
    (folder / "..data").symlink_to("..1")
    (folder / "policy.yaml").symlink_to("..data/policy.yaml")
    endless = stream_script(STEPS[0], Pause(30))
    with two("--drain", "25s", data=data, policy=folder / "policy.yaml", script=endless) as process:
        old = active(process)
        (folder / "..tmp").symlink_to("..2")
        (folder / "..tmp").rename(folder / "..data")
        process.wait_for("the policy is now flow", 60)
        (new,) = {active(process) for _ in range(20)}
        assert new != old
        before = {state["generation"] for state in generations(process)}
        process.child.send_signal(signal.SIGHUP)
        until(lambda: {state["generation"] for state in generations(process)}.isdisjoint(before))
        assert {active(process) for _ in range(20)} == {new}
        links = [ask(process.port, stream=True) for _ in range(4)]
        firsts = [link.recv(65536) for link in links]
        process.child.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        began = time.monotonic()
        assert process.end() == 0  # the second one waits for nothing
        assert time.monotonic() - began < 20
        assert all(b"[DONE]" not in first + read_all(link) for first, link in zip(firsts, links, strict=True))
    assert verify(data).exit_code == 0
    written = [leaf for log in logs(data) for leaf in leaves(data, log)]
    assert [leaf["policy"]["hash"] for leaf in written if leaf["kind"] == "policy_activate"] == [old, new] * 2
    assert [leaf["outcome"] for leaf in written if leaf["kind"] == "close"] == ["interrupted"] * 4


def generations(process: Process) -> list[dict[str, Any]]:
    answers: list[Any] = [process.get("/readyz")[1]["policy"] for _ in range(20)]
    return [answer["active"][0] for answer in answers]


ANSWERED = 'moderation_requests_total{outcome="answered",route="default"}'


def test_figures_are_summed_and_never_go_back(tmp_path: Path) -> None:
    policy, kept = tmp_path / "policy.yaml", tmp_path / "data" / "policies"
    policy.write_text(TEXT)
    with two(data=tmp_path / "data", policy=policy) as process:
        for _ in range(12):
            read_all(ask(process.port, stream=False))
        assert [counts(process)[ANSWERED] for _ in range(6)] == [12] * 6
        second = workers(process)[1]
        # Its policy is gone and it cannot come up: the other serves on, and it is tried again and again.
        kept.rename(kept.with_name("elsewhere"))
        policy.write_text(BROKEN)
        kill_one(process)
        told = json.loads(process.wait_for('"wait":1.0', 60))
        assert (told["event"], told["worker"]) == ("worker_ended", 1)
        assert told["how"].startswith("ended with exit code 74: ")
        assert process.get("/readyz")[0] == 200
        kept.with_name("elsewhere").rename(kept)
        until(lambda: all_ready(process))
        assert [counts(process)[ANSWERED] for _ in range(6)] == [12] * 6
        read_all(ask(process.port, stream=False))
        now = counts(process)
        assert now[ANSWERED] == 13
        assert now["moderation_worker_restarts_total"] >= 2
        assert now['moderation_log_leaves_total{leaf="log_open"}'] >= 3
        assert (now["moderation_in_flight"], now['moderation_workers{state="answered"}']) == (0, 2)
        # One that hangs takes part with its last figures, and keeps nobody waiting.
        os.kill(second, signal.SIGSTOP)
        try:
            now = counts(process)
        finally:
            os.kill(second, signal.SIGCONT)
        assert (now[ANSWERED], now['moderation_workers{state="answered"}']) == (13, 1)
        assert process.end() == 0


FAULTS = [
    ("a broken policy", ["--policy", "broken.yaml", "--data", "d"], 2, "broken.yaml:1:1"),
    ("a data folder that is a file", ["--data", "broken.yaml"], 74, "broken.yaml"),
]


@pytest.mark.parametrize(("note", "flags", "code", "told"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_what_cannot_start_ends_with_its_own_error(tmp_path: Path, note: str, flags: list[str], code: int, told: str) -> None:
    (tmp_path / "broken.yaml").write_text("format: 2\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "MODERATION_WORKERS": "2"}
    command = [sys.executable, "-m", "moderation", "serve", "--upstream", "http://127.0.0.1:9/v1", "--port", "0", *flags]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("moderation: ")
    assert told in done.stderr.split("\n")[0]
    assert len([line for line in done.stderr.split("\n") if line.startswith("moderation: ")]) == 1
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = Process("--workers", "2", "--port", str(taken.getsockname()[1]), data=tmp_path / "data").ready()
        assert process.end() == 2
        assert any("cannot listen on" in line for line in process.said)


VERSIONS = st.dictionaries(st.sampled_from(["", "a", "b"]), st.one_of(st.none(), st.sampled_from("xyz")), max_size=3)


@given(st.lists(VERSIONS, min_size=1, max_size=4))
def test_all_take_what_all_can_take(offers: list[dict[str, str | None]]) -> None:
    agreed = _agreed(offers)
    for path in ("", "a", "b"):
        said = {offer.get(path) for offer in offers}
        assert agreed.get(path) == (said.pop() if len(said) == 1 else None)
