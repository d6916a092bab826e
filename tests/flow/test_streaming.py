"""Streams, from the upstream's bytes to the client's: over every cut, and over real sockets with real time."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.act import Names
from moderation.audit.leaf import Body
from moderation.audit.record import Names as Listed
from moderation.errors import UpstreamError
from moderation.flow.ledger import Ledger
from moderation.flow.loading import FileLoader
from moderation.flow.reading import Active
from moderation.flow.showing import block_message
from moderation.flow.speech import OpenAISpeech
from moderation.flow.streaming import Carrier
from moderation.metrics import Metrics
from moderation.text import Scope
from moderation.wire.answers import Head
from tests.fakes import Hold, Pause, Script, Step, ask, sse, stream_script
from tests.kitchen import POLICY, Kitchen, chunk, frames, said

ID = "11010519491231002X"
REQUEST = "01M85W9RKH0XQ9VZ8W574Q3EE4"


class Chunks:
    """An upstream's answer that arrives in these chunks, and then ends or breaks."""

    def __init__(self, chunks: Sequence[bytes], broken: bool = False) -> None:
        self._chunks = list(chunks)
        self._broken = broken
        self.closed = False
        self.status = 200

    async def read(self) -> bytes:
        if self._chunks:
            return self._chunks.pop(0)
        if self._broken:
            raise UpstreamError("upstream_interrupted", "the upstream ended the connection in the middle of its answer")
        return b""

    def close(self) -> None:
        self.closed = True


class Memory:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.bodies: list[Body] = []

    async def append_all(self, bodies: Sequence[Body], *, strict: bool) -> object:
        self.bodies.extend(bodies)
        return None


@cache
def active() -> Active:
    return FileLoader(1 << 20, Metrics())(str(POLICY), 1).active


def carried(chunks: Sequence[bytes], names: Names | None = None, broken: bool = False) -> tuple[bytes, list[Body]]:
    """What the client and the log get."""
    out: list[bytes] = []
    log = Memory()
    entry = Ledger(log, b"k" * 32, bytes, "test").entry(
        REQUEST, Scope(), active().policy.ref, strict=True, listed=Listed(b"k" * 32)
    )

    async def send(data: bytes) -> None:
        out.append(data)

    async def go() -> None:
        carrier = Carrier(
            Chunks(chunks, broken), OpenAISpeech(REQUEST, Head("x", 0, "m"), include_usage=True, asked="hi"),
            active(), Scope(), entry, names or Names(), {}, send,
            lambda rule, decision: block_message(active().policy, rule, "en", decision), lambda note: None, lambda: 0.0,
        )  # fmt: skip
        await carrier.run()

    asyncio.run(go())
    return b"".join(out), log.bodies


def seen(result: tuple[bytes, list[Body]]) -> object:
    """What must not depend on the cuts: texts by tape, the ends, and the decisions."""
    data, bodies = result
    texts: dict[tuple[int, str], str] = {}
    ends: list[object] = []
    for frame in frames(data):
        if not frame:
            ends.append("done")
        for choice in frame.get("choices", ()):
            for field, value in choice["delta"].items():
                if isinstance(value, str):
                    texts[choice["index"], field] = texts.get((choice["index"], field), "") + value
            if choice["finish_reason"]:
                ends.append((choice["index"], choice["finish_reason"]))
        if "error" in frame:
            ends.append(frame["error"]["code"])
    final = [(b["phase"], b["act"], b["rules"], b["wins"], b["runs"], b["spans"]) for b in bodies if b["kind"] == "decision"][-1:]
    return texts, ends, final, [b["outcome"] for b in bodies if b["kind"] == "close"]


def stream(*texts: str, finish: bool = True, newline: bytes = b"\n", escape: bool = False) -> bytes:
    """A small stream."""
    events: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in texts]
    if finish:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    raw = b"".join(b"data: " + json.dumps(e, ensure_ascii=escape, separators=(",", ":")).encode() + b"\n\n" for e in events)
    return (raw + b"data: [DONE]\n\n").replace(b"\n", newline)


SMALL = {
    "plain": stream("a", "b"),
    "a number over frames": stream("是1101051949", "1231002X。"),
    "CRLF": stream("é", "1", newline=b"\r\n"),
    "CR": stream("é1", newline=b"\r"),
    "escapes": stream("é\U0001f600", escape=True),
    "a block": stream("炸弹", "制作x"),
    "without an end": stream("ab", finish=False)[:-14],
}


