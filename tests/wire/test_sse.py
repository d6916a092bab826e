"""Events do not depend on chunks, and every byte of them comes out again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.errors import UpstreamError
from moderation.wire.sse import Event, Splitter, with_data


def split(chunks: list[bytes]) -> tuple[list[bytes], bytes]:
    splitter = Splitter()
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events, splitter.rest()


def chunkings(raw: bytes) -> Iterator[list[bytes]]:
    """Every way to cut."""
    for cuts in product((False, True), repeat=max(0, len(raw) - 1)):
        chunks, start = [], 0
        for place, cut in enumerate(cuts, 1):
            if cut:
                chunks.append(raw[start:place])
                start = place
        yield [*chunks, raw[start:]]


SMALL = [
    ("plain", b"data:\xe4\xb8\xad\n\nd:\n\n"),
    ("CRLF", b"data:a\r\n\r\nd\r\n\r\n"),
    ("CR", b"data:a\r\rdata:b\r\r"),
    ("all three", b"data:a\r\n\nb\r\r\nc\n\r"),
    ("a blank line more", b"data:a\n\n\ndata:b\n\n"),
    ("starts with blank lines", b"\n\r\n\rdata:a\n\n"),
    ("CR then CRLF", b"a\r\r\n\r\n\n\rb"),
    ("an end without its blank line", b"data:a\n\ndata:b\n"),
    ("separators that end no line", "a\u2028b\x0b\x0c\x1c\x85\n\n".encode()),
]


@pytest.mark.parametrize(("note", "raw"), SMALL, ids=[c[0] for c in SMALL])
def test_every_chunking_gives_the_same_events(note: str, raw: bytes) -> None:
    assert len(raw) <= 17
    whole = split([raw])
    assert b"".join(whole[0]) + whole[1] == raw
    for chunks in chunkings(raw):
        assert split(chunks) == whole, chunks


PARTS = [b"data: a", b"data:b", b"\n", b"\r", b"\r\n", b": c", b"event:e", b"data", b"\xe4\xb8\xad"]


@given(st.lists(st.sampled_from(PARTS), max_size=40), st.lists(st.integers(0, 200), max_size=8))
def test_long_streams_in_any_chunks(parts: list[bytes], cuts: list[int]) -> None:
    raw = b"".join(parts)
    places = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    chunks = [raw[start:end] for start, end in pairwise(places)]
    assert split(chunks) == split([raw])
    assert split([raw[i : i + 1] for i in range(len(raw))]) == split([raw])


def standard(raw: bytes) -> list[bytes]:
    """What the HTML standard dispatches: lines first, then events; an event without data is none."""
    lines = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        if not line and data:
            events.append(b"\n".join(data))
            data = []
        elif line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line == b"data":
            data.append(b"")
    return events


def test_the_data_are_those_of_the_standard() -> None:
    for length in range(8):
        for parts in product((b"data:a", b":", b"\r", b"\n"), repeat=length):
            raw = b"".join(parts)
            events, rest = split([raw])
            found = [data for event in events if (data := Event.parse(event).data) is not None]
            expected = standard(raw)
            if rest.endswith(b"\r") and len(found) < len(expected):
                last = Event.parse(rest).data
                assert last is not None
                found.append(last)  # waits for the LF that may follow; a stream's end is read from the rest
            assert found == expected, raw


@pytest.mark.parametrize(
    ("note", "chunks", "events"),
    [
        ("LF at once", [b"data: a\n\n"], 1),
        ("CRLF at once", [b"data: a\r\n\r\n"], 1),
        ("CR at once", [b"data: a\r\r"], 1),
        ("half a CRLF waits", [b"data: a\r\n\r"], 0),
        ("and comes with the rest", [b"data: a\r\n\r", b"\n"], 1),
        ("several", [b"data: a\n\ndata: b\n\n:\n\n"], 3),
    ],
)
def test_an_event_comes_as_soon_as_it_is_whole(note: str, chunks: list[bytes], events: int) -> None:
    assert len(split(chunks)[0]) == events


def oversized(chunks: list[bytes]) -> list[bytes]:
    """The events before the one that is too large, and the error's code."""
    splitter = Splitter(max_event=12)
    events: list[bytes] = []
    try:
        for chunk in chunks:
            events += splitter.feed(chunk)
        splitter.rest()
    except UpstreamError as refused:
        return [*events, refused.code.encode()]
    return events


