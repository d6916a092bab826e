"""A stand-in for Qwen: answers chat completions by script, so that demo and tests need no key and no network.

It says in every answer that it is not Qwen. It knows nothing of moderation. Its answers are a function of the request alone:
the same request gets the same bytes. A user text `repeat: …` is given back; `script: NAME` plays a row of SCRIPTS; `call: {…}`
calls the first tool with these arguments; anything else is acknowledged and quoted.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

NAME = "stand-in, not Qwen"
MARK = f"[{NAME}] "
CREATED = 1_767_225_600  # a fixed time: answers must not depend on the clock
MODELS = ("qwen3.5-plus", "qwen3.5-flash")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Line:
    """What the model says in one choice."""

    text: str
    reasoning: str = ""
    arguments: str | None = None
    """With these, it calls a tool instead of speaking."""
    finish: str = "stop"
    end: str = "done"
    """How a stream ends: done | cut (no [DONE], connection dropped) | error (an error event)."""


# Every number below is made up or from a standard's own examples; the key is put together so that no scanner takes it for a leak.
SCRIPTS: dict[str, Line] = {
    "leak-id": Line("好的。我的身份证号是11010519491231002X，请保密。"),
    "leak-id-thinking": Line("我不能透露。", reasoning="用户想要身份证号。我记得是11010519491231002X，但不能说。"),
    "leak-card": Line("The card on file is 4111 1111 1111 1111, valid until 12/29."),
    "leak-email": Line("You can write to lena.fischer@example.com and she will answer."),
    "leak-key": Line("Use this key: " + "AKIA" + "Z7Q3XW5RT2MPLB6K" + " in your configuration."),
    "leak-in-call": Line("", arguments='{"to": "team@example.com", "text": "身份证 11010519491231002X"}', finish="tool_calls"),
    "weapon": Line("Here is how to make a pipe bomb at home: first, take"),
    "think": Line("Forty-two.", reasoning="The user wants a number. Let me think about it calmly, step by step."),
    "prose": Line("It was the best of times, it was the worst of times, it was the age of wisdom, and of foolishness. " * 8),
    "cut": Line("This answer breaks off in the middle of", end="cut"),
    "error": Line("This answer ends in an err", end="error"),
    "markup": Line('A "quote", a \\ backslash, a tab\t, a line\u2028separator, an emoji 👩‍🔬 and 𠮷.'),
}


class StandIn:
    """An ASGI app. `pause` seconds lie between the events of a stream; `seen` keeps the newest request bodies, as they came."""

    def __init__(self, pause: float = 0.0, sizes: tuple[int, ...] = (2, 1, 3), keep: int = 0) -> None:
        self._pause = pause
        self._sizes = sizes
        self.seen: deque[bytes] = deque(maxlen=keep)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            body = await _body(receive)
            self.seen.append(body)
            await self._route(scope["method"], scope["path"].rstrip("/"), body, send)

    async def _route(self, method: str, path: str, raw: bytes, send: Send) -> None:
        if path.endswith("/models") and method == "GET":
            models = [{"id": name, "object": "model", "created": CREATED, "owned_by": NAME} for name in MODELS]
            return await _json(send, 200, {"object": "list", "data": models}, raw)
        if method != "POST" or not path.endswith(("/chat/completions", "/embeddings")):
            return await _error(send, 404, "not_found", f"the {NAME} has no such path", raw)
        try:
            request = json.loads(raw)
        except ValueError:
            return await _error(send, 400, "invalid_parameter_error", "the body is not JSON", raw)
        if path.endswith("/embeddings"):
            vector = [byte / 255 for byte in hashlib.sha256(raw).digest()[:8]]
            return await _json(send, 200, {"object": "list", "model": NAME,
                                           "data": [{"object": "embedding", "index": 0, "embedding": vector}]}, raw)
        if not isinstance(request, dict) or not isinstance(request.get("messages"), list) or not request["messages"]:
            return await _error(send, 400, "invalid_parameter_error", "messages: expected a list that is not empty", raw)
        line = _line_for(request)
        if request.get("stream"):
            return await self._stream(request, line, raw, send)
        return await _json(send, 200, _completion(request, line, raw), raw)

    async def _stream(self, request: Mapping[str, Any], line: Line, raw: bytes, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200,
                    "headers": [(b"content-type", b"text/event-stream;charset=UTF-8"), (b"x-request-id", _id(raw).encode())]})
        for event in _events(request, line, raw, self._sizes):
            await send({"type": "http.response.body", "body": b"data: " + _dump(event) + b"\n\n", "more_body": True})
            if self._pause:
                await asyncio.sleep(self._pause)
        match line.end:
            case "cut":  # an ASGI server drops the connection of an app that returns in mid-answer: the break that is wanted here
                return
            case "error":
                error = {"message": f"{MARK}scripted failure", "type": "server_error", "param": None, "code": "internal_error"}
                last = b"data: " + _dump({"error": error}) + b"\n\ndata: [DONE]\n\n"
            case _:
                last = b"data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": last})


def _line_for(request: Mapping[str, Any]) -> Line:
    last = request["messages"][-1]
    said = _text_of(last.get("content")) if isinstance(last, dict) else ""
    role = last.get("role") if isinstance(last, dict) else None
    command, _, rest = said.partition(":")
    match command.strip().lower():
        case "repeat":
            line = Line(rest.strip())
        case "script" if (row := SCRIPTS.get(rest.strip())) is not None:
            line = row
        case "script":
            line = Line("There is no such script; there are: " + ", ".join(SCRIPTS))
        case "call":
            line = Line("", arguments=rest.strip(), finish="tool_calls")
        case _ if role == "tool":
            line = Line(f"The tool said: {said}")
        case _:
            line = Line(f"You said: {said}")
    thinking = line.reasoning or ("Let me think." if request.get("enable_thinking") is True else "")
    return Line(MARK + line.text if line.arguments is None else "", thinking, line.arguments, line.finish, line.end)


def _text_of(content: object) -> str:
    match content:
        case str():
            return content
        case list():
            return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        case _:
            return ""


def _tool_name(request: Mapping[str, Any]) -> str:
    tools = request.get("tools")
    first = tools[0] if isinstance(tools, list) and tools and isinstance(tools[0], dict) else {}
    return str(first.get("function", {}).get("name", "lookup"))


def _choices(request: Mapping[str, Any]) -> int:
    n = request.get("n")
    return n if isinstance(n, int) and 1 <= n <= 4 else 1


def _usage(request: Mapping[str, Any], line: Line) -> dict[str, Any]:
    """Four characters make a token: wrong, but the same every time."""
    prompt = sum(len(_text_of(message.get("content"))) for message in request["messages"] if isinstance(message, dict)) // 4 + 1
    thought = (len(line.reasoning) + 3) // 4
    answer = (thought + len(line.text + (line.arguments or "")) // 4 + 1) * _choices(request)
    return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer,
            "completion_tokens_details": {"reasoning_tokens": thought}, "prompt_tokens_details": {"cached_tokens": 0}}


def _shell(request: Mapping[str, Any], raw: bytes, kind: str) -> dict[str, Any]:
    return {"object": kind, "created": CREATED, "system_fingerprint": NAME, "model": request.get("model", MODELS[0]),
            "id": "chatcmpl-" + _id(raw)}


def _completion(request: Mapping[str, Any], line: Line, raw: bytes) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": line.text}
    if line.reasoning:
        message["reasoning_content"] = line.reasoning
    if line.arguments is not None:
        call = {"name": _tool_name(request), "arguments": line.arguments}
        message["tool_calls"] = [{"index": 0, "id": "call_" + _id(raw)[:24], "type": "function", "function": call}]
    choices = [{"message": message, "finish_reason": line.finish, "index": index, "logprobs": None}
               for index in range(_choices(request))]
    return {"choices": choices, "usage": _usage(request, line), **_shell(request, raw, "chat.completion")}


def _events(request: Mapping[str, Any], line: Line, raw: bytes, sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """The events of a stream, in the order and shape of Qwen's compatible mode; choices take turns."""
    shell = _shell(request, raw, "chat.completion.chunk")
    everyone = range(_choices(request))

    def chunk(delta: Mapping[str, Any], index: int, finish: str | None = None) -> dict[str, Any]:
        return {"choices": [{"delta": delta, "index": index, "logprobs": None, "finish_reason": finish}], "usage": None, **shell}

    for index in everyone:
        yield chunk({"content": None, "role": "assistant", "reasoning_content": ""}, index)
    for piece in _pieces(line.reasoning, sizes):
        for index in everyone:
            yield chunk({"content": None, "reasoning_content": piece}, index)
    if line.arguments is not None:
        call = {"index": 0, "id": "call_" + _id(raw)[:24], "type": "function"}
        for index in everyone:
            yield chunk({"tool_calls": [{**call, "function": {"name": _tool_name(request), "arguments": ""}}]}, index)
        for piece in _pieces(line.arguments, sizes):
            for index in everyone:  # later fragments have an empty id at Qwen
                yield chunk({"tool_calls": [{**call, "id": "", "function": {"arguments": piece}}]}, index)
    for piece in _pieces(line.text, sizes):
        for index in everyone:
            yield chunk({"content": piece, "reasoning_content": None}, index)
    if line.end == "done":
        for index in everyone:
            yield chunk({"content": "", "reasoning_content": None}, index, line.finish)
        options = request.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            yield {"choices": [], "usage": _usage(request, line), **shell}


def _pieces(text: str, sizes: tuple[int, ...]) -> Iterator[str]:
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(text):
            return
        yield text[at:at + size]
        at += size


def _id(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]


def _dump(body: object) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


async def _json(send: Send, status: int, body: object, raw: bytes) -> None:
    data = _dump(body)
    await send({"type": "http.response.start", "status": status,
                "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode()),
                            (b"x-request-id", _id(raw).encode())]})
    await send({"type": "http.response.body", "body": data})


async def _error(send: Send, status: int, code: str, message: str, raw: bytes) -> None:
    error = {"message": MARK + message, "type": "invalid_request_error", "param": None, "code": code}
    await _json(send, status, {"error": error, "request_id": _id(raw)}, raw)


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        event = await receive()
        parts.append(event.get("body", b""))
        if event["type"] == "http.disconnect" or not event.get("more_body"):
            return b"".join(parts)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return
