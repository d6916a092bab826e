"""The OpenAI dialect's streams, for the carrier: events in, events with other texts out, and our own last words.

Holds what one stream repeats: its id, model and time, the names of its tool calls, its last usage.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from moderation.errors import CODES, LogError, Refused, UpstreamError
from moderation.flow.streaming import Heard
from moderation.stream.plan import TapeName
from moderation.text import Channel
from moderation.wire.answers import Head, blocked_stream, error_frame, estimate_tokens, head, usage_frame
from moderation.wire.arguments import argument_texts, read_arguments, rebuild_arguments
from moderation.wire.body import locate, parse
from moderation.wire.chunks import Piece, TapeId, read_chunk, rewrite_frame
from moderation.wire.leaves import editable
from moderation.wire.sse import Event, Splitter

_QUIET = Heard()
_MOST_MOULDS = 64
"""So many moulds may be made for one stream: where no frame is like the one before, making them costs more than they save."""
_NOT_PLAIN = re.compile(rb'["\\\x00-\x1f]')


class Mould(NamedTuple):
    """A frame with a hole where its one text stood. Most frames of a stream differ in nothing else, and need no JSON parser."""

    before: bytes
    """Up to and with the quote that opens the text's literal."""
    after: bytes
    tape: TapeId
    path: str
    choices: tuple[int, ...]

    def text(self, raw: bytes) -> str | None:
        """The text of a frame from this mould, None for any other frame.

        INVARIANT: what stands in the hole has no quote, backslash or control character, so it is a whole literal, and reading the
        frame as JSON would give the very same text.
        """
        before, after = self.before, self.after
        if not raw.startswith(before) or not raw.endswith(after) or len(raw) <= len(before) + len(after):
            return None
        middle = raw[len(before) : -len(after)]
        if _NOT_PLAIN.search(middle):
            return None
        try:
            return middle.decode()
        except UnicodeDecodeError:
            return None


def mould(raw: bytes, data: bytes, piece: Piece, choices: tuple[int, ...]) -> Mould | None:
    """The mould of a frame with one piece; None where its literal cannot be told from the rest, or it has more lines than one."""
    if not raw.startswith(b"data:") or b"\n" in raw[:-2] or b"\r" in raw or piece.medium is not None:
        return None
    at = raw.find(data)
    place = locate(data, [piece.path]).get(piece.path)
    if at < 0 or place is None or data[place[0] : place[0] + 1] != b'"':
        return None
    return Mould(raw[: at + place[0] + 1], raw[at + place[1] - 1 :], piece.tape, piece.path, choices)


class OpenAISpeech:
    """One stream of chat completions."""

    def __init__(self, request_id: str, default: Head, *, include_usage: bool, asked: str) -> None:
        """`default`: what a stream that is blocked before its first chunk says of itself; `asked`: the prompt."""
        self._splitter = Splitter()
        self._id = request_id
        self._default = default
        self._head: Head | None = None
        self._include_usage = include_usage
        self._asked = asked
        self._usage: Mapping[str, Any] | None = None
        self._calls: dict[tuple[int, str], str] = {}
        self._begun: set[int] = set()
        self._mould: Mould | None = None
        self._moulds = 0
        self._said = 0

    def split(self, chunk: bytes) -> Sequence[bytes]:
        return self._splitter.feed(chunk)

    def rest(self) -> bytes:
        return self._splitter.rest()

    def read(self, raw: bytes) -> Heard:
        mould = self._mould
        if mould is not None and (text := mould.text(raw)):
            self._said += len(text)
            return Heard((Piece(mould.tape, text, mould.path),), (), mould.choices)
        return self._read(raw)

    def _read(self, raw: bytes) -> Heard:
        data = Event.parse(raw).data
        if data is None or not data.strip():
            return _QUIET
        if data.strip() == b"[DONE]":
            return Heard(done=True)
        try:
            body = parse(data)
        except UpstreamError:
            raise
        except Refused as error:
            raise UpstreamError("upstream_invalid", f"an event of the upstream's stream: {error.message}") from None
        chunk = read_chunk(body)
        if chunk.error:
            return Heard(error=True)
        if self._head is None:
            self._head = head(body, self._default)
        if chunk.usage and isinstance(body.get("usage"), dict):
            self._usage = body["usage"]
        for call in chunk.calls:
            self._calls.setdefault((call.choice, call.call), call.name)
        self._begun.update(chunk.choices)
        for piece in chunk.pieces:
            self._said += len(piece.text)
        if self._moulds < _MOST_MOULDS and len(chunk.pieces) == 1 and not (chunk.finished or chunk.calls or chunk.usage):
            self._moulds += 1
            self._mould = mould(raw, data, chunk.pieces[0], chunk.choices)
        return Heard(chunk.pieces, chunk.finished, chunk.choices)

    def tool(self, tape: TapeName) -> str | None:
        if tape.channel is not Channel.TOOL_CALL:
            return None
        return self._calls.get((tape.choice, self._call(tape)))

    def _call(self, tape: TapeName) -> str:
        """`tool_calls/0` of `tool_calls/0/arguments`; `function_call` of `function_call/arguments`."""
        parts = tape.name.split("/")
        return "/".join(parts[:2]) if parts[0] == "tool_calls" else parts[0]

    def parts(self, tape: TapeName, text: str) -> Sequence[str]:
        return argument_texts(text) if _arguments(tape) else [text]

    def fixed(self, tape: TapeName, text: str) -> frozenset[int]:
        if not _arguments(tape):
            return frozenset()
        return frozenset(n for n, leaf in enumerate(read_arguments(text)) if not editable(leaf.path))

    def rebuild(self, tape: TapeName, text: str, parts: Sequence[str | None]) -> str:
        if _arguments(tape):
            return rebuild_arguments(text, parts)
        return parts[0] if parts and parts[0] is not None else text

    def rewrite(self, raw: bytes, texts: Mapping[str, str], unfinished: bool) -> bytes:
        return rewrite_frame(raw, texts, unfinished)

    def blocked(self, choice: int, message: str, open: Sequence[int]) -> bytes:
        stream = self._head or self._default
        usage = b""
        if self._include_usage:
            usage = usage_frame(stream, self._usage, (estimate_tokens(self._asked), (self._said + 3) // 4))
        return blocked_stream(stream, choice, message, open, role=choice not in self._begun, usage=usage)

    def failed(self, error: UpstreamError | LogError) -> bytes:
        code, message = ("audit_unavailable", CODES["audit_unavailable"].meaning)
        if isinstance(error, UpstreamError):
            code, message = error.code, error.message
        return error_frame(code, message, self._id)

    def usage(self) -> tuple[int, int] | None:
        return tokens(self._usage)


def _arguments(tape: TapeName) -> bool:
    return isinstance(tape, TapeId) and tape.channel is Channel.TOOL_CALL and tape.name.endswith("/arguments")


def tokens(usage: Any) -> tuple[int, int] | None:
    """Prompt and completion tokens, where the upstream counted both."""
    if not isinstance(usage, Mapping):
        return None
    asked, said = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if type(asked) is int and type(said) is int and 0 <= asked < 1 << 53 and 0 <= said < 1 << 53:
        return asked, said
    return None
