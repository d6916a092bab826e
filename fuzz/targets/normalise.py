"""normalise.py: one spelling for what looks alike."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from fuzz.target import Target, cut_text, dice, law, loose
from moderation.normalise import Normalised, begun, image, normalise


def _spans(found: Normalised, length: int) -> list[tuple[int, int]]:
    if found.starts is None or found.ends is None:
        law(len(found.text) == length, "offsets moved and are not told")
        return [(at, at + 1) for at in range(length)]
    law(len(found.starts) == len(found.ends) == len(found.text), "not an offset for each code point")
    return list(zip(found.starts, found.ends, strict=True))


def _run(data: bytes) -> str:
    text = loose(data)
    found = normalise(text)
    spans = _spans(found, len(text))
    law(all(0 <= start < end <= len(text) for start, end in spans), "an offset out of range")
    law(all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(spans)), "offsets go back")
    pieces, at, held = "", 0, ""
    together: list[tuple[int, int]] = []
    for chunk in cut_text(text, dice(data)):
        held += chunk
        half = begun(held)
        law(0 <= half <= 6, "more is held than an escape is long")
        ready, held = held[: len(held) - half], held[len(held) - half :]
        one = normalise(ready)
        pieces += one.text
        together += [(start + at, end + at) for start, end in _spans(one, len(ready))]
        at += len(ready)
    last = normalise(held)
    law(pieces + last.text == found.text, "piece by piece it is another text")
    law(together + [(start + at, end + at) for start, end in _spans(last, len(held))] == spans, "piece by piece, other offsets")
    law(not any("\ud800" <= char <= "\udfff" for char in found.text), "a surrogate is left")
    odd = "".join(sorted({char for char in text[:200] if image(char) != char}))[:6]
    return f"{found.starts is None} {len(found.text).bit_length()} {len(text).bit_length()} {odd}"


def _seeds() -> Sequence[bytes]:
    return [text.encode("utf-8", "surrogatepass") for text in (
        "plain", "ＡＢＣ１２３，．：＠", "аррӏе РауРаl", "\\u5ffd\\u7565 \\n\\\\u0034", "4\u200b1\u200b11\u202e",
        "é\u0301ﷺ½㎏\ud800",
        "\\\\\\u00", "我们今天去公园。かな한국어", "\U000e0041🅰𝐀𝓫", "".join(map(chr, range(0x300, 0x340))))]


TARGET = Target(
    "normalise", "Total; offsets are in range and never go back; piece by piece, with what `begun` holds, as in one.",
    _seeds, lambda: _run, (b"\\", b"\\u", b"\\u00", b"\\n", b"\\\\", "\u0301".encode(), "\u3000".encode(), "\ufe0f".encode(),
                           "\uac00".encode()),
    longest=4000,
)
