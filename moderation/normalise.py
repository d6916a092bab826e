"""One spelling for what looks alike, so that detectors need to know only one, with a way back to the original offsets.

The map is context-free: each code point becomes zero or more code points whatever its neighbours are, and so does each
escape (escapes.py). So a text can be normalised piece by piece (normalise(a + b) is normalise(a) followed by normalise(b)) where
no escape is cut in two, and a stream looks no farther ahead than `begun` says. Case is kept. Knows nothing of detectors or
languages.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from dataclasses import dataclass
from functools import lru_cache

from moderation import escapes
from moderation.confusables import CONFUSABLES
from moderation.escapes import any_in, begun
from moderation.text import Span

__all__ = ["VERSION", "Normalised", "any_in", "begun", "hidden", "image", "normalise", "readings"]

VERSION = f"3/{unicodedata.unidata_version}"
"""Part of every detector's version: findings depend on it."""

_STEP = 65_536
"""Code points that are searched in one go: for so long, other threads wait for the interpreter."""
_FEW = 32
"""So many kinds of odd code points are replaced one kind after the other."""

_CONTROLS = bytes(c for c in (*range(32), 127) if chr(c) not in "\t\n\r")

# Code points that are known to stay as they are: the fast way round. tests/test_normalise.py checks every one of them.
_ODD = re.compile(
    "[^\t\n\r -~\u3001-\u3003\u3005-\u3011\u3014-\u301b\u3041-\u3096\u30a1-\u30fe\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
    "\u05d0-\u05ea\u0627-\u063a\u0641-\u064a\u0e01-\u0e32\u0e34-\u0e3a\u0e40-\u0e4e\u0904-\u0928\u092a-\u0930\u0935-\u0939]+"
)

_ODD_OR_ESCAPE = re.compile(escapes.UNIT + "|" + _ODD.pattern)

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

# What looks like an ASCII letter and has no decomposition that says so.
_LOOKALIKES = (
    # Cyrillic
    "аa сc ԁd еe ѐe ёe ҽe һh іi їi јj ӏl ոn оo рp ԛq ѕs ѵv ѡw ԝw хx уy ўy үy ԍG "
    "АA ВB СC ЕE ЀE ЁE НH ІI ЇI ЈJ КK МM ОO РP ԚQ ЅS ТT ԜW ХX УY ЎY ҮY ӀI ԌG ѴV "
    # Greek
    "αa γy ιi κk νv οo ρp σo τt υu χx ϲc ϳj ωw ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX ϹC ͿJ "
    # Armenian, Cherokee and Lisu
    "օo սu հh ցg զq յj ԼL ՍU ՏS ՕO "
    "ᎪA ᏴB ᏟC ᎠD ᎬE ᏀG ᎻH ᎫJ ᏦK ᏞL ᎷM ᏢP ᏒR ᏚS ᎢT ᏙV ᎳW ᏃZ "
    "ꓮA ꓐB ꓚC ꓓD ꓰE ꓝF ꓖG ꓧH ꓲI ꓙJ ꓗK ꓡL ꓟM ꓠN ꓳO ꓑP ꓣR ꓢS ꓔT ꓴU ꓦV ꓪW ꓫX ꓬY ꓜZ "
    # Latin with strokes, hooks and other shapes
    "ɑa ⱥa ƀb ɓb ƃb ȼc ƈc ɕc đd ɖd ɗd ɇe ɛe ƒf ǥg ɠg ɡg ħh ɦh ɨi ıi ɩi ɪi ɉj ʝj ȷj ƙk ⱪk łl ƚl ɫl ɱm ɲn ƞn ŋn øo ɵo ƥp ɋq ʠq ɍr "
    "ɽr ʂs ȿs ŧt ƭt ʈt ȶt ʉu ʋv ⱱv ⱳw ɏy ƴy ƶz ȥz ʐz ȺA ɃB ƁB ȻC ƇC ĐD ƊD ɆE ƑF ǤG ƓG ĦH ƗI ɈJ ƘK ŁL ȽL ƝN ØO ƟO ƤP ɌR ŦT ƬT ȾT "
    "ɄU ƲV ɎY ƳY ƵZ ȤZ "
    # small capitals
    "ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ꞯq ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz"
)

_SIGNS = {
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "ʼ": "'", "ʹ": "'", "＇": "'",
    "“": '"', "”": '"', "„": '"', "‟": '"', "″": '"', "＂": '"',
    "−": "-", "⁃": "-", "﹘": "-", "﹣": "-", "－": "-", "ˉ": "-", "〜": "~", "゠": "=",
    "⁄": "/", "∕": "/", "∶": ":", "։": ":", "꞉": ":", "‹": "<", "›": ">",
    "\u2028": "\n", "\u2029": "\n", "\x85": "\n", "\0": "\ufffd", "ß": "ss", "ẞ": "SS",
}  # fmt: skip

_GONE = frozenset((0x115F, 0x1160, 0x3164, 0xFFA0, 0x180B, 0x180C, 0x180D, 0x180F, 0x2800, 0x1D159))
"""Fillers, blanks and Mongolian selectors that show nothing."""

_MARKS = (
    range(0x0300, 0x0370), range(0x1AB0, 0x1B00), range(0x1DC0, 0x1E00), range(0x20D0, 0x2100), range(0xFE20, 0xFE30),
    range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0),
    # Points of Cyrillic, Hebrew and Arabic, which these scripts can do without.
    range(0x0483, 0x048A), range(0x0591, 0x05BE), range(0x05BF, 0x05C0), range(0x05C1, 0x05C3), range(0x05C4, 0x05C6),
    range(0x05C7, 0x05C8), range(0x0610, 0x061B), range(0x064B, 0x0660), range(0x0670, 0x0671), range(0x06D6, 0x06DD),
    range(0x06DF, 0x06E5), range(0x06E7, 0x06E9), range(0x06EA, 0x06EE),
)  # fmt: skip


