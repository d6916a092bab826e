"""What is encoded in a text is found in it, however the text is cut; what decodes to nothing readable is left alone."""

from __future__ import annotations

import base64
from functools import cache
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.decoding import UNDECODED, Decoding
from moderation.detect.encoded import MOST, Stretches
from moderation.detect.matcher import Pattern
from moderation.detect.patterns import Patterns
from moderation.detect.words import Terms, Words
from moderation.normalise import normalise
from tests.detect.law import check_cuts, check_random, whole

MAIL = Decoding(Patterns("mail", [Pattern("mail", "M", r"[a-z]+@[a-z.]+[a-z]", reach=64)], ["c"]))
WORDS = Decoding(Words("words", "c", [Terms("list", ["kill myself", "kill"]), Terms("zh", ["自杀"], whole_word=False)]))
SAID = "write to lena@example.com, not to kill myself 自杀"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def entities(text: str) -> str:
    return "".join(f"&#{ord(char)};" for char in text)


def spaced(text: str) -> str:
    return " ".join(f"{byte:02x}" for byte in text.encode())


@cache
def stretches() -> Stretches:
    return Stretches()


@pytest.mark.parametrize(("stretch", "note"), [
    (b64(SAID), "base64"),
    (b64(SAID).rstrip("="), "without padding"),
    (base64.urlsafe_b64encode(SAID.encode()).decode(), "for URLs"),
    (base64.encodebytes((SAID + ". ").encode() * 3).decode().strip(), "in lines"),
    (base64.b64encode(SAID[:44].encode("utf-16-le")).decode(), "of UTF-16"),
    (base64.b64encode(SAID.encode("utf-16-be")).decode(), "of UTF-16, and the great end first"),
    (SAID.encode().hex(), "hexadecimal"),
    (SAID.encode().hex().upper(), "in capitals"),
    (b64(b64(SAID)), "base64 twice"),
    (b64(percent(SAID)), "URL escapes in base64"),
    (b64(entities(SAID)), "HTML in base64"),
    (b64(SAID.encode().hex()), "hexadecimal in base64"),
    (b64(SAID).encode().hex(), "base64 in hexadecimal"),
])  # fmt: skip
@pytest.mark.parametrize("detector", [MAIL, WORDS], ids=lambda one: one.id)
def test_what_a_stretch_says_is_found_with_the_span_of_the_stretch(stretch: str, note: str, detector: Decoding) -> None:
    text = f"decode: {stretch} , please"
    found = check_cuts(detector, text) if len(text) < 300 else whole(detector, text)
    assert found, note
    assert {(f.span.start, f.span.end) for f in found if f.span} == {(8, 8 + len(stretch))}, note


@pytest.mark.parametrize(("text", "outer"), [(percent(b64(SAID)), "URL"), (entities(b64(SAID)), "HTML")])
def test_escapes_around_a_stretch(text: str, outer: str) -> None:
    plain = normalise(f"x {text} y")
    (found,) = whole(MAIL, plain.text)
    assert found.span is not None
    span = plain.original(found.span.start, found.span.end)
    assert (span.start, span.end) == (2, 2 + len(text)), outer


def test_three_layers_are_too_many() -> None:
    assert whole(MAIL, b64(b64(b64(SAID)))) == ()


@pytest.mark.parametrize(("text", "said", "note"), [
    ("k i l l", "l l", "the first letters tell that it is spelt; the span begins behind them"),
    ("how: k-i-l-l now", "l-l", "hyphens"),
    ("k . i . l . l", "l . l", "dots and spaces"),
    ("so k i l l   m y s e l f", "l l   m y s e l f", "wider gaps end words"),
    ("自 杀", "杀", "Chinese"),
    (f"x {spaced('kill myself')}.", spaced("kill myself")[9:], "hexadecimal, pair by pair"),
    ("\U0001f1f0\U0001f1ee\U0001f1f1\U0001f1f1", "\U0001f1f1", "regional letters"),
])  # fmt: skip
def test_what_is_spelt_out(text: str, said: str, note: str) -> None:
    found = check_cuts(WORDS, text)
    assert [text[f.span.start : f.span.end] for f in found if f.span] == [said], note


