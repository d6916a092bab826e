"""Sentences and windows: places in a growing text that never move once they are known.

A cut depends on the text before it and on one code point after it, never on how the text arrived, so that a stream
and the whole text are cut alike. Knows nothing of languages: it knows terminators, closers and white space.
"""

from __future__ import annotations

import re

from moderation.text import Span

SENTENCE_CAP = 400
"""A sentence is cut here whatever it says (code points), so that a window is bounded."""
ANSWER_WINDOW = 100
"""A window of an answer closes at the first sentence end at or after this many code points."""
INPUT_WINDOW = 400
CONTEXT = 200
"""The most code points before a window that a detector of windows reads to understand it by."""

_MARK = re.compile(r"[.!?。！？｡…\n]")
"""Where an end may stand: found first, for one class of characters is searched many times faster than anything else."""
_SAME = re.compile(r"[.!?]++|[。！？｡…]++|\n\s*+")
"""What stands there: an end that is none at its first character is none at the others, for the same thing follows."""
# Possessive, so that a shorter text never finds a cut by giving characters back that a longer one would take.
_END = re.compile(r"(?:[.!?]++[\"'”’»)\]]*+\s++|[。！？｡…]++[\"'”’」』）】》]*+\s*+|\n\s*+)(?=\S)")
_RUN = " \t\n\r\v\f\u00a0\u3000.!?。！？｡…\"'”’»)]」』）】》"


def context(before: str) -> str:
    """The sentences at the end of what stands before a window: all of it, or as many whole ones as fit in CONTEXT.

    It depends on the last CONTEXT code points alone, so that a stream need keep no more of a text.
    """
    tail = before[-CONTEXT:]
    return tail if len(tail) < CONTEXT else _whole(tail)


def _whole(tail: str) -> str:
    """From the first sentence that begins in a stretch on."""
    at = 0
    while (mark := _MARK.search(tail, at)) is not None:
        if (end := _END.match(tail, mark.start())) is not None:
            return tail[end.end() :]
        same = _SAME.match(tail, mark.start())
        assert same is not None
        at = same.end()
    return ""


def settled(text: str) -> int:
    """Before it, no sentence end begins that the text so far does not show: there its last run of ends and spaces begins."""
    end = len(text)
    while end and (text[end - 1] in _RUN or text[end - 1].isspace()):
        end -= 1
    return end


def next_sentence(text: str, start: int, final: bool, seen: int = 0) -> int | None:
    """The end of the sentence that starts at `start`, or None where it is not known yet.

    A terminator ends a sentence together with the closers and white space behind it; the first code point of the next
    sentence must have been seen. When `final`, the end of the text ends the last sentence (None if there is no text left).
    `seen`: no end begins before it (see settled), so that a growing text is not searched again and again.
    """
    cap = start + SENTENCE_CAP
    mark = _MARK.search(text, max(start, seen), cap + 1)
    while mark is not None:
        end = _END.match(text, mark.start(), cap + 1)
        if end is not None:
            return end.end()
        same = _SAME.match(text, mark.start(), cap + 1)
        assert same is not None
        mark = _MARK.search(text, same.end(), cap + 1)
    if len(text) > cap:
        return cap
    return len(text) if final and len(text) > start else None


def next_window(text: str, start: int, sentence: int, size: int, final: bool, seen: int = 0) -> tuple[int, int | None]:
    """Go on from a window that starts at `start` and whose last known sentence end is `sentence` (>= start).

    Returns (sentence', end): the newest sentence end known inside the window and the window's end, or None while open.
    """
    while True:
        if sentence - start >= size:
            return sentence, sentence
        end = next_sentence(text, sentence, final, seen)
        if end is None:
            return sentence, (len(text) if final and len(text) > start else None)
        sentence = end


def windows(text: str, size: int) -> tuple[Span, ...]:
    """The windows of a whole text; they cover it without gaps and do not overlap. An empty text has none."""
    found: list[Span] = []
    start = 0
    while start < len(text):
        _, end = next_window(text, start, start, size, final=True)
        assert end is not None
        found.append(Span(start, end))
        start = end
    return tuple(found)
