"""Questions to judges: places, time-outs, giving up, and whatever a judge does is an answer or Unknown."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from moderation.detect.api import Passage
from moderation.detect.run.questions import Questions
from moderation.verdict import Cause, Finding, Unknown

FOUND = (Finding("judge", "violence", None, "violence", 900_000, None),)
Ask = Callable[[Passage], Awaitable[Any]]


class Judge:
    """Does what it is told, and counts."""

    id = "judge"
    version = "1"
    why = None

    def __init__(self, ask: Ask, at_once: int = 4) -> None:
        self.at_once = at_once
        self.asked = self.under_way = self.most = self.closed = 0
        self._ask = ask

    async def ask(self, passage: Passage) -> Any:
        self.asked += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            return await self._ask(passage)
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        self.closed += 1


def asked(judge: Judge, count: int, timeout: float = 5.0, **more: Any) -> list[Any]:
    passages = [Passage(str(number)) for number in range(count)]
    questions = Questions({"judge": judge}, {"judge": timeout})
    return asyncio.run(asyncio.wait_for(questions.ask("judge", passages, **more), 20))


async def hang(passage: Passage) -> Any:
    await asyncio.Event().wait()


def giving(answer: object) -> Ask:
    async def ask(passage: Passage) -> Any:
        return answer

    return ask


def raising(error: BaseException) -> Ask:
    async def ask(passage: Passage) -> Any:
        raise error

    return ask


def test_answers_come_in_the_order_of_the_passages() -> None:
    async def ask(passage: Passage) -> Any:
        for _ in range(5 - int(passage.text) % 5):
            await asyncio.sleep(0)
        return (Finding("judge", "c", None, "c", int(passage.text), None),)

    judge = Judge(ask)
    assert [one[0].score for one in asked(judge, 20)] == list(range(20))
    assert (judge.asked, judge.most, judge.under_way) == (20, 4, 0)


@pytest.mark.parametrize(
    ("ask", "cause", "note"),
    [
        (hang, Cause.TIMEOUT, "hangs"),
        (raising(RuntimeError("x")), Cause.ERROR, "raises"),
        (raising(TimeoutError()), Cause.ERROR, "raises what looks like our own time-out"),
        (giving(None), Cause.INVALID, "says nothing"),
        (giving([]), Cause.INVALID, "a list"),
        (giving("safe"), Cause.INVALID, "a word"),
        (giving(("safe",)), Cause.INVALID, "words"),
        (giving((Finding("other", "c", None, "c", 1, None),)), Cause.INVALID, "in another's name"),
        (giving((Finding("judge", "c", None, "c", 1_000_001, None),)), Cause.INVALID, "more than all"),
        (giving(Unknown("other", Cause.TIMEOUT)), Cause.INVALID, "Unknown, in another's name"),
        (giving(Unknown("judge", Cause.TOO_LARGE)), Cause.TOO_LARGE, "Unknown"),
    ],
)
def test_whatever_it_does_is_an_answer_or_unknown(ask: Ask, cause: Cause, note: str) -> None:
    assert asked(Judge(ask), 1, timeout=0.05) == [Unknown("judge", cause)], note


def test_a_judge_that_is_gone_costs_one_time_out() -> None:
    judge = Judge(hang)
    assert asked(judge, 50, timeout=0.05) == [Unknown("judge", Cause.TIMEOUT)] * 4 + [Unknown("judge", Cause.UNAVAILABLE)] * 46
    assert judge.asked == 4


def test_answers_in_between_keep_it_asked() -> None:
    async def ask(passage: Passage) -> Any:
        if int(passage.text) % 4:
            raise RuntimeError
        return FOUND

    judge = Judge(ask)
    answers = asked(judge, 40)
    assert judge.asked == 40
    assert answers == [Unknown("judge", Cause.ERROR) if number % 4 else FOUND for number in range(40)]


def test_texts_that_it_does_not_take_are_no_failures() -> None:
    judge = Judge(giving(Unknown("judge", Cause.TOO_LARGE)))
    assert asked(judge, 20) == [Unknown("judge", Cause.TOO_LARGE)] * 20
    assert judge.asked == 20


def test_who_waited_is_not_asked_about_once_it_is_known_to_be_dead() -> None:
    alive = [True]

    async def ask(passage: Passage) -> Any:
        alive[0] = int(passage.text) < 6
        return FOUND

    judge = Judge(ask, at_once=1)
    answers = asked(judge, 10, asks=lambda: alive[0])
    assert answers == [FOUND] * 7 + [Unknown("judge", Cause.UNAVAILABLE)] * 3


def test_places_are_shared_by_all_who_ask() -> None:
    async def ask(passage: Passage) -> Any:
        await asyncio.sleep(0)
        return FOUND

    judge = Judge(ask, at_once=3)

    async def go() -> None:
        questions = Questions({"judge": judge}, {"judge": 5.0})
        await asyncio.gather(*(questions.ask("judge", [Passage("x")] * 5) for _ in range(6)))

    asyncio.run(go())
    assert (judge.asked, judge.most) == (30, 3)


def test_cancelling_ends_every_question_and_frees_its_place() -> None:
    judge = Judge(hang)

    async def go() -> None:
        questions = Questions({"judge": judge}, {"judge": 60.0})
        task = asyncio.create_task(questions.ask("judge", [Passage("x")] * 9))
        for _ in range(10):
            await asyncio.sleep(0)
        assert judge.under_way == 4
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert judge.under_way == 0
        judge._ask = giving(FOUND)
        assert await questions.ask("judge", [Passage("x")] * 9) == [FOUND] * 9

    asyncio.run(asyncio.wait_for(go(), 20))


def test_connections_end_on_the_loop_that_asked_whoever_leaves() -> None:
    judge = Judge(giving(FOUND))

    async def go() -> None:
        questions = Questions({"judge": judge}, {})
        questions.leave()
        await asyncio.sleep(0)
        assert judge.closed == 0, "nothing was asked, so nothing is open"
        await questions.ask("judge", [Passage("x")])
        await asyncio.to_thread(questions.leave)
        for _ in range(5):
            await asyncio.sleep(0)
        assert judge.closed == 1
        await questions.end()
        assert judge.closed == 2

    asyncio.run(asyncio.wait_for(go(), 20))


def test_leaving_after_the_loop_is_closed_is_no_error() -> None:
    judge = Judge(giving(FOUND))
    questions = Questions({"judge": judge}, {})
    asyncio.run(questions.ask("judge", [Passage("x")]))
    questions.leave()
    assert judge.closed == 0
