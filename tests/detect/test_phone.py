"""Telephone numbers: which groups of digits are one, where it ends, how sure that is, and that we agree with the library."""

from __future__ import annotations

from typing import Any

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from moderation.detect.patterns import Patterns
from moderation.detect.phone import REGIONS, Plans, patterns
from moderation.normalise import normalise
from tests.detect.law import check_cuts

SURE, BARE, ABROAD = 750_000, 400_000, 1_000_000


def detector(*regions: str) -> Patterns:
    found = patterns(regions or REGIONS)
    return Patterns("phones", found, ["personal_data"] * len(found))


@pytest.fixture(scope="module")
def phones() -> Patterns:
    return detector()


@pytest.mark.parametrize(("text", "value", "score", "note"), [
    ("Tel: 021-5432 1234", "021-5432 1234", SURE, "a space in the number behind the area"),
    ("座机 021-5432 1234", "021-5432 1234", SURE, "the same"),
    ("电话：021-6789 4321 转 8001", "021-6789 4321", SURE, "with an extension"),
    ("联系电话 0571-8765 4321", "0571-8765 4321", SURE, "a longer area"),
    ("传真 010-6234 5678", "010-6234 5678", SURE, "a fax"),
    ("010-12345678", "010-12345678", SURE, "the form of a Chinese landline says it"),
    ("0755-26001234-801", "0755-26001234", SURE, "before its extension"),
    ("（010）62781234", "010)62781234", SURE, "an area in parentheses"),
    ("86-10-62781234", "86-10-62781234", BARE, "a country code without a +"),
    ("0086 10 6278 1234", "0086 10 6278 1234", SURE, "dialled from abroad"),
    ("热线 400 820 8820", "400 820 8820", SURE, "a number for all of China"),
    ("You can reach me at (415) 555-2671", "415) 555-2671", SURE, "an area in parentheses"),
    ("he was at (415) 555-2671", "415) 555-2671", SURE, "without a word, too"),
    ("my number is 415-555-2671", "415-555-2671", SURE, "a word"),
    ("my mobile number: 4155552671", "4155552671", SURE, "bare digits behind a word"),
    ("4155552671", "4155552671", BARE, "bare digits of North America"),
    ("415-555-2671", "415-555-2671", BARE, "groups"),
    ("415-555-2671 2024", "415-555-2671", BARE, "a year behind it"),
    ("call +1 415-555-2671 2024", "1 415-555-2671", ABROAD, "and with a country code"),
    ("tel +49 30 1234567 2024", "49 30 1234567", ABROAD, "where numbers have many lengths"),
    ("+44 (0)20 7946 0958", "44 (0)20 7946 0958", ABROAD, "with the 0 that is not dialled"),
    ("+86 021-6278 1234", "86 021-6278 1234", ABROAD, "and one that is"),
    ("020 7946 0958", "020 7946 0958", BARE, "bare groups stay low"),
    ("01 23 45 67 89", "01 23 45 67 89", BARE, "France"),
    ("appelez le 06 12 34 56 78", "06 12 34 56 78", SURE, "with a French word"),
    ("Rufnummer 030/1234567", "030/1234567", SURE, "Germany"),
    ("98765 43210", "98765 43210", BARE, "India"),
    ("tel 11 98765-4321", "11 98765-4321", SURE, "Brazil"),
    ("call 1-700-123-456", "1-700-123-456", SURE, "Israel"),
])  # fmt: skip
def test_a_number(phones: Patterns, text: str, value: str, score: int, note: str) -> None:
    text = normalise(text).text
    (found,) = check_cuts(phones, text)
    assert found.span is not None
    assert (text[found.span.start : found.span.end], found.score) == (value, score), note


@pytest.mark.parametrize(("text", "note"), [
    ("order 415-555-2671", "an order"), ("order number: 4155552671", "its number"), ("订单号 010-12345678", "in Chinese"),
    ("快递单号：02062781234", "a parcel"), ("1699999999", "a timestamp"), ("20241105123001", "another"),
    ("2024-11-05 12:30:01", "a time"), ("call at 12:30 on 2024-11-05", "with a word"), ("tel 2024/01/15 10:30", "a date"),
    ("phone 10.2.3.4", "an address"), ("version 1.415.555.2671", "a version"), ("version 1.2.3.4567890", "another"),
    ("phone 1/1 1/2 3/4 1/8 1/16", "fractions"), ("0.1234567890", "a fraction"), ("1,415,555,267", "thousands"),
    ("978-7-111-12345-6", "an ISBN"), ("ISBN 9787111123456", "bare"), ("isbn 0-306-40615-2", "the older form"),
    ("phone 1 2 3 4 5 6 7 8 9 10 11 12", "a row of a table"), ("call 911", "too short"), ("050-4111", "too short without a word"),
    ("1a415-555-2671", "part of a token"), ("415-555-2671a", "the same"), ("2024-415-555-2671", "part of a longer one"),
    ("+999 12345678", "no such country"),
])  # fmt: skip
def test_no_number(phones: Patterns, text: str, note: str) -> None:
    assert check_cuts(phones, normalise(text).text) == (), note


def test_other_regions() -> None:
    assert [f.score for f in check_cuts(detector("PL"), "telefon 512 345 678")] == [SURE]
    assert check_cuts(detector("PL"), "tel 415-555-2671") == ()


KINDS = range(11)


def test_we_know_every_country() -> None:
    plans = Plans(REGIONS)
    for region in phonenumbers.SUPPORTED_REGIONS:
        for kind in KINDS:
            example: Any = phonenumbers.example_number_for_type(region, kind)
            if example is not None:
                number = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)[1:]
                assert plans.abroad(number), (region, kind)


@pytest.mark.parametrize("region", REGIONS)
def test_we_know_how_a_country_writes_its_own(region: str) -> None:
    plans = Plans([region])
    for kind in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.TOLL_FREE):
        example: Any = phonenumbers.example_number_for_type(region, kind)
        if example is not None and len(str(example.national_number)) >= 8:
            written = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL)
            assert plans.at_home("".join(filter(str.isdigit, written))), (region, kind)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["1", "44", "49", "33", "86", "7", "800", "55"]), st.text("0123456789", min_size=6, max_size=13))
@example("49", "4969000")
def test_behind_a_plus_we_say_what_the_library_says(code: str, digits: str) -> None:
    try:
        theirs = phonenumbers.is_valid_number(phonenumbers.parse(f"+{code}{digits}"))
    except phonenumbers.NumberParseException:
        theirs = False
    ours = PLANS.abroad(code + digits)
    # Theirs knows carriers' codes, which nobody writes behind a +; ours is no wider.
    assert theirs or not ours


PLANS = Plans(REGIONS)


class Counting:
    """The library, and how often anything of it is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        return getattr(phonenumbers, name)


def test_the_library_is_not_asked_while_a_text_is_read() -> None:
    library = Counting()
    plans = Plans(REGIONS, library)
    before = library.asked
    assert before > 0
    assert plans.at_home("02079460958")
    assert library.asked == before
    for _ in range(100):
        assert plans.abroad("442079460958")
        assert not plans.abroad("999123456789")
    once = library.asked
    assert once > before, "a country's numbers are put together when they are first met"
    assert plans.abroad("442079460959")
    assert library.asked == once
