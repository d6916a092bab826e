"""A whole sidecar in the test's own event loop, on a real socket, between a scripted upstream and a client that sees every byte."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from moderation.audit.disk import Disk
from moderation.audit.index import Index, Query, Row
from moderation.audit.replay import Replayed, replay
from moderation.audit.verify import verify
from moderation.audit.verify_report import Report
from moderation.audit.writer import Clock
from moderation.cli.serve import configuration
from moderation.detect.api import Detector
from moderation.detect.build import build
from moderation.flow.loading import FileLoader
from moderation.flow.replaying import Deciders
from moderation.house import House
from moderation.metrics import Metrics
from moderation.oplog import OperationalLog
from moderation.policy.model import Policy
from moderation.server import Uvicorn, speaking
from moderation.tracing import Tracing
from tests.fakes import FakeUpstream, Reply, Script, ask

POLICY = Path(__file__).parent / "cases" / "flow.yaml"


class Kitchen:
    """async with Kitchen(tmp_path, script, …) as kitchen: reply = await kitchen.chat({...})"""

    def __init__(
        self,
        folder: Path,
        *scripts: Script | Callable[..., Script],
        policy: Path | None = POLICY,
        make: Callable[[Policy], Mapping[str, Detector]] = build,
        origin: bool = False,
        log: Callable[[House], None] = lambda house: None,
        disk: Disk | None = None,
        clock: Clock | None = None,
        tracing: Tracing | None = None,
        check: bool = True,
        **settings: str,
    ) -> None:
        self.upstream = FakeUpstream(*scripts)
        self.said: list[str] = []
        """Lines of the operational log."""
        self._folder = folder
        self._policy = policy
        self._make = make
        self._origin = origin
        self._settings = settings
        self._prepare = log
        self._disk, self._clock = disk, clock
        self._tracing = tracing
        self._check = check
        """Whether the log must be whole at the end, and every decision in it be decided alike again."""
        self.metrics = Metrics()

    async def __aenter__(self) -> Self:
        await self.upstream.__aenter__()
        base = self.upstream.origin if self._origin else self.upstream.base
        flags = {"upstream": base, "data": str(self.data), "port": "0", **self._settings}
        if self._policy is not None:
            flags["policy"] = str(self._policy)
        config = configuration(flags)
        say = OperationalLog(self.said.append, "debug")
        loader = FileLoader(config.cache, self.metrics, self._make, tested=self._make is build, say=say)
        self.house = await House.open(config, self.metrics, loader, say, self._disk, self._tracing, self._clock)
        self._prepare(self.house)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        self._server = Uvicorn(speaking(self.house.sidecar, drain=1))
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has a flag, no event
            await asyncio.sleep(0.002)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.should_exit = True
        await self._serving
        await self.house.close()
        await self.upstream.__aexit__(kind, error, trace)
        if self._check and error is None:
            report = self.verify()
            assert report.exit_code == 0, report.faults
            replayed = self.replayed()
            assert (replayed.different, dict(replayed.not_replayable)) == ([], {})

    @property
    def data(self) -> Path:
        return self._folder / "data"

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request; the answer's head is there, its body is read as the test likes."""
        fields = {"content-type": "application/json", "connection": "close", **(headers or {})}
        return await ask(self.port, method, path, body, list(fields.items()))

    async def ask(self, method: str, path: str, value: object = None, headers: Mapping[str, str] | None = None) -> Reply:
        """The same with a JSON body, and the whole answer."""
        raw = json.dumps(value, ensure_ascii=False).encode() if value is not None else b""
        reply = await self.send(method, path, raw, headers)
        await reply.read_all()
        return reply

    async def chat(self, messages: list[dict[str, Any]] | str, headers: Mapping[str, str] | None = None, **more: Any) -> Reply:
        """One chat completion, whole."""
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return await self.ask("POST", "/v1/chat/completions", {"model": "qwen3.5-plus", "messages": messages, **more}, headers)

    def rows(self, request_id: str | None = None) -> list[Row]:
        """What the log holds, oldest first."""
        with Index(self.data) as index:
            index.catch_up()
            return index.find(Query(request=request_id))

    def leaves(self, request_id: str) -> list[dict[str, object]]:
        with Index(self.data) as index:
            index.catch_up()
            return index.leaves(request_id)

    def verify(self) -> Report:
        return verify(self.data)

    def replayed(self) -> Replayed:
        """Every decision in the log, decided again with the policy as it was kept."""
        return replay(self.data, Deciders(self.data))


def answer(content: object = "Hello!", finish: str = "stop", **message: object) -> dict[str, Any]:
    """A whole answer of Qwen's compatible mode."""
    return {
        "choices": [{"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish, "index": 0,
                     "logprobs": None}],
        "object": "chat.completion", "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
        "created": 1767225600, "system_fingerprint": None, "model": "qwen3.5-plus", "id": "chatcmpl-1",
    }  # fmt: skip


def chunk(delta: Mapping[str, object] | None, finish: str | None = None, index: int = 0, **more: object) -> dict[str, Any]:
    """One chunk of a stream."""
    choices = [] if delta is None else [{"delta": dict(delta), "index": index, "logprobs": None, "finish_reason": finish}]
    return {"choices": choices, "object": "chat.completion.chunk", "usage": None, "created": 1767225600,
            "system_fingerprint": None, "model": "qwen3.5-plus", "id": "chatcmpl-1", **more}


def frames(text: bytes) -> list[dict[str, Any]]:
    """The JSON events of a stream, and `{}` for [DONE]."""
    found = []
    for line in re.split(rb"\r\n|\n|\r", text):
        if line.startswith(b"data: "):
            found.append({} if line[6:] == b"[DONE]" else json.loads(line[6:]))
    return found


def said(text: bytes, field: str = "content", index: int = 0) -> str:
    """The text of one tape, as a client puts it together."""
    parts = []
    for frame in frames(text):
        for choice in frame.get("choices", ()):
            if choice["index"] == index:
                parts.append(choice["delta"].get(field) or "")
    return "".join(parts)
