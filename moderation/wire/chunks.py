"""One chunk of a streamed answer: which pieces of text it adds to which tapes; and chunks with other texts.

Any string in a delta is read. Knows nothing of what came before or of when a piece may go out (stream.Release does).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from moderation.errors import UpstreamError
from moderation.text import Channel
from moderation.wire.body import edit, escape, parse, quote
from moderation.wire.choices import choice_index, finish_pointers, is_error, is_reasoning, logprob_pointers
from moderation.wire.leaves import MAX_LEAVES, PLAIN, SHORT, Leaf, Leaves, TooMany
from moderation.wire.media import MEDIA_KEYS, payload_paths, payload_texts
from moderation.wire.sse import Event, with_data

_KNOWN_IN_CHOICE = frozenset({"index", "delta", "finish_reason", "logprobs", "token_ids"})
_KNOWN_IN_DELTA = frozenset({"content", "reasoning_content", "role", "tool_calls", "reasoning", "refusal"})
_KNOWN_AT_TOP = frozenset({
    "id", "object", "model", "created", "choices", "usage", "system_fingerprint", "service_tier", "request_id",
})

_FINISH = re.compile(r"[A-Za-z_]{0,40}").fullmatch
MEDIUM = "\ufffc"
"""Stands for a medium on its tape (U+FFFC, object replacement character), so that it waits its turn as a text does."""

# The four below are tuples and not dataclasses: a stream makes them for each frame.


class TapeId(NamedTuple):
    """One growing text of an answer."""

    choice: int
    channel: Channel
    name: str
    """The field in the delta: `content`, `reasoning_content`, `tool_calls/0/arguments` …"""


class Piece(NamedTuple):
    """What one chunk adds to one tape."""

    tape: TapeId
    text: str
    path: str
    """JSON pointer into the chunk's body."""
    medium: str | None = None
    """What kind of medium stands here, which no detector reads; its text is MEDIUM."""


class CallName(NamedTuple):
    """The tool that a call of a choice is for."""

    choice: int
    call: str
    """`tool_calls/0` or `function_call`: what the names of its tapes start with, before a slash."""
    name: str


class Chunk(NamedTuple):
    """What one frame says."""

    pieces: tuple[Piece, ...]
    finished: tuple[int, ...]
    """Choices whose finish_reason it gives."""
    usage: bool
    error: bool
    calls: tuple[CallName, ...]
    choices: tuple[int, ...]
    """All choices in it."""


def read_chunk(body: Any) -> Chunk:
    """Read one chunk. Raises UpstreamError(upstream_invalid) where it holds text that cannot be read."""
    if type(body) is not dict:
        _refuse("expected a JSON object")
    choices = body.get("choices")
    if choices is None:
        return _without_choices(body)
    if type(choices) is not list:
        _refuse("/choices: expected a list")
    pieces: list[Piece] = []
    calls: list[CallName] = []
    finished: list[int] = []
    numbers: list[int] = []
    try:
        for position, choice in enumerate(choices):
            if type(choice) is not dict:
                _refuse(f"/choices/{position}: expected an object")
            index = choice.get("index")
            if type(index) is not int:
                if index is not None:  # 1.0 or "1" is the second choice to some clients, and the first to others
                    _refuse(f"/choices/{position}/index: expected an integer")
                index = position
            numbers.append(index)
            delta = choice.get("delta")
            if type(delta) is dict:
                for key, value in delta.items():
                    if key not in _KNOWN_IN_DELTA and not PLAIN(key):
                        _refuse(f"/choices/{position}/delta: a key that holds text")
                    if type(value) is str:
                        if not value or (key in SHORT and PLAIN(value)):
                            continue
                        channel = Channel.ANSWER if key == "content" else _channel(key)
                        pieces.append(Piece(TapeId(index, channel, key), value, f"/choices/{position}/delta/{escape(key)}"))
                    elif value is not None:
                        _field(key, value, f"/choices/{position}/delta", index, pieces, calls)
            elif delta is not None:
                _refuse(f"/choices/{position}/delta: expected an object")
            finish = choice.get("finish_reason")
            if finish is not None:
                if type(finish) is not str or not _FINISH(finish):
                    _refuse(f"/choices/{position}/finish_reason: expected a word such as stop")
                finished.append(index)
            if not choice.keys() <= _KNOWN_IN_CHOICE:
                leaves = Leaves(SHORT | {"stop_reason", "matched_stop"})
                for key, value in choice.items():
                    if key not in _KNOWN_IN_CHOICE:
                        leaves.member(key, value, f"/choices/{position}")
                _add(leaves, f"/choices/{position}", index, Channel.ANSWER, pieces)
    except TooMany:
        _refuse(f"more than {MAX_LEAVES} values")
    error = bool(body.get("error"))
    if error and pieces:
        _refuse("text beside an error, which some clients show and others do not")
    return Chunk(tuple(pieces), tuple(finished), body.get("usage") is not None, error, tuple(calls), tuple(numbers))


