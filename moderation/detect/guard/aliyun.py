"""Alibaba Cloud's AI Guardrails for text: the action TextModerationPlus (Green, version 2022-03-02), one service for what users
say and one for what models say.

Facts: help.aliyun.com/document_detail/2669858 (the call), 2684669 (labels), 2875414 (AI Guardrails), 2642626 (models), and the
SDK alibabacloud_green20220302 (the fields, all of them in a form body, so that no text stands in a URL). Labels are of some ten
families that begin alike; new ones appear, so a label is read by its family, and one of none counts as `other_harm`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moderation.detect.api import Passage
from moderation.detect.guard.acs3 import Credentials, form, signed
from moderation.detect.guard.exchange import (
    HIGH,
    LOW,
    MEDIUM,
    OTHER,
    Judged,
    Question,
    Reply,
    Said,
    Stamp,
    an_object,
    refused,
)
from moderation.text import Role
from moderation.verdict import FULL_SCORE, Cause
from moderation.wire.body import mended

ACTION, VERSION = "TextModerationPlus", "2022-03-02"
SERVICES = {Role.PROMPT: "llm_query_moderation", Role.RESPONSE: "llm_response_moderation"}
LIMITS = {"llm_response_moderation": 5_000}
"""Characters in one call, by service; 2,000 for all others."""
LIMIT = 2_000
RATE = 50
"""Calls a second that every account has at least; llm_* services have 100."""

FAMILY = {
    "pornographic": "sexual",
    "sexual": "sexual",
    "political": "politics",
    "religion": "religion",
    "violent": "violence",
    "contraband": "illicit",
    "inappropriate": "unethical",
    "pt": "advertising",
    "ad": "advertising",
}
"""What a label counts as by what stands before its first underscore, where the policy says nothing."""
EXACT = {"inappropriate_discrimination": "hate_harassment", "inappropriate_profanity": "hate_harassment"}
ATTACK, SENSITIVE, UNNAMED = "promptAttack", "sensitiveData", "unnamed"
"""Labels of ours: prompt attacks (whose own labels are names for people), sensitive data, and a risk without a label."""
CATEGORIES = frozenset({*FAMILY.values(), *EXACT.values(), "injection", "personal_data", OTHER})
NOTHING = frozenset({"nonLabel", "safe", "normal", ""})

_RISK = {"none": 0, "low": LOW, "medium": MEDIUM, "high": HIGH}
_SENSITIVE = {"S0": 0, "S1": LOW, "S2": MEDIUM, "S3": HIGH, "S4": FULL_SCORE}
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_\-]{0,63}")
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Aliyun:
    """See guard/exchange.py, Engine."""

    host: str
    """As the header has it, with the port where it is not the usual one."""
    credentials: Credentials
    prompt_service: str = SERVICES[Role.PROMPT]
    response_service: str = SERVICES[Role.RESPONSE]

    @property
    def categories(self) -> frozenset[str]:
        return CATEGORIES

    @property
    def version(self) -> str:
        return f"aliyun 1 {self.prompt_service} {self.response_service}"

    def category(self, label: str) -> str:
        match label:
            case "promptAttack":
                return "injection"
            case "sensitiveData":
                return "personal_data"
            case _:
                return EXACT.get(label) or FAMILY.get(label.split("_")[0], OTHER)

    def service(self, role: Role) -> str:
        return self.response_service if role is Role.RESPONSE else self.prompt_service

    def limit(self, role: Role) -> int | None:
        return LIMITS.get(self.service(role), LIMIT)

    def question(self, passage: Passage, stamp: Stamp) -> Question:
        told = json.dumps({"content": mended(passage.text)}, ensure_ascii=False, separators=(",", ":"))
        body = form({"Service": self.service(passage.role), "ServiceParameters": told}).encode()
        headers = signed(self.credentials, self.host, ACTION, VERSION, stamp.date, stamp.nonce, body=body, content_type=_FORM)
        shown = tuple((name.encode(), value.encode()) for name, value in headers.items() if name != "host")
        return Question("/", (*shown, (b"accept", b"application/json")), body)

    def read(self, reply: Reply, role: Role) -> Judged:
        value = an_object(reply.body)
        if value is not None and str(value.get("Code", "")).startswith("Throttling"):  # its status is 400
            return Cause.UNAVAILABLE
        cause = refused(reply.status)
        if cause is not None:
            return cause
        match value:
            case {"Code": 200, "Data": dict(data)}:
                return _judged(data)
            case {"Code": int(code)} if not isinstance(code, bool) and code != 200:
                return refused(code) or Cause.INVALID
            case _:
                return Cause.INVALID


def _judged(data: Mapping[str, Any]) -> Judged:
    """RiskLevel is for the labels under Result; attacks and sensitive data, where switched on, have levels of their own."""
    risk = _RISK.get(data["RiskLevel"]) if isinstance(data.get("RiskLevel"), str) else None
    attack = _level(data.get("AttackLevel"), _RISK, "none")
    sensitive = _level(data.get("SensitiveLevel"), _SENSITIVE, "S0")
    labels = _labels(data.get("Result"))
    if risk is None or attack is None or sensitive is None or labels is None:
        return Cause.INVALID
    said = [Said(label, risk) for label in labels or (UNNAMED,)] if risk else []
    if attack:
        said.append(Said(ATTACK, attack))
    if sensitive:
        said.append(Said(SENSITIVE, sensitive))
    return tuple(said)


def _level(value: object, scores: Mapping[str, int], default: str) -> int | None:
    """A level's score; None for a word that is no level. What is not switched on is missing, null or empty."""
    if value is None or value == "":
        value = default
    return scores.get(value) if isinstance(value, str) else None


def _labels(results: object) -> tuple[str, ...] | None:
    """The labels under Result, each once; None where they are not of this form."""
    if results is None:
        return ()
    if not isinstance(results, list):
        return None
    found: list[str] = []
    for one in results:
        label = one.get("Label") if isinstance(one, dict) else None
        if not isinstance(label, str) or not (label in NOTHING or _LABEL.fullmatch(label)):
            return None
        if label not in NOTHING and label not in found:
            found.append(label)
    return tuple(found)
