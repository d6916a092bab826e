"""One proxied chat completion, from the client's bytes to the client's bytes.

Order is everything here: read all, decide, write the decision durably, act, forward; then the same for the answer. Whatever
fails is answered in the caller's dialect, and nothing that was not read goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from moderation.audit import record
from moderation.config import Config
from moderation.errors import CODES, LogError, Refused, UpstreamError
from moderation.flow import saying
from moderation.flow.account import Account
from moderation.flow.admission import Admitted
from moderation.flow.coding import Unpacked, decoded, upstream_decoder
from moderation.flow.editing import edited
from moderation.flow.hearing import has_choices, onward, upstream_id, value_of
from moderation.flow.http import (
    JSON,
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    advice,
    disconnected,
    header,
    read_body,
    respond,
    trace_id,
)
from moderation.flow.ledger import Entry, Ledger
from moderation.flow.reading import Active, Verdict, newest_user_text, read, scoped
from moderation.flow.recording import judged
from moderation.flow.showing import block_message
from moderation.flow.speech import OpenAISpeech, tokens
from moderation.flow.streaming import Carrier
from moderation.language import language_of
from moderation.metrics import Metrics
from moderation.routes import Client, Route
from moderation.stream.plan import Note
from moderation.text import Conversation
from moderation.text import Scope as Place
from moderation.tracing import Step
from moderation.upstream import Answer, Upstream
from moderation.verdict import Fired
from moderation.wire import answers, body, openai


@dataclass(frozen=True, slots=True)
class Chat:
    """Carries chat completions; one for a process."""

    config: Config
    ledger: Ledger
    metrics: Metrics
    upstream: Callable[[Route], Upstream]
    now: Callable[[], int]
    """Seconds since 1970, for the `created` of what we say ourselves."""
    clock: Callable[[], float]
    """Monotonic seconds, for the metrics."""

    async def handle(
        self, scope: Scope, receive: Receive, send: Send, *, request_id: str, route: Route, client: Client | None, path: str,
        active: Active, account: Account, admitted: Admitted,
    ) -> None:
        """Answer one request. `path` is below the upstream's base."""
        call = _Call(self, scope, receive, send, request_id, route, client, path, active, account, admitted)
        await call.run()


