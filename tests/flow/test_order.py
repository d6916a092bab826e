"""The order of a whole call: nothing is forwarded and nothing goes out before it is in the log. And whose key goes where."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moderation.audit.leaf import Body
from moderation.errors import LogError
from moderation.house import House
from tests.fakes import json_script, sse, stream_script
from tests.kitchen import Kitchen, answer, chunk


class Failing:
    """A log whose disk is full from the batch with this number on."""

    def __init__(self, house: House, first: int) -> None:
        self._inner = house.log
        self._left = first

    async def append_all(self, bodies: Sequence[Body], *, strict: bool) -> object:
        self._left -= 1
        if self._left <= 0:
            raise LogError("the disk is full")
        return await self._inner.append_all(bodies, strict=strict)


def failing(first: int) -> Any:
    def prepare(house: House) -> None:
        chat = house.sidecar.chat
        house.sidecar.chat = replace(chat, ledger=replace(chat.ledger, log=Failing(house, first)))

    return prepare


def run(test: Any) -> None:
    asyncio.run(test)


@pytest.mark.parametrize("durability", ["strict", "fast"])
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_forwarded_that_is_not_recorded(tmp_path: Path, durability: str, stream: bool) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), log=failing(1), check=False, durability=durability) as kitchen:
            reply = await kitchen.chat("hi", stream=stream)
            assert (reply.status, reply.json["error"]["code"]) == (503, "audit_unavailable")
            assert kitchen.upstream.received == []

    run(go())


def test_a_refusal_is_recorded_before_it_is_told(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, log=failing(1), check=False) as kitchen:
            reply = await kitchen.chat("a pipe bomb")
            assert (reply.status, reply.json["error"]["code"]) == (503, "audit_unavailable")

    run(go())


def test_a_whole_answer_is_recorded_before_it_goes_out(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer("secret words")), log=failing(2), check=False) as kitchen:
            reply = await kitchen.chat("hi")
            assert (reply.status, reply.json["error"]["code"]) == (503, "audit_unavailable")
            assert b"secret" not in reply.body

    run(go())


def test_a_stream_that_cannot_be_recorded_does_not_end_well(tmp_path: Path) -> None:
    async def go() -> None:
        script = stream_script(*sse(chunk({"content": "Some words. "}), chunk({}, "stop")))
        async with Kitchen(tmp_path, script, log=failing(2), check=False) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            assert b"audit_unavailable" in reply.body
            assert b"[DONE]" not in reply.body
            assert b'"stop"' not in reply.body

    run(go())


@pytest.mark.parametrize("status", [203, 400, 500])
def test_a_stream_of_events_is_read_whatever_its_status(tmp_path: Path, status: int) -> None:
    async def go() -> None:
        raw = sse(chunk({"content": "no, 我的身份证号是11010519491231002X"}), {"error": {"message": "m"}}, done=False)
        async with Kitchen(tmp_path, stream_script(*raw, status=status)) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            assert reply.status == status
            assert b"11010519491231002X" not in reply.body
            assert reply.body.endswith(raw[-1])
            assert kitchen.leaves(reply.header("x-request-id") or "")[-1]["outcome"] == "upstream_error"

    run(go())


def test_an_error_with_a_good_status_is_not_taken_for_an_answer(tmp_path: Path) -> None:
    error = {"error": {"message": "no", "code": "data_inspection_failed"}}

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(error)) as kitchen:
            reply = await kitchen.chat("hi")
            assert (reply.status, reply.json) == (200, error)
            assert kitchen.leaves(reply.header("x-request-id") or "")[-1]["outcome"] == "upstream_error"

    run(go())


def settings(folder: Path) -> str:
    digest = hashlib.sha256(b"client-key").hexdigest()
    path = folder / "moderation.yaml"
    path.write_text(f"clients:\n  - {{name: app, key_sha256: {digest}}}\n", "utf-8")
    return str(path)


BEARER = {"authorization": "Bearer client-key"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_a_clients_key_stays_here(tmp_path: Path, path: str) -> None:
    method = "GET" if path.endswith("models") else "POST"
    body = None if method == "GET" else {"messages": [{"role": "user", "content": "hi"}]}

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), config=settings(tmp_path)) as kitchen:
            reply = await kitchen.ask(method, path, body, BEARER)
            assert reply.status == 200
            assert kitchen.upstream.received[0].header("authorization") is None

    run(go())


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models"])
def test_the_upstreams_own_key_goes_through(tmp_path: Path, path: str) -> None:
    method = "GET" if path.endswith("models") else "POST"
    body = None if method == "GET" else {"messages": [{"role": "user", "content": "hi"}]}

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            await kitchen.ask(method, path, body, BEARER)
            assert kitchen.upstream.received[0].header("authorization") == "Bearer client-key"

    run(go())


def test_without_a_good_key_nobody_comes_in(tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "input": "hi", "text": "hi", "phase": "input"}

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), config=settings(tmp_path)) as kitchen:
            for header in (None, "Bearer other", "client-key", "Basic client-key", "Bearer "):
                for path in ("/v1/chat/completions", "/v1/models", "/moderate", "/v1/moderations", "/v1/elsewhere"):
                    reply = await kitchen.ask("POST", path, body, {"authorization": header} if header is not None else None)
                    assert (reply.status, reply.json["error"]["code"]) == (401, "invalid_api_key"), (header, path)
            assert kitchen.upstream.received == []

    run(go())


def test_while_it_drains_nobody_comes_in(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            kitchen.house.sidecar.draining = True
            reply = await kitchen.chat("hi")
            assert (reply.status, reply.json["error"]["code"]) == (503, "not_ready")
            assert kitchen.upstream.received == []

    run(go())


def test_off_loopback_what_is_for_operators_is_not_there(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), host="0.0.0.0") as kitchen:
            for path in ("/metrics", "/docs", "/audit/v1/decisions"):
                assert (await kitchen.ask("GET", path)).status == 404, path

    run(go())