@pytest.mark.parametrize("name", SMALL)
def test_every_way_of_cutting_once_or_twice_gives_the_same(name: str) -> None:
    raw = SMALL[name]
    whole = seen(carried([raw]))
    places = range(1, len(raw))
    step = max(1, len(raw) * len(raw) // 2 // 4000)
    twice = list(itertools.combinations(places, 2))[::step]
    for cuts in [*((place,) for place in places), *twice]:
        chunks = [raw[a:b] for a, b in itertools.pairwise([0, *cuts, len(raw)])]
        assert seen(carried(chunks)) == whole, cuts
    assert seen(carried([raw[i : i + 1] for i in range(len(raw))])) == whole


WORDS = st.sampled_from([ID, ID[:9], ID[9:], "pipe ", "bomb", " ", "a@b.com", "b.com", "<EMAIL_ADDRESS_1>", "<EMAIL_", "号码", "。",
                         "words and ", "4111 1111 1111 1111", "\u2028", "\\\"", "\n\n", "data: ", "curious", "1", "X"])


@settings(max_examples=120, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["content", "reasoning_content", "refusal"]), st.integers(0, 1), WORDS), max_size=25),
    st.lists(st.integers(0, 100_000), max_size=20),
    st.booleans(),
)
def test_long_streams_do_not_depend_on_cuts(parts: list[tuple[str, int, str]], places: list[int], ended: bool) -> None:
    names = Names()
    names.name("EMAIL_ADDRESS", "anna@example.com")
    events: list[object] = [chunk({field: text}, index=index) for field, index, text in parts]
    events += [chunk({}, "stop", 0), chunk({}, "stop", 1), chunk(None, usage={"prompt_tokens": 1, "completion_tokens": 2})]
    raw = b"".join(sse(*events, done=ended))
    cuts = sorted({place % (len(raw) + 1) for place in places})
    chunks = [raw[a:b] for a, b in itertools.pairwise([0, *cuts, len(raw)]) if a != b]
    assert seen(carried(chunks, names)) == seen(carried([raw], names))
    assert seen(carried(chunks, names, broken=True)) == seen(carried([raw], names, broken=True))


def run(test: Any) -> None:
    asyncio.run(test)


def spelled(text: str, field: str = "content") -> list[Step]:
    """A stream that says a text one character a frame."""
    events = [chunk({"role": "assistant", "content": ""}), *(chunk({field: char}) for char in text), chunk({}, "stop")]
    return list(sse(*events, chunk(None, usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})))


def test_an_unedited_stream_is_the_upstreams_bytes(tmp_path: Path) -> None:
    text = spelled("It was the best of times, it was the worst of times.")
    noise: list[Step] = [b": keep-alive\n\n", b"event: x\nid: 7\ndata: " + json.dumps(chunk({"content": "!"})).encode() + b"\r\n\r\n"]

    async def go() -> None:
        steps = [*text[:5], *noise, *text[5:]]
        async with Kitchen(tmp_path, stream_script(*steps)) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            assert reply.body == b"".join(step for step in steps if isinstance(step, bytes))
            assert reply.header("x-moderation-decision") == f"{reply.header('x-request-id')}.0"
            assert reply.header("content-type") == "text/event-stream"

    run(go())


def test_an_identity_number_a_byte_a_write_never_goes_out(tmp_path: Path) -> None:
    raw = b"".join(step for step in spelled(f"我的身份证号是{ID}，谢谢") if isinstance(step, bytes))
    steps: list[Step] = [raw[i : i + 1] for i in range(len(raw))]

    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(*steps)) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            text = said(reply.body)
            assert text == "我的身份证号是[removed: cn_id_card]，谢谢"
            assert frames(reply.body)[-1] == {}
            rows = kitchen.rows(reply.header("x-request-id"))
            assert [(row.phase, row.action) for row in rows] == [("input", "allow"), ("output", "redact"), ("output", "redact")]

    run(go())


def test_text_goes_out_while_the_upstream_still_speaks(tmp_path: Path) -> None:
    async def go() -> None:
        more = asyncio.Event()
        first, rest = sse(chunk({"content": "Early words are here. And"}), done=False), sse(chunk({"content": " late."}), chunk({}, "stop"))
        async with Kitchen(tmp_path, stream_script(*first, Hold(more), *rest)) as kitchen:
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
            reply = await kitchen.send("POST", "/v1/chat/completions", body)
            # The frame's own end could still become an address, so it waits for the next one: a word, and no more.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reply.read_until(b"Early"), 0.3)
            more.set()
            await reply.read_all()
            assert said(reply.body) == "Early words are here. And late."

    run(go())


def test_a_frame_that_cannot_match_does_not_wait(tmp_path: Path) -> None:
    async def go() -> None:
        more = asyncio.Event()
        first, rest = sse(chunk({"content": "Early words. "}), done=False), sse(chunk({"content": "late."}), chunk({}, "stop"))
        async with Kitchen(tmp_path, stream_script(*first, Hold(more), *rest)) as kitchen:
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
            reply = await kitchen.send("POST", "/v1/chat/completions", body)
            await asyncio.wait_for(reply.read_until(b"Early"), 2)
            assert b"late." not in reply.body
            more.set()
            await reply.read_all()
            assert said(reply.body) == "Early words. late."

    run(go())


