"""A real process: how it starts, what it says, how it ends."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from moderation.audit.verify import verify
from tests.fakes import FakeUpstream, Hold, Pause, Script, Step, json_script, sse, stream_script
from tests.kitchen import POLICY, answer, chunk

ROOT = Path(__file__).parent.parent


class Process:
    """`moderation serve` on a free port."""

    def __init__(self, *flags: str, data: Path, policy: Path = POLICY, upstream: str = "http://127.0.0.1:9/v1") -> None:
        command = [sys.executable, "-m", "moderation", "serve", "--upstream", upstream, "--port", "0", "--data", str(data),
                   "--policy", str(policy), *flags]
        environ = {key: value for key, value in os.environ.items() if not key.startswith("MODERATION_")}
        self.child = subprocess.Popen(command, cwd=ROOT, env=environ, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.said.append(line.rstrip("\n"))
            if "ready on" in line:
                self._ready.set()
        self._ready.set()

    def ready(self) -> Process:
        assert self._ready.wait(120)
        assert self.child.poll() is None or self.said, self.said
        return self

    @property
    def port(self) -> int:
        line = next(line for line in self.said if "ready on" in line)
        return int(line.split("http://127.0.0.1:")[1].split("/")[0])

    def get(self, path: str) -> tuple[int, dict[str, object]]:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            link.request("GET", path)
            reply = link.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            link.close()

    def wait_for(self, text: str, seconds: float = 10) -> str:
        """The first line on stderr that holds this."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = [line for line in self.said if text in line]
            if found:
                return found[0]
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not said: {self.said}")

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.child.poll() is None:
            self.child.send_signal(number)
        code = self.child.wait(90)
        self._reader.join(5)
        return code


@contextmanager
def served(*flags: str, data: Path, policy: Path = POLICY, upstream: str = "http://127.0.0.1:9/v1") -> Iterator[Process]:
    process = Process(*flags, data=data, policy=policy, upstream=upstream)
    try:
        yield process.ready()
    finally:
        process.end(signal.SIGKILL)


def test_it_says_one_line_when_it_is_ready_and_ends_with_0(tmp_path: Path) -> None:
    with served(data=tmp_path / "data") as process:
        assert [line for line in process.said if "ready" in line] == process.said
        status, state = process.get("/readyz")
        assert (status, state["status"]) == (200, "ready")
        assert process.end() == 0
    assert verify(tmp_path / "data").exit_code == 0
    assert (tmp_path / "data" / "keys").stat().st_mode & 0o077 == 0


def test_a_second_process_takes_a_log_of_its_own(tmp_path: Path) -> None:
    with served(data=tmp_path / "data") as one, served(data=tmp_path / "data") as other:
        assert {one.get("/healthz")[0], other.get("/healthz")[0]} == {200}
        assert (tmp_path / "data" / "log-0").is_dir()
        assert (tmp_path / "data" / "log-1").is_dir()
        assert (one.end(), other.end()) == (0, 0)
    assert verify(tmp_path / "data").exit_code == 0


def ask(port: int, stream: bool) -> socket.socket:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": stream}).encode()
    link = socket.create_connection(("127.0.0.1", port))
    link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
    link.settimeout(20)
    return link


def read_all(link: socket.socket) -> bytes:
    parts = []
    while part := link.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_sigterm_lets_a_stream_finish(tmp_path: Path) -> None:
    steps: list[Step] = [*sse(chunk({"content": "One. "}), done=False), Pause(1.0), *sse(chunk({"content": "Two. "}), chunk({}, "stop"))]

    async def go() -> None:
        async with FakeUpstream(stream_script(*steps)) as upstream:
            def drive() -> tuple[bytes, int]:
                with served(data=tmp_path / "data", upstream=upstream.base) as process:
                    link = ask(process.port, stream=True)
                    first = link.recv(65536)
                    process.child.send_signal(signal.SIGTERM)
                    return first + read_all(link), process.end()
            body, code = await asyncio.to_thread(drive)
            assert b"Two. " in body
            assert b"[DONE]" in body
            assert code == 0

    asyncio.run(go())
    assert verify(tmp_path / "data").exit_code == 0


