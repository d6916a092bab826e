r"""Code points that a text spells out: escapes of JSON and of programs, of URLs and of HTML.

A text that holds such escapes is read by those who resolve them, so each is one unit of the text, as a code point is:
`\n`, `\u4e2d`, `\x41`, `\u{1f600}`, `%41`, `%E4%BD%A0`, `%u0041`, `&#65;`, `&amp;`. One nesting is read too: `%2541` and
`&amp;#65;` are `A`. An escaped backslash escapes nothing. Knows nothing of what the code points look like.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from html.entities import html5

LONGEST = 20
"""Code points of the longest unit: four bytes of UTF-8, each `%25F0`."""

_NAME = 8


def _named() -> dict[str, str]:
    """The names of HTML that stand for what is in ASCII, or looks as if it were."""
    known: dict[str, str] = {}
    for name, value in html5.items():
        plain = unicodedata.normalize("NFKC", value)
        if name.endswith(";") and len(name) <= _NAME + 1 and len(value) == 1 and plain.isascii():
            known[name[:-1]] = value
    return known


_NAMES = _named()
_BEGINNINGS = frozenset(name[:length] for name in _NAMES for length in range(len(name) + 1))

_LETTERS = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "/": "/"}
_H = "[0-9A-Fa-f]"
_REST = ("[89ABab]", _H)


def _bytes(sign: Sequence[str]) -> list[list[str]]:
    """A code point of UTF-8 whose bytes are each behind a sign, character class by character class."""
    first = (("[0-7]", _H), ("[CDcd]", _H), ("[Ee]", _H), ("[Ff]", "[0-4]"))
    return [[*sign, *lead, *(one for _ in range(more) for one in (*sign, *_REST))] for more, lead in enumerate(first)]


# Nested ones first: the longer reading of `%2541` wins.
_SPELT: list[list[str]] = [
    *_bytes(["%", "2", "5"]), *_bytes(["%"]), ["%", "u", *[_H] * 4], *_bytes([r"\\", "x"]),
    [r"\\", "u", *[_H] * 4], [r"\\", "U", *[_H] * 8], [r"\\", '[nrt"/\\\\]'],
]  # fmt: skip


def _growing(classes: Sequence[str]) -> str:
    """What is the beginning of such a sequence, and not all of it."""
    built = ""
    for one in reversed(classes[1:-1]):
        built = f"(?:{one}{built})?"
    return classes[0] + built


_NUMBER = r"#(?:[xX][0-9A-Fa-f]{1,6}|[0-9]{1,7});?"
_ENTITY = rf"&(?:amp;)?(?:{_NUMBER}|[A-Za-z][A-Za-z0-9]{{1,{_NAME - 1}}};)"
_BRACED = r"\\u\{[0-9A-Fa-f]{1,6}\}"

UNIT = "(" + "|".join(["".join(classes) for classes in _SPELT] + [_BRACED, _ENTITY]) + ")"
"""A regular expression with one group."""
_LIKELY = re.compile(
    r'[%&\\](?:(?<=%)[0-9A-Fa-fu][0-9A-Fa-f]|(?<=&)(?:#|[A-Za-z][A-Za-z0-9]{1,7};)|(?<=\\)[uUxnrt"/\\])'
)
_BEGUN = re.compile(
    "(" + "|".join(map(_growing, _SPELT)) + r"|\\u\{[0-9A-Fa-f]{0,6}"
    rf"|&(?:amp;)?(?:#(?:[xX][0-9A-Fa-f]{{0,6}}|[0-9]{{0,7}})|([A-Za-z0-9]{{0,{_NAME}}})))\Z|" + UNIT
)  # fmt: skip


def any_in(text: str) -> bool:
    """Whether an escape, or a part of one, may stand in a text: quick, and seldom wrong."""
    return "\\" in text or "%" in text or "&" in text


def stands_in(text: str) -> bool:
    """Whether an escape stands in a text: quick, and true of few others."""
    return any_in(text) and _LIKELY.search(text) is not None


def begun(text: str) -> int:
    """How many code points at the end may be an escape that is half written: they are read with what follows."""
    if not any_in(text[-LONGEST:]):
        return 0
    for found in _BEGUN.finditer(text):
        if found[1] is not None and (found[2] is None or found[2] in _BEGINNINGS):
            return len(text) - found.start()
    return 0


def meaning(unit: str) -> str | None:
    """What an escape stands for: one code point, or an escaped backslash as it is; None where it stands for nothing."""
    sign, rest = unit[0], unit[1:]
    if sign == "&":
        return _entity(rest.removeprefix("amp;") or "amp;")
    if sign == "\\" and rest[0] in _LETTERS:
        return _LETTERS[rest[0]]
    if rest[0] == "\\":
        return "\\\\"
    if rest[0] in "uU":
        return _char(int(rest[1:].strip("{}"), 16))
    if sign == "%" and len(rest) > 2 and rest.startswith("25"):
        unit = unit.replace("%25", "%")
    try:
        return bytes.fromhex(re.sub(r"%|\\x", "", unit)).decode()
    except ValueError:
        return None


def _entity(name: str) -> str | None:
    if not name.startswith("#"):
        return _NAMES.get(name.rstrip(";"))
    digits = name[1:].rstrip(";")
    return _char(int(digits[1:], 16) if digits[0] in "xX" else int(digits))


def _char(code: int) -> str | None:
    return chr(code) if code <= 0x10FFFF else None
