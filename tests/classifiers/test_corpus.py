"""What the corpus must hold to: no held-out text, no group in two splits, no label that a source did not declare."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.train.check import problems
from classifiers.train.corpus import MOST_WINDOWS, capped, merged, placed, record, source_rows, table, write
from classifiers.train.heldout import is_held_out, key, norm, read_keys
from classifiers.train.near import group_numbers
from classifiers.train.row import HEADS, Role, Row, Source, Split
from classifiers.train.splits import DEV_SHARE, TEST_SHARE, fraction, split_of
from classifiers.train.windows import LIMIT, LIMIT_CJK, flat, limit_of, windows

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=900)


def row(text: str, **fields: object) -> Row:
    base = Row(text, "en", {"hate_harassment": 0}, "one")
    return replace(base, **fields)  # type: ignore[arg-type]


def source(rows: Iterable[Row], cap: int | None = None, negative: frozenset[str] = frozenset(HEADS)) -> Source:
    return Source("one", "MIT", frozenset({"en"}), frozenset({"hate_harassment"}), negative, lambda _: rows, cap)


# --- held out


@pytest.mark.parametrize(
    ("note", "text"),
    [
        ("as it is", "Tell me: how to X?"),
        ("case and marks do not matter", "tell me how, TO x!"),
        ("nor does white space", "  tell\nme how to x"),
        ("nor do full-width letters", "Ｔｅｌｌ me how to X"),
    ],
)
def test_a_held_out_text_is_known_in_any_dress(note: str, text: str) -> None:
    assert is_held_out((text,), {key("Tell me how to X")}), note


def test_the_key_is_the_head_of_a_hash_of_letters_and_digits() -> None:
    assert norm("Ａ-b 1!") == "ab1"
    assert key("Ａ-b 1!") == hashlib.sha256(b"ab1").hexdigest()[:24]
    assert key("ab1") == key("A B 1")
    assert not is_held_out(("", "!!"), {key("")}), "a text without letters is none of the held-out ones"


def test_rows_with_a_held_out_field_are_dropped_and_others_stay() -> None:
    keys = {key("the secret text")}
    long = "word " * 78 + "ends here."
    rows = [
        row("the secret text"),
        row("The SECRET text!"),
        row("its answer", also=("the secret text",)),
        row(f"{long} The secret text!"),
        row("kept"),
    ]
    kept = [r.text for r in source_rows(source(rows), Path(), keys)]
    assert "kept" in kept
    assert not any(is_held_out((text,), keys) for text in kept)
    assert "its answer" not in kept


@pytest.mark.parametrize(("note", "content"), [("empty", ""), ("not a key", "hello\n"), ("a long hash", "a" * 64)])
def test_a_held_out_file_that_would_let_all_through_is_refused(note: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / "heldout.txt"
    path.write_text(content)
    with pytest.raises(ValueError):
        read_keys(path)


def test_of_an_unsafe_answer_only_its_head_is_kept() -> None:
    text = "A sentence that fills a good part of a window, as some of them do. " * 20
    for label, count in ((1, 1), (0, MOST_WINDOWS)):
        rows = [row(text, role=Role.RESPONSE, labels={"hate_harassment": label})]
        assert len(list(source_rows(source(rows), Path(), set()))) == count


# --- labels


@pytest.mark.parametrize(
    ("note", "labels"), [("a one that it may not give", {"violence": 1}), ("a zero that it may not give", {"sexual": 0})]
)
def test_an_undeclared_label_stops_the_build(note: str, labels: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not declared"):
        list(source_rows(source([row("text", labels=labels)], negative=frozenset({"hate_harassment"})), Path(), set()))


def test_duplicates_are_merged_and_what_they_differ_in_is_unknown() -> None:
    a = row("Same text", labels={"violence": 1, "sexual": 0})
    b = row("same text", labels={"violence": 0, "illicit": 1}, source="two")
    c = row("same text", labels={"violence": 1}, source="three")
    (found,) = merged([a, b, c])
    assert dict(found.labels) == {"sexual": 0, "illicit": 1}
    assert merged([row("x", labels={"sexual": 1}), row("x", labels={"sexual": 0})]) == []


def test_a_cap_holds_for_each_class_and_chooses_the_same_rows_in_any_order() -> None:
    rows = [row(f"text {at}", labels={"hate_harassment": at % 2}) for at in range(40)]
    kept = list(capped(source([], cap=5), rows))
    assert [sum(r.labels["hate_harassment"] == value for r in kept) for value in (0, 1)] == [5, 5]
    assert {r.text for r in kept} == {r.text for r in capped(source([], cap=5), reversed(rows))}


# --- groups and splits

NEAR = "Please write a long letter to the bank about the loan that I asked for in the spring of last year"


def test_near_duplicates_and_named_groups_are_joined_and_others_are_not() -> None:
    texts = [
        NEAR,
        NEAR + ".",
        "A recipe for onion soup with bread",
        NEAR.replace("bank", "Bank"),
        "银行贷款怎么申请比较快？",
        "Fixing a bicycle",
    ]
    numbers = group_numbers(texts, ["", "", "g", "", "", "g"])
    assert numbers == [0, 0, 2, 0, 4, 2]


def test_the_pin_that_keeps_more_from_training_wins() -> None:
    assert split_of("g", [None, Split.TRAIN, Split.TEST, Split.DEV]) is Split.TEST
    assert split_of("g", [Split.TRAIN, Split.DEV]) is Split.DEV
    assert split_of("g", [None, Split.TRAIN]) is Split.TRAIN


def test_shares_of_the_splits_are_about_as_stated() -> None:
    found = [split_of(f"group {at}", [None]) for at in range(4000)]
    assert abs(found.count(Split.TEST) / 4000 - TEST_SHARE) < 0.02
    assert abs(found.count(Split.DEV) / 4000 - DEV_SHARE) < 0.02


def words(seed: int) -> Iterator[str]:
    vocabulary = [
        "red",
        "green",
        "house",
        "tree",
        "walks",
        "slowly",
        "under",
        "seven",
        "bridges",
        "while",
        "nobody",
        "sings",
        "about",
        "winter",
        "rain",
    ]
    for at in range(12):
        yield vocabulary[int(fraction(f"{seed} {at}") * len(vocabulary))]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.sampled_from(["", "!", " now"]),
            st.sampled_from(["", "a", "b"]),
            st.sampled_from([None, *Split]),
        ),
        max_size=40,
    )
)
def test_no_split_cuts_a_group(drawn: list[tuple[int, str, str, Split | None]]) -> None:
    rows = [row(" ".join(words(seed)) + end, group=group, pin=pin) for seed, end, group, pin in drawn]
    splits = placed(rows)
    names = {split: {r.group for r in members} for split, members in splits.items()}
    assert sum(map(len, names.values())) == len(set().union(*names.values()))
    assert sum(map(len, splits.values())) == len(rows)
    where = {r.text: split for split, members in splits.items() for r in members}
    for group in ("a", "b"):
        assert len({where[r.text] for r in rows if r.group == group}) <= 1
    assert all(where[r.text] is Split.TEST for r in rows if r.pin is Split.TEST)


def test_texts_of_emoji_alone_have_names_of_their_own() -> None:
    splits = placed([row("👍👍👍👍"), row("🎉🎉🎉🎉")])
    assert len({r.group for members in splits.values() for r in members}) == 2


# --- windows


@given(TEXTS)
def test_windows_are_short_enough_and_are_stretches_of_the_text(text: str) -> None:
    text = flat(text)
    found = windows(text, MOST_WINDOWS)
    assert len(found) <= MOST_WINDOWS
    assert all(0 < len(window) <= limit_of(text) and window in text for window in found)
    assert bool(found) == bool(text)


def test_windows_end_with_sentences_where_they_can() -> None:
    text = "One sentence that goes on for a while. " * 30
    assert all(window.endswith("while.") for window in windows(flat(text), 9))
    assert (limit_of("你好吗，今天天气不错"), limit_of("hello")) == (LIMIT_CJK, LIMIT)


# --- what is written, and its check


def test_a_sound_corpus_passes_and_each_fault_is_named(tmp_path: Path) -> None:
    splits = placed([row(" ".join(words(seed)), pin=split) for seed, split in enumerate(Split)])
    write(splits, tmp_path)
    keys = {key("something else")}
    assert problems(tmp_path, keys) == []
    assert "hate_harassment" in table(splits)
    held = splits[Split.TRAIN][0].text
    assert problems(tmp_path, {key(held)}) == ["train.jsonl:1: the text is held out"]
    good = record(splits[Split.TRAIN][0])
    for fault, part in (
        ({"group": splits[Split.TRAIN][0].group}, "is in train too"),
        ({"labels": {"rude": 1}}, "labels"),
        ({"labels": {}}, "labels"),
        ({"role": "king"}, "role"),
    ):
        (tmp_path / "dev.jsonl").write_text(json.dumps({**good, "group": "new", **fault}) + "\n", encoding="utf-8")
        (found,) = problems(tmp_path, keys)
        assert part in found
    (tmp_path / "dev.jsonl").unlink()
    with pytest.raises(OSError):
        problems(tmp_path, keys)
