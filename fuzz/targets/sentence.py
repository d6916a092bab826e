"""sentence.py: cuts that never move."""

from __future__ import annotations

from collections.abc import Sequence

from fuzz.target import Target, dice, law, loose
from moderation.sentence import ANSWER_WINDOW, INPUT_WINDOW, SENTENCE_CAP, next_sentence, next_window, settled, windows


def _run(data: bytes) -> str:
    text = loose(data)
    random = dice(data)
    sizes = []
    for size in (ANSWER_WINDOW, INPUT_WINDOW):
        spans = windows(text, size)
        law([one.start for one in spans] == [0, *[one.end for one in spans]][: len(spans)], "windows with gaps")
        law((spans[-1].end if spans else 0) == len(text), "windows do not reach the end")
        law(all(one.end - one.start <= size + SENTENCE_CAP for one in spans), "a window over its bound")
        law(_grown(text, size, random.randrange(1, 60)) == [one.end for one in spans], "a growing text is cut elsewhere")
        sizes.append(len(spans))
    start = random.randrange(len(text) + 1)
    whole = next_sentence(text, start, True)
    for _ in range(4):
        part = text[: random.randrange(start, len(text) + 1)]
        early = next_sentence(part, start, False)
        law(early is None or early == whole, "a cut moved as the text grew")
        law(next_sentence(text, start, True, min(settled(part), len(part))) == whole or (whole is not None
            and whole < settled(part)),
            "what was settled is not")
    return f"{sizes} {whole is None}"


def _grown(text: str, size: int, step: int) -> list[int]:
    """The windows of a text that comes in steps, each found as early as it can be."""
    ends: list[int] = []
    start = sentence = seen = 0
    for length in [*range(step, len(text), step), len(text)]:
        part, final = text[:length], length == len(text)
        while True:
            sentence, end = next_window(part, start, sentence, size, final, seen)
            if end is None:
                seen = max(sentence, settled(part))
                break
            ends.append(end)
            start = sentence = end
            if final and end == len(text):
                break
        seen = min(seen, len(part))
    return ends


def _seeds() -> Sequence[bytes]:
    return [text.encode() for text in (
        "One. Two! Three?\nFour", "今天。明天！“后天？”好", "a" * 900, "...?!... x", "e.g. 3.14 \u3000 .\u2029", ("Word. " * 60),
        ".\n" * 300, "1.)]\"' \v\f x")]


TARGET = Target(
    "sentence", "Windows cover a text; a cut, once made, never moves as the text grows.",
    _seeds, lambda: _run, (b". ", b"!", b"?", b"\n", "。".encode(), "”".encode(), "…".encode(), b")", b"\v", "\u3000".encode(),
    b"a" * 399),
    longest=4000,
)
