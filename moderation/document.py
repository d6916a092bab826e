"""moderation.yaml as plain values that know where they stand, and the faults of a configuration. Knows no setting by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from moderation.errors import UsageError
from moderation.policy.faults import Faults, nearest
from moderation.policy.load import find, find_key, parse, plain

Place = tuple[str | int, ...]
"""(`routes`, 0, `name`)"""


class Where(NamedTuple):
    """Where a value came from. Line and column count from 1, and are 0 for a flag and a variable."""

    line: int
    column: int
    text: str
    """FILE:LINE:COLUMN, a flag, or a variable."""


def source(name: str) -> Where:
    """A flag, a variable, a whole file."""
    return Where(0, 0, name)


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file as plain values, and where each place of it stands."""

    file: str
    data: object
    at: Callable[[Place], Where]
    """Of a value."""
    key: Callable[[Place], Where]
    """Of its key."""
    faults: tuple[tuple[Where, str], ...] = ()
    """What the YAML reader refused. A refused value is None."""


YamlReader = Callable[[str, bytes], Document]
"""(file name, its bytes); raises ConfigError where nothing of it can be read."""


class ConfigError(UsageError):
    """All faults of a configuration, one a line."""

    def __init__(self, faults: Sequence[UsageError]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


@dataclass(slots=True)
class Told:
    """The faults of one configuration, gathered in one pass."""

    found: list[tuple[Where, str]] = field(default_factory=list)
    doubt: set[str] = field(default_factory=set)
    """Names of settings and sections that were given and could not be read: what is missing without them is not told."""

    def add(self, where: Where, message: str) -> None:
        self.found.append((where, message))

    def raise_any(self) -> None:
        """Raise ConfigError where there is a fault: flags and variables first, then the file from top to bottom."""
        if self.found:
            ordered = sorted(self.found, key=lambda fault: fault[0][:2])
            raise ConfigError([UsageError(message, where.text) for where, message in ordered])


def unknown(key: str, known: Collection[str]) -> str:
    """The end of a message about a key that is not known."""
    near = nearest(key, known)
    return f"{key!r}. Did you mean {near!r}?" if near else f"{key!r}. Known: {', '.join(known)}."


def nothing(file: str) -> Document:
    """A file that says nothing."""
    return Document(file, {}, lambda _: source(file), lambda _: source(file))


def read_yaml(file: str, raw: bytes) -> Document:
    """The policies' own YAML reader: moderation.yaml has no surprises that a policy has not. Comments alone are no fault."""
    if all(not line.strip() or line.lstrip().startswith(b"#") for line in raw.split(b"\n")):
        return nothing(file)
    faults = Faults(file)
    tree = parse(raw, faults)
    refused = tuple((Where(f.line, f.column, f"{file}:{f.line}:{f.column}"), f"{f.code} {f.message}") for f in faults.sorted())
    if tree is None:
        raise ConfigError([UsageError(message, where.text) for where, message in refused])

    def at(place: Place) -> Where:
        found = find(tree, place)
        return Where(found.line, found.column, f"{file}:{found.line}:{found.column}")

    def key(place: Place) -> Where:
        found = find_key(tree, place)
        return Where(found.line, found.column, f"{file}:{found.line}:{found.column}")

    return Document(file, plain(tree), at, key, refused)
