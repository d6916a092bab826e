"""Trim the vocabulary of a Unigram tokenizer.json: which pieces stay, and the file that holds only those.

A Unigram tokenizer takes the way through a text whose pieces have the greatest sum of scores. When pieces go and scores stay, a
text all of whose pieces stayed is cut exactly as before; another falls back to shorter pieces, at last to single characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

SPACE = "▁"  # U+2581, which stands for a space
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")

# Scripts in which harmless look-alikes of Latin letters come, and those of the languages served: their single characters stay.
SCRIPTS = ("LATIN", "CJK", "CYRILLIC", "GREEK", "HIRAGANA", "KATAKANA", "HANGUL", "FULLWIDTH", "DIGIT", "BOPOMOFO")


def script(char: str) -> str:
    """The first word of a character's Unicode name (`LATIN`, `CJK`); for marks and symbols their general category's letter."""
    if not char.isalpha():
        return unicodedata.category(char)[0]
    return unicodedata.name(char, "?").split(" ", 1)[0].split("-", 1)[0]


def scripts(piece: str) -> set[str]:
    """Of a piece's letters; empty when it has none."""
    return {script(char) for char in piece if char.isalpha()}


def kept(vocabulary: Sequence[tuple[str, float]], used: Collection[int], latin: int) -> list[int]:
    """Ids of the pieces that stay, ascending.

    They are the specials, those in `used`, single characters of SCRIPTS or without a letter, every piece of Han characters, and
    the `latin` most frequent pieces (the vocabulary is in the order of frequency) that are all Latin.
    """
    staying = set(used)
    room = latin
    for number, (piece, _) in enumerate(vocabulary):
        bare = piece.lstrip(SPACE)
        found = scripts(bare)
        sign, letter = not found and len(bare) <= 2, len(bare) == 1 and found <= set(SCRIPTS)
        if piece in SPECIALS or sign or letter or found == {"CJK"}:
            staying.add(number)
        elif found == {"LATIN"} and room > 0:
            staying.add(number)
            room -= 1
    return sorted(staying - {len(vocabulary) - 1} if vocabulary and vocabulary[-1][0] == "<mask>" else staying)


def trimmed(tokenizer: Mapping[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """The same tokenizer.json with only the pieces `ids`, renumbered in their order.

    The specials must be among them, in front and in their old order, so that their numbers stay; ValueError otherwise.
    """
    vocabulary = tokenizer["model"]["vocab"]
    if [vocabulary[i][0] for i in ids[: len(SPECIALS)]] != list(SPECIALS):
        raise ValueError(f"the specials {SPECIALS} do not stand in front")
    names = {vocabulary[i][0] for i in ids}
    made = dict(tokenizer)
    made["model"] = {**tokenizer["model"], "vocab": [vocabulary[i] for i in ids]}
    made["added_tokens"] = [one for one in tokenizer["added_tokens"] if one["content"] in names]
    made["truncation"] = made["padding"] = None
    return made


def used_ids(encodings: Iterator[Sequence[int]]) -> dict[int, int]:
    """How often each id comes in some encodings."""
    counts: dict[int, int] = {}
    for ids in encodings:
        for one in ids:
            counts[one] = counts.get(one, 0) + 1
    return counts
