"""The nouns of text: which texts a conversation holds, where each stands, and what it is.

All offsets in this project are Unicode code points into the original text of a segment, end exclusive.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """When a text is judged."""

    INPUT = "input"
    TOOL_RESULT = "tool_result"
    OUTPUT = "output"
    TOOL_CALL = "tool_call"


class Channel(StrEnum):
    """What a text is."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    REASONING = "reasoning"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    TOOL_DEFINITION = "tool_definition"
    ANSWER = "answer"
    REFUSAL = "refusal"


class Role(StrEnum):
    """Whose words a text is, as a model is asked about it."""

    PROMPT = "prompt"
    RESPONSE = "response"
    TOOL_RESULT = "tool_result"


ROLES = {
    Channel.ASSISTANT: Role.RESPONSE,
    Channel.REASONING: Role.RESPONSE,
    Channel.TOOL_CALL: Role.RESPONSE,
    Channel.TOOL_RESULT: Role.TOOL_RESULT,
    Channel.ANSWER: Role.RESPONSE,
    Channel.REFUSAL: Role.RESPONSE,
}
"""By channel; what is not here is a prompt."""


class Turn(StrEnum):
    """Whether a text is new in this request or was resent with the history."""

    NEW = "new"
    HISTORY = "history"


class Origin(StrEnum):
    """Who supplied a span first, as far as exact repeats tell."""

    USER = "user_supplied"
    APP = "app_supplied"
    TOOL = "tool_supplied"
    MODEL = "model_supplied"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of code points, end exclusive, never empty."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Segment:
    """The text of one field."""

    channel: Channel
    phase: Phase
    turn: Turn
    text: str
    path: str
    """JSON pointer (RFC 6901) into the original body; for tool arguments that are JSON, `#` and a pointer into those."""
    tool: str | None = None
    """The tool's name, for calls, results and definitions."""
    choice: int = 0
    literal: bool = False
    """True where the text stands in the JSON as a bare number or word, so an edit must write a string in its place."""


@dataclass(frozen=True, slots=True)
class Media:
    """A part that no detector here reads."""

    path: str
    kind: str
    """image | audio | video | file | other"""
    turn: Turn


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a request or an answer says, as segments in the order of the body."""

    segments: tuple[Segment, ...]
    media: tuple[Media, ...] = ()
    model: str | None = None
    stream: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a decision is made. All but model and language come from the configuration, never from a body."""

    tenant: str = "default"
    route: str = "default"
    region: str = "default"
    model: str = "other"
    """The body's model where the active policy names it, else `other`."""
    language: str = "und"
    """BCP 47 primary tag guessed from the script of the newest user text; `und` where nothing tells."""
