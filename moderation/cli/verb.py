"""A verb of the command line as data: its words, its arguments, and what runs. Knows no verb by name."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Argument:
    """One argument: the flags (or the one name of a positional) and the rest of argparse's add_argument."""

    flags: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Verb:
    """`moderation WORDS…`. `run` returns the exit code."""

    words: tuple[str, ...]
    help: str
    arguments: tuple[Argument, ...]
    run: Callable[[argparse.Namespace], int]
