"""What we say ourselves in the OpenAI dialect: errors, blocks, and the ends of streams.

Pure: ids and times are given. Knows the shapes that SDKs expect and nothing of why we speak.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moderation.errors import CODES
from moderation.wire.body import edit
from moderation.wire.choices import choice_index

DONE = b"data: [DONE]\n\n"
CONTENT_FILTER = "content_filter"


def _source(value: Any) -> str:
    """JSON as it goes out: no needless escapes, and always valid UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace").decode()


def _frame(value: Any) -> bytes:
    return b"data: " + _source(value).encode() + b"\n\n"


# ---- errors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blocked:
    """What tells our block from the upstream's own."""

    decision_id: str
    phase: str
    rules: tuple[str, ...]


def error_body(
    code: str, message: str, request_id: str, moderation: Blocked | None = None, *, kind: str | None = None
) -> bytes:
    """An error in the shape the SDKs expect. `kind` is error.type; by default what CODES says of the code."""
    known = CODES.get(code)
    error: dict[str, Any] = {
        "message": message,
        "type": kind or (known.type if known else "invalid_request_error"),
        "param": None,
        "code": code,
    }
    if moderation is not None:
        error["moderation"] = {
            "decision_id": moderation.decision_id,
            "phase": moderation.phase,
            "rules": list(moderation.rules),
        }
    return _source({"error": error, "request_id": request_id}).encode()


def error_frame(
    code: str, message: str, request_id: str, moderation: Blocked | None = None, *, kind: str | None = None
) -> bytes:
    """The same, as an event in a stream; no finish_reason and no [DONE] go with it."""
    return b"data: " + error_body(code, message, request_id, moderation, kind=kind) + b"\n\n"


# ---- whole answers ---------------------------------------------------------------------------------------------------


def completion_body(completion_id: str, created: int, model: str, message: str, request_id: str) -> bytes:
    """A normal completion that says the policy's message: the answer to a blocked request, where so configured."""
    return _source({
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [_blocked_choice(0, message)],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "request_id": request_id,
    }).encode()


def _blocked_choice(index: int, message: str) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": message},
        "logprobs": None,
        "finish_reason": CONTENT_FILTER,
    }


def blocked_answer(raw: bytes, body: Mapping[str, Any], message: str) -> bytes:
    """A whole answer that says the message in each choice, and keeps every byte beside the choices.

    The choices are made anew, so that nothing of the answer stays in a field that nobody thought of.
    """
    choices = [
        _blocked_choice(choice_index(choice, position) if isinstance(choice, dict) else position, message)
        for position, choice in enumerate(body["choices"])
    ]
    return edit(raw, {"/choices": _source(choices)})


# ---- streams ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """What every chunk of one stream repeats."""

    id: str
    created: int
    model: str

    def chunk(self, choices: Sequence[Mapping[str, Any]], **more: Any) -> bytes:
        return _frame({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            **more,
        })


def head(body: Any, default: Head) -> Head:
    """The head of a stream, from one of its chunks; what that lacks comes from `default`."""
    if not isinstance(body, Mapping):
        return default
    ident, created, model = body.get("id"), body.get("created"), body.get("model")
    return Head(
        ident if isinstance(ident, str) and ident else default.id,
        created if isinstance(created, int) and not isinstance(created, bool) else default.created,
        model if isinstance(model, str) and model else default.model,
    )


def message_frame(stream: Head, choice: int, message: str, *, role: bool = False) -> bytes:
    """One last delta with the message; with the role, where that choice has said nothing yet."""
    delta = {"role": "assistant", "content": message} if role else {"content": message}
    return stream.chunk([{"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}])


def finish_frames(stream: Head, choices: Sequence[int]) -> bytes:
    """The end of each open choice, a frame each: content_filter."""
    return b"".join(
        stream.chunk([{"index": choice, "delta": {}, "logprobs": None, "finish_reason": CONTENT_FILTER}])
        for choice in choices
    )


def usage_frame(stream: Head, usage: Mapping[str, Any] | None, estimate: tuple[int, int] = (0, 0)) -> bytes:
    """The usage: the upstream's last, else an estimate of prompt and answer tokens, marked as one."""
    if usage is not None:
        return stream.chunk([], usage=usage)
    asked, said = estimate
    tokens = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
    return stream.chunk([], usage=tokens, moderation={"usage": "estimated"})


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is: four ASCII characters make one, any other character makes one."""
    wide = len(text) - len(text.encode("ascii", "ignore"))
    return wide + (len(text) - wide + 3) // 4


def blocked_stream(
    stream: Head,
    choice: int,
    message: str,
    open_choices: Sequence[int],
    *,
    role: bool = False,
    usage: bytes = b"",
) -> bytes:
    """The end of a stream that is blocked: the message, the end of every open choice, the usage frame if any, [DONE]."""
    return message_frame(stream, choice, message, role=role) + finish_frames(stream, open_choices) + usage + DONE
