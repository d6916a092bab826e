"""A streamed answer: upstream bytes to the release machine, its commands to the client and the log.

Carries out commands in their order: what must be noted is durable before anything that follows it goes out. Knows no dialect
but through its Speech, and no HTTP but through `send`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from moderation.act import Names
from moderation.audit.record import GrowingContent, RecordTooLarge
from moderation.errors import LogError, UpstreamError
from moderation.flow.acting import category_of
from moderation.flow.coding import Source
from moderation.flow.ledger import Entry
from moderation.flow.reading import Active, origin_of
from moderation.policy.decide import Patience, patience
from moderation.policy.limits import decide_all, unread_windows
from moderation.sentence import ANSWER_WINDOW
from moderation.stream.plan import Broken, Command, Emit, End, Inspect, Judged, Note, Piece, Reading, Stop, TapeName
from moderation.stream.release import Release
from moderation.stream.tape import Look, Said
from moderation.text import ROLES, Channel, Origin, Phase, Role, Scope
from moderation.verdict import Edit, Finding, Fired, Outcome, Window

_SHORT = 8192
"""Code points that a detector which is quick may look at in the event loop."""


class Speech(Protocol):
    """One dialect's streams: reading frames, rewriting them, and what we say ourselves."""

    def split(self, chunk: bytes) -> Sequence[bytes]:
        """Whole events, as their bytes. Raises UpstreamError for one without end."""
        ...

    def rest(self) -> bytes: ...

    def read(self, raw: bytes) -> Heard:
        """What one event says. Raises UpstreamError where it cannot be read."""
        ...

    def tool(self, tape: TapeName) -> str | None:
        """The name of the tool that a tape's call is for."""
        ...

    def parts(self, tape: TapeName, text: str) -> Sequence[str]: ...
    def fixed(self, tape: TapeName, text: str) -> frozenset[int]: ...
    def rebuild(self, tape: TapeName, text: str, parts: Sequence[str | None]) -> str: ...
    def rewrite(self, raw: bytes, texts: Mapping[str, str], unfinished: bool) -> bytes: ...

    def blocked(self, choice: int, message: str, open: Sequence[int]) -> bytes:
        """The message, the end of every open choice, the usage if it was asked for, and the end of the stream."""
        ...

    def failed(self, error: UpstreamError | LogError) -> bytes: ...
    def usage(self) -> tuple[int, int] | None: ...


class Heard(NamedTuple):
    """One event: what it adds to which tapes, which choices it ends and touches; or the end, or an error."""

    pieces: Sequence[Piece] = ()
    finished: Sequence[int] = ()
    choices: Sequence[int] = ()
    done: bool = False
    error: bool = False


@dataclass(slots=True)
class Plan:
    """What a release needs to know; a stream.plan.Plan."""

    active: Active
    scope: Scope
    speech: Speech
    supplied: Mapping[tuple[str, str], Origin]
    _readings: dict[tuple[Phase, Channel], Reading] = field(default_factory=dict)
    _outcomes: dict[tuple[Phase, tuple[Window, ...]], Outcome] = field(default_factory=dict)

    def reading(self, phase: Phase, channel: Channel) -> Reading:
        known = self._readings.get((phase, channel))
        if known is None:
            runner, policy = self.active.runner, self.active.policy
            windowed = runner.windowed
            wanted = self.active.wanted[phase]
            local = {name: runner.behind(name) for name in sorted(wanted - windowed)}
            wait = patience(policy, phase, channel, self.scope, windowed)
            known = Reading(wait, local, self.active.asked(phase, channel)[1])
            if wait is Patience.NONE_NEEDED:
                known = Reading(wait)
            self._readings[(phase, channel)] = known
        return known

    def decide(self, phase: Phase, windows: Sequence[Window]) -> Outcome:
        if len(windows) > 8:
            return decide_all(self.active.policy, phase, self.scope, windows)
        key = (phase, tuple(windows))
        known = self._outcomes.get(key)
        if known is None:
            known = self._outcomes[key] = decide_all(self.active.policy, phase, self.scope, windows)
        return known

    def origin(self, finding: Finding, value: str) -> Origin | None:
        return origin_of(self.supplied, finding, value)

    def tool(self, tape: TapeName) -> str | None:
        name = self.speech.tool(tape)
        return name if name is None or name in self.active.tools else "other"

    def category(self, fired: Fired) -> str:
        return category_of(self.active.policy, fired)

    def parts(self, tape: TapeName, text: str) -> Sequence[str]:
        return self.speech.parts(tape, text)

    def fixed(self, tape: TapeName, text: str) -> frozenset[int]:
        return self.speech.fixed(tape, text)

    def rebuild(self, tape: TapeName, text: str, parts: Sequence[str | None]) -> str:
        return self.speech.rebuild(tape, text, parts)

    def rewrite(self, raw: bytes, texts: Mapping[str, str], unfinished: bool) -> bytes:
        return self.speech.rewrite(raw, texts, unfinished)


