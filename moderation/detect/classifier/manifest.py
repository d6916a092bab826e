"""A model's folder: what its manifest.yaml says of it, and the bytes of its files, which must be those that it says.

A manifest is read by the policies' own YAML reader, so that each fault has a line and a column. Knows no runtime.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from moderation.errors import UsageError
from moderation.policy.faults import Faults
from moderation.policy.load import find, parse, plain
from moderation.text import Role
from moderation.verdict import FULL_SCORE, Level

MANIFEST = "manifest.yaml"
FORMAT = 1
MAX_FILE = 2 << 30
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PIN = re.compile(r"sha256:[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LEVELS = {level.word: level for level in Level if level}


class Kind(StrEnum):
    ENCODER = "encoder"
    """model.onnx and tokenizer.json"""
    NGRAM = "ngram"
    """weights.npz"""
    EXPORTED = "exported"
    """A folder as Hugging Face lays it out, without a manifest of ours: layout.py makes one of what it says."""


NEEDS = {Kind.ENCODER: ("model.onnx", "tokenizer.json"), Kind.NGRAM: ("weights.npz",)}


@dataclass(frozen=True, slots=True)
class Head:
    """One thing that a model judges."""

    name: str
    category: str
    knots: tuple[tuple[float, float], ...]
    """(logit, score from 0 to 1), both rising; between two of them a straight line, beyond the ends the ends' scores."""

    def score(self, logit: float) -> int:
        """The calibrated score of a logit, in millionths."""
        at = bisect_right(self.knots, logit, key=lambda knot: knot[0])
        if at == 0 or at == len(self.knots):
            return round(self.knots[min(at, len(self.knots) - 1)][1] * FULL_SCORE)
        (low, least), (high, most) = self.knots[at - 1], self.knots[at]
        return round((least + (most - least) * (logit - low) / (high - low)) * FULL_SCORE)