class _Call:
    """One call, with what it has come to know."""

    def __init__(
        self, chat: Chat, scope: Scope, receive: Receive, send: Send, request_id: str, route: Route, client: Client | None,
        path: str, active: Active, account: Account, admitted: Admitted,
    ) -> None:
        self._account, self._admitted = account, admitted
        self._chat, self._scope, self._receive, self._send = chat, scope, receive, send
        self._id, self._route, self._client, self._path, self._active = request_id, route, client, path, active
        self._entry: Entry | None = None
        self._read_at = 0.0
        self._asked: Verdict | None = None
        """What was decided about the request, once that is in the log."""
        self._started = False
        self._gone = False
        self._outcome = "answered"
        """How it ended, for the metrics."""

    async def run(self) -> None:
        try:
            await self._run()
        except Refused as error:
            self._outcome = "failed" if isinstance(error, UpstreamError) else "refused"
            if isinstance(error, UpstreamError):
                self._chat.metrics.add("upstream_errors", error.code)
            await self._refuse(error.code, error.message)
        except LogError:
            self._outcome = "failed"
            await self._refuse("audit_unavailable", CODES["audit_unavailable"].meaning)
        except ClientGone:
            self._outcome = "cancelled"
        except asyncio.CancelledError:
            self._outcome = "cancelled"
            await self._end("client_gone" if self._gone else "interrupted")
            if not self._gone:
                if self._started:
                    raise
                await asyncio.shield(self._refuse("not_ready", "the sidecar is stopping, and the upstream has not answered yet"))
        finally:
            self._account.outcome = self._outcome
            self._chat.metrics.add("requests", self._route.name, self._outcome)

    async def _end(self, outcome: str) -> None:
        """The last word in the log about a call that was cut off."""
        if self._entry is not None and not self._entry.closed:
            self._entry.close(outcome)
            await asyncio.shield(self._written())

    async def _written(self) -> None:
        """Have the log write what was recorded."""
        assert self._entry is not None
        trace = self._account.trace
        trace.open(Step.LOG)
        await self._entry.write()
        trace.close(Step.LOG)

    async def _run(self) -> None:
        chat = self._chat
        headers: Headers = self._scope["headers"]
        account = self._account
        account.trace.open(Step.READ)
        raw = await read_body(self._receive, headers, chat.config.max_body, self._admitted.read)
        self._read_at = chat.clock()
        account.received = len(raw)
        await self._admitted.slot()
        request = body.parse(raw)
        conversation = openai.read_request(request)
        account.stream = conversation.stream
        account.model = conversation.model if conversation.model in self._active.models else "other"
        account.trace.close(Step.READ)
        watcher = asyncio.create_task(self._watch(asyncio.current_task()))
        try:
            await self._judged(raw, request, conversation, headers)
        finally:
            watcher.cancel()

    async def _watch(self, task: asyncio.Task[None] | None) -> None:
        """Cancel the call when its client leaves."""
        await disconnected(self._receive)
        if task is not None:
            self._gone = True
            task.cancel()

    # ---- the request ---------------------------------------------------------------------------------------------

    async def _judged(self, raw: bytes, request: Any, conversation: Conversation, headers: Headers) -> None:
        chat, active = self._chat, self._active
        begun = chat.clock()
        place = Place(chat.config.tenant_of(self._route, self._client), self._route.name, self._route.region)
        place = scoped(place, active, conversation.model, language_of(newest_user_text(conversation)))
        verdict, entry = await self._decide(conversation, place, request, begun)
        self._entry = entry
        self._admitted.judged()
        if verdict.blocked is not None:
            self._outcome = "blocked"
            entry.close("blocked")
            await self._written()
            self._asked = verdict
            await self._block(verdict, request)
            return
        forward = edited(raw, verdict)
        await self._written()
        self._asked = verdict
        answer = await self._forward(headers, forward)
        try:
            await self._answered(answer, verdict, place, request)
        finally:
            answer.close()

    async def _decide(
        self, conversation: Conversation, place: Place, request: Any, begun: float
    ) -> tuple[Verdict, Entry]:
        """Judge the request and record it."""
        self._account.trace.open(Step.JUDGE_INPUT)
        entry = self._open(conversation, place, request)
        verdict = await self._recorded(entry, begun, partial(read, self._active, conversation, place))
        self._account.trace.close(Step.JUDGE_INPUT)
        return verdict, entry

    def _open(self, conversation: Conversation, place: Place, request: Any) -> Entry:
        chat, active = self._chat, self._active
        listed = record.Names(chat.ledger.key, active.models, active.tools)
        entry = chat.ledger.entry(
            self._id, place, active.policy.ref, strict=self._route.durability == "strict", listed=listed,
            trace=trace_id(self._scope["headers"]),
        )
        user = request.get("user")
        entry.open(
            endpoint="/chat/completions", client=self._client.name if self._client else None,
            user=user if isinstance(user, str) else None, model=conversation.model, stream=conversation.stream,
        )
        return entry

    async def _recorded(self, entry: Entry, begun: float, judge: Callable[..., Awaitable[Verdict]]) -> Verdict:
        """Judge, record and count every phase's decision."""
        verdict = await judged(
            entry, lambda too_large: judge(too_large=too_large), lambda: {"judge": round((self._chat.clock() - begun) * 1e6)}
        )
        for ruling in verdict.rulings:
            self._chat.metrics.decided(ruling.phase, ruling.outcome)
            self._account.decided(ruling.outcome)
        return verdict

    async def _forward(self, headers: Headers, raw: bytes) -> Answer:
        query = self._scope.get("query_string", b"")
        path = self._path + ("?" + query.decode("latin-1") if query else "")
        chat = self._chat
        kept = onward(headers, self._route, keyed=bool(chat.config.clients))
        sent_at = chat.clock()
        chat.metrics.observe("added_seconds", sent_at - self._read_at)
        account = self._account
        account.upstream = self._route.upstream
        account.trace.open(Step.UPSTREAM)
        try:
            answer = await chat.upstream(self._route).send("POST", path, account.trace.carried(kept), raw)
            seconds = chat.clock() - sent_at
            chat.metrics.observe("upstream_first_byte_seconds", seconds)
            chat.metrics.add("upstream_answers", f"{answer.status // 100}xx")
            account.answering(answer.status, seconds)
            return answer
        except UpstreamError:
            await self._fail_upstream(None)
            raise

    async def _fail_upstream(self, status: int | None) -> None:
        assert self._entry is not None
        self._entry.close("upstream_error", upstream_status=status)
        await self._written()

    # ---- the answer ----------------------------------------------------------------------------------------------

    async def _answered(self, answer: Answer, verdict: Verdict, place: Place, request: Any) -> None:
        kind = (header(answer.headers, b"content-type") or b"").lower()
        if kind.startswith(b"text/event-stream"):
            await self._stream(answer, verdict, place, request)
            return
        good = 200 <= answer.status < 300
        most = self._chat.config.max_answer
        try:
            raw = await answer.whole(most)
            self._admitted.add(len(raw))
            self._account.answered()
            decoder = upstream_decoder(answer.headers, most)
            if decoder.active:
                raw = await decoded(decoder, raw, self._admitted.add)
            if raw:
                decoder.end()
            value = value_of(raw, good)
        except UpstreamError:
            await self._fail_upstream(answer.status)
            raise
        # What it is, its body tells: some gateways answer errors with 200, and nothing says that 203 holds no text.
        if openai.is_error(value) or (not good and not has_choices(value)):
            assert self._entry is not None
            self._outcome = "failed"
            self._entry.close("upstream_error", upstream_status=answer.status, upstream_id=upstream_id(answer))
            await self._written()
            head = saying.head(answer.headers, decoder.active)
            await self._reply(answer.status, head, raw, verdict.action.word, verdict.degraded)
            return
        await self._whole(answer, raw, value, verdict, place, decoder.active)

    async def _whole(
        self, answer: Answer, raw: bytes, value: Any, asked: Verdict, place: Place, unpacked: bool
    ) -> None:
        """An answer that is not streamed: all of it is judged before any of it goes out."""
        entry = self._entry
        assert entry is not None
        try:
            conversation = openai.read_answer(value)
        except UpstreamError:
            await self._fail_upstream(answer.status)
            raise
        begun = self._chat.clock()
        self._account.trace.open(Step.JUDGE_OUTPUT)
        judge = partial(read, self._active, conversation, place, supplied=asked.supplied, names=asked.names)
        verdict = await self._recorded(entry, begun, judge)
        self._account.trace.close(Step.JUDGE_OUTPUT)
        usage = tokens(value.get("usage"))
        entry.close(
            "blocked" if verdict.blocked else "completed", upstream_status=answer.status, upstream_id=upstream_id(answer),
            usage=usage,
        )
        await self._written()
        if verdict.blocked is not None:
            self._outcome = "blocked"
            raw = answers.blocked_answer(
                raw, value, block_message(self._active.policy, verdict.blocked[1], place.language, entry.last)
            )
        else:
            raw = edited(raw, verdict, value)
        action = max(asked.action, verdict.action)
        degraded = asked.degraded or verdict.degraded
        await self._reply(answer.status, saying.head(answer.headers, unpacked), raw, action.word, degraded)

    async def _stream(self, answer: Answer, verdict: Verdict, place: Place, request: Any) -> None:
        entry = self._entry
        assert entry is not None
        asked = "\n".join(segment.text for segment in verdict.conversation.segments)
        speech = OpenAISpeech(
            self._id, self._stand_in(verdict.conversation), include_usage=saying.include_usage(request), asked=asked
        )
        try:
            decoder = upstream_decoder(answer.headers, 1 << 40)
        except UpstreamError:
            await self._fail_upstream(answer.status)
            raise
        head = [*saying.head(answer.headers, decoder.active), *self._marks(verdict.action.word, verdict.degraded)]
        await self._start(answer.status, head)

        async def out(data: bytes) -> None:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

        def message(rule: Fired, decision: str) -> str:
            return block_message(self._active.policy, rule, place.language, decision)

        def noted(note: Note) -> None:
            self._chat.metrics.decided(note.phase, note.outcome)
            self._account.decided(note.outcome)

        self._account.trace.open(Step.JUDGE_OUTPUT)
        carrier = Carrier(
            Unpacked(answer, decoder) if decoder.active else answer, speech, self._active, place, entry, verdict.names,
            verdict.supplied, out, message, noted, self._chat.clock, upstream_id(answer),
        )
        await carrier.run()
        metrics = self._chat.metrics
        metrics.observe("hold_back_characters", carrier.most_waiting)
        metrics.observe("hold_back_seconds", carrier.longest_wait)
        if carrier.failed is not None:
            metrics.add("upstream_errors", carrier.failed)
            self._account.code = carrier.failed
        self._account.answered()
        self._account.trace.close(Step.JUDGE_OUTPUT)
        self._outcome = {"completed": "answered", "blocked": "blocked"}.get(carrier.outcome, "failed")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    # ---- what we say ---------------------------------------------------------------------------------------------

    async def _block(self, verdict: Verdict, request: Any) -> None:
        assert verdict.blocked is not None
        assert self._entry is not None
        phase, rule = verdict.blocked
        decision = next(f"{self._id}.{n}" for n, r in enumerate(verdict.rulings) if r.phase is phase)
        message = block_message(self._active.policy, rule, self._entry.scope.language, decision)
        config = self._chat.config
        if config.block_as == "completion":
            status, headers, raw = saying.completion(verdict, self._stand_in(verdict.conversation), message, request, self._id)
        else:
            self._chat.metrics.refused("data_inspection_failed")
            self._account.code = "data_inspection_failed"
            status, headers, raw = saying.error(verdict, decision, message, config.block_code, self._id)
        await self._reply(status, headers, raw, "block", verdict.degraded)

    def _stand_in(self, conversation: Conversation) -> answers.Head:
        """What a stream or completion says of itself where the upstream has said nothing."""
        return answers.Head(f"chatcmpl-{self._id}", self._chat.now(), conversation.model or "unknown")

    def _marks(self, action: str, degraded: bool) -> Headers:
        assert self._entry is not None
        return saying.marks(self._id, self._entry.last, action, degraded)

    async def _reply(self, status: int, headers: Headers, raw: bytes, action: str, degraded: bool) -> None:
        self._started = True
        await respond(self._send, status, [*headers, *self._marks(action, degraded)], raw)

    async def _start(self, status: int, headers: Headers) -> None:
        self._started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _refuse(self, code: str, message: str) -> None:
        """Answer with an error of ours, where nothing has been said yet."""
        self._chat.metrics.refused(code)
        self._account.code = code
        if self._started:
            return
        known = CODES[code]
        headers: Headers = [JSON, (b"x-request-id", self._id.encode())]
        if self._asked is not None and code != "audit_unavailable":
            headers = [JSON, *self._marks(self._asked.action.word, self._asked.degraded)]
        await respond(self._send, known.status, [*headers, *advice(known)], answers.error_body(code, message, self._id))
