"""What the log is told of one request: open, each decision, close. In order, and durable before it takes effect.

Knows no HTTP. Commitments hide the text: their salt is thrown away, because this version keeps no content.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from moderation.audit import record
from moderation.audit.leaf import Body
from moderation.audit.record import DetectorStatus
from moderation.text import Media, Phase, Scope
from moderation.verdict import Decision, Edit, Outcome, PolicyRef, Window


class Log(Protocol):
    """The store, as far as it is used here."""

    async def append_all(self, bodies: Sequence[Body], *, strict: bool) -> object: ...


@dataclass(frozen=True, slots=True)
class Ledger:
    """Makes entries; one for each process."""

    log: Log
    key: bytes
    """Behind the fingerprints of names that callers chose."""
    salt: Callable[[int], bytes]
    engine: str

    def entry(
        self,
        request: str,
        scope: Scope,
        policy: PolicyRef,
        *,
        strict: bool,
        listed: record.Names,
        simulated: bool = False,
        trace: str | None = None,
    ) -> Entry:
        return Entry(self, request, scope, policy, strict, listed, simulated, trace)


@dataclass(frozen=True, slots=True)
class Mark:
    """A state of an entry."""

    pending: int
    decisions: int
    last: str


@dataclass(slots=True)
class Entry:
    """One request in the log."""

    ledger: Ledger
    request: str
    scope: Scope
    policy: PolicyRef
    strict: bool
    listed: record.Names
    simulated: bool
    trace: str | None = None
    """The trace that the caller says the request belongs to, 32 hex digits."""
    decisions: int = 0
    last: str = ""
    """The id of the newest decision."""
    _pending: list[Body] = field(default_factory=list)
    closed: bool = False

    def open(self, *, endpoint: str, client: str | None, user: str | None, model: str | None, stream: bool) -> None:
        """A request has come in."""
        self._pending.append(
            record.opening(
                self.request,
                self.scope,
                self.policy,
                names=self.listed,
                engine=self.ledger.engine,
                endpoint=endpoint,
                client=client,
                user=user,
                model=model,
                stream=stream,
            )
        )

    def decide(
        self,
        phase: Phase,
        outcome: Outcome,
        windows: Sequence[Window],
        *,
        texts: Sequence[str] = (),
        made: Sequence[str] | None = None,
        content: record.Content | None = None,
        edits: Sequence[Edit] = (),
        media: Sequence[Media] = (),
        models: Mapping[str, str] | None = None,
        micros: dict[str, int] | None = None,
    ) -> str:
        """Record one decision; raises RecordTooLarge where its signals do not fit, and then records nothing.

        `texts` are what was inspected, or `content` is what is told of them; `made` is what goes on of them, where that is not
        the same. `models`: versions of those that were asked, by detector.
        """
        decided = Decision(self.request, self.decisions, phase, self.scope, self.policy, outcome, tuple(windows))
        salt = self.ledger.salt
        if content is None and texts:
            content = record.content(salt(32), texts)
        out = record.content(salt(32), made) if made is not None else None
        self._pending.extend(
            record.decision(
                decided,
                names=self.listed,
                engine=self.ledger.engine,
                durability="strict" if self.strict else "fast",
                commit=content.commit if content else None,
                chars=content.chars if content else 0,
                out_commit=out.commit if out else None,
                out_chars=out.chars if out else None,
                detectors=_statuses(models or {}, windows),
                edits=edits,
                media=media,
                micros=micros,
                simulated=self.simulated,
                trace=self.trace,
            )
        )
        self.decisions += 1
        self.last = decided.id
        return decided.id

    def mark(self) -> Mark:
        """Where this entry stands, for `back_to`."""
        return Mark(len(self._pending), self.decisions, self.last)

    def back_to(self, mark: Mark) -> None:
        """Forget what was recorded since, and not written yet."""
        del self._pending[mark.pending :]
        self.decisions, self.last = mark.decisions, mark.last

    def close(
        self,
        outcome: str,
        *,
        upstream_status: int | None = None,
        upstream_id: str | None = None,
        usage: tuple[int, int] | None = None,
        chunks: int = 0,
    ) -> None:
        """The request is over: completed, blocked, client_gone, upstream_error or interrupted. Once."""
        if self.closed:
            return
        self.closed = True
        self._pending.append(
            record.closing(
                self.request,
                outcome,
                names=self.listed,
                decisions=self.decisions,
                upstream_status=upstream_status,
                upstream_id=upstream_id,
                in_tokens=usage[0] if usage else None,
                out_tokens=usage[1] if usage else None,
                chunks=chunks,
            )
        )

    async def write(self) -> None:
        """Make what was recorded durable (strict) or written (fast). Raises LogError; nothing may take effect then."""
        if self._pending:
            bodies, self._pending = self._pending, []
            await self.ledger.log.append_all(bodies, strict=self.strict)


def _statuses(models: Mapping[str, str], windows: Sequence[Window]) -> tuple[DetectorStatus, ...]:
    """Models by version, each with what came of it: `ok`, or a cause of its not answering about some window."""
    lost = {unknown.detector: unknown.cause.value for window in windows for unknown in window.unknown} if models else {}
    return tuple(DetectorStatus(name, version, lost.get(name, "ok"), 0) for name, version in models.items())
