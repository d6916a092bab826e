"""Decisions, leaves, logs and faults to test with: plain samples and Hypothesis strategies."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st

from moderation.audit.bundle import Bundles
from moderation.audit.disk import Disk
from moderation.audit.leaf import Body
from moderation.audit.record import Names, closing, decision, opening, policy_activate
from moderation.audit.store import Log
from moderation.audit.writer import Limits
from moderation.text import Channel, Origin, Phase, Scope, Turn
from moderation.verdict import (
    Action,
    Cause,
    Decision,
    Fired,
    Key,
    Mode,
    Outcome,
    PolicyRef,
    Severity,
    Signal,
    Unknown,
    Window,
)

POLICY = PolicyRef("default", "ab" * 32)
ENGINE = "0.1.0"
NAMES = Names(b"k" * 32, models=frozenset({"qwen-plus"}), tools=frozenset({"kb_search"}))
EMAIL = Key(Channel.USER, Turn.NEW, None, "pii", "personal_data", "EMAIL_ADDRESS", Origin.USER)
BARE = Key(Channel.USER, Turn.NEW)
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(number: int) -> str:
    digits = ""
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits = _ALPHABET[digit] + digits
    return digits


def decided(request: str = ulid(1), n: int = 0, action: Action = Action.REDACT, scope: Scope | None = None) -> Decision:
    """A decision about a window with an e-mail address in it."""
    fired = (Fired("mask", 0, action, Mode.ENFORCE, Severity.HIGH, None, (EMAIL,), (500_000,), False, False),)
    outcome = Outcome(action, action, fired if action is not Action.ALLOW else (), (), False, None)
    window = Window((Signal(BARE, 0, 1), Signal(EMAIL, 1_000_000, 1)))
    return Decision(request, n, Phase.INPUT, scope or Scope(), POLICY, outcome, (window,))


def leaves_of(one: Decision, trace: str | None = None) -> tuple[Body, ...]:
    return decision(one, names=NAMES, engine=ENGINE, durability="strict", commit=None, chars=12, trace=trace)


def opened(request: str) -> Body:
    return opening(request, Scope(), POLICY, names=NAMES, engine=ENGINE, endpoint="chat")


def closed(request: str, decisions: int) -> Body:
    return closing(request, "completed", names=NAMES, decisions=decisions, upstream_status=200)


def activation(data: Path, policy: PolicyRef = POLICY) -> Body:
    files = {"policy.yaml": b"format: 1\n", "lists/words.txt": b"heron\n"}
    Bundles(data).keep(policy.hash, files)
    return policy_activate(policy, engine=ENGINE, files=files, previous=None, signed=False)


async def _fill(data: Path, requests: Sequence[int], limits: Limits | None, close: bool) -> None:
    log = Log.open(data, limits=limits)
    await log.append(activation(data), strict=True)
    for number in requests:
        request = ulid(number)
        await log.append(opened(request), strict=True)
        await log.append_all(leaves_of(decided(request)), strict=True)
        await log.append(closed(request, 1), strict=True)
    assert close
    await log.close()


def fill(data: Path, requests: Sequence[int] = (1, 2, 3), limits: Limits | None = None) -> Path:
    """A log with these requests, closed as it should be. Gives the folder log-0."""
    asyncio.run(_fill(data, requests, limits, True))
    return data / "log-0"


@dataclass
class BrokenDisk(Disk):
    """A disk whose chosen calls fail: `fail` is asked before each call (name, how many calls of this name came before)."""

    fail: Callable[[str, int], int | None] = lambda name, count: None
    calls: dict[str, int] = field(default_factory=dict)
    partly: bool = False
    """Whether a failing write leaves the first half of its bytes, as a full disk does."""

    def _ask(self, name: str) -> int | None:
        count = self.calls.get(name, 0)
        self.calls[name] = count + 1
        return self.fail(name, count)

    def _check(self, name: str) -> None:
        code = self._ask(name)
        if code is not None:
            raise OSError(code, errno.errorcode[code])

    def write(self, fd: int, data: bytes) -> None:
        code = self._ask("write")
        if code is not None:
            if self.partly:
                super().write(fd, data[: len(data) // 2])
            raise OSError(code, errno.errorcode[code])
        super().write(fd, data)

    def open_append(self, path: Path) -> int:
        self._check("open_append")
        return super().open_append(path)

    def fdatasync(self, fd: int) -> None:
        self._check("fdatasync")
        super().fdatasync(fd)

    def replace(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        self._check(f"replace {path.suffix or path.name}")
        super().replace(path, data, mode)

    def truncate(self, path: Path, size: int) -> None:
        self._check("truncate")
        super().truncate(path, size)


names = st.sampled_from(["pii", "secrets", "words", "qwen3guard"])
keys = st.builds(
    Key, st.sampled_from(Channel), st.sampled_from(Turn), st.sampled_from([None, "kb_search", "other"]), st.none() | names,
    st.none() | st.sampled_from(["personal_data", "injection"]), st.none() | st.sampled_from(["EMAIL_ADDRESS", "CN_ID_CARD"]),
    st.none() | st.sampled_from(Origin))
signals = st.builds(Signal, keys, st.integers(0, 1_000_000), st.integers(0, 10_000))
unknowns = st.builds(Unknown, names, st.sampled_from(Cause))
windows = st.builds(Window, st.lists(signals, max_size=4).map(tuple), st.lists(unknowns, max_size=2).map(tuple))


@st.composite
def fired(draw: st.DrawFn) -> Fired:
    chosen = draw(st.lists(keys, max_size=3))
    return Fired(
        draw(st.sampled_from(["mask", "block-it", "rule-3"])), draw(st.integers(-1, 6)), draw(st.sampled_from(Action)),
        draw(st.sampled_from(Mode)), draw(st.sampled_from(Severity)), draw(st.none() | st.just("LABEL")), tuple(chosen),
        tuple(draw(st.integers(0, 1_000_000)) for _ in chosen), draw(st.booleans()), draw(st.booleans()))


outcomes = st.builds(
    Outcome, st.sampled_from(Action), st.sampled_from(Action), st.lists(fired(), max_size=6).map(tuple),
    st.lists(unknowns, max_size=3).map(tuple), st.booleans(), st.none() | st.just("refused"))
scopes = st.builds(
    Scope, st.sampled_from(["default", "acme"]), st.sampled_from(["default", "payroll"]), st.sampled_from(["default", "cn"]),
    st.sampled_from(["other", "qwen-plus"]), st.sampled_from(["und", "zh"]))
decisions = st.builds(
    Decision, st.integers(0, 2**100).map(ulid), st.integers(0, 50), st.sampled_from(Phase), scopes, st.just(POLICY), outcomes,
    st.lists(windows, max_size=8).map(tuple))
