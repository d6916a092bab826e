"""Questions and answers between two ends, and what becomes of them when one is gone."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from moderation.channel import Channel


async def ends() -> tuple[Channel, Channel, list[tuple[str, Any]]]:
    """Two ends; the second doubles what it is asked, never answers `never`, and keeps what it hears."""
    heard: list[tuple[str, Any]] = []

    async def double(what: str, value: Any) -> object:
        heard.append((what, value))
        if what == "never":
            await asyncio.Event().wait()
        return value * 2

    async def nothing(what: str, value: Any) -> object:
        return None

    here, there = socket.socketpair()
    return await Channel.over(here, nothing), await Channel.over(there, double), heard


def test_answers_find_their_questions() -> None:
    async def go() -> None:
        here, there, heard = await ends()
        reading = [asyncio.create_task(end.run()) for end in (here, there)]
        never = asyncio.create_task(here.ask("never", 1))
        here.tell("told", "x\u2028\n")
        big = "y" * 300_000
        asked = asyncio.gather(here.ask("one", 1), here.ask("two", [2]), here.ask("big", big))
        assert tuple(await asked) == (2, [2, 2], big * 2)
        assert {what for what, _ in heard} == {"never", "told", "one", "two", "big"}
        assert ("told", "x\u2028\n") in heard
        reading[1].cancel()
        await asyncio.gather(reading[1], return_exceptions=True)
        await asyncio.wait_for(reading[0], 5)
        with pytest.raises(ConnectionError):
            await never
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(here.ask("one", 1), 5)
        here.tell("nobody hears this")

    asyncio.run(go())


def test_half_a_line_is_not_read() -> None:
    async def go() -> None:
        heard: list[str] = []

        async def hear(what: str, value: Any) -> object:
            heard.append(what)
            return None

        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours, hear)
        theirs.sendall(b'{"what": "all", "value": 1}\n{"what": "ha')
        theirs.close()
        await asyncio.wait_for(channel.run(), 5)
        assert heard == ["all"]

    asyncio.run(go())


def test_an_answer_that_fails_ends_the_channel() -> None:
    async def go() -> None:
        async def fail(what: str, value: Any) -> object:
            raise ZeroDivisionError

        ours, theirs = socket.socketpair()
        here, there = await Channel.over(ours, fail), await Channel.over(theirs, fail)
        reading = [asyncio.create_task(end.run()) for end in (here, there)]
        with pytest.raises(ConnectionError):  # nobody waits for an answer that will not come
            await asyncio.wait_for(here.ask("x"), 5)
        raised = await asyncio.gather(*reading, return_exceptions=True)
        assert raised[0] is None
        assert isinstance(raised[1], ExceptionGroup)

    asyncio.run(go())
