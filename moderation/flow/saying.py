"""What we say of a proxied call: headers, and the answer to a blocked request. Pure."""

from __future__ import annotations

from typing import Any

from moderation.flow.http import JSON, Headers
from moderation.flow.reading import Verdict
from moderation.verdict import Action, Fired, Mode
from moderation.wire import answers

Reply = tuple[int, Headers, bytes]
"""Status, headers and body."""

_OURS = (b"x-request-id", b"x-upstream-request-id", b"x-moderation-decision", b"x-moderation-action", b"x-moderation-degraded")


def head(headers: Headers, decoded: bool) -> Headers:
    """The upstream's headers as they go on: our names are ours, and its request id has a name of its own."""
    kept: Headers = []
    for name, value in headers:
        lower = name.lower()
        if lower == b"x-request-id":
            kept.append((b"x-upstream-request-id", value))
        elif lower not in _OURS and not (lower == b"content-encoding" and decoded):
            kept.append((lower, value))
    return kept


def marks(request_id: str, decision: str, action: str, degraded: bool) -> Headers:
    """The headers that every moderated answer has."""
    said: Headers = [
        (b"x-request-id", request_id.encode()),
        (b"x-moderation-decision", decision.encode()),
        (b"x-moderation-action", action.encode()),
    ]
    return [*said, (b"x-moderation-degraded", b"true")] if degraded else said


def error(verdict: Verdict, decision: str, message: str, code: str, request_id: str) -> Reply:
    """A blocked request as the error that SDKs raise and do not retry."""
    assert verdict.blocked is not None
    phase, _ = verdict.blocked
    blocking = {f.rule for r in verdict.rulings if r.phase is phase for f in r.outcome.fired if _blocks(f)}
    note = answers.Blocked(decision, phase.value, tuple(sorted(blocking)))
    return 400, [JSON, (b"x-should-retry", b"false")], answers.error_body(code, message, request_id, note)


def completion(verdict: Verdict, stream: answers.Head, message: str, request: Any, request_id: str) -> Reply:
    """A blocked request as a normal completion that says the policy's message."""
    if not verdict.conversation.stream:
        raw = answers.completion_body(stream.id, stream.created, stream.model, message, request_id)
        return 200, [JSON], raw
    usage = answers.usage_frame(stream, None) if include_usage(request) else b""
    raw = answers.blocked_stream(stream, 0, message, [0], role=True, usage=usage)
    return 200, [(b"content-type", b"text/event-stream")], raw


def include_usage(request: Any) -> bool:
    """Whether a stream's usage was asked for."""
    options = request.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _blocks(fired: Fired) -> bool:
    return fired.mode is Mode.ENFORCE and fired.action is Action.BLOCK
