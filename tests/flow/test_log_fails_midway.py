"""A log that fails between a request and the end of its answer: nothing goes out that is not recorded, and the log says so later."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from moderation.audit.index import Index
from tests.audit.test_store import until
from tests.fakes import Hold, Step, json_script, sse, stream_script
from tests.flow.test_failure import ID, Full
from tests.kitchen import POLICY, Kitchen, answer, chunk, frames

HOLDS = [("sentence", "an edit"), ("sentence", "a block"), ("sentence", "the end"), ("all", "an edit"), ("none", "an edit"), ("none", "the end")]
LATER = {
    "an edit": ([chunk({"content": f"It is {ID} "}), chunk({"content": "end. "})], "removed"),
    "a block": ([chunk({"content": "make a pipe bomb "}), chunk({"content": "end. "})], "We do not talk"),
    "the end": ([chunk({"content": "Late. "}), chunk({}, "stop")], "finish_reason\": \"stop"),
}
"""What comes after the log has failed, and what must not go out then."""


def policy(folder: Path, hold: str) -> Path:
    file = folder / "policy.yaml"
    file.write_text(POLICY.read_text().replace("defaults: {", f"defaults: {{stream: {{hold: {hold}}}, "))
    return file


async def recovered(kitchen: Kitchen, disk: Full) -> None:
    disk.full = False
    await until(lambda: kitchen.house.log.latched is None)
    reply = await kitchen.chat("and after that")
    assert reply.status == 200


def told(kitchen: Kitchen, request: str) -> list[tuple[object, object]]:
    """The leaves of a request: kind and outcome."""
    with Index(kitchen.data) as index:
        index.catch_up()
        return [(leaf["kind"], leaf.get("outcome")) for leaf in index.leaves(request)]


def gaps(kitchen: Kitchen) -> int:
    raw = b"".join(path.read_bytes() for path in (kitchen.data / "log-0").glob("*.qseg"))
    return raw.count(b'"kind":"gap"')


@pytest.mark.parametrize(("hold", "later"), HOLDS)
def test_a_stream_ends_with_an_error_frame(tmp_path: Path, hold: str, later: str) -> None:
    disk, (rest, unsaid) = Full(), LATER[later]

    async def go() -> None:
        more = asyncio.Event()
        # Where the edit is noted as it comes, the upstream says no more: the failure is that of the edit, and not of the end.
        early = later == "an edit" and hold != "all"
        end: list[Step] = [*sse(*rest, done=False), Hold(asyncio.Event())] if early else [*sse(*rest)]
        steps: list[Step] = [*sse(chunk({"content": "Early. "}), done=False), Hold(more), *end]
        plain = json_script(answer("ok"))
        async with Kitchen(tmp_path, stream_script(*steps), plain, disk=disk, policy=policy(tmp_path, hold)) as kitchen:
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
            reply = await kitchen.send("POST", "/v1/chat/completions", body)
            if hold != "all":
                await reply.read_until(b"Early")
            disk.full = True
            more.set()
            await reply.read_all()
            found: list[dict[str, Any]] = frames(reply.body)
            assert found[-1]["error"]["code"] == "audit_unavailable"
            assert not [choice for frame in found for choice in frame.get("choices", ()) if choice["finish_reason"]]
            assert b"[DONE]" not in reply.body
            assert unsaid.encode() not in reply.body
            assert b"end. " not in reply.body
            assert ID.encode() not in reply.body
            request = reply.header("x-request-id") or ""
            assert told(kitchen, request) == [("open", None), ("decision", None)]
            await recovered(kitchen, disk)
            assert told(kitchen, request)[-1] == ("close", "interrupted"), "the log has heard that it is over"
            assert gaps(kitchen) == 1
            assert reply.header("x-moderation-decision") in [row.id for row in kitchen.rows()]

    asyncio.run(go())


@pytest.mark.parametrize(
    ("note", "rest"),
    [
        ("it ends too soon", sse(chunk({"content": "Late. "}), done=False)),
        ("what it says is no event", [*sse(chunk({"content": "Late. "}), done=False), b"data: {broken\n\n"]),
    ],
)
def test_a_stream_that_breaks_off_as_the_log_fails_ends_with_an_error_frame_too(
    tmp_path: Path, note: str, rest: list[Step]
) -> None:
    disk = Full()

    async def go() -> None:
        more = asyncio.Event()
        steps: list[Step] = [*sse(chunk({"content": "Early. "}), done=False), Hold(more), *rest]
        async with Kitchen(tmp_path, stream_script(*steps), json_script(answer("ok")), disk=disk) as kitchen:
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
            reply = await kitchen.send("POST", "/v1/chat/completions", body)
            await reply.read_until(b"Early")
            disk.full = True
            more.set()
            await reply.read_all()
            assert frames(reply.body)[-1]["error"]["code"] == "audit_unavailable"
            await recovered(kitchen, disk)
            assert told(kitchen, reply.header("x-request-id") or "")[-1] == ("close", "interrupted")
            assert gaps(kitchen) == 1

    asyncio.run(go())


def test_a_whole_answer_is_refused(tmp_path: Path) -> None:
    disk = Full()

    async def go() -> None:
        more, plain = asyncio.Event(), json.dumps(answer("words of the model")).encode()
        slow = json_script(answer("words of the model"))
        slow = type(slow)([Hold(more), plain], 200, framing="chunked")
        async with Kitchen(tmp_path, slow, json_script(answer("ok")), disk=disk) as kitchen:
            call = asyncio.create_task(kitchen.chat("hi"))
            await until(lambda: kitchen.upstream.received)
            disk.full = True
            more.set()
            reply = await call
            assert (reply.status, reply.json["error"]["code"], reply.header("retry-after")) == (503, "audit_unavailable", "1")
            assert reply.json["error"]["type"] == "server_error"
            assert b"words" not in reply.body
            request = reply.header("x-request-id") or ""
            await recovered(kitchen, disk)
            assert told(kitchen, request)[-1] == ("close", "interrupted")
            assert gaps(kitchen) == 1

    asyncio.run(go())
