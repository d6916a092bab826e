"""Log files: round trips, every truncation, every flipped bit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.audit.merkle import Tree, leaf_hash
from moderation.audit.qseg import (
    NO_PREV,
    Header,
    Scan,
    SegmentError,
    Tail,
    commit_frame,
    first_index,
    header_for,
    ordered,
    parse_header,
    read,
    record_frame,
    scan,
)

ORIGIN = "moderation/host/log-0"


def file_of(
    batches: list[list[bytes]], tree: Tree | None = None, prev: bytes = NO_PREV,
) -> tuple[Header, bytes, list[int], Tree, bytes]:
    """A file with these batches: header, bytes, where each commit ends, tree and last hash."""
    tree = tree.copy() if tree else Tree()
    header = header_for(ORIGIN, tree, prev)
    data, ends = header.to_bytes(), []
    for batch in batches:
        for leaf in batch:
            prev = leaf_hash(leaf)
            tree.append(prev)
            data += record_frame(leaf)
        data += commit_frame(tree.size, tree.root(), len(batch))
        ends.append(len(data))
    return header, data, ends, tree, prev


BATCHES = [[b'{"a":1}', b'{"b":2}'], [b'{"c":3}'], [b'{"d":4}', b'{"e":5}', b'{"f":6}']]
HEADER, DATA, ENDS, TREE, PREV = file_of(BATCHES)
LEAVES = [leaf for batch in BATCHES for leaf in batch]
COUNTS = [2, 3, 6]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), max_size=5), st.integers(0, 9))
def test_goes_round(batches: list[list[bytes]], before: int) -> None:
    tree = Tree()
    for i in range(before):
        tree.append(leaf_hash(bytes([i])))
    header, data, _, end_tree, prev = file_of(batches, tree, b"p" * 32 if before else NO_PREV)
    result = scan(data, header)
    assert [leaf.data for leaf in result.leaves] == [leaf for batch in batches for leaf in batch]
    assert [leaf.index for leaf in result.leaves] == list(range(before, end_tree.size))
    assert (result.end, result.tail, result.tree.root(), result.prev) == (len(data), Tail.NONE, end_tree.root(), prev)
    assert parse_header(data) == header
    assert all(data[leaf.offset :].startswith(record_frame(leaf.data)) for leaf in result.leaves)


@pytest.mark.parametrize("cut", range(len(DATA)))
def test_every_truncation_recovers_to_the_last_commit(cut: int) -> None:
    """P3"""
    result = scan(DATA[:cut], HEADER)
    commits = sum(end <= cut for end in ENDS)
    assert [leaf.data for leaf in result.leaves] == LEAVES[: COUNTS[commits - 1] if commits else 0]
    whole = cut in ENDS or cut == len(HEADER.to_bytes())
    assert result.tail is (Tail.NONE if whole else Tail.CUT)
    assert result.end == (0 if cut < len(HEADER.to_bytes()) else ENDS[commits - 1] if commits else len(HEADER.to_bytes()))


def test_no_flipped_bit_is_accepted() -> None:
    """P4: corrupt, or a torn tail in the last batch's commit, which a checkpoint shows."""
    torn = 0
    for at in range(len(DATA)):
        for bit in range(8):
            flipped = DATA[:at] + bytes([DATA[at] ^ 1 << bit]) + DATA[at + 1 :]
            try:
                result = scan(flipped, HEADER)
            except SegmentError:
                continue
            torn += 1
            assert at >= ENDS[-1] - 53
            assert result.tail is not Tail.NONE
            assert [leaf.data for leaf in result.leaves] == LEAVES[:3]
    assert 0 < torn <= 53 * 8


@pytest.mark.parametrize(("note", "data"), [
    ("zeros that a power cut left", DATA + bytes(100)), ("noise", DATA + b"\x07" * 60),
    ("unknown payload", DATA + record_frame(b"x")[:8] + b"\x03x"),
    ("length over the limit", DATA + b"\x00\x02\x00\x00" + b"\x00" * 70),
])
def test_damaged_tails(note: str, data: bytes) -> None:
    result = scan(data, HEADER)
    assert (result.tail, result.end) == (Tail.DAMAGED, len(DATA))


def test_whole_records_without_commit_are_a_cut_tail() -> None:
    result = scan(DATA + record_frame(b"{}"), HEADER)
    assert (result.tail, result.end, len(result.leaves)) == (Tail.CUT, len(DATA), 6)


@pytest.mark.parametrize(("note", "frames"), [
    ("wrong count", record_frame(b"{}") + commit_frame(7, TREE.root(), 2)),
    ("wrong size", record_frame(b"{}") + commit_frame(8, TREE.root(), 1)),
    ("wrong root", record_frame(b"{}") + commit_frame(7, TREE.root(), 1)), ("empty batch", commit_frame(6, TREE.root(), 0)),
])
def test_commits_that_do_not_fit(note: str, frames: bytes) -> None:
    with pytest.raises(SegmentError, match="does not fit"):
        scan(DATA + frames, HEADER)


def test_header_of_another_log() -> None:
    with pytest.raises(SegmentError, match="header"):
        scan(DATA, header_for("moderation/host/log-1", Tree(), NO_PREV))
    assert parse_header(b"") is None
    assert parse_header(DATA[:83]) is None
    assert parse_header(b"X" + DATA[1:]) is None


def test_names() -> None:
    assert ordered(["seg-10.qseg", "seg-9.qseg", "seg-0.qseg", "key.pub", "seg-0.qseg.torn-4", "seg-01.qseg"]) == [
        "seg-0.qseg", "seg-9.qseg", "seg-10.qseg"]
    assert first_index("seg-x.qseg") is None
    assert HEADER.name == "seg-0.qseg"


def _files() -> list[tuple[str, bytes]]:
    second, data, _, tree, prev = file_of([[b'{"g":7}']], TREE, PREV)
    third, more, _, _, _ = file_of([[b'{"h":8}']], tree, prev)
    return [(HEADER.name, DATA), (second.name, data), (third.name, more)]


def test_files_follow_one_another() -> None:
    results: list[Scan] = list(read(ORIGIN, _files()))
    assert [leaf.index for result in results for leaf in result.leaves] == list(range(8))
    again = list(read(ORIGIN, _files()[1:], TREE, PREV))
    assert [leaf.index for result in again for leaf in result.leaves] == [6, 7]


@pytest.mark.parametrize(("note", "change", "match"), [
    ("missing file", lambda files: [files[0], files[2]], "missing"), ("missing first", lambda files: files[1:], "missing"),
    ("doubled file", lambda files: [files[0], files[0]], "expected seg-6"),
    ("swapped", lambda files: [files[1], files[0]], "expected"),
    ("tail before the end", lambda files: [(files[0][0], files[0][1] + b"\x00"), *files[1:]], "does not end with a commit"),
    ("damage", lambda files: [(files[0][0], files[0][1][:130] + b"!" + files[0][1][131:])], "byte"),
])
def test_files_that_do_not_follow(note: str, change: object, match: str) -> None:
    with pytest.raises(SegmentError, match=match):
        list(read(ORIGIN, change(_files())))  # type: ignore[operator]  # one of the lambdas above
