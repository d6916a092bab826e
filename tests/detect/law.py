"""The law of local detectors (moderation/detect/api.py) as an assertion: cutting a text anywhere changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random

from moderation.detect.api import Local
from moderation.text import Span
from moderation.verdict import Finding


def spans(findings: Iterable[Finding], text: str) -> list[tuple[str, str]]:
    """(name, the text itself) of each finding."""
    return [(f.name, text[f.span.start : f.span.end]) for f in findings if f.span is not None]


def whole(detector: Local, text: str) -> tuple[Finding, ...]:
    scan = detector.scan(text, 0, final=True)
    assert scan.hold == len(text)
    return scan.findings


def streamed(detector: Local, chunks: Sequence[str]) -> tuple[tuple[Finding, ...], list[int]]:
    """The findings of a text that arrives in chunks, and each hold; nothing is shown that a tape would have dropped."""
    text = ""
    hold = 0
    found: list[Finding] = []
    holds: list[int] = []
    for number, chunk in enumerate((*chunks, "")):
        text += chunk
        final = number == len(chunks)
        base = max(0, hold - detector.behind)
        scan = detector.scan(text[base:], hold - base, final)
        before, hold = hold, scan.hold + base
        assert before <= hold <= len(text), "a hold never goes back"
        assert final is False or hold == len(text)
        assert final or len(text) - hold <= detector.reach, "no more is held than reach says"
        for finding in scan.findings:
            assert finding.span is not None
            moved = Span(finding.span.start + base, finding.span.end + base)
            assert before <= moved.start < moved.end <= hold
            found.append(replace(finding, span=moved))
        holds.append(hold)
    return tuple(found), holds


def check_cuts(detector: Local, text: str) -> tuple[Finding, ...]:
    """Each single cut, and code point by code point; returns what is found."""
    expected = whole(detector, text)
    for cut in range(len(text) + 1):
        _check(detector, expected, (text[:cut], text[cut:]))
    _check(detector, expected, tuple(text))
    return expected


def check_random(detector: Local, text: str, random: Random, times: int = 3) -> tuple[Finding, ...]:
    """Some chunkings at random."""
    expected = whole(detector, text)
    for _ in range(times):
        cuts = sorted(random.randrange(len(text) + 1) for _ in range(random.randrange(1, 12)))
        _check(detector, expected, [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)])
    return expected


def _check(detector: Local, expected: tuple[Finding, ...], chunks: Sequence[str]) -> None:
    found, holds = streamed(detector, chunks)
    assert found == expected, f"cut as {chunks}"
    for hold in holds:
        for finding in expected:
            assert finding.span is not None
            assert finding.span.end <= hold or hold <= finding.span.start, "part of a match was let go"
