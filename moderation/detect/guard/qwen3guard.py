"""Qwen3Guard-Gen, behind a server or in process: its chat template, its output format, its nine categories.

The template holds the instruction: a last message of the user asks about a prompt, one of the assistant about a response, and
only the last message is judged; what stands before it goes out as a message of its own. Two lines come
back, three for a response:

    Safety: Unsafe
    Categories: Violent, Jailbreak
    Refusal: No

(QwenLM/Qwen3Guard, README and arXiv 2510.14276.) They are read to the letter: lines more or less, words of any other kind, a
category beside `Safe` or none beside `Unsafe` are no judgement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from moderation.detect.api import Passage
from moderation.detect.guard.chat import Message, answered, asked, plain
from moderation.detect.guard.exchange import HIGH, MEDIUM, NONE, Judged, Question, Reply, Said, Stamp
from moderation.text import Role
from moderation.verdict import Cause

CATEGORY = {
    "Violent": "violence",
    "Non-violent Illegal Acts": "illicit",
    "Sexual Content or Sexual Acts": "sexual",
    "PII": "personal_data",
    "Suicide & Self-Harm": "self_harm",
    "Unethical Acts": "unethical",
    "Politically Sensitive Topics": "politics",
    "Copyright Violation": "copyright",
    "Jailbreak": "jailbreak",
}
"""Its labels, and what they count as where the policy says nothing."""
PROMPT_ONLY = frozenset({"Jailbreak"})
MAX_TOKENS = 128
LIMIT = 8_000
"""UTF-16 units: its tokens are of bytes, so a unit takes three at worst, and there are 32,768."""

_PROMPT = re.compile(r"Safety: (Safe|Unsafe|Controversial)\nCategories: ([^\n]+)")
_RESPONSE = re.compile(_PROMPT.pattern + r"\nRefusal: (?:Yes|No)")


class Strictness(StrEnum):
    """What `Controversial` counts as."""

    STRICT = "strict"
    """Unsafe."""
    GRADED = "graded"
    """Medium, below Unsafe, which is high."""
    LOOSE = "loose"
    """Safe."""


_CONTROVERSIAL = {Strictness.STRICT: HIGH, Strictness.GRADED: MEDIUM, Strictness.LOOSE: NONE}


@dataclass(frozen=True, slots=True)
class Qwen3Guard:
    """See guard/exchange.py, Engine."""

    model: str
    strictness: Strictness = Strictness.GRADED
    key: str | None = field(default=None, repr=False)

    @property
    def categories(self) -> frozenset[str]:
        return frozenset(CATEGORY.values())

    @property
    def version(self) -> str:
        return f"qwen3guard 1 {self.model} {self.strictness}"

    def category(self, label: str) -> str:
        return CATEGORY[label]

    def limit(self, role: Role) -> int | None:
        return LIMIT

    def question(self, passage: Passage, stamp: Stamp) -> Question:
        return asked(self.model, messages(passage), self.key, MAX_TOKENS)

    def read(self, reply: Reply, role: Role) -> Judged:
        content = answered(reply)
        return content if isinstance(content, Cause) else judged(content, role, self.strictness)


def messages(passage: Passage) -> list[Message]:
    """What it is asked about a passage; the template adds the question. Only the last message is judged."""
    response = passage.role is Role.RESPONSE
    whose = "assistant" if response else "user"
    # The template writes nothing of an assistant's message that comes first.
    made = [("user", "")] if response else []
    if passage.before:
        made.append((whose, plain(passage.before)))
    return [*made, (whose, plain(passage.text))]


def judged(content: str, role: Role, strictness: Strictness = Strictness.GRADED) -> Judged:
    """What the model's output says. White space around all of it is the only freedom."""
    format_ = _RESPONSE if role is Role.RESPONSE else _PROMPT
    match = format_.fullmatch(content.strip(" \n"))
    if match is None:
        return Cause.INVALID
    safety, named = match[1], match[2].split(", ")
    if safety == "Safe":
        return () if named == ["None"] else Cause.INVALID
    known = CATEGORY.keys() - PROMPT_ONLY if role is Role.RESPONSE else CATEGORY.keys()
    if len(set(named)) != len(named) or not known >= set(named):
        return Cause.INVALID
    score = HIGH if safety == "Unsafe" else _CONTROVERSIAL[strictness]
    return tuple(Said(label, score) for label in named)
