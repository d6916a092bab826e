"""The patterns that can be asked for by name: what they look like, how they prove themselves, and examples of both sides.

Order matters: where two match the same stretch, the earlier one wins. A name may have several patterns. Every expression is
written for normalised text, and boundaries are ASCII classes, so that Chinese text around a value never hides it.
"""

from __future__ import annotations

import ipaddress
import re

from moderation.detect import checksums
from moderation.detect.matcher import Hit, Pattern

_NOT_DIGITS = re.compile(r"[^0-9]")
_FRACTION = re.compile(r"[0-9]\.\Z")
# What a numbered list has before its items. Shorter than the stretch that is shown, so that \A is the text's own beginning.
_LIST_MARK = re.compile(r"(?:(?:\A|[\r\n])[ \t>*\-]{0,8}|序号 ?|第 ?)[1-9][0-9]?\.\Z")
_VERSION = re.compile(r"(?i)(?:(?<![a-z])v|version|\bver\.?|\bversion number|release|build|版本号?|固件)[ :是为号=]{0,3}\Z")
_ID_WORDS = re.compile(r"(?i)身份证|证件|\bid\b|identity")
_PASSPORT_WORDS = re.compile(r"(?i)护照|passport|旅行证件")
_GIT = re.compile(r"(?i)git@")
_RETINA = re.compile(r"(?i)@[1-4]x\.(?:png|jpe?g|gif|webp|svg)\Z")
_USER_OF_URL = re.compile(r"(?i)(?:\A|[^a-z])(?!mailto:)[a-z][a-z0-9+.\-]{0,20}://\Z")
# Operators and labels of programs: q@k.transpose(0, 1), this@Activity.context, x @self.weight.
_CODE_AT = re.compile(r"(?:[A-Za-z]{1,2}|this|super|return|break|continue)@|.*@(?:self|this|cls|np|torch|tf|jnp)\.")
_MEMBER = re.compile(r".*[a-z][A-Z]|(?:shape|dtype|weights?|bias|grad|device|real|imag|values|ndim|data)\Z")
_DOMAINS = re.compile(
    r"(?i)(?!to\Z)[a-z]{2}|com|org|net|edu|gov|mil|int|info|biz|name|mobi|asia|pro|app|dev|xyz|top|site|online|shop|store|tech"
    r"|technology|cloud|club|wang|ltd|group|email|mail|work|live|life|world|today|company|agency|academy|education|studio|design"
    r"|digital|media|news|blog|chat|team|zone|plus|space|website|vip|ink|link|love|ren|fun|icu|tel|jobs|post|museum|travel|aero"
    r"|coop|bank|finance|law|legal|art|city|page|wiki|network|systems|software|solutions|services|consulting|marketing|health"
    r"|center|global|international|university|school|example|test|local|localhost|localdomain|internal|intranet|corp|lan|home"
    r"|invalid|private"
)
"""Ends of domains that an address may have where the place looks like a program's."""


def _fraction(before: str) -> bool:
    """Whether a number goes on from digits and a point before it: 0.138…; the mark of a list is none: 1.138…"""
    return _FRACTION.search(before) is not None and _LIST_MARK.search(before) is None


def _bare(text: str) -> str:
    return _NOT_DIGITS.sub("", text)


def _cn_id(before: str, match: str, after: str) -> Hit | None:
    bare = match.replace(" ", "").replace("-", "")
    return Hit(len(match)) if not _fraction(before) and checksums.cn_id(bare) else None


def _cn_id_15(before: str, match: str, after: str) -> Hit | None:
    if _fraction(before) or not checksums.cn_id_15(match):
        return None
    # Device numbers and American Express have 15 digits too; they have a check digit, which this one has not.
    return Hit(len(match)) if not checksums.luhn(match) or _ID_WORDS.search(before) else None


def _cn_mobile(before: str, match: str, after: str) -> Hit | None:
    inside_word = before[-1:].isascii() and before[-1:].isalpha() and after.isascii() and after.isalpha()
    return None if inside_word or before.endswith(("0x", "0X")) or _fraction(before) else Hit(len(match))


def _card(before: str, match: str, after: str, chinese: bool) -> Hit | None:
    """The longest stretch that is a card and ends where a group of digits ends."""
    if _fraction(before):
        return None
    bare = _bare(match)
    if bare.startswith(checksums.CHINESE_BINS) is not chinese:
        return None
    valid = checksums.is_chinese_card if chinese else checksums.is_payment_card
    length, count = len(match), len(bare)
    while count >= 13:
        if match[length - 1] in "0123456789":
            following = match[length] if length < len(match) else after
            if (not following or following not in "0123456789") and valid(bare[:count]):
                return Hit(length)
            count -= 1
        length -= 1
    return None


