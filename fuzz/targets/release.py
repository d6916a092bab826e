"""stream/: the release machine, with the detectors of a policy. The first byte says which policy; a tab changes the tape."""

from __future__ import annotations

from collections.abc import Sequence

from fuzz.target import Run, Target, cut_text, dice, law, loose
from moderation.detect import catalogue
from moderation.detect.patterns import Patterns
from moderation.detect.words import Terms, Words
from moderation.verdict import Action
from moderation.wire.body import mended
from tests.playbook import ANSWER, REASONING, Digits, Event, Rule, Seen, Tape, ToyPlan, Word, play

NAMES = ("email", "cn_id_card", "payment_card", "cn_mobile")


def _plans() -> tuple[ToyPlan, ...]:
    patterns = [one for name in NAMES for one in catalogue.named(name)]
    data = Patterns("pii", patterns, ["pii"] * len(patterns))
    words = Words("words", "words", [Terms("list", ("bomb", "炸弹", "ab ba"), True, True)])
    return (
        ToyPlan([Rule("pii", Action.REDACT)], [data]),
        ToyPlan([Rule("pii", Action.REDACT), Rule("words", Action.BLOCK)], [data, words]),
        ToyPlan([Rule("number", Action.REDACT), Rule("word", Action.BLOCK)], [Digits(), Word("stop!")]),
        ToyPlan([Rule("words", Action.REDACT, also="pii")], [data, words]),
        ToyPlan([Rule("harm", Action.BLOCK), Rule("number", Action.REDACT)], [Digits()], {"harm": "bad"}),
        ToyPlan([Rule("number", Action.REDACT, also="word", over=True)], [Digits(), Word("key")]),
    )


def _shown(seen: Seen) -> tuple[object, ...]:
    """What must not depend on the cuts."""
    final = [(note.phase, note.outcome, note.windows, note.changes) for note in seen.final]
    return seen.texts, seen.stop, seen.ended, seen.broken, sorted(seen.finished), final


def _events(parts: Sequence[tuple[Tape, str]]) -> list[Event]:
    return [*(([(tape, text)], ()) for tape, text in parts if text), ([], (0,))]


def prepare() -> Run:
    plans = _plans()

    def run(data: bytes) -> str:
        plan = plans[(data[0] if data else 0) % len(plans)]
        random = dice(data)
        text = mended(loose(data[1:]))
        parts = [((ANSWER, REASONING)[number % 2], part) for number, part in enumerate(text.split("\t"))]
        whole = play(plan, _events(parts))
        for most, seed in ((6, None), (60, random.randrange(1 << 30))):
            chunks = [(tape, chunk) for tape, part in parts for chunk in cut_text(part, random, most)]
            law(_shown(play(plan, _events(chunks), seed=seed)) == _shown(whole), "another way of cutting gives another answer")
        law(whole.ended or whole.stop is not None or whole.broken is not None, "a stream that does not end")
        changes = sum(len(note.changes) for note in whole.final)
        return f"{data[:1]!r} {whole.stop is not None} {whole.broken} {len(whole.final)} {changes}"

    return run


def _seeds() -> Sequence[bytes]:
    texts = ("write to anna@example.com. Or call 13800138000!", "id 11010519491231002X, card 4111 1111 1111 1111",
             "a 1234 b\tstop!9",
             "ab\u200b ba 炸弹 b\\u006fmb. key 1234", "bad. " * 40 + "1234", "４１１１ １１１１ １１１１ １１１１",
             "x" * 450 + "bomb")
    return [bytes([number]) + text.encode() for number in range(6) for text in texts]


TARGET = Target(
    "release", "However an answer is cut, the client gets the same texts, the same end and the same decisions.",
    _seeds, prepare, (b"\t", b". ", b"stop!", b"key", b"bad", b"1234", b"bomb", b"@", b"\\u0031", b"4111111111111111",
                      b"13800138000"),
    longest=3000,
)
