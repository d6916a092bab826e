"""Seams: what two texts say together that neither says alone.

Chat templates put the text parts of a message, and messages of one role that follow each other, next to each other or a line
apart. So the end of each and the beginning of the next are read as one, both ways. A finding across a seam counts for the later
text; its span has a piece in each. Knows no detectors and no policy.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from moderation.detect.run.examined import Examined
from moderation.text import Channel, Segment, Span
from moderation.verdict import Finding, Unknown

REACH = 512
"""Code points on each side of a seam that are read with what stands on the other."""
_BLOCK = 4 * REACH
_BETWEEN = ("", "\n")
"""What templates put between two texts."""
_SAID = re.compile(r"/messages/(\d{1,9})/content(?:/\d+(?:/text)?)?")
"""Where the texts of a message stand: content as a string, and as parts."""
_JOINED = frozenset((Channel.SYSTEM, Channel.USER, Channel.ASSISTANT, Channel.TOOL_RESULT))


@dataclass(frozen=True, slots=True)
class Seam:
    """A stretch around some seams of texts that follow each other."""

    text: str
    segments: tuple[int, ...]
    """The texts that it joins: indexes into what was given."""
    starts: tuple[int, ...]
    """Where each of them begins in `text`; the first may begin before it."""
    sizes: tuple[int, ...]
    """How much of each stands in `text`."""
    offsets: tuple[int, ...]
    """Where in each text that begins."""
    own: frozenset[int]
    """The texts whose findings across a seam are told here, and not by the stretch before or after."""

    def pieces(self, finding: Finding) -> tuple[tuple[int, Finding], ...]:
        """The pieces of a finding, each with its text; none where it crosses no seam of ours."""
        span = finding.span
        if span is None:
            return ()
        first = bisect_right(self.starts, span.start) - 1
        last = bisect_left(self.starts, span.end) - 1
        if first == last or self.segments[last] not in self.own:
            return ()
        pieces: list[tuple[int, Finding]] = []
        for at in range(first, last + 1):
            begin = max(span.start, self.starts[at])
            end = min(span.end, self.starts[at] + self.sizes[at])
            if begin < end:
                shift = self.offsets[at] - self.starts[at]
                pieces.append((self.segments[at], replace(finding, span=Span(begin + shift, end + shift))))
        return tuple(pieces) if len(pieces) > 1 else ()


def seams(segments: Sequence[Segment]) -> Iterator[Seam]:
    """The seams among the texts of a request, each in every way that a template may join them."""
    group: list[int] = []
    newest = -2
    for index, segment in enumerate(segments):
        said = _SAID.fullmatch(segment.path)
        if said is None or segment.channel not in _JOINED:
            continue
        message = int(said[1])
        if group and (segment.channel is not segments[group[-1]].channel or message > newest + 1):
            if len(group) > 1:
                yield from _blocks(segments, group)
            group = []
        group.append(index)
        newest = message
    if len(group) > 1:
        yield from _blocks(segments, group)


def _blocks(segments: Sequence[Segment], group: Sequence[int]) -> Iterator[Seam]:
    """Stretches of a bounded length that hold each seam with REACH on both sides: what is read grows with the texts alone."""
    at = 1
    while at < len(group):
        first, before = at - 1, min(REACH, len(segments[group[at - 1]].text))
        while before < REACH and first > 0:
            first -= 1
            before += len(segments[group[first]].text)
        length, last = before, at
        own = {group[at]}
        while last + 1 < len(group) and length + len(segments[group[last]].text) <= _BLOCK:
            length += len(segments[group[last]].text)
            last += 1
            own.add(group[last])
        end, after = last, len(segments[group[last]].text)
        while after < REACH and end + 1 < len(group):
            end += 1
            after += len(segments[group[end]].text)
        yield from _joined(segments, group[first : end + 1], frozenset(own))
        at = last + 1


def _joined(segments: Sequence[Segment], group: Sequence[int], own: frozenset[int]) -> Iterator[Seam]:
    texts = [segments[index].text for index in group]
    offsets = [max(0, len(texts[0]) - REACH), *([0] * (len(texts) - 1))]
    texts[0] = texts[0][offsets[0] :]
    texts[-1] = texts[-1][:REACH]
    for between in _BETWEEN:
        starts: list[int] = []
        place = 0
        for text in texts:
            starts.append(place)
            place += len(text) + len(between)
        yield Seam(between.join(texts), tuple(group), tuple(starts), tuple(map(len, texts)), tuple(offsets), own)


Pieces = tuple[tuple[int, Finding], ...]


def crossing(read: Iterable[tuple[Seam, Examined]]) -> dict[int, tuple[list[Pieces], list[Unknown]]]:
    """By later text: what stands across its seams, each once, in pieces; and who could not read them."""
    told: dict[int, tuple[dict[Pieces, None], set[Unknown]]] = {}
    for seam, one in read:
        for finding in (f for some in one.findings for f in some):
            if pieces := seam.pieces(finding):
                told.setdefault(pieces[-1][0], ({}, set()))[0][pieces] = None
        lost = {unknown for some in one.unknown for unknown in some}
        for later in seam.own if lost else ():
            told.setdefault(later, ({}, set()))[1].update(lost)
    return {later: (list(pieces), sorted(lost, key=str)) for later, (pieces, lost) in sorted(told.items())}