def _cn_bank_card(before: str, match: str, after: str) -> Hit | None:
    return _card(before, match, after, chinese=True)


def _payment_card(before: str, match: str, after: str) -> Hit | None:
    return _card(before, match, after, chinese=False)


def _email(before: str, match: str, after: str) -> Hit | None:
    if _RETINA.search(match) or (after in (":", "/") and _GIT.match(match)) or _USER_OF_URL.search(before):
        return None
    return None if _is_code(match, after) else Hit(len(match))


def _is_code(match: str, after: str) -> bool:
    """Whether what has the form of an address is an operator or a label of a program. Where in doubt it is an address."""
    end = match.rpartition(".")[2]
    if _DOMAINS.fullmatch(end) or (end.lower() == "to" and after != "("):
        return False
    return after == "(" or _MEMBER.match(end) is not None or _CODE_AT.match(match) is not None


def _iban(before: str, match: str, after: str) -> Hit | None:
    wanted = checksums.iban_length(match[:2].upper())
    if wanted is None:
        return None
    seen = 0
    for length, char in enumerate(match, 1):
        seen += char != " "
        if seen == wanted:
            following = match[length] if length < len(match) else after
            whole = not (following.isascii() and following.isalnum())
            return Hit(length) if whole and checksums.iban(match[:length].replace(" ", "").upper()) else None
    return None


def _ipv4(before: str, match: str, after: str) -> Hit | None:
    parts = match.split(".")
    odd = len(parts) != 4 or any(int(part) > 255 or (len(part) > 1 and part[0] == "0") for part in parts)
    if not odd and not _FRACTION.search(before) and not _VERSION.search(before):
        return Hit(len(match))
    # What begins inside stands behind a number and a point, so it is a part of something; but the first number may mark a list.
    return Hit(0, skip=1 if len(parts) == 5 and len(parts[0]) < 3 else len(match))


def _ipv6(before: str, match: str, after: str) -> Hit | None:
    for text in (match, match.rstrip(":")):
        groups = text.split(":")
        if not any(char.isdigit() for char in text) or not any(len(group) > 2 for group in groups):
            continue
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            continue
        return Hit(len(text.rstrip(":")))
    return None


def _mac(before: str, match: str, after: str) -> Hit | None:
    same = len(set(match[2::3])) == 1
    return Hit(len(match)) if len(match) == 17 and same and match[:2] + match[3:5] != "0000" else None


def _cn_uscc(before: str, match: str, after: str) -> Hit | None:
    return Hit(len(match)) if checksums.cn_uscc(match) else None


def _cn_passport(before: str, match: str, after: str) -> Hit | None:
    return Hit(len(match)) if _PASSPORT_WORDS.search(before) else None


def _plate(before: str, match: str, after: str) -> Hit | None:
    if sum(char.isdigit() for char in match) < 2:
        return None
    # A model, a part or a service rather than a car: 新B12345型电池.
    return Hit(len(match)) if after not in _PRODUCT or _PLATE_WORDS.search(before) else None


def _credentials(before: str, match: str, after: str) -> Hit | None:
    """Not where a template stands for the password."""
    password = match.partition("://")[2].partition(":")[2].rpartition("@")[0]
    return None if _TEMPLATE.fullmatch(password) else Hit(len(match))


_MORE_DIGITS = r"(?:[ \-]?\d){12,18}"
_TEMPLATE = re.compile(r"[$#%@]?\{.*\}|\$\w+|%[\w()]+%?|\[\w+\]|[*.x]{3,}|(?i:your|my)?[_\-]?(?i:pass(?:word|wd)?|pwd)")
_PRODUCT = frozenset("型款版系芯部件服产")
_PLATE_WORDS = re.compile(r"(?i)车|牌|驾|停|违章|plate")
_PROVINCE = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"

