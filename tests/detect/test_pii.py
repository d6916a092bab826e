"""Personal data by entity: ours without presidio, presidio's one run at a time, phones, the law, and no network."""

from __future__ import annotations

import subprocess
import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.detect.catalogue import CATALOGUE
from moderation.detect.patterns import Patterns
from moderation.detect.pii import ENTITIES, OURS, PHONE, Pii, why_not
from moderation.detect.recognizers import THEIRS
from moderation.normalise import normalise
from tests.detect.law import check_cuts, check_random, whole


@pytest.fixture(scope="module")
def ours() -> Pii:
    return Pii("pii", "personal_data", [*OURS, PHONE])


@pytest.fixture(scope="module")
def every() -> Pii:
    return Pii("pii", "personal_data", list(ENTITIES))


@pytest.mark.parametrize(
    ("text", "entity", "value", "score"),
    [
        ("call +1 415-555-2671 now", PHONE, "1 415-555-2671", 1_000_000),
        ("Tel: (415) 555-2671.", PHONE, "415) 555-2671", 750_000),
        ("电话010-62781234，谢谢", PHONE, "010-62781234", 750_000),
        ("ring 020 7946 0958 ok", PHONE, "020 7946 0958", 400_000),
        ("+44 20 7946 0958", PHONE, "44 20 7946 0958", 1_000_000),
        ("手机13812345678联系", "CN_MOBILE", "13812345678", 1_000_000),
        ("手机+86 13812345678联系", "CN_MOBILE", "+86 13812345678", 1_000_000),
        ("4111 1111 1111 1111", "CREDIT_CARD", "4111 1111 1111 1111", 1_000_000),
        ("6222021234567890128", "CN_BANK_CARD", "6222021234567890128", 1_000_000),
        ("192.168.1.100", "IP_ADDRESS", "192.168.1.100", 1_000_000),
    ],
)
def test_ours(ours: Pii, text: str, entity: str, value: str, score: int) -> None:
    (finding,) = check_cuts(ours, text)
    assert finding.span is not None
    assert (finding.entity, text[finding.span.start : finding.span.end], finding.score) == (entity, value, score)
    assert finding.category == "personal_data"


@pytest.mark.parametrize(
    "text", ["2024-01-15 10:30", "order 20240115001", "3.14159265358979", "pages 100-200", "12/31/2024 23:59", "1234567", "0.5551234567"]
)
def test_numbers_that_are_nothing(ours: Pii, text: str) -> None:
    assert check_cuts(ours, text) == ()


