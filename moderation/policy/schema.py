"""The JSON Schema (2020-12) of format 1, for editors: made from the same tables that the loader reads by.

It knows the shape and the words; what a name refers to, only the loader can tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from moderation.policy import keys
from moderation.policy.model import Hold, Option, Over, Vocabulary
from moderation.policy.rules import ACTIONS
from moderation.text import Channel, Origin, Phase, Turn
from moderation.verdict import Cause, Level, Mode, OnFailure, Severity

Json = dict[str, Any]


def _words(words: Sequence[str] | Mapping[str, object]) -> Json:
    return {"enum": list(words)}


def _list(of: Json, least: int = 1) -> Json:
    return {"type": "array", "items": of, "minItems": least}


def _many(of: Json) -> Json:
    return {"anyOf": [of, _list(of)]}


def _object(known: Mapping[str, str], values: Mapping[str, Json], need: Sequence[str] = ()) -> Json:
    properties = {key: {**values[key], "description": said} for key, said in known.items()}
    made: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    return made | {"required": list(need)} if need else made


def _by_name(of: Json) -> Json:
    return {"type": "object", "propertyNames": {"pattern": f"^(?:{keys.NAME.pattern})$"}, "additionalProperties": of}


_TEXT: Json = {"type": "string", "minLength": 1}
_NAME: Json = {"type": "string", "pattern": f"^(?:{keys.NAME.pattern})$"}
_LANGUAGE: Json = {"type": "string", "pattern": f"^(?:{keys.LANGUAGE.pattern})$"}
_DURATION: Json = {"type": "string", "pattern": f"^(?:{keys.DURATION.pattern})$"}
_VARIABLE: Json = {"type": "string", "pattern": f"^(?:{keys.VARIABLE.pattern})$"}
_YES: Json = {"type": "boolean"}
_LEVELS = [level.word for level in Level if level]
_FAILURES = [o.name.lower() for o in OnFailure]
_PHASES = [p.value for p in Phase]
_HOLDS = _words([h.value for h in Hold])


def schema(vocabulary: Vocabulary) -> Json:
    """The schema of a policy file, with the names of all patterns and entities of this build."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "moderation policy, format 1",
        **_object(
            keys.TOP,
            {
                "format": {"const": 1},
                "policy": _policy(),
                "regulations": _by_name(_object(keys.REGULATION, {"title": _TEXT, "url": _TEXT}, ["title"])),
                "defaults": _defaults(),
                "detectors": _by_name(_detector(vocabulary)),
                "word_lists": _by_name(_word_list()),
                "messages": _by_name({"type": "object", "propertyNames": _LANGUAGE, "additionalProperties": _TEXT}),
                "rules": _list({"$ref": "#/$defs/rule"}),
            },
            ["format", "policy", "rules"],
        ),
        "$defs": {
            "rule": _rule(),
            "condition": _condition(vocabulary),
            "test": _test(),
            "pattern": {"oneOf": [{"const": name, "description": said} for name, said in sorted(vocabulary.patterns.items())]},
        },
    }


def _policy() -> Json:
    values = dict.fromkeys(("id",), _NAME) | dict.fromkeys(("title", "owner"), _TEXT)
    values["review_by"] = {"type": "string", "pattern": f"^(?:{keys.DAY.pattern})$"}
    return _object(keys.POLICY, values | {"default_language": _LANGUAGE, "languages": _many(_LANGUAGE)}, ["id"])


def _defaults() -> Json:
    stream = _object(keys.STREAM, {"hold": _HOLDS, "routes": _by_name(_HOLDS)})
    days = {"type": "integer", "minimum": 184, "maximum": 36_500}
    return _object(
        keys.DEFAULTS,
        {
            "mode": _words([m.value for m in Mode]),
            "on_failure": _words(_FAILURES),
            "on_unsupported": _words(_FAILURES),
            "timeout": _DURATION,
            "stream": stream,
            "unscanned_media": _words(["pass", "flag", "block"]),
            "keep": _object(keys.KEEP, {"content": _words(["none"]), "excerpts": _words(["none"]), "days": days}),
        },
    )


