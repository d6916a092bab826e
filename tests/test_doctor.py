"""The doctor: each look on what is well and on what is not, everything at once, and no key ever shown."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from moderation import docs, doctor
from moderation.audit.store import Log
from moderation.audit.verify import verify
from moderation.cli import main
from moderation.doctor import given, host, policies, storage, upstreams
from moderation.doctor.checks import CHECKS, Found, State
from moderation.doctor.given import Given, Target
from moderation.doctor.machine import Machine, Room
from tests.detect.classifier.bare import without
from tests.fakes import FakeUpstream, Script, json_script
from tests.kitchen import POLICY
from tests.test_upstream import certificate

OK, WARN, FAULT = State
KEY = "sk-canary-0123456789"


@dataclass(slots=True)
class Told(Machine):
    """A machine that is as the test says."""

    says: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)

    def python(self) -> tuple[int, int, int]:
        return self.says.get("python", (3, 11, 7))  # type: ignore[no-any-return]

    def platform(self) -> str:
        return self.says.get("platform", "linux")  # type: ignore[no-any-return]

    def needs(self) -> list[str]:
        return self.says.get("needs", ["aiohttp>=3.12", "pytest>=8; extra == 'dev'"])  # type: ignore[no-any-return]

    def version(self, package: str) -> str | None:
        return self.says.get("version", "3.12.0")  # type: ignore[no-any-return]

    def now(self) -> float:
        return time.time() + self.says.get("ahead", 0.0)  # type: ignore[no-any-return]

    def user(self) -> int:
        return os.geteuid() + self.says.get("other user", 0)  # type: ignore[no-any-return]

    def open_files(self) -> int:
        return self.says.get("files", 65536)  # type: ignore[no-any-return]

    def memory(self) -> int | None:
        return self.says.get("memory")

    def stderr(self) -> str | None:
        return self.says.get("stderr", "a pipe")  # type: ignore[no-any-return]

    def file_system(self, path: Path) -> str | None:
        return self.says.get("fs", "ext4")  # type: ignore[no-any-return]

    def room(self, path: Path) -> Room:
        return self.says.get("room", Room(100 << 30, 200 << 30, 1 << 20, 1 << 21))  # type: ignore[no-any-return]

    def sync_seconds(self, folder: Path) -> float:
        if "sync error" in self.says:
            raise self.says["sync error"]
        return self.says.get("sync", 0.001)  # type: ignore[no-any-return]


def made(folder: Path, *targets: Target, **more: Any) -> Given:
    values: dict[str, Any] = {"data": folder / "data", "keys": folder / "data" / "keys", "policies": (str(POLICY),), "targets": targets,
              "upstream_ca": None, "max_streams": 1000, "stream_buffer": 256 << 10, "cache": 32 << 20, "config": None}
    return Given(**(values | more))


def states(found: Iterator[Found] | tuple[Found, ...], check: str) -> list[State]:
    return [one.state for one in found if one.check == check]


def words(found: Iterator[Found] | tuple[Found, ...]) -> str:
    return "\n".join(f"{one.found} {one.todo}" for one in found)


def test_the_table_holds_every_look() -> None:
    page = docs.doctor_page().markdown()
    assert not [name for name in CHECKS if page.count(f"| `{name}` |") != 1]
    for name, check in CHECKS.items():
        assert check.what.endswith("."), name
        assert check.todo.endswith("."), name


# ---- the machine ---------------------------------------------------------------------------------------------------------

HOST = [
    ("all well", {}, "python", OK, "3.11.7"),
    ("an old Python", {"python": (3, 10, 2)}, "python", FAULT, "too old"),
    ("Windows", {"platform": "win32"}, "python", FAULT, "not supported"),
    ("macOS", {"platform": "darwin"}, "python", WARN, "development"),
    ("packages", {}, "packages", OK, "all 1 are there"),
    ("one is missing", {"version": None}, "packages", FAULT, "aiohttp is missing"),
    ("one is too old", {"version": "3.9.99"}, "packages", FAULT, "aiohttp 3.9.99"),
    ("one is newer", {"version": "10.0"}, "packages", OK, "all"),
    ("a bare checkout", {"needs": []}, "packages", WARN, "make install"),
    ("files", {}, "open files", OK, "65536"),
    ("any number of files", {"files": -1}, "open files", OK, "any number"),
    ("too few files", {"files": 1024}, "open files", WARN, "about 2100"),
    ("no limit of memory", {}, "memory", OK, "no limit"),
    ("memory enough", {"memory": 1 << 30}, "memory", OK, "1024 MiB"),
    ("memory too small", {"memory": 512 << 20}, "memory", WARN, "may take 538 MiB"),
    ("stderr", {}, "stderr", OK, "a pipe"),
    ("stderr is closed", {"stderr": None}, "stderr", FAULT, "closed"),
]


@pytest.mark.parametrize(("note", "says", "check", "state", "part"), HOST, ids=[one[0] for one in HOST])
def test_the_machine(tmp_path: Path, note: str, says: Mapping[str, Any], check: str, state: State, part: str) -> None:
    found = tuple(one for one in host.look(made(tmp_path), Told(says=says)) if one.check == check)
    assert states(found, check) == [state]
    assert part in words(found)


def test_a_proxy_has_no_effect(tmp_path: Path) -> None:
    assert states(host.look(made(tmp_path), Told()), "proxy") == []
    found = tuple(host.look(made(tmp_path), Told(environ={"HTTPS_PROXY": "http://user:secret@proxy"})))
    assert states(found, "proxy") == [WARN]
    assert "secret" not in words(found)


def test_the_real_machine_can_be_asked(tmp_path: Path) -> None:
    machine = Machine()
    assert machine.python() >= (3, 11)
    assert machine.version("pyyaml")
    assert machine.version("no-such-package") is None
    assert machine.open_files()
    assert machine.memory() is None or (machine.memory() or 0) > 0
    assert machine.stderr()
    assert machine.file_system(tmp_path)
    assert machine.room(tmp_path).free > 0
    assert 0 < machine.sync_seconds(tmp_path) < 10
    assert list(tmp_path.iterdir()) == [], "the probe is gone"


# ---- configuration and ports -----------------------------------------------------------------------------------------------

CONFIGURATIONS: list[tuple[str, dict[str, str | None], dict[str, str], str, list[State], str]] = [
    ("well", {"upstream": "http://127.0.0.1:9/v1"}, {}, "configuration", [OK], "1 route"),
    ("no upstream", {}, {}, "configuration", [FAULT, WARN], "--upstream"),
    ("two broken values", {"upstream": "nowhere", "port": "abc"}, {}, "configuration", [FAULT, FAULT, WARN], "--port"),
    ("a misspelt variable", {"upstream": "http://127.0.0.1:9/v1"}, {"MODERATION_PROT": "1"}, "configuration", [WARN], "MODERATION_PORT"),
    ("loopback", {"upstream": "http://127.0.0.1:9/v1"}, {}, "access", [OK], "loopback"),
    ("open to all", {"upstream": "http://127.0.0.1:9/v1", "host": "0.0.0.0", "port": "0"}, {}, "access", [WARN, WARN], "admin"),
    ("a free port", {"upstream": "http://127.0.0.1:9/v1", "port": "0"}, {}, "ports", [OK], "free"),
    ("an address that is not here", {"upstream": "http://127.0.0.1:9/v1", "host": "192.0.2.1"}, {}, "ports", [FAULT], "cannot listen"),
]


@pytest.mark.parametrize(("note", "flags", "environ", "check", "wanted", "part"), CONFIGURATIONS, ids=[one[0] for one in CONFIGURATIONS])
def test_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: str, flags: dict[str, str | None], environ: dict[str, str],
                           check: str, wanted: list[State], part: str) -> None:
    monkeypatch.chdir(tmp_path)
    one, found = given.read(flags, environ, None)
    every = (*found, *given.look(one, Told(environ=environ)))
    assert states(every, check) == wanted
    assert part in words(tuple(f for f in every if f.check == check))


def test_an_unknown_key_of_the_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moderation.yaml").write_text("upstraem: http://127.0.0.1:9/v1\n")
    _, found = given.read({}, {}, None)
    assert states(found, "configuration") == [FAULT, WARN]
    assert "moderation.yaml:1:1" in words(found)


def test_a_port_that_somebody_has(tmp_path: Path) -> None:
    flags: dict[str, str | None] = {"upstream": "http://127.0.0.1:9/v1"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        one, _ = given.read({**flags, "port": str(taken.getsockname()[1])}, {}, None)
        found = tuple(given.look(one, Told()))
    assert states(found, "ports") == [FAULT]
    ours = Script([b'{"status": "ok"}'], framing="length")
    found = asked(lambda upstream: tuple(given.look(
        given.read({**flags, "port": str(upstream.port)}, {}, None)[0], Told())), ours)
    assert states(found, "ports") == [OK]
    assert "served by a sidecar" in words(found)


# ---- policies ----------------------------------------------------------------------------------------------------------------

GOOD = """\
format: 1
policy: {id: p}
detectors: {mail: {kind: pii, entities: [EMAIL_ADDRESS]}}
rules:
  - {id: mail, phases: [input], when: {detector: mail}, then: redact, tests: [
      {name: one, phase: input, text: "to b@y.com", expect: {action: redact, rules: [mail]}},
      {name: none, phase: input, text: "to you", expect: {action: allow}}]}
