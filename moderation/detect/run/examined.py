"""What all detectors said of one text, by window. Knows nothing of how they were run."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from moderation.detect.run.cache import FINDING, WINDOW
from moderation.detect.run.guard import Answer
from moderation.text import Span
from moderation.verdict import Finding, Unknown


@dataclass(frozen=True, slots=True)
class Examined:
    """What all detectors said of one text, by window; spans are into the original text."""

    windows: tuple[Span, ...]
    findings: tuple[tuple[Finding, ...], ...]
    unknown: tuple[tuple[Unknown, ...], ...]
    quiet: bool = field(default=False, compare=False)
    """True where no detector said anything of any window, and none failed."""

    @classmethod
    def nothing(cls, windows: tuple[Span, ...]) -> Examined:
        """Of a text in which no detector found anything."""
        none = ((),) * len(windows)
        return cls(windows, none, none, True)

    @property
    def weight(self) -> int:
        """Bytes that it takes, about."""
        return sum(FINDING * len(some) for some in self.findings) + WINDOW * len(self.windows)


def gathered(windows: tuple[Span, ...], answers: Sequence[tuple[tuple[Answer, ...], bool]]) -> Examined:
    """All answers about one text, by window. `True` stands beside answers that are by window already."""
    count = len(windows)
    findings: list[list[Finding]] = [[] for _ in range(count)]
    unknown: list[list[Unknown]] = [[] for _ in range(count)]
    if count:
        ends = [span.end for span in windows]
        for given, by_window in answers:
            for at, answer in enumerate(given):
                if isinstance(answer, Unknown):
                    for number in [at] if by_window else range(count):
                        unknown[number].append(answer)
                elif by_window:
                    begin = windows[at].start
                    findings[at].extend(_moved(finding, begin) for finding in answer)
                else:
                    for finding in answer:
                        span = finding.span
                        findings[bisect_left(ends, span.end) if span is not None else 0].append(finding)
    if not any(findings) and not any(unknown):
        return Examined.nothing(windows)
    return Examined(windows, tuple(tuple(sorted(f, key=_order)) for f in findings), tuple(map(tuple, unknown)))


def _moved(finding: Finding, begin: int) -> Finding:
    span = finding.span
    return finding if span is None or not begin else replace(finding, span=Span(span.start + begin, span.end + begin))


def _order(finding: Finding) -> tuple[int, int, str, str, str]:
    span = finding.span
    place = (span.end, span.start) if span is not None else (-1, -1)
    return (*place, finding.detector, finding.entity or "", finding.name)
