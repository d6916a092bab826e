"""The breaker: opens only on a trial, closes only on one, and no text from outside can switch a detector off for others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from moderation.detect.run import TRIAL, Runner
from moderation.detect.run.breaker import Breaker, Limits, State
from moderation.detect.run.workers import Workers
from moderation.verdict import Cause, Unknown
from tests.audit.test_store import until
from tests.detect.run.test_runner import Fake, Model

LIMITS = Limits(failures=3, within=10.0, pause=1.0, longest=4.0)


class Life(RuleBasedStateMachine):
    """Calls, answers, failures and trials in any order, beside the plainest account of what they mean."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(LIMITS)
        self.now = 100.0
        self.streak: list[float] = []
        self.trying = False
        self.rest = float("-inf")
        self.pause = LIMITS.pause

    @rule(seconds=st.floats(0.0, 6.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_call_is_answered(self) -> None:
        self.breaker.answered()
        self.streak.clear()

    @rule()
    def a_call_fails(self) -> None:
        self.streak.append(self.now)
        doubt = self.breaker.failed(self.now)
        recent = len(self.streak) >= LIMITS.failures and self.now - self.streak[-LIMITS.failures] <= LIMITS.within
        wanted = recent and self.breaker.state is State.CLOSED and not self.trying and self.now >= self.rest
        assert doubt is wanted
        self.trying = self.trying or doubt

    @precondition(lambda self: self.breaker.state is State.OPEN)
    @rule()
    def the_pause_is_over(self) -> None:
        self.breaker.try_again()
        assert self.breaker.state is State.HALF_OPEN
        self.trying = True

    @precondition(lambda self: self.trying)
    @rule(well=st.booleans())
    def a_trial_ends(self, well: bool) -> None:
        closed = self.breaker.state is State.CLOSED
        pause = self.breaker.tried(well, self.now)
        self.trying = False
        if well or (closed and len(self.streak) < LIMITS.failures):
            assert (pause, self.breaker.state) == (None, State.CLOSED)
            self.streak.clear()
            self.rest, self.pause = self.now + LIMITS.pause, LIMITS.pause
        else:
            assert (pause, self.breaker.state) == (self.pause, State.OPEN)
            self.pause = min(self.pause * 2, LIMITS.longest)

    @invariant()
    def only_a_trial_keeps_it_from_being_asked(self) -> None:
        assert self.breaker.state is not State.HALF_OPEN or self.trying


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


class Bench:
    """A runner with one detector that needs threads, and what it told."""

    def __init__(self, answer: Callable[[Sequence[str]], object], *, timeout: float = 0.02, workers: Workers | None = None) -> None:
        self.model = Model(answer)
        self.told: list[State] = []
        self.causes: list[Cause | None] = []
        self.runner = Runner(
            {"model": self.model}, {"model": timeout}, observe=lambda name, seconds, cause: self.causes.append(cause),
            tell=lambda name, state: self.told.append(state), workers=workers,
            breaker=lambda: Breaker(Limits(failures=3, within=30.0, pause=0.02, longest=0.05)),
        )

    async def ask(self, text: str, tenant: str = "t") -> Cause | None:
        (one,) = await self.runner.examine([text], frozenset({"model"}), tenant, 1000)
        return one.unknown[0][0].cause if one.unknown[0] else None

    async def trials(self, count: int) -> None:
        await until(lambda: sum(batch == [TRIAL] for batch in self.model.batches) >= count)

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.model.batches for text in batch if text != TRIAL]


def test_a_dead_detector_is_not_asked_and_comes_back() -> None:
    dead = [True]

    def answer(texts: Sequence[str]) -> object:
        if dead[0]:
            raise RuntimeError
        return [() for _ in texts]

    async def main() -> None:
        bench = Bench(answer)
        assert [await bench.ask(f"text {number}") for number in range(3)] == [Cause.ERROR] * 3
        await until(lambda: State.OPEN in bench.told)
        asked = len(bench.texts)
        assert [await bench.ask(f"more {number}") for number in range(20)] == [Cause.UNAVAILABLE] * 20
        assert len(bench.texts) == asked == 3
        assert bench.causes.count(Cause.UNAVAILABLE) == 20
        await bench.trials(4)
        dead[0] = False
        await until(lambda: bench.told[-1] is State.CLOSED)
        assert await bench.ask("well") is None
        assert bench.told[:2] == [State.OPEN, State.HALF_OPEN]
        assert bench.told[-2:] == [State.HALF_OPEN, State.CLOSED]
        bench.runner.close()

    asyncio.run(main())


def test_a_hung_detector_costs_its_time_out_a_few_times_and_its_threads_are_bounded() -> None:
    stuck = threading.Event()

    async def main() -> None:
        workers = Workers(threads=2)
        bench = Bench(lambda texts: [() for _ in texts] if stuck.wait(20) else None, workers=workers)
        well = Runner({"well": Model(lambda texts: [() for _ in texts])}, {"well": 5.0}, workers=workers)
        causes = [await bench.ask(f"text {number}") for number in range(3)]
        assert causes == [Cause.TIMEOUT] * 3
        await until(lambda: State.OPEN in bench.told)
        await until(lambda: workers.lost == 8)  # trials go on, and then none can be had
        begun = time.monotonic()
        assert {await bench.ask(f"more {number}") for number in range(200)} == {Cause.UNAVAILABLE}
        assert time.monotonic() - begun < 200 * 0.02 / 2, "no time-out is waited for"
        (one,) = await well.examine(["others go on"], frozenset({"well"}), "t", 1000)
        assert one.unknown == ((),)
        assert workers.lost == 8
        stuck.set()
        await until(lambda: bench.told[-1] is State.CLOSED)
        assert (await bench.ask("well"), workers.lost) == (None, 0)
        bench.runner.close()

    asyncio.run(main())


def evil(texts: Sequence[str]) -> object:
    """A detector that some texts break, and others not."""
    if any("evil" in text for text in texts):
        raise RecursionError
    return [() for _ in texts]


def test_no_text_from_outside_switches_a_detector_off() -> None:
    """An attacker alone with the detector, with ever new texts, under many names: others are still judged."""

    async def main() -> None:
        bench = Bench(evil)
        for number in range(200):
            assert await bench.ask(f"evil {number}", f"tenant {number % 7}") is Cause.ERROR
            if not number % 50:
                assert await bench.ask(f"harmless {number}") is None
        assert bench.told == []
        assert bench.runner.state("model") is State.CLOSED
        assert 0 < sum(batch == [TRIAL] for batch in bench.model.batches) <= 200 // 3, "and trials are few"
        bench.runner.close()

    asyncio.run(main())


@pytest.mark.parametrize("cause", [Cause.UNSUPPORTED, Cause.TOO_LARGE])
def test_what_a_detector_says_of_a_text_is_no_failure_of_it(cause: Cause) -> None:
    async def main() -> None:
        bench = Bench(lambda texts: [Unknown("model", cause) for _ in texts])
        assert {await bench.ask(f"text {number}") for number in range(30)} == {cause}
        assert (bench.told, len(bench.texts), len(bench.model.batches)) == ([], 30, 30)
        bench.runner.close()

    asyncio.run(main())


def test_texts_that_hang_a_detector_for_good_are_told_and_take_no_others_threads() -> None:
    """What no breaker can mend, because no thread can be killed: but it is bounded, and it shows."""
    stuck = threading.Event()

    def answer(texts: Sequence[str]) -> object:
        if any("evil" in text for text in texts):
            stuck.wait(20)
        return [() for _ in texts]

    async def main() -> None:
        workers = Workers(threads=2)
        bench = Bench(answer, workers=workers)
        for number in range(8):
            assert await bench.ask(f"evil {number}") is Cause.TIMEOUT
            assert await bench.ask(f"harmless {number}") is (None if number < 7 else Cause.UNAVAILABLE)
        for number in range(6):
            await bench.ask(f"harmless, too {number}")
        await until(lambda: bench.told[:1] == [State.OPEN])
        assert workers.lost == 8
        stuck.set()
        await until(lambda: bench.told[-1] is State.CLOSED)
        assert await bench.ask("harmless again") is None
        bench.runner.close()

    asyncio.run(main())


def test_a_pool_that_others_have_used_up_speaks_against_nobody() -> None:
    gate = threading.Event()

    async def main() -> None:
        workers = Workers(threads=1, most_lost=1)
        bench = Bench(lambda texts: [() for _ in texts], workers=workers)
        with pytest.raises(TimeoutError):
            await workers.run(lambda beat: gate.wait(10), 0.05, "another")
        assert {await bench.ask(f"text {number}") for number in range(10)} == {Cause.UNAVAILABLE}
        gate.set()
        await until(lambda: workers.lost == 0)
        assert (await bench.ask("text"), bench.told) == (None, [])
        bench.runner.close()

    asyncio.run(main())


def test_answers_between_failures_leave_no_doubt() -> None:
    async def main() -> None:
        bench = Bench(evil)
        for number in range(30):
            await bench.ask(f"{'evil' if number % 3 else 'harmless'} {number}")
        assert [TRIAL] not in bench.model.batches
        bench.runner.close()

    asyncio.run(main())


def test_a_local_detector_shares_it_where_it_needs_a_thread_and_not_where_it_is_quick() -> None:
    def broken(text: str, start: int, final: bool) -> object:
        raise MemoryError

    async def main() -> None:
        told: list[State] = []
        runner = Runner({"fake": Fake(broken)}, {"fake": 1.0}, inline=frozenset({"fake"}), tell=lambda _, state: told.append(state))
        for number in range(20):
            assert runner.scan_now(("fake",), f"text {number}", 0, True) == [Unknown("fake", Cause.ERROR)]
        assert told == []
        for number in range(5):
            assert await runner.scan(("fake",), frozenset(), f"text {number}", 0, True) == [Unknown("fake", Cause.ERROR)]
        await until(lambda: told)
        assert await runner.scan(("fake",), frozenset(), "text", 0, True) == [Unknown("fake", Cause.UNAVAILABLE)]
        assert runner.scan_now(("fake",), "text", 0, True) == [Unknown("fake", Cause.ERROR)]
        runner.close()

    asyncio.run(main())
