"""Canonical JSON of leaves: RFC 8785 restricted to what two implementations cannot read differently.

A leaf is one object of at most 65,535 bytes: ASCII keys, integers below 2^53 and no other numbers, no lone surrogates.
Knows nothing of what the members mean.
"""

from __future__ import annotations

import json
from typing import NoReturn

from moderation.errors import ModerationError

MAX_LEAF = 65_535
"""C2SP tlog-tiles writes an entry's length in 16 bits."""
MAX_INT = 2**53 - 1
"""Beyond it, readers that keep numbers in doubles disagree."""
MAX_DEPTH = 32
"""Our deepest leaf has 6 levels; the cap keeps hostile input from exhausting the stack."""

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False, allow_nan=False)


class CanonError(ModerationError):
    """A value has no canonical form, or bytes are not one. Says the place, never the content."""


def encode(value: object) -> bytes:
    """The one form of a leaf. Raises CanonError for what has none, and for more than MAX_LEAF bytes."""
    if type(value) is not dict:
        raise CanonError("leaf: expected an object at the top")
    _check(value)
    try:
        data = _ENCODER.encode(value).encode("utf-8")
    except UnicodeEncodeError as error:
        raise CanonError(f"leaf: a lone surrogate at character {error.start}") from None
    if len(data) > MAX_LEAF:
        raise CanonError(f"leaf: {len(data)} bytes, the most is {MAX_LEAF}; split it into parts")
    return data


def decode(data: bytes) -> dict[str, object]:
    """Read a leaf strictly: whatever is not exactly the canonical form is refused with a CanonError."""
    if len(data) > MAX_LEAF:
        raise CanonError(f"leaf: {len(data)} bytes, the most is {MAX_LEAF}")
    try:
        value = json.loads(data.decode("utf-8"), parse_float=_no_float, parse_constant=_no_float, parse_int=_integer)
    except UnicodeDecodeError as error:
        raise CanonError(f"leaf: not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise CanonError(f"leaf: not JSON at character {error.pos}") from None
    except RecursionError:
        raise CanonError("leaf: nested too deep") from None
    if type(value) is not dict:
        raise CanonError("leaf: expected an object at the top")
    # One comparison settles duplicate keys, order, spaces, escapes and -0 at once.
    if encode(value) != data:
        raise CanonError("leaf: JSON, but not in canonical form (key order, spaces, escapes or duplicate keys)")
    return value


def _check(value: object) -> None:
    # Level by level and kind by kind, not by recursion: this runs for every leaf. By exact type: a subclass may print itself in a
    # form of its own.
    level: list[object] = [value]
    for _ in range(MAX_DEPTH + 1):
        kinds = set(map(type, level))
        if not kinds <= _KINDS:
            odd = min(kind.__name__ for kind in kinds - _KINDS)
            raise CanonError(f"leaf: a {odd}; expected object, array, string, integer, true, false or null")
        if int in kinds:
            for item in level:
                if type(item) is int and not -MAX_INT <= item <= MAX_INT:
                    raise CanonError("leaf: an integer of 2^53 or more")
        if not kinds & _NESTING:
            return
        below: list[object] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                if not (set(map(type, item)) <= _STR and "".join(item).isascii()):  # type: ignore[call-overload,arg-type]  # kind is dict
                    raise CanonError("leaf: a key that is not an ASCII string")
                below += item.values()  # type: ignore[attr-defined]  # kind is dict
            elif kind is list or kind is tuple:
                below += item  # type: ignore[arg-type]  # kind is list or tuple
        level = below
    raise CanonError(f"leaf: nested deeper than {MAX_DEPTH}")


_NESTING = frozenset({dict, list, tuple})
_KINDS = _NESTING | {str, int, bool, type(None)}
_STR = frozenset({str})


def _no_float(_: str) -> NoReturn:
    raise CanonError("leaf: a number with a fraction or exponent, or not a number")


def _integer(digits: str) -> int:
    # int() of a long text of digits takes quadratic time.
    if len(digits) > 17:
        raise CanonError("leaf: an integer of 2^53 or more")
    return int(digits)
