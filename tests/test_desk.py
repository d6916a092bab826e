"""What the sidecar answers itself: health, metrics, documents, /moderate, /v1/moderations; and who may ask for what."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from moderation.audit.disk import Disk
from moderation.audit.store import Log
from moderation.audit.writer import Limits
from moderation.errors import LogError
from moderation.wire.moderations import CATEGORIES
from tests.fakes import FakeUpstream, json_script
from tests.kitchen import POLICY, Kitchen, answer

ID = "11010519491231002X"
TOKEN = "admin-token-0123456789"
AT_ADMIN = {"authorization": f"Bearer {TOKEN}"}


def run(test: Any) -> None:
    asyncio.run(test)


@dataclass
class Heard:
    """What an ASGI application answered."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def call(kitchen: Kitchen, method: str, path: str, value: object = None, headers: Mapping[str, str] | None = None,
               port: int | None = None) -> Heard:
    """A request as it comes in by any of the configured ports, of which a kitchen opens one alone."""
    heard = Heard()
    raw = json.dumps(value).encode() if value is not None else b""
    given = [{"type": "http.request", "body": raw, "more_body": False}]

    async def receive() -> Any:
        return given.pop(0) if given else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            heard.status = message["status"]
            heard.headers = {name.decode().lower(): text.decode() for name, text in message["headers"]}
        else:
            heard.body += message.get("body", b"")

    scope = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "scheme": "http", "headers": [(n.encode(), v.encode()) for n, v in (headers or {}).items()],
        "server": ("127.0.0.1", kitchen.port if port is None else port), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await kitchen.house.sidecar(scope, receive, send)
    return heard


def settings(folder: Path, text: str) -> str:
    """A moderation.yaml."""
    folder.mkdir(exist_ok=True)
    path = folder / "moderation.yaml"
    path.write_text(text)
    return str(path)


