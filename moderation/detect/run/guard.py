"""The guard between us and a detector: whatever it does, raises or returns, what comes out is findings or Unknown.

One of the two places with a broad except: past it, a detector that failed is a value. Knows neither threads nor the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from moderation.detect.api import Local, Scan, Windowed
from moderation.detect.prefilter import Prefilter
from moderation.normalise import Normalised
from moderation.text import Span
from moderation.verdict import FULL_SCORE, Cause, Finding, Unknown

PIECE = 16_384
"""Code points of a long text that a local detector looks at in one go, and that its time-out is for: long is not slow."""

Answer = tuple[Finding, ...] | Unknown
"""Of one detector about one text, or one window."""


def scan(local: Local, text: str, start: int, final: bool) -> Scan | Unknown:
    try:
        result: object = local.scan(text, start, final)
    except (Exception, SystemExit):  # noqa: BLE001 - whatever it is, it must not take the request or its thread with it
        return Unknown(local.id, Cause.ERROR)
    if not isinstance(result, Scan) or not isinstance(result.hold, int):
        return Unknown(local.id, Cause.INVALID)
    placed = result.hold == len(text) if final else start <= result.hold <= len(text)
    if placed and (result.findings == () or _are_findings(result.findings, local.id, start, result.hold, spans=True)):
        return result
    return Unknown(local.id, Cause.INVALID)


def quiet(prefilter: Prefilter, text: str, start: int, final: bool) -> int | None:
    try:
        return prefilter.quiet(text, start, final)
    except Exception:  # noqa: BLE001 - as above; each detector is asked then, and says for itself
        return None


def scan_once(local: Local, text: str, start: int, final: bool, beat: Callable[[], None]) -> Scan | Unknown:
    return scan(local, text, start, final)


def whole(local: Local, views: Sequence[Normalised]) -> Answer:
    """A local detector's findings in a whole text, in all that can be read in it, with original offsets."""
    return _all(_whole(local, plain) for plain in views)


def by_pieces(local: Local, views: Sequence[Normalised], beat: Callable[[], None]) -> Answer:
    """The same, a piece at a time (detect/api.py tells why that is the same): a detector's time is for a piece of a text."""
    return _all(_by_pieces(local, plain, beat) for plain in views)


def _all(answers: Iterable[Answer]) -> Answer:
    found: tuple[Finding, ...] = ()
    for answer in answers:
        if isinstance(answer, Unknown):
            return answer
        found += answer
    return found


def _whole(local: Local, plain: Normalised) -> Answer:
    result = scan(local, plain.text, 0, True)
    return result if isinstance(result, Unknown) else _original(plain, result.findings, 0)


def _by_pieces(local: Local, plain: Normalised, beat: Callable[[], None]) -> Answer:
    text, behind, step = plain.text, local.behind, PIECE + local.reach
    found: list[Finding] = []
    hold = 0
    while True:
        beat()
        base, end = max(0, hold - behind), min(len(text), hold + step)
        final = end == len(text)
        result = scan(local, text[base:end], hold - base, final)
        if isinstance(result, Unknown):
            return result
        found.extend(_original(plain, result.findings, base))
        if final:
            return tuple(found)
        if result.hold + base <= hold:
            return Unknown(local.id, Cause.INVALID)
        hold = result.hold + base


def _original(plain: Normalised, findings: Sequence[Finding], base: int) -> tuple[Finding, ...]:
    """Findings in a piece of the normalised text that begins at `base`, with offsets into the original one."""
    if plain.starts is None and not base:
        return tuple(findings)
    return tuple(
        replace(f, span=plain.original(f.span.start + base, f.span.end + base)) for f in findings if f.span is not None
    )


def detected(windowed: Windowed, texts: Sequence[str]) -> Sequence[Answer] | Unknown:
    try:
        answers: object = windowed.detect(texts)
    except (Exception, SystemExit):  # noqa: BLE001 - as above
        return Unknown(windowed.id, Cause.ERROR)
    if not isinstance(answers, (list, tuple)) or len(answers) != len(texts):
        return Unknown(windowed.id, Cause.INVALID)
    checked: list[Answer] = []
    for text, answer in zip(texts, answers, strict=True):
        if isinstance(answer, Unknown):
            good = answer.detector == windowed.id and isinstance(answer.cause, Cause)
        else:
            good = _are_findings(answer, windowed.id, 0, len(text), spans=False)
        checked.append(answer if good else Unknown(windowed.id, Cause.INVALID))
    return checked


def _are_findings(found: object, detector: str, least: int, most: int, spans: bool) -> bool:
    """Whether these are findings of this detector, each within the text where `spans` demands or it says where."""
    if not isinstance(found, tuple):
        return False
    for one in found:
        if not isinstance(one, Finding) or one.detector != detector or type(one.score) is not int:
            return False
        if not 0 <= one.score <= FULL_SCORE or not isinstance(one.category, str) or not isinstance(one.name, str):
            return False
        span = one.span
        if span is None:
            if spans:
                return False
        elif not isinstance(span, Span) or not least <= span.start < span.end <= most:
            return False
    return True
