"""detect/regex.py, syntax.py and matcher.py: an officer's expression, a NUL byte, and a text."""

from __future__ import annotations

from collections.abc import Sequence

import re2

from fuzz.target import Target, dice, law, loose
from moderation.detect import regex, syntax
from moderation.detect.pattern import Compiled, Pattern, options
from moderation.detect.patterns import Patterns
from moderation.normalise import normalise
from moderation.wire.body import mended
from tests.detect.law import check_random


def _run(data: bytes) -> str:
    spelt, _, rest = data.partition(b"\0")
    expression = mended(loose(spelt))
    try:
        node = regex.parse(expression)
    except regex.BadRegex as bad:
        law(0 <= bad.at <= len(expression), "a place outside the expression")
        return str(bad)
    longest = syntax.longest(node)
    reach = 60 if longest is None or longest > 200 else None
    try:
        one = Compiled(Pattern("x", None, expression, reach=reach))
        detector = Patterns("x", [Pattern("x", None, expression, reach=reach)], ["c"])
        law(one.reach == detector.reach, "another reach")
        text = normalise(mended(loose(rest))).text
        found = check_random(detector, text, dice(data), 3)
    except regex.BadRegex as bad:
        return str(bad)
    for finding in found:
        assert finding.span is not None
        part = text[finding.span.start : finding.span.end]
        law(len(part) <= one.reach, "a match longer than it can reach")
        law(re2.fullmatch(f"(?s:{one.closure})", part, options()) is not None or one.capped,
            "a match that its closure does not know")
    return f"{type(node).__name__} {longest} {len(found)}"


def _seeds() -> Sequence[bytes]:
    pairs = (
        ("AKIA[0-9A-Z]{16}", "x AKIAABCDEFGHIJKLMNOP y"), (r"(?i)\bproject[ -]?(?:heron|egret)\b",
            "Project Heron, project-egret"),
        (r"[\p{Han}]{2,4}\d+", "员工编号123456"), ("(?P<a>a|b?c){1,3}$", "abcab\nc"), (r"[^\x00-\x7f\]-]\x{4e00}?", "é一"),
        ("a{3}|(?s:.)b*?", "aaab"), (r"^\s*[[:alpha:]]+:", "key: v\n other:"), ("(?:x(?:y(?:z)?)?)+w", "xyzxyxw" * 5),
        (r"[ａ-ｚ１]\B", "abc1"),
    )
    return [f"{expression}\0{text}".encode() for expression, text in pairs]


TARGET = Target(
    "regex",
    "An expression is refused with its place, or runs; matches are the same however a text is cut, and within its reach.",
    _seeds, lambda: _run, (b"(?:", b"(?i)", b"(?P<n>", b"{2,3}", b"{1000}", b"{0}", b"*?", b"|", b"[^", b"[[:alpha:]]",
    b"\\p{Han}", b"\\pL", b"\\x{4e00}",
                           b"\\b", b"\\B", b"^", b"$", b")", b"\\Q", b"(?=", b"-", b"\\d", b"(?s:.)", b"\0"),
    longest=400,
)
