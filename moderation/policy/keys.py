"""The closed schema of format 1 as tables: each key with what it says. The loader, the JSON Schema and the docs read them.

Keys that format 1 has and this version does not build stand apart: they are refused by name, never ignored.
"""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Ids of rules, detectors, categories, lists, messages, regulations."""
LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ].*)?")
DAY = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
YES_NO = frozenset(w for word in ("yes", "no", "on", "off") for w in (word, word.capitalize(), word.upper()))
"""Words that other YAML readers take for true or false. As a text or a name they are written in quotes."""

TOP = {
    "format": "1",
    "policy": "who this policy is",
    "regulations": "names that rules may cite",
    "defaults": "what holds where a rule or a detector says nothing",
    "detectors": "what looks at texts, by id",
    "word_lists": "terms for detectors of the kind words, by id",
    "messages": "what the user is told, by id and language",
    "rules": "what is done about what was found",
}
TOP_LATER = ("overrides", "exceptions", "signing", "profiles", "include", "inventory")

POLICY = {
    "id": "a name; it stands in every decision",
    "title": "what it is about",
    "owner": "who answers for it",
    "review_by": 'a date in quotes: "2027-03-31"',
    "default_language": "the language of messages where the user's has none (default: en)",
    "languages": "the languages that messages and detectors must serve",
}
POLICY_LATER = ("approvers", "approvals_needed", "max_exception_days", "signing")

REGULATION = {"title": "its full name", "url": "where it can be read"}

DEFAULTS = {
    "mode": "enforce | monitor | off (default: enforce)",
    "on_failure": "assume_match | flag | ignore (default: assume_match)",
    "on_unsupported": "assume_match | flag | ignore, for languages that a detector does not support (default: ignore)",
    "timeout": "how long a detector may take (default: 300ms)",
    "stream": "when the text of a streamed answer goes out",
    "unscanned_media": "pass | flag | block: images, audio and video that no detector reads (default: flag)",
    "keep": "what of a content is kept: nothing, in this version",
}
DEFAULTS_LATER = ("latency_budget", "rollout", "review", "signing")
STREAM = {"hold": "sentence | none | all (default: sentence)", "routes": "another hold for a route, by its name"}
KEEP = {"content": "none", "excerpts": "none", "days": "how long decisions are kept, at least 184"}

DETECTOR = {
    "kind": "patterns | words | secrets | pii | model | http",
    "categories": "what its findings count as: one name; kinds model and http: several (default: all that the engine gives)",
    "levels": "the least score (0 to 1) of low, medium, high, critical (default: a model's own; low 0.3, medium 0.5, high 0.85)",
    "patterns": "kind patterns: names, or {name, regex, must, must_not, reach, entity}",
    "lists": "kind words: ids of word_lists",
    "entities": "kinds pii and secrets: what to look for (default: all)",
    "regions": "kind pii: only entities of these regions, and those of any",
    "languages": "any, or a list (default: the model's own, else any)",
    "timeout": "how long it may take",
    "on_failure": "assume_match | flag | ignore: what a failure means to rules",
    "on_unsupported": "assume_match | flag | ignore: what an unsupported language means to rules",
    "gives_spans": "true: it says where in the text (always, but for the kind http and most models, which never do)",
    "engine": "kind model: how it is run; kind http: how it is asked",
    "url": "kind http: where it is asked, https://host/v1",
    "model": "kind model: the name of a model that ships, or a folder; kind http: the model that the server knows by this name",
    "key_env": "kind http: the environment variable that holds the key",
    "labels": "kinds model and http: what the engine's labels count as, {LABEL: category}",
    "options": "kinds model and http: what only this engine has",
    "pin": "kind model: the model's hash, sha256:… (default, where it ships: the one that is there)",
}
ENGINE = ("engine", "url", "model", "key_env", "labels", "options", "pin")
"""The keys of a detector with an engine."""
DETECTOR_LATER = ("calibration", "headers", "batch")
KINDS = ("patterns", "words", "secrets", "pii", "model", "http")
KINDS_LATER = ()
PIN = re.compile("sha256:[0-9a-f]{64}")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
URL = re.compile(r"https?://(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?")
"""No user, no query: keys have no place in it."""

PATTERN = {
    "name": "what a label shows",
    "regex": "RE2",
    "must": "texts in which it must find something",
    "must_not": "texts in which it must find nothing",
    "reach": "the longest match in characters, where the regex has no end",
    "entity": "the entity of its findings",
}
WORD_LIST = {
    "words": "the terms",
    "file": "a file below the policy's folder: a term a line, lines that start with # are comments",
    "match": "whole_word | substring (default: whole_word; between Chinese characters there are no word ends)",
    "ignore_case": "true | false (default: true)",
}

RULE = {
    "id": "a name; it stands in every decision",
    "title": "what it is for, in a sentence",
    "cite": "regulations that ask for it",
    "severity": "low | medium | high | critical (default: medium); the message of the most severe block is shown",
    "phases": "input, tool_result, output, tool_call: when it is asked",
    "when": "its condition",
    "at_least": "the level that category, detector and entity must reach (default: medium)",
    "then": "allow | flag | pseudonymise | redact | block",
    "message": "what the user is told on a block: an id of messages",
    "label": "what stands in place of what is removed (default: the pattern's or list's name)",
    "mode": "enforce | monitor | off",
    "in_history": "remove | block: what a block does in the resent history (default: remove)",
    "over": "window | request | answer: how far its conditions may lie apart (default: window)",
    "tests": "texts or signals that must, and that must not, match",
}
RULE_LATER = ("floor", "applies_to", "also", "can_except", "review", "rollout", "how", "rewrite")
ACTIONS_LATER = ("rewrite", "review", "mask", "hash")

GROUPS = {
    "all": "every one of these",
    "any": "at least one of these",
    "none": "none of these",
    "at_least_n": "{n, of}: at least n of these",
}
ATOM = {
    "category": "what findings count as",
    "detector": "the detector that found it",
    "entity": "EMAIL_ADDRESS, CN_ID_CARD, SECRET_…",
    "channel": "system, user, assistant, reasoning, tool_call, tool_result, tool_definition, answer, refusal",
    "turn": "new or history",
    "route": "the route, from the configuration",
    "tenant": "the tenant, from the configuration",
    "region": "the region, from the configuration",
    "model": "the model that the request names",
    "language": "the language of the newest user text",
    "tool": "the name of the tool",
    "span_origin": "user_supplied, app_supplied, tool_supplied, model_supplied: who said it first",
    "at_least": "the level, where it is not the rule's",
}
VALUES = {"in": "one of these", "not_in": "none of these"}
AT_LEAST_N = {"n": "how many", "of": "of which conditions"}

TEST = {
    "name": "what it shows",
    "phase": "input | tool_result | output | tool_call",
    "language": "the language of the text",
    "text": "a text that the detectors read",
    "given": "signals instead of a text: {detector: {category: level}}, or {detector: unavailable}",
    "context": "where it happens: route, tenant, region, model, tool, channel, turn, language, span_origin, entity",
    "expect": "what must come out",
}
TEST_LATER = ("at",)
CONTEXT = ("route", "tenant", "region", "model", "tool", "channel", "turn", "language", "span_origin", "entity")
CONTEXT_LATER = ("rollout_bucket",)
EXPECT = {
    "action": "what is enforced",
    "would": "what would be enforced if every monitored rule were",
    "rules": "rules that must have fired; [] for none. The rule whose test it is fires if and only if it is among them",
    "degraded": "true where a failure decided",
    "text": "the text after the action",
}
EXPECT_LATER = ("exception",)
