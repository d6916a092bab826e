"""One spelling for what looks alike: a table of cases, the way back to original offsets, and piece by piece as in one."""

from __future__ import annotations

import re
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation import escapes
from moderation.confusables import CONFUSABLES
from moderation.normalise import Normalised, begun, hidden, image, normalise

ESCAPE = re.compile(escapes.UNIT)


@pytest.mark.parametrize(
    ("text", "plain", "note"),
    [
        ("plain ASCII, left\nalone\t.", "plain ASCII, left\nalone\t.", "ASCII"),
        ("我们今天去公园。かな한국어", "我们今天去公园。かな한국어", "CJK, kana and Hangul stay"),
        ("ＡＢＣ１２３，．：＠", "ABC123,.:@", "full-width"),
        ("。｡", "。。", "a Chinese full stop stays one"),
        ("４１１１", "4111", "full-width digits"),
        ("٤١١१๑𝟏①²", "41111112", "digits of other scripts and shapes"),
        ("41\u200b11\u200d\ufeff\u00ad", "4111", "zero-width"),
        ("\u202eabc\u2066", "abc", "bidi controls"),
        ("a\U000e0041\U000e0042b", "ab", "tag characters"),
        ("1\ufe0f\u20e3", "1", "a keycap"),
        ("a\x01\x08\x7fb", "ab", "control characters"),
        ("аррӏе РауРаl", "apple PayPal", "Cyrillic look-alikes"),
        ("Αlρhα", "Alpha", "Greek look-alikes"),
        ("ꓮꓐ ᴀʙ 𝐀𝓫 🅰🄱", "AB ab Ab AB", "Lisu, small capitals, mathematical, squared"),
        ("e\u0301a\u0335z\u0336\u20d7", "eaz", "combining marks"),
        ("éÅñøłđ", "eAnold", "letters with marks and strokes"),
        ("\u00a0\u3000\u2003", "   ", "spaces"),
        ("–—−‐－", "-----", "dashes"),
        ("“a” ‘b’", "\"a\" 'b'", "quotation marks"),
        ("…", "...", "one becomes three"),
        ("½㎏㈠", "1/2kg(一)", "compatibility forms"),
        ("a\0b\ud800c", "a\ufffdb\ufffdc", "what no text should hold"),
        ("\u2028\u2029", "\n\n", "line separators"),
        ("\\n\\t\\r\\\"\\/", "\n\t\r\"/", "JSON's escapes, where a text holds JSON"),
        ("\\u5ffd\\u7565 \\u0034\\uff11", "忽略 41", "characters by their numbers, and what those look like"),
        ("\\\\n \\\\u0034 \\\\\\n", "\\\\n \\\\u0034 \\\\\n", "an escaped backslash escapes nothing"),
        ("\\u005cn", "/n", "nor does one by its number"),
        ("\\d \\u12 \\x4 \\", "\\d \\u12 \\x4 \\", "what is no escape"),
        ("\\x41\\u{42}\\U00000043\\xe4\\xbd\\xa0", "ABC你", "escapes of programs"),
        ("%41%42 %E4%BD%A0 %u0043", "AB 你 C", "URLs"),
        ("%2541 %25e4%25bd%25a0 %252541", "A 你 %41", "one nesting, and no more"),
        ("100% of %s, 5%de, %E4 %ff %e4%41", "100% of %s, 5%de, %E4 %ff %e4A", "signs that escape nothing"),
        ("&#65;&#x42;&#67 &lt;&commat;&NewLine;", "ABC <@\n", "HTML"),
        ("&amp;#65;&amp;lt; &amp;", "A< &", "nested HTML"),
        ("AT&T &nosuch; &#x110000; &", "AT&T &nosuch; &#x110000; &", "what is no entity"),
        ("a%5Cn", "a/n", "a backslash by its number escapes nothing here either"),
        ("k\u2800i\u034fl\u05b0l\u0650", "kill", "blanks and points of other scripts"),
        ("\\ud83d\\u200b!", "\ufffd!", "half a pair, and what shows nothing"),
        ("Straße ẞ ſ ﬁ İ", "Strasse SS s fi I", "letters whose folding is longer, ligatures, the long s"),
        ("ПРИВЕТ", "ПPИBET", "case is kept, and letters that look like no other"),
    ],
)
def test_table(text: str, plain: str, note: str) -> None:
    assert normalise(text).text == plain, note


def spans_back(text: str, part: str) -> str:
    found = normalise(text)
    at = found.text.index(part)
    span = found.original(at, at + len(part))
    return text[span.start : span.end]


