"""The choices of an answer or of a chunk: their numbers, and the places beside their text that an edit must touch too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def is_reasoning(key: str) -> bool:
    """reasoning_content (Qwen, SGLang), reasoning (vLLM), reasoning_details, thinking …"""
    return key.startswith(("reasoning", "thinking"))


def choice_index(choice: dict[str, Any], position: int) -> int:
    """The number of a choice; its position where it has none."""
    index = choice.get("index")
    return index if type(index) is int else position


def is_error(body: Any) -> bool:
    """Whether a body is an error in any of the shapes that Qwen's servers use, whatever its HTTP status.

    An `error` that is false or empty is none: clients go on reading then, and so do we.
    """
    if type(body) is not dict or body.get("choices") is not None:
        return False
    return bool(body.get("error")) or body.get("object") == "error" or ("code" in body and "message" in body)


def logprob_pointers(body: Any, choice: int) -> tuple[str, ...]:
    """What of a choice repeats its text token by token; where the text is edited, these must become null."""
    return tuple(
        f"/choices/{position}/{key}"
        for position, one in _choices(body)
        if choice_index(one, position) == choice
        for key in ("logprobs", "token_ids")
        if one.get(key) is not None
    )


def finish_pointers(body: Any) -> tuple[str, ...]:
    """Each finish_reason that is given."""
    return tuple(
        f"/choices/{position}/finish_reason"
        for position, one in _choices(body)
        if one.get("finish_reason") is not None
    )


def _choices(body: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    choices = body.get("choices") if type(body) is dict else None
    if type(choices) is list:
        for position, one in enumerate(choices):
            if type(one) is dict:
                yield position, one
