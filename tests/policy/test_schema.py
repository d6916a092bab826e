"""The JSON Schema says what the loader says: the same keys, the same words."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from moderation.policy import keys
from moderation.policy.faults import Faults
from moderation.policy.load import parse, plain
from moderation.policy.schema import schema
from tests.policy.doubles import VOCABULARY, compiled
from tests.policy.test_faults import GOOD, ROWS, Row, changed

SCHEMA = schema(VOCABULARY)
UNSEEN = frozenset(
    ["QP002", "QP003", "QP004", "QP005", "QP006", "QP007", "QP008", "QP009", "QP014", "QP017", "QP019", "QP020", "QP021", "QP022", "QP031", "QP032", "QP040", "QP042", "QP043", "QP105", "QP106", "QP301", "QP302", "QP501", "QP503", "QP504", "QP505", "QP506", "QP601", "QP603"]
)
"""What a schema cannot see: layout, references, meaning."""


def accepts(shape: dict[str, Any], value: object) -> bool:
    """As much of JSON Schema as ours uses; anything else fails loudly."""
    if "$ref" in shape:
        target: Any = SCHEMA
        for step in shape["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        shape = target
    known = {"type", "properties", "additionalProperties", "propertyNames", "required", "items", "minItems", "enum", "const", "anyOf", "oneOf",
             "pattern", "minLength", "minimum", "maximum", "minProperties", "description", "title", "$schema", "$defs"}  # fmt: skip
    assert set(shape) <= known, shape
    if "anyOf" in shape or "oneOf" in shape:
        fits = sum(accepts(one, value) for one in shape.get("anyOf") or shape["oneOf"])
        return fits == 1 if "oneOf" in shape else fits > 0
    if "enum" in shape or "const" in shape:
        return any(value == one and type(value) is type(one) for one in shape.get("enum", [shape.get("const")]))
    match shape.get("type"):
        case "object":
            return isinstance(value, dict) and _object(shape, value)
        case "array":
            return isinstance(value, list) and len(value) >= shape.get("minItems", 0) and all(accepts(shape["items"], v) for v in value)
        case "string":
            return isinstance(value, str) and len(value) >= shape.get("minLength", 0) and bool(re.search(shape.get("pattern", ""), value))
        case "integer" | "number":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return number and shape.get("minimum", value) <= value <= shape.get("maximum", value)
        case "boolean":
            return isinstance(value, bool)
    raise AssertionError(shape)


def _object(shape: dict[str, Any], value: dict[str, object]) -> bool:
    if len(value) < shape.get("minProperties", 0) or any(key not in value for key in shape.get("required", [])):
        return False
    if "propertyNames" in shape and not all(accepts({"type": "string"} | shape["propertyNames"], key) for key in value):
        return False
    for key, one in value.items():
        inner = shape.get("properties", {}).get(key, shape.get("additionalProperties", True))
        if inner is False or (inner is not True and not accepts(inner, one)):
            return False
    return True


def _plain(source: str) -> object:
    node = parse(source.lstrip("\n").encode(), Faults("p.yaml"))
    assert node is not None
    return plain(node)


def test_it_is_json_of_the_named_draft() -> None:
    assert json.loads(json.dumps(SCHEMA))["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_it_names_all_patterns() -> None:
    assert [one["const"] for one in SCHEMA["$defs"]["pattern"]["oneOf"]] == sorted(VOCABULARY.patterns)


def test_it_accepts_what_the_loader_accepts() -> None:
    assert compiled(GOOD).policy is not None
    assert accepts(SCHEMA, _plain(GOOD))


BEYOND = (
    "two lines for a title", "two categories", "a label too long", "a time-out of nothing", "three of two", "patterns for pii",
    "entities for words", "patterns without patterns", "thresholds that fall", "a level that no score reaches", "a key twice",
    "a list as a key", "an empty condition",
)  # fmt: skip
"""Of sizes, and of what goes together, the schema says less than the loader."""
SEEN = [row for row in ROWS if row.code not in UNSEEN and row.note not in BEYOND]


@pytest.mark.parametrize("row", SEEN, ids=lambda row: f"{row.code}: {row.note}")
def test_it_refuses_what_the_loader_refuses(row: Row) -> None:
    assert not accepts(SCHEMA, _plain(changed(row)))


def test_every_key_of_the_tables_is_in_it() -> None:
    rule = SCHEMA["$defs"]["rule"]["properties"]
    assert list(rule) == list(keys.RULE)
    assert list(SCHEMA["properties"]) == list(keys.TOP)
    assert list(SCHEMA["$defs"]["test"]["properties"]) == list(keys.TEST)