def _detector(vocabulary: Vocabulary) -> Json:
    examples = _many(_TEXT)
    custom = _object(
        keys.PATTERN,
        {
            "name": _NAME, "regex": _TEXT, "must": examples, "must_not": examples,
            "reach": {"type": "integer", "minimum": 1, "maximum": 16_384}, "entity": _NAME,
        },
        ["name", "regex"],
    )  # fmt: skip
    pattern = {"anyOf": [{"$ref": "#/$defs/pattern"}, custom]}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    entities = _words([*sorted(vocabulary.entities), *sorted(vocabulary.secrets)])
    return _object(
        keys.DETECTOR,
        {
            "kind": _words(keys.KINDS),
            "categories": _many(_NAME),
            "levels": {"type": "object", "properties": dict.fromkeys(_LEVELS, share), "additionalProperties": False},
            "patterns": _many(pattern),
            "lists": _many(_NAME),
            "entities": _many(entities),
            "regions": _many(_words(sorted(set(vocabulary.entities.values())))),
            "languages": {"anyOf": [{"const": "any"}, _many(_LANGUAGE)]},
            "timeout": _DURATION,
            "on_failure": _words(_FAILURES),
            "on_unsupported": _words(_FAILURES),
            "gives_spans": _YES,
            "engine": _words(sorted({name for _, name in vocabulary.engines})),
            "url": {"type": "string", "pattern": f"^(?:{keys.URL.pattern})$"},
            "model": _TEXT,
            "key_env": _VARIABLE,
            "labels": {"type": "object", "additionalProperties": _NAME},
            "options": _options(vocabulary),
            "pin": {"type": "string", "pattern": f"^(?:{keys.PIN.pattern})$"},
        },
        ["kind"],
    )


def _options(vocabulary: Vocabulary) -> Json:
    """Those of all engines together: which are whose, the loader tells."""
    every = {name: option for one in vocabulary.engines.values() for name, option in one.options.items()}
    properties = {name: {**_option(option), "description": option.said} for name, option in sorted(every.items())}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _option(option: Option) -> Json:
    if option.words:
        return _words(option.words)
    if option.least is not None:
        return {"type": "integer", "minimum": option.least, "maximum": option.most}
    if option.variable:
        return _VARIABLE
    return _NAME if option.holds is None else _TEXT


def _word_list() -> Json:
    values = {"words": _list(_TEXT), "file": _TEXT, "match": _words(["whole_word", "substring"]), "ignore_case": _YES}
    return _object(keys.WORD_LIST, values)


def _rule() -> Json:
    return _object(
        keys.RULE,
        {
            "id": _NAME,
            "title": _TEXT,
            "cite": _many(_NAME),
            "severity": _words([s.word for s in Severity]),
            "phases": _many(_words(_PHASES)),
            "when": {"$ref": "#/$defs/condition"},
            "at_least": _words(_LEVELS),
            "then": _words(ACTIONS),
            "message": _NAME,
            "label": _TEXT,
            "mode": _words([m.value for m in Mode]),
            "in_history": _words(["remove", "block"]),
            "over": _words([o.value for o in Over]),
            "tests": _list({"$ref": "#/$defs/test"}, 0),
        },
        ["id", "phases", "when", "then"],
    )


def _condition(vocabulary: Vocabulary) -> Json:
    inner = {"$ref": "#/$defs/condition"}
    several = {"n": {"type": "integer", "minimum": 1}, "of": _list(inner)}
    groups = {key: _list(inner) for key in ("all", "any", "none")}
    groups["at_least_n"] = _object(keys.AT_LEAST_N, several, ["n", "of"])
    words: dict[str, Json] = {
        "channel": _words([c.value for c in Channel]),
        "turn": _words([t.value for t in Turn]),
        "span_origin": _words([o.value for o in Origin]),
        "language": _LANGUAGE,
    }
    values = {key: _matcher(words.get(key, _TEXT)) for key in keys.ATOM}
    atom = _object(keys.ATOM, values | {"at_least": _words(_LEVELS)}) | {"minProperties": 1}
    made = [_object({key: said}, {key: groups[key]}, [key]) for key, said in keys.GROUPS.items()]
    return {"oneOf": [*made, atom]}


def _matcher(of: Json) -> Json:
    among = [_object({key: said}, {key: _many(of)}, [key]) for key, said in keys.VALUES.items()]
    return {"anyOf": [of, _list(of), *among]}


def _test() -> Json:
    words = dict.fromkeys(keys.CONTEXT, _TEXT) | {
        "channel": _words([c.value for c in Channel]),
        "turn": _words([t.value for t in Turn]),
        "span_origin": _words([o.value for o in Origin]),
    }
    levels = {"type": "object", "additionalProperties": _words(["none", *_LEVELS])}
    expect = {
        "action": _words(ACTIONS),
        "would": _words(ACTIONS),
        "rules": _list(_NAME, 0),
        "degraded": _YES,
        "text": {"type": "string"},
    }
    return _object(
        keys.TEST,
        {
            "name": _TEXT,
            "phase": _words(_PHASES),
            "language": _LANGUAGE,
            "text": _TEXT,
            "given": _by_name({"anyOf": [levels, _words([c.value for c in Cause])]}),
            "context": {"type": "object", "properties": words, "additionalProperties": False},
            "expect": _object(keys.EXPECT, expect, ["action"]),
        },
        ["name", "phase", "expect"],
    )
