"""Traces: off they are nothing; on, one span a request with its steps below it, in the caller's trace, without content."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from moderation.tracing import OFF, NoTracing, OpenTelemetry, Step, asked_for, from_environ
from tests.fakes import Pause, Script, json_script, sse, stream_script
from tests.kitchen import Kitchen, answer, chunk

CANARY = "kanarienvogel"
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Traced:
    """A kitchen's traces, in memory."""

    def __init__(self) -> None:
        self.memory = InMemorySpanExporter()
        self.tracing = OpenTelemetry(self.memory, at_once=True)

    def root(self, number: int = 0) -> ReadableSpan:
        return [span for span in self.spans() if span.kind is SpanKind.SERVER][number]

    def spans(self) -> Sequence[ReadableSpan]:
        return self.memory.get_finished_spans()

    def under(self, root: ReadableSpan) -> dict[str, ReadableSpan]:
        """The children of a span; each name once but the log's."""
        assert root.context is not None
        return {span.name: span for span in self.spans() if span.parent is not None and span.parent.span_id == root.context.span_id}


def run(folder: Path, *scripts: Script, asks: Sequence[dict[str, Any]], headers: dict[str, str] | None = None) -> tuple[Traced, Kitchen]:
    traced = Traced()
    kitchen = Kitchen(folder, *scripts, tracing=traced.tracing)

    async def go() -> None:
        async with kitchen:
            for ask in asks:
                await kitchen.chat(**{"messages": "hi", **ask}, headers=headers)

    asyncio.run(go())
    return traced, kitchen


def test_a_whole_answer(tmp_path: Path) -> None:
    traced, kitchen = run(tmp_path, json_script(answer()), asks=[{}])
    root = traced.root()
    assert (root.name, root.parent) == ("POST /chat/completions", None)
    assert root.status.status_code is StatusCode.UNSET
    request_id = json.loads(kitchen.said[0])["request_id"]
    attributes = dict(root.attributes or {})
    assert attributes == {
        "http.request.method": "POST", "http.route": "/chat/completions", "http.response.status_code": 200,
        "moderation.request_id": request_id, "moderation.route": "default", "moderation.outcome": "answered",
        "moderation.action": "allow", "moderation.degraded": False}
    below = traced.under(root)
    assert set(below) == set(Step)
    upstream = below[Step.UPSTREAM]
    assert upstream.kind is SpanKind.CLIENT
    assert {name: str(value) if name == "server.port" else value for name, value in (upstream.attributes or {}).items()} == {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "other", "http.request.method": "POST",
        "http.response.status_code": 200, "server.address": "127.0.0.1", "server.port": kitchen.house.config.routes[-1].upstream.split(":")[2].split("/")[0]}
    assert [event.name for event in upstream.events] == ["first byte"]
    times = [(below[step].start_time or 0, below[step].end_time or 0) for step in (Step.READ, Step.JUDGE_INPUT, Step.UPSTREAM, Step.JUDGE_OUTPUT)]
    assert all(one[1] <= other[0] for one, other in pairwise(times)), "one after the other"
    assert all((root.start_time or 0) <= start <= end <= (root.end_time or 0) for start, end in times)
    assert len([span for span in traced.spans() if span.name == Step.LOG]) == 2


def test_a_stream_is_judged_while_it_comes(tmp_path: Path) -> None:
    traced, _ = run(tmp_path, stream_script(*sse(chunk({"content": "One. "}), chunk({}, "stop"))), asks=[{"stream": True}])
    below = traced.under(traced.root())
    assert set(below) == set(Step)
    output, upstream = below[Step.JUDGE_OUTPUT], below[Step.UPSTREAM]
    assert (upstream.start_time or 0) < (output.start_time or 0) < (upstream.end_time or 0) <= (output.end_time or 0)


def test_a_block_reaches_no_upstream(tmp_path: Path) -> None:
    traced, _ = run(tmp_path, asks=[{"messages": "a pipe bomb"}])
    root = traced.root()
    assert set(traced.under(root)) == {Step.READ, Step.JUDGE_INPUT, Step.LOG}
    assert root.status.status_code is StatusCode.UNSET, "a block is no failure"
    assert (root.attributes or {})["moderation.code"] == "data_inspection_failed"


FAILURES = [
    ("the upstream answers with an error", json_script({"error": {"message": CANARY}}, 500), False, 500, "500", "failed"),
    ("what it says is no answer", json_script({"choices": CANARY}), False, 502, "upstream_invalid", "upstream_invalid"),
    ("a stream without an end", stream_script(*sse(chunk({"content": f"{CANARY}. "}), done=False)), True, 200, "upstream_interrupted", "upstream_interrupted"),
]


@pytest.mark.parametrize(("note", "script", "stream", "status", "theirs", "ours"), FAILURES, ids=[one[0] for one in FAILURES])
def test_errors_are_told_by_kind(tmp_path: Path, note: str, script: Script, stream: bool, status: int, theirs: str, ours: str) -> None:
    traced, _ = run(tmp_path, script, asks=[{"stream": stream}])
    root = traced.root()
    assert root.status.status_code is StatusCode.ERROR
    assert root.status.description is None
    assert ((root.attributes or {})["error.type"], (root.attributes or {})["http.response.status_code"]) == (ours, status)
    if theirs != "upstream_invalid":
        assert (traced.under(root)[Step.UPSTREAM].attributes or {})["error.type"] == theirs
    assert not [event for span in traced.spans() for event in span.events if event.name == "exception"]
    assert CANARY not in "".join(span.to_json() for span in traced.spans())


