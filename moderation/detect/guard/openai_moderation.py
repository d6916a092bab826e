"""Any endpoint of the form /v1/moderations: OpenAI's, a gateway's, this sidecar's own.

A result has a number and a yes or no for each category. The number is the score; a yes lifts it to .5 at least, for the yes is
made with thresholds of the endpoint's own. Endpoints have categories of their own beside OpenAI's: those count as `other_harm`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moderation.detect.api import Passage
from moderation.detect.guard.exchange import (
    OTHER,
    Judged,
    Question,
    Reply,
    Said,
    Stamp,
    an_object,
    bearer,
    millionths,
    refused,
)
from moderation.text import Role
from moderation.verdict import Cause
from moderation.wire.body import mended

CATEGORY = {
    "harassment": "hate_harassment",
    "harassment/threatening": "hate_harassment",
    "hate": "hate_harassment",
    "hate/threatening": "hate_harassment",
    "illicit": "illicit",
    "illicit/violent": "illicit",
    "self-harm": "self_harm",
    "self-harm/instructions": "self_harm",
    "self-harm/intent": "self_harm",
    "sexual": "sexual",
    "sexual/minors": "sexual",
    "violence": "violence",
    "violence/graphic": "violence",
}
"""OpenAI's labels (API reference, moderations), and what they count as where the policy says nothing."""
YES = 500_000
"""The least score of a category that the endpoint says yes to."""
FLAGGED = "flagged"
"""The label where a text is flagged, and no category is."""
LIMIT = 20_000
"""UTF-16 units."""


@dataclass(frozen=True, slots=True)
class OpenAiModeration:
    """See guard/exchange.py, Engine."""

    model: str | None = None
    """None for the endpoint's default."""
    key: str | None = field(default=None, repr=False)

    @property
    def categories(self) -> frozenset[str]:
        return frozenset({*CATEGORY.values(), OTHER})

    @property
    def version(self) -> str:
        return f"openai_moderation 1 {self.model}"

    def category(self, label: str) -> str:
        return CATEGORY.get(label, OTHER)

    def limit(self, role: Role) -> int | None:
        return LIMIT

    def question(self, passage: Passage, stamp: Stamp) -> Question:
        body: dict[str, object] = {"input": mended(passage.text)}
        if self.model is not None:
            body["model"] = self.model
        return Question("/moderations", bearer(self.key), json.dumps(body, ensure_ascii=False).encode())

    def read(self, reply: Reply, role: Role) -> Judged:
        cause = refused(reply.status)
        if cause is not None:
            return cause
        match an_object(reply.body):
            case {"results": [{"categories": dict(yes), "category_scores": dict(scores), **rest}]}:
                return _judged(rest.get("flagged", False), yes, scores)  # Mistral's has no `flagged`
            case _:
                return Cause.INVALID


def _judged(flagged: object, yes: Mapping[str, Any], scores: Mapping[str, Any]) -> Judged:
    """One result. Every score must be one, and every yes must have one."""
    said: list[Said] = []
    if not isinstance(flagged, bool) or not scores or not yes.keys() <= scores.keys():
        return Cause.INVALID
    for label in sorted(scores):
        score, answer = millionths(scores[label]), yes.get(label, False)
        # Some endpoints say null of categories that they do not judge.
        if score is None or not (answer is None or isinstance(answer, bool)):
            return Cause.INVALID
        said.append(Said(label, max(score, YES) if answer else score))
    if flagged and all(one.score < YES for one in said):
        said.append(Said(FLAGGED, YES))
    return tuple(said)
