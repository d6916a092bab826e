"""What is known of one request by its end: for the operator's one line about it, and for its trace. Never content."""

from __future__ import annotations

from dataclasses import dataclass

from moderation.events import Value
from moderation.tracing import OFF, Step, Trace, server_of
from moderation.verdict import Action, Outcome


@dataclass(slots=True)
class Account:
    """Filled in by whoever knows; told once, at the end."""

    trace: Trace = OFF
    endpoint: str | None = None
    """One of a few fixed words, never the path as it came."""
    route: str | None = None
    client: str | None = None
    status: int = 0
    """Of the answer; 0 where none went out."""
    outcome: str = "refused"
    code: str | None = None
    """The error of ours that it ended with."""
    action: Action | None = None
    """The most severe of all its decisions."""
    degraded: bool = False
    stream: bool = False
    model: str | None = None
    """As the policy names it, else `other`."""
    upstream: str | None = None
    upstream_status: int | None = None
    upstream_ms: float | None = None
    """From sending to the first byte."""
    received: int = 0
    sent: int = 0

    def decided(self, outcome: Outcome) -> None:
        """One more decision about this request."""
        if self.action is None or outcome.action > self.action:
            self.action = outcome.action
        self.degraded = self.degraded or outcome.degraded

    def answering(self, status: int, seconds: float) -> None:
        """The upstream has begun to answer."""
        self.upstream_status, self.upstream_ms = status, round(seconds * 1000, 1)
        self.trace.mark(Step.UPSTREAM, "first byte")

    def answered(self) -> None:
        """The upstream has said all that it will. Called again, it changes nothing."""
        if self.trace is OFF:
            return
        chat = self.endpoint == "/chat/completions"
        error = str(self.upstream_status) if (self.upstream_status or 0) >= 400 else None
        self.trace.close(Step.UPSTREAM, {
            "gen_ai.operation.name": "chat" if chat else None, "gen_ai.request.model": self.model,
            "http.request.method": "POST" if chat else None, "http.response.status_code": self.upstream_status,
            "error.type": self.code if self.code and self.code.startswith("upstream") else error,
            **(server_of(self.upstream) if self.upstream else {}),
        })

    def fields(self, seconds: float) -> dict[str, Value]:
        """The event `request`; `seconds` is how long it took."""
        return {
            "route": self.route, "client": self.client, "endpoint": self.endpoint, "status": self.status, "outcome": self.outcome,
            "code": self.code, "action": self.action.word if self.action is not None else None, "degraded": self.degraded or None,
            "stream": self.stream or None, "ms": round(seconds * 1000, 1), "upstream_status": self.upstream_status,
            "upstream_ms": self.upstream_ms, "received": self.received, "sent": self.sent,
        }

    def end_trace(self, request_id: str) -> None:
        """The last word of the request's trace."""
        if self.trace is OFF:
            return
        self.answered()
        failed = self.outcome in ("failed", "cancelled") or self.status >= 500
        self.trace.end(self.status, (self.code or self.outcome) if failed else None, {
            "http.route": self.endpoint, "moderation.request_id": request_id, "moderation.route": self.route,
            "moderation.outcome": self.outcome, "moderation.action": self.action.word if self.action is not None else None,
            "moderation.degraded": self.degraded, "moderation.code": self.code,
        })
