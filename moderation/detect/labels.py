"""What the config.json of a classifier says of its labels, as the transformers library writes it. Pure; knows no runtime."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from moderation.errors import UsageError

CONFIG = "config.json"
MAX_LABEL = 100
_HARMLESS = frozenset(
    ("o", "safe", "benign", "neutral", "normal", "none", "ok", "legit", "clean", "harmless", "non_toxic", "nontoxic", "not_toxic",
     "non_hate", "not_hate", "no_hate")
)  # fmt: skip
"""Labels that say that nothing was found."""


def labels(said: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The labels of the columns, in their order. Raises UsageError, with `where`, if they are not named, or not each once."""
    named = said.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})  # what transformers leaves out where it is the usual
    if isinstance(named, dict) and all(isinstance(one, str) and 0 < len(one) <= MAX_LABEL for one in named.values()):
        found = [named.get(str(number)) for number in range(len(named))]
        if found and len(set(found)) == len(found) and None not in found:
            return tuple(one for one in found if one is not None)
    raise UsageError(f"`id2label` in {CONFIG} does not name its labels, from 0 on, each once", where)


def several(said: Mapping[str, Any], count: int, where: str) -> bool:
    """Whether more than one of `count` labels can hold of one text, so that each has a chance of its own (sigmoid), and they do
    not sum to one (softmax). Raises UsageError where what it gives are no chances.
    """
    kind = said.get("problem_type")
    if kind == "regression":
        raise UsageError("it gives numbers that are no chances (problem_type: regression)", where)
    return kind == "multi_label_classification" or count == 1


def category(label: str) -> str | None:
    """What a label counts as where the policy says nothing; None where it says that nothing was found."""
    name = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    return None if name in _HARMLESS or not name else name[:64]
