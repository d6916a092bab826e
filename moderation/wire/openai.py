"""OpenAI-compatible chat completions, as Qwen serves them: a request or a whole answer as a Conversation.

Any string in messages and tools is read, in parts that nobody knows as well; what cannot be read is refused. Knows nothing of
bytes (wire/body), of streams (wire/chunks) or of edits (wire/edits). Errors name places, never content.
"""

from __future__ import annotations

from typing import Any, NoReturn

from moderation.errors import Refused, UpstreamError
from moderation.text import Channel, Conversation, Media, Phase, Segment, Turn
from moderation.wire.arguments import read_arguments
from moderation.wire.body import escape
from moderation.wire.choices import choice_index, finish_pointers, is_error, is_reasoning, logprob_pointers
from moderation.wire.chunks import CallName, Chunk, Piece, TapeId, read_chunk, rewrite_frame
from moderation.wire.edits import Removal, edit_segments
from moderation.wire.leaves import KEYS, MAX_LEAVES, PLAIN, SHORT, SHORT_IN_TOOLS, Leaves, TooMany
from moderation.wire.media import MEDIA_KEYS, media_kind, media_texts, payload_texts

__all__ = [
    "CallName", "Chunk", "Piece", "Removal", "TapeId", "edit_segments", "finish_pointers", "is_error", "logprob_pointers",
    "read_answer", "read_chunk", "read_request", "rewrite_frame",
]

_BY_ROLE = {
    "system": Channel.SYSTEM,
    "developer": Channel.SYSTEM,
    "user": Channel.USER,
    "assistant": Channel.ASSISTANT,
    "tool": Channel.TOOL_RESULT,
    "function": Channel.TOOL_RESULT,
}
"""Any other role is read as the user's: rules for users are the strictest."""
MAX_MEDIA = 10_000
"""Each is recorded by itself, and a decision has its bounds in the log."""
_LIKE_TOOLS = ("functions", "prediction", "response_format", "tools")
_AS_WRITTEN = frozenset({"messages", "model", "stream", *_LIKE_TOOLS})
_KNOWN_IN_CHOICE = frozenset({"index", "message", "finish_reason", "logprobs", "token_ids"})


def read_request(body: Any) -> Conversation:
    """Every text of a request, in the order of the body. Raises Refused(invalid_body) with the place."""
    if type(body) is not dict:
        raise Refused("invalid_body", "the body: expected a JSON object with `messages`")
    messages = body.get("messages")
    if type(messages) is not list:
        raise Refused("invalid_body", "/messages: expected a list of messages")
    for index, message in enumerate(messages):
        if type(message) is not dict:
            raise Refused("invalid_body", f"/messages/{index}: expected an object")
        if type(message.get("role")) is not str:
            raise Refused("invalid_body", f"/messages/{index}/role: expected a string such as user")
    reader = _Reader(Refused, "invalid_body", Phase.INPUT)
    try:
        for key, value in body.items():
            if key == "messages":
                new = _first_new(messages)
                for index, message in enumerate(messages):
                    reader.turn = Turn.NEW if index >= new else Turn.HISTORY
                    reader.message(message, f"/messages/{index}")
            elif key in _LIKE_TOOLS:
                if value is not None:
                    reader.definitions(value, f"/{key}")
            elif key not in _AS_WRITTEN and (meant := key.casefold()) in _AS_WRITTEN:
                # Readers in Go take it for the very field, and the last of two wins.
                raise Refused("invalid_body", f"the body: a field that is `{meant}` but for its letters' case; write it so")
    except TooMany:
        raise Refused("invalid_body", f"the body: more than {MAX_LEAVES} values; send a smaller request") from None
    model = body.get("model")
    return Conversation(
        tuple(reader.segments),
        tuple(reader.media),
        model if type(model) is str else None,
        body.get("stream") is True,
    )


def _first_new(messages: list[dict[str, Any]]) -> int:
    """Where the new part starts: the last user message; at the end of a run of tool results, what no assistant has answered."""
    roles = [message["role"] for message in messages]
    if roles and roles[-1] in ("tool", "function") and "assistant" in roles:
        return len(roles) - roles[::-1].index("assistant")
    users = [index for index, role in enumerate(roles) if _BY_ROLE.get(role, Channel.USER) is Channel.USER]
    return users[-1] if users else 0


