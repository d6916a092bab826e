"""The server: sockets, signals, and which part answers a request. The outermost boundary: no exception passes it.

Proxied paths go straight to flow.chat, the rest to the desk. Knows nothing of policies or of dialects but their paths.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import uvicorn

from moderation.config import MODERATED, Config
from moderation.connection import Bounds, Connection
from moderation.desk import ADMIN, PUBLIC, Asker, Desk, has_token, may_see, refusal
from moderation.errors import LogError, Refused, UpstreamError
from moderation.events import Say
from moderation.flow import saying
from moderation.flow.account import Account
from moderation.flow.admission import Admission, Admitted
from moderation.flow.chat import Chat
from moderation.flow.http import (
    ClientGone,
    Headers,
    Receive,
    Scope,
    Send,
    announced,
    header,
    read_body,
    respond,
    trace_id,
    turn_away,
    until_gone,
)
from moderation.metrics import Metrics
from moderation.oplog import place_of
from moderation.routes import Client, Route
from moderation.tracing import OFF, NoTracing, Step, Tracing
from moderation.upstream import Upstream, forwardable

ACCEPTS = 32
"""Connections that are taken in at once. libuv accepts one each time round the loop; when it is busy, all others would wait in
the kernel, where nobody sees how long. So it is given each listening socket as often as this."""
PROBES = frozenset({"/healthz", "/readyz", "/metrics", "/docs"})
JUDGING = frozenset({"/moderate", "/v1/moderations"})
_QUIET = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_CONTENT = frozenset({
    "chat", "completions", "embeddings", "responses", "conversations", "files", "batches", "audio", "images", "videos",
    "rerank", "reranks", "edits", "assistants", "threads", "fine_tuning", "uploads", "vector_stores", "evals",
    "realtime", "tokenize", "detokenize", "classify", "score", "pooling", "generate", "messages", "tasks",
    "services", "apps", "systemone", "inference",
})  # fmt: skip
"""Steps of paths that carry content, whatever the method: refused, but where the configuration lets them through by name."""


@dataclass(slots=True)
class Sidecar:
    """The ASGI application."""

    config: Config
    chat: Chat
    desk: Desk
    metrics: Metrics
    upstream: Callable[[Route], Upstream]
    new_id: Callable[[], str]
    say: Say
    admission: Admission
    tracing: Tracing = field(default_factory=NoTracing)
    verbose: bool = False
    """Whether requests for health, metrics and documents are told, too."""
    draining: bool = False
    _desk_app: Callable[[Scope, Receive, Send], object] | None = field(default=None)

    @property
    def in_flight(self) -> int:
        return self.admission.in_flight

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            # A WebSocket cannot be moderated here; refusing the handshake is the whole answer.
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return
        request_id, begun = self.new_id(), time.perf_counter()
        account = Account(OFF if scope["path"] in PROBES else self.tracing.begin(scope["method"], scope["headers"]))

        async def tell(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.body":
                account.sent += len(message.get("body", b""))
            else:
                account.status = message["status"]
            await send(message)

        try:
            await self._route(scope, receive, tell, request_id, account)
        except ClientGone:
            account.outcome = "cancelled"
        except Refused as error:
            if account.status:
                # The answer is cut, so that no client takes it for a whole one.
                account.outcome, account.code = "failed", error.code
                raise ConnectionError("the upstream broke off") from None
            unread = error.code == "overloaded"
            answer = partial(turn_away, receive, scope["headers"], self.config.max_body) if unread else respond
            await self._refuse(error, request_id, tell, account, answer)
        except LogError as error:
            await self._refuse(Refused("audit_unavailable", "the decision cannot be recorded"), request_id, tell, account)
            self.say("log_refused", request_id, why=str(error))
        except Exception as error:  # noqa: BLE001 - boundary: what is said must hold no content, so only kind and place are told
            self.say("internal_error", request_id, kind=type(error).__name__, place=place_of(error))
            started = account.status
            refused = Refused("internal_error", "the sidecar failed; nothing that was not read was passed on")
            await self._refuse(refused, request_id, tell, account)
            if started:
                # The answer is cut, so that no client takes it for a whole one.
                raise ConnectionError("answer cut after an internal error") from None
        finally:
            self._ended(account, request_id, time.perf_counter() - begun)

    async def _refuse(
        self, error: Refused, request_id: str, send: Send, account: Account,
        answer: Callable[[Send, int, Headers, bytes], Awaitable[None]] = respond,
    ) -> None:
        self.metrics.add("refused", error.code)
        failed = isinstance(error, UpstreamError) or error.code in ("audit_unavailable", "internal_error")
        account.outcome, account.code = "failed" if failed else "refused", error.code
        if not account.status:
            status, headers, body = refusal(error, request_id)
            await answer(send, status, headers, body)

    def _ended(self, account: Account, request_id: str, seconds: float) -> None:
        """Count the request and tell the operator of it."""
        account.end_trace(request_id)
        told = account.endpoint is not None or account.code is not None
        if told:
            self.metrics.ended(account.outcome, seconds, account.received, account.sent)
        if told or self.verbose:
            self.say("request", request_id, **account.fields(seconds))

    async def _route(self, scope: Scope, receive: Receive, send: Send, request_id: str, account: Account) -> None:
        path: str = scope["path"]
        authorization = _text(header(scope["headers"], b"authorization"))
        port = scope["server"][1] if scope.get("server") else self.config.port
        scope["request_id"], scope["account"] = request_id, account
        if path in ("/healthz", "/readyz"):
            await self._to_desk(scope, receive, send)
            return
        host = header(scope["headers"], b"host")
        if host is not None and not self.config.answers_for(host.decode("latin-1")):
            raise Refused("host_not_allowed", "host: expected a name that `allowed_hosts` lists")
        if path == "/metrics" or any(path == p or path.startswith(p + "/") for p in ADMIN):
            if not may_see(self.config, port, authorization):
                raise Refused("not_found", "there is no such path here")
            await self._to_desk(scope, receive, send)
            return
        if port == self.config.admin_port and port != self.config.port:
            raise Refused("not_found", "there is no such path on the admin port")
        client = self.config.client_for(authorization) if self.config.clients else None
        stranger = bool(self.config.clients) and client is None
        if stranger and not has_token(self.config, authorization):
            raise Refused("invalid_api_key", "the Authorization header holds no client key that is known here")
        account.client = client.name if client else None
        route, rest = self.config.route_for(path, account.client, self._port(port))
        account.route = route.name
        if stranger and rest not in PUBLIC:
            raise Refused("invalid_api_key", "the admin token is no client key: what is moderated for an app needs the app's")
        if self.draining:
            raise Refused("not_ready", "the sidecar is draining")
        length = announced(scope["headers"])
        too_long = length is not None and length > self.config.max_body  # is told as such, by those who read it
        admitted = self.admission.enter(0 if too_long else length)
        try:
            await self._serve(scope, receive, send, request_id, route, rest, client, authorization, account, admitted)
        finally:
            admitted.leave()

    def _port(self, port: int) -> int:
        """The configured port: with port 0 a free one was taken in its place."""
        return port if port in self.config.ports else self.config.port

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, route: Route, rest: str, client: Client | None,
        authorization: str | None, account: Account, admitted: Admitted,
    ) -> None:
        if rest in PUBLIC:
            account.endpoint = rest if rest in JUDGING else None
            admin = has_token(self.config, authorization) or (self.config.loopback and not self.config.clients)
            asker = Asker(route, client, request_id, admin, admitted, account, trace_id(scope["headers"]))
            inner = {**scope, "path": rest, "raw_path": rest.encode(), "asker": asker}
            await self._to_desk(inner, receive, send)
            return
        below = route.forward(rest)
        if below is None:
            raise Refused("not_found", "there is no such path here; the base is /v1")
        tail = _tail(below)
        if tail == MODERATED:
            if scope["method"] != "POST":
                raise Refused("method_not_allowed", f"{MODERATED} takes POST")
            active = self.desk.policies.active(route.policy)
            written = _written(scope, below)
            account.endpoint = MODERATED
            await self.chat.handle(
                scope, receive, send, request_id=request_id, route=route, client=client, path=written, active=active,
                account=account, admitted=admitted,
            )
            return
        if not self.config.passes(below) and _carries(tail, scope["method"], scope["headers"]):
            raise Refused("unmoderated_path", f"{_shown(tail)} carries content that this version does not moderate; "
                                              "the setting `passthrough` lets a path through by name")
        account.endpoint, account.upstream = "passed", route.upstream
        body = await read_body(receive, [], self.config.max_body, admitted.read)
        account.received = len(body)
        account.outcome = "cancelled"
        try:
            await until_gone(receive, self._pass(scope, body, send, request_id, route, _written(scope, below), account))
            account.outcome = "passed"
        except UpstreamError as error:
            account.outcome = "failed"
            self.metrics.add("upstream_errors", error.code)
            raise
        finally:
            self.metrics.add("requests", route.name, account.outcome)

    async def _pass(
        self, scope: Scope, body: bytes, send: Send, request_id: str, route: Route, path: str, account: Account
    ) -> None:
        """Pass a request and its answer on as they are."""
        query = scope.get("query_string", b"")
        keep = route.upstream_key is None and not self.config.clients
        headers = [(n, v) for n, v in forwardable(scope["headers"]) if keep or n.lower() != b"authorization"]
        if route.upstream_key is not None:
            headers.append((b"authorization", b"Bearer " + route.upstream_key.encode()))
        target = path + ("?" + query.decode("latin-1") if query else "")
        account.trace.open(Step.UPSTREAM)
        begun = time.perf_counter()
        answer = await self.upstream(route).send(scope["method"], target, account.trace.carried(headers), body or None)
        self.metrics.add("upstream_answers", f"{answer.status // 100}xx")
        account.answering(answer.status, time.perf_counter() - begun)
        try:
            out = [*saying.head(answer.headers, decoded=False), (b"x-request-id", request_id.encode())]
            await send({"type": "http.response.start", "status": answer.status, "headers": out})
            async for chunk in answer.chunks():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            answer.close()

    async def _to_desk(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._desk_app is None:
            self._desk_app = self.desk.app()
        await self._desk_app(scope, receive, send)  # type: ignore[misc]
        account: Account = scope["account"]
        if account.code is None:
            account.outcome = "answered"


def _tail(below: str) -> str:
    """The path under whichever base an origin serves it."""
    for base in ("/compatible-mode/v1", "/compatible-api/v1", "/api/v1", "/v1"):
        if below.startswith(base + "/"):
            return below[len(base):]
    return below


def _carries(tail: str, method: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request may carry content: by its path, by its method, or because it has a body."""
    if method not in _QUIET or any(n.lower() == b"transfer-encoding" or (n.lower() == b"content-length" and v.strip() != b"0")
                                   for n, v in headers):
        return True
    first, *more = tail.lower().strip("/").split("/")
    return first != "models" and not _CONTENT.isdisjoint((first, *more))