def test_a_block_ends_well_and_cancels_the_upstream(tmp_path: Path) -> None:
    async def go() -> None:
        steps: list[Step] = [*sse(chunk({"role": "assistant", "content": ""}), chunk({"content": "First, a pipe bomb "}), chunk({"content": "needs "}), done=False), Hold(asyncio.Event())]
        async with Kitchen(tmp_path, stream_script(*steps)) as kitchen:
            started = monotonic()
            reply = await kitchen.chat("hi", stream=True, n=1, stream_options={"include_usage": True})
            got = kitchen.upstream.received[0]
            await asyncio.wait_for(got.gone.wait(), 1)
            assert got.gone_at is not None
            assert got.gone_at - started < 0.5
            events = frames(reply.body)
            assert said(reply.body).startswith("First, a We do not talk about this")
            assert events[-3]["choices"][0]["finish_reason"] == "content_filter"
            assert events[-2]["moderation"] == {"usage": "estimated"}
            assert events[-1] == {}
            leaves = kitchen.leaves(reply.header("x-request-id") or "")
            assert leaves[-1]["outcome"] == "blocked"

    run(go())


def test_a_client_that_leaves_cancels_the_upstream(tmp_path: Path) -> None:
    async def go() -> None:
        steps: list[Step] = [*sse(chunk({"content": "Some words. "}), done=False), Hold(asyncio.Event())]
        async with Kitchen(tmp_path, stream_script(*steps)) as kitchen:
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
            reply = await kitchen.send("POST", "/v1/chat/completions", body)
            await reply.read_until(b"Some")
            request_id = reply.header("x-request-id") or ""
            reply.close()
            await asyncio.wait_for(kitchen.upstream.received[0].gone.wait(), 1)
            for _ in range(100):
                if kitchen.leaves(request_id)[-1]["kind"] == "close":
                    break
                await asyncio.sleep(0.01)
            assert kitchen.leaves(request_id)[-1]["outcome"] == "client_gone"

    run(go())


@pytest.mark.parametrize("how", ["cut", "reset", "no done", "finish but no done"])
def test_an_upstream_that_breaks_off_is_told_as_an_error(tmp_path: Path, how: str) -> None:
    async def go() -> None:
        events: list[object] = [chunk({"content": "Half an ans"})]
        if how == "finish but no done":
            events.append(chunk({}, "stop"))
        steps: list[Step] = [*sse(*events, done=False), Pause(0.05)]
        script = stream_script(*steps, cut=how in ("cut", "reset"), reset=how == "reset")
        async with Kitchen(tmp_path, script) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            found = frames(reply.body)
            assert said(reply.body) == "Half an ans"
            assert found[-1]["error"]["code"] == "upstream_interrupted"
            assert not any(c["finish_reason"] for f in found for c in f.get("choices", ()))
            assert kitchen.leaves(reply.header("x-request-id") or "")[-1]["outcome"] == "upstream_error"

    run(go())


def test_an_error_in_mid_stream_goes_through(tmp_path: Path) -> None:
    error = b'data: {"error":{"message":"Output data may contain inappropriate content.","code":"data_inspection_failed"}}\n\n'

    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(*sse(chunk({"content": "Half"}), done=False), error)) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            assert said(reply.body) == "Half"
            assert reply.body.endswith(error)

    run(go())


def test_two_choices_and_parallel_calls(tmp_path: Path) -> None:
    def call(index: int, arguments: str, name: str | None = None) -> dict[str, Any]:
        function = {"arguments": arguments} | ({"name": name} if name else {})
        return {"tool_calls": [{"index": index, "id": f"c{index}" if name else "", "type": "function", "function": function}]}

    events = [chunk(call(0, "", "f")), chunk(call(1, "", "g")), chunk(call(0, '{"id": "1101051949')), chunk(call(1, '{"a": ')),
              chunk(call(0, '1231002X", "n": 1.0}')), chunk(call(1, "[2]}")), chunk({"content": "other."}, index=1),
              chunk({}, "stop", 1), chunk({}, "tool_calls")]

    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(*sse(*events))) as kitchen:
            reply = await kitchen.chat("hi", stream=True, n=2)
            arguments = {0: "", 1: ""}
            for frame in frames(reply.body):
                for choice in frame.get("choices", ()):
                    for one in choice["delta"].get("tool_calls", ()):
                        arguments[one["index"]] += one["function"]["arguments"]
            assert arguments == {0: '{"id": "[removed: cn_id_card]", "n": 1.0}', 1: '{"a": [2]}'}
            assert said(reply.body, index=1) == "other."

    run(go())


