"""Qwen3Guard-Stream: what its tokens' verdicts say of a text. Pure; the model itself is given to transformer/token_guard.py.

A head of the model judges every token: `Safe`, `Controversial` or `Unsafe`, and a category. One token alone is noise, so a
verdict counts only where the next token's confirms it (the two-in-a-row rule of arXiv 2510.14276). A user's turn has one verdict,
that of its last token, and needs no confirmation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moderation.detect.guard.exchange import HIGH, MEDIUM, NONE, OTHER
from moderation.detect.guard.qwen3guard import Strictness
from moderation.text import Span

CATEGORY = {
    "Violent": "violence",
    "Illegal Acts": "illicit",
    "Non-violent Illegal Acts": "illicit",
    "Sexual Content": "sexual",
    "Sexual Content or Sexual Acts": "sexual",
    "PII": "personal_data",
    "Personally Identifiable Information": "personal_data",
    "Self-Harm": "self_harm",
    "Suicide & Self-Harm": "self_harm",
    "Unethical": "unethical",
    "Unethical Acts": "unethical",
    "Political": "politics",
    "Politically Sensitive Topics": "politics",
    "Copyright": "copyright",
    "Copyright Violation": "copyright",
    "Jailbreak": "jailbreak",
}
"""Its labels, in the spellings of its folders and of its report. What else it names counts as OTHER: found is found."""
USER, USER_END, ASSISTANT = "<|im_start|>user\n", "<|im_end|>", "\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""What its chat template puts around the turns."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one token, or of a user's turn."""

    score: int
    """Millionths; 0 for safe."""
    label: str


@dataclass(frozen=True, slots=True)
class Marked:
    """A stretch of a text whose tokens were confirmed, each by the next."""

    label: str
    score: int
    span: Span
    """In the text; with the token that confirms the last one."""


_SCORES = {
    Strictness.STRICT: {"Safe": 0, "Controversial": HIGH, "Unsafe": HIGH},
    Strictness.GRADED: {"Safe": 0, "Controversial": MEDIUM, "Unsafe": HIGH},
    Strictness.LOOSE: {"Safe": 0, "Controversial": NONE, "Unsafe": HIGH},
}


def verdict(result: object, strictness: Strictness) -> Verdict | None:
    """The verdict on the last token that was given; None for what is in no format of its."""
    match result:
        case {"risk_level": [*_, str(level)], "category": [*_, str(label)]} if level in _SCORES[strictness]:
            return Verdict(_SCORES[strictness][level], label)
        case _:
            return None


def category(label: str, own: Mapping[str, str]) -> str:
    """What a label counts as; `own`: what the policy says."""
    return own.get(label) or CATEGORY.get(label, OTHER)


def confirmed(before: Verdict | None, tokens: Sequence[tuple[Span, Verdict]]) -> list[Marked]:
    """The stretches that count, by label and place. `before`: the verdict on the token right before the text.

    A pair over the edge of two windows ends in the second one, and so counts there, from its start on. The lower score is its.
    """
    found: list[Marked] = []
    last, place = before, Span(0, 1)
    joins = False
    for span, one in tokens:
        score = min(last.score, one.score) if last is not None else 0
        if last is not None and score:
            whole = Span(min(place.start, span.start), max(place.end, span.end))
            if joins and (found[-1].label, found[-1].score) == (last.label, score):
                prior = found.pop().span
                whole = Span(min(prior.start, whole.start), max(prior.end, whole.end))
            found.append(Marked(last.label, score, whole))
        joins = last is not None and bool(score)
        last, place = one, span
    return found
