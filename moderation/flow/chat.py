"""One proxied chat completion, from the client's bytes to the client's bytes.

Order is everything here: read all, decide, write the decision durably, act, forward; then the same for the answer. Whatever
fails is answered in the caller's dialect, and nothing that was not read goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moderation.audit import record
from moderation.audit.record import RecordTooLarge
from moderation.config import Config
from moderation.errors import CODES, LogError, Refused, UpstreamError
from moderation.flow.editing import edited, logged
from moderation.flow.http import JSON, ClientGone, Headers, Receive, Scope, Send, header, read_body, respond, upstream_decoder
from moderation.flow.ledger import Entry, Ledger
from moderation.flow.reading import Active, Verdict, newest_user_text, read, scoped
from moderation.flow.showing import block_message
from moderation.flow.speech import OpenAISpeech, tokens
from moderation.flow.streaming import Carrier
from moderation.language import language_of
from moderation.metrics import Metrics
from moderation.routes import Client, Route
from moderation.stream.plan import Note
from moderation.text import Conversation, Phase
from moderation.text import Scope as Place
from moderation.upstream import Answer, Upstream, forwardable
from moderation.verdict import Action, Fired, Mode
from moderation.wire import answers, body, openai

_OURS = (b"x-request-id", b"x-upstream-request-id", b"x-moderation-decision", b"x-moderation-action", b"x-moderation-degraded")


@dataclass(frozen=True, slots=True)
class Chat:
    """Carries chat completions; one for a process."""

    config: Config
    ledger: Ledger
    metrics: Metrics
    upstream: Callable[[Route], Upstream]
    now: Callable[[], int]
    """Seconds since 1970, for the `created` of what we say ourselves."""

    async def handle(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        request_id: str,
        route: Route,
        client: Client | None,
        path: str,
        active: Active,
    ) -> None:
        """Answer one request. `path` is below the upstream's base."""
        call = _Call(self, scope, receive, send, request_id, route, client, path, active)
        await call.run()