def _refuse(why: str) -> NoReturn:
    raise UpstreamError("upstream_invalid", f"a chunk of the upstream's stream: {why}")


def _channel(key: str) -> Channel:
    if key == "refusal":
        return Channel.REFUSAL
    return Channel.REASONING if is_reasoning(key) else Channel.ANSWER


def _without_choices(body: dict[str, Any]) -> Chunk:
    """An error, a usage or a sign of life; should it hold any text, that is read as the first choice's answer."""
    error = is_error(body)
    pieces: list[Piece] = []
    if not error:
        leaves = Leaves()
        for key, value in body.items():
            if key not in _KNOWN_AT_TOP:
                leaves.member(key, value, "")
        _add(leaves, "", 0, Channel.ANSWER, pieces)
    return Chunk(tuple(pieces), (), body.get("usage") is not None, error, (), ())


def _field(key: str, value: Any, path: str, index: int, pieces: list[Piece], calls: list[CallName]) -> None:
    """A field of a delta that is not a plain string."""
    place = f"{path}/{escape(key)}"
    if key == "tool_calls" and type(value) is list:
        for position, call in enumerate(value):
            number = call.get("index") if type(call) is dict else None
            name = f"tool_calls/{number if type(number) is int else position}"
            _call(call, name, f"{place}/{position}", index, pieces, calls)
        return
    if key == "function_call":
        _call(value, key, place, index, pieces, calls)
        return
    if key == "content" and type(value) not in (list, dict):
        _refuse(f"{place}: expected a string, null or a list of parts")
    leaves = Leaves()
    if key in MEDIA_KEYS:
        tape = TapeId(index, Channel.ANSWER, key)
        pieces.extend(Piece(tape, MEDIUM, found, MEDIA_KEYS[key]) for found in payload_paths(value, place))
        payload_texts(value, place, leaves)
    else:
        leaves.take(value, place)
    _add(leaves, path, index, _channel(key), pieces)


def _call(call: Any, name: str, path: str, index: int, pieces: list[Piece], calls: list[CallName]) -> None:
    """A piece of a tool call. Where the tool is named, its arguments' tape begins, be it with nothing."""
    channel = Channel.TOOL_CALL
    leaves = Leaves()
    if type(call) is not dict:
        leaves.take(call, path)
    else:
        wrapper = next((key for key in ("function", "custom") if type(call.get(key)) is dict), None)
        inner, place = (call[wrapper], f"{path}/{wrapper}") if wrapper else (call, path)
        field = "input" if wrapper == "custom" else "arguments"
        tool, text = inner.get("name"), inner.get(field)
        named = False
        if isinstance(tool, str) and tool:
            calls.append(CallName(index, name, tool))
            named = True
        if type(text) is str:
            if text or named:
                pieces.append(Piece(TapeId(index, channel, f"{name}/{field}"), text, f"{place}/{field}"))
        elif named:
            pieces.append(Piece(TapeId(index, channel, f"{name}/{field}"), "", f"{place}/{field}"))
        for key, value in inner.items():
            if not (key == field and type(value) is str):
                leaves.member(key, value, place)
        if wrapper:
            for key, value in call.items():
                if key != wrapper:
                    leaves.member(key, value, path)
    for leaf in _closed(leaves, path):
        pieces.append(Piece(TapeId(index, channel, name + leaf.path.removeprefix(path)), leaf.text, leaf.path))


def _add(leaves: Leaves, path: str, index: int, channel: Channel, pieces: list[Piece]) -> None:
    for leaf in _closed(leaves, path):
        pieces.append(Piece(TapeId(index, channel, leaf.path.removeprefix(path).removeprefix("/")), leaf.text, leaf.path))


def _closed(leaves: Leaves, path: str) -> list[Leaf]:
    count = len(leaves.found)
    found = leaves.close(path)
    if len(found) > count:
        # A key cannot be edited, and no client of a chat reads one: such a stream is not passed on.
        _refuse(f"{path}: an object has keys that hold text")
    return found


def rewrite_frame(raw: bytes, texts: Mapping[str, str], unfinished: bool = False) -> bytes:
    """The event with other texts at these paths; without any finish_reason where `unfinished`.

    What repeats the text of an edited choice token by token becomes null.
    """
    data = Event.parse(raw).data
    if data is None:
        return raw
    body = parse(data)
    edits = {path: quote(text) for path, text in texts.items()}
    edited = {path.split("/")[2] for path in texts if path.startswith("/choices/")}
    for position in edited:
        choice = body["choices"][int(position)]
        edits.update(dict.fromkeys(logprob_pointers(body, choice_index(choice, int(position))), "null"))
    if unfinished:
        edits.update(dict.fromkeys(finish_pointers(body), "null"))
    return with_data(raw, edit(data, edits))
