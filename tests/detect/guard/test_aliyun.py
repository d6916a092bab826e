"""AI Guardrails: the form that goes out, levels and labels that come back, and what is no judgement."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest

from moderation.detect.api import Passage
from moderation.detect.guard.acs3 import Credentials
from moderation.detect.guard.aliyun import ATTACK, SENSITIVE, UNNAMED, Aliyun
from moderation.detect.guard.exchange import HIGH, LOW, MEDIUM, OTHER, Judged, Said
from moderation.text import Role
from moderation.verdict import FULL_SCORE, Cause
from tests.detect.guard.replies import STAMP, reply

GUARD = Aliyun("green-cip.cn-shanghai.aliyuncs.com", Credentials("id", "secret"))


@pytest.mark.parametrize(
    ("role", "service", "limit"),
    [(Role.PROMPT, "llm_query_moderation", 2_000), (Role.RESPONSE, "llm_response_moderation", 5_000)],
)
def test_a_question(role: Role, service: str, limit: int) -> None:
    question = GUARD.question(Passage('你好 "a" & b\ud800', role), STAMP)
    fields = parse_qs(question.body.decode(), strict_parsing=True)
    assert fields["Service"] == [service]
    assert json.loads(fields["ServiceParameters"][0]) == {"content": '你好 "a" & b\ufffd'}
    headers = dict(question.headers)
    assert headers[b"x-acs-action"] == b"TextModerationPlus"
    assert headers[b"x-acs-version"] == b"2022-03-02"
    assert headers[b"x-acs-signature-nonce"] == STAMP.nonce.encode()
    assert b"host" not in headers
    assert b"content-type;host;" in headers[b"authorization"]
    assert question.path == "/"
    assert GUARD.limit(role) == limit


def test_another_service_is_held_to_the_lower_limit() -> None:
    guard = Aliyun("h", Credentials("i", "s"), "query_security_check", "response_security_check")
    assert {guard.limit(role) for role in Role} == {2_000}
    assert b"response_security_check" in guard.question(Passage("x", Role.RESPONSE), STAMP).body
    assert guard.version != GUARD.version


def found(*labels: str, **levels: object) -> dict[str, object]:
    results = [{"Label": label, "Confidence": 81.22, "Description": "…", "RiskWords": "x"} for label in labels]
    return {"RiskLevel": "none", "Result": results, "DataId": "1", "Advice": [], **levels}


DATA: list[tuple[object, Judged, str]] = [
    (found("nonLabel"), (), "nothing"),
    ({"RiskLevel": "none"}, (), "nothing, and no list of it"),
    ({"RiskLevel": "none", "Result": None}, (), "null for a list"),
    (found("violent_weapons", RiskLevel="high"), (Said("violent_weapons", HIGH),), "high"),
    (found("violent_weapons", RiskLevel="medium"), (Said("violent_weapons", MEDIUM),), "medium"),
    (found("violent_weapons", RiskLevel="low"), (Said("violent_weapons", LOW),), "low"),
    (found("violent_weapons"), (), "a label below the account's own bar"),
    (found("sexual_terms", "pt_to_sites", RiskLevel="high"), (Said("sexual_terms", HIGH), Said("pt_to_sites", HIGH)), "two"),
    (found("sexual_terms", "sexual_terms", RiskLevel="high"), (Said("sexual_terms", HIGH),), "one, twice"),
    (found(RiskLevel="high"), (Said(UNNAMED, HIGH),), "a risk without a label"),
    (found("nonLabel", RiskLevel="high"), (Said(UNNAMED, HIGH),), "a risk that says it is none"),
    (found("nonLabel", AttackLevel="high", AttackResult=[]), (Said(ATTACK, HIGH),), "an attack"),
    (found("nonLabel", AttackLevel="none", SensitiveLevel="S0"), (), "switched on, and nothing found"),
    (found("nonLabel", AttackLevel="", SensitiveLevel=""), (), "switched off"),
    (found("nonLabel", SensitiveLevel="S2"), (Said(SENSITIVE, MEDIUM),), "sensitive"),
    (found("nonLabel", SensitiveLevel="S4"), (Said(SENSITIVE, FULL_SCORE),), "most sensitive"),
    (
        found("a_b", RiskLevel="low", AttackLevel="low", SensitiveLevel="S1"),
        (Said("a_b", LOW), Said(ATTACK, LOW), Said(SENSITIVE, LOW)),
        "all",
    ),
    (found("nonLabel", RiskLevel="max"), Cause.INVALID, "a level that is none"),
    (found("nonLabel", RiskLevel="HIGH"), Cause.INVALID, "another spelling"),
    (found("nonLabel", RiskLevel=None), Cause.INVALID, "no level"),
    ({"Result": [{"Label": "nonLabel"}]}, Cause.INVALID, "no level at all"),
    (found("nonLabel", RiskLevel=["none"]), Cause.INVALID, "a list"),
    (found("nonLabel", AttackLevel="S1"), Cause.INVALID, "another scale"),
    (found("nonLabel", SensitiveLevel=1), Cause.INVALID, "a number"),
    (found("nonLabel", Result={}), Cause.INVALID, "an object for a list"),
    (found("nonLabel", Result=["nonLabel"]), Cause.INVALID, "bare labels"),
    (found("no label", RiskLevel="high"), Cause.INVALID, "no label's grammar"),
    (found("x" * 65, RiskLevel="high"), Cause.INVALID, "a label too long"),
]


@pytest.mark.parametrize(("data", "said", "note"), DATA, ids=[case[-1] for case in DATA])
def test_data_are_read(data: object, said: Judged, note: str) -> None:
    assert GUARD.read(reply({"Code": 200, "Message": "OK", "RequestId": "A-B", "Data": data}), Role.PROMPT) == said


@pytest.mark.parametrize(
    ("status", "body", "cause", "note"),
    [
        (200, {"Code": 200, "Message": "OK"}, Cause.INVALID, "no data"),
        (200, {"Code": 200, "Data": []}, Cause.INVALID, "a list"),
        (200, {"Code": "200", "Data": {"RiskLevel": "none"}}, Cause.INVALID, "a string"),
        (200, {"Data": {"RiskLevel": "none"}}, Cause.INVALID, "no code"),
        (200, {"Code": True, "Data": {"RiskLevel": "none"}}, Cause.INVALID, "no number"),
        (200, {"Code": 400, "Message": "invalid params"}, Cause.ERROR, "our fault"),
        (200, {"Code": 500, "Message": "internal"}, Cause.UNAVAILABLE, "theirs"),
        (200, {"Code": 588, "Message": "over the rate"}, Cause.UNAVAILABLE, "too many"),
        (400, {"Code": "Throttling.User", "Message": "x"}, Cause.UNAVAILABLE, "too many, as the gateway says it"),
        (400, {"Code": "SignatureDoesNotMatch", "Message": "x"}, Cause.ERROR, "a wrong key"),
        (403, {"Code": "Forbidden", "Message": "x"}, Cause.ERROR, "no right"),
        (503, {"Code": "ServiceUnavailable", "Message": "x"}, Cause.UNAVAILABLE, "down"),
    ],
)
def test_anything_else_is_unknown(status: int, body: object, cause: Cause, note: str) -> None:
    assert GUARD.read(reply(body, status), Role.PROMPT) is cause, note


@pytest.mark.parametrize(
    ("label", "category"),
    [
        ("pornographic_adult", "sexual"),
        ("sexual_terms", "sexual"),
        ("political_n", "politics"),
        ("violent_extremist", "violence"),
        ("contraband_drug", "illicit"),
        ("inappropriate_profanity", "hate_harassment"),
        ("inappropriate_ethics", "unethical"),
        ("religion_b", "religion"),
        ("pt_to_contact", "advertising"),
        ("something_new", OTHER),
        ("customized", OTHER),
        (UNNAMED, OTHER),
        (ATTACK, "injection"),
        (SENSITIVE, "personal_data"),
    ],
)
def test_categories(label: str, category: str) -> None:
    assert GUARD.category(label) == category
    assert category in GUARD.categories
