"""Stretches of a text that say something else once they are decoded: base64, hexadecimal, rot13, letters spelt out one by one.

Each is a *stretch*: found like a match of a pattern (matcher.py), so that cutting a text anywhere gives the same stretches, and a
stream waits for one as it waits for a match. Only what decodes to readable text is one: an image or a hash never is. Knows
nothing of what is looked for in the decoded text.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import NamedTuple

import re2

from moderation.detect import regex, syntax
from moderation.detect.matcher import Hit, Match, Matcher, Pattern
from moderation.detect.pattern import WINDOW, Find, finder, options

MOST = 8192
"""Code points of a stretch, at most: what a stream waits for, and what an edit takes. Wrapped lines go on as the next stretch."""
_LEAST = 12
"""Bytes of text that make a stretch of base64: fewer come about by chance."""

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_ANY = r"[A-Za-z0-9+/_\-]"
_STANDARD = str.maketrans("-_", "+/")
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")


class Stretch(NamedTuple):
    """A stretch and what it says."""

    start: int
    end: int
    said: str
    cut: bool
    """It may go on, and what it says after MOST code points nobody has read."""
    lead: int | None = None
    """Of one whose code points stand for one each: how many of what it says stand before it."""


# ---- base64 ------------------------------------------------------------------------------------------------------------

# The three bytes of four characters, each of ASCII, a first byte of UTF-8 or one that goes on (a, l, c), as far as the characters
# tell: the first gives six bits of the first byte, the second the high four of the second, the third the high two of the third.
_FIRST: dict[str, Callable[[int], bool]] = {
    "a": lambda n: 8 <= n < 32 or n in (2, 3), "c": lambda n: 32 <= n < 48, "l": lambda n: 48 <= n < 62,
}  # fmt: skip
_SECOND: dict[str, Callable[[int], bool]] = {
    "a": lambda n: n & 15 in (0, 2, 3, 4, 5, 6, 7), "c": lambda n: 8 <= n & 15 < 12, "l": lambda n: n & 15 >= 12,
}  # fmt: skip
_THIRD: dict[str, Callable[[int], bool]] = {
    "a": lambda n: n & 3 < 2, "c": lambda n: n & 3 == 2, "l": lambda n: n & 3 == 3,
}  # fmt: skip


def _class(chosen: Callable[[int], bool]) -> str:
    some = "".join(char for number, char in enumerate(_ALPHABET) if chosen(number))
    return "[" + some.replace("+", r"+\-").replace("/", "/_") + "]"


def _quanta(kinds: str) -> str:
    four = (_class(_FIRST[one[0]]) + _class(_SECOND[one[1]]) + _class(_THIRD[one[2]]) + _ANY for one in kinds.split())
    return "(?:" + "|".join(four) + ")"


# A byte of 0 (z) beside one of ASCII: UTF-16.
_FIRST["z"], _SECOND["z"], _THIRD["z"] = (lambda n: n == 0), (lambda n: n & 15 == 0), (lambda n: n & 3 == 0)
_OPEN = "aaa aal alc lcc lca lcl"
_TAIL = rf"(?:{_ANY}{{44,}}\r?\n(?:{_ANY}{{60,}}\r?\n)*)?{_ANY}*={{0,2}}"
"""The rest of a line, and of lines that are wrapped."""
_NARROW = _quanta(_OPEN) + _quanta(f"{_OPEN} caa cal clc cca ccl ccc") + "{3}"
_LITTLE, _BIG = _quanta("aza"), _quanta("zaz")
_FOURS = f"(?:{_NARROW}|(?:{_LITTLE}{_BIG}){{2}}|(?:{_BIG}{_LITTLE}){{2}})"
_BEGINNINGS = {"base64": _FOURS}


def _wide(raw: bytes) -> str | None:
    """Which UTF-16 it is, if it is one and begins with ASCII."""
    return "utf-16-le" if raw[1:2] == b"\0" else "utf-16-be" if raw[:1] == b"\0" else None


def _readable(raw: bytes) -> int:
    """How many bytes at the beginning are readable text; a code point that is cut off at the end counts for nothing."""
    if (wide := _wide(raw)) is not None:
        odd = _UNREADABLE.search(text := raw[: len(raw) // 2 * 2].decode(wide, errors="replace"))
        return len((text if odd is None else text[: odd.start()]).encode(wide))
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        text = raw[: error.start].decode()
    odd = _UNREADABLE.search(text)
    return len((text if odd is None else text[: odd.start()]).encode())


def _lines(match: str) -> tuple[str, int]:
    """The characters of base64 at the beginning of a match, and how far they go. Long lines of whole fours are one."""
    at, body = 0, ""
    for line in match.split("\n"):
        bare = line.removesuffix("\r")
        body, at = body + bare, at + len(line) + 1
        if len(bare) < 60 or len(bare) % 4 or bare.endswith("="):
            break
    return body, at - 1 - (len(line) - len(bare))


def _bytes_of(body: str) -> bytes:
    data = body.rstrip("=").translate(_STANDARD)
    data = data[: len(data) - (len(data) % 4 == 1)]
    return binascii.a2b_base64(data + "=" * (-len(data) % 4))


def _base64(before: str, match: str, after: str) -> Hit | None:
    body, length = _lines(match)
    if length > MOST - 80 and "\n" in match[:length]:
        # The next piece of wrapped lines begins with a line.
        length = match.rindex("\n", 0, length)
        body, length = _lines(match[:length])
    raw = _bytes_of(body)
    good = _readable(raw)
    if good < _LEAST:
        return None
    if _cut_off(raw[good:]):
        return Hit(length)
    kept = good // 3 * 4
    at = 0
    while kept:
        kept -= match[at] not in "\r\n"
        at += 1
    return Hit(at)


def _cut_off(rest: bytes) -> bool:
    """Whether the end is nothing, or a code point that is cut off."""
    try:
        rest.decode()
    except UnicodeDecodeError as error:
        return error.start == 0 and error.reason == "unexpected end of data"
    return not rest


# ---- hexadecimal -------------------------------------------------------------------------------------------------------

_H = "[0-9A-Fa-f]"
_C = "[89ABab]" + _H
_CODE_POINT = rf"(?:[2-7]{_H}|0[9ADad]|[CDcd]{_H}{_C}|[Ee]{_H}{_C}{_C}|[Ff][0-4]{_C}{_C}{_C})"
_PAIR = rf"(?:[2-9A-Fa-f]{_H}|0[9ADad])"
_BETWEEN = r"[ :,\-]{1,2}(?:0x)?"


_PAIRS_BEFORE = re.compile(f"(?:{_PAIR}{_BETWEEN}){{3}}\\Z")


def _spaced_bytes(before: str, match: str) -> bytes:
    lead = _PAIRS_BEFORE.search(before)
    return bytes.fromhex("".join(re.findall(_PAIR, (lead.group() if lead else "") + match)))


def _spaced_hex(before: str, match: str, after: str) -> Hit | None:
    """Pairs apart from each other: as many as are readable."""
    pairs = list(re.finditer(_PAIR, match))
    if after.isalnum():
        pairs.pop()
    good = _readable(_spaced_bytes(before, match)) - 3
    return Hit(pairs[min(good, len(pairs)) - 1].end()) if good > 0 and pairs else None


# ---- letters one by one ------------------------------------------------------------------------------------------------

_GAP = r"[ .\-_*|/~+\x{b7}\x{2022}]{1,3}"
_LETTER = "[A-Za-z]"
_HAN = r"[\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}]"
_SPELT = re.compile("[A-Za-z\u3400-\u4dbf\u4e00-\u9fff]")
_SPELT_BEFORE = re.compile("(?:(?:[A-Za-z][^A-Za-z]{1,3}){2}|[\u3400-\u9fff][^\u3400-\u9fff]{1,3})\\Z")
_FLAG = r"[\x{1f1e6}-\x{1f1ff}]"


def _alone(before: str, match: str, after: str) -> Hit | None:
    """The last letter must stand alone, too."""
    places = [one.start() for one in _SPELT.finditer(match)]
    if after and _SPELT.match(after):
        places.pop()
    least = 1 if match[0] > "\u3400" else 2
    return Hit(places[-1] + 1) if len(places) >= least else None


def _letters(before: str, match: str) -> str:
    """Letters put together; where a gap is wider than the narrowest, a word ends."""
    lead = _SPELT_BEFORE.search(before)
    parts = re.split("([A-Za-z\u3400-\u4dbf\u4e00-\u9fff])", (lead.group() if lead else "") + match)[1:-1]
    gaps = parts[1::2]
    least = min(map(len, gaps), default=0)
    return "".join(letter + " " * (len(gap) > least) for letter, gap in zip(parts[::2], [*gaps, ""], strict=True))


# ---- rot13 -------------------------------------------------------------------------------------------------------------

_TELLING = (
    "the and you your all please how what with this that from now ignore disregard forget bypass override previous "
    "instructions system prompt tell reveal make pretend"
)
"""Words that tell English in rot13, where they are no words."""
_ROT13 = str.maketrans(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", "nopqrstuvwxyzabcdefghijklmNOPQRSTUVWXYZABCDEFGHIJKLM"
)
_ROTATED = Pattern(
    "rot13", None, f"(?i)(?:{'|'.join(_TELLING.translate(_ROT13).split())})[^A-Za-z0-9\n][^\n]*", not_before="A-Za-z0-9",
    reach=1024,
)  # fmt: skip
"""From such a word to the end of the line. What stands before it is read with it, and may have gone out."""


# ---- all of them -------------------------------------------------------------------------------------------------------


def _text(raw: bytes) -> str:
    return raw.decode(errors="ignore")


def _read(name: str, before: str, match: str) -> str:
    """What a stretch says."""
    match name:
        case "base64":
            raw = _bytes_of(_lines(match)[0])
            return raw.decode(_wide(raw) or "utf-8", errors="ignore")
        case "hex":
            return _text(bytes.fromhex(match))
        case "spaced_hex":
            return _text(_spaced_bytes(before, match))
        case "flags":
            return "".join(chr(ord(char) - 0x1F1E6 + ord("A")) for char in before[-3:] + match)
        case "rot13":
            return (before + match).translate(_ROT13)
        case _:
            return _letters(before, match)


_LONGEST_LEAD = 20
_HALF = re.compile("[A-Za-z0-9+/_-]+")
"""What base64 or hexadecimal that is half written looks like; anything else takes a closer look."""


def _quick(final: bool) -> Find:
    """One expression for what stretches begin with: sixteen characters of base64 tell as much as all of them."""
    parts: list[str] = []
    for pattern in (*PATTERNS, _ROTATED):
        node = regex.parse(_BEGINNINGS.get(pattern.name, pattern.regex))
        before = f"(?:{pattern.lead})" if pattern.lead else f"[^{pattern.not_before}]"
        growing = "" if final else f"|(?:{syntax.closure(node)})\\z"
        parts.append(f"{before}(?:{syntax.opening(node)}{growing})")
    return finder(re2.compile("|".join(parts), options(longest=True)))


PATTERNS = (
    Pattern("base64", None, _FOURS + _TAIL, not_before=r"A-Za-z0-9+/_\-", check=_base64, reach=MOST),
    Pattern("hex", None, rf"{_CODE_POINT}{{6,}}|(?:[Ee]{_H}{_C}{_C}){{2,}}", not_before="0-9A-WYZa-wyz", reach=MOST),
    # What stands before the first place of the others tells them from words. So no stream waits for what a word may begin with.
    Pattern(
        "spaced_hex", None, rf"{_PAIR}(?:{_BETWEEN}{_PAIR}){{2,}}", check=_spaced_hex, reach=MOST,
        lead=rf"(?:^|[^0-9A-Za-z])(?:{_PAIR}{_BETWEEN}){{3}}",
    ),
    Pattern(
        "letters", None, rf"{_LETTER}(?:{_GAP}{_LETTER})+", check=_alone, reach=400,
        lead=rf"(?:^|[^0-9A-Za-z])(?:{_LETTER}{_GAP}){{2}}",
    ),
    Pattern(
        "characters", None, rf"{_HAN}(?:{_GAP}{_HAN})*", check=_alone, reach=400,
        lead=rf"(?:^|[^\x{{3400}}-\x{{9fff}}]){_HAN}{_GAP}",
    ),
    Pattern("flags", None, f"{_FLAG}+", lead=f"{_FLAG}{{3}}", reach=400),
)  # fmt: skip


class Stretches:
    """Looks for all of them."""

    def __init__(self) -> None:
        self._matcher = Matcher(PATTERNS)
        # Apart from the others: it hides none of them, whatever stands on its line.
        self._rotated = Matcher((_ROTATED,))
        self._quick, self._quick_growing = _quick(final=True), _quick(final=False)
        self._last: tuple[object, int] = (None, 0)
        self.version = f"{self._matcher.version} {self._rotated.version}"
        self.behind = WINDOW
        self.reach = self._matcher.reach + self._rotated.reach

    def scan(self, text: str, start: int, final: bool) -> tuple[list[Stretch], int]:
        """The stretches that begin at or after `start` and are settled; and the hold (detect/api.py), which one may cross."""
        look = (hash(text), start, final)
        if self._last[0] == look:
            return [], self._last[1]
        hold = self.quiet(text, start, final)
        found: list[Match] = []
        if hold is None:
            found, hold = self._matcher.scan(text, start, final)
            rotated, waits = self._rotated.scan(text, start, final)
            found, hold = [*found, *rotated], min(hold, waits)
        if not found:
            # Detector after detector asks about the same text. Kept is a hash alone, of a key of this process.
            self._last = look, hold
        return [_stretch(text, one) for one in found], hold

    def quiet(self, text: str, start: int, final: bool) -> int | None:
        """The hold where one search tells that there is no stretch; None where it takes a closer look."""
        find = self._quick if final else self._quick_growing
        raw = ("\n" + text[start - _LONGEST_LEAD if start > _LONGEST_LEAD else 0 :]).encode()
        size = len(raw)
        begin, end = find(raw, 0, size)
        if begin >= 0 and start:
            # What stands before `start` alone was told before.
            own = size - len(text[start:].encode())
            while begin >= 0 and end <= own:
                begin, end = find(raw, begin + 1, size)
        if begin < 0:
            return len(text)
        half = raw[begin:].decode(errors="ignore")[1:]
        if not half:
            return len(text)
        return None if final or end < size or not _HALF.fullmatch(half) else max(start, len(text) - len(half))


def _stretch(text: str, found: Match) -> Stretch:
    match, before = text[found.start : found.end], text[max(0, found.start - WINDOW) : found.start]
    said = _read(found.pattern.name, before, match)
    if found.pattern is _ROTATED:
        return Stretch(found.start, found.end, said, False, len(before))
    return Stretch(found.start, found.end, said, found.pattern.lead is None and len(match) > MOST - 4)
