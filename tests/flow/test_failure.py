"""Each part stopped in turn: nothing is let through in silence."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from moderation.audit.disk import Disk
from moderation.detect.api import Detector, Scan
from moderation.detect.build import build
from moderation.policy.model import Policy
from moderation.tracing import OpenTelemetry
from tests.fakes import Hold, Step, json_script, sse, stream_script
from tests.kitchen import POLICY, Kitchen, answer, chunk, frames

ID = "11010519491231002X"


class Stopped:
    """A detector that does not do its work."""

    version = "0"
    behind = 0
    reach = 0

    def __init__(self, id: str, how: str) -> None:
        self.id = id
        self._how = how

    def scan(self, text: str, start: int, final: bool) -> Any:
        match self._how:
            case "raises":
                raise RuntimeError(text)
            case "exits":
                raise SystemExit(text)
            case "hangs":
                time.sleep(2)
                return Scan((), len(text))
            case "nonsense":
                return [text]
            case _:
                return Scan((), -1)


def stopping(name: str, how: str) -> Callable[[Policy], Mapping[str, Detector]]:
    """The policy's detectors, one of them stopped."""
    return lambda policy: {**build(policy), name: Stopped(name, how)}


def run(test: Any) -> None:
    asyncio.run(test)


HOWS = ["raises", "exits", "hangs", "nonsense", "a hold before the start"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_value_that_no_detector_saw_goes_nowhere(tmp_path: Path, how: str, stream: bool) -> None:
    """pii stopped: redact and pseudonymise take whole segments, and all of a tape."""
    whole = json_script(answer(f"The number is {ID}."))
    streamed = stream_script(*sse(chunk({"content": "The number is "}), chunk({"content": f"{ID}."}), chunk({}, "stop")))

    async def go() -> None:
        async with Kitchen(tmp_path, streamed if stream else whole, make=stopping("pii", how)) as kitchen:
            reply = await kitchen.chat(f"my number is {ID}, mail a@b.com", stream=stream)
            assert reply.status == 200
            assert reply.header("x-moderation-degraded") == "true"
            sent = kitchen.upstream.received[0].body.decode()
            assert ID not in sent
            assert "a@b.com" not in sent
            assert sent.count("[removed: personal_data]") == 1
            assert ID.encode() not in reply.body
            assert ID[:8].encode() not in reply.body
            rows = kitchen.rows(reply.header("x-request-id"))
            assert all(row.degraded for row in rows)
            unknown = [leaf["unknown"] for leaf in kitchen.leaves(reply.header("x-request-id") or "") if leaf["kind"] == "decision"]
            cause = {"hangs": "timeout", "raises": "error", "exits": "error"}.get(how, "invalid")
            assert all(["pii", cause] in some for some in unknown)  # type: ignore[operator]
            assert f'detector="pii",cause="{cause}"'.encode() in kitchen.metrics.text() or (
                f'cause="{cause}",detector="pii"'.encode() in kitchen.metrics.text()
            )
            assert ID not in "\n".join(kitchen.said)

    run(go())


@pytest.mark.parametrize("stream", [False, True])
def test_a_blocking_rules_detector_stopped_blocks(tmp_path: Path, stream: bool) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), make=stopping("weapons_terms", "raises")) as kitchen:
            reply = await kitchen.chat("hello", stream=stream)
            assert (reply.status, reply.json["error"]["code"]) == (400, "data_inspection_failed")
            assert kitchen.upstream.received == []

    run(go())


