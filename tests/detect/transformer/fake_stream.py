"""A stand-in for Qwen3Guard-Stream with its interface: every character a token, and what each letter means told beforehand."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from moderation.detect.transformer.token_guard import Streamed

MARKS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
_TOKEN = re.compile("|".join(map(re.escape, MARKS)) + "|(?s:.)")
RISKS = {
    "x": ("Unsafe", "Violent"),
    "†": ("Unsafe", "Violent"),
    "‡": ("Controversial", "PII"),
    "p": ("Unsafe", "PII"),
    "c": ("Controversial", "Violent"),
    "o": ("Unsafe", "Novel Harm"),
}
PIN = "sha256:" + "7" * 64


def cut(text: str) -> tuple[list[int], list[tuple[int, int]]]:
    found = list(_TOKEN.finditer(text))
    ids = [0x110000 + MARKS.index(one.group()) if one.group() in MARKS else ord(one.group()) for one in found]
    return ids, [one.span() for one in found]


def uncut(ids: Sequence[int]) -> str:
    return "".join(MARKS[one - 0x110000] if one >= 0x110000 else chr(one) for one in ids)


@dataclass
class State:
    """Of one stream; a real one is a generator, and knows only what was sent into it."""

    said: list[tuple[str, str]] = field(default_factory=list)
    """Role and text of each call."""
    closed: bool = False


class FakeStream:
    """Judges each token by its letter, and a user's turn by its worst one."""

    def __init__(self, *, fails_at: int = 0, result: Any = None) -> None:
        """`fails_at`: the number of the call that raises. `result`: what it says of an assistant's tokens, whatever they are."""
        self.states: list[State] = []
        self.calls = 0
        self._fails_at, self._result = fails_at, result
        self._lock = threading.Lock()

    def stream_moderate_from_ids(self, token_ids: Any, role: str, stream_state: Any) -> tuple[Any, Any]:
        with self._lock:
            self.calls += 1
            if self.calls == self._fails_at:
                raise RuntimeError("CUDA error")
            if stream_state is None:
                stream_state = State()
                self.states.append(stream_state)
        assert isinstance(stream_state, State)
        assert not stream_state.closed
        assert (role == "user") == (not stream_state.said), "a user's turn first, all at once"
        text = uncut(token_ids)
        assert role == "user" or len(token_ids) == 1, "an answer token by token"
        stream_state.said.append((role, text))
        if role == "user":
            assert text.endswith("<|im_end|>"), "its verdict is that of the token that closes the turn"
            turn = text.rpartition("<|im_start|>user\n")[2]
            risk = next((RISKS[one] for one in turn.removesuffix("<|im_end|>") if one in RISKS), ("Safe", "None"))
            return {"risk_level": [risk[0]], "risk_prob": [0.9], "category": [risk[1]]}, stream_state
        # The real one gives all tokens' verdicts, the newest last.
        before = [RISKS.get(one, ("Safe", "None")) for _, one in stream_state.said[1:]]
        told = {"risk_level": [one[0] for one in before], "category": [one[1] for one in before]}
        return (told if self._result is None else self._result), stream_state

    def close_stream(self, stream_state: Any) -> None:
        assert isinstance(stream_state, State)
        assert not stream_state.closed, "closed once"
        stream_state.closed = True

    @property
    def all_closed(self) -> bool:
        return all(one.closed for one in self.states)


def streamed(model: FakeStream) -> Streamed:
    return Streamed(model, cut)


@dataclass
class FakeOffer:
    """What an installed package offers."""

    model: FakeStream = field(default_factory=FakeStream)
    pin: str = PIN

    def open(self) -> Streamed:
        return streamed(self.model)


OFFER = FakeOffer()
"""For an entry point to name."""
