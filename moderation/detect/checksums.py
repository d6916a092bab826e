"""The arithmetic of numbers that carry their own proof. Takes bare strings, says yes or no; knows nothing of texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

_USCC = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_PROVINCE_CODES = (
    "11 12 13 14 15 21 22 23 31 32 33 34 35 36 37 41 42 43 44 45 46 50 51 52 53 54 61 62 63 64 65 71 81 82 83"
)
_PROVINCES = frozenset(_PROVINCE_CODES.split())
_IBAN_TABLE = (
    "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DJ:27 DK:18 "
    "DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 HU:28 IE:22 IL:23 IQ:23 "
    "IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MN:20 MR:27 MT:31 "
    "MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 "
    "SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20 YE:30"
)
_IBAN_LENGTHS = {pair[:2]: int(pair[3:]) for pair in _IBAN_TABLE.split()}

_DOUBLED = bytes(sum(divmod(2 * (code - 48), 10)) if 48 <= code <= 57 else 0 for code in range(256))
"""What an ASCII digit counts in every second place: the digits of its double."""

CHINESE_BINS = (
    "62", "9558", "436742", "601382", "601428", "603367", "603506", "603601", "603694", "603708", "685800", "690755", "940012",
    "940013", "940015", "940016", "940018", "940021", "940022", "940023", "940027", "940031", "940034", "940039", "940049",
    "940061",
)  # fmt: skip


def luhn(digits: str) -> bool:
    raw = digits.encode()
    return (sum(raw[::-2]) - 48 * len(raw[::-2]) + sum(raw[-2::-2].translate(_DOUBLED))) % 10 == 0


def is_date(year: int, month: int, day: int) -> bool:
    if not 1 <= month <= 12 or day < 1:
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return day <= (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]


def cn_id(text: str) -> bool:
    """A resident identity number of 18 characters (GB 11643): province, date, check character."""
    if len(text) != 18 or not text[:17].isdigit() or text[:2] not in _PROVINCES:
        return False
    if not is_date(int(text[6:10]), int(text[10:12]), int(text[12:14])):
        return False
    total = sum(int(digit) * (1 << (17 - place)) for place, digit in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17].upper()


def cn_id_15(text: str) -> bool:
    """The older form: province and date of birth in the 20th century, nothing to check by."""
    return (
        len(text) == 15
        and text.isdigit()
        and text[:2] in _PROVINCES
        and is_date(1900 + int(text[6:8]), int(text[8:10]), int(text[10:12]))
    )


def cn_uscc(text: str) -> bool:
    """A unified social credit code (GB 32100): 18 characters, the last one checks."""
    if len(text) != 18 or any(char not in _USCC for char in text):
        return False
    total = sum(_USCC.index(char) * pow(3, place, 31) for place, char in enumerate(text[:17]))
    return _USCC[-total % 31] == text[17]


def iban_length(country: str) -> int | None:
    return _IBAN_LENGTHS.get(country)


def iban(text: str) -> bool:
    """Upper case, no spaces."""
    if _IBAN_LENGTHS.get(text[:2]) != len(text) or not text.isalnum() or not text.isascii():
        return False
    turned = text[4:] + text[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def is_chinese_card(digits: str) -> bool:
    """A bank card of a Chinese issuer, by its first digits, its length and its check digit."""
    return 16 <= len(digits) <= 19 and digits.startswith(CHINESE_BINS) and luhn(digits)


def is_payment_card(digits: str) -> bool:
    """A card of one of the large networks, whose issuer is not Chinese."""
    return len(digits) in _lengths(digits[:4]) and not digits.startswith(CHINESE_BINS) and luhn(digits)


def begins_a_card(groups: Sequence[str]) -> bool:
    """Whether the first of some groups of digits, or the first few together, are a card of any issuer."""
    digits = "".join(groups)
    lengths = range(16, 20) if digits.startswith(CHINESE_BINS) else _lengths(digits[:4])
    count = 0
    for group in groups:
        count += len(group)
        if count in lengths and luhn(digits[:count]):
            return True
    return False


@lru_cache(maxsize=10_000)
def _lengths(first: str) -> frozenset[int]:
    """How many digits a card may have, by its first four: most numbers are told apart by that alone."""
    return frozenset(length for length in range(13, 20) if _network(first, length))


def _network(digits: str, length: int) -> bool:
    """Whether a card of this length may begin like this."""
    if not 13 <= length <= 19:
        return False
    two, three, four = int(digits[:2]), int(digits[:3]), int(digits[:4])
    match digits[0]:
        case "4":
            return length in (13, 16, 19)
        case "5":
            return (51 <= two <= 55 and length == 16) or (two in (50, 56, 57, 58) and length >= 16)
        case "2":
            return (2221 <= four <= 2720 or 2200 <= four <= 2204) and length == 16
        case "3":
            if two in (34, 37):
                return length == 15
            if 3528 <= four <= 3589:
                return length >= 16
            return length == 14 and (300 <= three <= 305 or two in (36, 38, 39) or three == 309)
        case "6":
            wide = four == 6011 or 644 <= three <= 649 or two == 65 or four in (6304, 6759, 6761, 6762, 6763)
            return wide and length >= 16
        case "8":
            return two == 81 and length >= 16
        case _:
            return False
