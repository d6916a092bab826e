"""Numbers that prove themselves: real ones pass, and a wrong digit anywhere fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.detect import checksums as c


@pytest.mark.parametrize(
    ("check", "good"),
    [
        (c.luhn, "79927398713"),
        (c.cn_id, "11010519491231002X"),
        (c.cn_id, "440308199901101512"),
        (c.cn_uscc, "91350100M000100Y43"),
        (c.iban, "DE89370400440532013000"),
        (c.iban, "GB82WEST12345698765432"),
        (c.is_payment_card, "4111111111111111"),
        (c.is_payment_card, "378282246310005"),
        (c.is_chinese_card, "6222021234567890128"),
    ],
)
def test_one_wrong_digit_fails(check: Callable[[str], bool], good: str) -> None:
    assert check(good)
    for at, char in enumerate(good):
        if char.isdigit():
            wrong = good[:at] + str((int(char) + 1) % 10) + good[at + 1 :]
            assert not check(wrong), wrong


@pytest.mark.parametrize(
    ("date", "good"),
    [((2024, 2, 29), True), ((2023, 2, 29), False), ((1900, 2, 29), False), ((2000, 2, 29), True), ((2024, 4, 31), False),
     ((2024, 13, 1), False), ((2024, 1, 0), False)],
)  # fmt: skip
def test_dates(date: tuple[int, int, int], good: bool) -> None:
    assert c.is_date(*date) is good


def test_a_card_is_one_or_the_other() -> None:
    assert not c.is_payment_card("6222021234567890128")
    assert not c.is_chinese_card("4111111111111111")


@given(st.text(max_size=30))
def test_any_text_has_an_answer(text: str) -> None:
    for check in (c.cn_id, c.cn_id_15, c.cn_uscc, c.iban):
        assert check(text) in (True, False)


@given(st.text(alphabet="0123456789", min_size=1, max_size=25))
def test_any_digits_have_an_answer(digits: str) -> None:
    assert not (c.is_payment_card(digits) and c.is_chinese_card(digits))


@pytest.mark.parametrize(("groups", "is_one", "note"), [
    (["4111", "1111", "1111", "1111"], True, "in fours"),
    (["4111111111111111", "2027"], True, "with a year behind it"),
    (["6222", "0212", "3456", "7890", "128"], True, "of a Chinese issuer"),
    (["3782", "822463", "10005"], True, "in other groups"),
    (["4111", "1111", "1111", "1112"], False, "a wrong check digit"),
    (["4111", "1111", "1111", "11112"], False, "it ends within a group"),
    (["9111", "1111", "1111", "1111"], False, "nobody's"),
])  # fmt: skip
def test_groups_that_begin_a_card(groups: list[str], is_one: bool, note: str) -> None:
    assert c.begins_a_card(groups) is is_one, note
