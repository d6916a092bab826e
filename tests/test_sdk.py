"""The OpenAI SDK, as an app team uses it, against a sidecar: nothing but the base_url has changed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from tests.fakes import Hold, Script, Step, json_script, sse, stream_script
from tests.kitchen import Kitchen, answer, chunk

ID = "11010519491231002X"
HI: list[Any] = [{"role": "user", "content": "hi"}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


def client(kitchen: Kitchen) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=kitchen.base, api_key="sk-test")


def run(test: Any) -> None:
    asyncio.run(test)


def test_a_completion_with_fields_that_the_sdk_does_not_know(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer("Hello!", reasoning_content="hm"))) as kitchen, client(kitchen) as sdk:
            got = await sdk.chat.completions.create(
                model="qwen3.5-plus", messages=HI, n=1, extra_body={"enable_thinking": True, "never_heard_of": {"a": 1.50}}
            )
            assert got.choices[0].message.content == "Hello!"
            assert got.choices[0].message.reasoning_content == "hm"  # type: ignore[attr-defined]
            assert got.usage is not None
            assert got.usage.total_tokens == 8
            sent = kitchen.upstream.received[0]
            assert sent.json["enable_thinking"] is True
            assert sent.json["never_heard_of"] == {"a": 1.5}
            assert sent.header("authorization") == "Bearer sk-test"
            assert (sent.header("user-agent") or "").startswith("AsyncOpenAI/")

    run(go())


def test_a_stream_with_usage_reasoning_and_two_choices(tmp_path: Path) -> None:
    events = [
        chunk({"role": "assistant", "content": None, "reasoning_content": ""}), chunk({"reasoning_content": f"the number {ID} "}),
        chunk({"content": "Dear "}), chunk({"content": "Second "}, index=1), chunk({"content": f"friend {ID}."}),
        chunk({"content": "choice."}, index=1), chunk({}, "stop"), chunk({}, "stop", 1),
        chunk(None, usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
    ]  # fmt: skip

    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(*sse(*events))) as kitchen, client(kitchen) as sdk:
            texts, thought, usage, ends = {0: "", 1: ""}, "", None, []
            stream = await sdk.chat.completions.create(
                model="m", messages=HI, stream=True, n=2, stream_options={"include_usage": True}
            )
            async for one in stream:
                usage = one.usage or usage
                for choice in one.choices:
                    texts[choice.index] += choice.delta.content or ""
                    thought += getattr(choice.delta, "reasoning_content", None) or ""
                    ends += [choice.finish_reason] if choice.finish_reason else []
            assert texts == {0: "Dear friend [removed: cn_id_card].", 1: "Second choice."}
            assert thought == "the number [removed: cn_id_card] "
            assert usage is not None
            assert usage.total_tokens == 3
            assert ends == ["stop", "stop"]

    run(go())


def test_parallel_tool_calls_through_the_stream_helper(tmp_path: Path) -> None:
    def call(index: int, arguments: str, name: str | None = None) -> dict[str, Any]:
        function = {"arguments": arguments} | ({"name": name} if name else {})
        return {"tool_calls": [{"index": index, "id": f"call_{index}" if name else "", "type": "function", "function": function}]}

    events = [chunk({"role": "assistant", "content": ""}), chunk(call(0, "", "f")), chunk(call(0, '{"to": "1101051949')),
              chunk(call(0, '1231002X"}')), chunk(call(1, "", "f")), chunk(call(1, '{"to": "home"}')), chunk({}, "tool_calls")]

    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(*sse(*events))) as kitchen, client(kitchen) as sdk:
            async with sdk.chat.completions.stream(model="m", messages=HI, tools=TOOLS) as stream:
                whole = await stream.get_final_completion()
            calls = whole.choices[0].message.tool_calls or []
            assert [json.loads(call.function.arguments) for call in calls] == [{"to": "[removed: cn_id_card]"}, {"to": "home"}]
            assert whole.choices[0].finish_reason == "tool_calls"

    run(go())


@pytest.mark.parametrize("stream", [False, True])
def test_a_block_raises_cleanly_and_is_not_tried_again(tmp_path: Path, stream: bool) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen, client(kitchen) as sdk:
            with pytest.raises(openai.BadRequestError) as raised:
                await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "a pipe bomb"}], stream=stream)
            error = raised.value
            assert error.code == "data_inspection_failed"
            assert error.request_id
            assert isinstance(error.body, dict)
            assert error.body["moderation"]["rules"] == ["weapons"]
            assert len(kitchen.rows()) == 1

    run(go())


def test_a_block_in_mid_stream_ends_with_content_filter(tmp_path: Path) -> None:
    async def go() -> None:
        steps: list[Step] = [*sse(chunk({"content": "Take a pipe bomb "}), chunk({"content": "and"}), done=False), Hold(asyncio.Event())]
        async with Kitchen(tmp_path, stream_script(*steps)) as kitchen, client(kitchen) as sdk:
            text, ends = "", []
            async for one in await sdk.chat.completions.create(model="m", messages=HI, stream=True):
                for choice in one.choices:
                    text += choice.delta.content or ""
                    ends += [choice.finish_reason] if choice.finish_reason else []
            assert text.startswith("Take a We do not talk about this")
            assert ends == ["content_filter"]

    run(go())


def test_an_upstream_that_breaks_off_raises(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(*sse(chunk({"content": "Half. "}), done=False), cut=True)) as kitchen:
            text = ""
            async with client(kitchen) as sdk:
                with pytest.raises(openai.APIError) as raised:  # noqa: PT012 - it is raised while iterating
                    async for one in await sdk.chat.completions.create(model="m", messages=HI, stream=True):
                        text += one.choices[0].delta.content or ""
            assert text == "Half. "
            assert raised.value.code == "upstream_interrupted"

    run(go())


def test_the_upstreams_own_errors_are_the_sdks_errors(tmp_path: Path) -> None:
    body = {"error": {"message": "Requests rate limit exceeded", "type": "limit_requests", "param": None, "code": "limit_requests"}}
    script = Script([json.dumps(body).encode()], 429, (("content-type", "application/json"), ("x-should-retry", "false")), "length")

    async def go() -> None:
        async with Kitchen(tmp_path, script) as kitchen, client(kitchen) as sdk:
            with pytest.raises(openai.RateLimitError) as raised:
                await sdk.chat.completions.create(model="m", messages=HI)
            assert raised.value.code == "limit_requests"
            assert len(kitchen.upstream.received) == 1

    run(go())


def test_models_and_moderations(tmp_path: Path) -> None:
    models = {"object": "list", "data": [{"id": "qwen3.5-plus", "object": "model", "created": 0, "owned_by": "x"}]}

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(models)) as kitchen, client(kitchen) as sdk:
            assert [model.id async for model in sdk.models.list()] == ["qwen3.5-plus"]
            found = await sdk.moderations.create(input=["a pipe bomb", "hello"])
            assert [one.flagged for one in found.results] == [True, False]
            assert found.results[0].categories.harassment is False

    run(go())


def test_an_overloaded_sidecar_is_asked_again_when_it_says_so(tmp_path: Path) -> None:
    """The SDK waits for as long as Retry-After says, and no error reaches the app."""
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer("Hello!")), max_streams="1") as kitchen:
            door = kitchen.house.sidecar.admission
            door.in_flight = 1
            async with AsyncOpenAI(base_url=kitchen.base, api_key="sk-test", max_retries=1) as sdk:
                call = asyncio.create_task(sdk.chat.completions.create(model="m", messages=HI))
                async with asyncio.timeout(10):
                    while b'refused_total{code="overloaded"} 1.0' not in kitchen.metrics.text():  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                door.in_flight = 0
                assert (await call).choices[0].message.content == "Hello!"
                door.in_flight = 1
                with pytest.raises(openai.InternalServerError) as raised:
                    await sdk.with_options(max_retries=0).chat.completions.create(model="m", messages=HI)
                assert (raised.value.status_code, raised.value.code) == (503, "overloaded")
                assert raised.value.response.headers["retry-after"] == "1"
                door.in_flight = 0
            assert len(kitchen.upstream.received) == 1

    run(go())
