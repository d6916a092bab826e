"""The stand-in answers in Qwen's shapes, by script, the same every time, and says that it is not Qwen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from moderation.standin import MARK, NAME, SCRIPTS, StandIn


def call(method: str, path: str, body: object = None, app: StandIn | None = None) -> tuple[int, bytes, list[bytes], bool]:
    """Status, body, the writes it came in, and whether it came to its proper end."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": raw, "more_body": False}

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event)

    asyncio.run((app or StandIn())({"type": "http", "method": method, "path": path}, receive, send))
    writes = [event["body"] for event in sent[1:]]
    return sent[0]["status"], b"".join(writes), writes, not sent[-1].get("more_body")


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "qwen3.5-plus", "messages": [{"role": "user", "content": text}], **fields}


def events_of(body: bytes) -> list[dict[str, Any]]:
    frames = body.split(b"\n\n")
    assert frames.pop() == b""
    return [json.loads(frame.removeprefix(b"data: ")) for frame in frames if frame != b"data: [DONE]"]


def tape(events: list[dict[str, Any]], field: str, index: int = 0) -> str:
    deltas = [choice["delta"] for event in events for choice in event.get("choices", []) if choice["index"] == index]
    if field == "arguments":
        calls = [part for delta in deltas for part in delta.get("tool_calls", [])]
        return "".join(part["function"].get("arguments", "") for part in calls)
    return "".join(delta.get(field) or "" for delta in deltas)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_stream_says_what_the_whole_answer_says(name: str) -> None:
    _, whole, _, _ = call("POST", "/compatible-mode/v1/chat/completions", chat(f"script: {name}"))
    status, body, writes, ended = call("POST", "/v1/chat/completions", chat(f"script: {name}", stream=True))
    message = json.loads(whole)["choices"][0]["message"]
    events = events_of(body)
    assert status == 200
    assert tape(events, "content") == message["content"]
    assert tape(events, "reasoning_content") == message.get("reasoning_content", "")
    if SCRIPTS[name].arguments is not None:
        assert tape(events, "arguments") == message["tool_calls"][0]["function"]["arguments"] == SCRIPTS[name].arguments
    assert len(writes) > 3
    assert ended == (SCRIPTS[name].end != "cut")
    assert (b"[DONE]" in body) == ended


def test_an_id_number_comes_in_pieces() -> None:
    _, _, writes, _ = call("POST", "/v1/chat/completions", chat("script: leak-id", stream=True))
    assert all(b"11010519491231002X" not in write for write in writes)
    assert "11010519491231002X" in tape(events_of(b"".join(writes)), "content")


def test_every_answer_says_that_it_is_not_qwen() -> None:
    for text in ["hello", "repeat: hi", "script: leak-id", "script: nothing of the kind", 'call: {"a": 1}']:
        _, body, _, _ = call("POST", "/v1/chat/completions", chat(text))
        answer = json.loads(body)
        assert answer["system_fingerprint"] == NAME
        message = answer["choices"][0]["message"]
        assert message["content"].startswith(MARK) or message["tool_calls"]


@pytest.mark.parametrize(("fields", "said"), [
    pytest.param(chat("repeat: a@x.com, 你好"), MARK + "a@x.com, 你好", id="repeats"),
    pytest.param(chat("Good day"), MARK + "You said: Good day", id="quotes"),
    pytest.param({"messages": [{"role": "user", "content": [{"type": "text", "text": "repeat: "}, {"text": "x"}]}]},
                 MARK + "x", id="content in parts"),
    pytest.param({"messages": [{"role": "user", "content": "?"}, {"role": "tool", "tool_call_id": "1", "content": "rain"}]},
                 MARK + "The tool said: rain", id="tool result"),
])
def test_what_it_says(fields: dict[str, Any], said: str) -> None:
    assert json.loads(call("POST", "/v1/chat/completions", fields)[1])["choices"][0]["message"]["content"] == said


def test_choices_tools_and_usage() -> None:
    tools = [{"type": "function", "function": {"name": "send_mail", "parameters": {}}}]
    request = chat('call: {"to": "x"}', n=3, tools=tools, stream=True, stream_options={"include_usage": True})
    _, body, _, _ = call("POST", "/v1/chat/completions", request)
    events = events_of(body)
    assert {choice["index"] for event in events for choice in event["choices"]} == {0, 1, 2}
    assert [tape(events, "arguments", index) for index in range(3)] == ['{"to": "x"}'] * 3
    names = [part["function"].get("name") for event in events for choice in event["choices"]
             for part in choice["delta"].get("tool_calls", [])]
    assert [name for name in names if name] == ["send_mail"] * 3
    assert [choice["finish_reason"] for event in events[-4:-1] for choice in event["choices"]] == ["tool_calls"] * 3
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == json.loads(call("POST", "/v1/chat/completions", request | {"stream": False})[1])["usage"]
    assert all(event["usage"] is None for event in events[:-1])


@pytest.mark.parametrize(("method", "path", "body", "status"), [
    pytest.param("GET", "/v1/models", None, 200, id="models"),
    pytest.param("POST", "/v1/embeddings", {"input": "x"}, 200, id="embeddings"),
    pytest.param("GET", "/v1/nothing", None, 404, id="no such path"),
    pytest.param("GET", "/v1/chat/completions", None, 404, id="wrong method"),
    pytest.param("POST", "/v1/chat/completions", b"{", 400, id="not JSON"),
    pytest.param("POST", "/v1/chat/completions", {"messages": []}, 400, id="no messages"),
    pytest.param("POST", "/v1/chat/completions", [1], 400, id="not an object"),
    pytest.param("POST", "/v1/chat/completions", {"messages": ["x", None]}, 200, id="odd messages are Qwen's business"),
])
def test_paths(method: str, path: str, body: object, status: int) -> None:
    got, raw, _, _ = call(method, path, body)
    assert got == status
    assert ("error" in json.loads(raw)) == (status >= 400)


def test_it_keeps_what_it_saw_and_answers_alike() -> None:
    app = StandIn(keep=2)
    answers = {call("POST", "/v1/chat/completions", chat("hello"), app)[1] for _ in range(3)}
    assert len(answers) == 1
    assert [json.loads(raw) for raw in app.seen] == [chat("hello")] * 2
