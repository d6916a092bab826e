"""The desk: what the sidecar answers itself. Health, metrics, documents, /moderate, /v1/moderations.

Knows no proxying. Paths for operators and auditors are served on the main port only when that is bound to loopback.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from moderation.audit import record
from moderation.config import Config
from moderation.crew import Crew
from moderation.errors import CODES, LogError, Refused
from moderation.flow.account import Account
from moderation.flow.admission import Admitted
from moderation.flow.http import advice, read_body
from moderation.flow.ledger import Entry, Ledger
from moderation.flow.policies import Policies
from moderation.flow.reading import Active, Verdict, newest_user_text, read, scoped
from moderation.flow.recording import judged
from moderation.flow.showing import result, show
from moderation.language import language_of
from moderation.metrics import CONTENT_TYPE, Metrics, told
from moderation.routes import Client, Route
from moderation.settings import NAME, Unfit
from moderation.text import Conversation, Phase, Scope
from moderation.tracing import Step
from moderation.wire.answers import error_body
from moderation.wire.body import parse
from moderation.wire.moderations import moderations_json, read_moderations
from moderation.wire.verdicts import read_moderate

PUBLIC = frozenset({"/healthz", "/readyz", "/moderate", "/v1/moderations"})
ADMIN = ("/metrics", "/docs", "/audit/v1")
_GUARD = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'self'",
    "x-content-type-options": "nosniff",
}
"""Of every page: nothing comes from elsewhere, not even by mistake."""
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?")
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".md": "text/markdown; charset=utf-8",
          ".svg": "image/svg+xml", ".js": "text/javascript; charset=utf-8", ".json": "application/json"}


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, as the configuration says; put into the ASGI scope by the server."""

    route: Route
    client: Client | None
    request_id: str
    admin: bool
    """May set tenant, route and region: by the admin token, or on loopback without client keys."""
    admitted: Admitted
    account: Account = field(default_factory=Account)
    trace: str | None = None
    """The W3C trace id that the request names."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What the desk needs; one for a process."""

    config: Config
    policies: Policies
    ledger: Ledger
    metrics: Metrics
    latched: Callable[[], LogError | None]
    draining: Callable[[], bool]
    pages: Path
    crew: Crew

    def app(self) -> FastAPI:
        """The FastAPI application. Its own documents are off: they would come from a CDN."""
        app = FastAPI(title="moderation", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
        app.add_api_route("/healthz", self._health, methods=["GET", "HEAD"])
        app.add_api_route("/readyz", self._ready, methods=["GET", "HEAD"])
        app.add_api_route("/metrics", self._metrics, methods=["GET", "HEAD"])
        app.add_api_route("/docs", self._index, methods=["GET", "HEAD"])
        app.add_api_route("/docs/{name:path}", self._page, methods=["GET", "HEAD"])
        app.add_api_route("/moderate", self._moderate, methods=["POST"])
        app.add_api_route("/v1/moderations", self._moderations, methods=["POST"])
        for kind in (Refused, LogError, HTTPException, Exception):
            app.add_exception_handler(kind, self._refused)
        return app

    async def _refused(self, request: Request, error: Exception) -> Response:
        """Whatever went wrong, in the shape that SDKs expect. What nobody foresaw goes on to the server, which tells of it."""
        allow: dict[str, str] = {}
        match error:
            case Refused():
                refused = error
            case LogError():
                refused = Refused("audit_unavailable", CODES["audit_unavailable"].meaning)
            case HTTPException(status_code=405):
                allow = dict(error.headers or {})
                refused = Refused("method_not_allowed", f"this path takes {allow.get('Allow', 'another method')}")
            case HTTPException():
                refused = Refused("not_found", "there is no such path here; see /docs")
            case _:
                refused = Refused("internal_error", CODES["internal_error"].meaning)
        if refused.code != "internal_error":  # the server hears of that too, and counts it
            self.metrics.refused(refused.code)
        account: Account = request.scope["account"]
        account.code = refused.code
        status, headers, body = refusal(refused, request.scope["request_id"])
        return Response(body, status, headers={**{name.decode(): value.decode() for name, value in headers}, **allow})

    # ---- watching ------------------------------------------------------------------------------------------------

    async def _health(self) -> Response:
        return _json({"status": "ok"})

    async def _ready(self) -> Response:
        state, ok = self.readiness()
        return _json(state, 200 if ok else 503)

    def readiness(self) -> tuple[dict[str, Any], bool]:
        """Ready only when policy, detectors and log are."""
        latched = self.latched()
        every = self.policies.every
        faults = self.policies.faults
        missing = sorted({d for active in every.values() for d in active.policy.detectors if not active.runner.has(d)})
        instead = {name: told for active in every.values() for name, told in active.instead.items()}
        parts: dict[str, Any] = {
            "policy": {
                "status": "ready" if every else "missing",
                "active": [
                    {"id": a.policy.ref.id, "hash": a.policy.ref.hash, "signed": False, "generation": a.generation}
                    for a in every.values()
                ],
                "changing": self.policies.changing,
                "rejected": faults,
            },
            "detectors": {
                "status": "missing" if missing else "stand-in" if instead else "ready",
                "missing": missing,
                **({"stand_ins": instead} if instead else {}),
            },
            "log": {"status": "failed" if latched else "ready", "error": str(latched) if latched else None},
        }
        ok = bool(every) and not missing and latched is None and not self.draining()
        status = "draining" if self.draining() else "ready" if ok else "not ready"
        return {"status": status, "workers": dict(self.crew.counts), **parts}, ok

    async def _metrics(self) -> Response:
        own = self.metrics.snapshot()
        return Response(told((own, *await self.crew.others(own))), media_type=CONTENT_TYPE)

    async def _index(self, request: Request) -> Response:
        return await self._page(request)

    async def _page(self, request: Request) -> Response:
        """A file of the package; nothing outside its folder, because only what the folder lists has a name here."""
        files = {path.relative_to(self.pages).as_posix(): path for path in self.pages.rglob("*") if path.suffix in _TYPES}
        path = files.get(request.path_params.get("name") or "index.html")
        if path is None:
            raise Refused("not_found", "there is no such page; see /docs")
        return Response(path.read_bytes(), media_type=_TYPES[path.suffix], headers=_GUARD)

    # ---- judging -------------------------------------------------------------------------------------------------

    async def _moderate(self, request: Request) -> Response:
        asker: Asker = request.scope["asker"]
        raw = await read_body(request.receive, request.scope["headers"], self.config.max_body, asker.admitted.read)
        await asker.admitted.slot()
        question = read_moderate(parse(raw))
        context = question.context
        if {"tenant", "route", "region"} & context.keys() and not asker.admin:
            raise Refused("invalid_body", "/context: tenant, route and region come from the configuration; "
                                          "only the admin token may set them")
        _check(context)
        asker = self._simulated(asker, context)
        active, place = self._place(asker, question.conversation, context)
        verdict, entry = await self._judge(
            asker, active, place, question.conversation, "/moderate", simulated=bool(context)
        )
        shown = show(active, verdict, entry.last, question.phase, place.language)
        return _json(shown, headers=_marks(asker, entry, [verdict]))

    async def _moderations(self, request: Request) -> Response:
        asker: Asker = request.scope["asker"]
        raw = await read_body(request.receive, request.scope["headers"], self.config.max_body, asker.admitted.read)
        await asker.admitted.slot()
        value = parse(raw)
        results = []
        verdicts: list[Verdict] = []
        entry: Entry | None = None
        for conversation in read_moderations(value):
            active, place = self._place(asker, conversation, {})
            verdict, entry = await self._judge(asker, active, place, conversation, "/v1/moderations", entry=entry)
            verdicts.append(verdict)
            shown = show(active, verdict, entry.last, Phase.INPUT, place.language)
            types = tuple(dict.fromkeys(["text"] * bool(conversation.segments) + ["image"] * bool(conversation.media)))
            results.append(result(active, verdict, shown, types or ("text",)))
        assert entry is not None
        entry.close("completed")
        await entry.write()
        model = value.get("model") if isinstance(value.get("model"), str) else "moderation"
        body = moderations_json(f"modr-{asker.request_id}", model, results)
        return _json(body, headers=_marks(asker, entry, verdicts))

    def _simulated(self, asker: Asker, context: Mapping[str, str]) -> Asker:
        """Who would ask if the route of the context were taken: a route of the configuration brings its policy and its scope."""
        named = next((route for route in self.config.routes if route.name == context.get("route")), None)
        return asker if named is None else replace(asker, route=named)

    def _place(self, asker: Asker, conversation: Conversation, context: Mapping[str, str]) -> tuple[Active, Scope]:
        active = self.policies.active(asker.route.policy)
        tenant = context.get("tenant") or self.config.tenant_of(asker.route, asker.client)
        place = Scope(tenant, context.get("route") or asker.route.name, context.get("region") or asker.route.region)
        language = context.get("language") or language_of(newest_user_text(conversation))
        return active, scoped(place, active, context.get("model") or conversation.model, language)

    async def _judge(
        self,
        asker: Asker,
        active: Active,
        place: Scope,
        conversation: Conversation,
        endpoint: str,
        *,
        simulated: bool = False,
        entry: Entry | None = None,
    ) -> tuple[Verdict, Entry]:
        """Judge and record; with an `entry`, as further decisions of the same request, which the caller closes."""
        single = entry is None
        made = entry if entry is not None else self._open(asker, active, place, conversation, endpoint, simulated)
        asker.account.trace.open(Step.JUDGE_INPUT)
        verdict = await judged(made, lambda too_large: read(active, conversation, place, too_large=too_large))
        asker.account.trace.close(Step.JUDGE_INPUT)
        if single and endpoint == "/moderate":
            made.close("blocked" if verdict.blocked else "completed")
        await made.write()
        for ruling in verdict.rulings:
            self.metrics.decided(ruling.phase, ruling.outcome)
            asker.account.decided(ruling.outcome)
        return verdict, made

    def _open(
        self, asker: Asker, active: Active, place: Scope, conversation: Conversation, endpoint: str, simulated: bool
    ) -> Entry:
        listed = record.Names(self.ledger.key, active.models, active.tools)
        strict = asker.route.durability == "strict"
        entry = self.ledger.entry(asker.request_id, place, active.policy.ref, strict=strict, listed=listed, simulated=simulated,
                                  trace=asker.trace)
        client = asker.client.name if asker.client else None
        entry.open(endpoint=endpoint, client=client, user=None, model=conversation.model, stream=False)
        return entry


def _check(context: Mapping[str, str]) -> None:
    """A context goes into the log as it is, so it holds names and nothing that could be content."""
    for key in ("tenant", "route", "region"):
        if key in context:
            try:
                NAME.read(context[key])
            except Unfit as unfit:
                raise Refused("invalid_body", f"/context/{key}: expected {unfit}") from None
    if "language" in context and not _LANGUAGE.fullmatch(context["language"]):
        raise Refused("invalid_body", "/context/language: expected a code like zh, en or zh-Hant")


def may_see(config: Config, port: int, authorization: str | None) -> bool:
    """Whether a request may see what is for operators and auditors: on loopback's main port, or with the admin token."""
    if config.loopback and port != config.admin_port:
        return True
    return port == config.admin_port and has_token(config, authorization)


def has_token(config: Config, authorization: str | None) -> bool:
    """Whether the Authorization header holds the admin token."""
    scheme, _, token = (authorization or "").partition(" ")
    wanted = config.admin_token
    return wanted is not None and scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), wanted.encode())


def refusal(error: Refused, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """An error of ours as status, headers and body."""
    known = CODES[error.code]
    headers = [(b"content-type", b"application/json"), (b"x-request-id", request_id.encode()), *advice(known)]
    return known.status, headers, error_body(error.code, error.message, request_id)


def _marks(asker: Asker, entry: Entry, verdicts: Sequence[Verdict]) -> dict[str, str]:
    """The headers of a moderated answer; of several verdicts the most severe counts."""
    marks = {
        "x-request-id": asker.request_id,
        "x-moderation-decision": entry.last,
        "x-moderation-action": max(verdict.action for verdict in verdicts).word,
    }
    return {**marks, "x-moderation-degraded": "true"} if any(v.degraded for v in verdicts) else marks


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    raw = json.dumps(value, ensure_ascii=False).encode()
    return Response(raw, status, media_type="application/json", headers=dict(headers or {}))
