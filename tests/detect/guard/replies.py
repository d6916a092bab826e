"""Replies of judges, as their servers send them."""

from __future__ import annotations

import json

from moderation.detect.guard.exchange import Reply, Stamp

STAMP = Stamp("2026-11-24T17:00:00Z", "0123456789abcdef0123456789abcdef")


def reply(body: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(body, ensure_ascii=False).encode())


def chat(content: object, finish: str | None = "stop") -> Reply:
    """One answer of a chat model, with the fields around it that vLLM sends."""
    message = {"role": "assistant", "content": content, "refusal": None, "tool_calls": []}
    return reply(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "m",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish, "stop_reason": None}],
            "usage": {"prompt_tokens": 1, "total_tokens": 2, "completion_tokens": 1},
        }
    )
