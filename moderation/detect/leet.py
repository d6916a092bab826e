"""Leetspeak: words in which signs stand for letters, as in `su1c1d3` and `1gn0re`.

A term is read so where of each word one of the first two letters, and of all a third, stand as they are; `!` and `|` count
between letters alone. So a number is never a word, and a text has to be looked at only where a letter and a sign meet: that is
what `may_stand` tells at the cost of one search. An expression is widened, and its matches are checked. Knows nothing of what is
looked for.
"""

from __future__ import annotations

import re

import re2

from moderation.detect import regex
from moderation.detect.pattern import Find, Hit, finder, options
from moderation.detect.syntax import Atom, Chain, Check, Choice, Flagged, Node, Repeat, source

SIGNS = {"a": "4@", "b": "8", "e": "3", "g": "9", "i": "1", "l": "1", "o": "0", "s": "5$", "t": "7"}
"""What may stand for a letter."""
_BETWEEN = {"i": "!|", "l": "!|"}
"""What may do so between letters alone: at a word's end it is a mark of its own."""
LEAST = 4
"""Letters of a whole word that is looked for. Where a part of a word will do, and of an expression, LEAST_OF_PART."""
LEAST_OF_PART = 6

_ANY_SIGN = re.compile("[10534789@$!|]").search
_SIGN = "[013-57-9@$]"
_MIXED = f"[A-Za-z]{_SIGN}|{_SIGN}[A-Za-z]|[A-Za-z][!|]+[A-Za-z013-57-9@$]"


def _compiled(expression: str) -> Find:
    return finder(re2.compile(expression, options()))


_WHOLE = _compiled(_MIXED)
_GROWING = _compiled(rf"{_MIXED}|{_SIGN}\z|[A-Za-z][!|]+\z")


def may_stand(text: str, start: int, final: bool) -> bool:
    """Whether a sign may stand for a letter in text[start:], or, where it is not final, in what it grows into from its end on.

    Where it says no, what is looked for stands there, or begins there, only in its own letters.
    """
    piece = text[start:] if start else text
    if _ANY_SIGN(piece) is None:
        return False
    raw = piece.encode()
    return (_WHOLE if final else _GROWING)(raw, 0, len(raw))[0] >= 0


# ---- terms -------------------------------------------------------------------------------------------------------------

_SKELETON = [(sign, letter) for letter, signs in SIGNS.items() for sign in signs if letter != "l"]
_SKELETON += [("l", "i"), ("!", "i"), ("|", "i")]


def skeleton(folded: str) -> str:
    """A text with one letter for all that may stand for it, code point by code point. As 1 is both, `l` is `i`."""
    for sign, letter in _SKELETON:
        folded = folded.replace(sign, letter)
    return folded


def spellable(term: str, whole: bool) -> bool:
    """Whether a term (folded) is looked for in leetspeak: words of ASCII letters, long enough, without signs of its own."""
    letters = term.replace(" ", "")
    return letters.isascii() and letters.isalpha() and len(letters) >= (LEAST if whole else LEAST_OF_PART)


def spells(text: str, term: str) -> bool:
    """Whether a folded text, as long as the term, is the term in leetspeak, and not in its own letters alone."""
    seen_words, words = text.split(" "), term.split(" ")
    if list(map(len, seen_words)) != list(map(len, words)):
        return False
    signs = 0
    for seen, word in zip(seen_words, words, strict=True):
        other = [place for place, (char, letter) in enumerate(zip(seen, word, strict=True)) if char != letter]
        signs += len(other)
        if not all(seen[place] in _signs(word, place) for place in other):
            return False
        if other[:2] == [0, 1] or (other and len(word) == 1):
            return False
    return signs > 0 and _enough(len(term.replace(" ", "")) - signs, signs)


def _signs(word: str, place: int) -> str:
    inner = 0 < place < len(word) - 1
    return SIGNS.get(word[place], "") + (_BETWEEN.get(word[place], "") if inner else "")


def _enough(letters: int, signs: int) -> bool:
    return 2 * letters >= signs


# ---- expressions -------------------------------------------------------------------------------------------------------


def spelling(expression: str) -> str | None:
    """An expression for the same in leetspeak, or in its own letters; None where too few letters of it are told.

    Raises BadRegex.
    """
    node = regex.parse(expression)
    return source(_spelt(node)) if _letters(node) >= LEAST_OF_PART else None


_TOKEN = re.compile(r"[A-Za-z0-9@$!|]+")


def plausible(before: str, match: str, after: str) -> Hit | None:
    """The check of such an expression: a match without a word that has letters and signs, or of numbers mostly, is none."""
    letters = signs = 0
    for token in _TOKEN.findall(match):
        own = sum(map(str.isalpha, token))
        if 0 < own < len(token):
            letters, signs = letters + own, signs + len(token) - own
    return Hit(len(match)) if signs and _enough(letters, signs) else None


def _is_letter(node: Node) -> bool:
    return isinstance(node, Atom) and len(node.source) == 1 and node.source.isalpha()


def _letters(node: Node) -> int:
    """Letters that every match has."""
    match node:
        case Chain(parts):
            return sum(map(_letters, parts))
        case Choice(alternatives):
            return min(map(_letters, alternatives))
        case Flagged(_, inner):
            return _letters(inner)
        case Repeat(inner, least, _, _):
            return least * _letters(inner)
        case Atom() | Check():
            return int(_is_letter(node))


def _spelt(node: Node) -> Node:
    match node:
        case Atom() | Check():
            return node
        case Choice(alternatives):
            return Choice(tuple(map(_spelt, alternatives)))
        case Flagged(flags, inner):
            return Flagged(flags, _spelt(inner))
        case Repeat(inner, least, most, lazy):
            return Repeat(_spelt(inner), least, most, lazy)
        case Chain(parts):
            built: list[Node] = []
            at = 0
            while at < len(parts):
                end = at
                while end < len(parts) and _is_letter(parts[end]):
                    end += 1
                if end - at > 1:
                    built += [_any(source(one), 0 < place < end - at - 1) for place, one in enumerate(parts[at:end])]
                    # An ending that may be missing, as in `instructions?`, is a letter of the word.
                    while end < len(parts) and isinstance(ending := parts[end], Repeat) and _is_letter(ending.inner):
                        built.append(Repeat(_any(source(ending.inner), False), ending.least, ending.most, ending.lazy))
                        end += 1
                else:
                    end = max(end, at + 1)
                    built += map(_spelt, parts[at:end])
                at = end
            return Chain(tuple(built))


def _any(letter: str, inner: bool) -> Atom:
    """A letter, or what may stand for it."""
    signs = SIGNS.get(letter.lower(), "") + (_BETWEEN.get(letter.lower(), "") if inner else "")
    return Atom(f"[{letter}{_codes(signs)}]") if signs else Atom(letter)


def _codes(signs: str) -> str:
    return "".join(f"\\x{{{ord(sign):x}}}" for sign in signs)
