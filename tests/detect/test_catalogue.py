"""Each named pattern finds what it must and not what it must not, alone and among all, whatever cuts the text."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.catalogue import CATALOGUE, NAMES, named
from moderation.detect.matcher import Pattern
from moderation.detect.patterns import Patterns
from moderation.normalise import normalise
from tests.detect.law import check_cuts, check_random, whole

ALL = Patterns("all", CATALOGUE, ["c"] * len(CATALOGUE))


def alone(pattern: Pattern) -> Patterns:
    return Patterns("one", [pattern], ["c"])


EXAMPLES = [(pattern, text, True) for pattern in CATALOGUE for text in pattern.must] + [
    (pattern, text, False) for pattern in CATALOGUE for text in pattern.must_not
]


@pytest.mark.parametrize(("pattern", "text", "found"), EXAMPLES, ids=[f"{p.name}-{f}-{t}" for p, t, f in EXAMPLES])
def test_examples(pattern: Pattern, text: str, found: bool) -> None:
    plain = normalise(text).text
    assert len(check_cuts(alone(pattern), plain)) == found
    assert (pattern.name in {f.name for f in check_cuts(ALL, plain)}) is found or not found


def test_each_has_examples_of_both_sides_and_a_description() -> None:
    for pattern in CATALOGUE:
        assert pattern.must, pattern.name
        assert pattern.must_not, pattern.name
        assert pattern.description, pattern.name


def test_names() -> None:
    assert {"cn_id_card", "cn_mobile", "payment_card", "email", "iban", "ip"} <= set(NAMES)
    assert len(named("ip")) == 2
    assert named("no such") == ()


@pytest.mark.parametrize(
    ("text", "entity", "value"),
    [
        ("我的卡号4111111111111111，谢谢", "CREDIT_CARD", "4111111111111111"),
        ("地址192.168.1.100被攻击", "IP_ADDRESS", "192.168.1.100"),
        ("邮箱是zhang.san@gmail.com请查收", "EMAIL_ADDRESS", "zhang.san@gmail.com"),
        ("手机13812345678联系我", "CN_MOBILE", "13812345678"),
        ("手机+8613812345678联系我", "CN_MOBILE", "+8613812345678"),
        ("手机(+86)13812345678联系我", "CN_MOBILE", "13812345678"),
        ("电话（+86） 138-1234-5678", "CN_MOBILE", "138-1234-5678"),
        ("邮箱：张三（zhang@qq.com）", "EMAIL_ADDRESS", "zhang@qq.com"),
        ("zhang@qq.com(张三)", "EMAIL_ADDRESS", "zhang@qq.com"),
        ("почта ivan@mail.example.ru, спасибо", "EMAIL_ADDRESS", "ivan@mail.example.ru"),
        ("メールはken@example.jpです", "EMAIL_ADDRESS", "ken@example.jp"),
        ("buzón: a.b@correo.gob.es(urgente)", "EMAIL_ADDRESS", "a.b@correo.gob.es"),
        ("我的身份证号是11010519491231002X", "CN_ID_CARD", "11010519491231002X"),
        ("卡号6222021234567890128。", "CN_BANK_CARD", "6222021234567890128"),
        ("我的卡号４１１１１１１１１１１１１１１１，谢谢", "CREDIT_CARD", "４１１１１１１１１１１１１１１１"),
        ("卡4111\u200b1111\u200b1111\u200b1111\u200b谢", "CREDIT_CARD", "4111\u200b1111\u200b1111\u200b1111"),
        ("zhаng.sаn@gmаil.cоm", "EMAIL_ADDRESS", "zhаng.sаn@gmаil.cоm"),
        ("1\u03013812345678", "CN_MOBILE", "1\u03013812345678"),
        ("ＺＨＡＮＧ＠ｑｑ．ｃｏｍ", "EMAIL_ADDRESS", "ＺＨＡＮＧ＠ｑｑ．ｃｏｍ"),
    ],
)
def test_exact_spans_in_the_original_text(text: str, entity: str, value: str) -> None:
    plain = normalise(text)
    (finding,) = check_cuts(ALL, plain.text)
    assert finding.span is not None
    span = plain.original(finding.span.start, finding.span.end)
    assert (finding.entity, text[span.start : span.end]) == (entity, value)
    assert finding.score == 1_000_000


@pytest.mark.parametrize(
    ("text", "entities", "note"),
    [
        (
            "员工电话：\n1.13812345678\n2.13987654321\n身份证：\n1.11010519491231002X\n3.4111111111111111",
            ["CN_MOBILE", "CN_MOBILE", "CN_ID_CARD", "CREDIT_CARD"], "a list behind each heading",
        ),
        ("1.13812345678", ["CN_MOBILE"], "a list that begins with the text"),
        ("员工\r\n  - 12.13812345678", ["CN_MOBILE"], "a mark behind a bullet"),
        ("> 3.110105491231002", ["CN_ID_CARD"], "an older number in a quoted list"),
        ("名单：序号1.13812345678，序号2.6222021234567890128", ["CN_MOBILE", "CN_BANK_CARD"], "marks with their name"),
        ("pi is 3.14159265358979", [], "a fraction"),
        ("0.13812345678", [], "a fraction below one, at a line's beginning"),
        ("x\n100.13812345678", [], "three digits are no mark"),
        ("x = 2.13812345678", [], "a fraction within a line"),
        ("loss 1.4111111111111111", [], "a fraction of sixteen digits"),
    ],
)  # fmt: skip
def test_the_mark_of_a_list_is_no_fraction(text: str, entities: list[str], note: str) -> None:
    assert [finding.entity for finding in check_cuts(ALL, normalise(text).text)] == entities, note


@pytest.mark.parametrize("pattern", [p for p in CATALOGUE if not (p.entity or "").startswith("SECRET")], ids=lambda p: p.name)
def test_spans_have_no_signs_at_their_ends(pattern: Pattern) -> None:
    for text in pattern.must:
        plain = normalise(f"（{text}）！").text
        for finding in whole(alone(pattern), plain):
            assert finding.span is not None
            value = plain[finding.span.start : finding.span.end]
            assert value[-1].isalnum(), value
            assert value[0].isalnum() or value.startswith("+86"), value


def test_ties() -> None:
    def kinds(text: str) -> list[str | None]:
        return [f.entity for f in whole(ALL, text)]

    assert kinds("622202199001011234567") == []
    assert kinds("+8613812345678") == ["CN_MOBILE"]
    assert kinds("postgres://u:p@mail.example.com") == ["SECRET_URL_CREDENTIALS"]
    assert kinds("a@b.com,c@d.com") == ["EMAIL_ADDRESS"] * 2
    assert kinds("4111111111111111 4111111111111111") == ["CREDIT_CARD"] * 2


PARTS = st.sampled_from(
    [text for pattern in CATALOGUE for text in (*pattern.must, *pattern.must_not)]
    + [" ", "，", ".", "-", "1", "13812345678", "+86", "@", ":", "我的", "word ", "e", "京A", "DE89 3704"]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PARTS, max_size=8), st.randoms(use_true_random=False))
def test_law_over_mixtures(parts: list[str], random: Random) -> None:
    check_random(ALL, normalise("".join(parts)).text, random)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="0123456789 -.:@+aAfFzZxX/我号京", max_size=40))
def test_law_over_what_looks_like_values(text: str) -> None:
    check_cuts(ALL, text)


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_law_over_any_text(text: str) -> None:
    check_cuts(ALL, normalise(text).text)


PROSE = (
    "It was a bright cold day in April, and the clocks were striking thirteen. Winston Smith, his chin nuzzled into his breast in "
    "an effort to escape the vile wind, slipped quickly through the glass doors. 我们今天去公园散步吧，天气很好，大家都很开心。"
)


def test_prose_is_held_for_no_more_than_a_word() -> None:
    text, held = "", []
    hold = 0
    for word in PROSE.replace(" ", " \0").split("\0"):
        text += word
        hold = ALL.scan(text, hold, final=False).hold
        held.append(len(text) - hold)
    assert sorted(held)[len(held) // 2] <= 8
    assert max(held) <= 8 + len("breast")


def test_chinese_prose_is_not_held_at_all() -> None:
    text = "我们今天去公园散步吧，天气很好，大家都很开心。"
    assert [ALL.scan(text[:cut], 0, final=False).hold for cut in range(len(text))] == list(range(len(text)))


@pytest.mark.parametrize("text", [PROSE * 4000, "1" * 1_000_000, "a.b@" * 250_000, "手机13812345678联系" * 20_000, "3 7 " * 20_000])
def test_long_texts_are_linear(text: str) -> None:
    begun = time.process_time()
    ALL.scan(text, 0, final=True)
    assert time.process_time() - begun < 5.0
