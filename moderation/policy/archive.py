"""The canonical form of a compiled policy: what its hash is over, and what is kept so that it can decide again years later.

`from_archive` needs the compiled form alone: no YAML, no vocabulary, no detector. Tests, comments and layout are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, assert_never, cast

from moderation import __version__
from moderation.errors import UsageError
from moderation.policy.conditions import Atom, Condition, Group, Kind, Specified, Test, needs_finding, rebind
from moderation.policy.model import (
    CustomPattern,
    DetectorSpec,
    EngineSpec,
    Hold,
    Keep,
    Over,
    Policy,
    Regulation,
    Rule,
    WordList,
)
from moderation.text import Phase
from moderation.verdict import Action, Level, Mode, OnFailure, PolicyRef, Severity

FORMAT = 1
POLICY_FILE = "policy.yaml"
COMPILED_FILE = "compiled.json"
ENGINE_FILE = "engine.txt"

Json = dict[str, Any]


def list_file(name: str) -> str:
    return f"lists/{name}.txt"


def archive(policy: Policy) -> dict[str, bytes]:
    """All that is kept of an activated policy: its sources, its compiled form, and the version that compiled it."""
    return {**policy.files, COMPILED_FILE: canonical(policy), ENGINE_FILE: f"{__version__}\n".encode()}


def from_archive(files: Mapping[str, bytes]) -> Policy:
    """The policy that an archive holds; UsageError where it is not whole. Its hash is worked out anew: compare it."""
    try:
        data = json.loads(files[COMPILED_FILE])
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UsageError("is not of format 1", COMPILED_FILE)
        return _policy(data, files)
    except UsageError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"is not a compiled policy ({type(error).__name__})", COMPILED_FILE) from None


def canonical(policy: Policy) -> bytes:
    """The bytes that the hash is over: JSON with sorted keys, no spaces, no floats, UTF-8."""
    return json.dumps(_json(policy), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def policy_hash(policy: Policy) -> str:
    return sha256(canonical(policy)).hexdigest()


def _json(policy: Policy) -> Json:
    return {
        "format": FORMAT,
        "policy": {
            "id": policy.ref.id, "title": policy.title, "owner": policy.owner, "review_by": policy.review_by,
            "default_language": policy.default_language, "languages": list(policy.languages),
        },
        "regulations": {name: {"title": r.title, "url": r.url} for name, r in policy.regulations.items()},
        "detectors": {name: _spec_json(spec) for name, spec in policy.detectors.items()},
        "word_lists": {
            name: {"words": list(w.words), "whole_word": w.whole_word, "ignore_case": w.ignore_case}
            for name, w in policy.word_lists.items()
        },
        "messages": {name: dict(texts) for name, texts in policy.messages.items()},
        "rules": [_rule_json(rule) for rule in policy.rules],
        "stream": {"hold": policy.hold.value, "routes": {r: h.value for r, h in policy.hold_routes.items()}},
        "unscanned_media": policy.unscanned_media.word,
        "keep": {"content": policy.keep.content, "excerpts": policy.keep.excerpts, "days": policy.keep.days},
    }  # fmt: skip


def _spec_json(spec: DetectorSpec) -> Json:
    return {
        "kind": spec.kind,
        "categories": list(spec.categories),
        "levels": {level.word: least for level, least in spec.levels.items()},
        "patterns": [p if isinstance(p, str) else _pattern_json(p) for p in spec.patterns],
        "lists": list(spec.lists),
        "entities": list(spec.entities),
        "regions": list(spec.regions),
        "languages": None if spec.languages is None else list(spec.languages),
        "timeout_ms": spec.timeout_ms,
        "on_failure": spec.on_failure.name.lower(),
        "on_unsupported": spec.on_unsupported.name.lower(),
        "gives_spans": spec.gives_spans,
        # Left out where there is none, so that policies without engines keep the hash that they had before there were any.
        **({"engine": _engine_json(spec.engine)} if spec.engine is not None else {}),
    }


def _engine_json(engine: EngineSpec) -> Json:
    return {
        "name": engine.name, "model": engine.model, "url": engine.url, "key_env": engine.key_env, "labels": dict(engine.labels),
        "options": dict(engine.options),
        **({"pin": engine.pin} if engine.pin is not None else {}),
    }  # fmt: skip


def _pattern_json(pattern: CustomPattern) -> Json:
    # Its examples are tests: they do not change what it finds.
    return {"name": pattern.name, "regex": pattern.regex, "reach": pattern.reach, "entity": pattern.entity}


def _rule_json(rule: Rule) -> Json:
    return {
        "id": rule.id, "title": rule.title, "cite": sorted(rule.cite), "severity": rule.severity.word,
        "phases": sorted(rule.phases), "when": _condition_json(rule.when), "at_least": rule.at_least.word,
        "then": rule.then.word, "message": rule.message, "label": rule.label, "mode": rule.mode.value,
        "in_history": "block" if rule.in_history_block else "remove", "over": rule.over.value,
    }  # fmt: skip


def _condition_json(condition: Condition) -> Json:
    match condition:
        case Atom():
            level = condition.at_least.word if condition.at_least is not None else None
            tests = [[test.key, "in" if test.among else "not_in", sorted(test.values)] for test in condition.tests]
            return {"atom": tests, "at_least": level}
        case Group():
            # The order of conditions has no meaning, so it is not part of what the policy is.
            parts = sorted((_condition_json(inner) for inner in condition.of), key=lambda part: json.dumps(part, sort_keys=True))
            return {"group": condition.kind.value, "n": condition.n, "of": parts}
        case _:
            assert_never(condition)


def _policy(data: Json, files: Mapping[str, bytes]) -> Policy:
    who, stream, keep = data["policy"], data["stream"], data["keep"]
    detectors = {name: _spec(name, spec) for name, spec in data["detectors"].items()}
    lists = {
        name: WordList(name, tuple(w["words"]), w["whole_word"], w["ignore_case"]) for name, w in data["word_lists"].items()
    }
    policy = Policy(
        PolicyRef(who["id"], ""), who["title"], who["owner"], who["review_by"], who["default_language"], tuple(who["languages"]),
        {name: Regulation(r["title"], r["url"]) for name, r in data["regulations"].items()}, detectors, lists, data["messages"],
        tuple(_rule(rule, detectors) for rule in data["rules"]), Hold(stream["hold"]),
        {route: Hold(hold) for route, hold in stream["routes"].items()}, Action[data["unscanned_media"].upper()],
        Keep(keep["content"], keep["excerpts"], keep["days"]),
        {name: content for name, content in files.items() if name not in (COMPILED_FILE, ENGINE_FILE)},
    )  # fmt: skip
    return with_hash(policy)


def with_hash(policy: Policy) -> Policy:
    """The policy under its own hash."""
    values = {name: getattr(policy, name) for name in Policy.__dataclass_fields__}
    return Policy(**values | {"ref": PolicyRef(policy.ref.id, policy_hash(policy))})


def _spec(name: str, data: Json) -> DetectorSpec:
    patterns = tuple(
        p if isinstance(p, str) else CustomPattern(p["name"], p["regex"], p["reach"], p["entity"]) for p in data["patterns"]
    )
    levels = dict(sorted((Level[word.upper()], least) for word, least in data["levels"].items()))
    languages = None if data["languages"] is None else tuple(data["languages"])
    return DetectorSpec(
        name, data["kind"], tuple(data["categories"]), levels, patterns, tuple(data["lists"]), tuple(data["entities"]),
        tuple(data["regions"]), languages, data["timeout_ms"], OnFailure[data["on_failure"].upper()],
        OnFailure[data["on_unsupported"].upper()], data["gives_spans"],
        EngineSpec(**data["engine"]) if "engine" in data else None,
    )  # fmt: skip


def _rule(data: Json, detectors: Mapping[str, DetectorSpec]) -> Rule:
    level = Level[data["at_least"].upper()]
    # Mapping is invariant in what it holds by protocol; a DetectorSpec is Specified.
    when = rebind(_condition(data["when"]), level, cast(Mapping[str, Specified], detectors))
    return Rule(
        data["id"], data["title"], tuple(data["cite"]), Severity[data["severity"].upper()],
        frozenset(Phase(phase) for phase in data["phases"]), when, level, Action[data["then"].upper()], data["message"],
        data["label"], Mode(data["mode"]), data["in_history"] == "block", Over(data["over"]), needs_finding=needs_finding(when),
    )  # fmt: skip


def _condition(data: Json) -> Condition:
    if "atom" in data:
        level = Level[data["at_least"].upper()] if data["at_least"] is not None else None
        return Atom(tuple(Test(key, frozenset(values), how == "in") for key, how, values in data["atom"]), level)
    return Group(Kind(data["group"]), tuple(_condition(part) for part in data["of"]), data["n"])
