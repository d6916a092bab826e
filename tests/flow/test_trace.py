"""traceparent goes on as it came, and of it the log holds the trace id, where it is one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from moderation.audit.index import Index, Query
from moderation.cli import main
from moderation.flow.http import Headers, trace_id
from tests.fakes import ask, json_script, sse, stream_script
from tests.kitchen import Kitchen, answer, chunk

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{ID}-00f067aa0ba902b7-01"

GIVEN: list[tuple[str, list[str], str | None]] = [
    ("as W3C writes it", [PARENT], ID),
    ("not sampled", [f"00-{ID}-00f067aa0ba902b7-00"], ID),
    ("none", [], None),
    ("two", [PARENT, PARENT], None),
    ("upper case", [PARENT.upper()], None),
    ("a trace id of zeros", [f"00-{'0' * 32}-00f067aa0ba902b7-01"], None),
    ("a parent of zeros", [f"00-{ID}-{'0' * 16}-01"], None),
    ("the forbidden version", [f"ff-{ID}-00f067aa0ba902b7-01"], None),
    ("a later version, which may say more", [f"01-{ID}-00f067aa0ba902b7-01-what a caller likes"], None),
    ("more behind it", [PARENT + "-x"], None),
    ("a line break behind it", [PARENT + "\n"], None),
    ("too short", [f"00-{ID[1:]}-00f067aa0ba902b7-01"], None),
    ("digits of another script", [f"00-{ID[1:]}\u0661-00f067aa0ba902b7-01"], None),
    ("text", ["my number is 11010519491231002X"], None),
    ("nothing", [""], None),
]


def headers(values: list[str]) -> Headers:
    return [(b"traceparent", value.encode()) for value in values]


@pytest.mark.parametrize(("note", "values", "expected"), GIVEN, ids=[row[0] for row in GIVEN])
def test_what_is_a_trace_id(note: str, values: list[str], expected: str | None) -> None:
    assert trace_id([(b"x-a", PARENT.encode()), *headers(values)]) == expected, note


@pytest.mark.parametrize("stream", [False, True])
def test_it_is_passed_and_recorded_in_every_decision(tmp_path: Path, stream: bool, capsys: pytest.CaptureFixture[str]) -> None:
    async def go() -> tuple[str, str]:
        script = stream_script(*sse(chunk({"content": "Fine."}), chunk({}, "stop"))) if stream else json_script(answer())
        async with Kitchen(tmp_path, script) as kitchen:
            traced = await kitchen.chat("hi", {"traceparent": PARENT, "tracestate": "a=b"}, stream=stream)
            murky = await kitchen.chat("hi there", {"traceparent": "my number"}, stream=stream)
            asked = await kitchen.ask("POST", "/moderate", {"text": "hi"}, {"traceparent": PARENT})
            first, second = kitchen.upstream.received
            assert (first.header("traceparent"), first.header("tracestate")) == (PARENT, "a=b")
            assert second.header("traceparent") == "my number"
            ids = [reply.header("x-request-id") or "" for reply in (traced, murky, asked)]
            for request, expected in zip(ids, [ID, None, ID], strict=True):
                decisions = [leaf for leaf in kitchen.leaves(request) if leaf["kind"] == "decision"]
                assert decisions
                assert {leaf.get("trace") for leaf in decisions} == {expected}
            assert {row.request_id for row in kitchen.rows()} == set(ids)
            return ids[0], ids[2]

    first, third = asyncio.run(go())
    with Index(tmp_path / "data") as index:
        index.catch_up()
        assert {row.request_id for row in index.find(Query(trace=ID))} == {first, third}
    capsys.readouterr()
    assert main(["audit", "query", "--trace", ID, "--json", "--data", str(tmp_path / "data")]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.strip().split("\n")]
    assert {(row["request_id"], row["trace"]) for row in rows} == {(first, ID), (third, ID)}
    assert main(["audit", "show", first, "--data", str(tmp_path / "data")]) == 0
    assert f"trace      {ID}" in capsys.readouterr().out
    assert main(["audit", "query", "--trace", PARENT, "--data", str(tmp_path / "data")]) == 2
    assert "no trace id" in capsys.readouterr().err


def test_two_are_passed_and_not_recorded(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            raw = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
            twice: list[Any] = [("traceparent", PARENT), ("traceparent", PARENT), ("connection", "close")]
            reply = await ask(kitchen.port, "POST", "/v1/chat/completions", raw, twice)
            await reply.read_all()
            assert reply.status == 200
            assert [name.lower() for name, _ in kitchen.upstream.received[0].headers].count("traceparent") == 2
            assert all(row.trace is None for row in kitchen.rows())

    asyncio.run(go())
