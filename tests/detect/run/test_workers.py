"""Threads that are given up when they do not come back, and never kept waiting for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from moderation.detect.run.workers import GivenUp, Overloaded, Workers


def stall(seconds: float) -> None:
    """Keep the event loop from everything else."""
    time.sleep(seconds)


def test_results_come_back_and_threads_are_few() -> None:
    workers = Workers(threads=2)
    names: set[int] = set()

    def work(number: int) -> int:
        names.add(threading.get_ident())
        time.sleep(0.002)
        return number * 2

    async def main() -> list[int]:
        return list(await asyncio.gather(*(workers.run(lambda beat, n=n: work(n), 5.0) for n in range(40))))  # type: ignore[misc]

    assert asyncio.run(main()) == [n * 2 for n in range(40)]
    assert len(names) == 2
    workers.close()


def test_waiting_for_a_thread_is_no_fault_of_the_job() -> None:
    workers = Workers(threads=1)
    gate = threading.Event()

    async def main() -> None:
        first = asyncio.create_task(workers.run(lambda beat: gate.wait(10), 5.0))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(workers.run(lambda beat: "second", 0.05))
        await asyncio.sleep(0.2)
        assert not second.done()
        gate.set()
        assert (await first, await second) == (True, "second")

    asyncio.run(main())
    workers.close()


def test_what_is_cancelled_while_it_waits_never_runs() -> None:
    workers = Workers(threads=1)
    gate = threading.Event()
    ran: list[str] = []

    async def main() -> None:
        first = asyncio.create_task(workers.run(lambda beat: gate.wait(10), 5.0))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(workers.run(lambda beat: ran.append("second"), 5.0))
        await asyncio.sleep(0.02)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert workers.lost == 0
        gate.set()
        assert await first
        await workers.run(lambda beat: ran.append("third"), 5.0)

    asyncio.run(main())
    assert ran == ["third"]
    workers.close()


def test_long_work_that_shows_life_is_waited_for_and_leaves_when_nobody_does() -> None:
    workers = Workers(threads=1)
    left = threading.Event()

    def work(beat: Callable[[], None], turns: int) -> str:
        try:
            for _ in range(turns):
                time.sleep(0.02)
                beat()
        except GivenUp:
            left.set()
            raise
        return "done"

    async def main() -> None:
        assert await workers.run(lambda beat: work(beat, 20), 0.2) == "done"
        task = asyncio.create_task(workers.run(lambda beat: work(beat, 10_000), 0.2))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert left.wait(5)
    workers.close()


def test_a_job_without_a_sign_of_life_is_given_up() -> None:
    workers = Workers(threads=1)
    gate = threading.Event()

    async def main() -> None:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await workers.run(lambda beat: gate.wait(10), 0.05)
        assert time.monotonic() - begun < 2
        assert workers.lost == 1
        assert await workers.run(lambda beat: "another thread", 5.0) == "another thread"
        gate.set()

    asyncio.run(main())
    workers.close()


def test_however_much_waits_none_is_refused() -> None:
    workers = Workers(threads=1)
    gate = threading.Event()

    async def main() -> None:
        first = asyncio.create_task(workers.run(lambda beat: gate.wait(10), 5.0))
        await asyncio.sleep(0.02)
        more = [asyncio.create_task(workers.run(lambda beat: "done", 0.01)) for _ in range(3000)]
        await asyncio.sleep(0.05)
        gate.set()
        assert await first
        assert set(await asyncio.gather(*more)) == {"done"}

    asyncio.run(main())
    workers.close()


def test_a_busy_event_loop_is_no_fault_of_the_job() -> None:
    """The job is done long before its time is over; the loop hears of it long after."""
    workers = Workers(threads=1)

    async def main() -> None:
        job = asyncio.create_task(workers.run(lambda beat: "done", 0.05))
        await asyncio.sleep(0)
        stall(0.2)
        assert await job == "done"

    asyncio.run(main())
    workers.close()


def test_a_wait_that_wakes_late_proves_nothing_about_the_thread() -> None:
    """As where the whole process got no time: the thread is asked for a sign of life once more."""
    workers = Workers(threads=1)

    async def main() -> None:
        gate = threading.Event()
        job = asyncio.create_task(workers.run(lambda beat: gate.wait(10), 0.1))
        await asyncio.sleep(0.02)
        stall(0.3)
        await asyncio.sleep(0.03)
        gate.set()
        assert await job
        gate.clear()
        job = asyncio.create_task(workers.run(lambda beat: gate.wait(10), 0.1))
        await asyncio.sleep(0.02)
        stall(0.3)
        with pytest.raises(TimeoutError):
            await job
        gate.set()

    asyncio.run(main())
    workers.close()


async def cancelled(workers: Workers, work: Callable[[Callable[[], None]], object], timeout: float) -> None:
    """Have work begun that nobody waits for."""
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin(beat: Callable[[], None]) -> object:
        loop.call_soon_threadsafe(begun.set)
        return work(beat)

    task = asyncio.create_task(workers.run(begin, timeout))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_cancelled_wait_frees_its_place_when_its_time_is_over() -> None:
    workers = Workers(threads=1)
    gate = threading.Event()

    async def main() -> None:
        await cancelled(workers, lambda beat: gate.wait(10), 0.1)
        assert workers.lost == 0
        assert await workers.run(lambda beat: "next", 5.0) == "next"
        assert workers.lost == 1
        gate.set()

    asyncio.run(main())
    workers.close()


def test_clients_that_leave_do_not_make_a_detector_hung() -> None:
    """Who cancels while a thread is at work proves nothing against the work: others are not refused for it, but wait."""
    workers = Workers(threads=2, most_lost=4, most_lost_each=2)
    gate, threads = threading.Event(), set[int]()

    def work(beat: Callable[[], None]) -> str:
        threads.add(threading.get_ident())
        gate.wait(10)
        return "done"

    async def main() -> None:
        for _ in range(2):
            await cancelled(workers, work, 5.0)
        honest = [asyncio.create_task(workers.run(work, 5.0)) for _ in range(4)]
        await asyncio.sleep(0)
        assert (workers.lost, workers.waiting) == (0, 4)
        gate.set()
        assert await asyncio.gather(*honest) == ["done"] * 4

    asyncio.run(main())
    assert len(threads) == 2
    workers.close()


def test_a_thread_that_leaves_work_nobody_waits_for_goes_on_with_the_next() -> None:
    workers = Workers(threads=1)

    def endless(beat: Callable[[], None]) -> None:
        while True:
            time.sleep(0.005)
            beat()

    async def main() -> None:
        for _ in range(3):
            await cancelled(workers, endless, 5.0)
            assert await workers.run(lambda beat: "next", 5.0) == "next"
        assert workers.lost == 0

    asyncio.run(main())
    workers.close()


def test_closed_takes_nothing_more() -> None:
    workers = Workers()
    workers.close()

    async def main() -> None:
        with pytest.raises(Overloaded):
            await workers.run(lambda beat: None, 1.0)

    asyncio.run(main())


class Work:
    """A job that tells when nobody holds it."""

    def __call__(self, beat: object) -> None: ...


def test_a_thread_without_work_keeps_nothing_of_the_last() -> None:
    workers = Workers(threads=1)
    gone = threading.Event()

    async def main() -> None:
        work = Work()
        weakref.finalize(work, gone.set)
        await workers.run(work, 5.0)

    asyncio.run(main())
    assert gone.wait(5)
    workers.close()


HUNG = """
import asyncio, time
from moderation.detect.run.workers import Workers
async def main():
    try:
        await Workers(1).run(lambda beat: time.sleep(60), 0.05)
    except TimeoutError:
        print("over")
asyncio.run(main())
"""


def test_a_hung_thread_does_not_keep_the_process() -> None:
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HUNG], capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.strip(), done.returncode) == ("over", 0), done.stderr
    assert time.monotonic() - begun < 10
