"""The soak's upstream: answers a chat completion in the mood that the request's `mood` names, good or bad.

A whole answer and a stream both repeat what the user said last, so that a client sees that the answer is its own. Served in the
event loop of whoever starts it.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MOODS = ("whole", "long", "flood", "gzip", "tools", "slow", "refuse", "fail", "cut", "close", "hang", "broken")
"""`refuse` is a 429, `fail` a 500; `cut` ends in the middle of the answer, `close` before it; `hang` never answers, or stops
in the middle; a stream is `long` or a `flood` without a pause."""
FILLER = ("The harbour was quiet when the first boats came in, and the light over the water turned from grey to a pale gold. "
          "The men on the quay talked about the weather and the price of fish. Nobody hurried on a morning like this one. ")
TIMES = {"long": 40, "flood": 150}
"""How often FILLER stands in an answer, where that is not once."""
_CUT = 3
"""Chunks of a stream that go out before it breaks off."""
_HEAD = "HTTP/1.1 {status} Soak\r\ncontent-type: {kind}\r\n{more}\r\n"


@dataclass
class Upstream:
    """`leaks` counts requests that hold one of `secrets`, which must never come this far."""

    secrets: Sequence[bytes] = ()
    gap: float = 0.02
    """Seconds between the chunks of a stream that is neither long nor slow."""
    leaks: int = 0
    asked: int = 0
    port: int = 0
    _server: asyncio.Server | None = field(default=None)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0, limit=1 << 22)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side has enough of it."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *([0-9]+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.asked += 1
                self.leaks += any(secret in body for secret in self.secrets)
                if not await self._answer(json.loads(body or b"{}"), reader, writer):
                    return
        except (OSError, EOFError, asyncio.LimitOverrunError):
            return  # the sidecar left
        finally:
            writer.transport.abort()

    async def _answer(self, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        mood = asked.get("mood", "whole")
        match mood:
            case "close":
                return False
            case "refuse" | "fail":
                status = 429 if mood == "refuse" else 500
                _whole(writer, {"error": {"message": "the soak wants it so", "type": "soak", "code": mood}}, status)
            case _ if asked.get("stream"):
                return await self._stream(mood, asked, reader, writer)
            case "hang":
                await reader.read(1)  # until the sidecar has enough of it
                return False
            case "broken":
                raw = b'{"choices":[{"message":{"content":"half a'
                writer.write(_head(200, "application/json", f"content-length: {len(raw)}\r\n") + raw)
            case "cut":
                raw = json.dumps(completion(asked, mood)).encode()
                writer.write(_head(200, "application/json", f"content-length: {len(raw)}\r\n") + raw[: len(raw) // 2])
                await writer.drain()
                return False
            case _:
                await asyncio.sleep(1.0 if mood == "slow" else 0.0)
                _whole(writer, completion(asked, mood), packed=mood == "gzip")
        await writer.drain()
        return True

    async def _stream(
        self, mood: str, asked: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        writer.write(_head(200, "text/event-stream", "transfer-encoding: chunked\r\n"))
        for number, chunk in enumerate(chunks(asked, mood)):
            if number == _CUT and mood == "cut":
                return False
            if number == _CUT and mood == "hang":
                await reader.read(1)
                return False
            raw = b'{"choices":[{"del' if number == _CUT and mood == "broken" else json.dumps(chunk).encode()
            _chunk(writer, b"data: " + raw + b"\n\n")
            await writer.drain()
            if mood not in TIMES:
                await asyncio.sleep(5 * self.gap if mood == "slow" else self.gap)
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


def said(asked: dict[str, Any]) -> str:
    """What the user said last."""
    messages = asked.get("messages") or [{"content": ""}]
    return str(messages[-1]["content"])


def completion(asked: dict[str, Any], mood: str) -> dict[str, Any]:
    text = f"You said: {said(asked)}. " + FILLER * TIMES.get(mood, 1)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if mood == "tools":
        call = {"name": "find_weather", "arguments": json.dumps({"city": "Kiel", "note": said(asked)})}
        message["tool_calls"] = [{"index": 0, "id": "call_1", "type": "function", "function": call}]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if mood == "tools" else "stop", "logprobs": None}
    return {"id": "chatcmpl-soak", "object": "chat.completion", "created": 1767225600, "model": "qwen3.5-plus",
            "choices": [choice], "usage": {"prompt_tokens": 20, "completion_tokens": 60, "total_tokens": 80}}


def chunks(asked: dict[str, Any], mood: str) -> list[dict[str, Any]]:
    """The answer in pieces of a few words."""
    message = completion(asked, mood)["choices"][0]["message"]
    words = message["content"].split(" ")
    deltas: list[dict[str, Any]] = [{"content": " ".join(words[at:at + 3]) + " "} for at in range(0, len(words), 3)]
    for call in message.get("tool_calls", ()):
        text = call["function"]["arguments"]
        deltas.append({"tool_calls": [{**call, "function": {"name": call["function"]["name"], "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": text[at:at + 9]}}]} for at in range(0, len(text), 9)]
    finish = "tool_calls" if mood == "tools" else "stop"
    frame = {"id": "chatcmpl-soak", "object": "chat.completion.chunk", "created": 1767225600, "model": "qwen3.5-plus"}
    return [*({**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas),
            {**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}]


def _head(status: int, kind: str, more: str) -> bytes:
    return _HEAD.format(status=status, kind=kind, more=more).encode()


def _whole(writer: asyncio.StreamWriter, value: object, status: int = 200, packed: bool = False) -> None:
    raw = json.dumps(value).encode()
    raw = gzip.compress(raw) if packed else raw
    more = f"content-length: {len(raw)}\r\n" + ("content-encoding: gzip\r\n" if packed else "")
    writer.write(_head(status, "application/json", more) + raw)


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.is_closing():  # uvloop would not say so by an OSError
        raise ConnectionResetError
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