def test_a_slow_client_holds_the_upstream_back(tmp_path: Path) -> None:
    async def go() -> None:
        big = [chunk({"content": "plain words. " * 500}) for _ in range(5000)]
        async with Kitchen(tmp_path, stream_script(*sse(*big, chunk({}, "stop"))), stream_buffer="64KiB") as kitchen:
            body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
            fields = [("content-type", "application/json"), ("connection", "close")]
            reply = await ask(kitchen.port, "POST", "/v1/chat/completions", body, fields, buffer=4096)
            await reply.read_until(b"plain")
            await asyncio.sleep(0.7)
            # What both sockets' kernel buffers take is not ours; the other half of 33 MB has to wait.
            assert kitchen.upstream.received[0].written < 17_000_000
            reply.close()

    run(go())


def test_streams_verify_and_replay(tmp_path: Path) -> None:
    async def go() -> None:
        scripts = [stream_script(*spelled(text)) for text in (f"a {ID} b", "a pipe bomb", "a@b.com and curious", "plain")]
        async with Kitchen(tmp_path, *scripts) as kitchen:
            for _ in scripts:
                await kitchen.chat("hi", stream=True)
        assert kitchen.verify().exit_code == 0
        replayed = kitchen.replayed()
        assert replayed.same == replayed.decisions > 8

    run(go())


def test_the_end_goes_out_as_it_came(tmp_path: Path) -> None:
    frames_ = sse(chunk({"content": "one "}), chunk({}, "stop"), done=False)

    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(*frames_, b"data:[DONE]\r\n\r\n")) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            assert reply.body == b"".join(frames_) + b"data:[DONE]\r\n\r\n"

    run(go())


@pytest.mark.parametrize(("note", "packed", "good"), [
    ("one member", lambda head, tail: [gzip.compress(head + tail)], True),
    ("a member for each part", lambda head, tail: [gzip.compress(head), gzip.compress(tail)], True),
    ("something else behind it", lambda head, tail: [gzip.compress(head), b"garbage"], False),
    ("corrupt", lambda head, tail: [gzip.compress(head)[:-8], b"\xff" * 40], False),
])  # fmt: skip
def test_a_compressed_stream(tmp_path: Path, note: str, packed: Any, good: bool) -> None:
    head, *tail = sse(chunk({"content": "one "}), chunk({"content": "two "}), chunk({}, "stop"))
    steps = [step for piece in packed(head, b"".join(tail)) for step in (piece, Pause(0.05))]
    script = Script(steps, headers=[("content-type", "text/event-stream"), ("content-encoding", "gzip")])

    async def go() -> None:
        async with Kitchen(tmp_path, script) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            if good:
                assert said(reply.body) == "one two "
                assert reply.body.endswith(b"data: [DONE]\n\n")
            else:
                assert frames(reply.body)[-1]["error"]["code"] == "upstream_invalid"
            outcome = kitchen.leaves(reply.header("x-request-id") or "")[-1]["outcome"]
            assert outcome == ("completed" if good else "upstream_error")

    run(go())


def test_lines_beside_the_data_are_no_place_to_hide(tmp_path: Path) -> None:
    """An id that repeats the data must not be taken for the place where the text stands."""
    def event(beside: str) -> bytes:
        data = json.dumps(chunk({"content": "4242 "}))
        return f"id: {json.dumps(chunk({'content': beside}))}\ndata: {data}\n\n".encode()

    card = [event("4242 "), *(event(word) for word in ("plain ", "words ", "here "))]

    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(*card, *sse(chunk({}, "stop")))) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            assert "4242 4242" not in said(reply.body)

    run(go())


def test_empty_data_are_a_sign_of_life(tmp_path: Path) -> None:
    async def go() -> None:
        async with Kitchen(tmp_path, stream_script(b"data:\n\n", *sse(chunk({"content": "a "}), chunk({}, "stop")))) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            assert reply.body.startswith(b"data:\n\n")
            assert said(reply.body) == "a "

    run(go())


def test_what_the_log_tells_of_a_stream(tmp_path: Path) -> None:
    async def go() -> None:
        steps = sse(chunk({"content": "one "}), chunk({"content": "two"}), chunk({}, "stop"))
        script = Script(steps, headers=[("content-type", "text/event-stream"), ("x-request-id", "theirs")])
        async with Kitchen(tmp_path, script) as kitchen:
            reply = await kitchen.chat("hi", stream=True)
            leaves = kitchen.leaves(reply.header("x-request-id") or "")
            output, close = leaves[-2:]
            assert output["content"]["chars"] == 7  # type: ignore[index]
            assert output["content"]["commit"]  # type: ignore[index]
            assert str(close["upstream_id"]).startswith("other:")

    run(go())
