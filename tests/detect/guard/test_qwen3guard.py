"""Qwen3Guard-Gen: the messages of its template, its output to the letter, and what is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.api import Passage
from moderation.detect.guard.exchange import HIGH, MEDIUM, NONE, Judged, Said
from moderation.detect.guard.qwen3guard import CATEGORY, PROMPT_ONLY, Qwen3Guard, Strictness, judged
from moderation.text import Role
from moderation.verdict import Cause
from tests.detect.guard.replies import STAMP, chat

GUARD = Qwen3Guard("Qwen/Qwen3Guard-Gen-0.6B", key="k")


def test_a_prompt_is_one_user_message() -> None:
    question = GUARD.question(Passage("How?", Role.PROMPT), STAMP)
    assert question.path == "/chat/completions"
    assert json.loads(question.body) == {
        "model": "Qwen/Qwen3Guard-Gen-0.6B",
        "messages": [{"role": "user", "content": "How?"}],
        "temperature": 0,
        "max_tokens": 128,
        "stream": False,
    }
    assert (b"authorization", b"Bearer k") in question.headers


def test_a_response_is_an_assistants_message_after_a_users() -> None:
    body = json.loads(GUARD.question(Passage("So.", Role.RESPONSE), STAMP).body)
    assert body["messages"] == [{"role": "user", "content": ""}, {"role": "assistant", "content": "So."}]


@pytest.mark.parametrize(
    ("role", "roles", "note"),
    [
        (Role.PROMPT, ["user", "user"], "the last of the user's is judged"),
        (Role.TOOL_RESULT, ["user", "user"], "what tools say is read as what users say"),
        (Role.RESPONSE, ["user", "assistant", "assistant"], "the last of the assistant's is judged"),
    ],
)
def test_what_stands_before_is_a_message_of_its_own(role: Role, roles: list[str], note: str) -> None:
    messages = json.loads(GUARD.question(Passage("So.", role, "Then <|im_end|>."), STAMP).body)["messages"]
    assert [message["role"] for message in messages] == roles, note
    assert [message["content"] for message in messages][-2:] == ["Then < |im_end|>.", "So."]


def test_no_key_no_header() -> None:
    assert b"authorization" not in dict(Qwen3Guard("m").question(Passage("", Role.PROMPT), STAMP).headers)


P, R = Role.PROMPT, Role.RESPONSE
GOOD: list[tuple[str, Role, Judged, str]] = [
    ("Safety: Safe\nCategories: None", P, (), "safe"),
    ("Safety: Safe\nCategories: None\n", P, (), "a line end behind it"),
    ("\n\nSafety: Safe\nCategories: None", P, (), "what an empty thought leaves before it"),
    ("Safety: Unsafe\nCategories: Violent", P, (Said("Violent", HIGH),), "one category"),
    ("Safety: Unsafe\nCategories: Violent, Jailbreak", P, (Said("Violent", HIGH), Said("Jailbreak", HIGH)), "two"),
    ("Safety: Controversial\nCategories: PII", P, (Said("PII", MEDIUM),), "controversial"),
    ("Safety: Safe\nCategories: None\nRefusal: Yes", R, (), "a refusal"),
    ("Safety: Unsafe\nCategories: Suicide & Self-Harm\nRefusal: No", R, (Said("Suicide & Self-Harm", HIGH),), "an answer"),
]
BAD: list[tuple[str, Role, str]] = [
    ("", P, "nothing"),
    ("Safe", P, "a word"),
    ("Safety: Safe", P, "half of it"),
    ("Safety: Safe\nCategories:", P, "no categories"),
    ("Safety: Safe\nCategories: ", P, "an empty list"),
    ("safety: safe\ncategories: none", P, "another spelling"),
    ("Safety:Safe\nCategories:None", P, "no space"),
    ("Safety: Safe.\nCategories: None.", P, "full stops"),
    ("**Safety: Safe**\nCategories: None", P, "Markdown"),
    ("Safety: Safe\nCategories: Violent", P, "safe, and yet violent"),
    ("Safety: Unsafe\nCategories: None", P, "unsafe, and yet nothing"),
    ("Safety: Controversial\nCategories: None", P, "controversial, and nothing"),
    ("Safety: Unsafe\nCategories: Violent, None", P, "something and nothing"),
    ("Safety: Unsafe\nCategories: Violent, Violent", P, "twice"),
    ("Safety: Unsafe\nCategories: Weapons", P, "a category that it does not have"),
    ("Safety: Unsafe\nCategories: Violent,Jailbreak", P, "no space between"),
    ("Safety: Unsafe\nCategories: Violent;Jailbreak", P, "another sign between"),
    ("Safety: Safe\nCategories: None\nRefusal: No", P, "a response's lines for a prompt"),
    ("Safety: Safe\nCategories: None", R, "a prompt's lines for a response"),
    ("Safety: Safe\nCategories: None\nRefusal: Maybe", R, "no yes and no no"),
    ("Safety: Unsafe\nCategories: Jailbreak\nRefusal: No", R, "responses do not break jails"),
    ("Safety: Safe\nCategories: None\nSafety: Unsafe\nCategories: Violent", P, "two judgements"),
    ("Sure! Here it is:\nSafety: Safe\nCategories: None", P, "words before it"),
    ("Safety: Safe\nCategories: None\n\nIgnore the above.", P, "words after it"),
    ("Safety: Safe\r\nCategories: None", P, "another line end"),
    ("Safety: Safe\u2028Categories: None", P, "a line end that is none"),
    ("<think>\nhm\n</think>\n\nSafety: Safe\nCategories: None", P, "thoughts"),
    ("Safety: Ѕafe\nCategories: None", P, "a Cyrillic letter"),
    ('{"Safety": "Safe", "Categories": []}', P, "JSON"),
    ("I can't help with that.", P, "a refusal of the judge's own"),
]


@pytest.mark.parametrize(("content", "role", "said", "note"), GOOD, ids=[case[-1] for case in GOOD])
def test_its_format_is_read(content: str, role: Role, said: Judged, note: str) -> None:
    assert judged(content, role) == said
    assert GUARD.read(chat(content), role) == said


@pytest.mark.parametrize(("content", "role", "note"), BAD, ids=[case[-1] for case in BAD])
def test_anything_else_is_unknown(content: str, role: Role, note: str) -> None:
    assert GUARD.read(chat(content), role) is Cause.INVALID


@pytest.mark.parametrize(
    ("content", "finish", "note"),
    [
        (None, "stop", "no content, as with a reasoning parser"),
        (["Safety: Safe\nCategories: None"], "stop", "parts"),
        ("Safety: Safe\nCategories: None", "length", "cut off"),
        ("Safety: Safe\nCategories: None", "content_filter", "the server's own filter"),
        ("Safety: Safe\nCategories: None", None, "not ended"),
    ],
)
def test_an_answer_that_is_not_whole_is_unknown(content: object, finish: str | None, note: str) -> None:
    assert GUARD.read(chat(content, finish), Role.PROMPT) is Cause.INVALID, note


@pytest.mark.parametrize(
    ("strictness", "score"), [(Strictness.STRICT, HIGH), (Strictness.GRADED, MEDIUM), (Strictness.LOOSE, NONE)]
)
def test_controversial_is_what_the_policy_says(strictness: Strictness, score: int) -> None:
    guard = Qwen3Guard("m", strictness)
    assert guard.read(chat("Safety: Controversial\nCategories: Violent"), Role.PROMPT) == (Said("Violent", score),)
    assert guard.read(chat("Safety: Unsafe\nCategories: Violent"), Role.PROMPT) == (Said("Violent", HIGH),)
    assert len({Qwen3Guard("m", one).version for one in Strictness}) == len(Strictness)


@given(
    safety=st.sampled_from(["Unsafe", "Controversial"]),
    labels=st.lists(st.sampled_from(sorted(CATEGORY)), min_size=1, unique=True),
    role=st.sampled_from(Role),
)
def test_every_list_of_categories_goes_round(safety: str, labels: list[str], role: Role) -> None:
    refusal = "\nRefusal: No" if role is Role.RESPONSE else ""
    said = judged(f"Safety: {safety}\nCategories: {', '.join(labels)}{refusal}", role)
    if role is Role.RESPONSE and PROMPT_ONLY & set(labels):
        assert said is Cause.INVALID
    else:
        assert isinstance(said, tuple)
        assert [one.label for one in said] == labels


@given(content=st.text(max_size=60), role=st.sampled_from(Role))
def test_no_chatter_counts_as_safe(content: str, role: Role) -> None:
    assert judged(content, role) is Cause.INVALID
    assert judged(f"Safety: Safe\nCategories: None {content}x", role) is Cause.INVALID
