"""Chat completions as a way to ask: a list of messages goes out, one answer's text comes back. Pure; knows no judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from moderation.detect.guard.exchange import Question, Reply, an_object, bearer, refused
from moderation.verdict import Cause
from moderation.wire.body import mended

PATH = "/chat/completions"
Message = tuple[str, str]
"""Role and content."""


def asked(
    model: str, messages: Sequence[Message], key: str | None, max_tokens: int, more: Mapping[str, Any] | None = None
) -> Question:
    """Asks for one answer, as sure as the model can be, and not streamed."""
    body = {
        "model": model,
        "messages": [{"role": role, "content": mended(content)} for role, content in messages],
        "temperature": 0,
        "max_tokens": max_tokens,
        "stream": False,
        **(more or {}),
    }
    return Question(PATH, bearer(key), json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def plain(text: str) -> str:
    """A text without marks that a chat template or a tokenizer would take for its own, such as <|im_end|>.

    With them a text could end its own message and write the judge's answer.
    """
    return text.replace("<|", "< |").replace("<think>", "< think>").replace("</think>", "< /think>")


def answered(reply: Reply) -> str | Cause:
    """The text of the one answer, if it is whole."""
    cause = refused(reply.status)
    if cause is not None:
        return cause
    match an_object(reply.body):
        case {"choices": [{"message": {"content": str(content)}, "finish_reason": "stop"}]}:
            return content
        case _:
            return Cause.INVALID