def _lookalikes() -> dict[str, str]:
    table = {pair[0]: pair[1] for pair in _LOOKALIKES.split(" ")}
    # Letters in black squares and circles.
    for first in (0x1F130, 0x1F150, 0x1F170):
        table |= {chr(first + i): _LETTERS[26 + i] for i in range(26)}
    return CONFUSABLES | table | _SIGNS


_TABLE = _lookalikes()


def _is_mark(code: int) -> bool:
    return any(code in marks for marks in _MARKS)


@lru_cache(maxsize=1 << 16)
def image(char: str) -> str:
    """What one code point becomes."""
    if char in _TABLE:
        return _TABLE[char]
    if char in "\t\n\r" or " " <= char <= "~":
        return char
    code = ord(char)
    category = unicodedata.category(char)
    match category:
        case "Cs":
            return "\ufffd"
        case "Cc" | "Cf":
            return ""
        case "Zs":
            return " "
        case "Pd":
            return "-"
        case "Nd":
            return str(unicodedata.decimal(char))
        case _:
            pass
    if code in _GONE or _is_mark(code):
        return ""
    # Parts without marks, put together again so that kana and Hangul stay whole; then each part may have a look-alike.
    parts = (_TABLE.get(part, part) for part in unicodedata.normalize("NFKD", char) if not _is_mark(ord(part)))
    return unicodedata.normalize("NFC", "".join(_plain(part) for part in parts))


def _plain(part: str) -> str:
    """A part of a decomposition that is itself a digit, dash or space of another script."""
    match unicodedata.category(part):
        case "Nd":
            return str(unicodedata.decimal(part))
        case "Pd":
            return "-"
        case "Zs":
            return " "
        case "Cf":
            return ""
        case _:
            return part


@dataclass(frozen=True, slots=True)
class Normalised:
    """A normalised text and where each of its code points came from."""

    text: str
    starts: array[int] | None
    """The original offset of each normalised code point; None where they are the same."""
    ends: array[int] | None = None
    """Where the original of each ends: behind one code point, or behind an escape. None where `starts` is."""

    def original(self, start: int, end: int) -> Span:
        """A span of the normalised text (not empty) as a span of the original one.

        It ends behind the last original code point that made a matched one: marks that follow are not in it, those
        inside are.
        """
        if self.starts is None or self.ends is None:
            return Span(start, end)
        return Span(self.starts[start], self.ends[end - 1])


_HIDDEN = re.compile("[\U000e0020-\U000e007e\U000e0110-\U000e016e]")
_NOT_HIDDEN = re.compile("[^\U000e0020-\U000e007e\U000e0110-\U000e016e]")
_SHOWN = {
    **{0xE0000 + code: chr(code) for code in range(0x20, 0x7F)},
    **{0xE0100 - 16 + code: chr(code) for code in range(0x20, 0x7F)},
}


def hidden(text: str) -> str | None:
    """What a text says in characters that show nothing, at the same offsets, with line ends for all that shows.

    None where it says nothing.

    Tag characters (U+E0020..7E) are ASCII by their numbers; variation selectors 17 to 256 are the bytes 16 to 255.
    Detectors read it beside the text, in which such characters count for nothing.
    """
    if text.isascii() or _HIDDEN.search(text) is None:
        return None
    return _NOT_HIDDEN.sub("\n", text).translate(_SHOWN)


def normalise(text: str) -> Normalised:
    """Text as detectors read it."""
    if escapes.stands_in(text):
        return _moved(text)
    if text.isascii():
        raw = text.encode()
        if len(raw.translate(None, _CONTROLS)) == len(raw):
            return Normalised(text, None)
    odd = [run for at in range(0, len(text), _STEP) for run in _ODD.findall(text, at, at + _STEP)]
    if not odd:
        return Normalised(text, None)
    kinds = set("".join(odd))
    if all(len(image(char)) == 1 for char in kinds):
        # One for one, so no offset moves; an image never changes again, so the order does not matter.
        if len(kinds) > _FEW:
            return Normalised(text.translate({ord(char): image(char) for char in kinds}), None)
        for char in kinds:
            text = text.replace(char, image(char))
        return Normalised(text, None)
    return _moved(text)


def readings(text: str) -> tuple[Normalised, ...]:
    """All that detectors read in a text: it as it shows, and what it hides. All have the same original offsets."""
    said = hidden(text)
    return (normalise(text),) if said is None else (normalise(text), normalise(said))


def _moved(text: str) -> Normalised:
    """The slow way, for texts in which offsets move."""
    pieces: list[str] = []
    starts, ends = array("q"), array("q")
    done = 0
    for odd in _ODD_OR_ESCAPE.finditer(text):
        begin, end = odd.span()
        pieces.append(text[done:begin])
        starts.extend(range(done, begin))
        ends.extend(range(done + 1, begin + 1))
        units = [(begin, end, _unescaped(odd[1]))] if odd[1] is not None else [
            (at, at + 1, image(char)) for at, char in enumerate(odd.group(), begin)
        ]
        for first, last, new in units:
            pieces.append(new)
            starts.extend([first] * len(new))
            ends.extend([last] * len(new))
        done = end
    pieces.append(text[done:])
    starts.extend(range(done, len(text)))
    ends.extend(range(done + 1, len(text) + 1))
    return Normalised("".join(pieces), starts, ends)


def _unescaped(unit: str) -> str:
    meant = escapes.meaning(unit)
    if meant is None:
        return "".join(map(image, unit))
    # An escaped backslash stays as it is, and one by its number escapes nothing.
    return meant if len(meant) > 1 else "/" if meant == "\\" else image(meant)
