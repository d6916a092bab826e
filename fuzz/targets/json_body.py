"""wire/body.py: JSON as every reader reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from fuzz.target import Target, law
from fuzz.targets.chats import ANSWERS, CHUNKS, REQUESTS, WORDS
from moderation.errors import Refused
from moderation.wire.body import Number, parse, quote

_PLACE = re.compile(r"line ([0-9]+), column ([0-9]+): ")


def written(value: object) -> str:
    """A parsed value as JSON, not by the code that is tested."""
    match value:
        case Number():
            return str(value)
        case str():
            return quote(value)
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case float():
            return repr(value).replace("inf", "1e999")  # what is too large for a double is read as infinite
        case list():
            return "[" + ",".join(map(written, value)) + "]"
        case dict():
            return "{" + ",".join(f"{quote(key)}:{written(one)}" for key, one in value.items()) + "}"
        case _:
            return str(value)


def _run(data: bytes) -> str:
    try:
        value = parse(data)
    except Refused as refused:
        law(refused.code in ("invalid_json", "nesting_too_deep"), "another code than JSON's")
        place = _PLACE.match(refused.message)
        if refused.code == "invalid_json":
            law(place is not None, "no place in the message")
            assert place is not None
            lines = data.split(b"\n")
            law(1 <= int(place[1]) <= len(lines), "a line that is not there")
            law(1 <= int(place[2]) <= len(lines[int(place[1]) - 1]) + 1, "a column that is not there")
        _refused_too(data)
        return f"{refused.code} {refused.message.partition(': ')[2]}"
    again = written(value).encode()
    law(parse(again) == value, "written and read again it is another value")
    law(written(parse(data, source_numbers=True)).count("{") == written(value).count("{"),
                                                                                     "with numbers as written, another value")
    return f"{type(value).__name__} {_shape(value, 3)}"


def _refused_too(data: bytes) -> None:
    try:
        parse(data, source_numbers=True)
    except Refused:
        return
    law(False, "refused, but not with numbers as written")


def _shape(value: object, depth: int) -> str:
    match value:
        case dict() if depth:
            return "{" + ",".join(sorted({_shape(one, depth - 1) for one in value.values()})) + "}"
        case list() if depth:
            return "[" + ",".join(sorted({_shape(one, depth - 1) for one in value})) + "]"
        case _:
            return type(value).__name__[0]


def _seeds() -> Sequence[bytes]:
    odd = [b'{"a":1,"a":2}', b"[1e999,-0.0,1" + b"0" * 5000 + b"]", b'["\\ud83d\\ude00\\ud800"]', b'{"\\ud800":1,"\\udfff":2}',
           b"NaN"]
    return [*REQUESTS, *ANSWERS, *CHUNKS, *odd, json.dumps(["x"] * 20).encode(), b"[" * 99 + b"]" * 99]


TARGET = Target(
    "json", "A body is refused with its place, or read; what is read, written and read again, is the same value.",
    _seeds, lambda: _run, WORDS,
)


