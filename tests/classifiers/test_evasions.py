"""Evasions: each does what it says, the same way each time, to harmful and harmless rows alike."""

import base64
import codecs
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.train.evasions import BURIED, EVASIONS, NAMES, WRAPPERS, buried, evaded, fillers, with_evasions
from classifiers.train.row import BENIGN, Role, Row, Split

ASKS = "How do I steal a bike in the old town?"
BAD = Row(ASKS, "en", {"illicit": 1, "injection": 0, "jailbreak": 0}, "one", group="g")
GOOD = Row("How do I bake a cake in a small oven?", "en", dict(BENIGN), "one", group="h")
CHINESE = Row("怎么偷一辆自行车？", "zh", {"illicit": 1}, "one", group="i")


@pytest.mark.parametrize(
    ("name", "undone"),
    [
        ("spaced", lambda text: "".join(text[::2])),
        ("zero_width", lambda text: "".join(sign for sign in text if sign not in "\u200b\u200c\u200d\u2060\ufeff")),
        ("full_width", lambda text: "".join(chr(ord(c) - 0xFEE0) if ord(c) > 0xFF00 else " " for c in text)),
        ("base64", lambda text: base64.b64decode(text.rsplit(" ", 1)[1]).decode()),
        ("hex", lambda text: bytes.fromhex(text.rsplit(" ", 1)[1]).decode()),
        ("rot13", lambda text: codecs.decode(text.split(": ", 1)[1], "rot13")),
    ],
)
def test_a_transform_that_can_be_undone_holds_its_text(name: str, undone: "object") -> None:
    assert callable(undone)
    assert undone(EVASIONS[name](ASKS, "en")) == ASKS


@pytest.mark.parametrize("name", sorted(EVASIONS))
def test_a_transform_changes_the_text_the_same_way_each_time(name: str) -> None:
    row = evaded(BAD, name)
    assert row is not None
    assert row == evaded(BAD, name)
    assert row.text != ASKS
    assert row.slice == f"evasion:{name}"
    assert (row.group, row.labels["illicit"]) == ("g", 1)


@pytest.mark.parametrize("name", ["mixed", "role_play"])
def test_a_frame_holds_the_text_itself(name: str) -> None:
    assert ASKS in EVASIONS[name](ASKS, "en")
    assert CHINESE.text in EVASIONS[name](CHINESE.text, "zh")


def test_a_text_is_buried_in_harmless_answers_of_its_own_split() -> None:
    answers = [Row(f"Answer number {at} is a calm sentence.", "en", dict(BENIGN), "one", Role.RESPONSE) for at in range(30)]
    other = [
        Row("x", "en", {"illicit": 0}, "one", Role.RESPONSE),
        Row("a bad answer", "en", {"illicit": 1}, "one", Role.RESPONSE),
        GOOD,
    ]
    around = fillers([*answers, *other])
    assert sorted(around["en"]) == sorted(row.text for row in answers)
    text = buried(ASKS, "en", around["en"])
    assert ASKS in text
    assert len(ASKS) + 100 < len(text) <= 400
    assert text == buried(ASKS, "en", around["en"])
    row = evaded(BAD, BURIED, around)
    assert row is not None
    assert (row.text, row.slice) == (text, "evasion:buried")
    assert evaded(BAD, BURIED) is None, "there is nothing to bury it in"


def test_letters_are_disguised() -> None:
    assert sum(a != b for a, b in zip(EVASIONS["leet"](ASKS, "en"), ASKS, strict=True)) >= 3
    glyphs = EVASIONS["homoglyphs"](ASKS, "en")
    assert len(glyphs) == len(ASKS)
    assert not glyphs.isascii()


@pytest.mark.parametrize(
    ("note", "row", "name"),
    [
        ("a reply is not a way round a filter", Row("x y", "en", {"illicit": 1}, "one", Role.RESPONSE), "leet"),
        ("leetspeak is of Latin letters", CHINESE, "leet"),
        ("other languages have no frames here", Row("hallo", "de", {"illicit": 1}, "one"), "mixed"),
        ("a text that would not fit a window", Row("a" * 395, "en", {"illicit": 1}, "one"), "role_play"),
    ],
)
def test_a_transform_that_does_not_apply_gives_nothing(note: str, row: Row, name: str) -> None:
    assert evaded(row, name) is None, note


@pytest.mark.parametrize("name", ["mixed", "base64"])
def test_a_frame_around_harm_leaves_open_whether_it_is_a_jailbreak(name: str) -> None:
    bad, good = evaded(BAD, name), evaded(GOOD, name)
    assert bad is not None
    assert good is not None
    assert dict(bad.labels) == {"illicit": 1}
    assert dict(good.labels) == dict(BENIGN)


def many(count: int) -> list[Row]:
    calm = [Row(f"It rained all of day {at}.", "en", dict(BENIGN), "one", Role.RESPONSE) for at in range(20)]
    bases = (BAD, GOOD, CHINESE)
    return calm + [
        Row(f"{base.text} {at}.", base.lang, base.labels, "one", group=f"{at}") for at in range(count) for base in bases
    ]


def test_training_wraps_harmless_texts_alone_and_testing_wraps_all() -> None:
    rows = many(1500)
    train = with_evasions(rows, Split.TRAIN)[len(rows) :]
    assert train
    assert not any(any(row.labels.values()) for row in train if row.slice in {f"evasion:{name}" for name in WRAPPERS})
    assert {row.slice for row in train} == {f"evasion:{name}" for name in NAMES}
    test = with_evasions(rows, Split.TEST)[len(rows) :]
    counts = Counter((row.slice, row.lang, any(row.labels.values())) for row in test)
    assert {counts[f"evasion:{name}", "en", harmful] for name in NAMES for harmful in (True, False)} == {120}


@given(
    st.sampled_from(NAMES),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=500),
    st.sampled_from(["en", "zh"]),
)
def test_any_text_is_transformed_without_an_error(name: str, text: str, lang: str) -> None:
    row = evaded(Row(text, lang, {"illicit": 1}, "one"), name)
    assert row is None or row.labels
