"""/v1/moderations: what goes out, what comes back from OpenAI, from others and from this sidecar, and what is no judgement."""

from __future__ import annotations

import json

import pytest

from moderation.detect.api import Passage
from moderation.detect.guard.exchange import OTHER, Judged, Said
from moderation.detect.guard.openai_moderation import CATEGORY, FLAGGED, YES, OpenAiModeration
from moderation.text import Role
from moderation.verdict import Cause
from moderation.wire.moderations import CATEGORIES
from tests.detect.guard.replies import STAMP, reply

JUDGE = OpenAiModeration("omni-moderation-latest", key="k")


def test_a_question() -> None:
    question = JUDGE.question(Passage("Wie? \ud800", Role.PROMPT), STAMP)
    assert question.path == "/moderations"
    assert json.loads(question.body) == {"input": "Wie? \ufffd", "model": "omni-moderation-latest"}
    assert question == JUDGE.question(Passage("Wie? \ud800", Role.RESPONSE), STAMP)
    assert "model" not in json.loads(OpenAiModeration().question(Passage("x", Role.PROMPT), STAMP).body)


def test_all_of_openais_categories_are_known() -> None:
    assert set(CATEGORY) == set(CATEGORIES)


def result(yes: object, scores: object, flagged: object = False) -> dict[str, object]:
    given = {"flagged": flagged, "categories": yes, "category_scores": scores, "category_applied_input_types": {"hate": ["text"]}}
    return {name: value for name, value in given.items() if value != "left out"}


ONE: list[tuple[object, Judged, str]] = [
    (result({"hate": False}, {"hate": 0.01}), (Said("hate", 10_000),), "nothing much"),
    (result({"hate": True}, {"hate": 0.93}, True), (Said("hate", 930_000),), "found"),
    (result({"hate": True}, {"hate": 0.2}, True), (Said("hate", YES),), "found, by a threshold of its own"),
    (result({"hate": False}, {"hate": 0.7}), (Said("hate", 700_000),), "not found, and yet likely"),
    (result({"hate": False}, {"hate": 0}, True), (Said("hate", 0), Said(FLAGGED, YES)), "flagged for what it does not say"),
    (result({"hate": False}, {"hate": 0.01}, "left out"), (Said("hate", 10_000),), "as Mistral says it, without flagged"),
    (result({"illicit": None}, {"illicit": 0.0}), (Said("illicit", 0),), "not judged by an old model"),
    (result({"dangerous": True}, {"dangerous": 0.9}, True), (Said("dangerous", 900_000),), "a category of its own"),
    (result({}, {"hate": 0.01}), (Said("hate", 10_000),), "scores alone"),
    (result({"hate": True}, {}, True), Cause.INVALID, "found, but no score"),
    (result({}, {}), Cause.INVALID, "nothing was judged"),
    (result({"hate": False}, {"hate": 1.5}), Cause.INVALID, "no score"),
    (result({"hate": False}, {"hate": "0.5"}), Cause.INVALID, "a string"),
    (result({"hate": False}, {"hate": None}), Cause.INVALID, "no number"),
    (result({"hate": "yes"}, {"hate": 0.5}), Cause.INVALID, "no yes or no"),
    (result({"hate": 1}, {"hate": 0.5}), Cause.INVALID, "a number for yes"),
    (result({"hate": False}, {"hate": 0.1}, "no"), Cause.INVALID, "a word for no"),
    (result([], {"hate": 0.1}), Cause.INVALID, "a list"),
    (result({"hate": False}, "left out"), Cause.INVALID, "no scores"),
    ("safe", Cause.INVALID, "a word"),
]


@pytest.mark.parametrize(("one", "said", "note"), ONE, ids=[case[-1] for case in ONE])
def test_a_result_is_read(one: object, said: Judged, note: str) -> None:
    assert JUDGE.read(reply({"id": "modr-1", "model": "m", "results": [one]}), Role.PROMPT) == said


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ({"results": []}, "no result"),
        ({"results": [result({}, {"hate": 0.0})] * 2}, "two, for one text"),
        ({"error": {"message": "no", "code": "x"}}, "an error with a status of 200"),
        (result({}, {"hate": 0.0}), "a bare result"),
    ],
)
def test_anything_else_is_unknown(body: object, note: str) -> None:
    assert JUDGE.read(reply(body), Role.PROMPT) is Cause.INVALID, note


@pytest.mark.parametrize(
    ("label", "category"),
    [("hate/threatening", "hate_harassment"), ("self-harm/intent", "self_harm"), ("dangerous", OTHER), (FLAGGED, OTHER)],
)
def test_categories(label: str, category: str) -> None:
    assert JUDGE.category(label) == category