@pytest.mark.parametrize(
    ("note", "raw", "before"),
    [
        ("too large and whole", b"data: a\n\ndata: 123456\n\n", [b"data: a\n\n"]),
        ("too large and not whole", b"data: a\n\ndata: 1234567", [b"data: a\n\n"]),
        ("the first one", b"data: 12345678\n\n", []),
        ("with more behind it", b"data: 12345678\n\ndata: a\n\n", []),
    ],
)
def test_an_event_over_the_limit_fails_alike_in_any_chunks(note: str, raw: bytes, before: list[bytes]) -> None:
    for size in range(1, len(raw) + 1):
        assert oversized([raw[i : i + size] for i in range(0, len(raw), size)]) == [*before, b"upstream_invalid"]


def test_an_event_at_the_limit_passes() -> None:
    splitter = Splitter(max_event=12)
    assert splitter.feed(b"data: 1234\n\n" * 2) == [b"data: 1234\n\n"] * 2


EVENTS = [
    ("usual", b'data: {"a":1}\n\n', b'{"a":1}', None),
    ("no space", b"data:x\n\n", b"x", None),
    ("one space is dropped, not two", b"data:  x\n\n", b" x", None),
    ("CRLF", b"data: x\r\n\r\n", b"x", None),
    ("CR", b"data: x\r\r", b"x", None),
    ("empty data", b"data:\n\n", b"", None),
    ("empty data with a space", b"data: \n\n", b"", None),
    ("no colon", b"data\n\n", b"", None),
    ("two lines", b"data: a\ndata:b\n\n", b"a\nb", None),
    ("named, DashScope's way", b"id:1\nevent:error\n:HTTP_STATUS/400\ndata:{}\n\n", b"{}", "error"),
    ("named after the data", b"data: x\nevent: e\n\n", b"x", "e"),
    ("a comment", b": keep-alive\n\n", None, None),
    ("a blank line", b"\n", None, None),
    ("another field", b"retry: 1\n\n", None, None),
    ("a byte order mark before it", b"\xef\xbb\xbfdata: x\n\n", b"x", None),
    ("without its end", b"data: [DONE]", b"[DONE]", None),
    ("with half its end", b"data: [DONE]\n", b"[DONE]", None),
    ("U+2028 ends no line", "data: a\u2028b\n\n".encode(), "a\u2028b".encode(), None),
    ("a CR inside what looks usual", b"data: a\rdata: b\n\n", b"a\nb", None),
    ("data again after a comment", b"data: a\n:c\ndata: b\n\n", b"a\nb", None),
]


@pytest.mark.parametrize(("note", "raw", "data", "name"), EVENTS, ids=[c[0] for c in EVENTS])
def test_reads_events(note: str, raw: bytes, data: bytes | None, name: str | None) -> None:
    assert Event.parse(raw) == Event(data, name)


@pytest.mark.parametrize("raw", [b"dataset: x\n\n", b"DATA: x\n\n", b" data: x\n\n", b'{"a": 1}\n\n', b"data: x\n{\n\n", b"x\n\n"])
def test_refuses_what_is_no_field(raw: bytes) -> None:
    with pytest.raises(UpstreamError):
        Event.parse(raw)


@pytest.mark.parametrize(("note", "raw", "data", "name"), EVENTS, ids=[c[0] for c in EVENTS])
@pytest.mark.parametrize("new", [b"", b"y", b" y", b"y\nz", b'{"a":"\\n"}'])
def test_other_data_and_nothing_else(note: str, raw: bytes, data: bytes | None, name: str | None, new: bytes) -> None:
    after = with_data(raw, new)
    if data is None:
        assert after == raw
    else:
        assert Event.parse(after) == Event(new, name)
        assert split([after + b"\n\n"])[0][0].startswith(after)
        if new == b"y" and data == b"x":
            assert after == raw.replace(b"x", b"y")


@given(st.lists(st.sampled_from([b"data: a", b"data:b", b"data", b": c", b"event:e", b"id: 1"]), min_size=1, max_size=6),
       st.sampled_from([b"\n", b"\r\n", b"\r"]), st.text(alphabet="a \n中", max_size=8))
def test_with_data_keeps_all_other_lines(lines: list[bytes], end: bytes, new: str) -> None:
    raw = end.join(lines) + end + end
    after = with_data(raw, new.encode())
    others = [line for line in lines if not line.startswith(b"data")]
    assert [line for line in after.split(end) if line and not line.startswith(b"data")] == others
    if len(others) < len(lines):
        assert Event.parse(after).data == new.encode()
