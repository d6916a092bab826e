"""The detector of kind `pii`: personal data by entity.

Ours come from the catalogue, telephone numbers from phone.py, the rest from presidio's recognizers. Telephone numbers give way to
all others.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from moderation.detect import checksums, phone
from moderation.detect.catalogue import CATALOGUE
from moderation.detect.matcher import Hit, Pattern
from moderation.detect.patterns import Patterns
from moderation.detect.recognizers import THEIRS, WIDE, Recognizers, narrowed

OURS: dict[str, str] = {
    "EMAIL_ADDRESS": "any", "CREDIT_CARD": "any", "IBAN_CODE": "any", "IP_ADDRESS": "any", "MAC_ADDRESS": "any",
    "CN_ID_CARD": "cn", "CN_MOBILE": "cn", "CN_BANK_CARD": "cn", "CN_USCC": "cn", "CN_PASSPORT": "cn", "CN_LICENSE_PLATE": "cn",
}  # fmt: skip
"""Entities of the catalogue that are personal data, each with its region."""

PHONE = phone.ENTITY
_CARDS = ("CREDIT_CARD", "CN_BANK_CARD")

ENTITIES: dict[str, str] = {**OURS, PHONE: "any", **{entity: source.region for entity, source in THEIRS.items()}}
"""Every entity that can be asked for, with its region."""

_NEED_MODELS = frozenset(("PERSON", "LOCATION", "NRP", "ORGANIZATION", "ADDRESS", "CN_PERSON", "CN_ADDRESS", "AGE"))


def why_not(entity: str) -> str | None:
    """Why an entity cannot be asked for, in words; None where it can."""
    if entity in ENTITIES:
        return None
    if entity in _NEED_MODELS:
        return f"{entity} needs a trained model, which this version does not have"
    return f"{entity} is not an entity of this version"


class Pii(Patterns):
    """A local detector (detect/api.py) of personal data."""

    def __init__(self, id: str, category: str, entities: Sequence[str], regions: Sequence[str] = ()) -> None:
        """`regions` (lower case, empty for all) narrows national entities and phone numbers. Raises ValueError."""
        for entity in entities:
            if (wrong := why_not(entity)) is not None:
                raise ValueError(wrong)
        wanted = [e for e in ENTITIES if e in entities and (not regions or ENTITIES[e] in ("any", *regions))]
        patterns = [
            replace(pattern, check=_alone(pattern.check)) if pattern.entity in _CARDS and pattern.check is not None else pattern
            for pattern in CATALOGUE if pattern.entity in wanted and pattern.entity in OURS
        ]  # fmt: skip
        versions: list[str] = []
        by_run: dict[str, list[str]] = {}
        for entity in wanted:
            if entity in THEIRS:
                by_run.setdefault(THEIRS[entity].run, []).append(entity)
        for run, group in sorted(by_run.items(), key=lambda item: item[0] in WIDE):
            patterns.append(_run("presidio", group[0], narrowed(run, group), Recognizers(group)))
            versions.append(f"presidio {importlib.metadata.version('presidio-analyzer')} {' '.join(group)}")
        if PHONE in wanted:
            named = tuple(region.upper() for region in regions if region != "any")
            chosen = tuple("GB" if region == "UK" else region for region in named) or phone.REGIONS
            patterns.extend(phone.patterns(chosen))
            versions.append(f"phonenumbers {importlib.metadata.version('phonenumbers')} {' '.join(chosen)}")
        super().__init__(id, patterns, [category] * len(patterns))
        self._version = hashlib.sha256("\n".join((super().version, *versions)).encode()).hexdigest()

    @property
    def version(self) -> str:
        return self._version


_SMALL = re.compile(r"(?:[0-9]{1,3}[ \-])+")
_BEHIND_SMALL = re.compile(r"(?:\A|[^0-9])[0-9]{1,3}[ \-]\Z")


def _alone(check: Callable[[str, str, str], Hit | None]) -> Callable[[str, str, str], Hit | None]:
    """A card may be spelt out in ones, twos or threes, but then by itself: none begins with such a group behind another one.

    In a table of small numbers a tenth of all places pass Luhn. So it takes one check for a long stretch of it, too. And most
    numbers are told by their groups alone, before the check is asked.
    """

    def checked(before: str, match: str, after: str) -> Hit | None:
        small = _SMALL.match(match)
        hit: Hit | None = None
        groups = match.replace("-", " ").split(" ")
        if checksums.begins_a_card(groups) and (small is None or not _BEHIND_SMALL.search(before[-5:])):
            hit = check(before, match, after)
        return Hit(0, skip=small.end()) if hit is None and small is not None else hit

    return checked


def _run(name: str, entity: str, regex: str, check: Callable[[str, str, str], Hit | None]) -> Pattern:
    return Pattern(name, entity, regex, not_before="0-9A-Za-z", not_after="0-9A-Za-z", check=check)
