"""The guess from the script alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.language import language_of


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("Hello there", "en"), ("你好，世界", "zh"), ("我在用 Qwen 写代码", "zh"), ("これはペンです", "ja"), ("東京タワー", "ja"),
        ("안녕하세요 세계", "ko"), ("Привет, мир", "ru"), ("Привіт, світе", "uk"), ("مرحبا بالعالم", "ar"), ("سلام گچ", "fa"),
        ("שלום", "he"), ("สวัสดี", "th"), ("नमस्ते", "hi"), ("Γειά σου", "el"), ("12345 !?", "und"), ("", "und"), ("😀", "und"),
        ("Please translate 你好 into French for me", "en"), ("ＨＥＬＬＯ", "en"),
    ],
)  # fmt: skip
def test_table(text: str, tag: str) -> None:
    assert language_of(text) == tag


@given(st.text(max_size=50))
def test_any_text_has_a_tag(text: str) -> None:
    assert language_of(text).isalpha()