"""
POLICIES = [
    ("well", GOOD, {"policy": OK, "policy tests": OK, "detectors": OK}, "none of them is a model"),
    ("a test fails", GOOD.replace("to b@y.com", "to b at y.com"), {"policy": OK, "policy tests": FAULT, "detectors": OK}, "mail: one fails"),
    ("broken", GOOD.replace("redact, tests", "redakt, tests"), {"policy": FAULT, "policy tests": FAULT}, "Did you mean"),
    ("a word list is missing", GOOD.replace("pii, entities: [EMAIL_ADDRESS]", "words, lists: [bad]") + "lists: {bad: {file: bad.txt}}\n",
     {"policy": FAULT, "policy tests": FAULT}, "bad.txt"),
    ("not there", None, {"policy": FAULT, "policy tests": FAULT}, "cannot be read"),
]


@pytest.mark.parametrize(("note", "text", "wanted", "part"), POLICIES, ids=[one[0] for one in POLICIES])
def test_policies(tmp_path: Path, note: str, text: str | None, wanted: dict[str, State], part: str) -> None:
    path = tmp_path / "p.yaml"
    if text is not None:
        path.write_text(text)
    found = tuple(policies.look(made(tmp_path, policies=(str(path),))))
    worst = {check: max((one.state for one in found if one.check == check), key=list(State).index) for check in {one.check for one in found}}
    if note in ("well", "a test fails"):  # what lint has to say is another matter
        worst["policy"] = min((one.state for one in found if one.check == "policy"), key=list(State).index)
    assert worst == wanted
    assert part in words(found)


def test_a_model_that_another_stands_in_for(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(GOOD.replace("detectors: {mail", "detectors: {harm: {kind: model, engine: builtin, model: small}, mail"))
    found = tuple(policies.look(made(tmp_path, policies=(str(path),)), without))
    warned = [one for one in found if one.state is WARN and one.check == "detectors"]
    assert [one.found for one in warned] == [
        "harm: onnxruntime cannot be imported: ngram stands in for the model small, and finds less"]
    assert warned[0].todo == "Install onnxruntime and tokenizers."
    assert states(policies.look(made(tmp_path, policies=(str(path),))), "detectors") == [OK], "with onnxruntime nothing is said"


# ---- the log ---------------------------------------------------------------------------------------------------------------------


def written(folder: Path) -> Given:
    """A data folder that a sidecar has left."""

    async def go() -> None:
        log = Log.open(folder / "data")
        await log.close()

    asyncio.run(go())
    return made(folder)


STORAGE = [
    ("ext4", {}, "file system", [OK], "ext4"),
    ("nfs", {"fs": "nfs4"}, "file system", [WARN], "network"),
    ("a helper program", {"fs": "fuse.sshfs"}, "file system", [WARN], "helper"),
    ("memory", {"fs": "tmpfs"}, "file system", [WARN], "memory"),
    ("a container's layer", {"fs": "overlay"}, "file system", [WARN], "volume"),
    ("no type", {"fs": None}, "file system", [OK], "not told"),
    ("room", {}, "disk room", [OK], "102400 MiB of 204800"),
    ("little room", {"room": Room(500 << 20, 1 << 40, 0, 0)}, "disk room", [WARN], "500 MiB"),
    ("no room", {"room": Room(10 << 20, 1 << 40, 0, 0)}, "disk room", [FAULT], "about to fail"),
    ("no more files", {"room": Room(1 << 40, 1 << 41, 10, 1 << 20)}, "disk room", [WARN, OK], "10 more files"),
    ("it can be written", {}, "data folder", [OK], "can be written"),
    ("it cannot", {"sync error": PermissionError(13, "Permission denied")}, "data folder", [FAULT], "Permission denied"),
    ("a fast disk", {}, "disk speed", [OK], "1.0 ms"),
    ("a slow disk", {"sync": 0.08}, "disk speed", [WARN], "80.0 ms"),
    ("a log", {}, "logs", [OK], "held by nobody; its newest checkpoint holds, over 1 leaves"),
    ("the clock", {}, "clock", [OK], "last leaf is"),
    ("the clock went back", {"ahead": -86_400.0}, "clock", [FAULT], "went back"),
    ("keys beside the logs", {}, "keys", [WARN], "lie beside"),
    ("keys of another user", {"other user": 1}, "keys", [WARN, WARN, WARN], "belongs to user"),
]


@pytest.mark.parametrize(("note", "says", "check", "wanted", "part"), STORAGE, ids=[one[0] for one in STORAGE])
def test_the_log(tmp_path: Path, note: str, says: Mapping[str, Any], check: str, wanted: list[State], part: str) -> None:
    one = written(tmp_path)
    found = tuple(f for f in storage.look(one, Told(says=says)) if f.check == check)
    assert states(found, check) == wanted, found
    assert part in words(found)


def forge(data: Path) -> None:
    path = data / "log-0" / "checkpoint"
    path.write_text(path.read_text().replace("\n1\n", "\n2\n"))


SPOILT: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("a checkpoint that does not hold", forge, "logs", "does not hold"),
    ("a checkpoint that is none", lambda data: (data / "log-0" / "checkpoint").write_bytes(b"\xff"), "logs", "UTF-8"),
    ("a key.pub that is none", lambda data: (data / "log-0" / "key.pub").write_bytes(b"\xff"), "logs", "verifier key"),
    ("no checkpoint", lambda data: (data / "log-0" / "checkpoint").unlink(), "logs", "no checkpoint"),
    ("others may read a key", lambda data: (data / "keys" / "log-0.key").chmod(0o644), "keys", "0644"),
    ("others may enter the folder", lambda data: (data / "keys").chmod(0o755), "keys", "0755"),
    ("a key is gone", lambda data: (data / "keys" / "log-0.key").unlink(), "keys", "cannot go on"),
    ("all keys are gone", lambda data: (data / "keys").rename(data.parent / "elsewhere"), "keys", "look like a forgery"),
]


@pytest.mark.parametrize(("note", "change", "check", "part"), SPOILT, ids=[one[0] for one in SPOILT])
def test_a_log_that_is_spoilt(tmp_path: Path, note: str, change: Callable[[Path], object], check: str, part: str) -> None:
    one = written(tmp_path)
    change(one.data)
    found = tuple(f for f in storage.look(one, Told()) if f.check == check and f.state is not OK)
    assert found
    assert part in words(found)


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    found = tuple(storage.look(made(tmp_path), Told()))
    assert states(found, "data folder") == [OK]
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").write_text("")
    assert states(storage.look(made(tmp_path), Told()), "data folder") == [FAULT]


def test_how_long_the_room_lasts(tmp_path: Path) -> None:
    one = written(tmp_path)
    (file,) = one.data.glob("log-0/seg-*.qseg")
    with file.open("ab") as appended:
        appended.truncate(1 << 30)
    old = time.time() - 6 * 3600
    os.utime(file, (old, old))
    found = tuple(f for f in storage.look(one, Told(says={"room": Room(10 << 30, 1 << 40, 0, 0)})) if f.check == "disk room")
    assert states(found, "disk room") == [WARN]
    assert "4096.0 MiB, it lasts 3 days" in words(found)


def test_beside_a_running_sidecar_it_changes_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        log = Log.open(tmp_path / "data")
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*") if path.is_file()}
        found = tuple(storage.look(made(tmp_path), Machine()))
        assert "log-0: held by a running sidecar" in words(found)
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*") if path.is_file()} == before
        await log.append({"kind": "gap", "lost": 0, "cause": "", "since": 0}, strict=True)
        await log.close()

    asyncio.run(go())
    assert verify(tmp_path / "data").exit_code == 0


# ---- upstreams ---------------------------------------------------------------------------------------------------------------------


def asked(look: Callable[[FakeUpstream], tuple[Found, ...]], *scripts: Script, tls: ssl.SSLContext | None = None) -> tuple[Found, ...]:
    """What a look in a thread finds beside a fake upstream."""

    async def go() -> tuple[Found, ...]:
        async with FakeUpstream(*scripts, tls=tls) as upstream:
            return await asyncio.to_thread(look, upstream)

    return asyncio.run(go())


ANSWERS = [
    ("models", json_script({"data": [{}, {}]}), KEY, OK, "2 models; the key is taken"),
    ("models without a key", json_script({"data": [{}]}), None, OK, "no key was sent"),
    ("something else", json_script({"hello": 1}), KEY, WARN, "no list of models"),
    ("no JSON", Script([b"<html>"], framing="length"), KEY, WARN, "no list of models"),
    ("a wrong key", json_script({"error": {"message": KEY}}, 401), KEY, FAULT, "the key is refused"),
    ("a key is wanted", json_script({}, 401), None, OK, "--key-env"),
    ("not allowed", json_script({}, 403), KEY, FAULT, "may not ask"),
    ("no such list", json_script({}, 404), KEY, WARN, "compatible-mode"),
    ("a proxy", json_script({}, 407), KEY, FAULT, "a proxy"),
    ("too many", json_script({}, 429), KEY, WARN, "quota"),
    ("elsewhere", json_script({}, 302), KEY, FAULT, "sends one elsewhere"),
    ("an outage", json_script({}, 503), KEY, FAULT, "503"),
    ("odd", json_script({}, 418), KEY, WARN, "418"),
]


@pytest.mark.parametrize(("note", "script", "key", "state", "part"), ANSWERS, ids=[one[0] for one in ANSWERS])
def test_what_the_upstream_answers(tmp_path: Path, note: str, script: Script, key: str | None, state: State, part: str) -> None:
    seen: list[str | None] = []

    def look(upstream: FakeUpstream) -> tuple[Found, ...]:
        found = tuple(upstreams.look(made(tmp_path, Target(upstream.base, key)), Told()))
        seen.append(upstream.received[0].request_line + " " + (upstream.received[0].header("authorization") or "-"))
        return found

    found = asked(look, script)
    assert states(found, "upstream answer") == [state]
    assert part in words(found)
    assert KEY not in words(found)
    base = "/compatible-mode/v1" if "/compatible-mode" in seen[0] else "/v1"  # type: ignore[operator]
    assert seen == [f"GET {base}/models HTTP/1.1 " + (f"Bearer {key}" if key else "-")]


def test_a_key_of_another_region_is_named_for_model_studio(tmp_path: Path) -> None:
    answer = upstreams._Answer(401, b"", None, None)
    for host_name, region in (("dashscope-intl.aliyuncs.com", True), ("ws1.cn-beijing.maas.aliyuncs.com", True), ("vllm.local", False),
                              ("evil-dashscope.aliyuncs.com.example", False)):
        found = upstreams._models(Target(f"https://{host_name}", KEY), host_name, answer)
        assert ("another region" in found.todo) is region, host_name


UNREACHABLE = [
    ("nobody there", Target("http://127.0.0.1:9/v1", KEY), "upstream connection", "refused"),
    ("no such name", Target("http://no-such-host.invalid/v1", KEY), "upstream name", "not known"),
    ("a key with a line's end", Target("http://127.0.0.1:9/v1", KEY + "\n"), "upstream answer", "line's end"),
    ("a key with a letter that no header takes", Target("http://127.0.0.1:9/v1", KEY + "é"), "upstream answer", "the key holds"),
]


@pytest.mark.parametrize(("note", "target", "check", "part"), UNREACHABLE, ids=[one[0] for one in UNREACHABLE])
def test_an_upstream_that_cannot_be_asked(tmp_path: Path, note: str, target: Target, check: str, part: str) -> None:
    found = tuple(upstreams.look(made(tmp_path, target), Told()))
    assert found[-1].check == check
    assert found[-1].state is FAULT
    assert part in words(found)
    assert KEY not in words(found)


@pytest.mark.parametrize(("scheme", "part"), [("http", "does not speak HTTP"), ("https", "does not speak TLS")])
def test_what_does_not_speak_as_it_should(tmp_path: Path, scheme: str, part: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        def answer() -> None:
            link, _ = taken.accept()
            link.recv(1000)
            link.sendall(b"220 smtp\r\n\r\n")
            link.close()

        async def go() -> tuple[Found, ...]:
            answering = asyncio.create_task(asyncio.to_thread(answer))
            found = await asyncio.to_thread(lambda: tuple(upstreams.look(made(tmp_path, Target(f"{scheme}://127.0.0.1:{port}")), Told())))
            await answering
            return found

        assert part in words(asyncio.run(go()))


def test_certificates(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def with_ca(ca: str | None) -> Callable[[FakeUpstream], tuple[Found, ...]]:
        return lambda upstream: tuple(upstreams.look(made(tmp_path, Target(upstream.base), upstream_ca=ca), Told()))

    found = asked(with_ca(None), json_script({"data": []}), tls=context)
    assert states(found, "upstream certificate") == [FAULT]
    assert "self-signed" in words(found)
    found = asked(with_ca(str(pem)), json_script({"data": []}), tls=context)
    assert states(found, "upstream certificate") == [WARN], "for it ends tomorrow"
    assert states(found, "upstream answer") == [OK]


@pytest.mark.parametrize(("drift", "part"), [(0, None), (3600, "behind"), (-3600, "ahead of")])
def test_the_upstreams_clock(tmp_path: Path, drift: int, part: str | None) -> None:
    script = json_script({"data": []})
    dated = Script(script.steps, headers=(("date", formatdate(time.time() + drift, usegmt=True)),), framing="length")
    found = asked(lambda upstream: tuple(upstreams.look(made(tmp_path, Target(upstream.base)), Told())), dated)
    assert states(found, "clock") == ([WARN] if part else [])
    assert (part or "") in words(found)


# ---- the command --------------------------------------------------------------------------------------------------------------------


def test_a_broken_everything_shows_all_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = written(tmp_path)
    forge(one.data)
    (one.data / "keys" / "log-0.key").chmod(0o644)
    (tmp_path / "p.yaml").write_text("format: 2\n")
    says = {"python": (3, 9, 0), "version": None, "files": 10, "memory": 1 << 20, "stderr": None, "fs": "tmpfs", "ahead": -1e6,
            "room": Room(0, 1, 1, 1), "sync error": OSError(28, "No space left on device")}
    flags: dict[str, str | None] = {"upstream": "http://127.0.0.1:9/v1", "data": str(one.data), "policy": "p.yaml", "port": "abc"}
    found = tuple(doctor.examine(flags, Told(says=says, environ={"HTTP_PROXY": "x"}), KEY))
    bad = {f.check for f in found if f.state is not OK}
    assert bad >= {"python", "packages", "configuration", "policy", "policy tests", "data folder", "file system", "disk room", "keys", "logs",
                   "open files", "memory", "stderr", "proxy", "upstream connection"}
    assert {f.check for f in found} <= set(CHECKS)
    assert all(f.todo for f in found if f.state is not OK)
    assert KEY not in words(found)


@contextmanager
def beside(script: Script) -> Iterator[str]:
    """The base of a fake upstream that runs in a thread of its own."""
    up, down = threading.Event(), threading.Event()
    base: list[str] = []

    async def go() -> None:
        async with FakeUpstream(script) as upstream:
            base.append(upstream.base)
            up.set()
            await asyncio.to_thread(down.wait)

    thread = threading.Thread(target=lambda: asyncio.run(go()))
    thread.start()
    up.wait(10)
    try:
        yield base[0]
    finally:
        down.set()
        thread.join(10)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MY_KEY", KEY)
    with beside(json_script({"data": [{}]})) as base:
        common = ["doctor", "--upstream", base, "--port", "0", "--data", "data", "--policy", str(POLICY), "--key-env", "MY_KEY"]
        assert main([*common, "--json"]) == 0
        told = capsys.readouterr()
        result = json.loads(told.out)
        assert (result["ok"], result["faults"]) == (True, 0)
        assert result["warnings"] == sum(row["state"] == "warn" for row in result["checks"])
        assert all(set(row) == {"check", "state", "found", "todo"} for row in result["checks"])
        assert {"check": "upstream answer", "state": "ok", "found": "1 models; the key is taken", "todo": None} in result["checks"]
        assert main(common) == 0
        words = capsys.readouterr()
        assert "ok     upstream answer: 1 models; the key is taken\n" in words.out
        assert words.err.startswith("0 fault(s), ")
        assert KEY not in told.out + told.err + words.out + words.err
    assert not (tmp_path / "data").exists()
    assert main(["doctor", "--port", "0", "--policy", str(POLICY)]) == 1
    told = capsys.readouterr()
    assert told.out.startswith("fault  configuration: --upstream ")
    assert "\n       -> Mend the place that is named.\n" in told.out
    assert main(["doctor", "--key-env", "NOT_SET"]) == 2
    assert "NOT_SET is not set" in capsys.readouterr().err
