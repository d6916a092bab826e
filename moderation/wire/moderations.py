"""POST /v1/moderations in OpenAI's format: what was sent, and the answer with OpenAI's categories and ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from moderation.errors import Refused
from moderation.text import Channel, Conversation, Media, Phase, Segment, Turn
from moderation.verdict import FULL_SCORE, Action
from moderation.wire.leaves import MAX_LEAVES, Leaves, TooMany
from moderation.wire.media import media_kind, media_texts

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""All that clients of this API expect to find, in every result."""

SAME = {"self_harm": "self-harm", "weapons": "illicit/violent", "illegal_acts": "illicit"}
"""Categories of ours that say what one of theirs says; both are given."""


def read_moderations(body: Any) -> tuple[Conversation, ...]:
    """One conversation for each result: a string or a list of parts makes one, a list of strings one each."""
    given = body.get("input") if isinstance(body, dict) else None
    if isinstance(given, str):
        return (_text(given, "/input"),)
    if not isinstance(given, list) or not given:
        raise Refused("invalid_body", "/input: expected a string, a list of strings or a list of parts")
    if len(given) > MAX_LEAVES:
        raise Refused("invalid_body", f"/input: more than {MAX_LEAVES} items")
    if all(isinstance(one, str) for one in given):
        return tuple(_text(one, f"/input/{index}") for index, one in enumerate(given))
    try:
        return (_parts(given),)
    except TooMany:
        raise Refused("invalid_body", f"/input: more than {MAX_LEAVES} values") from None


def _text(text: str, path: str) -> Conversation:
    return Conversation((Segment(Channel.USER, Phase.INPUT, Turn.NEW, text, path),))


def _parts(parts: Sequence[Any]) -> Conversation:
    segments: list[Segment] = []
    media: list[Media] = []
    for index, part in enumerate(parts):
        path = f"/input/{index}"
        if not isinstance(part, dict):
            raise Refused("invalid_body", f"{path}: expected an object such as {{\"type\": \"text\"}}")
        leaves = Leaves()
        kind = media_kind(part)
        if kind is None:
            leaves.take(part, path)
        else:
            media.append(Media(path, kind, Turn.NEW))
            media_texts(part, path, leaves)
        segments.extend(
            Segment(Channel.USER, Phase.INPUT, Turn.NEW, leaf.text, leaf.path, literal=leaf.literal)
            for leaf in leaves.close(path)
        )
    return Conversation(tuple(segments), tuple(media))


@dataclass(frozen=True, slots=True)
class Score:
    """The highest score of a category in one input, and whether a rule used it."""

    score: int
    """In millionths."""
    flagged: bool


def moderations_json(answer_id: str, model: str, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The whole answer."""
    return {"id": answer_id, "model": model, "results": list(results)}


def result_json(
    action: Action,
    scores: Mapping[str, Score],
    ours: Iterable[str],
    verdict: Mapping[str, Any],
    *,
    types: Sequence[str] = ("text",),
) -> dict[str, Any]:
    """One result. `ours` are the categories that the policy's detectors know; `verdict` goes out beside them.

    `types` are the kinds of input that were read; a category that no detector knows was applied to none.
    """
    known = {*ours, *scores}
    known |= {SAME[name] for name in known if name in SAME}
    merged = dict.fromkeys((*CATEGORIES, *sorted(known.difference(CATEGORIES))), Score(0, False))
    for category, score in scores.items():
        for name in {category, SAME.get(category, category)}:
            before = merged[name]
            merged[name] = Score(max(before.score, score.score), before.flagged or score.flagged)
    return {
        "flagged": action is not Action.ALLOW,
        "categories": {name: one.flagged for name, one in merged.items()},
        "category_scores": {name: one.score / FULL_SCORE for name, one in merged.items()},
        "category_applied_input_types": {name: list(types) if name in known else [] for name in merged},
        "moderation": dict(verdict),
    }