@pytest.mark.parametrize(
    ("entity", "text", "value"),
    [
        ("US_SSN", "my ssn is 536-90-4399.", "536-90-4399"),
        ("US_ITIN", "itin 912-70-1234", "912-70-1234"),
        ("US_PASSPORT", "passport A12345678", "A12345678"),
        ("US_BANK_NUMBER", "my bank account number is 945456787654", "945456787654"),
        ("US_DRIVER_LICENSE", "driver license H12234567", "H12234567"),
        ("US_MBI", "medicare 1EG4-TE5-MK73", "1EG4-TE5-MK73"),
        ("US_NPI", "npi 1234567893", "1234567893"),
        ("ABA_ROUTING_NUMBER", "routing 121000358", "121000358"),
        ("MEDICAL_LICENSE", "证号BB1388568。", "BB1388568"),
        ("UK_NHS", "nhs 943 476 5919 ok", "943 476 5919"),
        ("UK_NINO", "NI AB 12 34 56 C.", "AB 12 34 56 C"),
        ("UK_DRIVING_LICENCE", "licence MORGA657054SM9IJ", "MORGA657054SM9IJ"),
        ("UK_PASSPORT", "uk passport AB1234567", "AB1234567"),
        ("CRYPTO", "钱包1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2谢谢", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"),
        ("AU_ABN", "abn 51 824 753 556", "51 824 753 556"),
        ("AU_ACN", "acn 000 000 019", "000 000 019"),
        ("AU_TFN", "tfn 876 543 210", "876 543 210"),
        ("AU_MEDICARE", "medicare 2123 45670 1", "2123 45670 1"),
        ("CA_SIN", "sin 130 692 544", "130 692 544"),
        ("IN_AADHAAR", "aadhaar 3123 4567 8909", "3123 4567 8909"),
        ("IN_PAN", "pan card AAASA1111R", "AAASA1111R"),
        ("IN_VOTER", "voter KSD1287349", "KSD1287349"),
        ("IN_PASSPORT", "passport A3456781", "A3456781"),
        ("SG_NRIC_FIN", "nric S1234567D", "S1234567D"),
        ("IT_FISCAL_CODE", "codice AAAMRA85T10A562S", "AAAMRA85T10A562S"),
        ("PL_PESEL", "pesel 44051401359", "44051401359"),
        ("ES_NIF", "nif 55555555K", "55555555K"),
        ("ES_NIE", "nie X9613851N", "X9613851N"),
        ("FI_PERSONAL_IDENTITY_CODE", "hetu 010594Y9032", "010594Y9032"),
        ("KR_RRN", "주민 900101-1234568", "900101-1234568"),
        ("TH_TNIN", "เลข 1101700230708", "1101700230708"),
        ("DE_TAX_ID", "steuer 86095742719", "86095742719"),
        ("SE_PERSONNUMMER", "personnummer 811228-9874", "811228-9874"),
        ("TR_NATIONAL_ID", "tc 10000000146", "10000000146"),
        ("ZA_ID_NUMBER", "id 8001015009087", "8001015009087"),
    ],
)
def test_theirs(entity: str, text: str, value: str | None) -> None:
    alone = Pii("pii", "personal_data", [entity])
    found = [text[f.span.start : f.span.end] for f in check_cuts(alone, text) if f.span]
    assert found == ([value] if value else [])
    glued = normalise(f"号{value or text}号").text
    if value and any(f.score == 1_000_000 for f in whole(alone, text)):
        assert [glued[f.span.start : f.span.end] for f in check_cuts(alone, glued) if f.span] == [value], "between Chinese"


def test_context_raises_a_score() -> None:
    alone = Pii("pii", "personal_data", ["US_SSN"])
    assert [f.score for f in whole(alone, "536-90-4399")] == [500_000]
    assert [f.score for f in whole(alone, "social security 536-90-4399")] == [850_000]


@pytest.mark.parametrize(("entity", "text", "score", "note"), [
    ("US_SSN", "my ssn is 219099999", 850_000, "its own name right before it"),
    ("US_SSN", "SSN: 219099999", 850_000, "and in capitals"),
    ("US_SSN", "social security number 219099999", 850_000, "and in full"),
    ("US_SSN", "219099999", None, "nine digits are nothing"),
    ("US_SSN", "the social event of 219099999", 400_000, "a word of context is less than the name"),
    ("US_SSN", "ssn 123456789", None, "what nobody was given is nothing with a name either"),
    ("US_ITIN", "itin 912701234", 850_000, "another name"),
    ("US_ITIN", "912701234", 300_000, "without it"),
    ("UK_NINO", "NI number: AB 12 34 56 C", 850_000, "a short name"),
    ("UK_NINO", "uni AB 12 34 56 C", 500_000, "which is no part of a word"),
    ("ES_NIF", "12345678Z", 1_000_000, "a passed check is all that presidio asks for"),
    ("ES_NIF", normalise("identificación: 12345678Z").text, 1_000_000, "also one with an accent"),
    ("ES_NIE", "NIE X1234567L", 1_000_000, "the same with its name"),
    ("FI_PERSONAL_IDENTITY_CODE", "hetu 131052-308T", 1_000_000, "a code"),
    ("KR_RRN", "900101-1234568", 1_000_000, "and so it is here"),
])  # fmt: skip
def test_how_sure_a_national_number_is(entity: str, text: str, score: int | None, note: str) -> None:
    alone = Pii("pii", "personal_data", [entity])
    assert [f.score for f in check_cuts(alone, text)] == ([] if score is None else [score]), note


@pytest.mark.parametrize(("text", "entity", "value"), [
    ("NIE X1234567L", "ES_NIE", "X1234567L"),
    ("pesel 44051401359, bank account", "PL_PESEL", "44051401359"),
    ("bank account pesel 44051401359", "PL_PESEL", "44051401359"),
    ("passport A12345678", "US_PASSPORT", "A12345678"),
    ("my ssn is 219099999", "US_SSN", "219099999"),
])  # fmt: skip
def test_the_likeliest_of_all_entities_wins(every: Pii, text: str, entity: str, value: str) -> None:
    assert [(f.entity, text[f.span.start : f.span.end]) for f in check_cuts(every, text) if f.span] == [(entity, value)]


@pytest.mark.parametrize(("text", "found"), [
    ("电话 010 5555 5555 5555 4444", [("CREDIT_CARD", "5555 5555 5555 4444")]),
    ("Card / phone: 030 4111 1111 1111 1111", [("CREDIT_CARD", "4111 1111 1111 1111")]),
    ("phone: 0 5555 5555 5555 4444", [("CREDIT_CARD", "5555 5555 5555 4444")]),
    ("tel 021 13812345678", [("CN_MOBILE", "13812345678")]),
    ("电话 010 110105 19491231 002X", [("CN_ID_CARD", "110105 19491231 002X")]),
    ("call 415-555-2672 4111 1111 1111 1111", [(PHONE, "415-555-2672"), ("CREDIT_CARD", "4111 1111 1111 1111")]),
    ("4111 1111 1111 1111 tel 415-555-2671", [("CREDIT_CARD", "4111 1111 1111 1111"), (PHONE, "415-555-2671")]),
    ("电话:+86 13812345678", [("CN_MOBILE", "+86 13812345678")]),
])  # fmt: skip
def test_a_telephone_number_hides_nothing_stronger(ours: Pii, text: str, found: list[tuple[str, str]]) -> None:
    assert [(f.entity, text[f.span.start : f.span.end]) for f in check_cuts(ours, text) if f.span] == found


@pytest.mark.parametrize(("text", "found", "note"), [
    ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", True, "spelt out by itself"),
    ("41 11 11 11 11 11 11 11", True, "in twos"),
    ("on 12 4111 1111 1111 1111", True, "behind a small number"),
    ("5 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", False, "in a table of digits"),
    ("7 7 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 7 7", False, "in a longer one"),
])  # fmt: skip
def test_cards_in_small_groups(ours: Pii, text: str, found: bool, note: str) -> None:
    assert bool(check_cuts(ours, text)) is found, note


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["4111111111111111", "6222021234567890128", "378282246310005", "5555555555554444", "6011111111111117"]), st.data())
def test_cards_in_large_groups_are_those_of_the_catalogue(ours: Pii, digits: str, data: st.DataObject) -> None:
    text = "".join(("" if at % 4 or not at else data.draw(st.sampled_from(["", " ", "-"]))) + char for at, char in enumerate(digits))
    text += data.draw(st.sampled_from(["", " 12", "-1234", "7", "x"]))
    cards = [pattern for pattern in CATALOGUE if pattern.entity in ("CREDIT_CARD", "CN_BANK_CARD")]
    theirs = Patterns("cards", cards, ["personal_data"] * len(cards))
    assert [f.span for f in whole(ours, text) if f.entity in ("CREDIT_CARD", "CN_BANK_CARD")] == [f.span for f in whole(theirs, text)]


