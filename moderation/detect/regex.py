"""Regular expressions that officers may write: a subset of RE2, parsed far enough to say some things about one.

How long its longest match is, whether it matches the empty text, what every match begins with, and its *prefix closure*: the
expression that matches every text that could still grow into a match (full matches included). Searched for at the end of a
growing text, the closure finds the earliest place where a match may be half written.

Knows nothing of findings. Whatever matches one code point (a class, an escape) is an opaque atom; RE2 judges those.
Texts are normalised before they are matched, so literal code points are normalised here too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import assert_never

from moderation.normalise import image

MOST_REPEATS = 1000
"""RE2 allows no more."""


class BadRegex(ValueError):
    """Not an expression that can be used here. `at` is an offset into its source."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(f"{message} (at character {at + 1})")
        self.at = at


@dataclass(frozen=True, slots=True)
class Atom:
    """Matches exactly one code point."""

    source: str


@dataclass(frozen=True, slots=True)
class Check:
    r"""Matches no code point: ^ $ \b \B."""

    source: str


@dataclass(frozen=True, slots=True)
class Chain:
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Flagged:
    """A group with flags of its own."""

    flags: str
    inner: Node


@dataclass(frozen=True, slots=True)
class Repeat:
    inner: Node
    least: int
    most: int | None
    lazy: bool


Node = Atom | Check | Chain | Choice | Flagged | Repeat


def source(node: Node) -> str:
    """RE2 source of a node; safe to stand next to anything."""
    match node:
        case Atom(text) | Check(text):
            return text
        case Chain(parts):
            return "".join(source(part) for part in parts)
        case Choice(options):
            return "(?:" + "|".join(source(option) for option in options) + ")"
        case Flagged(flags, inner):
            return f"(?{flags}:{source(inner)})"
        case Repeat(inner, least, most, lazy):
            return f"(?:{source(inner)}){_count(least, most)}{'?' if lazy else ''}"
        case _:
            assert_never(node)


def _count(least: int, most: int | None) -> str:
    match least, most:
        case 0, None:
            return "*"
        case 1, None:
            return "+"
        case 0, 1:
            return "?"
        case _, None:
            return f"{{{least},}}"
        case _:
            return f"{{{least},{most}}}"


def closure(node: Node) -> str:
    """RE2 source of the prefix closure. It matches the empty text too."""
    match node:
        case Atom(text):
            return f"(?:{text})?"
        case Check():
            return ""
        case Chain(parts):
            # Pref(R1 R2 …) = Pref(R1) | R1 (Pref(R2) | R2 (…)), so that each part is written twice and no oftener.
            built = ""
            for part in reversed(parts):
                first = closure(part)
                built = f"(?:{first}|{source(part)}{built})" if built else f"(?:{first})"
            return built
        case Choice(options):
            return "(?:" + "|".join(closure(option) for option in options) + ")"
        case Flagged(flags, inner):
            return f"(?{flags}:{closure(inner)})"
        case Repeat(inner, _, most, _):
            if most == 0:
                return ""
            if most == 1:
                return closure(inner)
            before = "*" if most is None else f"{{0,{most - 1}}}"
            return f"(?:{source(inner)}){before}(?:{closure(inner)})"
        case _:
            assert_never(node)


def opening(node: Node) -> str:
    """RE2 source of what every match begins with, as far as that has one length: shorter to search for, and never less."""
    return _opening(node)[0]


def _opening(node: Node) -> tuple[str, bool]:
    """With whether it is the whole node, so that what comes after the node may be said, too."""
    match node:
        case Atom(text):
            return text, True
        case Check():
            return "", True
        case Chain(parts):
            built = ""
            for part in parts:
                more, whole = _opening(part)
                built += more
                if not whole:
                    return built, False
            return built, True
        case Choice(options):
            found = [_opening(option) for option in options]
            return "(?:" + "|".join(text for text, _ in found) + ")", all(whole for _, whole in found)
        case Flagged(flags, inner):
            text, whole = _opening(inner)
            return f"(?{flags}:{text})", whole
        case Repeat(inner, least, most, _):
            if least == 0:
                return "", False
            text, whole = _opening(inner)
            return (f"(?:{text}){{{least}}}", most == least) if whole else (text, False)
        case _:
            assert_never(node)


