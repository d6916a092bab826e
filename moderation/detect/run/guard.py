"""The guard between us and a detector: whatever it does, raises or returns, what comes out is findings or Unknown.

One of the two places with a broad except: past it, a detector that failed is a value. Knows neither threads nor the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from moderation.detect.api import Local, Passage, Remote, Scan, Windowed
from moderation.detect.prefilter import Prefilter
from moderation.normalise import Normalised
from moderation.text import Span
from moderation.verdict import FULL_SCORE, Cause, Finding, Unknown

PIECE = 16_384
"""Code points of a long text that a local detector looks at in one go, and that its time-out is for: long is not slow."""

Answer = tuple[Finding, ...] | Unknown
"""Of one detector about one text, or one window."""
Known = frozenset[str] | None


def scan(local: Local, text: str, start: int, final: bool, known: Known = None) -> Scan | Unknown:
    """`known` are the categories that the policy knows of this detector, for here and below."""
    try:
        result: object = local.scan(text, start, final)
        if isinstance(result, Scan) and _is_sound(result, local.id, text, start, final, known):
            return result
    except BaseException:  # noqa: BLE001 - whatever it is (a panic of native code is no Exception), it ends here
        return Unknown(local.id, Cause.ERROR)
    return Unknown(local.id, Cause.INVALID)


def _is_sound(result: Scan, detector: str, text: str, start: int, final: bool, known: Known) -> bool:
    if type(result.hold) is not int:
        return False
    placed = result.hold == len(text) if final else start <= result.hold <= len(text)
    return placed and _are_findings(result.findings, detector, start, result.hold, known, spans=True)


def quiet(prefilter: Prefilter, text: str, start: int, final: bool) -> int | None:
    try:
        return prefilter.quiet(text, start, final)
    except Exception:  # noqa: BLE001 - as above; each detector is asked then, and says for itself
        return None


def is_loud(prefilter: Prefilter, views: Sequence[Normalised]) -> bool:
    """Whether anything could be found in a whole text."""
    return any([quiet(prefilter, one.text, 0, True) is None for one in views])  # noqa: C419 - a generator takes longer


def scan_once(local: Local, text: str, start: int, final: bool, known: Known, beat: Callable[[], None]) -> Scan | Unknown:
    return scan(local, text, start, final, known)


def whole(local: Local, views: Sequence[Normalised], known: Known = None) -> Answer:
    """A local detector's findings in a whole text, in all that can be read in it, with original offsets."""
    return _all(_whole(local, plain, known) for plain in views)


def by_pieces(local: Local, views: Sequence[Normalised], beat: Callable[[], None], known: Known = None) -> Answer:
    """The same, a piece at a time (detect/api.py tells why that is the same): a detector's time is for a piece of a text."""
    return _all(_by_pieces(local, plain, beat, known) for plain in views)


def _all(answers: Iterable[Answer]) -> Answer:
    found: tuple[Finding, ...] = ()
    for answer in answers:
        if isinstance(answer, Unknown):
            return answer
        found += answer
    return found


def _whole(local: Local, plain: Normalised, known: Known) -> Answer:
    result = scan(local, plain.text, 0, True, known)
    return result if isinstance(result, Unknown) else _original(plain, result.findings, 0)


def _by_pieces(local: Local, plain: Normalised, beat: Callable[[], None], known: Known) -> Answer:
    text, behind, step = plain.text, local.behind, PIECE + local.reach
    found: list[Finding] = []
    hold = 0
    while True:
        beat()
        base, end = max(0, hold - behind), min(len(text), hold + step)
        final = end == len(text)
        result = scan(local, text[base:end], hold - base, final, known)
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
    return tuple(replace(f, span=plain.original(f.span.start + base, f.span.end + base)) for f in findings if f.span is not None)


def detected(windowed: Windowed, passages: Sequence[Passage], beat: Callable[[], None], known: Known = None) -> list[Answer]:
    """What a window detector says of passages, so many at a time as it takes: its time is for one call, long is not slow."""
    answers: list[Answer] = []
    step = _batch(windowed)
    while len(answers) < len(passages):
        beat()
        some = passages[len(answers) : len(answers) + step]
        found = _asked(windowed, some, known)
        answers += [found] * len(some) if isinstance(found, Unknown) else found
    return answers


def _batch(windowed: Windowed) -> int:
    try:
        return max(1, int(windowed.batch))
    except BaseException:  # noqa: BLE001 - as above; its `detect` then says for itself
        return 1


def _asked(windowed: Windowed, passages: Sequence[Passage], known: Known) -> list[Answer] | Unknown:
    try:
        answers: object = windowed.detect(passages)
        if isinstance(answers, (list, tuple)) and len(answers) == len(passages):
            return [_checked(windowed.id, one.text, answer, known) for one, answer in zip(passages, answers, strict=True)]
    except BaseException:  # noqa: BLE001 - as above
        return Unknown(windowed.id, Cause.ERROR)
    return Unknown(windowed.id, Cause.INVALID)


async def asked(judge: Remote, passage: Passage, known: Known = None) -> Answer:
    """What a judge over the network says of a passage. Cancelling goes through."""
    try:
        answer: object = await judge.ask(passage)
    except Exception:  # noqa: BLE001 - as above; but being cancelled is no answer
        return Unknown(judge.id, Cause.ERROR)
    if isinstance(answer, (tuple, Unknown)):
        return _checked(judge.id, passage.text, answer, known)
    return Unknown(judge.id, Cause.INVALID)


def _checked(detector: str, text: str, answer: Answer, known: Known) -> Answer:
    if isinstance(answer, Unknown):
        good = answer.detector == detector and isinstance(answer.cause, Cause)
    else:
        good = _are_findings(answer, detector, 0, len(text), known, spans=False)
    return answer if good else Unknown(detector, Cause.INVALID)


def _are_findings(found: object, detector: str, least: int, most: int, known: Known, *, spans: bool) -> bool:
    """Whether these are findings of this detector, each within the text where `spans` demands or it says where.

    A category that the policy does not know is none: no rule could be about it, so the finding would be lost in silence.
    """
    if not isinstance(found, tuple):
        return False
    for one in found:
        if not isinstance(one, Finding) or one.detector != detector or type(one.score) is not int:
            return False
        if not 0 <= one.score <= FULL_SCORE or not isinstance(one.category, str) or not isinstance(one.name, str):
            return False
        if known is not None and one.category not in known:
            return False
        span = one.span
        if span is None:
            if spans:
                return False
        elif not isinstance(span, Span) or not least <= span.start < span.end <= most:
            return False
    return True


def together(results: Sequence[Scan | Unknown]) -> int | Sequence[Scan | Unknown]:
    """How far all are done, where none of them found anything or failed; else what each says."""
    holds = [one.hold for one in results if isinstance(one, Scan) and not one.findings]
    return min(holds) if len(holds) == len(results) else results