def _written(scope: Scope, below: str) -> str:
    """The path below the upstream's base as the client wrote it, without a second encoding."""
    path, raw = str(scope["path"]), (scope.get("raw_path") or b"").decode("latin-1")
    base = path[: len(path) - len(below)]
    if not raw.startswith(base):
        raise Refused("not_found", "the beginning of the path is percent-encoded; write it plainly")
    return raw[len(base):]


def _shown(path: str) -> str:
    """A path as an error may show it: only its first step, which is a name of the API or nothing of ours."""
    first = path.strip("/").split("/", 1)[0]
    return f"/{first}" if first in _CONTENT else "this path"


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


class Uvicorn(uvicorn.Server):
    """uvicorn without its own signal handling: it would raise the signal again at the end, and the exit code would tell of it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(slots=True)
class Ending:
    """How a server is told to end: `drain` ends it in peace, `cut` waits for nothing. `commanded`: a supervisor says which.

    Then signals only drain, however many come: who signals a whole group of processes sends one to the supervisor, too.
    """

    commanded: bool = False
    drain: Callable[[], None] | None = None
    cut: Callable[[], None] | None = None


def speaking(app: Sidecar, drain: float) -> uvicorn.Config:
    """How HTTP is spoken."""

    def refused(error: Refused) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        app.metrics.add("refused", error.code)
        return refusal(error, app.new_id())

    bounds = Bounds(app.config.head_timeout, app.config.body_timeout, refused)
    return uvicorn.Config(
        app, http=partial(Connection, bounds),  # type: ignore[arg-type]
        loop="none", ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, date_header=False, proxy_headers=False, timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(drain)),
    )  # fmt: skip


async def listen(
    app: Sidecar, sockets: list[socket.socket], *, drain: float, ready: Callable[[], None], reload: Callable[[], None],
    ending: Ending | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain: no new requests, streams finish or are cut after `drain` seconds."""
    server = Uvicorn(speaking(app, drain))
    loop = asyncio.get_running_loop()

    ending = ending or Ending()
    commanded = ending.commanded

    def calm() -> None:
        if not app.draining:
            app.say("stopping", in_flight=app.in_flight, drain=drain)
        app.draining = server.should_exit = True

    def cut() -> None:
        calm()
        server.force_exit = True

    def stop() -> None:
        (cut if server.should_exit and not commanded else calm)()

    ending.drain, ending.cut = calm, cut
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    doors = [*sockets, *(one.dup() for one in sockets for _ in range(ACCEPTS - 1))]
    serving = asyncio.create_task(server.serve(sockets=doors))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has a flag, no event
            await asyncio.sleep(0.005)
        if server.started:
            ready()
        await serving
        if server.force_exit:  # a second signal: nothing is waited for
            for task in tuple(server.server_state.tasks):
                task.cancel()
        # What was cut writes its last word to the log before that is closed.
        for _ in range(500):
            if not app.in_flight:
                break
            await asyncio.sleep(0.01)
    finally:
        # The log is closed after this: a further signal must not end the process in the middle of that.
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)


