"""The order of a stream's words to the log and to the client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from moderation.act import Names
from moderation.audit.leaf import Body
from moderation.audit.record import Names as Listed
from moderation.errors import LogError
from moderation.flow.ledger import Ledger
from moderation.flow.speech import OpenAISpeech
from moderation.flow.streaming import Carrier
from moderation.text import Scope
from moderation.wire.answers import Head
from tests.fakes import sse
from tests.flow.test_streaming import ID, REQUEST, Chunks, active
from tests.kitchen import chunk, frames, said

Event = tuple[str, object]


class Diary:
    """What the log and the client get, in one order. The log fails from the batch with this number on."""

    def __init__(self, fails: int | None = None) -> None:
        self.events: list[Event] = []
        self._fails = fails
        self._batches = 0

    async def append_all(self, bodies: Sequence[Body], *, strict: bool) -> object:
        self._batches += 1
        if self._fails is not None and self._batches >= self._fails:
            raise LogError("the disk is full")
        self.events.extend((str(body["kind"]), body.get("act") or body.get("outcome")) for body in bodies)
        return None

    async def send(self, data: bytes) -> None:
        self.events.append(("sent", data))

    @property
    def out(self) -> bytes:
        return b"".join(data for kind, data in self.events if kind == "sent" and isinstance(data, bytes))

    def at(self, kind: str) -> int:
        """Where the first of these stands."""
        return next(n for n, event in enumerate(self.events) if event[0] == kind)


def carried(chunks: Sequence[bytes], fails: int | None = None) -> tuple[Diary, Carrier, Chunks]:
    diary, upstream = Diary(fails), Chunks(chunks)
    ledger = Ledger(diary, b"k" * 32, bytes, "1")
    entry = ledger.entry(REQUEST, Scope(), active().policy.ref, strict=True, listed=Listed(b"k" * 32))
    carrier = Carrier(
        upstream, OpenAISpeech(REQUEST, Head("x", 0, "m"), include_usage=True, asked="hi"),
        active(), Scope(), entry, Names(), {}, diary.send, lambda rule, decision: "no", lambda note: None, lambda: 0.0,
    )  # fmt: skip
    asyncio.run(carrier.run())
    return diary, carrier, upstream


WORDS = sse(chunk({"content": "Some words "}), chunk({"content": "and more."}), chunk({}, "stop"))
EDITED = sse(chunk({"content": "Before. "}), chunk({"content": f"号码{ID}。"}), chunk({"content": " After."}), chunk({}, "stop"))
BLOCKED = sse(chunk({"content": "Before. "}), chunk({"content": "A pipe bomb is"}), chunk({"content": " made of"}))


def test_an_edit_is_in_the_log_before_its_first_byte_goes_out() -> None:
    diary, _, _ = carried(EDITED)
    edit = next(n for n, (kind, data) in enumerate(diary.events) if kind == "sent" and b"removed" in bytes(data))  # type: ignore[call-overload]
    assert ("decision", "redact") in diary.events[:edit]
    assert said(diary.out) == "Before. 号码[removed: cn_id_card]。 After."


def test_a_block_is_in_the_log_before_its_message_goes_out() -> None:
    diary, carrier, upstream = carried(BLOCKED)
    block = next(n for n, (kind, data) in enumerate(diary.events) if kind == "sent" and b"content_filter" in bytes(data))  # type: ignore[call-overload]
    assert ("decision", "block") in diary.events[:block]
    assert ("close", "blocked") in diary.events[:block]
    assert (carrier.outcome, upstream.closed) == ("blocked", True)


def test_the_close_is_in_the_log_before_the_end_goes_out() -> None:
    diary, carrier, _ = carried(WORDS)
    end = next(n for n, (kind, data) in enumerate(diary.events) if kind == "sent" and b"[DONE]" in bytes(data))  # type: ignore[call-overload]
    assert ("close", "completed") in diary.events[:end]
    assert diary.events[end + 1 :] == []
    assert carrier.outcome == "completed"


@pytest.mark.parametrize("fails", [1, 2])
def test_what_cannot_be_recorded_does_not_go_out(fails: int) -> None:
    diary, carrier, upstream = carried(EDITED, fails)
    assert (b"removed" in diary.out) == (fails == 2)
    assert b"[DONE]" not in diary.out
    assert not any(c["finish_reason"] for f in frames(diary.out) for c in f.get("choices", ()))
    assert frames(diary.out)[-1]["error"]["code"] == "audit_unavailable"
    assert (carrier.outcome, upstream.closed) == ("interrupted", True)


def test_a_stream_without_an_end_has_none() -> None:
    diary, carrier, _ = carried(WORDS[:-1])
    assert {} not in frames(diary.out)
    assert not any(c["finish_reason"] for f in frames(diary.out) for c in f.get("choices", ()))
    assert (carrier.outcome, carrier.failed) == ("upstream_error", "upstream_interrupted")
    assert diary.events[diary.at("close")] == ("close", "upstream_error")


def test_an_event_that_cannot_be_read_ends_the_stream_unseen() -> None:
    diary, carrier, _ = carried([WORDS[0], b'data: {"choices": [{"delta": {"content": "a", "content": "b"}}]}\n\n', *WORDS[1:]])
    assert said(diary.out) == "Some words "
    assert (carrier.outcome, carrier.failed) == ("upstream_error", "upstream_invalid")
