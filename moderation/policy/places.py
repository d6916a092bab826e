"""Where the parts of a policy stand, for the checks that come after reading."""

from __future__ import annotations

from dataclasses import dataclass, field

from moderation.policy.faults import Place


@dataclass(slots=True)
class Lines:
    """Places by id."""

    regulations: dict[str, Place] = field(default_factory=dict)
    messages: dict[str, Place] = field(default_factory=dict)
    texts: dict[tuple[str, str], Place] = field(default_factory=dict)
    """Of messages, by id and language."""
    whole_messages: set[str] = field(default_factory=set)
    """Messages of which every text could be read."""
    lists: dict[str, Place] = field(default_factory=dict)
    torn: set[str] = field(default_factory=set)
    """Rules of which tests, or what tests hang on, could not be read."""
    words: frozenset[str] = frozenset()
    """Every value in the file: where something could not be read, what stands here counts as used."""