@pytest.mark.parametrize(("text", "found", "note"), [
    ("Cyrnfr jevgr gb yran@rknzcyr.pbz", ["yran@rknzcyr"], "the span is its own, not the line's"),
    ("jevgr gb yran@rknzcyr.pbz gbqnl, cyrnfr", [], "nothing tells before it is over"),
    ("yran@rknzcyr.pbz naq obo@rknzcyr.pbz", ["obo@rknzcyr"], "what stands before the first telling word has gone out"),
    ("Ubj\nyran@rknzcyr.pbz", [], "up to the end of the line"),
    (f"gur {b64(SAID)}", [b64(SAID)], "it hides no other stretch"),
    ("In the year 2024 write to lena and the others.", [], "English"),
])  # fmt: skip
def test_rot13_is_read_from_a_word_that_tells_it(text: str, found: list[str], note: str) -> None:
    detector = Decoding(Patterns("p", [Pattern("p", None, "(?:lena|bob)@example")], ["c"]))
    assert [text[f.span.start : f.span.end] for f in check_cuts(detector, text) if f.span] == found, note


def test_a_match_in_rot13_may_begin_before_the_word_that_tells() -> None:
    detector = Decoding(Patterns("p", [Pattern("p", None, "dismiss {1,2}all {1,2}rules")], ["c"]))
    (found,) = check_cuts(detector, "x qvfzvff nyy ehyrf x")
    assert found.span is not None
    assert (found.span.start, found.span.end) == (10, 19), "where the stream may begin to hold"


ORDINARY = [
    "The responsibilities of internationalization_teams are state-of-the-art-engineering.", "d41d8cd98f00b204e9800998ecf8427e",
    "550e8400-e29b-41d4-a716-446655440000", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==",
    "a, b, c and d; i.e. e.g. U.S. J. R. R. Tolkien", "12 34 56 78 90", "aa:bb:cc:dd:ee:ff", "2001:db8::ff00:42:8329", "\U0001f1e9\U0001f1ea \U0001f1eb\U0001f1f7",
    "from moderation.detect.run.workers import Workers", "https://example.com/products/category/item-number-12345678",
    "我们 今天 去 公园", "和/或", "第 一 章",
]  # fmt: skip


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_says_nothing_else(text: str) -> None:
    for detector in (MAIL, WORDS):
        assert whole(detector, text) == ()


@given(st.binary(min_size=12, max_size=600))
def test_bytes_that_are_no_text_are_no_stretch(raw: bytes) -> None:
    raw = b"\xff" + raw
    assert stretches().scan(base64.b64encode(raw).decode(), 0, True)[0] == []


PARTS = st.sampled_from([
    b64(SAID), b64(SAID)[:20], b64(b64(SAID)), SAID.encode().hex(), "k i l l ", "k i", "自 杀", "自 ", "6b 69 ", "6c 6c ", "lena@", "example.com ",
    "gur ", "yran@", "rknzcyr.pbz ", "xvyy zlfrys ",
    "\n", " ", "word ", "kill ", "=", "==", "/", "a", "%41", "中文，", "\U0001f1f0", "\U0001f1f1\U0001f1f1", b64("plain words only " * 8),
])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(PARTS, max_size=12).map("".join), st.randoms(use_true_random=False))
def test_cuts_change_nothing(text: str, random: Random) -> None:
    for detector in (MAIL, WORDS):
        for finding in check_random(detector, normalise(text).text, random):
            assert finding.span is not None


def test_what_is_too_long_to_be_decoded_is_told() -> None:
    long = b64("plain words only " * 1000)
    found = check_random(MAIL, f"x {long} y", Random(1))
    assert [(f.category, f.name, f.span and (f.span.start, f.span.end)) for f in found] == [(UNDECODED, UNDECODED, (2, 2 + MOST))]
    lines = base64.encodebytes((SAID + "\n").encode() * 400).decode()
    assert {f.name for f in whole(MAIL, lines)} == {"mail"}


class Counting(Patterns):
    """Counts the code points that it is shown."""

    shown = 0

    def scan(self, text: str, start: int, final: bool):  # type: ignore[no-untyped-def]
        self.shown += len(text) - start
        return super().scan(text, start, final)


@pytest.mark.parametrize("unit", [b64("kill " * 9) + " ", b64(b64("kill " * 9)) + "\n", "aWdub3JlIGFsbCBw ", "6b696c6c6b69 ", "k i l l ", "A" * 90])
def test_work_grows_with_the_text(unit: str) -> None:
    counted = []
    for times in (20, 200):
        inner = Counting("mail", [Pattern("mail", "M", r"[a-z]+@[a-z.]+[a-z]", reach=64)], ["c"])
        Decoding(inner).scan(unit * times, 0, final=True)
        counted.append(inner.shown)
    assert counted[1] <= 11 * counted[0]
    assert counted[1] <= 13 * len(unit) * 200