def test_regions() -> None:
    chinese = Pii("pii", "personal_data", list(ENTITIES), ["cn"])
    text = "ssn 536-90-4399, 13812345678, +1 415-555-2671, a@b.io"
    assert [f.entity for f in whole(chinese, text)] == ["CN_MOBILE", PHONE, "EMAIL_ADDRESS"]
    with pytest.raises(ValueError, match="two letters"):
        Pii("pii", "personal_data", [PHONE], ["mars"])


def test_what_cannot_be_asked_for() -> None:
    assert why_not("EMAIL_ADDRESS") is None
    assert "trained model" in (why_not("PERSON") or "")
    assert "not an entity" in (why_not("SHOE_SIZE") or "")
    with pytest.raises(ValueError, match="trained model"):
        Pii("pii", "personal_data", ["LOCATION"])


def test_some_entities_only() -> None:
    mail = Pii("pii", "personal_data", ["EMAIL_ADDRESS"])
    assert [f.entity for f in whole(mail, "a@b.io 13812345678")] == ["EMAIL_ADDRESS"]
    assert mail.version != Pii("pii", "personal_data", ["EMAIL_ADDRESS", "IBAN_CODE"]).version


PARTS = st.sampled_from(
    ["536-90-4399", "943 476 5919", "+1 415-555-2671", "(415) 555-2671", "13812345678", "4111 1111 1111 1111", "AB 12 34 56 C", " ", "，",
     "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "S1234567D", "word ", "我的", "a@b.io", "-", ".", "+", "(", "192.168.1.1", "7", "ssn ", "\n"]
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(PARTS, max_size=7), random=st.randoms(use_true_random=False))
def test_law_over_mixtures(every: Pii, parts: list[str], random: Random) -> None:
    check_random(every, normalise("".join(parts)).text, random, 2)


@settings(max_examples=30, deadline=None)
@given(text=st.text(alphabet="0123456789 -.()+aAB号", max_size=25))
def test_law_over_what_looks_like_numbers(every: Pii, text: str) -> None:
    check_cuts(every, text)


@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=30))
def test_law_over_any_text(every: Pii, text: str) -> None:
    check_cuts(every, normalise(text).text)


def test_prose_is_held_for_no_more_than_a_word(every: Pii) -> None:
    prose = "It was a bright cold day in April, and the clocks were striking thirteen. Winston Smith slipped quickly through the doors. "
    held = []
    hold = 0
    text = ""
    for word in prose.replace(" ", " \0").split("\0"):
        text += word
        hold = every.scan(text, hold, final=False).hold
        held.append(len(text) - hold)
    assert sorted(held)[len(held) // 2] <= 8


ALONE = """
import sys
def no_network(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request"):
        raise SystemExit("network: " + event)
sys.addaudithook(no_network)
from moderation.detect.pii import ENTITIES, OURS, PHONE, Pii
text = "a@b.co.uk 13812345678 +1 415-555-2671 536-90-4399 8.8.8.8"
Pii("pii", "c", [*OURS, PHONE]).scan(text, 0, True)
assert not {"spacy", "presidio_analyzer", "tldextract"} & set(sys.modules), "ours need no presidio"
print(len(Pii("pii", "c", list(ENTITIES)).scan(text, 0, True).findings))
"""


def test_no_presidio_for_ours_and_no_network_for_any() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.returncode) == ("5", 0), done.stderr


def test_every_entity_of_presidio_is_there() -> None:
    assert len(Pii("pii", "c", list(THEIRS)).version) == 64