CATALOGUE: tuple[Pattern, ...] = (
    Pattern(
        "cn_id_card", "CN_ID_CARD",
        r"[1-8]\d{5}[ \-]?(?:18|19|20)\d{2}[ \-]?(?:0[1-9]|1[0-2])[ \-]?(?:0[1-9]|[12]\d|3[01])[ \-]?\d{3}[\dXx]",
        "Chinese resident identity number, 18 characters, with its date and check character",
        not_before="0-9", not_after="0-9", check=_cn_id,
        must=("我的身份证号是11010519491231002X", "id 11010519491231002x.", "110105 19491231 002X", "440308199901101512号"),
        must_not=("110105194912310021", "订单号 1101051949", "11010519491331002X", "9911010519491231002X"),
    ),
    Pattern(
        "cn_id_card", "CN_ID_CARD", r"[1-8]\d{5}\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}",
        "The older Chinese identity number, 15 digits with a date",
        not_before="0-9", not_after="0-9A-Za-z", check=_cn_id_15,
        must=("旧身份证130503670401001", "110105491231002"),
        must_not=("130503671301001", "990503670401001", "1305036704010011"),
    ),
    Pattern(
        "cn_mobile", "CN_MOBILE", r"(?:(?:\+|00)?86[ \-]?)?1[3-9]\d[ \-]?\d{4}[ \-]?\d{4}",
        "Chinese mobile number, with or without +86, spaces or hyphens",
        not_before="0-9+", not_after="0-9", check=_cn_mobile,
        must=(
            "手机13812345678联系我", "+86 138-1234-5678", "0086-13812345678", "电话：138 1234 5678", "8613812345678",
            "tel:+8613812345678", "(+86)13812345678", "1.13812345678", "序号12.13812345678",
        ),
        must_not=(
            "12812345678", "138123456789", "0.13812345678", "共 2.13812345678", "+13812345678", "x13812345678y", "0x18500000186",
        ),
    ),
    Pattern(
        "cn_bank_card", "CN_BANK_CARD", f"[469]{_MORE_DIGITS}", "Bank card of a Chinese issuer (UnionPay), with its check digit",
        not_before="0-9", check=_cn_bank_card,
        must=("卡号6222021234567890128", "6222 0212 3456 7890 128"),
        must_not=("6222021234567890123", "4111111111111111"),
    ),
    Pattern(
        "payment_card", "CREDIT_CARD", f"[2-68]{_MORE_DIGITS}", "Payment card of the large networks, with its check digit",
        not_before="0-9", check=_payment_card,
        must=(
            "我的卡号4111111111111111，谢谢", "4111-1111-1111-1111", "4111 1111 1111 1111 2027", "amex 378282246310005.",
            "5555555555554444",
        ),
        must_not=("4111111111111112", "41111111111111111", "1234567812345670", "0.4111111111111111", "6222021234567890128"),
    ),
    Pattern(
        "email", "EMAIL_ADDRESS",
        r"[A-Za-z0-9][A-Za-z0-9._%+'\-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}",
        "E-mail address", not_before="A-Za-z0-9", check=_email,
        must=(
            "邮箱是zhang.san@gmail.com请查收", "<a@b.io>", "a.b+c@mail.example.co.uk.", "ｚhang＠qq．com",
            "张三（zhang@qq.com）", "zhang@qq.com（张三）", "mailto:a@b.com", "bob@mail.corp.intern", "W@x.io",
        ),
        must_not=(
            "a@b", "react@18.2.0", "icon@2x.png", "git@github.com:org/repo", "@name.com", "ssh://git@github.com/org/repo.git",
            "git+ssh://git@github.com/org/repo", "q@k.transpose(-2, -1)", "W@x.mean()", "h@w.to(device)", "x@self.weight",
            "query@key.to(device)", "weights@inputs.shape",
            "this@MainActivity.applicationContext",
        ),
    ),
    Pattern(
        "iban", "IBAN_CODE", r"(?i)[a-z]{2}\d{2}(?: ?[a-z0-9]{4}){2,7}(?: ?[a-z0-9]{1,3})?",
        "International bank account number, with its checksum", not_before="A-Za-z0-9", check=_iban,
        must=(
            "DE89370400440532013000", "账户DE89 3704 0044 0532 0130 00。", "GB82 WEST 1234 5698 7654 32",
            "NO9386011117947 is mine",
        ),
        must_not=("DE89370400440532013001", "DE8937040044053201300", "XX89370400440532013000"),
    ),
    Pattern(
        "ip", "IP_ADDRESS", r"\d{1,3}(?:\.\d{1,3}){3,7}", "IPv4 address", not_before="0-9", not_after="0-9", check=_ipv4,
        must=("地址192.168.1.100被攻击", "10.0.0.1:8080", "from 8.8.8.8."),
        must_not=("1.2.3.4.5", "256.1.1.1", "v1.2.3.4", "版本 1.2.3.4", "1.2.3", "01.2.3.4"),
    ),
    Pattern(
        "ip", "IP_ADDRESS", r"[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7}", "IPv6 address",
        not_before="0-9A-Za-z:.", not_after="0-9A-Za-z", check=_ipv6,
        must=("2001:db8::8a2e:370:7334", "地址fe80::1ff:fe23:4567:890a。", "2001:0db8:85a3:0000:0000:8a2e:0370:7334"),
        must_not=("12:30:45", "std::string", "a::b", "00:1a:2b:3c:4d:5e"),
    ),
    Pattern(
        "mac", "MAC_ADDRESS", r"[0-9A-Fa-f]{2}(?:[:\-][0-9A-Fa-f]{2}){5,7}", "Hardware address of a network card",
        not_before="0-9A-Za-z:\\-", not_after="0-9A-Za-z", check=_mac,
        must=("00:1a:2b:3c:4d:5e", "网卡3C-52-82-11-22-33在线"),
        must_not=("00:1a:2b:3c:4d", "00:1a:2b:3c:4d:5e:6f:70", "00:1a-2b:3c:4d:5e"),
    ),
    Pattern(
        "cn_uscc", "CN_USCC", r"[1-9A-GNY][1-9A-GNY]\d{6}[0-9A-HJ-NPQRTUWXY]{10}",
        "Chinese unified social credit code, with its check character",
        not_before="0-9A-Za-z", not_after="0-9A-Za-z", check=_cn_uscc,
        must=("统一社会信用代码91350100M000100Y43", "91350100M000100Y43."),
        must_not=("91350100M000100Y44", "91350100M000100Y4", "91350100M000100I43"),
    ),
    Pattern(
        "cn_passport", "CN_PASSPORT", r"[EePp][A-HJ-NP-Za-hj-np-z]\d{7}|[DEGPSdegps]\d{8}",
        "Chinese passport number, where the text before it speaks of a passport",
        not_before="0-9A-Za-z", not_after="0-9A-Za-z", check=_cn_passport,
        must=("护照号码：E12345678", "passport no. EA1234567", "My passport is G12345678"),
        must_not=("E12345678", "护照号码：E1234567", "型号 G12345678"),
    ),
    Pattern(
        "cn_license_plate", "CN_LICENSE_PLATE",
        f"[{_PROVINCE}][A-HJ-NP-Z][·•\\- ]?"
        "(?:[A-HJK][A-HJ-NP-Z0-9][0-9]{4}|[0-9]{5}[A-HJK]|[A-HJ-NP-Z0-9]{5}|[A-HJ-NP-Z0-9]{4}[学警港澳挂领])",
        "Number plate of mainland China", not_after="0-9A-Za-z", check=_plate,
        must=(
            "车牌京A12345", "粤B·D12345停在门口", "沪A 88888", "苏E1234学", "车牌京AF12345", "京A12345D", "京A·12345",
            "车牌号京A12345部分被遮挡", "开着京A12345去上班",
        ),
        must_not=("京ABCDEF", "京A1234", "京I12345", "京A12345678", "新B12345型电池", "川D98765部件", "使用云A123456服务"),
    ),
    Pattern(
        "url_with_credentials", "SECRET_URL_CREDENTIALS",
        r"(?i)[a-z][a-z0-9+.\-]{1,20}://[!#-.0-9;=?A-Z\[\]_^`a-z{|}~]{0,100}:[!#-.0-9:;=?A-Z\[\]_^`a-z{|}~]{1,200}"
        r"@[a-z0-9](?:[a-z0-9.\-]{0,252}[a-z0-9])?",
        "URL with a user name and a password in it", not_before="A-Za-z0-9", check=_credentials,
        must=("postgres://app:s3cr3t@db.internal:5432/x", "见https://u:p@example.com/"),
        must_not=("https://example.com/a@b", "http://user@example.com", "https://example.com:8080/",
                  "postgresql://${USER}:${PASS}@db", "mysql://user:password@localhost", "redis://:$REDIS_PASSWORD@cache"),
    ),
)  # fmt: skip
"""Every pattern that has a name."""

NAMES: tuple[str, ...] = tuple(dict.fromkeys(pattern.name for pattern in CATALOGUE))


def named(name: str) -> tuple[Pattern, ...]:
    """The patterns of a name; none where there is no such name."""
    return tuple(pattern for pattern in CATALOGUE if pattern.name == name)