class _Call:
    """One call, with what it has come to know."""

    def __init__(
        self,
        chat: Chat,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: str,
        route: Route,
        client: Client | None,
        path: str,
        active: Active,
    ) -> None:
        self._chat, self._scope, self._receive, self._send = chat, scope, receive, send
        self._id, self._route, self._client, self._path, self._active = request_id, route, client, path, active
        self._entry: Entry | None = None
        self._started = False
        self._gone = False

    async def run(self) -> None:
        try:
            await self._run()
        except Refused as error:
            await self._refuse(error.code, error.message)
        except LogError:
            await self._refuse("audit_unavailable", CODES["audit_unavailable"].meaning)
        except ClientGone:
            return
        except asyncio.CancelledError:
            await self._end("client_gone" if self._gone else "interrupted")
            if not self._gone:
                raise

    async def _end(self, outcome: str) -> None:
        """The last word in the log about a call that was cut off."""
        if self._entry is not None and not self._entry.closed:
            self._entry.close(outcome)
            await asyncio.shield(self._entry.write())

    async def _run(self) -> None:
        chat = self._chat
        headers: Headers = self._scope["headers"]
        raw = await read_body(self._receive, headers, chat.config.max_body)
        request = body.parse(raw)
        conversation = openai.read_request(request)
        watcher = asyncio.create_task(self._watch(asyncio.current_task()))
        try:
            await self._judged(raw, request, conversation, headers)
        finally:
            watcher.cancel()

    async def _watch(self, task: asyncio.Task[None] | None) -> None:
        """Cancel the call when its client leaves."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if task is not None:
            self._gone = True
            task.cancel()

    # ---- the request ---------------------------------------------------------------------------------------------

    async def _judged(self, raw: bytes, request: Any, conversation: Conversation, headers: Headers) -> None:
        chat, active = self._chat, self._active
        place = Place(chat.config.tenant_of(self._route, self._client), self._route.name, self._route.region)
        place = scoped(place, active, conversation.model, language_of(newest_user_text(conversation)))
        verdict, entry = await self._decide(conversation, place, request)
        self._entry = entry
        if verdict.blocked is not None:
            entry.close("blocked")
            await entry.write()
            await self._block(verdict, request)
            return
        forward = edited(raw, verdict)
        await entry.write()
        answer = await self._forward(headers, forward)
        try:
            await self._answered(answer, verdict, place, request)
        finally:
            answer.close()

    async def _decide(self, conversation: Conversation, place: Place, request: Any) -> tuple[Verdict, Entry]:
        """Judge the request and record it; where its signals do not fit the log, every detector counts as Unknown."""
        for too_large in (False, True):
            verdict = await read(self._active, conversation, place, too_large=too_large)
            entry = self._open(conversation, place, request)
            try:
                self._record(entry, verdict)
            except RecordTooLarge:
                if too_large:
                    raise LogError("the decision does not fit the log") from None
                continue
            return verdict, entry
        raise AssertionError("unreachable")

    def _open(self, conversation: Conversation, place: Place, request: Any) -> Entry:
        chat, active = self._chat, self._active
        listed = record.Names(chat.ledger.key, active.models, active.tools)
        entry = chat.ledger.entry(
            self._id, place, active.policy.ref, strict=self._route.durability == "strict", listed=listed
        )
        user = request.get("user")
        entry.open(
            endpoint="/chat/completions",
            client=self._client.name if self._client else None,
            user=user if isinstance(user, str) else None,
            model=conversation.model,
            stream=conversation.stream,
        )
        return entry

    def _record(self, entry: Entry, verdict: Verdict) -> None:
        segments = verdict.conversation.segments
        for ruling in verdict.rulings:
            texts = [s.text for s in segments if s.phase is ruling.phase]
            media = verdict.conversation.media if ruling.phase in (Phase.INPUT, Phase.OUTPUT) else ()
            entry.decide(
                ruling.phase, ruling.outcome, ruling.windows, texts=texts, edits=logged(verdict, ruling.phase), media=media
            )
            self._chat.metrics.decided(ruling.phase, ruling.outcome)

    async def _forward(self, headers: Headers, raw: bytes) -> Answer:
        query = self._scope.get("query_string", b"")
        path = self._path + ("?" + query.decode("latin-1") if query else "")
        kept = [
            (name, value)
            for name, value in forwardable(headers)
            if name.lower() not in (b"accept-encoding", b"content-encoding", b"authorization") or self._passes(name)
        ]
        kept.append((b"accept-encoding", b"identity"))
        if self._route.upstream_key is not None:
            kept.append((b"authorization", b"Bearer " + self._route.upstream_key.encode()))
        try:
            return await self._chat.upstream(self._route).send("POST", path, kept, raw)
        except UpstreamError:
            await self._fail_upstream(None)
            raise

    def _passes(self, name: bytes) -> bool:
        """The caller's Authorization goes upstream where it is the upstream's own."""
        return name.lower() == b"authorization" and self._route.upstream_key is None and not self._chat.config.clients

    async def _fail_upstream(self, status: int | None) -> None:
        assert self._entry is not None
        self._entry.close("upstream_error", upstream_status=status)
        await self._entry.write()

    # ---- the answer ----------------------------------------------------------------------------------------------

    async def _answered(self, answer: Answer, verdict: Verdict, place: Place, request: Any) -> None:
        kind = (header(answer.headers, b"content-type") or b"").lower()
        if answer.status == 200 and kind.startswith(b"text/event-stream"):
            await self._stream(answer, verdict, place, request)
            return
        try:
            raw = await answer.whole(self._chat.config.max_answer)
            decoder = upstream_decoder(answer.headers, self._chat.config.max_answer)
            raw = decoder(raw)
            value = body.parse(raw) if answer.status == 200 else None
        except Refused as error:
            await self._fail_upstream(answer.status)
            message = error.message if isinstance(error, UpstreamError) else f"the upstream's answer: {error.message}"
            raise UpstreamError(error.code if isinstance(error, UpstreamError) else "upstream_invalid", message) from None
        if answer.status != 200 or openai.is_error(value):
            assert self._entry is not None
            self._entry.close("upstream_error", upstream_status=answer.status, upstream_id=_upstream_id(answer))
            await self._entry.write()
            await self._reply(answer.status, self._head(answer, decoder.active), raw, verdict.action.word, verdict.degraded)
            return
        await self._whole(answer, raw, value, verdict, place, decoder.active)

    async def _whole(
        self, answer: Answer, raw: bytes, value: Any, asked: Verdict, place: Place, decoded: bool
    ) -> None:
        """An answer that is not streamed: all of it is judged before any of it goes out."""
        entry = self._entry
        assert entry is not None
        try:
            conversation = openai.read_answer(value)
        except UpstreamError:
            await self._fail_upstream(answer.status)
            raise
        verdict = await read(self._active, conversation, place, supplied=asked.supplied, names=asked.names)
        try:
            self._record(entry, verdict)
        except RecordTooLarge:
            raise LogError("the decision does not fit the log") from None
        usage = tokens(value.get("usage"))
        entry.close(
            "blocked" if verdict.blocked else "completed",
            upstream_status=answer.status,
            upstream_id=_upstream_id(answer),
            usage=usage,
        )
        await entry.write()
        if verdict.blocked is not None:
            raw = answers.blocked_answer(raw, value, self._message(verdict.blocked[1], place, entry.last))
        else:
            raw = edited(raw, verdict, value)
        action = max(asked.action, verdict.action)
        degraded = asked.degraded or verdict.degraded
        await self._reply(200, self._head(answer, decoded), raw, action.word, degraded)

    async def _stream(self, answer: Answer, verdict: Verdict, place: Place, request: Any) -> None:
        entry = self._entry
        assert entry is not None
        asked = "\n".join(segment.text for segment in verdict.conversation.segments)
        speech = OpenAISpeech(
            self._id, self._stand_in(verdict.conversation), include_usage=include_usage(request), asked=asked
        )
        try:
            decoder = upstream_decoder(answer.headers, 1 << 40)
        except UpstreamError:
            await self._fail_upstream(answer.status)
            raise
        head = [*self._head(answer, decoder.active), *self._marks(verdict.action.word, verdict.degraded)]
        await self._start(answer.status, head)

        async def out(data: bytes) -> None:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

        def message(rule: Fired, decision: str) -> str:
            return self._message(rule, place, decision)

        def noted(note: Note) -> None:
            if note.final:
                self._chat.metrics.decided(note.phase, note.outcome)

        carrier = Carrier(
            answer, decoder, speech, self._active, place, entry, verdict.names, verdict.supplied, out, message, noted,
        )
        await carrier.run()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    # ---- what we say ---------------------------------------------------------------------------------------------

    def _message(self, rule: Fired, place: Place, decision: str) -> str:
        return block_message(self._active.policy, rule, place.language, decision)

    async def _block(self, verdict: Verdict, request: Any) -> None:
        assert verdict.blocked is not None
        assert self._entry is not None
        phase, rule = verdict.blocked
        decision = next(f"{self._id}.{n}" for n, r in enumerate(verdict.rulings) if r.phase is phase)
        message = self._message(rule, self._entry.scope, decision)
        blocking = {f.rule for r in verdict.rulings if r.phase is phase for f in r.outcome.fired if is_block(f)}
        note = answers.Blocked(decision, phase.value, tuple(sorted(blocking)))
        config = self._chat.config
        if config.block_as == "completion":
            await self._block_kindly(verdict, request, message)
            return
        raw = answers.error_body(config.block_code, message, self._id, note)
        await self._reply(400, [JSON, (b"x-should-retry", b"false")], raw, "block", verdict.degraded)

    async def _block_kindly(self, verdict: Verdict, request: Any, message: str) -> None:
        """A block as a normal completion that says the policy's message."""
        stream = self._stand_in(verdict.conversation)
        if not verdict.conversation.stream:
            raw = answers.completion_body(stream.id, stream.created, stream.model, message, self._id)
            await self._reply(200, [JSON], raw, "block", verdict.degraded)
            return
        usage = b""
        if include_usage(request):
            usage = answers.usage_frame(stream, None)
        raw = answers.blocked_stream(stream, 0, message, [0], role=True, usage=usage)
        await self._reply(200, [(b"content-type", b"text/event-stream")], raw, "block", verdict.degraded)

    def _stand_in(self, conversation: Conversation) -> answers.Head:
        """What a stream or completion says of itself where the upstream has said nothing."""
        return answers.Head(f"chatcmpl-{self._id}", self._chat.now(), conversation.model or "unknown")

    def _head(self, answer: Answer, decoded: bool) -> Headers:
        """The upstream's headers as they go on: our names are ours, and its request id has a name of its own."""
        kept: Headers = []
        for name, value in answer.headers:
            lower = name.lower()
            if lower == b"x-request-id":
                kept.append((b"x-upstream-request-id", value))
            elif lower not in _OURS and not (lower == b"content-encoding" and decoded):
                kept.append((lower, value))
        return kept

    def _marks(self, action: str, degraded: bool) -> Headers:
        assert self._entry is not None
        marks = [
            (b"x-request-id", self._id.encode()),
            (b"x-moderation-decision", self._entry.last.encode()),
            (b"x-moderation-action", action.encode()),
        ]
        return [*marks, (b"x-moderation-degraded", b"true")] if degraded else marks

    async def _reply(self, status: int, headers: Headers, raw: bytes, action: str, degraded: bool) -> None:
        self._started = True
        await respond(self._send, status, [*headers, *self._marks(action, degraded)], raw)

    async def _start(self, status: int, headers: Headers) -> None:
        self._started = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _refuse(self, code: str, message: str) -> None:
        """Answer with an error of ours, where nothing has been said yet."""
        self._chat.metrics.refused(code)
        if self._started:
            return
        known = CODES[code]
        headers: Headers = [JSON, (b"x-request-id", self._id.encode())]
        if not known.retry:
            headers.append((b"x-should-retry", b"false"))
        await respond(self._send, known.status, headers, answers.error_body(code, message, self._id))


def include_usage(request: Any) -> bool:
    """Whether a stream's usage was asked for."""
    options = request.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def is_block(fired: Fired) -> bool:
    return fired.mode is Mode.ENFORCE and fired.action is Action.BLOCK


def _upstream_id(answer: Answer) -> str | None:
    value = header(answer.headers, b"x-request-id")
    return value.decode("latin-1") if value else None