def read_answer(body: Any) -> Conversation:
    """Every text of a whole answer. Raises UpstreamError(upstream_invalid) where it has no choices that can be read."""
    choices = body.get("choices") if type(body) is dict else None
    if type(choices) is not list:
        raise UpstreamError("upstream_invalid", "the upstream's answer: expected an object with a list `choices`")
    reader = _Reader(UpstreamError, "upstream_invalid", Phase.OUTPUT)
    reader.turn = Turn.NEW
    try:
        for position, choice in enumerate(choices):
            path = f"/choices/{position}"
            if type(choice) is not dict:
                reader.refuse(path, "expected an object")
            reader.choice = choice_index(choice, position)
            message = choice.get("message")
            if type(message) is dict:
                reader.answer(message, f"{path}/message")
            elif message is not None:
                reader.refuse(f"{path}/message", "expected an object")
            if not choice.keys() <= _KNOWN_IN_CHOICE:
                reader.beside(choice, path)
    except TooMany:
        raise UpstreamError("upstream_invalid", f"the upstream's answer has more than {MAX_LEAVES} values") from None
    model = body.get("model")
    return Conversation(tuple(reader.segments), tuple(reader.media), model if type(model) is str else None)


class _Reader:
    """Collects segments, in the order of the body."""

    __slots__ = ("_code", "_error", "_names", "_phase", "choice", "media", "segments", "turn")

    def __init__(self, error: type[Refused], code: str, phase: Phase) -> None:
        self._error = error
        self._code = code
        self._phase = phase
        self._names: dict[str, str | None] = {}
        """Which tool a call's id stands for."""
        self.turn = Turn.NEW
        self.choice = 0
        self.segments: list[Segment] = []
        self.media: list[Media] = []

    def refuse(self, path: str, why: str) -> NoReturn:
        raise self._error(self._code, f"{path}: {why}")

    # ---- messages ------------------------------------------------------------------------------------------------

    def message(self, message: dict[str, Any], path: str) -> None:
        """A message of a request."""
        channel = _BY_ROLE.get(message["role"], Channel.USER)
        phase, tool = Phase.INPUT, None
        if channel is Channel.SYSTEM:
            self.turn = Turn.NEW
        elif channel is Channel.TOOL_RESULT:
            phase, tool = Phase.TOOL_RESULT, self._answered(message)
        self._members(message, path, channel, phase, tool)

    def answer(self, message: dict[str, Any], path: str) -> None:
        """The message of an answer's choice."""
        self._members(message, path, Channel.ANSWER, Phase.OUTPUT, None)

    def _members(self, message: dict[str, Any], path: str, channel: Channel, phase: Phase, tool: str | None) -> None:
        strange: list[str] = []
        for key, value in message.items():
            if key == "content":
                if type(value) is str:
                    if value:
                        self._segment(channel, phase, value, f"{path}/content", tool)
                else:
                    self._content(value, f"{path}/content", channel, phase, tool)
                continue
            if value is None:
                pass
            elif key in SHORT and type(value) is str and PLAIN(value):
                continue
            elif key == "tool_calls" and type(value) is list:
                for index, call in enumerate(value):
                    self._call(call, f"{path}/tool_calls/{index}")
            elif key == "function_call":
                self._call(value, f"{path}/function_call")
            else:
                where = channel
                if is_reasoning(key):
                    where = Channel.REASONING
                elif key == "refusal" and channel is Channel.ANSWER:
                    where = Channel.REFUSAL
                leaves, place = Leaves(), f"{path}/{escape(key)}"
                if key in MEDIA_KEYS:
                    self._medium(place, MEDIA_KEYS[key])
                    payload_texts(value, place, leaves)
                else:
                    leaves.take(value, place)
                self._add(leaves, place, where, phase, tool)
            if not PLAIN(key):
                strange.append(key)
        if strange:
            self._segment(channel, phase, "\n".join(strange), path + KEYS, tool)

    def _answered(self, message: dict[str, Any]) -> str | None:
        """The name of the tool whose result this is."""
        call, name = message.get("tool_call_id"), message.get("name")
        if type(call) is str and self._names.get(call):
            return self._names[call]
        return name if type(name) is str else None

    def _content(self, value: Any, path: str, channel: Channel, phase: Phase, tool: str | None) -> None:
        kind = type(value)
        if kind is list:
            if len(value) + len(self.segments) > MAX_LEAVES:
                raise TooMany
            for index, part in enumerate(value):
                self._part(part, f"{path}/{index}", channel, phase, tool)
        elif kind is dict:
            self._part(value, path, channel, phase, tool)
        elif value is not None:
            self.refuse(path, "expected a string, null or a list of parts; send text as a string")

    def _part(self, part: Any, path: str, channel: Channel, phase: Phase, tool: str | None) -> None:
        leaves = Leaves()
        if type(part) is dict:
            kind = media_kind(part)
            if kind is not None:
                self._medium(path, kind)
                media_texts(part, path, leaves)
                self._add(leaves, path, channel, phase, tool)
                return
            if channel is Channel.ANSWER and part.get("type") == "refusal":
                channel = Channel.REFUSAL
        leaves.take(part, path)
        self._add(leaves, path, channel, phase, tool)

    # ---- tools ---------------------------------------------------------------------------------------------------

    def _call(self, call: Any, path: str) -> None:
        """A tool call, in history or in an answer. Each gives a segment, so that rules can speak of calls alone."""
        phase = Phase.TOOL_CALL if self._phase is Phase.OUTPUT else Phase.INPUT
        inner = call
        if type(call) is dict:
            inner = next((call[key] for key in ("function", "custom") if type(call.get(key)) is dict), call)
        name = inner.get("name") if type(inner) is dict else None
        tool = name if type(name) is str else None
        if type(call) is dict and type(call.get("id")) is str and call["id"]:
            self._names[call["id"]] = tool
        before = len(self.segments)
        leaves = Leaves()
        if type(call) is dict:
            self._called(call, inner, path, phase, tool, leaves)
        else:
            leaves.take(call, path)
        self._add(leaves, path, Channel.TOOL_CALL, phase, tool)
        if len(self.segments) == before:
            place = f"{path}/arguments" if inner is call else f"{path}/function/arguments"
            self._segment(Channel.TOOL_CALL, phase, "", place, tool)

    def _called(
        self, call: dict[str, Any], inner: Any, path: str, phase: Phase, tool: str | None, leaves: Leaves
    ) -> None:
        for key, value in call.items():
            if inner is not None and value is inner:
                self._called(inner, None, f"{path}/{escape(key)}", phase, tool, leaves)
            elif key == "arguments":
                self._arguments(value, f"{path}/arguments", phase, tool)
            elif "#" in key:
                # Its path could be taken for one inside the arguments.
                self.refuse(path, "no key beside a call's arguments may hold `#`")
            else:
                leaves.member(key, value, path)

    def _arguments(self, value: Any, path: str, phase: Phase, tool: str | None) -> None:
        if type(value) is str:
            for leaf in read_arguments(value):
                self._segment(Channel.TOOL_CALL, phase, leaf.text, path + leaf.path, tool, leaf.literal)
        else:
            leaves = Leaves(short=frozenset(), all_keys=True)
            leaves.take(value, path)
            self._add(leaves, path, Channel.TOOL_CALL, phase, tool)

    def definitions(self, value: Any, path: str) -> None:
        """tools, functions, response_format, prediction: always new, and one set of keys for each entry."""
        self.turn = Turn.NEW
        entries = [(f"{path}/{index}", one) for index, one in enumerate(value)] if type(value) is list else [(path, value)]
        for place, entry in entries:
            tool = None
            if type(entry) is dict:
                inner = entry["function"] if type(entry.get("function")) is dict else entry
                tool = inner.get("name") if type(inner.get("name")) is str else None
            leaves = Leaves(SHORT_IN_TOOLS, all_keys=True)
            leaves.take(entry, place)
            self._add(leaves, place, Channel.TOOL_DEFINITION, Phase.INPUT, tool)

    # ---- collecting ----------------------------------------------------------------------------------------------

    def beside(self, choice: dict[str, Any], path: str) -> None:
        """What stands in a choice beside its message."""
        leaves = Leaves(SHORT | {"stop_reason", "matched_stop"})
        for key, value in choice.items():
            if key not in _KNOWN_IN_CHOICE:
                leaves.member(key, value, path)
        self._add(leaves, path, Channel.ANSWER, Phase.OUTPUT, None)

    def _medium(self, path: str, kind: str) -> None:
        if len(self.media) >= MAX_MEDIA:
            self.refuse(path, f"more than {MAX_MEDIA} media; send fewer")
        self.media.append(Media(path, kind, self.turn))

    def _add(self, leaves: Leaves, path: str, channel: Channel, phase: Phase, tool: str | None) -> None:
        for leaf in leaves.close(path):
            self._segment(channel, phase, leaf.text, leaf.path, tool, leaf.literal)
        if len(self.segments) > MAX_LEAVES:
            raise TooMany

    def _segment(
        self, channel: Channel, phase: Phase, text: str, path: str, tool: str | None, literal: bool = False
    ) -> None:
        self.segments.append(Segment(channel, phase, self.turn, text, path, tool, self.choice, literal))