@dataclass(slots=True)
class Carrier:
    """One streamed answer on its way."""

    upstream: Source
    speech: Speech
    active: Active
    scope: Scope
    entry: Entry
    names: Names
    supplied: Mapping[tuple[str, str], Origin]
    send: Callable[[bytes], Awaitable[None]]
    message: Callable[[Fired, str], str]
    """The text for the user, by the rule that blocks and the decision's id."""
    noted: Callable[[Note], None]
    """Told of each final decision that was recorded."""
    clock: Callable[[], float]
    """Monotonic seconds."""
    upstream_id: str | None = None
    """The upstream's own id of this call."""
    most_held: int = 4_000_000
    chunks: int = 0
    outcome: str = ""
    """How it ended, in the words of the log's `close`."""
    failed: str | None = None
    """The code of the upstream's failure, if it failed."""
    most_waiting: int = 0
    """The most code points that waited here at once."""
    longest_wait: float = 0.0
    """The longest that text waited here, in seconds."""
    _waiting_since: float | None = None
    _failure: bytes = b""
    """The frame that ends a stream which the upstream did not end."""
    _done: bytes = b""
    """The upstream's [DONE], as it came."""
    _content: dict[Phase, GrowingContent] = field(default_factory=dict)
    _asked: dict[Phase, frozenset[str]] = field(default_factory=dict)
    """The window detectors that texts of a phase were given to."""
    _jobs: dict[asyncio.Task[list[Judged]], int] = field(default_factory=dict)

    async def run(self) -> None:
        """Carry the stream to its end. The log's `close` is written with the final decisions."""
        plan = Plan(self.active, self.scope, self.speech, self.supplied)
        release = Release(plan, self.names, self.most_held)
        try:
            try:
                await self._carry(release)
            except UpstreamError as error:
                self.failed = error.code
                self.upstream.close()
                if not release.ended():
                    await self._break_off(release, self.speech.failed(error))
        except LogError as error:
            self.upstream.close()
            self.outcome = "interrupted"
            await self._give_up()
            await self.send(self.speech.failed(error))
        finally:
            for task in self._jobs:
                task.cancel()

    async def _carry(self, release: Release) -> None:
        while not release.ended():
            chunk = await self._next(release)
            if chunk is None:
                return
            events = self.speech.split(chunk) if chunk else self._last()
            commands: list[Command] = []
            for raw in events:
                heard = self.speech.read(raw)
                if heard.done:
                    self._done = raw
                    commands.extend(await self._look(release, release.end(complete=True)))
                    await self._obey(release, commands)
                    await self._wait(release)
                    return
                if heard.error:
                    await self._obey(release, commands)
                    if not release.ended():
                        await self._break_off(release, raw)
                    return
                self.chunks += 1
                for piece in heard.pieces:
                    self._inspected(piece)
                looks = release.feed(raw, heard.pieces, heard.finished, heard.choices)
                made = self._look_now(release, looks)
                commands.extend(await self._look(release, looks) if made is None else made)
                if release.ended():
                    break
            if commands:
                await self._obey(release, commands)
            self._watch(release.waiting)
            if not chunk:
                raise UpstreamError("upstream_interrupted", "the upstream's stream ended without [DONE]")

    def _inspected(self, piece: Piece) -> None:
        """Take in what the log tells of the text."""
        phase = Phase.TOOL_CALL if piece.tape.channel is Channel.TOOL_CALL else Phase.OUTPUT
        content = self._content.get(phase)
        if content is None:
            content = self._content[phase] = GrowingContent(self.entry.ledger.salt(32))
        content.add(piece.tape, piece.text)

    def _watch(self, waiting: int) -> None:
        """Keep account of what is held back."""
        if waiting:
            self.most_waiting = max(self.most_waiting, waiting)
            if self._waiting_since is None:
                self._waiting_since = self.clock()
                return
        if self._waiting_since is not None:
            self.longest_wait = max(self.longest_wait, self.clock() - self._waiting_since)
            if not waiting:
                self._waiting_since = None

    def _last(self) -> Sequence[bytes]:
        """The event at the very end, which no blank line ends."""
        rest = self.speech.rest()
        return [rest + b"\n\n"] if rest else []

    async def _next(self, release: Release) -> bytes | None:
        """The next bytes of the upstream; None where an answer to an Inspect ended the stream."""
        if not self._jobs:
            return await self.upstream.read()
        reading = asyncio.ensure_future(self.upstream.read())
        try:
            while True:
                done, _ = await asyncio.wait({reading, *self._jobs}, return_when=asyncio.FIRST_COMPLETED)
                await self._answers(release, done)
                if release.ended():
                    return None
                if reading in done:
                    return reading.result()
        finally:
            if not reading.done():
                reading.cancel()

    async def _wait(self, release: Release) -> None:
        """Everything has come in; wait for what is still being judged."""
        while self._jobs and not release.ended():
            done, _ = await asyncio.wait(set(self._jobs), return_when=asyncio.FIRST_COMPLETED)
            await self._answers(release, done)

    async def _answers(self, release: Release, done: set[asyncio.Task[Any]]) -> None:
        for task in [task for task in self._jobs if task in done]:
            job = self._jobs.pop(task)
            await self._obey(release, release.answer(job, task.result()))

    def _look_now(self, release: Release, looks: Sequence[Look]) -> list[Command] | None:
        """Have the local detectors look, here and now; None where one of them needs a thread."""
        runner = self.active.runner
        for look in looks:
            if len(look.text) > _SHORT or not runner.inline.issuperset(look.detectors):
                return None
        scan = runner.scan_now
        return release.settle([scan(look.detectors, look.text, look.start, look.final) for look in looks])

    async def _look(self, release: Release, looks: Sequence[Look]) -> list[Command]:
        """Have the local detectors look, here where they are fast, elsewhere where they are not."""
        runner = self.active.runner
        results: list[Said] = []
        for look in looks:
            inline = runner.inline if len(look.text) <= _SHORT else frozenset()
            results.append(await runner.scan(look.detectors, inline, look.text, look.start, look.final))
        return release.settle(results)

    async def _obey(self, release: Release, commands: Sequence[Command]) -> None:
        """Note first, then let out: nothing goes out before what was decided about it is in the log."""
        if len(commands) == 1 and isinstance(commands[0], Emit):
            await self.send(commands[0].raw)
            return
        ends = [c for c in commands if isinstance(c, (Stop, End, Broken))]
        stop = next((c for c in ends if isinstance(c, Stop)), None)
        if stop is not None or any(isinstance(c, Broken) for c in ends):
            self.upstream.close()
        noted = False
        for command in commands:
            if isinstance(command, Note):
                noted = True
                await self._record(command)
            elif isinstance(command, Inspect):
                self._jobs[asyncio.create_task(self._inspect(command))] = command.job
        if ends:
            completed = isinstance(ends[0], End) and not self._failure
            self.outcome = "blocked" if stop else "completed" if completed else "upstream_error"
            self._close()
        if noted or ends:
            await self.entry.write()
        out = b"".join([command.raw for command in commands if isinstance(command, Emit)])
        match ends:
            case [Stop(choice, rule, still), *_]:
                out += self.speech.blocked(choice, self.message(rule, self.entry.last), still)
            case [End(), *_]:
                out += self._failure or self._done
            case [Broken(why), *_]:
                self.failed = "upstream_invalid"
                out += self.speech.failed(UpstreamError("upstream_invalid", f"the upstream's stream cannot be moderated: {why}"))
        if out:
            await self.send(out)

    def _close(self) -> None:
        self.entry.close(
            self.outcome, upstream_status=self.upstream.status, upstream_id=self.upstream_id, usage=self.speech.usage(),
            chunks=self.chunks,
        )

    async def _give_up(self) -> None:
        """The last word where the log has failed: it cannot be written, but the log hears that the request is over."""
        if not self.entry.closed:
            self._close()
            with suppress(LogError):
                await self.entry.write()

    async def _record(self, note: Note) -> None:
        """Record one decision. Where its signals do not fit the log, that is recorded, and the stream ends: raises LogError."""
        edits = [
            Edit(f"/choices/{tape}", change.span, change.action, "", change.kind) for tape, change in note.changes
        ]
        content = self._content.get(note.phase) if note.final else None
        told = content.content() if content else None
        try:
            models = self.active.runner.versions(self._asked.get(note.phase, frozenset()))
            self.entry.decide(note.phase, note.outcome, note.windows, content=told, edits=edits, models=models)
        except RecordTooLarge:
            lost = self._lost(note)
            self.entry.decide(lost.phase, lost.outcome, lost.windows, content=told, edits=edits)
            self.noted(lost)
            self.outcome = "interrupted"
            self._close()
            await self.entry.write()
            raise LogError("the decision on this answer does not fit the log") from None
        if note.final:
            self.noted(note)

    def _lost(self, note: Note) -> Note:
        """The same decision with every detector Unknown, because what they said does not fit."""
        bare = (s.key for window in note.windows for s in window.signals if s.key.detector is None)
        windows = tuple(unread_windows(bare, self.active.wanted[note.phase]))
        outcome = decide_all(self.active.policy, note.phase, self.scope, windows)
        return Note(note.phase, outcome, windows, (), final=True)

    async def _inspect(self, command: Inspect) -> list[Judged]:
        texts, names = command.texts, command.detectors & self.active.runner.windowed
        asked = (ROLES.get(command.channel, Role.PROMPT), names)
        self._asked[command.phase] = self._asked.get(command.phase, frozenset()) | names
        # What is not whole is one window already: one as long as it is stays one.
        size = ANSWER_WINDOW if command.whole else max(map(len, texts)) + 1
        examined = await self.active.runner.examine(
            texts, command.detectors, self.scope.tenant, size, [asked] * len(texts), command.before
        )
        return [Judged(one.windows, one.findings, one.unknown) for one in examined]

    async def _break_off(self, release: Release, frame: bytes) -> None:
        """The upstream failed: what came is judged and goes out without a finish_reason, then the error."""
        self._failure = frame
        await self._obey(release, await self._look(release, release.end(complete=False)))
        await self._wait(release)
