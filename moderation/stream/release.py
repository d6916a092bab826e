"""The machine itself: feed, settle, answer, end. The rules stand in the folder's first file."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

from moderation.act import Change, Names
from moderation.judge import Seen, blocker, by_window, effect, enforced, shifted, window
from moderation.policy.decide import Patience
from moderation.policy.limits import media_window, uneditable_window
from moderation.sentence import CONTEXT
from moderation.stream.gate import Frame, Gate
from moderation.stream.lane import Item, Lane, clear
from moderation.stream.plan import Broken, Command, End, Inspect, Judged, Note, Piece, Plan, Stop, TapeName
from moderation.stream.tape import Look, Said
from moderation.stream.whole import Whole
from moderation.text import Channel, Media, Phase, Turn
from moderation.verdict import Fired, Key, Outcome, Window


class Release:
    """One response."""

    def __init__(self, plan: Plan, names: Names, most_held: int = 4_000_000) -> None:
        """`names`: the pseudonyms of the request; `most_held`: code points that may be held before the stream is ended."""
        self._plan = plan
        self._names = names
        self._naming = names.fork()
        self._most_held = most_held
        self._lanes: dict[object, Lane] = {}
        self._gate = Gate(self._lanes, plan.rewrite)
        self._queue: deque[Item] = deque()
        self._jobs: dict[int, Item | tuple[Lane, int] | Whole] = {}
        self._wholes: list[Whole] = []
        self._job = self._number = 0
        self._windows: dict[Phase, list[Window]] = {}
        self._interned: dict[Window, Window] = {}
        self._changes: dict[Phase, list[tuple[str, Change]]] = {}
        self._touched: list[tuple[Lane, Sequence[Look]]] = []
        self._ended = self._complete = self.over = False

    @property
    def waiting(self) -> int:
        """Code points that are held back."""
        return self._gate.waiting

    def ended(self) -> bool:
        return self.over

    # ---- what comes in -------------------------------------------------------------------------------------------

    def feed(self, raw: bytes, pieces: Sequence[Piece], finished: Sequence[int] = (), choices: Sequence[int] = ()) -> list[Look]:
        """Take in one frame; the looks must be answered, in their order, with `settle` before the next frame."""
        placed: list[tuple[Lane, int, Piece]] = []
        touched: list[Lane] = []
        size = 0
        for piece in pieces:
            lane = self._lanes.get(piece.tape) or self._lane(piece.tape)
            placed.append((lane, lane.fed, piece))
            length = len(piece.text)
            lane.fed += length
            size += length
            if lane.whole:
                lane.raw.append(piece.text)
            else:
                lane.tape.grow(piece.text)
            if lane not in touched:
                touched.append(lane)
            if piece.medium is not None and piece.medium not in lane.media:
                lane.media.add(piece.medium)
                self._queue.append(Item(lane, 0, [], [], number=self._number + 1, medium=piece.medium))
        self._number += 1
        self._gate.add(Frame(raw, placed, tuple(finished), tuple(choices), size, self._number))
        ending = self._gate.finished
        if finished:
            touched.extend(
                lane for lane in self._lanes.values() if lane.id.choice in ending and not lane.closed and lane not in touched
            )
        return self._look(touched, ending)

    def end(self, complete: bool) -> list[Look]:
        """The upstream ended: with [DONE] (`complete`) or without. Answer the looks with `settle`."""
        self._ended, self._complete = True, complete
        return self._look([lane for lane in self._lanes.values() if not lane.closed], None)

    def _look(self, touched: list[Lane], ending: set[int] | None) -> list[Look]:
        self._touched = [
            (lane, () if lane.whole else lane.tape.looks(ending is None or lane.id.choice in ending)) for lane in touched
        ]
        if len(touched) == 1:
            return list(self._touched[0][1])
        return [look for _, looks in self._touched for look in looks]

    def settle(self, results: Sequence[Said]) -> list[Command]:
        """Answer the looks of the last `feed` or `end`, in their order."""
        commands: list[Command] = []
        if self.over:
            return commands
        at = 0
        for lane, looks in self._touched:
            lane.tape.seen(looks, results[at : at + len(looks)])
            at += len(looks)
        for lane, _ in self._touched:
            if lane.closed:
                return self._break("text after finish_reason", commands)
            self._advance(lane, self._ended or lane.id.choice in self._gate.finished, commands)
        self._touched = []
        self._commit(commands)
        if self._gate.holds_more_than(self._most_held) and not self.over:
            return self._break("more held back than the limit allows", commands)
        return commands

    def answer(self, job: int, judged: Sequence[Judged]) -> list[Command]:
        """Answer an Inspect; in any order."""
        commands: list[Command] = []
        if self.over:
            return commands
        match self._jobs.pop(job):
            case Whole() as whole:
                whole.judged = tuple(judged)
            case Item() as item:
                item.answer, item.job = judged[0], None
            case (lane, start):
                self._late(lane, start, judged[0], commands)
        self._commit(commands)
        return commands

    def _break(self, why: str, commands: list[Command]) -> list[Command]:
        self.over = True
        self._notes(commands)
        commands.append(Broken(why))
        return commands

    # ---- reading -------------------------------------------------------------------------------------------------

    def _lane(self, name: TapeName) -> Lane:
        phase = Phase.TOOL_CALL if name.channel is Channel.TOOL_CALL else Phase.OUTPUT
        reading = self._plan.reading(phase, name.channel)
        call = phase is Phase.TOOL_CALL and (reading.patience is not Patience.NONE_NEEDED or bool(self._names))
        key = Key(name.channel, Turn.NEW, self._plan.tool(name))
        lane = self._lanes[name] = Lane(name, reading, key, phase, call or reading.patience is Patience.ALL)
        return lane

    def _advance(self, lane: Lane, final: bool, commands: list[Command]) -> None:
        """Queue what has become settled on a lane."""
        lane.closed = lane.closed or final
        if lane.whole:
            if final:
                text = "".join(lane.raw)
                whole = Whole(lane, text, tuple(self._plan.parts(lane.id, text)))
                self._wholes.append(whole)
                detectors = frozenset(lane.reading.local) | lane.reading.windowed
                self._inspect(whole, lane, whole.parts, detectors, commands)
            return
        tape = lane.tape
        lane.restore(self._names, final)
        frontier = tape.frontier()
        cuts = tape.windows(frontier, final)
        if not cuts and not final and not self._queue and lane.quiet():
            # By far the most frames: nothing was found, no window closed, and nothing waits.
            lane.judged = frontier
        elif lane.reading.patience is Patience.WINDOW:
            for end in cuts:
                start, lane.begun = lane.begun, end
                item = Item(lane, end, tape.take(end), [], start, window=True)
                if lane.reading.windowed:
                    text, before = tape.text(start, end), tape.before(start)
                    item.job = self._inspect(item, lane, (text,), lane.reading.windowed, commands, before)
                self._put(item)
        else:
            self._put(Item(lane, frontier, tape.take(frontier), cuts))
        tape.drop(min(lane.judged, lane.restored, lane.begun - CONTEXT if lane.reading.windowed else lane.begun))

    def _put(self, item: Item) -> None:
        item.number = self._number
        self._queue.append(item)
        item.lane.pending.extend(f.span for f in item.seen if f.span is not None)

    def _inspect(
        self, waiting: Item | tuple[Lane, int] | Whole, lane: Lane, texts: tuple[str, ...], detectors: frozenset[str],
        commands: list[Command], before: str = "",
    ) -> int:
        self._job += 1
        self._jobs[self._job] = waiting
        commands.append(Inspect(self._job, lane.phase, texts, detectors, isinstance(waiting, Whole), lane.id.channel, before))
        return self._job

    # ---- committing ----------------------------------------------------------------------------------------------

    def _commit(self, commands: list[Command]) -> None:
        """Commit in order what is ready, then let go what may go."""
        while self._queue and self._queue[0].job is None and not self.over:
            item = self._queue.popleft()
            if item.seen:
                del item.lane.pending[: len(item.seen)]
            if item.medium is not None:
                self._commit_medium(item, item.medium, commands)
            elif item.window:
                self._commit_window(item, commands)
            else:
                self._commit_local(item, commands)
        if self.over:
            return
        self._gate.flush(commands)
        if self._ended and not self._queue and not self._jobs:
            self._finish(commands)

    def _commit_local(self, item: Item, commands: list[Command]) -> None:
        """A lane that does not wait for its windows: decide at each finding, with the open window so far."""
        lane = item.lane
        made: list[Change] = []
        windows: dict[int, Window] = {}
        if lane.minded != len(lane.tape.dead) and (item.upto > lane.judged or lane.tape.dead):
            lane.minded = len(lane.tape.dead)
            if self._obey(item, None, lane.judged, made, windows, commands):
                return
        for finding in item.seen:
            assert finding.span is not None
            while item.cuts and item.cuts[0] < finding.span.end:
                self._close(lane, item.cuts.pop(0), commands)
            one = lane.see(self._plan, finding)
            lane.window.append(one)
            if self._obey(item, one, finding.span.start, made, windows, commands):
                return
        for end in item.cuts:
            self._close(lane, end, commands)
        lane.judged = item.upto
        if made:
            self._note(lane, list(windows.values()), made, commands)

    def _obey(
        self,
        item: Item,
        new: Seen | None,
        cut: int,
        made: list[Change],
        windows: dict[int, Window],
        commands: list[Command],
    ) -> bool:
        """Decide the open window with what is new in it; True where it blocks."""
        lane = item.lane
        if lane.reading.patience is Patience.NONE_NEEDED:
            return False
        current = lane.current()
        outcome = self._plan.decide(lane.phase, (current,))
        rule = blocker(outcome)
        if rule is not None:
            cut = clear(cut, [f.span for f in item.seen if f.span is not None])
            self._store(lane, current)
            lane.window = []
            self._stop(lane, cut, item.number, rule, list((windows | {lane.begun: current}).values()), made, commands)
            return True
        doing = effect(enforced(outcome, 0), [new] if new else [], lane.text, self._naming, self._plan.category)
        changes = [*doing.changes, *lane.taking(doing.whole, cut)]
        if changes:
            windows[lane.begun] = current
            made.extend(changes)
            for change in changes:
                lane.add(change)
        return False

    def _commit_window(self, item: Item, commands: list[Command]) -> None:
        """A lane that waits for its windows: decide one, whole."""
        lane = item.lane
        seen = [lane.see(self._plan, finding) for finding in item.seen]
        unknown = [u for u, since in lane.tape.dead.values() if since < item.upto]
        if item.answer is not None:
            seen.extend(lane.see(self._plan, shifted(f, item.start)) for findings in item.answer.findings for f in findings)
            unknown.extend(u for some in item.answer.unknown for u in some)
        current = window(lane.key, seen, unknown)
        outcome = self._plan.decide(lane.phase, (current,))
        self._store(lane, current)
        rule = blocker(outcome)
        if rule is not None:
            cut = min([item.start, *(one.finding.span.start for one in seen if one.finding.span is not None)])
            self._stop(lane, cut, item.number, rule, [current], [], commands)
            return
        doing = effect(enforced(outcome, 0), seen, lane.text, self._naming, self._plan.category)
        made = [*doing.changes, *lane.taking(doing.whole, item.start)]
        for change in made:
            lane.add(change)
        lane.judged = item.upto
        if made:
            self._note(lane, [current], made, commands)

    def _commit_medium(self, item: Item, medium: str, commands: list[Command]) -> None:
        """What no detector reads: the policy says whether the answer goes on."""
        lane = item.lane
        current = media_window(Media(lane.label, medium, Turn.NEW))
        self._store(lane, current)
        rule = blocker(self._plan.decide(lane.phase, (current,)))
        if rule is not None:
            self._stop(lane, lane.out, item.number - 1, rule, [current], [], commands)  # the frame that brings it stays here

    def _close(self, lane: Lane, end: int, commands: list[Command]) -> None:
        """A window of a lane that does not wait for it is over: its signals go into the final decision."""
        self._store(lane, lane.current())
        lane.window = []
        start, lane.begun = lane.begun, end
        if lane.reading.windowed:
            text, before = lane.tape.text(start, end), lane.tape.before(start)
            self._inspect((lane, start), lane, (text,), lane.reading.windowed, commands, before)

    def _late(self, lane: Lane, start: int, judged: Judged, commands: list[Command]) -> None:
        """A window detector's word on text that did not wait for it (hold: none, or a rule that only monitors)."""
        seen = [lane.see(self._plan, shifted(f, start)) for findings in judged.findings for f in findings]
        current = window(lane.key, seen, (u for some in judged.unknown for u in some))
        outcome = self._plan.decide(lane.phase, (current,))
        self._store(lane, current)
        rule = blocker(outcome)
        if rule is not None:
            self._stop(lane, lane.out, self._number, rule, [current], [], commands)
            return
        whole = effect(enforced(outcome, 0), (), lane.text, self._naming, self._plan.category).whole
        made = lane.taking(whole, lane.judged)
        for change in made:
            lane.add(change)
            self._note(lane, [current], made, commands)

    def _store(self, lane: Lane, current: Window) -> None:
        self._windows.setdefault(lane.phase, []).append(self._interned.setdefault(current, current))

    def _note(self, lane: Lane, windows: list[Window], made: list[Change], commands: list[Command]) -> None:
        changes = tuple((lane.label, change) for change in made)
        self._changes.setdefault(lane.phase, []).extend(changes)
        commands.append(Note(lane.phase, self._plan.decide(lane.phase, windows), tuple(windows), changes, final=False))

    # ---- the end -------------------------------------------------------------------------------------------------

    def _stop(
        self, lane: Lane, cut: int, number: int, rule: Fired, windows: list[Window], made: list[Change], commands: list[Command]
    ) -> None:
        """Block: note it, let out what stands before the cut on each tape, and end."""
        self.over = True
        self._note(lane, windows, made, commands)
        if not lane.whole:
            lane.judged = cut
        self._gate.cut(number, commands)
        for other in self._lanes.values():
            if not other.whole and other.window:
                self._store(other, other.current())
        self._notes(commands)
        commands.append(Stop(lane.id.choice, rule, self._gate.open(number) or (lane.id.choice,)))

    def _finish(self, commands: list[Command]) -> None:
        """All is judged: decide over whole lanes and over the answer, note the final decisions, let the rest go."""
        owners: dict[tuple[Phase, int], tuple[Whole, list[list[Seen]]]] = {}
        for whole in self._wholes:
            for current, seen in whole.windows(self._plan):
                self._store(whole.lane, current)
                owners[(whole.lane.phase, len(self._windows[whole.lane.phase]) - 1)] = (whole, seen)
        outcomes = {phase: self._plan.decide(phase, windows) for phase, windows in self._windows.items()}
        if self._blocks(outcomes, owners, commands):
            return
        fired_in = {phase: by_window(outcome) for phase, outcome in outcomes.items()}
        for (phase, index), (whole, seen) in owners.items():
            whole.obey(fired_in[phase](index), seen, self._plan, self._naming)
        stuck = [whole for whole in self._wholes if whole.stuck(self._plan)]
        if stuck:
            for whole in stuck:
                self._store(whole.lane, uneditable_window(whole.lane.key))
                owners[(whole.lane.phase, len(self._windows[whole.lane.phase]) - 1)] = (whole, [])
            again = {phase: self._plan.decide(phase, windows) for phase, windows in self._windows.items()}
            if self._blocks(again, owners, commands):
                return
        for whole in self._wholes:
            made = whole.finish(self._plan, self._names)
            self._changes.setdefault(whole.lane.phase, []).extend((whole.lane.label, change) for change in made)
        self.over = True
        self._notes(commands)
        self._gate.drain(self._complete, commands)
        commands.append(End())

    def _blocks(
        self,
        outcomes: Mapping[Phase, Outcome],
        owners: Mapping[tuple[Phase, int], tuple[Whole, list[list[Seen]]]],
        commands: list[Command],
    ) -> bool:
        """End the answer where an outcome over all of it blocks."""
        for phase, outcome in outcomes.items():
            rule = blocker(outcome)
            if rule is not None:
                owner = owners.get((phase, rule.window))
                others = [w.lane for w in self._wholes if w.lane.phase is phase] or list(self._lanes.values())
                culprit = owner[0].lane if owner else others[0]
                self._stop(culprit, 0, self._number, rule, list(self._windows[phase]), [], commands)
                return True
        return False

    def _notes(self, commands: list[Command]) -> None:
        """The final decisions: one a phase, with all its signals."""
        for phase in (Phase.OUTPUT, Phase.TOOL_CALL):
            if phase in self._windows or (phase is Phase.OUTPUT and Phase.TOOL_CALL not in self._windows):
                windows = tuple(self._windows.get(phase, ()))
                changes = tuple(self._changes.get(phase, ()))
                commands.append(Note(phase, self._plan.decide(phase, windows), windows, changes, final=True))
