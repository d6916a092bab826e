"""From a policy's words to a judge: its engine, its keys out of the environment, and what cannot be built."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from moderation.detect.api import Passage
from moderation.detect.build import build
from moderation.detect.guard.exchange import HIGH
from moderation.detect.http import Http
from moderation.detect.judges import judge
from moderation.errors import UsageError
from moderation.policy.model import DetectorSpec, EngineSpec
from moderation.text import Role
from moderation.verdict import Cause, Finding, Level, Unknown
from tests.detect.test_http import Green, verdict
from tests.fakes import FakeUpstream, Script, json_script
from tests.policy.test_engines import GUARD, compiled

ENVIRON = {"KEY": "sesame", "ID": "id", "EMPTY": " "}
LEVELS = {Level.MEDIUM: 500_000, Level.HIGH: 850_000}


def spec(name: str, url: str, categories: tuple[str, ...] = ("violence",), **more: Any) -> DetectorSpec:
    return DetectorSpec(
        "guard", "http", categories, LEVELS, timeout_ms=2_000, gives_spans=False, engine=EngineSpec(name, url=url, **more)
    )


def asked(one: Http, passage: Passage) -> tuple[Finding, ...] | Unknown:
    async def go() -> tuple[Finding, ...] | Unknown:
        try:
            return await one.ask(passage)
        finally:
            await one.close()

    return asyncio.run(asyncio.wait_for(go(), 20))


def served(script: Script | Green, name: str, path: str, passage: Passage, **more: Any) -> tuple[Any, FakeUpstream]:
    """What a judge says that is built for a server of ours, and the server."""

    async def go() -> tuple[Any, FakeUpstream]:
        async with FakeUpstream(script) as fake:
            one = judge(spec(name, f"http://127.0.0.1:{fake.port}{path}", **more), ENVIRON)
            try:
                return await one.ask(passage), fake
            finally:
                await one.close()

    return asyncio.run(asyncio.wait_for(go(), 20))


FOUND = (Finding("guard", "violence", None, "violence", HIGH, None),)


def test_qwen3guard() -> None:
    said = json_script(verdict("Safety: Controversial\nCategories: Violent"))
    found, fake = served(said, "qwen3guard", "/v1", Passage("x"), model="m", key_env="KEY", options={"strictness": "strict"})
    assert found == FOUND
    assert fake.received[0].request_line == "POST /v1/chat/completions HTTP/1.1"
    assert fake.received[0].header("authorization") == "Bearer sesame"
    assert fake.received[0].json["model"] == "m"


def test_openai_moderation() -> None:
    said = json_script({"results": [{"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.9}}]})
    found, fake = served(said, "openai_moderation", "/v1", Passage("x"))
    assert found == FOUND
    assert fake.received[0].request_line == "POST /v1/moderations HTTP/1.1"
    assert fake.received[0].header("authorization") is None


def test_aliyun() -> None:
    green = Green()
    found, _ = served(
        green,
        "aliyun",
        "",
        Passage("武器"),
        key_env="KEY",
        options={"key_id_env": "ID", "prompt_service": "query_security_check"},
    )
    assert found == FOUND, "the host is signed with its port"
    assert green.services == ["query_security_check"]


def test_llm_judge() -> None:
    said = json_script(verdict('{"violence": 0.9}'))
    found, fake = served(
        said,
        "llm_judge",
        "/v1",
        Passage("x", Role.RESPONSE),
        model="m",
        options={"format": "text", "prompt": "Judge {categories}!"},
    )
    assert found == FOUND
    assert fake.received[0].json["messages"][0]["content"] == "Judge violence!"
    assert "response_format" not in fake.received[0].json


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("qwen3guard", {"key_env": "NONE"}, "the environment variable NONE, which key_env names, is not set"),
        ("qwen3guard", {"key_env": "EMPTY"}, "is not set"),
        ("qwen3guard", {"key_env": "ODD"}, "holds signs that no key has"),
        ("aliyun", {"key_env": "KEY", "options": {"key_id_env": "NONE"}}, "which key_id_env names"),
        ("chatter", {}, "'chatter' is not one that this version builds"),
    ],
)
def test_what_cannot_be_built(name: str, more: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        judge(spec(name, "https://h", model="m", **more), ENVIRON | {"ODD": "ses\name"})
    assert "ses" not in str(error.value)


def test_aliyun_stands_at_a_host_alone() -> None:
    with pytest.raises(ValueError, match="host alone"):
        judge(spec("aliyun", "https://h/x", key_env="KEY", options={"key_id_env": "ID"}), ENVIRON)


def test_a_policy_without_its_keys_is_not_taken() -> None:
    policy = compiled(GUARD.replace("}", ", key_env: GUARD_KEY}")).usable()
    with pytest.raises(UsageError, match="detector guard: the environment variable GUARD_KEY"):
        build(policy, {})
    assert isinstance(build(policy, {"GUARD_KEY": "k"})["guard"], Http)


def test_a_rate_and_places_are_what_the_policy_says() -> None:
    given = spec("qwen3guard", "https://h", model="m", options={"at_once": 3, "rate": 1})
    assert judge(given, {}).at_once == 3
    assert judge(replace(given, engine=EngineSpec("qwen3guard", "m", "https://h")), {}).at_once == 16

    async def slow() -> list[Any]:
        async with FakeUpstream(json_script(verdict("Safety: Safe\nCategories: None"))) as fake:
            assert given.engine is not None
            one = judge(replace(given, timeout_ms=100, engine=replace(given.engine, url=fake.base)), {})
            try:
                return [await one.ask(Passage(str(number))) for number in range(3)]
            finally:
                await one.close()

    assert asyncio.run(slow())[-1] == Unknown("guard", Cause.UNAVAILABLE)
