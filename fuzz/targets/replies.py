"""detect/guard: replies of judges over the network, read by every engine, beside the plainest reading of the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fuzz.target import Target, law
from moderation.detect.guard.acs3 import Credentials
from moderation.detect.guard.aliyun import Aliyun
from moderation.detect.guard.exchange import Engine, Judged, Reply
from moderation.detect.guard.llm_judge import LlmJudge
from moderation.detect.guard.openai_moderation import OpenAiModeration
from moderation.detect.guard.qwen3guard import Qwen3Guard
from moderation.text import Role
from moderation.verdict import FULL_SCORE, Cause

ENGINES: tuple[Engine, ...] = (
    Qwen3Guard("m"), OpenAiModeration(), Aliyun("h", Credentials("i", "s")), LlmJudge("m", ("violence", "sexual")),
)  # fmt: skip
SAFE = {
    Role.PROMPT: ("Safety: Safe\nCategories: None",),
    Role.RESPONSE: ("Safety: Safe\nCategories: None\nRefusal: Yes", "Safety: Safe\nCategories: None\nRefusal: No"),
}


def _run(data: bytes) -> str:
    said: list[str] = []
    for engine in ENGINES:
        for role in SAFE:
            judged = engine.read(Reply(200, data), role)
            law(isinstance(engine.read(Reply(503, data), role), Cause), "a failure is read as a judgement")
            said.append(_held(engine, role, judged, data))
    return " ".join(said)


def _held(engine: Engine, role: Role, judged: Judged, data: bytes) -> str:
    if isinstance(judged, Cause):
        return judged.value
    for one in judged:
        law(type(one.score) is int and 0 <= one.score <= FULL_SCORE, "a score out of its range")
        law(engine.category(one.label) in engine.categories, "a category that the engine does not have")
    body: Any = json.loads(data)  # every judgement came of JSON
    match engine:
        case Qwen3Guard():
            content = body["choices"][0]["message"]["content"].strip(" \n")
            law(bool(judged) or content in SAFE[role], "safe, though it does not say so")
        case OpenAiModeration():
            flagged = body["results"][0].get("flagged", False)
            law(not flagged or any(one.score >= FULL_SCORE // 2 for one in judged), "flagged, and nothing found")
        case Aliyun():
            law(bool(judged) or body["Data"]["RiskLevel"] == "none", "a risk, and nothing found")
        case LlmJudge():
            told = json.loads(body["choices"][0]["message"]["content"])
            law(told.keys() == {"violence", "sexual"}, "a verdict on something else")
    return str(len(judged))


def _chat(content: str) -> bytes:
    message = {"role": "assistant", "content": content}
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()


def _seeds() -> Sequence[bytes]:
    result = {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.2, "violence": 0}}
    data = {"RiskLevel": "high", "AttackLevel": "none", "SensitiveLevel": "S1", "Result": [{"Label": "violent_weapons"}]}
    return [
        _chat("Safety: Unsafe\nCategories: Violent, PII"), _chat("Safety: Safe\nCategories: None"),
        _chat("Safety: Safe\nCategories: None\nRefusal: Yes"), _chat('{"violence": 0.5, "sexual": 0}'),
        json.dumps({"results": [result]}).encode(), json.dumps({"Code": 200, "Data": data}).encode(),
        b'{"Code": 200, "Data": {"RiskLevel": "none"}}',
    ]  # fmt: skip


_WORDS = (
    b"Safety: ", b"Safe", b"Unsafe", b"Controversial", b"Categories: ", b"None", b"Violent", b"\\n", b"Refusal: No",
    b'"finish_reason": "stop"', b'"flagged": true', b'"RiskLevel": "none"', b'"high"', b"null", b"1e999", b"NaN",
)  # fmt: skip

TARGET = Target(
    "replies", "A judgement or a cause; safe only where the reply says exactly that; what is flagged is found.",
    _seeds, lambda: _run, _WORDS, longest=2000,
)  # fmt: skip
