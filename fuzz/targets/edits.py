"""wire/body.py and wire/edits.py: other texts in the bytes of a body."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fuzz.target import Target, dice, law
from fuzz.targets.chats import ANSWERS, REQUESTS, WORDS
from moderation.errors import Refused
from moderation.text import Segment
from moderation.wire.body import edit, escape, parse, quote
from moderation.wire.leaves import editable
from moderation.wire.openai import Removal, edit_segments, read_answer, read_request

NEW = "«an other text, \\ \" \u2028 \U0001f600»"


def pointers(value: Any, path: str = "") -> Iterator[str]:
    yield path
    if type(value) is dict:
        for key, one in value.items():
            yield from pointers(one, f"{path}/{escape(key)}")
    elif type(value) is list:
        for index, one in enumerate(value):
            yield from pointers(one, f"{path}/{index}")


def _set(value: Any, pointer: str, new: Any) -> Any:
    """The value with another one at the pointer, by other code than what is tested."""
    if not pointer:
        return new
    *way, last = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
    inner = value
    for token in way:
        inner = inner[int(token) if type(inner) is list else token]
    inner[int(last) if type(inner) is list else last] = new
    return value


def _run(data: bytes) -> str:
    try:
        value = parse(data)
    except Refused as refused:
        return refused.code
    random = dice(data)
    law(edit(data, {}) == data and edit_segments(data, {}) == data, "no edits, and other bytes")
    places = list(pointers(value))
    pointer = random.choice(places)
    edited = edit(data, {pointer: quote(NEW)})
    law(parse(edited) == _set(parse(data), pointer, NEW), "an edit changed something else, or not this")
    several = {one: quote(NEW) for one in random.sample(places, min(len(places), 4))}
    parse(edit(data, several))
    return f"{len(places).bit_length()} {_segments(data, value)}"


def _segments(data: bytes, value: Any) -> str:
    random = dice(data)
    read = read_answer if type(value) is dict and "choices" in value else read_request
    try:
        segments = read(value).segments
    except Refused as refused:
        return refused.code
    can = [one for one in segments if editable(one.path) and one.text]
    if not can:
        return "nothing to edit"
    chosen = {one.path: NEW for one in random.sample(can, min(len(can), random.randrange(1, 4)))}
    whole = {path for path in chosen if any(other != path and path == other.partition("#")[0] for other in chosen)}
    law(not whole, "a text and one inside it are both segments")
    edited = edit_segments(data, chosen)
    _same_but(segments, read(parse(edited)).segments, chosen)
    gone = random.choice(can)
    parse(edit_segments(data, {gone.path: Removal("[removed]")}))
    return " ".join(sorted({one.channel.value for one in segments}))


def _same_but(before: Sequence[Segment], after: Sequence[Segment], new: dict[str, str]) -> None:
    """The texts are the wanted ones where they were edited. Elsewhere they are what they were."""
    found = {one.path: one.text for one in after}
    for path in new:
        law(found.get(path) == NEW, "the edited text is not the wanted one")
    for one in before:
        # What stood beside an edited text that was broken JSON was the same text without its escapes.
        if one.path not in new and editable(one.path):
            law(found.get(one.path) == one.text, "a text that was not edited is another")


def _seeds() -> Sequence[bytes]:
    return [*REQUESTS, *ANSWERS, b' { "messages" : [ {"role":"user" , "content" :"a\\u0062\\ud800" } ] } ',
            b'{"a":{"/~":[1,2,{"":[]}]}}']


TARGET = Target(
    "edits", "No edits give the same bytes; with edits the JSON has the wanted texts there, and all others as they were.",
    _seeds, lambda: _run, WORDS,
)
