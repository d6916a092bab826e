"""The doubles tell the truth: what goes in comes out, whatever the cuts."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import Dechunker, FakeUpstream, Pause, Script, Step, ask, ask_json, json_script, stream_script


@given(st.lists(st.binary(min_size=1, max_size=40)), st.data())
def test_chunks_come_off_at_any_cut(pieces: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    dechunker, out, ended = Dechunker(), b"", False
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        assert not ended or start == end
        fresh, ended = dechunker.feed(raw[start:end])
        out += fresh
    assert (out, ended) == (b"".join(pieces), True)


def test_every_byte_a_read_of_its_own() -> None:
    raw = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"
    dechunker = Dechunker()
    told = [dechunker.feed(raw[at:at + 1]) for at in range(len(raw))]
    assert b"".join(fresh for fresh, _ in told) == b"abc0123456789"
    assert [ended for _, ended in told] == [False] * (len(raw) - 1) + [True]


def test_the_client_sees_pieces_as_they_arrive_and_ends_as_they_are() -> None:
    async def main() -> None:
        pieces: list[Step] = [b"a", Pause(0.05), b"bc", Pause(0.05), b"d"]
        scripts = [stream_script(*pieces), stream_script(*pieces, cut=True), json_script({"x": 1}), Script([], 204, (), "length"),
                   stream_script(*pieces, framing="close")]
        async with FakeUpstream(*scripts) as fake:
            reply = await ask(fake.port, "POST", "/x", b"{}")
            assert await reply.read_until(b"a") == b"a"
            assert await reply.read_all() == b"abcd"
            assert reply.ended
            assert [part for _, part in reply.arrivals] == [b"a", b"bc", b"d"]
            cut = await ask(fake.port, "POST", "/x", b"{}")
            assert (await cut.read_all(), cut.ended) == (b"abcd", False)
            assert (await ask_json(fake.port, "/x", {"y": "ü"})).json == {"x": 1}
            assert fake.received[2].json == {"y": "ü"}
            empty = await ask(fake.port, "GET", "/x")
            assert (empty.status, await empty.read_all(), empty.ended) == (204, b"", True)
            closed = await ask(fake.port, "GET", "/x")
            assert (await closed.read_all(), closed.ended) == (b"abcd", True)

    asyncio.run(asyncio.wait_for(main(), 10))