@dataclass(frozen=True, slots=True)
class Chances:
    """How the numbers that a graph gives become chances from 0 to 1, where no calibration says."""

    labels: tuple[str, ...]
    """Of its columns; those that are no head say that nothing was found."""
    many: bool
    """Each has a chance of its own (sigmoid); else they sum to one (softmax)."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A cheap model that is asked before (gate.py), as it was measured: classifiers/train/gate.py writes it."""

    pin: str
    """Of the n-gram model that was measured."""
    below: int
    """What it scores below this, in millionths, is settled."""
    languages: tuple[str, ...]
    """Those that it was measured on."""
    default: bool
    """Used where the policy says nothing."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A file of the folder."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a folder says of itself."""

    folder: Path
    digest: str
    """SHA-256 hex of manifest.yaml: as that holds the hash of every other file, it stands for the whole model. Where there is
    none, over the names and hashes of the files that are read."""
    name: str
    version: str
    kind: Kind
    languages: tuple[str, ...]
    files: Mapping[str, Listed]
    tokens: int
    """The most tokens of one call, special ones and the role's words too."""
    roles: Mapping[Role, str]
    """What stands before a text, by role."""
    heads: tuple[Head, ...]
    """In the order of the logits."""
    levels: Mapping[Level, int]
    """The least score of each level, in millionths."""
    chances: Chances | None = None
    """Where there is no calibration: then the heads' knots are those of a chance."""
    gate: Gate | None = None

    @property
    def pin(self) -> str:
        """What a policy pins it by."""
        return f"sha256:{self.digest}"

    def read(self, file: str) -> bytes:
        """The bytes of a listed file. Raises UsageError where they are not there, or not those that the manifest lists."""
        listed, path = self.files[file], self.folder / file
        try:
            with path.open("rb") as opened:
                found = opened.read(listed.bytes + 1)
        except OSError as error:
            raise UsageError(f"cannot be read: {error.strerror}", str(path)) from None
        if len(found) != listed.bytes:
            more = "more" if len(found) > listed.bytes else str(len(found))
            raise UsageError(f"has {more} bytes, and {MANIFEST} says {listed.bytes}: it is not the model's file", str(path))
        if hashlib.sha256(found).hexdigest() != listed.sha256:
            raise UsageError(f"has not the SHA-256 that {MANIFEST} lists: it is not the model's file, or damaged", str(path))
        return found


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; nothing else of it is read. Raises UsageError with every fault that is found."""
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", str(path)) from None
    faults = Faults(str(path))
    tree = parse(raw, faults)
    if tree is None or faults.found:
        raise UsageError("\n".join(f"{one.file}:{one.line}:{one.column} {one.message}" for one in faults.sorted()))

    def place(*steps: str | int) -> str:
        at = find(tree, steps)
        return f"{path}:{at.line}:{at.column}"

    return _Reader(plain(tree), place).manifest(folder, hashlib.sha256(raw).hexdigest())


class _Reader:
    """From plain values to a Manifest; keeps every fault, so that all are told at once. Keys that it does not know are let be."""

    def __init__(self, data: object, place: Any) -> None:
        self._data, self._place = data, place
        self._faults: list[str] = []

    def manifest(self, folder: Path, digest: str) -> Manifest:
        if self._get("format") != FORMAT:
            self._fault(f"is not of format {FORMAT}, the only one that this version reads", "format")
            raise UsageError("\n".join(self._faults))
        made = Manifest(
            folder, digest, self._text(_NAME, "a name", "name"), self._text(None, "a text in quotes", "version"), self._kind(),
            self._languages("languages"), self._files(), self._whole("windows", "tokens"), self._roles(), self._heads(),
            self._levels(), None, self._gate() if self._get("gate") is not None else None,
        )  # fmt: skip
        for file in NEEDS[made.kind]:
            if file not in made.files:
                self._fault(f"lists no {file}, which the engine {made.kind} needs", "files")
        if self._faults:
            raise UsageError("\n".join(self._faults))
        return made

    def _fault(self, message: str, *steps: str | int) -> None:
        self._faults.append(f"{self._place(*steps)} {'.'.join(map(str, steps))}: {message}")

    def _get(self, *steps: str | int) -> Any:
        value: Any = self._data
        for step in steps:
            if isinstance(value, dict):
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int):
                value = value[step]
            else:
                return None
        return value

    def _text(self, form: re.Pattern[str] | None, what: str, *steps: str | int) -> str:
        value = self._get(*steps)
        if isinstance(value, str) and value and (form is None or form.fullmatch(value)):
            return value
        self._fault(f"must be {what}", *steps)
        return ""

    def _whole(self, *steps: str | int) -> int:
        value = self._get(*steps)
        if type(value) is int and 16 <= value <= 8192:
            return value
        self._fault("must be a whole number from 16 to 8192", *steps)
        return 16

    def _map(self, *steps: str | int) -> dict[str, Any]:
        value = self._get(*steps)
        if isinstance(value, dict) and value:
            return value
        self._fault("must be a mapping, and not be empty", *steps)
        return {}

    def _kind(self) -> Kind:
        value = self._get("engine")
        if value in tuple(NEEDS):
            return Kind(value)
        self._fault(f"must be one of {', '.join(NEEDS)}", "engine")
        return Kind.NGRAM

    def _languages(self, *steps: str) -> tuple[str, ...]:
        value = self._get(*steps)
        if isinstance(value, list) and value and all(isinstance(one, str) and one for one in value):
            return tuple(value)
        self._fault("must be a list of language tags", *steps)
        return ()

    def _gate(self) -> Gate:
        below, default = self._get("gate", "below"), self._get("gate", "default")
        if not _is_number(below) or not 0 <= below <= 1:
            self._fault("must be a number from 0 to 1", "gate", "below")
            below = 0
        if type(default) is not bool:
            self._fault("must be true or false", "gate", "default")
        return Gate(
            self._text(_PIN, "sha256: and 64 hexadecimal digits", "gate", "pin"), round(below * FULL_SCORE),
            self._languages("gate", "languages"), default is True,
        )  # fmt: skip

    def _files(self) -> dict[str, Listed]:
        found: dict[str, Listed] = {}
        for name in self._map("files"):
            sha256 = self._text(_SHA256, "64 hexadecimal digits", "files", name, "sha256")
            size = self._get("files", name, "bytes")
            if _FILE.fullmatch(name) is None or name == MANIFEST:
                self._fault("is no name of a file beside the manifest", "files", name)
            elif type(size) is not int or not 0 <= size <= MAX_FILE:
                self._fault(f"must be a number of bytes up to {MAX_FILE}", "files", name, "bytes")
            else:
                found[name] = Listed(sha256, size)
        return found

    def _roles(self) -> dict[Role, str]:
        found: dict[Role, str] = {}
        for role in Role:
            value = self._get("roles", role.value)
            if isinstance(value, str):
                found[role] = value
            else:
                self._fault("must be a text, which may be empty", "roles", role.value)
        return found

    def _heads(self) -> tuple[Head, ...]:
        return tuple(
            Head(name, self._text(_NAME, "a category", "heads", name, "category"), self._knots(name))
            for name in self._map("heads")
        )

    def _knots(self, head: str) -> tuple[tuple[float, float], ...]:
        steps = ("heads", head, "calibration")
        value = self._get(*steps)
        pairs = value if isinstance(value, list) else []
        good = bool(pairs) and all(isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) for pair in pairs)
        knots = tuple((float(logit), float(score)) for logit, score in pairs) if good else ()
        if good and all(0 <= score <= 1 for _, score in knots) and _rise(knots):
            return knots
        self._fault("must be pairs [logit, score], the logits rising, the scores from 0 to 1 and never falling", *steps)
        return ((0.0, 0.0),)

    def _levels(self) -> dict[Level, int]:
        found: dict[Level, int] = {}
        for word, value in self._map("levels").items():
            if word not in _LEVELS or not _is_number(value) or not 0 <= value <= 1:
                self._fault(f"must be a number from 0 to 1, of one of {', '.join(_LEVELS)}", "levels", word)
            else:
                found[_LEVELS[word]] = round(value * FULL_SCORE)
        ordered = dict(sorted(found.items()))
        if list(ordered.values()) != sorted(ordered.values()):
            self._fault("must not fall from level to level", "levels")
        return ordered


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and isinstance(value, (int, float)) and abs(value) < 1e9


def _rise(knots: Sequence[tuple[float, float]]) -> bool:
    return all(knots[at][0] < knots[at + 1][0] and knots[at][1] <= knots[at + 1][1] for at in range(len(knots) - 1))
