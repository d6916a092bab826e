"""Telephone numbers: which groups of digits may be one, whether a country has such a number, and how sure that is.

The numbers of each country come from phonenumbers' metadata, put into expressions once; while a text is read, the library
itself is never asked, for it takes a hundred times longer. Like it, we tell numbers that could be in use, not those that are.

The only file that imports phonenumbers.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from moderation.detect.matcher import Hit, Pattern
from moderation.detect.pattern import Find, finder, options
from moderation.verdict import FULL_SCORE

ENTITY = "PHONE_NUMBER"
REGIONS = ("US", "GB", "DE", "FR", "IL", "IN", "CA", "BR", "CN")
"""presidio's default regions, and China for its landlines."""

_SURE = 750_000
"""The form of a telephone number, or a word that says so before it."""
_BARE = 400_000
"""Groups of digits that a country's numbers may look like, and much else."""


def _find(regex: str) -> Find:
    return finder(re2.compile(regex, options()))


def _whole(regex: str) -> Find:
    return _find(rf"\A(?:{regex})\z")


_ABROAD = r"[1-9](?:[ ().\-/]{0,3}\d){6,16}"
"""Behind a +."""
_HOME = (
    r"00[1-9]\d{7,13}|00[ \-]?[1-9]\d{0,2}[ \-]\(?0?\)?[1-9]\d{0,9}\)?(?:[ .\-/]\d{2,8}){0,5}",  # dialled from abroad
    r"\d{9,12}",
    r"(?:1[ .\-]?\(?)?[2-9]\d{2}\)?[ .\-/]{0,2}[2-9]\d{2}[ .\-]?\d{4}",  # North America
    r"0[1-9]\d{0,3}(?:\)[ .\-/]{0,3}|[ .\-/]{1,3})\d{3,8}(?:[ .\-]{1,2}\d{2,8}){0,3}",  # an area with its 0
    r"0[1-9](?:[ .\-]\d\d){4}",  # France
    r"[48]00(?:[ \-]\d{3,4}){2,5}|[48]00[ \-]\d{7}",  # China, free or shared
    r"[6-9]\d{4}[ \-]\d{5}",  # India
    r"[1-9]\d\)?[ \-]?9?\d{4}[ \-]\d{4}",  # Brazil
    r"1[ \-][78]\d\d[ \-]\d{3}[ \-]\d{3}",  # Israel
)
"""How numbers are written at home: few places in a text of numbers look like one of these, which is what keeps it cheap."""
_WITH_CODE = r"[ \-]{1,2}\(?0?\)?\d{1,4}\)?[ \-]\d{3,8}(?:[ \-]\d{2,8}){0,3}"
"""Behind a country code."""
_ELSEWHERE = r"[1-9]\d{1,4}\)?(?:[ .\-/]\d{2,8}){1,5}"
"""For regions whose ways we do not know."""

_NO_PHONE = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}\Z|\d{4}([-/.])\d{1,2}\1\d{1,2}(?:\D|\Z)|\d{1,2}([-/.])\d{1,2}\2\d{4}(?:\D|\Z)|\d{1,2}\.\d{5,}(?:\D|\Z)"
)
"""Addresses, dates and fractions."""
_JOINED = re.compile(r"[0-9 ()/]*(?:[.\-][0-9()/.\-]*)?")
_LANDLINE = re.compile(r"0\d{2,3}-\d{3,4} ?\d{4}")
"""An area of China with a hyphen behind it."""
_AREA = re.compile(r"0?[1-9]\d{1,4}\)")
_SMALL = re.compile(r"(?:[0-9]{1,3}[ .\-/])*([0-9]{1,3})[ .\-/]")
_BEHIND_SMALL = re.compile(r"(?:\A|[^0-9])[0-9]{1,3}[ .\-/]\Z")
"""No number begins with two groups so small behind a third: that is a table of numbers, and one look does for a stretch of it."""
_DIGITS = re.compile(r"[0-9]+")
_NOT_DIGITS = re.compile(r"[^0-9]+")

_WORDS = _find(
    r"(?i)\b(?:(?:tele|cell|smart)?phones?|tel|telefono?|telefone|telephone|mobil[eo]?|handy|cell|cellular|celular|call(?:s|ed|ing)?"
    r"|dial|fax|whatsapp|sms|text me|hotline|helpline|landline|contact (?:number|no)|(?:reach|contact) (?:me|us|him|her|them)"
    r"|(?:my|our|your|his|her|their) (?:\w+ )?number|anrufen|rufnummer|appele[zr]|portable|llama(?:r|me)?)(?:\b|_|\d)"
    r"|电话|電話|手机|手機|座机|座機|传真|傳真|联系|聯繫|联络|聯絡|致电|致電|热线|熱線|拨打|撥打|来电|呼叫|打给|我的号码|我的號碼"
)
_OTHER = _find(
    r"(?i)(?:\b(?:order|invoice|ticket|tracking|serial|reference|ref|receipt|parcel|version|isbn|issn|sku|timestamp)"
    r"(?: ?(?:numbers?|no\.?|nr\.?|id|code))?|(?:订单|编|单|序列|流水|型|版本|货)号?码?|订单编号|时间戳)[ :#.=是为]{0,4}\z"
)
"""What a number of another kind stands behind."""


