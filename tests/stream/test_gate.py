"""The gate: which frames may go, in which order, and what is left of them when a rule blocks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from moderation.act import Names
from moderation.policy.decide import Patience
from moderation.stream.plan import Broken, Command, Emit, End, Inspect, Judged, Stop
from moderation.stream.release import Release
from moderation.stream.tape import Look
from moderation.text import Channel, Span
from moderation.verdict import FULL_SCORE, Action, Finding
from tests.playbook import ANSWER, CALL, REASONING, Digits, Piece, Rule, Tape, ToyPlan, Word, deltas, play, timeout

REDACT = ToyPlan([Rule("number", Action.REDACT)], [Digits()])
BLOCK = ToyPlan([Rule("number", Action.BLOCK)], [Digits()])
MODEL = ToyPlan([Rule("harm", Action.BLOCK)], [Digits()], {"harm": "bad"})
MODEL_AND_NUMBERS = ToyPlan([Rule("harm", Action.BLOCK), Rule("number", Action.REDACT)], [Digits()], {"harm": "bad"})
SECOND = Tape(1, Channel.ANSWER, "content")


@dataclass
class Slow:
    """A stream whose window detectors answer when the test says so."""

    plan: ToyPlan
    out: list[dict[str, object]] = field(default_factory=list)
    asked: list[Inspect] = field(default_factory=list)
    stop: Stop | None = None
    ended: bool = False
    broken: bool = False

    def __post_init__(self) -> None:
        self.release = Release(self.plan, Names())
        self.number = 0

    def say(self, *parts: tuple[Tape, str], finished: Sequence[int] = (), choices: Sequence[int] = ()) -> None:
        pieces = [Piece(tape, text, str(n)) for n, (tape, text) in enumerate(parts)]
        frame = {"id": self.number, "texts": [text for _, text in parts], "finish": list(finished)}
        touched = sorted({tape.choice for tape, _ in parts} | {*finished, *choices})
        self.number += 1
        self._look(self.release.feed(json.dumps(frame).encode(), pieces, finished, touched))

    def end(self) -> None:
        self._look(self.release.end(True))

    def answer(self, found: bool) -> None:
        """The oldest question is answered."""
        inspect = self.asked.pop(0)
        findings = (Finding("harm", "harm", None, "harm", FULL_SCORE, None),) if found else ()
        judged = [Judged((Span(0, max(1, len(text))),), (findings,), ((),)) for text in inspect.texts]
        self._obey(self.release.answer(inspect.job, judged))

    def _look(self, looks: Sequence[Look]) -> None:
        detectors = {one.id: one for one in self.plan.local}
        self._obey(self.release.settle(
            [[detectors[one].scan(look.text, look.start, look.final) for one in look.detectors] for look in looks]
        ))  # fmt: skip

    def _obey(self, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Emit(raw):
                    self.out.append(json.loads(raw))
                case Inspect():
                    self.asked.append(command)
                case Stop():
                    self.stop = command
                case End():
                    self.ended = True
                case Broken():
                    self.broken = True
                case _:
                    pass

    @property
    def ids(self) -> list[object]:
        return [frame["id"] for frame in self.out]

    @property
    def text(self) -> str:
        return "".join(text for frame in self.out for text in frame["texts"])  # type: ignore[attr-defined]


WINDOW = "w" * 99 + ". "


def test_nothing_goes_out_before_its_window_is_judged() -> None:
    slow = Slow(MODEL)
    slow.say((ANSWER, WINDOW))
    slow.say((ANSWER, "bad "))
    assert (slow.out, len(slow.asked)) == ([], 1)
    slow.answer(False)
    assert slow.ids == [0]
    slow.end()
    slow.answer(True)
    assert slow.text == WINDOW
    assert slow.stop is not None


def test_a_later_answer_that_comes_first_lets_nothing_out() -> None:
    slow = Slow(MODEL)
    for _ in range(3):
        slow.say((ANSWER, WINDOW))
    slow.asked.reverse()
    slow.answer(False)
    assert slow.out == []


def test_a_match_over_the_end_of_a_window_waits_for_its_own_window() -> None:
    slow = Slow(MODEL_AND_NUMBERS)
    slow.say((ANSWER, "x" * 398))
    slow.say((ANSWER, "12"))
    slow.say((ANSWER, "34 y" + "z" * 110 + ". "))
    slow.say((ANSWER, "Next"))
    assert len(slow.asked) == 2
    slow.answer(False)
    assert slow.ids == [0]
    slow.answer(False)
    assert slow.text.startswith("x" * 398 + "[removed: digits] y")


def test_a_block_takes_a_match_that_began_in_the_window_before() -> None:
    plan = ToyPlan([Rule("number", Action.BLOCK), Rule("harm", Action.BLOCK)], [Digits()], {"harm": "bad"})
    slow = Slow(plan)
    slow.say((ANSWER, "x" * 398))
    slow.say((ANSWER, "12"))
    slow.say((ANSWER, "34 y" + "z" * 110 + ". "))
    slow.say((ANSWER, "Next"))
    slow.answer(False)
    slow.answer(False)
    assert slow.stop is not None
    assert slow.text == "x" * 398


def test_what_came_after_the_frame_that_was_judged_does_not_go_out_with_its_block() -> None:
    """However late the answer: or the answer's text would depend on how quick a detector is."""
    for late in (False, True):
        slow = Slow(MODEL)
        slow.say((ANSWER, "bad " + WINDOW))
        slow.say((ANSWER, "next"))
        if late:
            slow.say(choices=(1,))
            slow.say(finished=(1,))
        slow.answer(True)
        assert slow.out == []
        assert slow.stop is not None
        assert slow.stop.open == (0,)