def turned_away(port: int) -> bool:
    """Whether a new connection is refused; in the short while before that, its request is."""
    try:
        reply = read_all(ask(port, stream=False))
    except ConnectionError:
        return True
    assert not reply or reply.startswith(b"HTTP/1.1 503 "), reply
    return False


def test_while_it_drains_nobody_comes_in_and_nobody_is_kept_waiting_at_the_door(tmp_path: Path) -> None:
    more = asyncio.Event()
    steps: list[Step] = [*sse(chunk({"content": "One. "}), done=False), Hold(more), *sse(chunk({}, "stop"))]

    async def go() -> None:
        loop = asyncio.get_running_loop()
        async with FakeUpstream(stream_script(*steps)) as upstream:
            def drive() -> tuple[bytes, int]:
                with served(data=tmp_path / "data", upstream=upstream.base) as process:
                    link = ask(process.port, stream=True)
                    first = link.recv(65536)
                    process.child.send_signal(signal.SIGTERM)
                    end = time.monotonic() + 10
                    while not turned_away(process.port):
                        assert time.monotonic() < end, "it still listens"
                        time.sleep(0.02)
                    assert process.child.poll() is None
                    loop.call_soon_threadsafe(more.set)
                    return first + read_all(link), process.end()
            body, code = await asyncio.to_thread(drive)
            assert b"[DONE]" in body
            assert code == 0
            assert len(upstream.received) == 1

    asyncio.run(go())


