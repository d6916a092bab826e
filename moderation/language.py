"""A guess at the language of a text from its script alone, until trained models tell better.

Knows nothing of words: every text in Latin letters is taken for English.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

LOOK = 4096
"""Code points that are looked at."""

_SCRIPTS = {
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"),
    "ja": re.compile("[\u3041-\u3096\u30a1-\u30fa\uff66-\uff9d]"),
    "ko": re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]"),
    "ru": re.compile("[\u0400-\u052f]+"),
    "ar": re.compile("[\u0620-\u064a\u0671-\u06d3\u0750-\u077f\ufb50-\ufdff\ufe70-\ufefc]+"),
    "he": re.compile("[\u05d0-\u05ea]+"),
    "el": re.compile("[\u0370-\u03ff\u1f00-\u1fff]+"),
    "hi": re.compile("[\u0900-\u097f]+"),
    "bn": re.compile("[\u0980-\u09ff]+"),
    "ta": re.compile("[\u0b80-\u0bff]+"),
    "th": re.compile("[\u0e01-\u0e4e]+"),
    "ka": re.compile("[\u10a0-\u10ff]+"),
    "hy": re.compile("[\u0531-\u0587]+"),
    "en": re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff\uff21-\uff5a]+"),
}
OWN_SCRIPT = _SCRIPTS.keys() - {"en"} | {"uk", "fa"}
"""Languages that are told by their script; others are taken for ones in Latin letters."""
_SHARED = {"uk": ("ru",), "fa": ("ar",), "ja": ("ja", "zh")}
"""Which scripts a language is written in, where that is not the one under its own tag."""
_UNLISTED = frozenset(
    ("am", "bo", "chr", "dv", "dz", "gu", "ii", "iu", "km", "kn", "lo", "ml", "mn", "mni", "my", "nqo", "or", "pa", "sat", "si",
     "syr", "te", "ti")
)  # fmt: skip
"""Languages that are written in a script that is not in the table."""
_WORD = re.compile(r"[^\W\d_]{2,}")
_MANY = 16
"""Letters of a short sentence; where a letter is a syllable or a word, a third of them are one."""
_UKRAINIAN = re.compile("[іїєґІЇЄҐ]")
_PERSIAN = re.compile("[پچژگکی]")


def language_of(text: str) -> str:
    """BCP 47 primary tag, or `und` where no letter tells.

    Scripts are weighed by words where words are spaced, else by code points, so that a product's name in Latin letters
    does not make a Chinese sentence English. Kana make a text Japanese however many Han there are.
    """
    sample = text[:LOOK]
    if sample.isascii():
        return "en" if _SCRIPTS["en"].search(sample) else "und"
    weights = {tag: len(script.findall(sample)) for tag, script in _SCRIPTS.items()}
    if weights["ja"]:
        weights["ja"] += weights.pop("zh") if weights["ja"] * 12 >= weights["zh"] else 0
    best = max(weights.items(), key=lambda item: item[1])
    if not best[1]:
        return "und"
    match best[0]:
        case "ru" if _UKRAINIAN.search(sample):
            return "uk"
        case "ar" if _PERSIAN.search(sample):
            return "fa"
        case tag:
            return tag


def strange(text: str, languages: frozenset[str]) -> bool:
    """Whether a sentence of a text, or most of it, is in letters in which none of these languages (primary tags) is written.

    Letters that stand alone are signs of formulas, and tell nothing.
    """
    if text.isascii() and languages - OWN_SCRIPT:
        return False
    shown = unicodedata.normalize("NFKC", text)
    rest = _letters(languages).sub(" ", shown)
    found = sum(map(len, _WORD.findall(rest)))
    dense = sum(len(_SCRIPTS[tag].findall(rest)) for tag in ("zh", "ja", "ko")) if found else 0
    return found + 2 * dense >= _MANY or found * 2 > sum(map(len, _WORD.findall(shown)))


@lru_cache(maxsize=64)
def _letters(languages: frozenset[str]) -> re.Pattern[str]:
    """What these languages are written in."""
    tags = {script for tag in languages & OWN_SCRIPT for script in _SHARED.get(tag, (tag,))}
    parts = [_SCRIPTS[tag].pattern for tag in sorted(tags)]
    if languages - OWN_SCRIPT:
        parts.append(_SCRIPTS["en"].pattern)
    if languages & _UNLISTED:
        listed = "|".join(script.pattern for script in _SCRIPTS.values())
        parts.append(rf"(?!{listed})[^\W\d_]")
    return re.compile("|".join(parts))
