"""Who is admitted, and how those who are not are told."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import CODES, Refused
from moderation.flow.admission import BEAT, Admission, Admitted, Reason
from moderation.metrics import VOCABULARY
from tests.fakes import Hold, Pause, Script, ask, json_script, sse, stream_script
from tests.kitchen import Kitchen, answer, chunk


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def admission(requests: int = 1000, memory: int = 1000, wait: float = 1.0, slots: int = 2) -> tuple[Admission, Clock, list[str]]:
    clock, reasons = Clock(), list[str]()
    return Admission(requests, memory, wait, clock=clock, slots=slots, refused=reasons.append), clock, reasons


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


def refused(work: Callable[[], object]) -> bool:
    """Whether it is; in the one way in which admission refuses."""
    try:
        work()
    except Refused as error:
        return error.code == "overloaded"
    return False


def test_so_many_requests_and_no_more() -> None:
    door, _, reasons = admission(requests=2)
    first = door.enter(0)
    door.enter(0)
    assert refused(lambda: door.enter(0))
    first.leave()
    assert not refused(lambda: door.enter(0))
    assert (door.in_flight, reasons) == (2, ["requests"])


def test_bodies_are_counted_as_they_come() -> None:
    door, _, reasons = admission(memory=100)
    alone = door.enter(None)
    alone.read(90)
    alone.read(90)  # more than there is; but nobody else holds anything, so to wait would not help
    other = door.enter(0)
    assert door.held == 180
    assert refused(lambda: other.read(1))
    assert refused(lambda: door.enter(1)), "one that says what it needs is refused at once"
    alone.leave()
    other.read(60)
    third = door.enter(40)
    assert refused(lambda: third.read(41))
    third.read(40)
    assert door.held == 100
    other.leave()
    third.leave()
    assert (door.held, door.in_flight, reasons) == (0, 0, ["memory"] * 3)


def test_who_announces_much_and_sends_nothing_takes_no_room() -> None:
    door, _, _ = admission(memory=100)
    for _ in range(50):
        door.enter(100)
    assert not refused(lambda: door.enter(100).read(100))


def test_an_answer_is_never_refused_and_leaves_less_room() -> None:
    door, _, _ = admission(memory=100)
    one = door.enter(10)
    one.read(10)
    one.add(500)
    assert refused(lambda: door.enter(1))
    one.leave()
    assert door.held == 0


WAITS: list[tuple[str, float, bool]] = [
    ("the beat is on time", BEAT, False),
    ("it is late, as after a burst", BEAT + 0.9, False),
    ("it is too late: what became ready since then takes too long already", BEAT + 1.1, True),
]


@pytest.mark.parametrize(("note", "since", "told"), WAITS, ids=[row[0] for row in WAITS])
def test_an_event_loop_that_does_not_come_round(note: str, since: float, told: bool) -> None:
    door, clock, reasons = admission()
    door.beat()
    clock.now += since
    assert refused(lambda: door.enter(0)) is told, note
    assert reasons == ["waiting"] * told
    door.beat()
    assert not refused(lambda: door.enter(0)), "it is over with the next beat"


def test_without_beats_and_with_0_nothing_is_refused_for_waiting() -> None:
    door, clock, _ = admission()
    clock.now += 1000
    assert not refused(lambda: door.enter(0)), "nobody has measured yet"
    door, clock, _ = admission(wait=0)
    door.beat()
    clock.now += 1000
    assert not refused(lambda: door.enter(None))


def test_slots_are_few_and_are_had_in_order() -> None:
    async def go() -> None:
        waited: list[float] = []
        clock = Clock()
        door = Admission(1000, 1000, 1.0, clock=clock, slots=2, waited=waited.append)
        had: list[int] = []

        async def one(number: int, ends: asyncio.Event) -> None:
            admitted = door.enter(0)
            await admitted.slot()
            had.append(number)
            await ends.wait()
            admitted.judged()
            admitted.judged()  # a second word changes nothing
            admitted.leave()

        ends = [asyncio.Event() for _ in range(5)]
        tasks = [asyncio.create_task(one(number, end)) for number, end in enumerate(ends)]
        await settle()
        assert had == [0, 1]
        clock.now += 0.9
        assert not refused(lambda: door.enter(0).leave())
        tasks[2].cancel()  # its client has left
        await settle()
        clock.now += 0.2
        assert refused(lambda: door.enter(0)), "the oldest has waited too long"
        ends[1].set()
        await settle()
        assert had == [0, 1, 3]
        assert refused(lambda: door.enter(0)), "so has the next"
        for end in ends:
            end.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert had == [0, 1, 3, 4]
        assert waited == pytest.approx([0, 0, 1.1, 1.1])
        await settle()
        again = [door.enter(0) for _ in range(2)]
        for admitted in again:
            await asyncio.wait_for(admitted.slot(), 1)

    run(go())


def test_a_slot_that_is_given_as_its_request_is_cancelled_goes_on_to_the_next() -> None:
    async def go() -> None:
        door, _, _ = admission(slots=1)
        first, second, third = (door.enter(0) for _ in range(3))
        await first.slot()
        waiting = asyncio.create_task(second.slot())
        last = asyncio.create_task(third.slot())
        await settle()
        door.next()  # the slot is given to the second
        waiting.cancel()
        await settle()
        assert second.judging
        second.leave()
        await asyncio.wait_for(last, 1)

    run(go())


def test_no_more_begin_each_time_round_than_there_are_slots() -> None:
    """What is judged without a pause gives its slot back at once; the event loop must come round all the same."""
    async def go() -> None:
        door, _, _ = admission(slots=2)
        begun: list[int] = []
        round_ = 0

        async def one() -> None:
            admitted = door.enter(0)
            await admitted.slot()
            begun.append(round_)
            admitted.leave()

        tasks = [asyncio.create_task(one()) for _ in range(20)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            round_ += 1
        assert max(begun.count(each) for each in begun) <= 2

    run(go())


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_every_reason_has_its_word_in_the_metrics_and_its_code_tells_when_to_come_back() -> None:
    assert set(Reason) == VOCABULARY["reason"]
    assert all(code.after for code in CODES.values() if code.status == 503), "each 503 says when to try again"


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60), st.booleans())))
def test_nothing_is_lost_or_counted_twice(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever comes and goes: never more in flight than allowed, bodies beyond the room only where one is alone, 0 at the end."""
    door, _, _ = admission(requests=5, memory=100)
    inside: list[Admitted] = []
    for which, size, comes in steps:
        if comes:
            if not refused(lambda size=size: inside.append(door.enter(size))):  # type: ignore[misc]
                one = inside[-1]
                if refused(lambda one=one, size=size: one.read(size)):  # type: ignore[misc]
                    inside.remove(one)
                    one.leave()
        elif inside:
            inside.pop(which % len(inside)).leave()
        assert door.in_flight == len(inside) <= 5
        assert door.held == sum(one.held for one in inside) <= 100
    for one in inside:
        one.leave()
    assert (door.in_flight, door.held) == (0, 0)


