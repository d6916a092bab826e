"""Detectors from a policy: what its words mean here. Knows both the policy's model and the detectors; neither knows it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import assert_never

from moderation.detect import catalogue, leet, pii, secrets
from moderation.detect.api import Detector, Local
from moderation.detect.decoding import Decoding
from moderation.detect.engines import ENGINES, Engines
from moderation.detect.matcher import Compiled, Matcher, Pattern
from moderation.detect.patterns import Patterns
from moderation.detect.regex import BadRegex
from moderation.detect.words import Terms, Words
from moderation.errors import UsageError
from moderation.normalise import normalise
from moderation.policy.model import CustomPattern, DetectorSpec, Policy, Vocabulary


def vocabulary(engines: Engines = ENGINES) -> Vocabulary:
    """All names that a policy may use of detectors, and the checks of what officers write themselves."""
    entities: dict[str, set[str]] = {}
    described: dict[str, str] = {}
    for pattern in catalogue.CATALOGUE:
        described.setdefault(pattern.name, pattern.description)
        if pattern.entity is not None:
            entities.setdefault(pattern.name, set()).add(pattern.entity)
    return Vocabulary(
        patterns=described,
        pattern_entities={name: frozenset(found) for name, found in entities.items()},
        entities=pii.ENTITIES,
        secrets=frozenset(secrets.KINDS),
        check_regex=check_regex,
        test_pattern=finds,
        normalise=lambda text: normalise(text).text,
        engines={key: engine.words for key, engine in engines.items()},
    )


def check_regex(regex: str, reach: int | None) -> str | None:
    """What is wrong with an officer's regex, in words; None where it can run."""
    try:
        Compiled(Pattern("x", None, regex, reach=reach))
    except BadRegex as error:
        return str(error)
    return None


def finds(pattern: str, text: str) -> bool:
    """Whether a named pattern, or else a regex, finds anything in a text."""
    return bool(_tried(pattern).scan(normalise(text).text, 0, final=True)[0])


@lru_cache(maxsize=1)
def _tried(pattern: str) -> Matcher:
    """Building is what costs, and a pattern's examples come one after the other."""
    return Matcher(catalogue.named(pattern) or _spellings(_guess(pattern)))


def _guess(regex: str) -> Pattern:
    """A regex whose `reach` is not told: as long as the text to be tried is likely to be."""
    try:
        Compiled(Pattern("x", None, regex))
    except BadRegex:
        return Pattern("x", None, regex, reach=4096)
    return Pattern("x", None, regex)


def build(
    policy: Policy, environ: Mapping[str, str] = os.environ, engines: Engines = ENGINES
) -> Mapping[str, Detector]:
    """The detectors of a policy, by id; keys are in `environ`. Raises UsageError for what cannot be built."""
    built: dict[str, Detector] = {}
    for spec in policy.detectors.values():
        try:
            said = spec.engine
            if said is None:
                built[spec.id] = Decoding(_one(spec, policy))
            elif (spec.kind, said.name) in engines:
                built[spec.id] = engines[(spec.kind, said.name)].build(spec, environ)
            else:
                raise ValueError(f"engine {said.name!r} of the kind {spec.kind} is not one that this version builds")
        except UsageError as error:
            raise UsageError(f"detector {spec.id}: {error}") from error
        except ValueError as error:
            raise UsageError(f"detector {spec.id}: {error}") from error
    return built


def inline(detectors: Mapping[str, Detector]) -> frozenset[str]:
    """Those that are quick on a short text whatever is in it: all that is built here. Models are not."""
    return frozenset(name for name, one in detectors.items() if isinstance(one, Decoding))


def _one(spec: DetectorSpec, policy: Policy) -> Local:
    category = spec.categories[0]
    match spec.kind:
        case "patterns":
            patterns = [one for item in spec.patterns for one in _patterns(item)]
            return Patterns(spec.id, patterns, [category] * len(patterns))
        case "words":
            lists = [policy.word_lists[name] for name in spec.lists]
            return Words(
                spec.id, category, [Terms(one.id, one.words, one.whole_word, one.ignore_case) for one in lists]
            )
        case "secrets":
            return secrets.Secrets(spec.id, category, spec.entities)
        case "pii":
            return pii.Pii(spec.id, category, spec.entities, spec.regions)
        case kind:
            raise ValueError(f"kind {kind!r} is not one that this version builds")


def _patterns(item: str | CustomPattern) -> tuple[Pattern, ...]:
    match item:
        case str():
            if not (named := catalogue.named(item)):
                raise ValueError(f"there is no pattern named {item!r}")
            return named
        case CustomPattern():
            return _spellings(
                Pattern(item.name, item.entity, item.regex, reach=item.reach, must=item.must, must_not=item.must_not)
            )
        case _:
            assert_never(item)


def _spellings(pattern: Pattern) -> tuple[Pattern, ...]:
    """An officer's pattern, and itself in leetspeak where it has words."""
    spelt = leet.spelling(pattern.regex)
    return (pattern,) if spelt is None else (pattern, replace(pattern, regex=spelt, check=leet.plausible, widens=pattern.regex))
