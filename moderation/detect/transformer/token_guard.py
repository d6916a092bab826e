"""Qwen3Guard-Stream as a window detector: it reads a text token by token, and says where in it.

The model and its tokenizer are given in, with the interface that the model has. Each passage is a stream of its own, opened for
it and closed before the answer: what stands before it is read first, and not judged (docs/decisions/0008). Knows no policy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from moderation import normalise
from moderation.detect.api import Passage
from moderation.detect.decoding import LAYERS, STRETCHES
from moderation.detect.guard.qwen3guard import Strictness
from moderation.detect.guard.qwen3guard_stream import ASSISTANT, USER, USER_END, Verdict, category, confirmed, verdict
from moderation.detect.legible import SURE, may_know, reads_all, spelt_out
from moderation.text import Role, Span
from moderation.verdict import Cause, Finding, Unknown


class Moderates(Protocol):
    """The interface of Qwen3Guard-Stream. A state is of one stream; several streams may be open at once, in several threads."""

    def stream_moderate_from_ids(self, token_ids: Any, role: str, stream_state: Any) -> tuple[Any, Any]:
        """{"risk_level": […], "category": […]}, the newest token's last, and the state to go on with."""
        ...

    def close_stream(self, stream_state: Any) -> None: ...


Cut = Callable[[str], tuple[Sequence[int], Sequence[tuple[int, int]]]]
"""A text in tokens of the model's vocabulary, and where in the text each stands. Its marks, <|im_start|> and so on, are one."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """A loaded model with its tokenizer."""

    model: Moderates
    cut: Cut
    tensor: Callable[[Sequence[int]], Any] = list
    """What the model takes for token ids, such as torch.tensor."""


class _Lost(Exception):
    """What the model said is in no format of its."""


class _Stream:
    """One stream of tokens through the model."""

    def __init__(self, of: Streamed, strictness: Strictness) -> None:
        self._of, self._strictness = of, strictness
        self._state: Any = None
        self._open = False

    def send(self, ids: Sequence[int], role: str) -> Verdict:
        """The verdict on the last of these tokens. Raises _Lost where what the model says is in no format of its."""
        result, self._state = self._of.model.stream_moderate_from_ids(self._of.tensor(ids), role=role, stream_state=self._state)
        self._open = True
        found = verdict(result, self._strictness)
        if found is None:
            raise _Lost
        return found

    def close(self) -> None:
        if self._open:
            self._open = False
            self._of.model.close_stream(self._state)


class TokenGuard:
    """See detect/api.py, Windowed. A time-out is for all that one passage says, shown and hidden."""

    batch = 1

    def __init__(
        self,
        id: str,
        streamed: Streamed,
        pin: str,
        strictness: Strictness,
        categories: frozenset[str],
        labels: Mapping[str, str] | None = None,
        languages: Sequence[str] | None = None,
    ) -> None:
        """`pin` stands for all of the model; `categories`: findings of any other are not for this policy.

        `languages`: those that it knows, None for all. `labels` says what a label counts as where that is not the engine's own.
        """
        self.id = id
        self._of, self._strictness, self._categories, self._labels = streamed, strictness, categories, dict(labels or {})
        self._languages = None if languages is None else frozenset(tag.split("-")[0] for tag in languages)
        known = None if self._languages is None else sorted(self._languages)
        read = (normalise.VERSION, LAYERS, STRETCHES.version)
        told = ("qwen3guard_stream 1", pin, strictness.value, sorted(categories), sorted(self._labels.items()), known, read)
        self.version = hashlib.sha256(repr(told).encode()).hexdigest()

    def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
        return [self._one(passage) for passage in passages]

    def _one(self, passage: Passage) -> tuple[Finding, ...] | Unknown:
        """What it finds in a passage, in its place; and in what that hides, which counts for all of it."""
        if not passage.text:
            return ()
        known = None if passage.trial else self._languages  # whether it answers at all, it can show in any language
        if known is not None and not may_know(known, passage.text):
            return Unknown(self.id, Cause.UNSUPPORTED)
        found: dict[tuple[int, int, str], Finding] = {}
        every = Span(0, len(passage.text))
        try:
            for one in spelt_out(passage):
                for span, said in self._read(one):
                    place = span if one is passage else every
                    name = category(said.label, self._labels)
                    key = (place.start, place.end, name)
                    if name in self._categories and (key not in found or found[key].score < said.score):
                        found[key] = Finding(self.id, name, None, name, said.score, place)
        except _Lost:
            return Unknown(self.id, Cause.INVALID)
        sure = max((one.score for one in found.values()), default=0) >= SURE
        if known is not None and not sure and not reads_all(known, passage.text):
            return Unknown(self.id, Cause.UNSUPPORTED)
        return tuple(found[key] for key in sorted(found))

    def _read(self, passage: Passage) -> list[tuple[Span, Verdict]]:
        """What counts in one text."""
        with self._opened() as stream:
            if passage.role is not Role.RESPONSE:
                turns = [_turn(text) for text in (passage.before, passage.text) if text]
                said = stream.send(self._ids("\n".join(turns)), "user")
                return [(Span(0, len(passage.text)), said)] if said.score else []
            stream.send(self._ids(_turn("")), "user")
            last: Verdict | None = None
            for token in self._ids(ASSISTANT):
                stream.send([token], "assistant")
            for token in self._ids(_plain(passage.before)) if passage.before else ():
                last = stream.send([token], "assistant")
            tokens = [(place, stream.send([token], "assistant")) for token, place in self._tokens(passage.text)]
        return [(one.span, Verdict(one.score, one.label)) for one in confirmed(last, tokens)]

    @contextmanager
    def _opened(self) -> Iterator[_Stream]:
        stream = _Stream(self._of, self._strictness)
        try:
            yield stream
        finally:  # whatever the model did, and where whoever asked is gone
            stream.close()

    def _ids(self, text: str) -> Sequence[int]:
        return self._of.cut(text)[0]

    def _tokens(self, text: str) -> Iterator[tuple[int, Span]]:
        """A text's tokens, each with a place in it: one that tells none stands where it can."""
        for token, (start, end) in zip(*self._of.cut(_plain(text)), strict=True):
            begin = min(max(start, 0), len(text) - 1)
            yield token, Span(begin, min(max(end, begin + 1), len(text)))


def _turn(text: str) -> str:
    """A user's turn. Its last token is the one that closes it."""
    return f"{USER}{_plain(text)}{USER_END}"


def _plain(text: str) -> str:
    """A text without marks that the tokenizer would take for its own, every sign in its place.

    With them a text could end its own turn.
    """
    return text.replace("<|", "<¦").replace("<think>", "‹think>").replace("</think>", "‹/think>")