# --- in the house

MODERATED = {"messages": [{"role": "user", "content": "hi"}]}
PATHS: list[tuple[str, str, object, str]] = [
    ("POST", "/v1/chat/completions", MODERATED, "refused"),
    ("POST", "/moderate", {"text": "hi"}, "refused"),
    ("POST", "/v1/moderations", {"input": "hi"}, "refused"),
    ("GET", "/v1/models", None, "refused"),
    ("GET", "/healthz", None, "answered"),
    ("GET", "/readyz", None, "answered"),
    ("GET", "/metrics", None, "answered"),
    ("GET", "/docs", None, "answered"),
]


@pytest.mark.parametrize("reason", ["requests", "memory", "waiting"])
def test_what_is_refused_and_what_never_is(tmp_path: Path, reason: str) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            door = kitchen.house.sidecar.admission
            match reason:
                case "requests":
                    door.in_flight = 1000
                case "memory":
                    door.held = 1 << 30
                case _:
                    door._beat_at = -1000.0
            asked = 0
            for method, path, body, what in PATHS:
                reply = await kitchen.ask(method, path, body)
                if what == "answered" or (reason == "memory" and body is None):
                    assert reply.status == 200, path
                    continue
                asked += 1
                assert (reply.status, reply.json["error"]["code"]) == (503, "overloaded"), path
                assert reply.header("retry-after") == "1"
                assert reply.header("x-should-retry") is None
                assert reply.header("x-request-id") == reply.json["request_id"]
            assert not kitchen.rows(), "nothing was read, so nothing was decided"
            assert not [one for one in kitchen.upstream.received if one.body]
            text = kitchen.metrics.text().decode()
            assert f'moderation_admission_refused_total{{reason="{reason}"}} {asked}.0' in text
            assert f'moderation_refused_total{{code="overloaded"}} {asked}.0' in text
            door.in_flight, door.held, door._beat_at = 0, 0, None
            assert (await kitchen.chat("hi")).status == 200

    run(go())


def test_streams_that_wait_for_a_slow_upstream_are_no_overload(tmp_path: Path) -> None:
    """As many as the setting allows; one more is another matter."""
    more = asyncio.Event()
    count = 200  # the setting's default is 1000; connections cost the test more than the sidecar

    async def go() -> None:
        script = stream_script(*sse(chunk({"content": "One. "}), done=False), Hold(more), *sse(chunk({}, "stop")))
        async with Kitchen(tmp_path, script, max_streams=str(count + 1)) as kitchen:
            kitchen.house.watch()
            raw = json.dumps({**MODERATED, "stream": True}).encode()
            replies = await asyncio.gather(*(kitchen.send("POST", "/v1/chat/completions", raw) for _ in range(count)))
            assert kitchen.house.sidecar.in_flight == count
            await asyncio.sleep(4 * BEAT)
            assert (await kitchen.ask("POST", "/moderate", {"text": "hi"})).status == 200
            more.set()
            for reply in replies:
                await reply.read_all()
                assert reply.body.endswith(b"[DONE]\n\n")
            assert (kitchen.house.sidecar.in_flight, kitchen.house.sidecar.admission.held) == (0, 0)

    run(go())