def test_tool_arguments_that_no_detector_saw_are_blocked(tmp_path: Path) -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"to": ID})}}
    body = answer(None, "tool_calls", tool_calls=[call])
    del call["index"]
    events = [chunk({"tool_calls": [{"index": 0, **call}]}), chunk({}, "tool_calls")]

    async def go(stream: bool) -> None:
        scripts = stream_script(*sse(*events)) if stream else json_script(body)
        only_later = {"pii": 0}

        class Late(Stopped):
            """Works on the request, and stops after it."""

            def scan(self, text: str, start: int, final: bool) -> Any:
                only_later["pii"] += 1
                if "go" in text:
                    return Scan((), len(text))
                raise RuntimeError

        def make(policy: Policy) -> Mapping[str, Detector]:
            return {**build(policy), "pii": Late("pii", "")}

        async with Kitchen(tmp_path / str(stream), scripts, make=make) as kitchen:
            reply = await kitchen.chat("go", stream=stream)
            assert ID.encode() not in reply.body
            assert b"content_filter" in reply.body
            assert kitchen.rows(reply.header("x-request-id"))[-1].action == "block"

    run(go(False))
    run(go(True))


@pytest.mark.parametrize(("word", "action", "passes"), [("flag", "flag", True), ("ignore", "allow", True), ("assume_match", "redact", False)])
def test_on_failure_does_what_it_says(tmp_path: Path, word: str, action: str, passes: bool) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.read_text().replace("pii: {kind: pii,", f"pii: {{kind: pii, on_failure: {word},"))

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer("ok")), policy=policy, make=stopping("pii", "raises")) as kitchen:
            reply = await kitchen.chat(f"my number is {ID}")
            assert (ID in kitchen.upstream.received[0].body.decode()) is passes
            row = kitchen.rows(reply.header("x-request-id"))[0]
            assert (row.action, row.degraded) == (action, True)

    run(go())


class Full(Disk):
    """A disk that can be full."""

    full = False

    def write(self, fd: int, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().write(fd, data)


def test_a_log_that_cannot_be_written_refuses_and_recovers(tmp_path: Path) -> None:
    disk = Full()

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer("ok")), disk=disk) as kitchen:
            assert (await kitchen.chat("one")).status == 200
            disk.full = True
            reply = await kitchen.chat("two")
            assert (reply.status, reply.json["error"]["code"]) == (503, "audit_unavailable")
            assert len(kitchen.upstream.received) == 1
            ready = await kitchen.ask("GET", "/readyz")
            assert (ready.status, ready.json["log"]["status"]) == (503, "failed")
            disk.full = False
            for _ in range(100):
                if (await kitchen.ask("GET", "/readyz")).status == 200:
                    break
                await asyncio.sleep(0.05)
            assert (await kitchen.chat("three")).status == 200

    run(go())
    raw = b"".join(path.read_bytes() for path in sorted((tmp_path / "data" / "log-0").glob("*.qseg")))
    assert raw.count(b'"kind":"gap"') == 1


def test_a_log_that_fails_in_mid_stream_ends_the_stream(tmp_path: Path) -> None:
    disk = Full()

    async def go() -> None:
        more = asyncio.Event()
        steps: list[Step] = [*sse(chunk({"content": "Early. "}), done=False), Hold(more),
                 *sse(chunk({"content": f"{ID} "}), chunk({"content": "end. "}), done=False), Hold(asyncio.Event())]
        async with Kitchen(tmp_path, stream_script(*steps), disk=disk) as kitchen:
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
            reply = await kitchen.send("POST", "/v1/chat/completions", body)
            await reply.read_until(b"Early")
            disk.full = True
            more.set()
            await reply.read_all()
            found = frames(reply.body)
            assert found[-1]["error"]["code"] == "audit_unavailable"
            assert b"end. " not in reply.body
            assert b"removed" not in reply.body
            await asyncio.wait_for(kitchen.upstream.received[0].gone.wait(), 1)
            disk.full = False
            await asyncio.sleep(1.2)

    run(go())


CANARY = "kanarienvogel"


