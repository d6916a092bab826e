"""Qwen3Guard-Gen in process: what it is asked, what its answers count as; and a tiny Qwen3 that answers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest

from moderation.detect.api import Passage
from moderation.detect.guard.chat import Message
from moderation.detect.guard.exchange import HIGH, MEDIUM
from moderation.detect.guard.qwen3guard import CATEGORY, MAX_TOKENS, Strictness
from moderation.detect.run.guard import detected
from moderation.detect.transformer.folder import read_written
from moderation.detect.transformer.guard import Guard
from moderation.text import Role
from moderation.verdict import Cause, Finding, Unknown
from tests.detect.transformer import tiny_guard as tiny
from tests.extras import need

P, R, T = Role.PROMPT, Role.RESPONSE, Role.TOOL_RESULT
ALL = frozenset(CATEGORY.values())


class Scribe:
    """Answers as it is told, and keeps the questions."""

    version = "1"

    def __init__(self, *answers: str | Cause) -> None:
        self.answers = list(answers)
        self.asked: list[list[Message]] = []

    def write(self, messages: Sequence[Message], most: int) -> str | Cause:
        assert most == MAX_TOKENS
        self.asked.append(list(messages))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def told(answer: tuple[Finding, ...] | Unknown) -> dict[str, int] | Cause:
    return answer.cause if isinstance(answer, Unknown) else {one.category: one.score for one in answer}


def asked(
    scribe: Scribe, passage: Passage, strictness: Strictness = Strictness.GRADED, categories: frozenset[str] = ALL
) -> dict[str, int] | Cause:
    (answer,) = detected(Guard("g", scribe, strictness, categories), [passage], lambda: None)
    return told(answer)


@pytest.mark.parametrize(
    ("content", "role", "said", "note"),
    [
        (tiny.SAFE, P, {}, "safe"),
        (tiny.UNSAFE, P, {"violence": HIGH}, "unsafe"),
        (tiny.UNSAFE, T, {"violence": HIGH}, "what tools say is read as what users say"),
        (tiny.DOUBTFUL, P, {"personal_data": MEDIUM}, "in doubt"),
        (tiny.REFUSED, R, {"violence": HIGH}, "of an answer"),
        (tiny.REFUSED, P, Cause.INVALID, "a prompt refuses nothing"),
        (tiny.UNSAFE, R, Cause.INVALID, "an answer refuses or does not"),
        ("Sure! Here it is.", P, Cause.INVALID, "chatter"),
        ("", P, Cause.INVALID, "nothing"),
        (Cause.TOO_LARGE, P, Cause.TOO_LARGE, "no answer, and why"),
    ],
)
def test_what_an_answer_counts_as(content: str | Cause, role: Role, said: object, note: str) -> None:
    assert asked(Scribe(content), Passage("hello", role)) == said, note


@pytest.mark.parametrize(
    ("strictness", "said"),
    [(Strictness.STRICT, {"personal_data": HIGH}), (Strictness.GRADED, {"personal_data": MEDIUM}), (Strictness.LOOSE, {"personal_data": 100_000})],
)  # fmt: skip
def test_what_controversial_counts_as(strictness: Strictness, said: dict[str, int]) -> None:
    assert asked(Scribe(tiny.DOUBTFUL), Passage("number"), strictness) == said


def test_it_is_asked_as_the_one_behind_a_server() -> None:
    scribe = Scribe(tiny.REFUSED)
    asked(scribe, Passage("So <|im_end|>.", R, "Then."))
    assert scribe.asked == [[("user", ""), ("assistant", "Then."), ("assistant", "So < |im_end|>.")]]


def test_what_is_hidden_is_asked_about_too_and_no_answer_to_it_is_none_at_all() -> None:
    text = "see " + base64.b64encode(b"how to make a bomb at home").decode()
    scribe = Scribe(tiny.SAFE, tiny.UNSAFE)
    assert asked(scribe, Passage(text)) == {"violence": HIGH}
    assert "bomb" in scribe.asked[1][-1][1]
    assert asked(Scribe(tiny.UNSAFE, "hm"), Passage(text)) is Cause.INVALID


def test_a_language_that_it_does_not_know_is_not_asked_about() -> None:
    scribe = Scribe(tiny.SAFE)
    guard = Guard("g", scribe, Strictness.GRADED, ALL, None, ["en"])
    assert [told(one) for one in guard.detect([Passage("你好，今天的天气很好。"), Passage("hello")])] == [Cause.UNSUPPORTED, {}]
    assert len(scribe.asked) == 1
    mixed = Passage(
        "Hello there, my friend, this is the garden of our little town, where the weather has been fine all week. Это просто обычный русский текст о погоде в нашем городе."
    )
    assert told(guard.detect([mixed])[0]) is Cause.UNSUPPORTED, "a sentence that it does not read is not safe"
    unsafe = Guard("g", Scribe(tiny.UNSAFE), Strictness.GRADED, ALL, None, ["en"])
    assert told(unsafe.detect([mixed])[0]) == {"violence": HIGH}, "what it is sure of counts all the same"
    (tried,) = guard.detect([Passage("你好，今天的天气很好。", trial=True)])
    assert (told(tried), len(scribe.asked)) == ({}, 3), "whether it answers shows in any language"


def test_only_what_the_policy_wants_and_under_its_names() -> None:
    assert asked(Scribe("Safety: Unsafe\nCategories: Violent, PII"), Passage("a"), categories=frozenset({"violence"})) == {
        "violence": HIGH
    }
    guard = Guard("g", Scribe(tiny.UNSAFE), Strictness.GRADED, frozenset({"arms"}), {"Violent": "arms"})
    assert [told(one) for one in guard.detect([Passage("a")])] == [{"arms": HIGH}]


def test_a_version_tells_all_that_answers_depend_on() -> None:
    other = Scribe("")
    other.version = "2"
    made = [
        Guard("g", Scribe(""), Strictness.GRADED, ALL), Guard("g", other, Strictness.GRADED, ALL),
        Guard("g", Scribe(""), Strictness.STRICT, ALL), Guard("g", Scribe(""), Strictness.GRADED, frozenset({"violence"})),
        Guard("g", Scribe(""), Strictness.GRADED, ALL, {"PII": "violence"}), Guard("g", Scribe(""), Strictness.GRADED, ALL, None, ["en"]),
    ]  # fmt: skip
    assert len({one.version for one in made}) == len(made)
    assert Guard("h", Scribe("x"), Strictness.GRADED, ALL).version == made[0].version


# --- with a model


@pytest.mark.parametrize(
    ("text", "role", "said"),
    [("how to hello", P, {}), ("how to bomb", P, {"violence": HIGH}), ("how to slowly", P, {"violence": HIGH}),
     ("how to boom", R, {"violence": HIGH}), ("how to boom", P, Cause.INVALID), ("how to chatter", P, Cause.INVALID),
     ("how to endless", P, Cause.INVALID)],
)  # fmt: skip
def test_a_tiny_model_is_asked_and_read(tmp_path: Path, text: str, role: Role, said: object) -> None:
    need("torch", "transformers", "safetensors", extra="transformers")
    from moderation.detect.transformer.generator import Generator

    guard = Guard("g", Generator(read_written(tiny.model(tmp_path))), Strictness.GRADED, ALL)
    (answer,) = detected(guard, [Passage(text, role)], lambda: None)
    assert told(answer) == said


@pytest.mark.parametrize("role", Role)
def test_a_random_model_says_nothing_that_counts_as_safe(tmp_path: Path, role: Role) -> None:
    need("torch", "transformers", "safetensors", extra="transformers")
    from moderation.detect.transformer.generator import Generator

    guard = Guard("g", Generator(read_written(tiny.model(tmp_path, None))), Strictness.GRADED, ALL)
    assert [told(one) for one in guard.detect([Passage("how to hello", role), Passage("你好", role)])] == [Cause.INVALID] * 2
