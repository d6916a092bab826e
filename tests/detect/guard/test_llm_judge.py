"""A chat model as a judge: the text cannot get out of its string, and only the exact verdict counts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.api import Passage
from moderation.detect.guard.exchange import Judged, Said
from moderation.detect.guard.llm_judge import Format, LlmJudge
from moderation.text import Role
from moderation.verdict import Cause
from tests.detect.guard.replies import STAMP, chat

JUDGE = LlmJudge("qwen-plus", ("violence", "house_secrets"))


def body(judge: LlmJudge, text: str = "hello", role: Role = Role.PROMPT) -> Any:
    return json.loads(judge.question(Passage(text, role), STAMP).body)


def test_the_categories_and_the_form_of_the_answer_are_told() -> None:
    system, user = body(JUDGE)["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert "violence, house_secrets" in system["content"]
    assert '{"violence": 0.0, "house_secrets": 0.0}' in system["content"]
    assert json.loads(user["content"]) == {"role": "prompt", "text": "hello"}
    assert json.loads(body(JUDGE, role=Role.RESPONSE)["messages"][1]["content"])["role"] == "response"


def test_what_stands_before_is_told_apart() -> None:
    question = JUDGE.question(Passage("So.", Role.TOOL_RESULT, "Then."), STAMP)
    given_ = json.loads(json.loads(question.body)["messages"][1]["content"])
    assert given_ == {"role": "tool_result", "before": "Then.", "text": "So."}


def test_an_instruction_of_the_policys_own() -> None:
    judge = LlmJudge("m", ("a", "b"), "Judge {categories}, {not_ours}, as {schema}.", Format.OBJECT)
    asked = body(judge)
    assert asked["messages"][0]["content"] == 'Judge a, b, {not_ours}, as {"a": 0.0, "b": 0.0}.'
    assert asked["response_format"] == {"type": "json_object"}
    assert "response_format" not in body(LlmJudge("m", ("a",), format=Format.TEXT))
    assert judge.version != LlmJudge("m", ("a", "b"), "Judge {categories}.", Format.OBJECT).version


def test_the_schema_allows_the_verdict_alone() -> None:
    told = body(JUDGE)["response_format"]
    schema = told["json_schema"]["schema"]
    assert told["type"] == "json_schema"
    assert set(schema["properties"]) == set(schema["required"]) == {"violence", "house_secrets"}
    assert schema["additionalProperties"] is False


@given(text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('"\\{}\n<|'), max_size=40))
def test_a_text_stays_in_its_string(text: str) -> None:
    given_ = json.loads(body(JUDGE, text)["messages"][1]["content"])
    assert given_.keys() == {"role", "text"}
    assert given_["text"].replace("< |", "<|") == text.replace("< |", "<|")


WELL = (Said("violence", 900_000), Said("house_secrets", 0))
CASES: list[tuple[str, Judged, str]] = [
    ('{"violence": 0.9, "house_secrets": 0}', WELL, "as asked"),
    ('\n {"house_secrets": 0.0, "violence": 0.9} \n', WELL, "another order, and white space"),
    ('```json\n{"violence": 0.9, "house_secrets": 0}\n```', Cause.INVALID, "a fence"),
    ('Here: {"violence": 0.9, "house_secrets": 0}', Cause.INVALID, "words before"),
    ('{"violence": 0.9, "house_secrets": 0} Done.', Cause.INVALID, "words after"),
    ('{"violence": 0.9}', Cause.INVALID, "one is missing"),
    ('{"violence": 0.9, "house_secrets": 0, "reason": "x"}', Cause.INVALID, "one too many"),
    ('{"violence": 0.9, "violence": 0, "house_secrets": 0}', Cause.INVALID, "twice"),
    ('{"violence": "0.9", "house_secrets": 0}', Cause.INVALID, "a string"),
    ('{"violence": true, "house_secrets": 0}', Cause.INVALID, "a yes"),
    ('{"violence": null, "house_secrets": 0}', Cause.INVALID, "null"),
    ('{"violence": 9, "house_secrets": 0}', Cause.INVALID, "out of ten"),
    ('{"violence": -0.1, "house_secrets": 0}', Cause.INVALID, "below nothing"),
    ('{"violence": NaN, "house_secrets": 0}', Cause.INVALID, "no number"),
    ('{"violence": 1e999, "house_secrets": 0}', Cause.INVALID, "too large for a number"),
    ('{"scores": {"violence": 0.9, "house_secrets": 0}}', Cause.INVALID, "wrapped"),
    ('[{"violence": 0.9, "house_secrets": 0}]', Cause.INVALID, "a list"),
    ("I cannot judge this.", Cause.INVALID, "a refusal"),
    ("", Cause.INVALID, "nothing"),
    ("\ud800", Cause.INVALID, "half a sign"),
]


@pytest.mark.parametrize(("content", "said", "note"), CASES, ids=[case[-1] for case in CASES])
def test_only_the_exact_verdict_counts(content: str, said: Judged, note: str) -> None:
    assert JUDGE.read(chat(content.replace("\ud800", "\ufffd")), Role.PROMPT) == said


def test_a_verdict_that_was_cut_off_is_none() -> None:
    assert JUDGE.read(chat('{"violence": 0.9, "house_secrets": 0}', "length"), Role.PROMPT) is Cause.INVALID
