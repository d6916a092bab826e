"""What the log is told of one request: in order, once, and as durable as the route wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from moderation.audit.leaf import Body
from moderation.audit.record import Content, Names
from moderation.errors import LogError
from moderation.flow.ledger import Entry, Ledger
from moderation.text import Phase, Scope
from moderation.verdict import Action, Outcome, PolicyRef

REQUEST = "01M85W9RKH0XQ9VZ8W574Q3EE4"
QUIET = Outcome(Action.ALLOW, Action.ALLOW, (), (), False, None)


class Paper:
    """A log that keeps what it is told, or fails."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Body], bool]] = []
        self.broken = False

    async def append_all(self, bodies: Sequence[Body], *, strict: bool) -> object:
        if self.broken:
            raise LogError("the disk is full")
        self.batches.append((list(bodies), strict))
        return None


def entry(paper: Paper, strict: bool = True, salts: Sequence[bytes] = ()) -> Entry:
    salt = iter(salts)
    ledger = Ledger(paper, b"k" * 32, lambda size: next(salt, b"s" * size), "1")
    return ledger.entry(REQUEST, Scope(), PolicyRef("p", "ab" * 32), strict=strict, listed=Names(b"k" * 32))


def content(body: Body) -> dict[str, object]:
    found = body["content"]
    assert isinstance(found, dict)
    return found


def opened(one: Entry) -> None:
    one.open(endpoint="/chat/completions", client=None, user=None, model="m", stream=False)


def test_all_goes_down_in_order_and_once() -> None:
    paper = Paper()
    one = entry(paper)
    opened(one)
    assert one.decide(Phase.INPUT, QUIET, (), texts=["a"]) == f"{REQUEST}.0"
    asyncio.run(one.write())
    assert one.decide(Phase.OUTPUT, QUIET, (), texts=["b"]) == one.last == f"{REQUEST}.1"
    one.close("completed")
    asyncio.run(one.write())
    asyncio.run(one.write())
    assert [[body["kind"] for body in bodies] for bodies, _ in paper.batches] == [["open", "decision"], ["decision", "close"]]
    assert paper.batches[1][0][-1]["decisions"] == 2


@pytest.mark.parametrize("strict", [False, True])
def test_as_durable_as_the_route_wants_it(strict: bool) -> None:
    paper = Paper()
    one = entry(paper, strict)
    opened(one)
    one.decide(Phase.INPUT, QUIET, (), texts=["a"])
    asyncio.run(one.write())
    assert [said for _, said in paper.batches] == [strict]
    assert paper.batches[0][0][1]["dur"] == ("strict" if strict else "fast")


def test_a_request_is_closed_once() -> None:
    paper = Paper()
    one = entry(paper)
    one.close("blocked")
    one.close("interrupted")
    asyncio.run(one.write())
    assert [body["outcome"] for body in paper.batches[0][0]] == ["blocked"]
    assert one.closed


def test_a_log_that_fails_is_told() -> None:
    paper = Paper()
    paper.broken = True
    one = entry(paper)
    opened(one)
    with pytest.raises(LogError):
        asyncio.run(one.write())


def test_a_commitment_hides_the_text_behind_a_salt_of_its_own() -> None:
    def commits(*salts: bytes) -> list[object]:
        paper = Paper()
        one = entry(paper, salts=salts)
        for _ in range(2):
            one.decide(Phase.INPUT, QUIET, (), texts=["the same text"])
        asyncio.run(one.write())
        return [content(body)["commit"] for body in paper.batches[0][0]]

    first, second = commits(b"a" * 32, b"b" * 32)
    assert first != second
    assert commits(b"a" * 32, b"b" * 32) == [first, second]
    assert "the same text" not in str(first)


def test_lengths_are_those_of_the_texts() -> None:
    paper = Paper()
    one = entry(paper)
    one.decide(Phase.INPUT, QUIET, (), texts=["abc", "de"])
    one.decide(Phase.OUTPUT, QUIET, (), content=Content("c", 7))
    asyncio.run(one.write())
    assert [content(body)["chars"] for body in paper.batches[0][0]] == [5, 7]