_KINDS = (
    "fixed_line", "mobile", "toll_free", "premium_rate", "shared_cost", "personal_number", "voip", "pager", "uan", "voicemail",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Plan:
    """The numbers of one country code."""

    code: int
    trunk: str
    """What is dialled before a number from within the country."""
    numbers: str
    """An expression of all that may be in use, without trunk prefix."""
    general: str
    """What every number of the country looks like, too: some kind may say more than that."""
    formats: tuple[tuple[str, int, int, bool], ...]
    """How they are written, the first that fits: their beginning, least and most digits, whether the trunk may be left out."""


def _plans(library: Any, code: int) -> Iterator[_Plan]:
    """One for each region of a country code, or for the code that belongs to no region."""
    for region in library.COUNTRY_CODE_TO_REGION_CODE[code]:
        metadata = library.PhoneMetadata
        known = metadata.metadata_for_nongeo_region(code) if region == "001" else metadata.metadata_for_region(region)
        kinds = [getattr(known, kind) for kind in _KINDS]
        numbers = dict.fromkeys(kind.national_number_pattern for kind in kinds if kind is not None)
        formats: list[tuple[str, int, int, bool]] = []
        for one in known.number_format:
            least, most = _digits(one.pattern)
            rule = one.national_prefix_formatting_rule or ""
            free = one.national_prefix_optional_when_formatting or not _NOT_DIGITS.sub("", rule.replace("\\1", ""))
            begin = one.leading_digits_pattern[-1] if one.leading_digits_pattern else ""
            if most >= 7:
                formats.append((begin, least, most, bool(free)))
        numbers.pop(None, None)
        if numbers:
            yield _Plan(code, known.national_prefix or "", "|".join(f"(?:{one})" for one in numbers),
                        known.general_desc.national_number_pattern, tuple(formats))


def _digits(pattern: str) -> tuple[int, int]:
    """The fewest and the most digits of a format, which is groups of digits such as (\\d{3})(\\d{4,5})."""
    least = most = 0
    for low, high in re.findall(r"\\d(?:\{(\d+)(?:,(\d+))?\})?", pattern):
        least += int(low or 1)
        most += int(high or low or 1)
    return least, most


class Plans:
    """Which bare digits are a number: of the regions that were asked for, or behind a + of any."""

    def __init__(self, regions: Sequence[str], library: Any = None) -> None:
        """Raises ValueError for a region without telephones."""
        self._library = importlib.import_module("phonenumbers") if library is None else library
        self._known = frozenset(self._library.COUNTRY_CODE_TO_REGION_CODE)
        self._abroad: dict[int, tuple[Find, list[tuple[Find, Find]]]] = {}
        self.codes = tuple(dict.fromkeys(self._code(region) for region in regions))
        plans = [plan for code in self.codes for plan in _plans(self._library, code)]
        told = [f"{plan.trunk}(?:{plan.numbers})" for plan in plans if plan.trunk]
        told += [f"{plan.code}(?:{plan.numbers})" for plan in plans]
        told += [plan.numbers for plan in plans if all(free for *_, free in plan.formats)]
        self._told = _whole("|".join(f"(?:{one})" for one in told))
        self._partly = [
            (_whole(plan.numbers), [(re2.compile(begin, options()), *more) for begin, *more in plan.formats])
            for plan in plans if any(free for *_, free in plan.formats) and not all(free for *_, free in plan.formats)
        ]  # fmt: skip

    def _code(self, region: str) -> int:
        known = self._library.PhoneMetadata.metadata_for_region(region)
        if known is None:
            raise ValueError(f"{region} is not a region with phone numbers; write two letters, as in us or cn")
        return int(known.country_code)

    def at_home(self, bare: str) -> bool:
        raw, count = bare.encode(), len(bare)
        if self._told(raw, 0, count)[0] == 0:
            return True
        if bare[0] == "0":
            return False
        for numbers, formats in self._partly:
            if numbers(raw, 0, count)[0] == 0:
                for begin, least, most, free in formats:
                    if least <= count <= most and begin.match(raw):
                        if free:
                            return True
                        break
        return False

    def abroad(self, bare: str) -> bool:
        """Country code first."""
        for width in (1, 2, 3):
            code = int(bare[:width])
            if code in self._known:
                if code not in self._abroad:
                    begun = [(f"{code}(?:{plan.trunk})?", plan) for plan in _plans(self._library, code)]
                    self._abroad[code] = (
                        _whole("|".join(f"(?:{before}(?:{plan.numbers}))" for before, plan in begun)),
                        [(_whole(f"{before}(?:{one.general})"), _whole(f"{before}(?:{one.numbers})")) for before, one in begun],
                    )
                raw, count = bare.encode(), len(bare)
                some, each = self._abroad[code]
                return some(raw, 0, count)[0] == 0 and any(
                    general(raw, 0, count)[0] == 0 and numbers(raw, 0, count)[0] == 0 for general, numbers in each
                )
        return False


class Abroad:
    """The check of what stands behind a +."""

    def __init__(self, plans: Plans) -> None:
        self._plans = plans

    def __call__(self, before: str, match: str, after: str) -> Hit | None:
        return next((Hit(end, FULL_SCORE) for bare, end in _ends(match, after, 11) if self._plans.abroad(bare)), None)


class Home:
    """The check of what stands by itself."""

    def __init__(self, plans: Plans, chinese: bool, north_american: bool) -> None:
        self._plans = plans
        self._chinese = chinese
        self._bare = _find(r"\A1?[2-9]\d{2}[2-9]\d{6}\z") if north_american else None

    def __call__(self, before: str, match: str, after: str) -> Hit | None:
        last = before[-1:]
        if last and last in ".,-/_" and before[-2:-1].isdigit():
            return None
        small = _SMALL.match(match)
        skip = small.start(1) if small is not None else 0
        if skip and _BEHIND_SMALL.search(before[-5:]):
            return Hit(0, skip=skip)
        return self._asked(before, match, after) or Hit(0, skip=max(1, skip))

    def _asked(self, before: str, match: str, after: str) -> Hit | None:
        around = before.encode()
        said = _WORDS(around, 0, len(around))[0] >= 0
        if not said and match.isdigit() and (self._bare is None or self._bare(match.encode(), 0, len(match))[0] < 0):
            # Bare digits are far more often something else.
            return None
        if _NO_PHONE.match(match) or _OTHER(around, 0, len(around))[0] >= 0:
            return None
        for bare, end in _ends(match, after, 9):
            if bare.startswith("00"):
                found = self._plans.abroad(bare[2:])
            else:
                found = len(bare) <= 13 and self._plans.at_home(bare)
            if found and (said or len(bare) >= 8):
                return self._judged(before, match[:end], said)
        return None

    def _judged(self, before: str, number: str, said: bool) -> Hit:
        form = number.startswith("00") or (before.endswith("(") and _AREA.match(number) is not None)
        form = form or (self._chinese and _LANDLINE.fullmatch(number) is not None)
        return Hit(len(number), _SURE if said or form else _BARE)


def _ends(run: str, after: str, least: int) -> Iterator[tuple[str, int]]:
    """What of a run may be one number, the likeliest first: bare digits and end.

    It ends where a group of digits does; the longest is the likeliest. But the first space behind a hyphen or a point is likely
    to be its end, for what follows there is something else (415-555-2671 2024), unless less than `least` digits stand before it
    (021-5432 1234). Nor is a year likely to be part of it.
    """
    joined = _JOINED.match(run)
    first = joined.end() if joined is not None else 0
    joined_up: list[tuple[str, int]] = []
    early: list[tuple[str, int]] = []
    late: list[tuple[str, int]] = []
    bare = ""
    for group in _DIGITS.finditer(run):
        begin, end = group.span()
        if end == len(run) and after.isascii() and after.isalnum():
            break
        digits = group.group()
        bare += digits
        if 7 <= len(bare) <= 17:
            year = len(digits) == 4 and digits.startswith(("19", "20")) and run[begin - 1] == " "
            (late if year else joined_up if end <= first < len(run) and len(bare) >= least else early).append((bare, end))
    yield from reversed(joined_up)
    yield from reversed(early)
    yield from reversed(late)


def patterns(regions: Sequence[str]) -> list[Pattern]:
    """Those of telephone numbers, as the regions (two upper-case letters) write them. Raises ValueError."""
    plans = Plans(regions)
    codes = "|".join(str(code) for code in plans.codes if code != 1)
    home = "|".join((
        *_HOME, *([f"(?:{codes}){_WITH_CODE}"] if codes else []), *([] if set(regions) <= set(REGIONS) else [_ELSEWHERE]),
    ))  # fmt: skip
    return [
        Pattern("phone_number", ENTITY, _ABROAD, behind_one_of="+", weak=True, check=Abroad(plans)),
        Pattern(
            "phone_number", ENTITY, home, not_before="0-9A-Za-z+", weak=True,
            check=Home(plans, "CN" in regions, "US" in regions or "CA" in regions),
        ),
    ]  # fmt: skip
