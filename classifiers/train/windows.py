"""Cut a text into windows of whole sentences, as the runtime does: a row of the corpus is one window.

A window holds at most 400 code points, or 200 where the text is mostly Chinese, Japanese or Korean: a call takes at
most 160 tokens and such a character is often a token of its own.
"""

from __future__ import annotations

import re

LIMIT, LIMIT_CJK = 400, 200

_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_SENTENCE = re.compile(r"[^.!?。！？；\n]*[.!?。！？；\n]+[\"'”’)\s]*|[^.!?。！？；\n]+$")
_SPACE = re.compile(r"\s+")


def flat(text: str) -> str:
    """The text with each run of white space as one space and none at its ends."""
    return _SPACE.sub(" ", text).strip()


def limit_of(text: str) -> int:
    """The most code points that a window of this text may hold."""
    return LIMIT_CJK if len(_CJK.findall(text)) * 3 >= len(text) else LIMIT


def windows(text: str, most: int) -> list[str]:
    """The first `most` windows of a flat text, in order; a sentence that is too long is cut hard."""
    limit = limit_of(text)
    if len(text) <= limit:
        return [text] if text else []
    pieces: list[str] = []
    for sentence in _SENTENCE.findall(text):
        pieces += [sentence[at : at + limit] for at in range(0, len(sentence), limit)]
    found: list[str] = []
    held = ""
    for piece in pieces:
        if held and len(held) + len(piece.rstrip()) > limit:
            found.append(held.strip())
            held = ""
            if len(found) == most:
                return found
        held += piece
    if held.strip():
        found.append(held.strip())
    return found[:most]