def sha(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


# ---- watching --------------------------------------------------------------------------------------------------------


def test_health_and_readiness(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            assert (await kitchen.ask("GET", "/healthz")).json == {"status": "ok"}
            ready = await kitchen.ask("GET", "/readyz")
            ref = kitchen.house.policies.active(str(POLICY)).policy.ref
            assert (ready.status, ready.json) == (200, {
                "status": "ready",
                "workers": {"configured": 1, "ready": 1},
                "policy": {"status": "ready", "active": [{"id": "flow", "hash": ref.hash, "signed": False, "generation": 1}],
                           "changing": [], "rejected": {}},
                "detectors": {"status": "ready", "missing": []},
                "log": {"status": "ready", "error": None},
            })  # fmt: skip
            kitchen.house.sidecar.draining = True
            ready = await kitchen.ask("GET", "/readyz")
            assert (ready.status, ready.json["status"]) == (503, "draining")
            assert (await kitchen.ask("GET", "/healthz")).status == 200
            refused = await kitchen.chat("hi")
            assert (refused.status, refused.json["error"]["code"]) == (503, "not_ready")
            assert refused.header("x-should-retry") is None

    run(go())


def test_a_failed_log_shows(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            log = kitchen.house.log
            log.latched = LogError(f"{log.folder}: No space left on device")
            ready = await kitchen.ask("GET", "/readyz")
            assert (ready.status, ready.json["status"], ready.json["log"]["status"]) == (503, "not ready", "failed")
            assert "No space left" in ready.json["log"]["error"]
            assert b"moderation_log_failed 1.0" in (await kitchen.ask("GET", "/metrics")).body
            log.latched = None
            assert (await kitchen.ask("GET", "/readyz")).status == 200
            assert b"moderation_log_failed 0.0" in (await kitchen.ask("GET", "/metrics")).body

    run(go())


def test_a_detector_that_is_not_there_is_told(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, make=lambda policy: {}, check=False) as kitchen:
            ready = await kitchen.ask("GET", "/readyz")
            assert ready.status == 503
            assert ready.json["detectors"] == {"status": "missing", "missing": ["odd_terms", "pii", "weapons_terms"]}

    run(go())


def test_a_rejected_policy_is_shown(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY.read_text())

    async def go() -> None:
        async with Kitchen(tmp_path, policy=policy) as kitchen:
            policy.write_text(POLICY.read_text().replace("then: block", "then: blok"))
            await kitchen.house.policies.reload()
            ready = await kitchen.ask("GET", "/readyz")
            assert ready.status == 200  # the old one still decides
            (line,) = ready.json["policy"]["rejected"].values()
            assert re.match(rf"{re.escape(str(policy))}:\d+:\d+ error QP\d+ .*Did you mean 'block'\?", line)

    run(go())


def test_metrics_count(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            await kitchen.chat("hi")
            await kitchen.chat("a pipe bomb")
            await kitchen.ask("POST", "/moderate", {"text": "a pipe bomb"})
            text = (await kitchen.ask("GET", "/metrics")).body.decode()
            for line in (
                'moderation_requests_total{outcome="answered",route="default"} 1.0',
                'moderation_requests_total{outcome="blocked",route="default"} 1.0',
                'moderation_decisions_total{action="block",phase="input"} 2.0',
                'moderation_rules_total{action="block",mode="enforce",phase="input",rule="weapons"} 2.0',
                'moderation_log_leaves_total{leaf="decision"} 4.0',
                'moderation_log_leaves_total{leaf="log_open"} 1.0',
                'moderation_log_leaves_total{leaf="policy_activate"} 1.0',
                "moderation_in_flight 0.0",
            ):
                assert line in text.split("\n")
            for pattern in (r"moderation_log_disk_free_bytes [1-9]", r"moderation_log_checkpoint_timestamp_seconds [1-9]",
                            r'moderation_build_info\{version="[0-9.]+"\} 1.0', r"moderation_ready 1.0", r"process_open_fds [1-9]",
                            r'moderation_policy_activated_timestamp_seconds\{policy="flow"\} [1-9]',
                            r'moderation_body_bytes_total\{direction="sent"\} [1-9]'):
                assert re.search(f"(?m)^{pattern}", text), pattern
            assert re.search(r'moderation_policy_active\{hash="[0-9a-f]{64}",policy="flow"\} 1.0', text)
            assert (await kitchen.ask("HEAD", "/metrics")).status == 200

    run(go())


# ---- who may see what ------------------------------------------------------------------------------------------------

PRIVATE = ["/metrics", "/docs", "/docs/index.html", "/audit/v1/decisions"]


@pytest.mark.parametrize("path", PRIVATE)
def test_off_loopback_the_private_paths_are_on_the_admin_port_with_its_token_alone(tmp_path: Path, path: str) -> None:
    async def go() -> None:
        there = 404 if path.startswith("/audit") else 200  # what is not built yet answers 404 to everyone
        async with Kitchen(tmp_path, host="0.0.0.0", admin_port="9901", admin_token=TOKEN) as kitchen:
            assert (await call(kitchen, "GET", path)).status == 404
            assert (await call(kitchen, "GET", path, headers=AT_ADMIN)).status == 404
            assert (await call(kitchen, "GET", path, port=9901)).status == 404
            assert (await call(kitchen, "GET", path, headers={"authorization": f"Bearer {TOKEN}x"}, port=9901)).status == 404
            assert (await call(kitchen, "GET", path, headers={"authorization": f"Basic {TOKEN}"}, port=9901)).status == 404
            assert (await call(kitchen, "GET", path, headers=AT_ADMIN, port=9901)).status == there
        async with Kitchen(tmp_path / "none", host="0.0.0.0") as kitchen:
            assert (await call(kitchen, "GET", path)).status == 404
        async with Kitchen(tmp_path / "loop") as kitchen:
            assert (await call(kitchen, "GET", path)).status == there

    run(go())


def test_the_admin_port_moderates_nothing(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), host="0.0.0.0", admin_port="9901", admin_token=TOKEN) as kitchen:
            body = {"messages": [{"role": "user", "content": "hi"}]}
            for path in ("/v1/chat/completions", "/moderate", "/v1/models"):
                heard = await call(kitchen, "POST", path, body, headers=AT_ADMIN, port=9901)
                assert (heard.status, heard.json["error"]["code"]) == (404, "not_found")
            assert (await call(kitchen, "GET", "/healthz", port=9901)).status == 200
            assert kitchen.upstream.received == []

    run(go())


def test_the_pages_come_from_the_package(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            seen: set[str] = set()
            todo = ["/docs"]
            while todo:
                path = todo.pop()
                seen.add(path)
                page = await kitchen.ask("GET", path)
                assert page.status == 200, path
                assert "default-src 'none'" in (page.header("content-security-policy") or "")
                if (page.header("content-type") or "").startswith("text/html"):
                    text = page.body.decode()
                    linked = re.findall(r'(?:src|href)\s*=\s*"([^"]*)"', text)
                    assert linked
                    for link in linked:
                        assert not re.match(r"(?i)(https?:)?//", link), f"{path} loads or leads to {link}"
                        if link != "/docs/" and not link.startswith("#"):
                            todo += [f"/docs/{link}"] if f"/docs/{link}" not in seen else []
                else:
                    assert b"http" not in page.body
            assert {"/docs", "/docs/style.css", "/docs/settings.html", "/docs/codes.html", "/docs/metrics.html"} <= seen
            assert (await kitchen.ask("GET", "/docs/")).body == (await kitchen.ask("GET", "/docs/index.html")).body

    run(go())


@pytest.mark.parametrize("path", [
    "/docs/../desk.py", "/docs/..%2fdesk.py", "/docs/%2e%2e/desk.py", "/docs//etc/passwd", "/docs/%2fetc%2fpasswd", "/docs/..\\desk.py",
    "/docs/%00", "/docs/index.html%00", "/docs/" + "a" * 5000, "/docs/./index.html", "/docs/__init__.py", "/docs/openapi.json",
])  # fmt: skip
def test_nothing_else_is_a_page(tmp_path: Path, path: str) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("GET", path)
            assert (reply.status, reply.json["error"]["code"]) == (404, "not_found")

    run(go())


# ---- errors ----------------------------------------------------------------------------------------------------------

ERRORS = [
    ("a method that health does not take", "POST", "/healthz", b"", 405, "method_not_allowed"),
    ("a method that metrics do not take", "DELETE", "/metrics", b"", 405, "method_not_allowed"),
    ("GET /moderate", "GET", "/moderate", b"", 405, "method_not_allowed"),
    ("GET /v1/moderations", "GET", "/v1/moderations", b"", 405, "method_not_allowed"),
    ("GET /v1/chat/completions", "GET", "/v1/chat/completions", b"", 405, "method_not_allowed"),
    ("no such page", "GET", "/docs/none.html", b"", 404, "not_found"),
    ("an audit path that is not built", "GET", "/audit/v1/none", b"", 404, "not_found"),
    ("a slash too many", "POST", "/moderate/", b"{}", 404, "not_found"),
    ("FastAPI's own documents", "GET", "/openapi.json", b"", 404, "not_found"),
    ("elsewhere", "GET", "/favicon.ico", b"", 404, "not_found"),
    ("an empty body", "POST", "/moderate", b"", 400, "invalid_json"),
    ("no JSON", "POST", "/moderate", b"{text", 400, "invalid_json"),
    ("a list", "POST", "/moderate", b"[]", 400, "invalid_body"),
    ("neither text nor messages", "POST", "/moderate", b"{}", 400, "invalid_body"),
    ("both", "POST", "/moderate", b'{"text": "a", "messages": []}', 400, "invalid_body"),
    ("no string", "POST", "/moderate", b'{"text": 1}', 400, "invalid_body"),
    ("no phase", "POST", "/moderate", b'{"text": "a", "phase": "inptu"}', 400, "invalid_body"),
    ("no context", "POST", "/moderate", b'{"text": "a", "context": {"tenent": "x"}}', 400, "invalid_body"),
    ("a context that is no name", "POST", "/moderate", b'{"text": "a", "context": {"tenant": "a b"}}', 400, "invalid_body"),
    ("a context that is no language", "POST", "/moderate", b'{"text": "a", "context": {"language": "my words"}}', 400, "invalid_body"),
    ("a duplicate key", "POST", "/moderate", b'{"text": "a", "text": "b"}', 400, "invalid_json"),
    ("no UTF-8", "POST", "/moderate", b'{"text": "\xff"}', 400, "invalid_json"),
    ("too deep", "POST", "/moderate", b'{"text":' + b"[" * 200 + b"]" * 200 + b"}", 400, "nesting_too_deep"),
    ("too large", "POST", "/moderate", b'{"text": "' + b"x" * 70_000 + b'"}', 413, "body_too_large"),
    ("no input", "POST", "/v1/moderations", b"{}", 400, "invalid_body"),
    ("a list of nothing", "POST", "/v1/moderations", b'{"input": []}', 400, "invalid_body"),
    ("a number", "POST", "/v1/moderations", b'{"input": 1}', 400, "invalid_body"),
    ("strings and parts", "POST", "/v1/moderations", b'{"input": ["a", 1]}', 400, "invalid_body"),
]


def test_every_error_has_the_shape_that_sdks_expect(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, max_body="64KiB") as kitchen:
            for note, method, path, body, status, code in ERRORS:
                reply = await kitchen.send(method, path, body)
                await reply.read_all()
                assert (reply.status, reply.json["error"]["code"]) == (status, code), (note, reply.body)
                assert set(reply.json["error"]) == {"message", "type", "param", "code"}, note
                assert reply.json["error"]["type"] == "invalid_request_error", note
                assert reply.json["request_id"] == reply.header("x-request-id"), note
                assert re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{26}", reply.json["request_id"]), note
                assert reply.header("x-should-retry") == "false", note
                assert reply.header("x-moderation-decision") is None, note
                assert reply.header("content-type") == "application/json", note
            assert kitchen.rows() == []
            allowed = await kitchen.ask("GET", "/moderate")
            assert allowed.header("allow") == "POST"

    run(go())


def test_what_nobody_foresaw_is_told_without_content(tmp_path: Path) -> None:
    class Broken:
        latched = None

        async def append_all(self, bodies: object, *, strict: bool) -> object:
            raise ZeroDivisionError(f"with a secret: {bodies}")

    def prepare(house: Any) -> None:
        object.__setattr__(house.sidecar.desk.ledger, "log", Broken())

    async def go() -> None:
        async with Kitchen(tmp_path, log=prepare) as kitchen:
            for path, body in (("/moderate", {"text": "hush"}), ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hush"}]})):
                reply = await kitchen.ask("POST", path, body)
                assert (reply.status, reply.json["error"]["code"]) == (500, "internal_error")
                assert reply.json["request_id"] == reply.header("x-request-id")
                assert b"hush" not in reply.body
                assert b"secret" not in reply.body
                said = [line for line in kitchen.said if (reply.header("x-request-id") or "") in line]
                told = [json.loads(line) for line in said]
                assert [one["event"] for one in told] == ["internal_error", "request"]
                assert re.search(r"internal error: ZeroDivisionError at .*test_desk.py:\d+$", told[0]["message"])
                assert (told[1]["status"], told[1]["outcome"], told[1]["code"]) == (500, "failed", "internal_error")
            assert 'code="internal_error"} 2.0' in (await kitchen.ask("GET", "/metrics")).body.decode()

    run(go())


# ---- /moderate -------------------------------------------------------------------------------------------------------


def test_a_verdict_has_the_shape_that_is_promised(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/moderate", {"phase": "input", "text": f"我的身份证号是{ID}，写信到a@example.com"})
            request_id = reply.header("x-request-id")
            ref = kitchen.house.policies.active(str(POLICY)).policy.ref
            assert reply.status == 200
            assert reply.json == {
                "decision_id": f"{request_id}.0", "phase": "input", "action": "redact", "would": "redact", "degraded": False,
                "rules": [
                    {"id": "contacts", "action": "pseudonymise", "mode": "enforce", "severity": "medium"},
                    {"id": "numbers", "action": "redact", "mode": "enforce", "severity": "medium"},
                ],
                "findings": [
                    {"detector": "pii", "category": "personal_data", "entity": "CN_ID_CARD", "name": "cn_id_card", "level": "high",
                     "score": 1.0, "segment": 0, "start": 7, "end": 25, "rules": ["numbers"]},
                    {"detector": "pii", "category": "personal_data", "entity": "EMAIL_ADDRESS", "name": "email", "level": "high",
                     "score": 1.0, "segment": 0, "start": 29, "end": 42, "rules": ["contacts"]},
                ],
                "unknown": [],
                "segments": [{"channel": "user", "turn": "new", "path": "/text",
                              "text": "我的身份证号是[removed: cn_id_card]，写信到<EMAIL_ADDRESS_1>"}],
                "message": None,
                "policy": {"id": "flow", "hash": ref.hash},
            }  # fmt: skip
            assert reply.header("x-moderation-decision") == f"{request_id}.0"
            assert reply.header("x-moderation-action") == "redact"
            leaves = kitchen.leaves(request_id or "")
            assert [leaf["kind"] for leaf in leaves] == ["open", "decision", "close"]
            assert (leaves[0]["endpoint"], leaves[1]["simulated"], leaves[2]["outcome"]) == ("/moderate", False, "completed")
            assert ID not in json.dumps(leaves)

    run(go())


def test_a_block_says_the_message_and_gives_nothing_on(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/moderate", {"text": "教我炸弹制作"})
            request_id = reply.header("x-request-id")
            assert reply.status == 200
            assert (reply.json["action"], reply.json["segments"]) == ("block", [])
            assert reply.json["message"] == f"我们不谈这个（编号 {request_id}.0）。"
            assert kitchen.leaves(request_id or "")[-1]["outcome"] == "blocked"

    run(go())


PHASES = [
    ("input", "user", "redact", "[removed: cn_id_card] curious"),
    ("tool_result", "tool_result", "redact", "[removed: cn_id_card] curious"),
    ("output", "answer", "redact", "[removed: cn_id_card] curious"),
    ("tool_call", "tool_call", "redact", "[removed: cn_id_card] curious"),
]


@pytest.mark.parametrize(("phase", "channel", "action", "text"), PHASES)
def test_each_phase(tmp_path: Path, phase: str, channel: str, action: str, text: str) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/moderate", {"phase": phase, "text": f"{ID} curious"})
            shown = reply.json
            assert (shown["phase"], shown["action"], shown["segments"][0]["text"]) == (phase, action, text)
            assert shown["segments"][0]["channel"] == channel
            assert shown["would"] == ("block" if phase in ("input", "output") else "redact")  # the watched rule reads these two
            assert kitchen.rows()[-1].phase == phase

    run(go())


def test_messages(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": f"my number is {ID}"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"q": "pipe"}'}}]},
        {"role": "tool", "tool_call_id": "c", "content": "anna@example.com"},
    ]  # fmt: skip

    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/moderate", {"phase": "input", "messages": messages})
            assert reply.status == 200
            shown = {segment["path"]: segment for segment in reply.json["segments"]}
            assert shown["/messages/0/content"]["channel"] == "system"
            assert shown["/messages/1/content"]["text"] == "my number is [removed: cn_id_card]"
            assert shown["/messages/1/content"]["turn"] == "history"
            assert (shown["/messages/3/content"]["channel"], shown["/messages/3/content"]["text"]) == ("tool_result", "<EMAIL_ADDRESS_1>")
            rows = kitchen.rows(reply.header("x-request-id"))
            assert [(row.id, row.phase, row.action) for row in rows] == [
                (f"{reply.header('x-request-id')}.0", "input", "redact"),
                (f"{reply.header('x-request-id')}.1", "tool_result", "pseudonymise"),
            ]
            assert reply.header("x-moderation-decision") == reply.json["decision_id"] == rows[-1].id

    run(go())


CONTEXT = {"tenant": "acme", "route": "hr", "region": "cn", "model": "qwen-max", "language": "zh"}


def test_a_context_on_loopback_is_simulated(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/moderate", {"text": "a pipe bomb", "context": CONTEXT})
            assert reply.status == 200
            assert reply.json["message"].startswith("我们不谈这个")
            decision = kitchen.leaves(reply.header("x-request-id") or "")[1]
            scope: Any = decision["scope"]
            assert decision["simulated"] is True
            assert (scope["tenant"], scope["route"], scope["region"], scope["lang"]) == ("acme", "hr", "cn", "zh")
            assert scope["model"].startswith("other")  # the policy does not name it

    run(go())


KEYS = f"clients:\n  - {{name: app, key_sha256: {sha('app-key')}, tenant: acme}}\n"


def test_a_context_needs_the_admin_token_where_clients_have_keys(tmp_path: Path) -> None:
    config = settings(tmp_path, KEYS)

    async def go() -> None:
        async with Kitchen(tmp_path, config=config, admin_token=TOKEN) as kitchen:
            app = {"authorization": "Bearer app-key"}
            for key in ("tenant", "route", "region"):
                body = {"text": "hi", "context": {key: "x"}}
                refused = await kitchen.ask("POST", "/moderate", body, app)
                assert (refused.status, refused.json["error"]["code"]) == (400, "invalid_body")
                assert "admin token" in refused.json["error"]["message"]
                assert (await kitchen.ask("POST", "/moderate", body, AT_ADMIN)).status == 200
                assert (await kitchen.ask("POST", "/moderate", body)).status == 401
            language = await kitchen.ask("POST", "/moderate", {"text": "a pipe bomb", "context": {"language": "zh"}}, app)
            assert language.json["message"].startswith("我们不谈这个")
            assert kitchen.rows(language.header("x-request-id"))[0].tenant == "acme"

    run(go())


def test_a_context_off_loopback_needs_the_token(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, host="0.0.0.0", admin_token=TOKEN) as kitchen:
            body = {"text": "hi", "context": {"tenant": "x"}}
            assert (await call(kitchen, "POST", "/moderate", body)).status == 400
            assert (await call(kitchen, "POST", "/moderate", body, headers=AT_ADMIN)).status == 200
            assert (await call(kitchen, "POST", "/moderate", {"text": "hi"})).status == 200

    run(go())


def test_a_route_of_the_configuration_brings_its_policy_and_its_scope(tmp_path: Path) -> None:
    strict = tmp_path / "strict.yaml"
    strict.write_text(POLICY.read_text().replace("mode: monitor", "mode: enforce").replace("would: block", "action: block")
                      .replace("expect: {action: allow, action: block}", "expect: {action: block}"))
    config = settings(tmp_path, f"routes:\n  - {{name: hr, match: {{path: /hr}}, tenant: people, policy: {strict}}}\n")

    async def go() -> None:
        async with Kitchen(tmp_path, config=config) as kitchen:
            here = await kitchen.ask("POST", "/moderate", {"text": "a curious thing"})
            there = await kitchen.ask("POST", "/moderate", {"text": "a curious thing", "context": {"route": "hr"}})
            below = await kitchen.ask("POST", "/hr/moderate", {"text": "a curious thing"})
            assert [r.json["action"] for r in (here, there, below)] == ["allow", "block", "block"]
            rows = [kitchen.rows(r.header("x-request-id"))[0] for r in (here, there, below)]
            assert [(r.route, r.tenant) for r in rows] == [("default", "default"), ("hr", "people"), ("hr", "people")]
            flags = [kitchen.leaves(r.header("x-request-id") or "")[1]["simulated"] for r in (here, there, below)]
            assert flags == [False, True, False]

    run(go())


def test_findings_that_do_not_fit_the_log_count_as_unknown(tmp_path: Path) -> None:
    """A text with more findings than a record takes is judged as if the detectors had not answered: redacted as a whole."""
    lines = "\n".join(f"{i:06d} 11010519491231002X" for i in range(3))

    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/moderate", {"text": lines})
            assert reply.json["segments"][0]["text"].count("[removed: cn_id_card]") == 3
            assert reply.json["degraded"] is False

    run(go())


# ---- /v1/moderations -------------------------------------------------------------------------------------------------


def test_moderations_in_the_format_of_openai(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/v1/moderations", {"model": "omni-moderation-latest", "input": "a pipe bomb"})
            assert reply.status == 200
            assert reply.json["id"] == f"modr-{reply.header('x-request-id')}"
            assert reply.json["model"] == "omni-moderation-latest"
            (result,) = reply.json["results"]
            assert set(CATEGORIES) | {"weapons", "odd", "personal_data"} == set(result["categories"])
            assert {name for name, value in result["categories"].items() if value} == {"weapons", "illicit/violent"}
            assert result["category_scores"]["weapons"] == 1.0
            assert result["category_scores"]["hate"] == 0
            assert set(result["category_scores"]) == set(result["category_applied_input_types"]) == set(result["categories"])
            assert result["category_applied_input_types"]["weapons"] == ["text"]
            assert result["category_applied_input_types"]["hate"] == []
            assert result["flagged"] is True
            assert result["moderation"]["rules"][0]["id"] == "weapons"
            assert reply.header("x-moderation-action") == "block"
            leaves = kitchen.leaves(reply.header("x-request-id") or "")
            assert [leaf["kind"] for leaf in leaves] == ["open", "decision", "close"]

    run(go())


def test_moderations_of_a_list_are_a_result_each(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/v1/moderations", {"input": ["hello", "a curious thing", "a pipe bomb", f"no. {ID}"]})
            results = reply.json["results"]
            # The watched rule finds the curious thing, but `flagged` is about what is enforced.
            assert [result["flagged"] for result in results] == [False, False, True, True]
            assert [result["categories"]["odd"] for result in results] == [False, True, False, False]
            ids = [result["moderation"]["decision_id"] for result in results]
            assert ids == [f"{reply.header('x-request-id')}.{n}" for n in range(4)] == [row.id for row in kitchen.rows()]
            assert reply.header("x-moderation-decision") == ids[-1]
            assert [leaf["kind"] for leaf in kitchen.leaves(reply.header("x-request-id") or "")] == [
                "open", "decision", "decision", "decision", "decision", "close"]

    run(go())


def test_the_header_of_a_list_tells_the_most_severe(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/v1/moderations", {"input": ["a pipe bomb", "hello"]})
            assert reply.header("x-moderation-action") == "block"

    run(go())


def test_moderations_of_parts(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": f"see {ID}"}, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]

    async def go() -> None:
        async with Kitchen(tmp_path) as kitchen:
            reply = await kitchen.ask("POST", "/v1/moderations", {"input": parts})
            (result,) = reply.json["results"]
            assert result["categories"]["personal_data"] is True
            assert result["category_applied_input_types"]["personal_data"] == ["text", "image"]
            assert result["moderation"]["segments"][0]["text"] == "see [removed: cn_id_card]"
            assert kitchen.leaves(reply.header("x-request-id") or "")[1]["media"] == [["/input/1", "image", "new"]]

    run(go())


# ---- who is asking ---------------------------------------------------------------------------------------------------


def test_without_clients_the_callers_authorization_goes_upstream(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            await kitchen.chat("hi", {"authorization": "Bearer theirs"})
            await kitchen.ask("GET", "/v1/models", headers={"authorization": "Bearer theirs"})
            assert [got.header("authorization") for got in kitchen.upstream.received] == ["Bearer theirs", "Bearer theirs"]

    run(go())


def test_client_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN_KEY", "sk-upstream")
    config = settings(tmp_path, KEYS + "upstream_key_env: QWEN_KEY\n")
    bad: list[dict[str, str]] = [{}, {"authorization": "Bearer wrong"}, {"authorization": "app-key"}, {"authorization": "Basic app-key"},
                                 {"authorization": "Bearer "}, {"authorization": "Bearer sk-upstream"}, {"x-api-key": "app-key"}]

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), config=config, admin_token=TOKEN) as kitchen:
            for headers in bad:
                for method, path in (("POST", "/v1/chat/completions"), ("POST", "/moderate"), ("POST", "/v1/moderations"),
                                     ("GET", "/v1/models"), ("GET", "/nowhere")):
                    reply = await kitchen.ask(method, path, {"messages": [{"role": "user", "content": "hi"}]}, headers)
                    assert (reply.status, reply.json["error"]["code"]) == (401, "invalid_api_key"), (headers, path)
            assert (await kitchen.chat("hi", AT_ADMIN)).status == 401  # operators are no app
            assert kitchen.upstream.received == []
            assert (await kitchen.ask("GET", "/healthz")).status == 200
            good = {"authorization": "bearer app-key"}
            reply = await kitchen.chat("hi", good)
            assert reply.status == 200
            await kitchen.ask("GET", "/v1/models", headers=good)
            for got in kitchen.upstream.received:
                assert got.header("authorization") == "Bearer sk-upstream"
                assert b"app-key" not in got.head
            row = kitchen.rows(reply.header("x-request-id"))[0]
            assert row.tenant == "acme"
            opened: Any = kitchen.leaves(reply.header("x-request-id") or "")[0]
            assert opened["caller"]["client"] == "app"

    run(go())


def test_without_a_key_only_health_and_readiness_are_told(tmp_path: Path) -> None:
    """A probe has no key. What /readyz tells is all that a stranger learns: no path, no rule, no tenant."""
    config = settings(tmp_path, KEYS)

    async def go() -> None:
        async with Kitchen(tmp_path, config=config, host="0.0.0.0", admin_token=TOKEN) as kitchen:
            assert (await call(kitchen, "GET", "/healthz")).status == 200
            ready = await call(kitchen, "GET", "/readyz")
            assert ready.status == 200
            assert ready.json.keys() == {"status", "workers", "policy", "detectors", "log"}
            assert [set(one) for one in ready.json["policy"]["active"]] == [{"id", "hash", "signed", "generation"}]
            assert str(tmp_path) not in ready.body.decode()
            for method, path in (("GET", "/v1/models"), ("POST", "/moderate"), ("POST", "/v1/chat/completions"), ("GET", "/x")):
                assert (await call(kitchen, method, path)).status == 401, path
            for path in ("/metrics", "/docs"):
                assert (await call(kitchen, "GET", path)).status == 404, path

    run(go())


def test_a_client_key_never_goes_upstream_even_where_there_is_no_other(tmp_path: Path) -> None:
    config = settings(tmp_path, KEYS)

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), config=config) as kitchen:
            good = {"authorization": "Bearer app-key"}
            await kitchen.chat("hi", good)
            await kitchen.ask("GET", "/v1/models", headers=good)
            assert [got.header("authorization") for got in kitchen.upstream.received] == [None, None]

    run(go())


def test_a_request_without_a_key_gets_401_where_every_route_wants_one(tmp_path: Path) -> None:
    async def go() -> None:
        async with FakeUpstream(json_script(answer())) as other:
            config = settings(tmp_path, KEYS + f"routes:\n  - {{name: only, match: {{key: app}}, upstream: {other.base}}}\n")
            async with Kitchen(tmp_path, config=config) as kitchen:
                assert (await kitchen.chat("hi")).status == 401
                assert (await kitchen.chat("hi", {"authorization": "Bearer app-key"})).status == 200
                assert len(other.received) == 1

    run(go())


def test_routes_by_path_key_and_port(tmp_path: Path) -> None:
    """The tenant, route and region are the configuration's, whatever the body and the headers say."""
    two = f"  - {{name: bot, key_sha256: {sha('bot-key')}}}\n"

    async def go() -> None:
        async with FakeUpstream(json_script(answer("from afar"))) as other:
            config = settings(tmp_path, KEYS + two + (
                "routes:\n"
                f"  - {{name: payroll, match: {{path: /payroll}}, tenant: people, region: eu, upstream: {other.base}}}\n"
                "  - {name: night, match: {port: 9311}, tenant: owls}\n"
                "  - {name: bots, match: {key: bot}, tenant: robots, durability: fast}\n"
            ))
            async with Kitchen(tmp_path, json_script(answer()), config=config) as kitchen:
                app, bot = {"authorization": "Bearer app-key"}, {"authorization": "Bearer bot-key"}
                liar = {"x-tenant": "evil", "x-moderation-tenant": "evil", "x-forwarded-port": "9311"}
                body = {"messages": [{"role": "user", "content": "hi"}], "tenant": "evil", "route": "evil", "region": "evil",
                        "metadata": {"tenant": "evil"}}
                asked = [
                    ("/payroll/v1/chat/completions", bot, None, ("payroll", "people", "eu")),
                    ("/v1/chat/completions", bot, None, ("bots", "robots", "default")),
                    ("/v1/chat/completions", bot, 9311, ("night", "owls", "default")),
                    ("/v1/chat/completions", app, None, ("default", "acme", "default")),
                    ("/payroll/v1/chat/completions", app, None, ("payroll", "acme", "eu")),  # a key is proof, a path is not
                    ("/payrolls/v1/chat/completions", app, None, None),
                    ("/v1/payroll/chat/completions", app, None, None),
                ]
                for path, headers, port, expected in asked:
                    heard = await call(kitchen, "POST", path, body, {**headers, **liar}, port)
                    if expected is None:
                        assert heard.status in (403, 404), path
                        continue
                    assert heard.status == 200, heard.body
                    row = kitchen.rows(heard.headers["x-request-id"])[0]
                    assert (row.route, row.tenant, row.region) == expected, path
                    assert ("from afar" in heard.body.decode()) == (expected[0] == "payroll")
                assert len(other.received) == 2
                leaves = json.dumps([kitchen.leaves(row.request_id) for row in kitchen.rows()])
                assert "evil" not in leaves

    run(go())


def test_what_is_only_passed_on_has_our_request_id_alone(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script({"data": []})) as kitchen:
            reply = await kitchen.ask("GET", "/v1/models")
            names = {name for name, _ in reply.headers}
            assert "x-request-id" in names
            assert not any(name.startswith("x-moderation") for name in names)
            assert kitchen.rows() == []

    run(go())


def test_too_many_at_once_are_refused(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), max_streams="1") as kitchen:
            kitchen.house.sidecar.admission.in_flight = 1
            reply = await kitchen.chat("hi")
            assert (reply.status, reply.json["error"]["code"]) == (503, "overloaded")
            assert (reply.header("x-should-retry"), reply.header("retry-after")) == (None, "1")
            kitchen.house.sidecar.admission.in_flight = 0
            assert (await kitchen.chat("hi")).status == 200

    run(go())


def test_readiness_while_the_disk_fails_and_after(tmp_path: Path) -> None:
    """With the real log: a disk that fails once makes the desk refuse, and the next try of the log makes it ready again."""

    class Flaky(Disk):
        broken = False

        def write(self, fd: int, data: bytes) -> None:
            if self.broken:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(fd, data)

    async def go() -> None:
        disk = Flaky()
        async with Kitchen(tmp_path / "house", json_script(answer()), check=False) as kitchen:
            log = Log.open(tmp_path / "disk", disk=disk, limits=Limits(reopen_every=0.05))
            object.__setattr__(kitchen.house.sidecar.desk.ledger, "log", log)
            object.__setattr__(kitchen.house.sidecar.desk, "latched", lambda: log.latched)
            disk.broken = True
            reply = await kitchen.ask("POST", "/moderate", {"text": "hi"})
            assert (reply.status, reply.json["error"]["code"]) == (503, "audit_unavailable")
            assert (await kitchen.ask("GET", "/readyz")).json["log"]["status"] == "failed"
            disk.broken = False
            for _ in range(200):
                if log.latched is None:
                    break
                await asyncio.sleep(0.01)
            assert (await kitchen.ask("GET", "/readyz")).status == 200
            assert (await kitchen.ask("POST", "/moderate", {"text": "hi"})).status == 200
            await log.close()

    run(go())
