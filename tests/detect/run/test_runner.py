"""Running detectors: windows, original offsets, what a broken detector becomes, waits that end, and what is kept."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.api import Detector, Passage, Scan
from moderation.detect.catalogue import CATALOGUE
from moderation.detect.patterns import Patterns
from moderation.detect.run import INLINE_LENGTH, Runner
from moderation.detect.run.cache import Cache
from moderation.detect.run.examined import Examined
from moderation.detect.run.turns import TURN, by_turns
from moderation.detect.run.workers import Workers
from moderation.normalise import normalise
from moderation.sentence import windows
from moderation.text import Role, Span
from moderation.verdict import Cause, Finding, Unknown

REAL = Patterns("real", CATALOGUE, ["personal_data"] * len(CATALOGUE))


class Fake:
    """A local detector that finds each X, or does what a test wants."""

    def __init__(self, act: Callable[[str, int, bool], object] | None = None, name: str = "fake") -> None:
        self.id = name
        self.version = "1"
        self.behind = 0
        self.reach = 0
        self.act = act
        self.seen: list[str] = []

    def scan(self, text: str, start: int, final: bool) -> Scan:
        self.seen.append(text)
        if self.act is not None:
            return self.act(text, start, final)  # type: ignore[return-value]
        return Scan(tuple(found(self.id, i) for i in range(start, len(text)) if text[i] == "X"), len(text))


class Model:
    """A window detector."""

    def __init__(self, answer: Callable[[Sequence[str]], object], batch: int = 100) -> None:
        self.id = "model"
        self.version = "1"
        self.batch = batch
        self.asked: list[Passage] = []
        self.answer = answer
        self.batches: list[list[str]] = []

    def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
        self.asked.extend(passages)
        texts = [one.text for one in passages]
        self.batches.append(texts)
        return self.answer(texts)  # type: ignore[return-value]


class Judge:
    """A judge over the network that says one thing."""

    version = "1"
    at_once = 1
    why = None

    def __init__(self, name: str, says: tuple[Finding, ...]) -> None:
        self.id = name
        self.says = says

    async def ask(self, passage: Passage) -> tuple[Finding, ...]:
        return self.says

    async def close(self) -> None:
        pass


def found(detector: str, start: int, end: int | None = None, score: int = 1_000_000) -> Finding:
    return Finding(detector, "c", None, "x", score, Span(start, start + 1 if end is None else end))


def examine(
    detectors: Mapping[str, Detector], texts: Sequence[str], *, inline: bool = False, timeout: float = 5.0, window: int = 20
) -> tuple[Examined, ...]:
    runner = Runner(detectors, dict.fromkeys(detectors, timeout), inline=frozenset(detectors) if inline else frozenset())
    try:
        return asyncio.run(runner.examine(texts, frozenset(detectors), "t", window))
    finally:
        runner.close()


TEXT = "First sentence here, it is long. A second with 13812345678 in it! 卡４１１１１１１１１１１１１１１１。Last a@b.io"


@pytest.mark.parametrize("inline", [True, False])
def test_findings_count_where_they_end_and_have_original_offsets(inline: bool) -> None:
    text = TEXT.replace("1381", "1\u200b381")
    (one,) = examine({"real": REAL}, [text], inline=inline)
    assert one.windows == windows(text, 20)
    values = []
    for window, findings in zip(one.windows, one.findings, strict=True):
        for finding in findings:
            assert finding.span is not None
            assert window.start < finding.span.end <= window.end
            values.append(text[finding.span.start : finding.span.end])
    assert values == ["1\u200b3812345678", "４１１１１１１１１１１１１１１１", "a@b.io"]
    assert one.unknown == ((),) * len(one.windows)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(alphabet="aX. 中。\u200b1", max_size=60), max_size=4), st.booleans())
def test_all_findings_arrive_once(texts: list[str], inline: bool) -> None:
    for text, one in zip(texts, examine({"fake": Fake()}, texts, inline=inline), strict=True):
        places = [f.span.start for findings in one.findings for f in findings if f.span]
        assert places == [i for i, char in enumerate(text) if char == "X"]
        assert len(one.windows) == len(one.findings) == len(one.unknown)


def test_empty_and_repeated_texts() -> None:
    fake = Fake()
    answers = examine({"fake": fake}, ["", "aX", "", "aX"])
    assert answers[0] == answers[2] == Examined((), (), ())
    assert answers[1] == answers[3]
    assert sorted(fake.seen) == ["", "aX"]


def exploding(text: str, start: int, final: bool) -> object:
    raise RuntimeError(text)


def leaving(text: str, start: int, final: bool) -> object:
    raise SystemExit


BROKEN = [
    (exploding, Cause.ERROR, "raises"),
    (leaving, Cause.ERROR, "tries to end the process"),
    (lambda text, start, final: None, Cause.INVALID, "nothing"),
    (lambda text, start, final: Scan((), len(text) + 1), Cause.INVALID, "a hold beyond the end"),
    (lambda text, start, final: Scan((), len(text) - 1), Cause.INVALID, "a hold before the end of a whole text"),
    (lambda text, start, final: Scan([found("fake", 0)], len(text)), Cause.INVALID, "a list"),  # type: ignore[arg-type]
    (lambda text, start, final: Scan((found("other", 0),), len(text)), Cause.INVALID, "another's finding"),
    (lambda text, start, final: Scan((found("fake", 2, 2),), len(text)), Cause.INVALID, "an empty span"),
    (lambda text, start, final: Scan((found("fake", 0, 99),), len(text)), Cause.INVALID, "a span beyond the end"),
    (lambda text, start, final: Scan((found("fake", -1, 1),), len(text)), Cause.INVALID, "a span before the start"),
    (lambda text, start, final: Scan((found("fake", 0, score=2_000_000),), len(text)), Cause.INVALID, "a score too high"),
    (lambda text, start, final: Scan((Finding("fake", "c", None, "x", 1, None),), len(text)), Cause.INVALID, "no span"),
]


@pytest.mark.parametrize(("act", "cause", "note"), BROKEN, ids=[note for _, _, note in BROKEN])
@pytest.mark.parametrize("inline", [True, False])
def test_a_broken_detector_is_unknown_everywhere(
    act: Callable[[str, int, bool], object], cause: Cause, note: str, inline: bool
) -> None:
    fake, well = Fake(act), Fake(name="well")
    (one,) = examine({"fake": fake, "well": well}, ["abc X. def. " * 4], inline=inline)
    assert one.unknown == ((Unknown("fake", cause),),) * len(one.windows)
    assert sum(map(len, one.findings)) == 4
    runner = Runner({"fake": fake}, {})
    assert runner.scan_now(("fake",), "abc X", 0, True) == [Unknown("fake", cause)]


def test_scan_now_and_scan() -> None:
    told: list[tuple[str, Cause | None]] = []
    runner = Runner({"fake": Fake()}, {}, observe=lambda name, seconds, cause: told.append((name, cause)))
    wanted = Scan((found("fake", 2),), 3)
    lost = Unknown("none", Cause.UNAVAILABLE)
    for both, inline in ((False, frozenset[str]()), (True, frozenset({"fake"}))):
        names = ("fake", "none") if both else ("fake",)
        assert runner.scan_now(names, "XaX", 1, False) == [wanted, lost][: len(names)]
        assert asyncio.run(runner.scan(names, inline, "XaX", 1, False)) == [wanted, lost][: len(names)]
    assert runner.scan_now(("fake",), "aaa", 1, False) == 3
    assert asyncio.run(runner.scan(("fake",), frozenset(), "aaa", 1, False)) == 3
    assert ("none", Cause.UNAVAILABLE) in told
    assert ("fake", None) in told
    runner.close()


def test_a_detector_that_is_not_there_is_unknown() -> None:
    runner = Runner({"fake": Fake()}, {})
    (one,) = asyncio.run(runner.examine(["a X"], frozenset({"fake", "gone"}), "t", 20))
    assert one.unknown == ((Unknown("gone", Cause.UNAVAILABLE),),)
    assert (runner.has("fake"), runner.has("gone"), runner.behind("fake")) == (True, False, 0)


def test_a_wait_ends_in_time_and_others_go_on() -> None:
    stuck = threading.Event()
    hung = Fake(lambda text, start, final: stuck.wait(20))
    workers = Workers(threads=1, most_lost=2)
    runner = Runner({"fake": hung, "well": Fake(name="well")}, {"fake": 0.05, "well": 5.0}, workers=workers)

    async def main() -> None:
        for round_ in range(2):
            begun = time.perf_counter()
            (one,) = await runner.examine(["a X"], frozenset({"fake"}), "t", 20)
            assert time.perf_counter() - begun < 1.0
            assert one.unknown == ((Unknown("fake", Cause.TIMEOUT),),)
            assert workers.lost == round_ + 1
        (one,) = await runner.examine(["a X"], frozenset({"fake"}), "t", 20)
        assert one.unknown == ((Unknown("fake", Cause.UNAVAILABLE),),), "no more threads are thrown after it"
        stuck.set()
        for _ in range(500):
            await asyncio.sleep(0.01 if workers.lost else 0)
        (one,) = await runner.examine(["a X"], frozenset({"well"}), "t", 20)
        assert (one.unknown, len(one.findings[0])) == (((),), 1), "and well again once they came back"

    asyncio.run(main())
    runner.close()


def test_long_texts_leave_the_loop_even_where_inline() -> None:
    threads: list[str] = []

    def note(text: str, start: int, final: bool) -> Scan:
        threads.append(threading.current_thread().name)
        return Scan((), len(text))

    examine({"fake": Fake(note)}, ["x" * INLINE_LENGTH], inline=True)
    examine({"fake": Fake(note)}, ["x" * INLINE_LENGTH, "y"], inline=True)
    assert threads == [threading.main_thread().name, "detector", "detector"]


def by_length(texts: Sequence[str]) -> list[tuple[Finding, ...] | Unknown]:
    return [(Finding("model", "c", None, "long", len(text), None), found("model", 0, 2)) for text in texts]


def test_window_detectors_get_each_window_once_in_one_batch() -> None:
    model = Model(by_length)
    first, second = "One sentence of some length. Another one of some length. ", "One sentence of some length. "
    answers = examine({"model": model}, [first, second], window=10)
    assert model.batches == [["One sentence of some length. ", "Another one of some length. "]]
    for text, one in zip((first, second), answers, strict=True):
        for window, findings in zip(one.windows, one.findings, strict=True):
            assert [f.span for f in findings] == [None, Span(window.start, window.start + 2)]
            assert findings[0].score == window.end - window.start <= len(text)


def test_window_detectors_get_the_role_and_the_sentences_before() -> None:
    """The same words asked for another role, or after other words, are another question; for a local detector they are not."""
    model, local = Model(lambda texts: [() for _ in texts]), Fake()
    runner = Runner({"model": model, "fake": local}, {}, cache=Cache(1_000_000))
    text, wanted = "One sentence. Two sentence. ", frozenset({"model", "fake"})

    async def ask(role: Role, before: str = "") -> list[Passage]:
        model.asked.clear()
        await runner.examine([text], wanted, "t", 5 if not before else 99, [(role, wanted)], before)
        return list(model.asked)

    async def main() -> None:
        for role in Role:
            assert await ask(role) == [Passage("One sentence. ", role), Passage("Two sentence. ", role, "One sentence. ")]
            assert await ask(role) == [], "it is kept"
        assert await ask(Role.PROMPT, "Zero. ") == [Passage(text, Role.PROMPT, "Zero. ")]
        assert await ask(Role.PROMPT, "Nought. ") == [Passage(text, Role.PROMPT, "Nought. ")]
        assert await ask(Role.PROMPT, "Zero. ") == []
        assert len(local.seen) == 3, "once, and after each of two texts"
        both = await runner.examine(["a", "b", "a"], wanted, "t", 5, [(Role.PROMPT, wanted), (Role.RESPONSE, wanted), (Role.RESPONSE, wanted)])
        assert [one.windows for one in both] == [(Span(0, 1),)] * 3
        assert sorted(model.asked[-3:], key=str) == [Passage("a"), Passage("a", Role.RESPONSE), Passage("b", Role.RESPONSE)]

    asyncio.run(main())
    runner.close()


def test_a_window_detectors_time_is_for_one_call() -> None:
    def slow(texts: Sequence[str]) -> list[tuple[Finding, ...] | Unknown]:
        time.sleep(0.1)
        return [() for _ in texts]

    model = Model(slow, batch=1)
    (one,) = examine({"model": model}, ["Some sentence here. " * 8], timeout=0.4)
    assert len(model.batches) == 8
    assert not any(one.unknown), "it took 0.8 s, and each call 0.1 s"


@pytest.mark.parametrize(
    ("answer", "unknown"),
    [
        (lambda texts: None, [Cause.INVALID, Cause.INVALID]),
        (lambda texts: [()], [Cause.INVALID, Cause.INVALID]),
        (lambda texts: [(), "x"], [None, Cause.INVALID]),
        (lambda texts: [Unknown("model", Cause.UNSUPPORTED), ()], [Cause.UNSUPPORTED, None]),
        (lambda texts: [Unknown("other", Cause.UNSUPPORTED), ()], [Cause.INVALID, None]),
        (lambda texts: [(found("model", 0, 999),), ()], [Cause.INVALID, None]),
        (lambda texts: 1 / 0, [Cause.ERROR, Cause.ERROR]),
    ],
)
def test_broken_window_detectors(answer: Callable[[Sequence[str]], object], unknown: list[Cause | None]) -> None:
    (one,) = examine({"model": Model(answer)}, ["One sentence. Two sentence. "], window=5)
    assert one.unknown == tuple((Unknown("model", cause),) if cause else () for cause in unknown)


def test_kept_by_tenant_version_and_text_and_never_where_unknown() -> None:
    fake = Fake()
    cache = Cache(1_000_000)

    def run(detector: Fake, text: str, tenant: str = "t") -> Examined:
        runner = Runner({"fake": detector}, {}, cache=cache)
        (one,) = asyncio.run(runner.examine([text], frozenset({"fake"}), tenant, 20))
        runner.close()
        return one

    text = "X marks. " * 5
    first = run(fake, text)
    assert run(fake, text) == first
    assert len(fake.seen) == 1
    run(fake, text, "another")
    assert len(fake.seen) == 2
    fake.version = "2"
    run(fake, text)
    assert len(fake.seen) == 3
    failing = Fake(exploding)
    for _ in range(2):
        assert run(failing, "other").unknown[0]
    assert len(failing.seen) == 2


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("kind", ["local", "window", "judge"])
def test_what_is_kept_answers_for_one_detector_and_its_categories_alone(kind: str, inline: bool) -> None:
    """Of one version: a second detector of a model, a detector with another id, findings that count as something else."""
    cache = Cache(1_000_000)

    def read(name: str, category: str, text: str) -> list[tuple[str, str]]:
        told = (Finding(name, category, None, "x", 1, Span(0, 1)),)
        model = Model(lambda texts: [told for _ in texts])
        model.id = name
        detectors: dict[str, Detector] = {
            "local": {name: Fake(lambda text, start, final: Scan(told, len(text)), name)},
            "window": {name: model},
            "judge": {name: Judge(name, told)},
        }[kind]  # type: ignore[assignment]
        runner = Runner(
            detectors, {}, cache=cache, categories={name: frozenset((category,))}, inline=frozenset((name,) if inline else ())
        )
        (one,) = asyncio.run(runner.examine([text], frozenset((name,)), "t", 20))
        runner.close()
        return [(finding.detector, finding.category) for some in one.findings for finding in some]

    for name, category in (("a", "c"), ("b", "c"), ("a", "d"), ("a", "c")):
        assert read(name, category, "One text.") == [(name, category)]


def test_same_with_the_real_thing_whatever_way_it_runs() -> None:
    texts = [TEXT, TEXT * 30, "", "我的卡号4111111111111111，谢谢" * 100]
    cache = Cache(1_000_000)
    runner = Runner({"real": REAL}, {"real": 5.0}, inline=frozenset({"real"}), cache=cache)

    async def main() -> None:
        wanted = frozenset({"real"})
        once = [(await runner.examine([text], wanted, "t", 100))[0] for text in texts]
        assert list(await runner.examine(texts, wanted, "t", 100)) == once
        assert cache.hits > 0
        for text, one in zip(texts, once, strict=True):
            plain = normalise(text)
            spans = [plain.original(f.span.start, f.span.end) for f in REAL.scan(plain.text, 0, True).findings if f.span]
            assert [f.span for findings in one.findings for f in findings] == spans

    asyncio.run(main())
    runner.close()


def test_a_long_text_does_not_keep_a_short_one_waiting() -> None:
    """With one thread: the short text is read after some windows of the long one, not after all of them."""
    model = Model(lambda texts: [() for _ in texts], batch=1)
    runner = Runner({"model": model}, {"model": 5.0}, workers=Workers(threads=1))

    async def main() -> None:
        wanted = frozenset({"model"})
        long = asyncio.create_task(runner.examine(["".join(f"Sentence {n} here. " for n in range(100))], wanted, "t", 20))
        await asyncio.sleep(0)
        await asyncio.gather(long, runner.examine(["short"], wanted, "t", 20))

    asyncio.run(main())
    runner.close()
    order = [one.text for one in model.asked]
    assert len(order) == 51
    assert order.index("short") <= 2 * TURN


@pytest.mark.parametrize(("fails", "expected"), [((), "aaaaaaaaaa"), ((0,), "UUUUUUUUUU"), ((4,), "aaaaUUUUUU"), ((8,), "aaaaaaaaUU")])
def test_a_part_that_failed_leaves_the_rest_unknown(fails: tuple[int, ...], expected: str) -> None:
    lost, asked = Unknown("model", Cause.TIMEOUT), []

    async def run(some: Sequence[int]) -> Sequence[str | Unknown] | Unknown:
        asked.append(list(some))
        return lost if some[0] in fails else ["a"] * len(some)

    found = asyncio.run(by_turns(run, range(10), 4))
    assert not isinstance(found, Unknown)
    assert "".join("U" if isinstance(one, Unknown) else one for one in found) == expected
    assert asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]][: len(asked)]
    assert len(asked) == (fails[0] // 4 + 1 if fails else 3), "and is not tried"