def longest(node: Node) -> int | None:
    """The most code points that a match can have; None where there is no end."""
    match node:
        case Atom():
            return 1
        case Check():
            return 0
        case Chain(parts):
            lengths = [longest(part) for part in parts]
            return None if None in lengths else sum(length or 0 for length in lengths)
        case Choice(options):
            lengths = [longest(option) for option in options]
            return None if None in lengths else max((length or 0 for length in lengths), default=0)
        case Flagged(_, inner):
            return longest(inner)
        case Repeat(inner, _, most, _):
            length = longest(inner)
            if length == 0 or most == 0:
                return 0
            return None if length is None or most is None else length * most
        case _:
            assert_never(node)


def can_be_empty(node: Node) -> bool:
    match node:
        case Atom():
            return False
        case Check():
            return True
        case Chain(parts):
            return all(can_be_empty(part) for part in parts)
        case Choice(options):
            return any(can_be_empty(option) for option in options)
        case Flagged(_, inner):
            return can_be_empty(inner)
        case Repeat(inner, least, _, _):
            return least == 0 or can_be_empty(inner)
        case _:
            assert_never(node)


def parse(text: str) -> Node:
    """Read an expression; raises BadRegex."""
    reader = _Reader(text)
    flags = ""
    if (opening := re.match(r"\(\?([a-zA-Z]+)\)", text)) is not None:
        flags = _flags(opening.group(1), 0)
        reader.at = opening.end()
    node = reader.choice(0)
    if reader.at < len(text):
        raise BadRegex("this ) has no ( before it", reader.at)
    return Flagged(flags, node) if flags else node


def _flags(text: str, at: int) -> str:
    for flag in text:
        if flag not in "ism":
            raise BadRegex(f"flag {flag!r} is not one of i, s, m", at)
    return text.replace("m", "")


_CLASS_NAME = re.compile(r"\\[pP](?:\{\^?[A-Za-z_]+\}|[A-Z])")
_POSIX = re.compile(r"\[:\^?[a-z]+:\]")
_HEX = re.compile(r"\\x(?:[0-9A-Fa-f]{2}|\{[0-9A-Fa-f]{1,6}\})")
_TIMES = re.compile(r"\{(\d{1,9})(,?)(\d{0,9})\}")
_GROUP = re.compile(r"\(\?(?:P?<([A-Za-z_][A-Za-z0-9_]*)>|([a-zA-Z]*):)")
_NO = {
    "=": "looks ahead", "!": "looks ahead", "<=": "looks behind", "<!": "looks behind", ">": "is atomic", "#": "is a comment",
}  # fmt: skip


