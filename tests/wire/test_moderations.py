"""/v1/moderations: what was sent, and an answer that OpenAI's own client reads."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import ModerationCreateResponse

from moderation.errors import Refused
from moderation.text import Media, Turn
from moderation.verdict import Action
from moderation.wire.moderations import CATEGORIES, Score, moderations_json, read_moderations, result_json

INPUTS: list[tuple[str, Any, list[list[tuple[str, str]]]]] = [
    ("a string", "x", [[("/input", "x")]]),
    ("strings make a result each", ["x", "y"], [[("/input/0", "x")], [("/input/1", "y")]]),
    ("parts make one", [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}],
     [[("/input/0/text", "x"), ("/input/1/text", "y")]]),
    ("a picture is no text", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}], [[]]),
    ("text in unknown parts", [{"type": "x", "y": {"z": "t"}}], [[("/input/0/y/z", "t")]]),
    ("an empty string", "", [[("/input", "")]]),
]


@pytest.mark.parametrize(("note", "given", "texts"), INPUTS, ids=[c[0] for c in INPUTS])
def test_inputs(note: str, given: object, texts: list[list[tuple[str, str]]]) -> None:
    read = read_moderations({"input": given, "model": "omni-moderation-latest"})
    assert [[(s.path, s.text) for s in one.segments] for one in read] == texts


def test_pictures_are_recorded() -> None:
    [read] = read_moderations({"input": [{"type": "image_url", "image_url": {"url": "https://x.example/a"}}]})
    assert read.media == (Media("/input/0", "image", Turn.NEW),)


@pytest.mark.parametrize("body", [
    None, [], {}, {"input": None}, {"input": []}, {"input": 5}, {"input": {"type": "text"}}, {"input": ["x", 5]},
    {"input": ["x", {"type": "text", "text": "y"}]}, {"input": ["x"] * 100_001},
    {"input": [{"type": "x", "y": ["z"] * 100_001}]},
])
def test_refuses(body: object) -> None:
    with pytest.raises(Refused) as refused:
        read_moderations(body)
    assert refused.value.code == "invalid_body"
    assert refused.value.message.startswith("/input")


def test_a_result() -> None:
    scores = {"self_harm": Score(900_000, True), "secret": Score(250_000, False)}
    result = result_json(Action.BLOCK, scores, ["personal_data", "self_harm"], {"action": "block"})
    assert set(result["categories"]) == {*CATEGORIES, "personal_data", "secret", "self_harm"}
    assert {name for name, flagged in result["categories"].items() if flagged} == {"self_harm", "self-harm"}
    assert {name: score for name, score in result["category_scores"].items() if score} == {
        "self_harm": 0.9, "self-harm": 0.9, "secret": 0.25,
    }
    applied = result["category_applied_input_types"]
    assert {name for name, types in applied.items() if types == ["text"]} == {"personal_data", "secret", "self_harm", "self-harm"}
    assert (result["flagged"], result["moderation"]) == (True, {"action": "block"})
    said = ModerationCreateResponse.model_validate(moderations_json("modr-1", "default", [result]))
    assert said.results[0].categories.self_harm
    assert not said.results[0].categories.violence_graphic


@pytest.mark.parametrize("action", list(Action))
def test_flagged_means_not_allowed(action: Action) -> None:
    result = result_json(action, {}, [], {})
    assert result["flagged"] is (action is not Action.ALLOW)
    assert set(result["categories"]) == set(CATEGORIES)
    assert not any(result["category_scores"].values())