def test_a_client_that_leaves_ends_all_spans(tmp_path: Path) -> None:
    traced = Traced()

    async def go() -> None:
        async with Kitchen(tmp_path, Script([Pause(30)]), tracing=traced.tracing) as kitchen:
            _, writer = await asyncio.open_connection("127.0.0.1", kitchen.port)
            body = b'{"messages": [{"role": "user", "content": "hi"}]}'
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
            async with asyncio.timeout(10):
                while not kitchen.upstream.received:  # noqa: ASYNC110 - a list has no event
                    await asyncio.sleep(0.01)
                writer.close()
                while not kitchen.said:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    asyncio.run(go())
    root = traced.root()
    assert (root.attributes or {})["error.type"] == "cancelled"
    assert Step.UPSTREAM in traced.under(root)


def test_it_joins_the_callers_trace_and_the_upstream_joins_ours(tmp_path: Path) -> None:
    headers = {"traceparent": CALLER, "tracestate": f"vendor={CANARY}", "baggage": f"who={CANARY}"}
    traced, kitchen = run(tmp_path, json_script(answer()), asks=[{}], headers=headers)
    root = traced.root()
    assert root.parent is not None
    assert root.context is not None
    assert (format(root.parent.trace_id, "032x"), format(root.parent.span_id, "016x")) == tuple(CALLER.split("-")[1:3])
    upstream = traced.under(root)[Step.UPSTREAM].context
    assert upstream is not None
    (received,) = kitchen.upstream.received
    assert received.header("traceparent") == f"00-{root.context.trace_id:032x}-{upstream.span_id:016x}-01"
    assert [name for name, _ in received.headers].count("traceparent") == 1
    assert (received.header("tracestate"), received.header("baggage")) == (f"vendor={CANARY}", f"who={CANARY}")
    assert CANARY not in "".join(span.to_json() for span in traced.spans())


@pytest.mark.parametrize("wrong", [CANARY, "00-0-0-01", "", CALLER + CANARY])
def test_a_traceparent_that_is_none_begins_a_trace(tmp_path: Path, wrong: str) -> None:
    traced, kitchen = run(tmp_path, json_script(answer()), asks=[{}], headers={"traceparent": wrong})
    assert traced.root().parent is None
    assert CANARY not in (kitchen.upstream.received[0].header("traceparent") or "")


def test_what_is_only_passed_on_is_traced_and_what_watches_is_not(tmp_path: Path) -> None:
    traced = Traced()

    async def go() -> None:
        async with Kitchen(tmp_path, json_script({"data": []}), tracing=traced.tracing) as kitchen:
            for path in ("/healthz", "/readyz", "/metrics", "/docs"):
                await kitchen.ask("GET", path)
            await kitchen.ask("GET", "/v1/models", headers={"traceparent": CALLER})
            await kitchen.ask("PROPFIND", "/moderate", {"text": "hi"})
            await kitchen.ask("POST", "/moderate", {"text": f"a pipe bomb {CANARY}"})
            assert (kitchen.upstream.received[0].header("traceparent") or "")[3:35] == CALLER[3:35]

    asyncio.run(go())
    assert [traced.root(number).name for number in range(3)] == ["GET passed", "_OTHER /moderate", "POST /moderate"]
    assert set(traced.under(traced.root(0))) == {Step.UPSTREAM}
    assert set(traced.under(traced.root(2))) == {Step.JUDGE_INPUT}
    assert len([span for span in traced.spans() if span.kind is SpanKind.SERVER]) == 3
    assert CANARY not in "".join(span.to_json() for span in traced.spans()).lower()


# ---- off -------------------------------------------------------------------------------------------------------------------

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
SWITCHES = [
    ("nothing is asked for", {}, False),
    ("an endpoint", ENDPOINT, True),
    ("an endpoint for traces", {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
    ("an endpoint for metrics alone", {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9"}, False),
    ("the SDK is off", {**ENDPOINT, "OTEL_SDK_DISABLED": "True"}, False),
    ("traces are off", {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, False),
    ("an empty one", {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
]


@pytest.mark.parametrize(("note", "environ", "on"), SWITCHES, ids=[one[0] for one in SWITCHES])
def test_the_standard_variables_are_the_switch(note: str, environ: dict[str, str], on: bool) -> None:
    assert asked_for(environ) is on
    made = from_environ(environ)
    assert isinstance(made, NoTracing) is not on
    made.close()


def test_off_it_is_one_object_that_does_nothing(tmp_path: Path) -> None:
    assert NoTracing().begin("POST", [(b"traceparent", CALLER.encode())]) is OFF
    headers = [(b"traceparent", b"x")]
    assert OFF.carried(headers) is headers

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            await kitchen.chat("hi", headers={"traceparent": CANARY})
            assert kitchen.upstream.received[0].header("traceparent") == CANARY

    asyncio.run(go())


def test_off_nothing_of_it_is_imported() -> None:
    # The API alone may come with some other library; it does nothing without the SDK.
    code = ("import sys, moderation.house, moderation.tracing as t; t.from_environ({}); "
            "print([m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
