"""Letters of other scripts that look like one of ASCII, beside those that normalise.py names itself.

From Unicode's confusables (UTS #39, https://www.unicode.org/Public/security/), as packed in the library confusable_homoglyphs
3.3.1 of January 2024, under the Unicode licence. Left out: scripts in living use whose letters would be torn out of words
(Hebrew, Arabic, those of South and East Asia, and two letters of Russian), and what has a compatibility decomposition.
"""

from __future__ import annotations

_BY_LETTER = {
    "A": "\u15c5\U000102a0\U00016f40",
    "B": "\u15f7\ua7b4\U00010282\U000102a1\U00010301",
    "b": "\u0184\u13cf\u1472\u15af",
    "C": "\u2ca4\U000102a2\U00010302\U00010415\U0001051c\U000118f2",
    "c": "\u2ca5\uabaf\U0001043d",
    "D": "\u15de\u15ea",
    "d": "\u13e7\u146f\ua4d2",
    "E": "\u2d39\U00010286\U000118a6\U000118ae",
    "e": "\uab32",
    "F": "\u03dc\u15b4\ua798\U00010287\U000102a5\U00010525\U000118a2\U000118c2\U0001d213\U0001d7ca",
    "f": "\u0584\u1e9d\ua799\uab35",
    "G": "\u13f3",
    "g": "\u018d\u1d83",
    "H": "\u157c\u2c8e\U000102cf",
    "h": "\u13c2",
    "i": "\u13a5\ua647\uab75\U000118c3",
    "J": "\u148d\ua7b2",
    "K": "\u16d5\u2c94\U00010518",
    "L": "\u14aa\u2cd0\U0001041b\U00010526\U000118a3\U000118b2\U00016f16\U0001d22a",
    "l": "\u0196\u01c0\u16c1\u2c92\u2d4f\U0001028a\U00010309\U00010320\U00016f28",
    "M": "\u03fa\u15f0\u16d6\u2c98\U000102b0\U00010311",
    "N": "\u2c9a\U00010513",
    "n": "\u057c",
    "O": "\u2c9e\u2d54\U00010292\U000102ab\U00010404\U000104c2\U00010516\U000118b5",
    "o": "\u1d11\u2c9f\uab3d\U0001042c\U000104ea\U000118c8\U000118d7",
    "P": "\u146d\u2ca2\U00010295",
    "p": "\u2ca3",
    "Q": "\u2d55",
    "q": "\u0563",
    "R": "\u01a6\u13a1\u1587\U000104b4\U00016f35\U0001d216",
    "r": "\u1d26\u2c85\uab47\uab48\uab81",
    "S": "\u13d5\U00010296\U00010420\U00016f3a",
    "s": "\u01bd\uabaa\U00010448\U000118c1",
    "T": "\u2ca6\U00010297\U000102b1\U00010315\U000118bc\U00016f0a",
    "U": "\u144c\U000104ce\U000118b8\U00016f42",
    "u": "\ua79f\uab4e\uab52\U000104f6\U000118d8",
    "V": "\u142f\u2d38\U0001051d\U000118a0\U00016f08\U0001d20d",
    "v": "\uaba9\U000118c0",
    "W": "\u13d4\U000118ef",
    "w": "\u026f\u0561\uab83",
    "X": "\u166d\u16b7\u2cac\u2d5d\ua7b3\U00010290\U000102b4\U00010317\U00010322\U00010527\U000118ec",
    "x": "\u1541\u157d\u166e",
    "Y": "\u13a9\u13bd\u2ca8\U000102b2\U000118a4\U00016f43",
    "y": "\u0263\u1d8c\u1eff\uab5a\U000118dc",
    "Z": "\U000102f5\U000118a9",
    "z": "\uab93\U000118c4",
}

CONFUSABLES: dict[str, str] = {one: letter for letter, all in _BY_LETTER.items() for one in all}
"""Code point to the letter that it looks like."""