def test_a_burst_of_128_is_answered(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            kitchen.house.watch()
            replies = await asyncio.gather(*(kitchen.chat(f"hello {number}") for number in range(128)))
            assert {reply.status for reply in replies} == {200}

    run(go())


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_client_in_mid_upload_reads_its_503(tmp_path: Path, framing: str) -> None:
    """It writes all of its body before it looks for an answer, as most clients do."""
    size = 3 << 20

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            kitchen.house.sidecar.admission.in_flight = 1000
            if framing == "length":
                head, body = b"content-length: %d\r\n\r\n" % size, b"x" * size
            else:
                head, body = b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65_536 + b"\r\n"
                body = body * (size // 65_536) + b"0\r\n\r\n"

            def upload() -> bytes:
                with socket.create_connection(("127.0.0.1", kitchen.port), timeout=20) as link:
                    link.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n" + head + body)
                    parts = []
                    while part := link.recv(65_536):
                        parts.append(part)
                    return b"".join(parts)

            got = await asyncio.to_thread(upload)
            assert got.startswith(b"HTTP/1.1 503 ")
            assert b"connection: close" in got
            assert got.endswith(b"}")
            assert kitchen.house.sidecar.admission.held == 0

    run(go())


def test_a_short_request_keeps_its_connection(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer())) as kitchen:
            reader, writer = await asyncio.open_connection("127.0.0.1", kitchen.port)
            raw = json.dumps(MODERATED).encode()
            for status in (b"503", b"503", b"200"):
                kitchen.house.sidecar.admission.in_flight = 1000 if status == b"503" else 0
                writer.write(b"POST /moderate HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw))
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.split()[1] == status
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
            writer.close()

    run(go())


def test_bodies_that_would_fill_the_memory_are_refused_and_those_inside_are_finished(tmp_path: Path) -> None:
    """Chunked, so that nothing is known of their length; the first stays half sent while others try."""
    go_on = asyncio.Event()
    text = "a" * 40_000
    raw = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    chunked = [("transfer-encoding", "chunked"), ("connection", "close")]

    async def go() -> None:
        slow = Script([Hold(go_on), json.dumps(answer()).encode()])
        async with Kitchen(tmp_path, slow, max_memory="100000") as kitchen:
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(raw), raw)
            first = [asyncio.create_task(ask(kitchen.port, "POST", "/v1/chat/completions", body, chunked)) for _ in range(2)]
            while len(kitchen.upstream.received) < 2:  # noqa: ASYNC110 - the fake has a list, no event
                await asyncio.sleep(0.005)
            for _ in range(3):
                reply = await ask(kitchen.port, "POST", "/v1/chat/completions", body, chunked)
                await reply.read_all()
                assert (reply.status, reply.json["error"]["code"]) == (503, "overloaded")
                assert reply.header("retry-after") == "1"
            known = await kitchen.send("POST", "/v1/chat/completions", raw)
            assert known.status == 503
            assert kitchen.house.sidecar.admission.held == 2 * len(raw)
            go_on.set()
            for task in first:
                assert (await task).status == 200
            assert (await kitchen.chat(text)).status == 200

    run(go())


async def cut_off(writer: asyncio.StreamWriter) -> bool:
    """Whether the other side ends a connection over which much more than it wants is sent."""
    try:
        for _ in range(2000):
            writer.write(b"4000\r\n" + b"x" * 16_384 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        return True
    return False


def test_a_refused_body_is_taken_in_up_to_a_bound(tmp_path: Path) -> None:
    """It is let go after as much as a body may have, whatever it still has to say."""
    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer()), max_body="100000") as kitchen:
            kitchen.house.sidecar.admission.in_flight = 1000
            reader, writer = await asyncio.open_connection("127.0.0.1", kitchen.port)
            writer.write(b"POST /moderate HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
            assert await cut_off(writer)
            writer.close()

    run(go())


def test_nothing_waits_for_a_body_after_the_answer(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, Script([Pause(0)])) as kitchen:
            kitchen.house.sidecar.admission.in_flight = 1000
            reply = await ask(kitchen.port, "POST", "/moderate", b"", [("content-length", "5000000")])
            assert reply.status == 503
            await reply.read_all()  # it is whole, though the body has not even begun
            reply.close()

    run(go())