class _Reader:
    """Recursive descent over the source. `at` is where it stands."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def choice(self, depth: int) -> Node:
        if depth > 50:
            raise BadRegex("groups are nested deeper than 50", self.at)
        options = [self.chain(depth)]
        while self.text.startswith("|", self.at):
            self.at += 1
            options.append(self.chain(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def chain(self, depth: int) -> Node:
        parts: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] not in "|)":
            parts.append(self.repeated(self.one(depth)))
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def repeated(self, node: Node) -> Node:
        begin = self.at
        char = self.text[begin : begin + 1]
        if char in ("*", "+", "?"):
            least, most = (0 if char != "+" else 1), (1 if char == "?" else None)
            self.at += 1
        elif char == "{" and (times := _TIMES.match(self.text, begin)) is not None:
            least = int(times[1])
            most = int(times[3]) if times[3] else (None if times[2] else least)
            if max(least, most or 0) > MOST_REPEATS or (most is not None and most < least):
                raise BadRegex(f"a repeat must be in order and at most {MOST_REPEATS}", begin)
            self.at = times.end()
        else:
            return node
        if isinstance(node, Check):
            raise BadRegex("nothing to repeat before this", begin)
        lazy = self.text.startswith("?", self.at)
        self.at += lazy
        if self.text[self.at : self.at + 1] in ("*", "+", "?") and self.at < len(self.text):
            raise BadRegex("a repeat of a repeat; put the inner one into (?:…)", self.at)
        return Repeat(node, least, most, lazy)

    def one(self, depth: int) -> Node:
        begin = self.at
        char = self.text[begin]
        match char:
            case "(":
                return self.group(depth)
            case "[":
                return self.klass()
            case "\\":
                return self.escape()
            case "^" | "$":
                self.at += 1
                return Check(f"(?m:{char})")
            case "*" | "+" | "?":
                raise BadRegex("nothing to repeat before this", begin)
            case ".":
                self.at += 1
                return Atom(".")
            case _:
                self.at += 1
                return _literal(char)

    def group(self, depth: int) -> Node:
        begin = self.at
        flags = ""
        if self.text.startswith("(?", begin):
            opening = _GROUP.match(self.text, begin)
            if opening is None:
                for sign, what in _NO.items():
                    if self.text.startswith(sign, begin + 2):
                        raise BadRegex(f"RE2 has no group that {what}", begin)
                raise BadRegex("flags stand at the very beginning, as in (?i)abc, or in a group, as in (?i:abc)", begin)
            flags = _flags(opening[2] or "", begin)
            self.at = opening.end()
        else:
            self.at += 1
        inner = self.choice(depth + 1)
        if not self.text.startswith(")", self.at):
            raise BadRegex("this ( is never closed", begin)
        self.at += 1
        if flags:
            return Flagged(flags, inner)
        return Chain((inner,)) if isinstance(inner, Check) else inner

    def escape(self) -> Node:
        begin = self.at
        for form in (_CLASS_NAME, _HEX):
            if (found := form.match(self.text, begin)) is not None:
                self.at = found.end()
                return Atom(found.group()) if form is _CLASS_NAME else _literal(_hex(found.group(), begin))
        char = self.text[begin + 1 : begin + 2]
        self.at += 2
        match char:
            case "":
                raise BadRegex("a \\ at the end", begin)
            case "b" | "B":
                return Check(f"\\{char}")
            case "d" | "D" | "w" | "W" | "s" | "S" | "t" | "n" | "r" | "f" | "v" | "a":
                return Atom(f"\\{char}")
            case "A" | "z" | "Z":
                raise BadRegex(f"\\{char} is not used here: a text may be part of a longer one; ^ and $ stand for lines", begin)
            case "u" | "U":
                raise BadRegex("write a code point as \\x{4e00}", begin)
            case _ if char.isalnum():
                raise BadRegex(f"\\{char} is not something that RE2 knows here (no back-references)", begin)
            case _:
                return _literal(char)

    def klass(self) -> Node:
        """A bracketed class: kept as it is, with the normalised forms of its members beside them."""
        begin = self.at
        at = begin + 1
        at += self.text.startswith("^", at)
        first = True
        extra: set[str] = set()
        low: str | None = None
        ranged = False
        while first or not self.text.startswith("]", at):
            first = False
            if at >= len(self.text):
                raise BadRegex("this [ is never closed", begin)
            if self.text[at] == "-" and low is not None and not ranged and not self.text.startswith("]", at + 1):
                ranged, at = True, at + 1
                continue
            member, at = self.member(at)
            if member is not None:
                extra |= _images(low if ranged and low is not None else member, member, at)
            low, ranged = (None, False) if ranged else (member, False)
        self.at = at + 1
        return Atom(self.text[begin:at] + "".join(f"\\x{{{ord(char):x}}}" for char in sorted(extra)) + "]")

    def member(self, at: int) -> tuple[str | None, int]:
        """One member of a class, or None where it stands for many; and where the next begins."""
        for form in (_POSIX, _CLASS_NAME):
            if (named := form.match(self.text, at)) is not None:
                return None, named.end()
        if (hexed := _HEX.match(self.text, at)) is not None:
            return _hex(hexed.group(), at), hexed.end()
        if self.text[at] != "\\":
            return self.text[at], at + 1
        escaped = self.text[at + 1 : at + 2]
        if escaped.isalnum() and escaped not in "dDwWsStnrfva":
            raise BadRegex(f"\\{escaped} is not something that RE2 knows in a class", at)
        return (None if escaped.isalnum() else escaped or None), at + 2


def _hex(text: str, at: int) -> str:
    code = int(text[2:].strip("{}"), 16)
    if code > 0x10FFFF:
        raise BadRegex("no such code point", at)
    return chr(code)


def _literal(char: str) -> Node:
    """One code point, spelled as it will be in the normalised text."""
    atoms = tuple(Atom(f"\\x{{{ord(one):x}}}" if not one.isascii() or not one.isalnum() else one) for one in image(char))
    return atoms[0] if len(atoms) == 1 else Chain(atoms)


def _images(first: str, last: str, at: int) -> set[str]:
    """What the members of a range become, where that is one other code point."""
    if first > last:
        raise BadRegex("a range in a class must be in order", at)
    if ord(last) - ord(first) > 0x2000:
        return set()
    return {
        new for code in range(ord(first), ord(last) + 1) if len(new := image(chr(code))) == 1 and not first <= new <= last
    }
