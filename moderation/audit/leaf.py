"""The bytes of a leaf as they are written: canon's one form, made by orjson in a tenth of the time.

canon reads and checks, and knows nothing of orjson; so a leaf that this file made otherwise than canon wants it would be refused
by every reader. That it makes none is a matter of types: `Body` has no place for what has no canonical form, but for the numbers
and texts that orjson itself refuses. tests/audit/test_leaf.py holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import orjson

from moderation.audit.canon import MAX_LEAF, CanonError

Value: TypeAlias = "bool | int | str | Sequence[Value] | Mapping[str, Value] | None"
"""No floats: their text differs from one implementation to the next. Sequences are lists or tuples, mappings are dicts."""
Body: TypeAlias = "dict[str, Value]"
"""What a leaf holds before the writer's stamps. Its keys, at every depth, are ASCII."""

_FORM = (
    orjson.OPT_SORT_KEYS  # by bytes, which for ASCII is by UTF-16 code units, as RFC 8785, 3.2.3 has it
    | orjson.OPT_STRICT_INTEGER  # nothing beyond 53 bits
    | orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME  # refused, then
)


def encode(body: Mapping[str, Value]) -> bytes:
    """The one form of a leaf. Raises CanonError for lone surrogates, integers of 2^53 or more, over MAX_LEAF bytes."""
    data = measure(body)
    if len(data) > MAX_LEAF:
        raise CanonError(f"leaf: {len(data)} bytes, the most is {MAX_LEAF}; split it into parts")
    return data


def measure(value: Value) -> bytes:
    """The same of a part of a leaf, of any length."""
    try:
        return orjson.dumps(value, option=_FORM)
    except TypeError as error:
        # Its words name a type or a kind of fault, never a value.
        raise CanonError(f"leaf: {error}") from None