@pytest.mark.parametrize(
    ("text", "part", "original"),
    [
        ("x 4\u200b1\u200b11\u200b y", "4111", "4\u200b1\u200b11"),
        ("卡４１１１，", "4111", "４１１１"),
        ("a…b", "..", "…"),
        ("\u200b\u200bab", "ab", "ab"),
        ("e\u0301f", "e", "e"),
        ("我的卡号4111", "4111", "4111"),
        ("\\nbob@x.io\\n", "bob@x.io", "bob@x.io"),
        ("55\\u0035\\u00355", "55555", "55\\u0035\\u00355"),
        ("a\\u0034", "4", "\\u0034"),
    ],
)
def test_back_to_the_original(text: str, part: str, original: str) -> None:
    assert spans_back(text, part) == original


def test_same_length_needs_no_map() -> None:
    assert normalise("卡号：４１１１，谢谢").starts is None
    assert normalise("卡号:4111").starts is None


def test_fast_way_and_slow_way_agree_on_every_code_point_and_an_image_never_changes_again() -> None:
    # The planes in between are empty or private: a code point in a thousand will do.
    assigned = (*range(0, 0x33000, 64), *range(0x33000, 0xE0000, 64_000), *range(0xE0000, 0xE0200, 64), sys.maxunicode - 63)
    for first in assigned:
        block = "".join(map(chr, range(first, first + 64)))
        images = "".join(map(image, block))
        assert normalise(block).text == images, hex(first)
        assert normalise(images).text == images, hex(first)


ESCAPES = st.text(alphabet='\\u0034n"/fé ', max_size=16)
SPELT = st.lists(
    st.sampled_from(
        ["%", "%25", "%41", "%E4", "%BD", "%A0", "%u", "%u0041", "\\x", "\\xe4", "\\xbd\\xa0", "\\u{1", "f600}", "\\U000", "&", "amp;",
         "#", "65", ";", "x4", "lt", "&amp;#", "2", "5", "é", " "]
    ), max_size=12,
).map("".join)
ODD = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("aé…\u200b４中，\u0301ﬁ㈠\0\ud800")), max_size=20)


@given(ODD | ESCAPES | SPELT, ODD | ESCAPES | SPELT)
def test_pieces_are_normalised_as_the_whole_where_no_escape_is_cut(first: str, second: str) -> None:
    cut = len(first) - begun(first)
    a, b, both = normalise(first[:cut]), normalise(first[cut:] + second), normalise(first + second)
    assert both.text == a.text + b.text
    assert starts(both, 0) == starts(a, 0) + starts(b, cut)
    assert len(first) - cut <= escapes.LONGEST


def starts(found: Normalised, shift: int) -> list[int]:
    return [at + shift for at in (found.starts if found.starts is not None else range(len(found.text)))]


@given(ODD | ESCAPES)
def test_result_is_plain_and_maps_into_the_text(text: str) -> None:
    found = normalise(text)
    found.text.encode()
    assert normalise(found.text).text == found.text or escapes.stands_in(found.text)
    for at in range(len(found.text)):
        span = found.original(at, at + 1)
        source = text[span.start : span.end]
        assert found.text[at] in image(source) if len(source) == 1 else ESCAPE.fullmatch(source)
    if found.starts is not None:
        assert list(found.starts) == sorted(found.starts)
        assert len(found.starts) == len(found.text)


@pytest.mark.parametrize("text", ["ascii text " * 90_000, "我们今天去公园" * 140_000, "卡号：４１１１，" * 120_000, "e\u0301" * 300_000])
def test_a_million_code_points_take_no_time(text: str) -> None:
    begun = time.process_time()
    normalise(text)
    assert time.process_time() - begun < 2.0


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(char)) for char in text)


def selectors(text: str) -> str:
    return "".join(chr(0xE0100 - 16 + ord(char)) for char in text)


@pytest.mark.parametrize(("text", "said", "note"), [
    ("plain", None, "ASCII"),
    ("我们❤\ufe0f", None, "a selector as emoji have it"),
    (f"Hi!{tags('a b')}x", "\n\n\na b\n", "tags, at their offsets"),
    (f"\U0001f600{selectors('ok')}", "\nok", "bytes in selectors"),
])  # fmt: skip
def test_what_does_not_show_is_read_beside_it(text: str, said: str | None, note: str) -> None:
    assert hidden(text) == said, note


@given(ODD.map(lambda text: text + tags("x~")), ODD)
def test_hidden_text_keeps_its_offsets(first: str, second: str) -> None:
    whole = hidden(first + second)
    assert whole is not None
    assert len(whole) == len(first + second)
    assert whole.startswith(hidden(first) or "")


def test_confusables_are_letters_that_stay_what_they_become() -> None:
    assert len(CONFUSABLES) > 150
    for one, letter in CONFUSABLES.items():
        assert image(one) == letter
        assert letter.isascii()
        assert letter.isalpha()
