"""wire/openai.py: every text of a request is read, or the request is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from fuzz.target import Target, law
from fuzz.targets.chats import REQUESTS, WORDS
from moderation.errors import Refused
from moderation.wire.body import parse
from moderation.wire.openai import read_request

PLAIN = re.compile(r"[A-Za-z0-9_$.:/\-]{0,40}")
"""Ids, names and words of a fixed vocabulary; that long numbers among them are read is for the tests of the reader."""
MEDIUM = re.compile(r"(?is)[a-z][a-z0-9+.\-]{1,15}://\S*|(data:[^,]*;base64,)?[a-z0-9+/=_\r\n-]*")
READ = ("messages", "tools", "functions", "response_format", "prediction")


def texts(value: Any) -> Iterator[str]:
    """Every string below a value, keys too."""
    if type(value) is str:
        yield value
    elif type(value) is list:
        for one in value:
            yield from texts(one)
    elif type(value) is dict:
        for key, one in value.items():
            yield key
            yield from texts(one)


def unread(said: str, value: Any) -> Iterator[str]:
    """The texts below a value that stand in none of those that were read."""
    for text in texts(value):
        if PLAIN.fullmatch(text) or MEDIUM.fullmatch(text) or text in said:
            continue
        inner = _json(text)
        if inner is None or any(unread(said, inner)):
            yield text


def _json(text: str) -> Any:
    """The arguments of a call, which are read as JSON where they are that."""
    try:
        inner = parse(text.encode())
    except Refused:
        return None
    return inner if type(inner) in (dict, list, str) else None


def _run(data: bytes) -> str:
    try:
        body = parse(data)
        read = read_request(body)
    except Refused as refused:
        law(refused.code in ("invalid_json", "nesting_too_deep", "invalid_body"), "another code than a request's")
        return f"{refused.code} {refused.message}"
    said = "\n".join(segment.text for segment in read.segments)
    left = [text for name in READ for text in unread(said, body.get(name))]
    law(not left, "a text that is in no segment")
    law(len({segment.path for segment in read.segments}) == len(read.segments), "two segments at one place")
    kinds = {f"{one.channel}{one.turn}{one.literal}{one.path.count('/')}" for one in read.segments}
    return " ".join([*sorted(kinds), str(len(read.media))])


def _seeds() -> Sequence[bytes]:
    return [*REQUESTS, json.dumps({"messages": [{"role": "tool", "content": [["deep words", {"odd key é": 1}]]}]}).encode()]


TARGET = Target(
    "request", "Every string of messages and tools is in a segment, or the request is refused.", _seeds, lambda: _run, WORDS,
)
