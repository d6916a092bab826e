"""Regular expressions that officers may write: a subset of RE2, read into a syntax tree (syntax.py), or refused with a reason.

Knows nothing of findings. Texts are normalised before they are matched, so literal code points are normalised here too.
"""

from __future__ import annotations

import re

from moderation.detect.syntax import Atom, Chain, Check, Choice, Flagged, Node, Repeat
from moderation.normalise import image

MOST_REPEATS = 1000
"""RE2 allows no more."""


class BadRegex(ValueError):
    """Not an expression that can be used here. `at` is an offset into its source."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(f"{message} (at character {at + 1})")
        self.at = at


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
        """A bracketed class: its members, with their normalised forms beside them.

        Signs are written as their code points: RE2 takes the `[:` of `[[:]` for itself alone, but in a longer expression, where a
        `:]` may follow, for the beginning of a POSIX class.
        """
        begin = self.at
        at = begin + 1
        at += self.text.startswith("^", at)
        written = self.text[begin:at]
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
                written += "-"
                continue
            start = at
            member, at = self.member(at)
            written += self.text[start:at] if member is None or member.isalnum() else _code(member)
            if member is not None:
                extra |= _images(low if ranged and low is not None else member, member, at)
            low, ranged = (None, False) if ranged else (member, False)
        self.at = at + 1
        return Atom(written + "".join(map(_code, sorted(extra))) + "]")

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


def _code(char: str) -> str:
    return f"\\x{{{ord(char):x}}}"


def _literal(char: str) -> Node:
    """One code point, spelled as it will be in the normalised text."""
    atoms = tuple(Atom(one if one.isascii() and one.isalnum() else _code(one)) for one in image(char))
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
