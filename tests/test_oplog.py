"""The operational log: each event as its table has it, one JSON object a line, and nothing that stops a stream or holds content."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
import os
import re
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation import docs, oplog
from moderation.errors import UsageError
from moderation.events import EVENTS, Level
from moderation.flow.account import Account
from moderation.metrics import Metrics
from moderation.oplog import OperationalLog, Stderr
from moderation.pulse import Pulse
from tests.fakes import Pause, Script, json_script, sse, stream_script
from tests.kitchen import Kitchen, answer, chunk

HOUSE = Path(__file__).parent.parent / "moderation"
SECRET = "what nobody may read"


def told(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


# ---- the table ---------------------------------------------------------------------------------------------------------


def calls() -> list[tuple[str, ast.Call]]:
    """Every place where something is said."""
    found = []
    for path in sorted(HOUSE.rglob("*.py")):
        if path.parent.name == "policy" or path.name == "showing.py":  # a policy's messages are another thing
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = isinstance(node, ast.Call) and (getattr(node.func, "attr", None) or getattr(node.func, "id", None))
            if isinstance(node, ast.Call) and name in {"say", "_say"} and (path.parent.name != "cli" or path.name == "serve.py"):
                found.append((f"{path.name}:{node.lineno}", node))
    return found


def test_what_is_said_stands_in_the_table() -> None:
    said = set()
    for place, call in calls():
        assert isinstance(call.args[0], ast.Constant), place
        name = str(call.args[0].value)
        assert name in EVENTS, place
        said.add(name)
        named = {word.arg for word in call.keywords if word.arg is not None}
        if len(named) == len(call.keywords):
            assert named == set(EVENTS[name].fields), place
    assert said | {"lines_dropped"} == set(EVENTS), "an event that nobody says"


def test_templates_use_the_events_own_fields() -> None:
    for name, event in EVENTS.items():
        assert set(re.findall(r"\{(\w+)", event.message)) <= set(event.fields), name
        assert event.when.endswith("."), name
        assert event.todo.endswith("."), name
    assert set(Account().fields(0.0)) == set(EVENTS["request"].fields)
    page = docs.events_page().markdown()
    assert not [name for name in EVENTS if page.count(f"| `{name}` |") != 1]


# ---- a line --------------------------------------------------------------------------------------------------------------


def test_a_line_is_one_json_object() -> None:
    lines: list[str] = []
    say = OperationalLog(lines.append, now=lambda: 1767225600.1239)
    say("policy_taken", policy="zh 政策", version="a\nb\u2028c")
    say("internal_error", "01REQ", kind="KeyError", place="a.py:1")
    say("request", "01REQ", status=200, code=None, ms=1.5)
    assert all("\n" not in line for line in lines)
    assert told(lines) == [
        {"time": "2026-01-01T00:00:00.123Z", "level": "info", "event": "policy_taken", "message": "the policy is now zh 政策 version a\nb\u2028c",
         "policy": "zh 政策", "version": "a\nb\u2028c"},
        {"time": "2026-01-01T00:00:00.123Z", "level": "error", "event": "internal_error", "request_id": "01REQ",
         "message": "internal error: KeyError at a.py:1", "kind": "KeyError", "place": "a.py:1"},
        {"time": "2026-01-01T00:00:00.123Z", "level": "info", "event": "request", "request_id": "01REQ", "status": 200, "ms": 1.5},
    ]


@pytest.mark.parametrize(("level", "least"), [("debug", 0), ("info", 1), ("warning", 2), ("error", 3)])
def test_the_level_says_from_where_on(level: str, least: int) -> None:
    lines: list[str] = []
    counted: list[str] = []
    say = OperationalLog(lines.append, level, count=counted.append)
    for name, event in EVENTS.items():
        say(name, None, **dict.fromkeys(event.fields, 1))
    assert [line["event"] for line in told(lines)] == [name for name, event in EVENTS.items() if event.level >= least]
    assert [line["level"] for line in told(lines)] == counted


def test_a_worker_says_which_it_is() -> None:
    lines: list[str] = []
    OperationalLog(lines.append, worker=2)("stopped", in_flight=0)
    OperationalLog(lines.append, worker=2, plain=True, now=lambda: 1767225600)("stopped", in_flight=0)
    assert {name: value for name, value in json.loads(lines[0]).items() if name != "time"} == {
        "level": "info", "event": "stopped", "worker": 2, "message": "stopped", "in_flight": 0}
    assert lines[1] == "00:00:00 info worker 2: stopped"


def test_a_terminal_gets_words() -> None:
    lines: list[str] = []
    say = OperationalLog(lines.append, plain=True, now=lambda: 1767225600)
    say("ready", address="http://127.0.0.1:8080/v1", upstream="https://u", version="1")
    say("request", "01REQ", route="default", status=200)
    assert lines == ["00:00:00 info moderation is ready on http://127.0.0.1:8080/v1, in front of https://u",
                     "00:00:00 info request 01REQ route=default status=200"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(EVENTS["request"].fields), st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False, allow_infinity=False))))
def test_any_fields_are_json(fields: dict[str, Any]) -> None:
    lines: list[str] = []
    OperationalLog(lines.append)("request", None, **fields)
    (line,) = told(lines)
    assert {name: value for name, value in line.items() if name not in ("time", "level", "event")} == {
        name: value for name, value in fields.items() if value is not None}
    assert "\n" not in lines[0]


# ---- stderr that is slow, or gone ----------------------------------------------------------------------------------------


def test_a_reader_that_hangs_stops_nobody_and_what_is_lost_is_counted() -> None:
    lost: list[int] = []
    reading, writing = os.pipe()
    writer = Stderr(lambda data: os.write(writing, data), most=50, dropped=lost.append)
    line = "x" * 1000
    for _ in range(2000):  # a pipe takes 64 KiB, the queue 50 lines: put() would hang here if it waited
        writer.put(line)
    assert sum(lost) > 1000
    got = bytearray()

    def read() -> None:
        while part := os.read(reading, 65536):
            got.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    while b"lines_dropped" not in got:
        writer.put(line)
    writer.close()
    os.close(writing)
    reader.join(5)
    os.close(reading)
    dropped = [json.loads(one) for one in got.split(b"\n") if b"lines_dropped" in one]
    assert sum(one["lines"] for one in dropped) <= sum(lost)
    assert dropped[0]["lines"] > 1000


def test_close_writes_what_waits_and_what_comes_after() -> None:
    got = bytearray()

    def write(data: memoryview) -> int:
        got.extend(data[:7])  # never all at once
        return min(7, len(data))

    writer = Stderr(write)
    for number in range(100):
        writer.put(f"line {number}")
    writer.close()
    writer.put("the last word")
    assert got.decode().split("\n") == [*(f"line {number}" for number in range(100)), "the last word", ""]


@given(st.lists(st.text(st.characters(exclude_characters="\n"), max_size=3000), max_size=30))
@settings(max_examples=30)
def test_no_line_lies_within_another_processs(lines: list[str]) -> None:
    batches = list(oplog._batches(lines))
    assert b"".join(batches) == "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    assert all(batch.endswith(b"\n") for batch in batches)
    assert all(len(batch) <= oplog.ATOMIC or batch.count(b"\n") == 1 for batch in batches)


def test_nobody_reads_stderr_any_more() -> None:
    lost: list[int] = []
    gone = threading.Event()

    def write(data: memoryview) -> int:
        gone.set()
        raise BrokenPipeError

    writer = Stderr(write, most=10, dropped=lost.append)
    for _ in range(5):
        writer.put("a")
    assert gone.wait(5)
    writer.close()
    for _ in range(100):
        writer.put("b")
    assert sum(lost) >= 5


# ---- what libraries say ----------------------------------------------------------------------------------------------------


def fails() -> None:
    raise ZeroDivisionError(SECRET)


def test_libraries_and_errors_are_told_by_kind_and_place() -> None:
    lines: list[str] = []
    before = sys.excepthook, logging.getLogger().handlers[:], warnings.showwarning
    say = OperationalLog(lines.append, "debug")
    with oplog.listening(say, "info"):
        logging.getLogger("library.part").warning("%s", SECRET)
        logging.getLogger("library.part").info("not grave enough: %s", SECRET)
        try:
            fails()
        except ZeroDivisionError as error:
            logging.getLogger("aiohttp.server").exception(SECRET)
            sys.excepthook(type(error), error, error.__traceback__)
        with warnings.catch_warnings():
            warnings.showwarning(SECRET, UserWarning, "/somewhere/lib/a.py", 3)
        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()
    assert (sys.excepthook, logging.getLogger().handlers[:], warnings.showwarning) == before
    assert SECRET not in "".join(lines)
    found = [(one["event"], one.get("library"), one.get("kind"), re.sub(r":\d+", ":N", one["place"])) for one in told(lines)]
    here = r"test_oplog.py:N"
    assert [(event, library, kind) for event, library, kind, _ in found] == [
        ("library", "library", None), ("library", "aiohttp", "ZeroDivisionError"), ("crashed", None, "ZeroDivisionError"),
        ("library", "python", "UserWarning"), ("task_failed", None, "ZeroDivisionError")]
    assert [place.rsplit("/", 1)[-1] for *_, place in found] == [here, here, here, "a.py:N", here]


def test_a_foreseen_error_gives_the_hooks_back_and_another_one_is_told() -> None:
    before = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with pytest.raises(UsageError), oplog.listening(OperationalLog(lambda line: None), "info"):
        raise UsageError("wrong")
    assert (sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning) == before
    lines: list[str] = []
    try:
        with pytest.raises(ZeroDivisionError) as caught, oplog.listening(OperationalLog(lines.append), "info"):
            fails()
        sys.excepthook(ZeroDivisionError, caught.value, caught.value.__traceback__)
        assert [one["event"] for one in told(lines)] == ["crashed"]
        assert SECRET not in lines[0]
    finally:
        sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = before
        root.handlers[:] = handlers
        root.setLevel(level)


def test_a_task_that_nobody_waits_for_is_told() -> None:
    lines: list[str] = []

    async def go() -> None:
        loop = asyncio.get_running_loop()
        oplog.hear_loop(loop, OperationalLog(lines.append))
        loop.call_exception_handler({"message": SECRET, "exception": ZeroDivisionError(SECRET)})
        loop.call_soon(fails)
        await asyncio.sleep(0.01)

    asyncio.run(go())
    assert [(one["event"], one["kind"]) for one in told(lines)] == [("task_failed", "ZeroDivisionError")] * 2
    assert SECRET not in "".join(lines)


# ---- requests ---------------------------------------------------------------------------------------------------------------


def test_each_request_has_one_line(tmp_path: Path) -> None:
    async def go() -> None:
        stream = stream_script(*sse(chunk({"content": "One. "}), chunk({}, "stop")))
        async with Kitchen(tmp_path, json_script(answer()), stream, json_script({"error": {"message": "no"}}, 429),
                           log_level="debug") as kitchen:
            replies = [await kitchen.chat("hi"), await kitchen.chat("hi", stream=True), await kitchen.chat("hi"),
                       await kitchen.chat("a pipe bomb"), await kitchen.ask("POST", "/moderate", {"text": "a pipe bomb"}),
                       await kitchen.ask("POST", "/v1/files", {}), await kitchen.ask("POST", "/moderate", {"nothing": 1}),
                       await kitchen.ask("GET", "/healthz"), await kitchen.ask("GET", "/nowhere")]
            lines = [one for one in told(kitchen.said) if one["event"] == "request"]
            assert [one["request_id"] for one in lines[:7]] == [reply.header("x-request-id") for reply in replies[:7]]
            assert [one["status"] for one in lines] == [reply.status for reply in replies]
            seen = [(one.get("endpoint"), one["outcome"], one.get("action"), one.get("code"), one.get("upstream_status"), one.get("stream"))
                    for one in lines]
            assert seen == [
                ("/chat/completions", "answered", "allow", None, 200, None),
                ("/chat/completions", "answered", "allow", None, 200, True),
                ("/chat/completions", "failed", "allow", None, 429, None),
                ("/chat/completions", "blocked", "block", "data_inspection_failed", None, None),
                ("/moderate", "answered", "block", None, None, None),
                (None, "refused", None, "unmoderated_path", None, None),
                ("/moderate", "refused", None, "invalid_body", None, None),
                (None, "answered", None, None, None, None),
                (None, "refused", None, "not_found", None, None),
            ]
            for one, reply in zip(lines, replies, strict=True):
                assert one["sent"] == len(reply.body)
                assert one["ms"] >= 0
            assert lines[0]["route"] == "default"
            assert lines[0]["received"] > 10
            text = (await kitchen.ask("GET", "/metrics")).body.decode()
            assert 'moderation_request_seconds_count{outcome="answered"} 3.0' in text.split("\n")
            assert 'moderation_upstream_answers_total{class="4xx"} 1.0' in text.split("\n")

    asyncio.run(go())


def test_who_looks_after_the_sidecar_makes_no_noise(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            for path in ("/healthz", "/readyz", "/metrics", "/docs"):
                assert (await kitchen.ask("GET", path)).status == 200
            assert kitchen.said == []
            await kitchen.ask("GET", "/nowhere")
            assert [one["code"] for one in told(kitchen.said)] == ["not_found"], "what is refused is told"

    asyncio.run(go())


def test_a_client_that_leaves_is_told(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, Script([Pause(30)])) as kitchen:
            _, writer = await asyncio.open_connection("127.0.0.1", kitchen.port)
            body = b'{"messages": [{"role": "user", "content": "hi"}]}'
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            async with asyncio.timeout(10):
                while not kitchen.upstream.received:  # noqa: ASYNC110 - a list has no event
                    await asyncio.sleep(0.01)
                writer.close()
                while not kitchen.said:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            (line,) = told(kitchen.said)
            assert (line["outcome"], line["status"]) == ("cancelled", 0)

    asyncio.run(go())


def test_the_pulse_tells_when_the_log_fails_and_comes_back() -> None:
    lines: list[str] = []
    states: list[Any] = [None, UsageError("full"), UsageError("full"), None, None]
    pulse = Pulse(lambda: states.pop(0), OperationalLog(lines.append), lambda late: None)
    while states:
        pulse.look()
    assert [one["event"] for one in told(lines)] == ["log_failed", "log_recovered"]


def test_the_pulse_tells_how_late_the_loop_is() -> None:
    lateness: list[float] = []
    times = iter([0.0, 0.5, 1.0, 1.75])

    class Enough(Exception):
        pass

    async def sleep(seconds: float) -> None:
        if len(lateness) == 2:
            raise Enough

    pulse = Pulse(lambda: None, OperationalLog(lambda line: None), lateness.append, lambda: next(times, 9.0), sleep)
    with pytest.raises(Enough):
        asyncio.run(pulse.beat(0.5))
    assert lateness == [0.0, 0.25]


def test_levels_have_words() -> None:
    assert [level.word for level in Level] == ["debug", "info", "warning", "error"]
    assert "moderation_oplog_lines_total" in Metrics().text().decode()