def test_sighup_reads_the_policy_again_though_nothing_has_changed(tmp_path: Path) -> None:
    """Seen by what is wrong with it being said once more."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.read_text())
    with served(data=tmp_path / "data", policy=policy) as process:
        policy.write_text(POLICY.read_text().replace("then: redact", "then: redakt", 1))
        process.wait_for("the policy stays at version")
        for times in (2, 3):
            process.child.send_signal(signal.SIGHUP)
            end = time.monotonic() + 10
            while sum("the policy stays at version" in line for line in process.said) < times:
                assert time.monotonic() < end, process.said
                time.sleep(0.02)
        assert process.get("/readyz")[0] == 200
        assert process.end() == 0


def test_a_call_that_the_upstream_has_not_answered_by_the_end_of_the_drain_is_told(tmp_path: Path) -> None:
    async def go() -> None:
        async with FakeUpstream(Script([Pause(30)])) as upstream:
            def drive() -> tuple[bytes, int]:
                with served("--drain", "1s", data=tmp_path / "data", upstream=upstream.base) as process:
                    link = ask(process.port, stream=False)
                    time.sleep(0.3)
                    process.child.send_signal(signal.SIGTERM)
                    return read_all(link), process.end()
            body, code = await asyncio.to_thread(drive)
            assert body.startswith(b"HTTP/1.1 503 ")
            assert b'"code":"not_ready"' in body
            assert code == 0

    asyncio.run(go())
    assert verify(tmp_path / "data").exit_code == 0


def test_a_second_sigterm_cuts_at_once(tmp_path: Path) -> None:
    steps: list[Step] = [*sse(chunk({"content": "One. "}), done=False), Pause(30)]

    async def go() -> None:
        async with FakeUpstream(stream_script(*steps)) as upstream:
            def drive() -> tuple[bytes, int, float]:
                with served("--drain", "25s", data=tmp_path / "data", upstream=upstream.base) as process:
                    link = ask(process.port, stream=True)
                    first = link.recv(65536)
                    process.child.send_signal(signal.SIGTERM)
                    time.sleep(0.5)
                    began = time.monotonic()
                    process.child.send_signal(signal.SIGTERM)
                    return first + read_all(link), process.end(), time.monotonic() - began
            body, code, seconds = await asyncio.to_thread(drive)
            assert b"[DONE]" not in body
            assert code == 0
            assert seconds < 4

    asyncio.run(go())
    assert verify(tmp_path / "data").exit_code == 0


def test_a_stream_that_takes_longer_than_the_drain_is_cut(tmp_path: Path) -> None:
    steps: list[Step] = [*sse(chunk({"content": "One. "}), done=False), Pause(30)]

    async def go() -> None:
        async with FakeUpstream(stream_script(*steps)) as upstream:
            def drive() -> tuple[bytes, int, float]:
                with served("--drain", "1s", data=tmp_path / "data", upstream=upstream.base) as process:
                    link = ask(process.port, stream=True)
                    first = link.recv(65536)
                    began = time.monotonic()
                    process.child.send_signal(signal.SIGTERM)
                    body = first + read_all(link)
                    return body, process.end(), time.monotonic() - began
            body, code, seconds = await asyncio.to_thread(drive)
            assert b"[DONE]" not in body
            assert code == 0
            assert seconds < 8

    asyncio.run(go())
    assert verify(tmp_path / "data").exit_code == 0
    leaves = b"".join(path.read_bytes() for path in (tmp_path / "data" / "log-0").glob("*.qseg"))
    assert b'"outcome":"interrupted"' in leaves


def test_a_policy_is_taken_while_it_runs_and_a_broken_one_is_not(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    text = POLICY.read_text()
    policy.write_text(text)
    with served(data=tmp_path / "data", policy=policy) as process:
        before = process.get("/readyz")[1]["policy"]
        policy.write_text(text.replace("then: redact", "then: redakt", 1))
        line = process.wait_for("QP001")
        row = next(n for n, one in enumerate(text.split("\n"), 1) if "then: redact" in one)
        told = json.loads(line)
        assert (told["event"], told["level"]) == ("policy_fault", "error")
        assert told["message"].startswith(f"{policy}:{row}:11 error QP001")
        assert "Did you mean 'redact'?" in told["message"]
        state = process.get("/readyz")[1]["policy"]
        assert state["active"] == before["active"]  # type: ignore[index]
        assert state["rejected"]  # type: ignore[index]
        policy.write_text(text.replace("severity: low", "severity: medium"))
        process.wait_for("the policy is now flow")
        state = process.get("/readyz")[1]["policy"]
        assert state["active"] != before["active"]  # type: ignore[index]
        assert not state["rejected"]  # type: ignore[index]
        process.child.send_signal(signal.SIGHUP)
        assert process.get("/healthz")[0] == 200
        assert process.end() == 0
    assert verify(tmp_path / "data").exit_code == 0


WRONG = [
    ("no upstream", ["serve", "--data", "d"], 2, "--upstream"),
    ("an upstream that is no URL", ["serve", "--upstream", "nowhere", "--data", "d"], 2, "upstream"),
    ("a port that is none", ["serve", "--upstream", "http://127.0.0.1:9/v1", "--port", "abc"], 2, "port"),
    ("an unknown flag", ["serve", "--no-such-flag"], 2, "--no-such-flag"),
    ("an unknown verb", ["nothing"], 2, "nothing"),
    ("a policy that is not there", ["serve", "--upstream", "http://127.0.0.1:9/v1", "--policy", "none.yaml", "--data", "d"], 2, "none.yaml:1:1"),
    ("a broken policy", ["serve", "--upstream", "http://127.0.0.1:9/v1", "--policy", "broken.yaml", "--data", "d"], 2, "broken.yaml:1:1"),
    ("a data folder that is a file", ["serve", "--upstream", "http://127.0.0.1:9/v1", "--data", "broken.yaml"], 74, "broken.yaml"),
    ("no log to query", ["audit", "query", "--data", "nowhere"], 2, "nowhere"),
]


@pytest.mark.parametrize(("note", "words", "code", "told"), WRONG, ids=[w[0] for w in WRONG])
def test_wrong_use_is_told(tmp_path: Path, note: str, words: list[str], code: int, told: str) -> None:
    (tmp_path / "broken.yaml").write_text("format: 2\n")
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "moderation", *words], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = Process("--port", str(taken.getsockname()[1]), data=tmp_path / "data").ready()
        assert process.end() == 2
        assert any("cannot listen on" in line for line in process.said)


def test_the_whole_way_once_with_the_policy_that_ships(tmp_path: Path) -> None:
    async def go() -> None:
        async with FakeUpstream(json_script(answer("Fine."))) as upstream:
            def drive() -> bytes:
                shipped = ROOT / "policies" / "default.yaml"
                with served(data=tmp_path / "data", policy=shipped, upstream=upstream.base) as process:
                    reply = read_all(ask(process.port, stream=False))
                    assert process.end() == 0
                    return reply
            assert (await asyncio.to_thread(drive)).startswith(b"HTTP/1.1 200")

    asyncio.run(go())
    assert verify(tmp_path / "data").exit_code == 0
