"""The promise: however an answer is cut, the client gets the same text, the same end, the same decisions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.act import Names
from moderation.detect.decoding import Decoding
from moderation.policy.decide import Patience
from moderation.sentence import ANSWER_WINDOW, windows
from moderation.stream.plan import Broken, Command, Emit, Note, Stop
from moderation.stream.release import Release
from moderation.text import Channel
from moderation.verdict import Action
from tests.playbook import ANSWER, CALL, REASONING, Digits, Event, Piece, Rule, Seen, Tape, ToyPlan, Word, deltas, play, timeout

REDACT = ToyPlan([Rule("number", Action.REDACT)], [Digits()])
BLOCK = ToyPlan([Rule("number", Action.BLOCK)], [Digits()])
BOTH = ToyPlan([Rule("number", Action.REDACT), Rule("word", Action.BLOCK)], [Digits(), Word("stop!")])
PAIR = ToyPlan([Rule("number", Action.REDACT, also="word")], [Digits(), Word("key")])
MODEL = ToyPlan([Rule("harm", Action.BLOCK), Rule("number", Action.REDACT)], [Digits()], {"harm": "bad"})
OVER = ToyPlan([Rule("number", Action.REDACT, also="word", over=True)], [Digits(), Word("key")])
ENCODED = ToyPlan([Rule("word", Action.REDACT)], [Decoding(Word("stop!"))])
PLANS = {"encoded": ENCODED, "redact": REDACT, "block": BLOCK, "both": BOTH, "pair": PAIR, "model": MODEL, "over": OVER}


def compositions(text: str) -> list[list[str]]:
    """Every way of cutting a text."""
    cuts = []
    for mask in itertools.product([False, True], repeat=len(text) - 1):
        parts, start = [], 0
        for place, cut in enumerate(mask, 1):
            if cut:
                parts.append(text[start:place])
                start = place
        cuts.append([*parts, text[start:]])
    return cuts


def shown(seen: Seen) -> tuple[object, ...]:
    """What must not depend on cuts or on when answers come."""
    final = [(n.phase, n.outcome, n.windows, n.changes) for n in seen.final]
    return seen.texts, seen.stop, seen.ended, seen.broken, sorted(seen.finished), final


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("text", ["n\\n1234\\", "a\\u00312345", "a\U000e0031\U000e0032\U000e0033\U000e0034b1", "%31%3234", "&#49;234", "\\\\u0031 12", "a 1234 b", "1234", "12345 67", "x1234stop!9", "key 1234.", "bad. 1234"])
def test_every_cut_gives_the_same(name: str, text: str) -> None:
    plan = PLANS[name]
    whole = shown(play(plan, deltas(ANSWER, [text])))
    for cut in compositions(text):
        assert shown(play(plan, deltas(ANSWER, cut))) == whole, cut


HIDDEN = ["\U000e0031", "\U000e0031\U000e0032", "\U000e0121\U000e0122\U000e0123\U000e0124", "\U000e0073\U000e0074", "\ufe0f"]
ENCODINGS = ["aSBzYXkgc3RvcCEgbm93", "aSBzYXkgc3", "692073617920", "73746f7021", "s t o p", "63 33 52 76 63 43 45 67"]
ALPHABET = st.sampled_from([*ENCODINGS, "\\", "\\n", "\\u0031", "%3", "%31", "&#4", "9;", *HIDDEN, "u00", "31", "1", "2", "12", "1234", " ", "a", "key", "st", "stop!", "bad", ". ", "。", "\n", "é\u200b", "４", "x" * 40])
LONG = st.lists(ALPHABET, min_size=1, max_size=60).map("".join)


def cut_at(text: str, places: Sequence[int]) -> list[str]:
    marks = sorted({place % (len(text) + 1) for place in places})
    return [text[a:b] for a, b in itertools.pairwise([0, *marks, len(text)])]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(PLANS)), LONG, st.lists(st.integers(0, 10_000), max_size=30), st.integers(0, 1 << 30))
def test_cuts_and_the_order_of_answers_change_nothing(name: str, text: str, places: list[int], seed: int) -> None:
    plan = PLANS[name]
    whole = shown(play(plan, deltas(ANSWER, [text])))
    assert shown(play(plan, deltas(ANSWER, cut_at(text, places)), seed=seed)) == whole


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(PLANS)), st.lists(st.tuples(st.integers(0, 2), ALPHABET), max_size=40), st.integers(0, 1 << 30))
def test_the_order_of_answers_changes_nothing_on_many_tapes(name: str, parts: list[tuple[int, str]], seed: int) -> None:
    tapes = [ANSWER, REASONING, Tape(1, Channel.ANSWER, "content")]
    events: list[Event] = [([(tapes[which], text)], ()) for which, text in parts]
    events += [([], (0,)), ([], (1,))]
    plan = PLANS[name]
    assert shown(play(plan, events, seed=seed)) == shown(play(plan, events))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["redact", "pair", "over", "model", "encoded"]), LONG, st.lists(st.integers(0, 10_000), max_size=30))
def test_a_stream_is_the_whole_text(name: str, text: str, places: list[int]) -> None:
    plan = PLANS[name]
    held = ToyPlan(plan.rules, plan.local, plan.windowed, Patience.ALL)
    stream = play(plan, deltas(ANSWER, cut_at(text, places)))
    whole = play(held, deltas(ANSWER, [text]))
    assert (stream.stop is None) == (whole.stop is None)
    if stream.stop is None:
        assert stream.text == whole.text


@pytest.mark.parametrize("patience", [Patience.WINDOW, Patience.LOCAL])
@pytest.mark.parametrize("size", [7, 100, 100_000])
def test_a_window_is_understood_by_what_stands_before_it(patience: Patience, size: int) -> None:
    """Also where most of the tape has been dropped: the words that tell stand in two windows, far from its beginning."""
    text = "A sentence of no harm, and of some length, which fills the whole of a window of an answer, so long is it. " * 120
    text += "Here is another one of these sentences, with so many words that a window ends with it, and that is bad. Worse, it goes on."
    assert all("bad. Worse" not in text[one.start : one.end] for one in windows(text, ANSWER_WINDOW))
    plan = ToyPlan([Rule("harm", Action.BLOCK)], [Digits()], {"harm": "bad. Worse"}, patience)
    stream = play(plan, deltas(ANSWER, [text[at : at + size] for at in range(0, len(text), size)]))
    assert stream.stop is not None
    assert [[s.key.category for s in one.signals] for one in stream.final[0].windows if len(one.signals) > 1] == [[None, "harm"]]


@given(LONG, st.lists(st.integers(0, 10_000), max_size=30))
def test_an_unedited_stream_goes_out_as_its_frames(text: str, places: list[int]) -> None:
    plan = ToyPlan([Rule("number", Action.FLAG)], [Digits()])
    seen = play(plan, deltas(ANSWER, cut_at(text, places)))
    assert [b"edited" in frame for frame in seen.frames] == [False] * len(seen.frames)
    assert [int(frame.split(b'"id": ')[1].split(b",")[0]) for frame in seen.frames] == list(range(len(seen.frames)))
    assert seen.text == text
    assert seen.ended


def test_no_part_of_a_stretch_goes_out() -> None:
    seen = play(ENCODED, deltas(ANSWER, list("so aSBzYXkgc3RvcCEgbm93 it is"), finish=False))
    assert seen.text == "so [removed: word] it is"
    assert max(after.get(ANSWER, 0) for after in seen.after[:22]) == len("so ")


def test_no_two_digits_of_a_match_go_out() -> None:
    seen = play(REDACT, deltas(ANSWER, list("号码是1234，谢谢")))
    assert seen.text == "号码是[removed: digits]，谢谢"
    assert not any(a in "1234" and b in "1234" for a, b in itertools.pairwise(seen.text))


def test_what_cannot_match_goes_out_at_once() -> None:
    words = ["plain ", "words ", "go ", "out ", "12", "34 ", "now"]
    seen = play(REDACT, deltas(ANSWER, words, finish=False), complete=True)
    sizes = [after.get(ANSWER, 0) for after in seen.after]
    assert sizes == [6, 12, 15, 19, 19, 19 + len("[removed: digits] "), 19 + len("[removed: digits] now")]


def test_a_block_lets_out_what_stands_before_it() -> None:
    seen = play(BLOCK, deltas(ANSWER, ["fine so far ", "12", "34", " never ", "seen"]))
    assert seen.text == "fine so far "
    assert seen.stop is not None
    assert seen.stop.open == (0,)
    assert not seen.ended


def test_a_block_ends_every_tape_where_its_bytes_stood() -> None:
    second = Tape(1, Channel.ANSWER, "content")
    events: list[Event] = [([(ANSWER, "one ")], ()), ([(second, "two 12")], ()), ([(ANSWER, "1234 ")], ()), ([(second, "34 x")], ())]
    seen = play(BLOCK, events)
    assert seen.texts == {ANSWER: "one ", second: "two "}
    assert seen.stop is not None
    assert seen.stop.open == (0, 1)


def test_reasoning_is_read_too() -> None:
    seen = play(REDACT, [*deltas(REASONING, ["think 12", "34 ok."], finish=False), *deltas(ANSWER, ["fine"])])
    assert seen.texts == {REASONING: "think [removed: digits] ok.", ANSWER: "fine"}


def test_a_held_end_of_one_tape_does_not_stop_another_for_long() -> None:
    events = [*deltas(REASONING, ["think 12"], finish=False), *deltas(ANSWER, ["plain words "] * 10, finish=False)]
    seen = play(REDACT, events)
    assert seen.after[-1][ANSWER] >= 64
    assert REASONING not in seen.after[-1]
    assert seen.texts[REASONING] == "think 12"


def test_tool_arguments_are_held_until_they_are_whole() -> None:
    events: list[Event] = [([(CALL, '{"to": "12')], ()), ([(CALL, '34"}')], ()), ([], (0,))]
    seen = play(REDACT, events)
    assert seen.after[1] == {}
    assert seen.texts[CALL] == '{"to": "[removed: digits]"}'


def test_names_come_back_even_over_cuts() -> None:
    names = Names()
    assert names.name("EMAIL_ADDRESS", "a@x.com") == "<EMAIL_ADDRESS_1>"
    text = "Write to <EMAIL_ADDRESS_1>, not <EMAIL_ADDRESS_2> or <b>."
    for size in range(1, len(text) + 1):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        seen = play(REDACT, deltas(ANSWER, pieces), names=names)
        assert seen.text == "Write to a@x.com, not <EMAIL_ADDRESS_2> or <b>."


@pytest.mark.parametrize("action", [Action.REDACT, Action.BLOCK])
def test_a_detector_that_fails_takes_all_that_has_not_gone_out(action: Action) -> None:
    plan = ToyPlan([Rule("number", action)], [Digits("number")])
    seen = play(plan, deltas(ANSWER, ["fine ", "12", "34 secret"]), fails=lambda d, n: timeout(d) if n == 3 else None)
    assert "12" not in seen.text
    assert "secret" not in seen.text
    assert seen.text.startswith("fine ")
    assert any(note.outcome.degraded for note in seen.notes)
    assert (seen.stop is not None) == (action is Action.BLOCK)


def test_text_after_the_finish_is_not_passed_on() -> None:
    seen = play(REDACT, [*deltas(ANSWER, ["one "]), ([(ANSWER, "two")], ())])
    assert seen.broken is not None
    assert "two" not in seen.text


def test_a_stream_that_breaks_off_shows_no_finish() -> None:
    seen = play(REDACT, deltas(ANSWER, ["one ", "two"]), complete=False)
    assert (seen.text, seen.finished) == ("one two", [])


def test_memory_is_bounded() -> None:
    release = Release(OVER, Names(), most_held=1000)
    for number in range(200):
        commands = release.settle([0 for _ in release.feed(b"{}", [Piece(ANSWER, "x" * 10, "0")])])
        if release.over:
            assert number == 100
            assert commands
            return
    pytest.fail("never ended")


def test_what_text_keeps_waiting_counts_by_its_bytes() -> None:
    release = Release(REDACT, Names(), most_held=1000)
    release.settle([[Digits().scan("12", 0, False)] for _ in release.feed(b"{}", [Piece(ANSWER, "12", "0")])])
    for number in range(100):
        commands = release.settle([0 for _ in release.feed(b": a sign of life" + b"." * 984, [])])
        if release.over:
            assert number == 15
            assert isinstance(commands[-1], Broken)
            return
    pytest.fail("never ended")


VOICE = Tape(0, Channel.ANSWER, "audio")


@pytest.mark.parametrize(("action", "frames", "note"), [
    (Action.ALLOW, ["one ", "two ", "sound", "sound", "three "], "it is recorded, and goes on"),
    (Action.FLAG, ["one ", "two ", "sound", "sound", "three "], "it is flagged, and goes on"),
    (Action.BLOCK, ["one ", "two "], "what came before it has gone out, the medium has not"),
])  # fmt: skip
@pytest.mark.parametrize("patience", [Patience.LOCAL, Patience.WINDOW])
def test_a_medium_that_nobody_reads(action: Action, frames: list[str], note: str, patience: Patience) -> None:
    rules = [Rule("number", Action.REDACT), *([Rule("unscanned_media", action)] if action else [])]
    release = Release(ToyPlan(rules, [Digits()], patience=patience), Names())
    out: list[Command] = []
    for name in ["one ", "two ", "sound", "sound", "three "]:
        piece = Piece(VOICE, "\ufffc", "0", "audio") if name == "sound" else Piece(ANSWER, name, "0")
        looks = release.feed(name.encode(), [piece], (), (0,))
        out += release.settle([[Digits().scan(look.text, look.start, look.final)] for look in looks])
        if release.over:
            break
    else:
        out += release.settle([[Digits().scan(look.text, look.start, look.final)] for look in release.end(True)])
    said = [command.raw.decode() for command in out if isinstance(command, Emit)]
    assert said == (frames if patience is Patience.LOCAL or action is not Action.BLOCK else []), note
    assert any(isinstance(command, Stop) for command in out) == (action is Action.BLOCK)
    (final,) = [command for command in out if isinstance(command, Note) and command.final]
    media = [s for w in final.windows for s in w.signals if s.key.detector == "unscanned_media"]
    assert [(s.key.entity, s.count) for s in media] == [("AUDIO", 1)]
    assert final.outcome.action is action
