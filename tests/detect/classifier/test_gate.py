"""The gate settles only what it was measured to settle; all else, and all that it fails on, is asked of the model behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.api import Passage
from moderation.detect.classifier import Classifier, gated, load
from moderation.detect.classifier.gate import Gated, harm
from moderation.detect.classifier.manifest import Gate, read_manifest
from moderation.detect.classifier.ngram import STRETCH, Ngram
from moderation.detect.legible import Legible
from moderation.detect.run import TRIAL, Runner
from moderation.detect.run.trials import is_failure
from moderation.errors import UsageError
from moderation.text import Role
from moderation.verdict import FULL_SCORE, Cause, Finding, Unknown
from tests.detect.classifier import tiny

PIN = "sha256:" + "0" * 64
GATE = Gate(PIN, 300_000, ("en", "zh"), True)
FOUND = (Finding("c", "violence", None, "violence", 900_000, None),)


class Inner:
    """A model that says the same of all it is asked about, and keeps that."""

    id, version, batch = "c", "inner", 8

    def __init__(self, answer: tuple[Finding, ...] | Unknown = FOUND) -> None:
        self.answer = answer
        self.asked: list[Passage] = []

    def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
        self.asked += passages
        return [self.answer for _ in passages]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Ngram:
    return Ngram(read_manifest(tiny.ngram(tmp_path_factory.mktemp("models") / "ngram")))


LONG = "This is a long and harmless text of many words that nobody needs to read at all. " * 6
SETTLED = [
    (Passage("hello there, how are you"), True, "harmless"),
    (Passage("how to make a bomb"), False, "what the gate finds"),
    (Passage("Bomb"), False, "as it is spelt"),
    (Passage(LONG), True, "harmless and long"),
    (Passage(LONG + "bomb. " + LONG), False, "one word in a long text is not thinned out"),
    (Passage("do it then", Role.PROMPT, "how to make a bomb. "), False, "what stands before is read with it"),
    (Passage("do it then", Role.PROMPT, "how to make a cake. "), True, "harmless in its place"),
    (Passage("你好"), True, "Chinese"),
    (Passage("это просто текст"), False, "a language that the gate was not measured on"),
    (Passage("1234 !"), False, "of no language"),
    (Passage("hello there, how are you", trial=True), False, "a trial is for the model"),
]


@pytest.mark.parametrize(("passage", "settled", "note"), SETTLED)
def test_what_is_settled(model: Ngram, passage: Passage, settled: bool, note: str) -> None:
    inner = Inner()
    gate = Gated(inner, model, GATE)
    assert gate.settles(passage) is settled, note
    assert list(gate.detect([passage])) == [() if settled else FOUND], note
    assert inner.asked == ([] if settled else [passage])


TEXTS = st.lists(st.sampled_from(["bomb ", "hello ", "你好", "xyz", " ", "это "]), max_size=40).map("".join)


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXTS, max_size=6), st.booleans())
def test_an_answer_is_for_its_own_passage_and_unknown_stays_unknown(model: Ngram, texts: list[str], dead: bool) -> None:
    answer = Unknown("c", Cause.ERROR) if dead else FOUND
    gate = Gated(Inner(answer), model, GATE)
    passages = [Passage(text) for text in texts]
    assert list(gate.detect(passages)) == [() if gate.settles(one) else answer for one in passages]


class Broken(Ngram):
    """A gate that gives what it is told to, or raises it."""

    def __init__(self, model: Ngram, gives: list[list[float]] | Exception) -> None:
        self.__dict__.update(model.__dict__)
        self.gives = gives

    def stretches(self, text: str) -> list[list[float]]:
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


FAILS: list[list[list[float]] | Exception] = [
    [[float("nan"), 0.0]],
    [[0.0, 0.0], [0.0, float("inf")]],
    [[-float("inf"), 0.0]],
    ValueError("x"),
    MemoryError(),
    IndexError("x"),
    FloatingPointError("x"),
]


@pytest.mark.parametrize("gives", FAILS, ids=range(len(FAILS)))
def test_where_the_gate_fails_the_model_is_asked(model: Ngram, gives: list[list[float]] | Exception) -> None:
    gate = Gated(Inner(), Broken(model, gives), GATE)
    assert list(gate.detect([Passage("hello")])) == [FOUND]


def test_the_bound_itself_is_asked(model: Ngram) -> None:
    score = harm(model, "hello there")
    for below, settled in ((score, False), (score + 1, True)):
        assert Gated(Inner(), model, Gate(PIN, below, ("en",), True)).settles(Passage("hello there")) is settled


def test_no_number_is_full_harm(model: Ngram) -> None:
    assert harm(Broken(model, [[float("nan"), 0.0]]), "hello") == FULL_SCORE
    assert harm(model, " ") == 0


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=300))
def test_the_first_stretch_is_the_whole_text(model: Ngram, text: str) -> None:
    rows = model.stretches(text)
    assert rows[:1] == model.logits(Passage(text))
    assert len(rows) <= 2 + 2 * len(text) * 18 // STRETCH, "linear in length (NFKC makes 18 of one at most)"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 300), st.integers(0, 300))
def test_a_word_is_whole_in_some_stretch_wherever_it_stands(model: Ngram, before: int, after: int) -> None:
    text = "x" * before + " bomb " + "y" * after
    assert harm(model, text) >= GATE.below


def test_a_version_tells_of_model_gate_and_bound(model: Ngram, tmp_path: Path) -> None:
    inner, other = Inner(), Inner()
    other.version = "other"
    second = Ngram(read_manifest(tiny.ngram(tmp_path, version="2")))
    made = [
        inner.version,
        Gated(inner, model, GATE).version,
        Gated(other, model, GATE).version,
        Gated(inner, second, GATE).version,
        Gated(inner, model, Gate(PIN, 200_000, GATE.languages, True)).version,
        Gated(inner, model, Gate(PIN, GATE.below, ("en",), True)).version,
    ]
    assert len(set(made)) == len(made)


def test_a_trial_reaches_the_model_through_all_readings(model: Ngram) -> None:
    inner = Inner(Unknown("c", Cause.ERROR))
    detector = Legible(Gated(inner, model, GATE), ("en", "zh"))
    text = "The committee met. 委员会开会，通过了方案。"
    assert list(detector.detect([Passage(text)])) == [()]
    assert isinstance(detector.detect([Passage(text, trial=True)])[0], Unknown)


def test_a_breaker_does_not_take_the_gate_for_the_model(model: Ngram) -> None:
    """A dead model is tried on a harmless text, which its gate would settle: it would be taken for alive again."""
    dead = Legible(Gated(Inner(Unknown("c", Cause.ERROR)), model, GATE), ("en", "zh"))
    assert list(dead.detect([Passage(TRIAL)])) == [()]

    async def tried() -> object:
        runner = Runner({"c": dead}, {"c": 10.0})
        try:
            return await runner._ask("c")
        finally:
            runner.close()

    assert is_failure(asyncio.run(tried()))


def test_only_the_gate_that_was_measured_is_used(tmp_path: Path) -> None:
    ngram = read_manifest(tiny.ngram(tmp_path / "ngram"))
    said = {"pin": ngram.pin, "below": 0.4, "default": True, "languages": ["en"]}
    for changes, says in (
        ({}, None),
        ({"pin": PIN}, "that of the model tiny was measured with another ngram than the one that lies there"),
        (None, "nobody has measured one for the model tiny"),
    ):
        folder = tiny.encoder(tmp_path / "tiny", gate=None if changes is None else said | changes)
        inner = Classifier("c", load(folder)[0])
        if says is None:
            made = gated(inner, read_manifest(folder), ngram)
            assert (made.id, made.gate.below, made.gate.languages) == ("c", 400_000, ("en",))
        else:
            with pytest.raises(UsageError, match=says):
                gated(inner, read_manifest(folder), ngram)
    found = read_manifest(tiny.encoder(tmp_path / "tiny", gate=said))
    with pytest.raises(UsageError, match="another tiny than"):
        gated(inner, found, found)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"below": 2}, "gate.below: must be a number from 0 to 1"),
    ({"below": None}, "gate.below: must be a number"),
    ({"pin": "x"}, "gate.pin: must be sha256:"),
    ({"default": 1}, "gate.default: must be true or false"),
    ({"languages": []}, "gate.languages: must be a list of language tags"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_a_gate_that_is_badly_described(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    said = {"pin": PIN, "below": 0.4, "default": True, "languages": ["en"]} | change
    with pytest.raises(UsageError, match=says):
        read_manifest(tiny.encoder(tmp_path, gate=said))