def test_nothing_that_a_caller_chose_gets_into_log_metrics_or_words(tmp_path: Path) -> None:
    """Every string that a caller controls holds the canary; then everything that the sidecar wrote is searched for it."""
    body: dict[str, Any] = {
        "model": f"{CANARY}-model", "user": f"{CANARY}-user", "metadata": {CANARY: CANARY}, "stop": [CANARY],
        "messages": [
            {"role": "system", "content": f"{CANARY} system {ID}", "name": CANARY},
            {"role": "user", "content": [{"type": "text", "text": f"{CANARY} a@{CANARY}.com"}, {"type": CANARY, CANARY: {CANARY: f"{CANARY} {ID}"}}]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": f"{CANARY}1", "type": "function", "function": {"name": f"{CANARY}_tool", "arguments": json.dumps({CANARY: f"{CANARY} {ID}"})}}]},
            {"role": "tool", "tool_call_id": f"{CANARY}1", "content": f"{CANARY} {ID}"},
        ],
        "tools": [{"type": "function", "function": {"name": f"{CANARY}_tool", "description": CANARY, "parameters": {"properties": {CANARY: {}}}}}],
    }  # fmt: skip
    headers = {f"x-{CANARY}": CANARY, "user-agent": CANARY, "authorization": f"Bearer {CANARY}", "traceparent": CANARY, "cookie": CANARY}
    call = {"id": CANARY, "type": "function", "function": {"name": f"{CANARY}_call", "arguments": json.dumps({CANARY: f"{CANARY} {ID}"})}}
    whole = answer(f"{CANARY} {ID} b@{CANARY}.com", "tool_calls", reasoning_content=CANARY, tool_calls=[call], **{CANARY: CANARY})
    whole |= {"id": CANARY, "model": CANARY, "system_fingerprint": CANARY}
    events = [chunk({"content": f"{CANARY} {ID} "}, id=CANARY, model=CANARY), chunk({"tool_calls": [{"index": 0, **call}]}), chunk({}, "stop")]

    spans = InMemorySpanExporter()

    async def go() -> None:
        script = stream_script(*sse(*events))
        broken = json_script({"error": {"message": CANARY, "code": CANARY}}, 500)
        async with Kitchen(tmp_path, json_script(whole), script, broken, tracing=OpenTelemetry(spans, at_once=True)) as kitchen:
            path = f"/v1/chat/completions?{CANARY}={CANARY}"
            assert (await kitchen.ask("POST", path, body, headers)).status == 200
            assert (await kitchen.ask("POST", path, {**body, "stream": True}, headers)).status == 200
            assert (await kitchen.ask("POST", path, body, headers)).status == 500
            ours = [
                await kitchen.ask("POST", path, {**body, "messages": CANARY}, headers),
                await kitchen.ask("POST", path, {**body, "messages": [{"role": CANARY, CANARY: CANARY, "content": 1}]}, headers),
                await kitchen.send("POST", path, b'{"%b": 1, "%b": 2}' % (CANARY.encode(), CANARY.encode()), headers),
                await kitchen.ask("POST", f"/v1/{CANARY}", body, headers),
                await kitchen.ask("POST", path, {**body, "messages": [{"role": "user", "content": f"{CANARY} pipe bomb"}]}, headers),
            ]
            for reply in ours:
                await reply.read_all()
                assert reply.status >= 400
                assert CANARY.encode() not in reply.body
            shown = await kitchen.ask("POST", "/moderate", {"text": f"{CANARY} pipe bomb"})
            assert shown.json["action"] == "block"
            assert CANARY.encode() not in kitchen.metrics.text()
            assert CANARY not in "\n".join(kitchen.said)
            assert len([line for line in kitchen.said if json.loads(line)["event"] == "request"]) == 4 + len(ours)
            made = [span.to_json() for span in spans.get_finished_spans()]
            assert len(made) > 20
            assert CANARY not in "".join(made)

    run(go())
    every = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert len(every) > 5
    for path in every:
        assert CANARY.encode() not in path.read_bytes(), path
        if "policies" not in path.parts:  # the policy's own tests hold this number
            assert ID.encode() not in path.read_bytes(), path