def test_a_choice_that_lost_text_to_a_block_does_not_look_finished() -> None:
    slow = Slow(BLOCK)
    slow.say((CALL, '{"a": "b"}'))
    slow.say(finished=(0,))
    slow.say((SECOND, "fine 1234 "))
    assert slow.stop is not None
    assert slow.stop.open == (0, 1)
    assert [frame["finish"] for frame in slow.out] == [[]]
    assert slow.text == "fine "


def test_a_call_without_arguments_is_held_too() -> None:
    slow = Slow(BLOCK)
    slow.say((ANSWER, "well "))
    slow.say((CALL, ""))
    assert slow.ids == [0]
    slow.say((ANSWER, "1234 "))
    assert slow.stop is not None
    assert slow.ids == [0]


def test_frames_overtake_but_never_those_of_their_own_tape() -> None:
    slow = Slow(REDACT)
    slow.say((REASONING, "think 12"), (ANSWER, "first "))
    slow.say((ANSWER, "x" * 70))
    assert slow.out == []
    slow.say((SECOND, "y" * 70))
    assert slow.ids == [2]
    slow.say((REASONING, " "))
    assert slow.ids == [2, 0, 1, 3]


def test_a_finish_waits_for_the_text_of_its_choice() -> None:
    slow = Slow(REDACT)
    slow.say((SECOND, "12"))
    slow.say((CALL, "{}"))
    slow.say(finished=(0,))
    slow.say((SECOND, "z" * 70 + " "))
    assert all(frame["finish"] == [] for frame in slow.out)


def test_the_last_finish_waits_for_the_end() -> None:
    slow = Slow(REDACT)
    slow.say((ANSWER, "all "))
    slow.say(finished=(0,))
    assert slow.ids == [0]
    slow.end()
    assert slow.ids == [0, 1]
    assert slow.ended


def test_all_that_is_to_come_is_taken_where_a_window_could_not_be_judged() -> None:
    plan = ToyPlan([Rule("number", Action.REDACT), Rule("harm", Action.BLOCK)], [Digits("number")], {"harm": "bad"})
    seen = play(plan, deltas(ANSWER, ["fine ", "12", "34 secret ", "more"]), fails=lambda d, n: timeout(d) if n == 3 else None)
    assert seen.text == "[removed: rule-number]"
    assert any(note.outcome.degraded for note in seen.notes)


def test_the_label_of_what_is_taken_stands_there_once() -> None:
    plan = ToyPlan([Rule("number", Action.REDACT)], [Digits("number")])
    seen = play(plan, deltas(ANSWER, ["fine ", "12", "34 secret ", "and ", "more"]), fails=lambda d, n: timeout(d) if n == 3 else None)
    assert seen.text == "fine [removed: rule-number]"
    assert [note.changes for note in seen.notes if not note.final] != []


def test_a_detector_that_is_not_waited_for_still_blocks() -> None:
    plan = ToyPlan([Rule("harm", Action.BLOCK)], [], {"harm": "bad"}, Patience.LOCAL)
    slow = Slow(plan)
    slow.say((ANSWER, "bad " + WINDOW))
    slow.say((ANSWER, "so "))
    assert slow.text == "bad " + WINDOW + "so "
    slow.answer(True)
    assert slow.stop is not None
    assert not slow.ended


def test_findings_count_in_the_window_where_they_end_however_late_it_closes() -> None:
    plan = ToyPlan([Rule("number", Action.FLAG)], [Digits(), Word("key")], {}, Patience.LOCAL)
    text = "1234 " + WINDOW + "key " + WINDOW + "5678 end"
    whole = play(plan, deltas(ANSWER, [text])).final
    for size in (1, 7, 50, 120):
        cut = [text[i : i + size] for i in range(0, len(text), size)]
        assert play(plan, deltas(ANSWER, cut)).final == whole
    assert len(whole[0].windows) == 3


def test_what_is_taken_once_is_told_once() -> None:
    plan = ToyPlan([Rule("number", Action.REDACT), Rule("word", Action.FLAG)], [Digits("number"), Word("key")])
    events = deltas(ANSWER, ["fine ", "key ", "and ", "key ", "more"])
    seen = play(plan, events, fails=lambda d, n: timeout(d) if d == "number" else None)
    assert [note.changes for note in seen.notes if not note.final] == [seen.final[0].changes]
    assert len(seen.final[0].changes) == 1
