"""A little language for the release machine: texts go in as frames, what the client would see comes out.

The doubles here are small enough to be read at a glance, and obey the laws of the real ones.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from moderation.act import Names
from moderation.detect.api import Local, Scan
from moderation.normalise import readings
from moderation.policy.decide import Patience
from moderation.sentence import ANSWER_WINDOW, context, windows
from moderation.stream.plan import (
    Broken,
    Command,
    Emit,
    End,
    Inspect,
    Judged,
    Note,
    Reading,
    Stop,
    TapeName,
)
from moderation.stream.release import Release
from moderation.stream.tape import Look, Said
from moderation.text import Channel, Origin, Phase, Span, Turn
from moderation.verdict import (
    FULL_SCORE,
    Action,
    Cause,
    Finding,
    Fired,
    Key,
    Mode,
    Outcome,
    Severity,
    Unknown,
    Window,
)


@dataclass(frozen=True)
class Tape:
    choice: int
    channel: Channel
    name: str


@dataclass(frozen=True)
class Piece:
    tape: Tape
    text: str
    path: str
    medium: str | None = None


ANSWER = Tape(0, Channel.ANSWER, "content")
REASONING = Tape(0, Channel.REASONING, "reasoning_content")
CALL = Tape(0, Channel.TOOL_CALL, "tool_calls/0/arguments")


class Digits:
    """Finds runs of exactly `size` digits. Local: a run is settled by the code point after it."""

    version = "1"
    behind = 1

    def __init__(self, id: str = "digits", size: int = 4, category: str = "number") -> None:
        self.id = id
        self.size = size
        self.category = category
        self.reach = 10_000
        self._runs = re.compile(r"[0-9]+")

    def scan(self, text: str, start: int, final: bool) -> Scan:
        found: list[Finding] = []
        hold = len(text)
        for run in self._runs.finditer(text, start):
            if run.end() == len(text) and not final:
                hold = run.start()
            elif run.end() - run.start() == self.size:
                found.append(Finding(self.id, self.category, None, self.id, FULL_SCORE, Span(run.start(), run.end())))
        return Scan(tuple(found), hold)


class Word:
    """Finds one word, anywhere; holds what may still become it."""

    version = "1"
    behind = 0

    def __init__(self, word: str, id: str = "word", category: str = "word") -> None:
        self.id, self.word, self.category, self.reach = id, word, category, len(word)

    def scan(self, text: str, start: int, final: bool) -> Scan:
        found: list[Finding] = []
        at = text.find(self.word, start)
        while at >= 0:
            found.append(Finding(self.id, self.category, None, self.id, FULL_SCORE, Span(at, at + len(self.word))))
            at = text.find(self.word, at + len(self.word))
        hold = len(text)
        last = found[-1].span.end if found and found[-1].span else start
        if not final:
            for place in range(max(last, len(text) - len(self.word) + 1), len(text)):
                if self.word.startswith(text[place:]):
                    hold = place
                    break
        return Scan(tuple(found), hold)


@dataclass(frozen=True)
class Rule:
    """One rule of a toy policy: a category (or two that must stand in one window) and what is done."""

    category: str
    action: Action
    also: str | None = None
    over: bool = False
    severity: Severity = Severity.MEDIUM
    mode: Mode = Mode.ENFORCE


@dataclass
class ToyPlan:
    """A policy of a few rules over doubles."""

    rules: Sequence[Rule]
    local: Sequence[Local] = ()
    windowed: Mapping[str, str] = field(default_factory=dict)
    """Window detector to the word of which it finds the window where it ends."""
    patience: Patience | None = None

    def reading(self, phase: Phase, channel: Channel) -> Reading:
        behind = {one.id: one.behind for one in self.local}
        patience = self.patience
        if patience is None:
            many = any(rule.also for rule in self.rules)
            over = any(rule.over for rule in self.rules)
            patience = Patience.ALL if over else Patience.WINDOW if many or self.windowed else Patience.LOCAL
        return Reading(patience, behind, frozenset(self.windowed))

    def decide(self, phase: Phase, windows: Sequence[Window]) -> Outcome:
        fired: list[Fired] = []
        unknown = [u for window in windows for u in window.unknown]
        for rule in self.rules:
            groups = [(-1, [s for w in windows for s in w.signals])] if rule.over else [
                (n, list(w.signals)) for n, w in enumerate(windows)
            ]
            for number, signals in groups:
                mine = [s for s in signals if s.key.category == rule.category]
                other = rule.also is None or any(s.key.category == rule.also for s in signals)
                some = windows[number].unknown if number >= 0 else tuple(unknown)
                failed = any(u.detector == rule.category or rule.category.startswith(u.detector) for u in some)
                if (mine and other) or failed:
                    keys = tuple(s.key for s in mine)
                    fired.append(Fired(f"rule-{rule.category}", number, rule.action, rule.mode, rule.severity, None, keys,
                                       (0,) * len(keys), failed and not mine, failed and not mine))
        live = [f for f in fired if f.mode is Mode.ENFORCE]
        action = max((f.action for f in live), default=Action.ALLOW)
        return Outcome(action, max((f.action for f in fired), default=Action.ALLOW), tuple(fired), tuple(unknown),
                       bool(unknown), None)

    def origin(self, finding: Finding, value: str) -> Origin | None:
        return None

    def tool(self, tape: TapeName) -> str | None:
        return None

    def category(self, fired: Fired) -> str:
        return fired.rule

    def parts(self, tape: TapeName, text: str) -> Sequence[str]:
        if tape.channel is not Channel.TOOL_CALL:
            return [text]
        return [v for v in json.loads(text).values() if isinstance(v, str)]

    def fixed(self, tape: TapeName, text: str) -> frozenset[int]:
        return frozenset()

    def rebuild(self, tape: TapeName, text: str, parts: Sequence[str | None]) -> str:
        if tape.channel is not Channel.TOOL_CALL:
            return parts[0] if parts and parts[0] is not None else text
        data = json.loads(text)
        keys = [k for k, v in data.items() if isinstance(v, str)]
        data.update({k: part for k, part in zip(keys, parts, strict=True) if part is not None})
        return json.dumps(data, ensure_ascii=False)

    def rewrite(self, raw: bytes, texts: Mapping[str, str], unfinished: bool) -> bytes:
        frame = json.loads(raw)
        frame["texts"] = [texts.get(str(n), text) for n, text in enumerate(frame["texts"])]
        if unfinished:
            frame["finish"] = []
        frame["edited"] = True
        return json.dumps(frame).encode()


Event = tuple[Sequence[tuple[Tape, str]], Sequence[int]]
"""(what it adds to which tapes, the choices that it ends)"""


@dataclass
class Seen:
    """What the client and the log got."""

    texts: dict[Tape, str] = field(default_factory=dict)
    frames: list[bytes] = field(default_factory=list)
    after: list[dict[Tape, int]] = field(default_factory=list)
    """After each event: how many code points of each tape were out."""
    notes: list[Note] = field(default_factory=list)
    stop: Stop | None = None
    ended: bool = False
    broken: str | None = None
    finished: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.texts.get(ANSWER, "")

    @property
    def final(self) -> list[Note]:
        return [note for note in self.notes if note.final]


def deltas(tape: Tape, pieces: Sequence[str], finish: bool = True) -> list[Event]:
    events: list[Event] = [([(tape, piece)], ()) for piece in pieces if piece]
    return [*events, ([], (tape.choice,))] if finish else events


def play(
    plan: ToyPlan,
    events: Sequence[Event],
    *,
    names: Names | None = None,
    complete: bool = True,
    seed: int | None = None,
    fails: Callable[[str, int], Unknown | None] = lambda detector, number: None,
) -> Seen:
    """Run a response. `seed` shuffles when and in which order window detectors answer; None answers at once.

    `fails(detector, number of the look)` makes a local detector fail.
    """
    seen = Seen()
    release = Release(plan, names or Names())
    detectors = {one.id: one for one in plan.local}
    dice = random.Random(seed)
    waiting: list[Inspect] = []
    tapes: dict[bytes, list[Tape]] = {}
    looked = 0

    def run(commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Emit(raw):
                    seen.frames.append(raw)
                    frame = json.loads(raw)
                    seen.finished.extend(frame["finish"])
                    for tape, text in zip(tapes[str(frame["id"]).encode()], frame["texts"], strict=True):
                        seen.texts[tape] = seen.texts.get(tape, "") + text
                case Note():
                    seen.notes.append(command)
                case Stop():
                    seen.stop = command
                case End():
                    seen.ended = True
                case Broken(why):
                    seen.broken = why
                case Inspect():
                    waiting.append(command)
        while waiting and (seed is None or dice.random() < 0.4):
            reply(waiting.pop(dice.randrange(len(waiting)) if seed is not None else 0))

    def reply(inspect: Inspect) -> None:
        judged: list[Judged] = []
        for text in inspect.texts:
            spans = windows(text, ANSWER_WINDOW) if inspect.whole else (Span(0, len(text)),)
            found: list[list[Finding]] = [[] for _ in spans]
            for number, span in enumerate(spans):
                # Like a model, a window detector understands a window by what stands before it.
                before = context(text[: span.start]) if inspect.whole else inspect.before
                for detector in sorted(inspect.detectors & set(plan.windowed)):
                    word = plan.windowed[detector]
                    if word in (before + text[span.start : span.end])[max(0, len(before) - len(word) + 1) :]:
                        found[number].append(Finding(detector, detector, None, detector, FULL_SCORE, None))
            if inspect.whole:
                for plain, one in itertools.product(readings(text), plan.local):
                    for raw in one.scan(plain.text, 0, True).findings:
                        assert raw.span is not None
                        finding = replace(raw, span=plain.original(raw.span.start, raw.span.end))
                        assert finding.span is not None
                        for number, span in enumerate(spans):
                            if span.start < finding.span.end <= span.end:
                                found[number].append(finding)
            judged.append(Judged(tuple(spans), tuple(tuple(f) for f in found), tuple(() for _ in spans)))
        run(release.answer(inspect.job, judged))

    def settle(looks: Sequence[Look]) -> None:
        nonlocal looked
        results: list[Said] = []
        for look in looks:
            said: list[Scan | Unknown] = []
            for detector in look.detectors:
                looked += 1
                said.append(fails(detector, looked) or detectors[detector].scan(look.text, look.start, look.final))
            quiet = [one.hold for one in said if isinstance(one, Scan) and not one.findings]
            # As the runner does where nothing was found, or each by itself: it must not matter.
            results.append(min(quiet) if len(quiet) == len(said) and looked % 2 else said)
        run(release.settle(results))

    for number, (parts, finish) in enumerate(events):
        pieces = [Piece(tape, text, str(n)) for n, (tape, text) in enumerate(parts)]
        tapes[str(number).encode()] = [tape for tape, _ in parts]
        raw = json.dumps({"id": number, "texts": [text for _, text in parts], "finish": list(finish)}).encode()
        choices = {tape.choice for tape, _ in parts} | set(finish)
        settle(release.feed(raw, pieces, finish, sorted(choices)))
        seen.after.append({tape: len(text) for tape, text in seen.texts.items()})
        if release.over:
            return seen
    settle(release.end(complete))
    while waiting and not release.over:
        reply(waiting.pop(dice.randrange(len(waiting)) if seed is not None else 0))
    return seen


def timeout(detector: str) -> Unknown:
    return Unknown(detector, Cause.TIMEOUT)


def key(tape: Tape = ANSWER) -> Key:
    """The bare key of a tape."""
    return Key(tape.channel, Turn.NEW)
