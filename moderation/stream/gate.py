"""The gate: frames wait here, in order, until all their text may go out.

Frames keep the upstream's order; but where the held text of one tape keeps much finished text of others waiting, those
overtake it. Only the order of frames of different tapes depends on that, never any text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from moderation.act import piece as cut_piece
from moderation.stream.lane import Lane
from moderation.stream.plan import Command, Emit, Piece

BYTES = 16
"""Bytes of frames for each code point that may be held: a word comes in some hundred bytes of JSON, and media wait behind it."""
OVERTAKE = 64
"""Code points that may wait behind another tape's held frame before they overtake it."""


@dataclass(slots=True)
class Frame:
    raw: bytes
    pieces: list[tuple[Lane, int, Piece]]
    """With the position in its lane at which each starts."""
    finished: tuple[int, ...]
    """The choices that it ends."""
    choices: tuple[int, ...]
    size: int
    """Code points of text."""
    number: int
    """Its place in the stream, from 1."""


class Gate:
    """Holds frames and lets them go."""

    def __init__(self, lanes: Mapping[object, Lane], rewrite: Callable[[bytes, Mapping[str, str], bool], bytes]) -> None:
        self._lanes = lanes
        self._rewrite = rewrite
        self._frames: deque[Frame] = deque()
        self.waiting = 0
        """Code points that are held."""
        self.bytes = 0
        """Bytes of the frames that are held."""
        self.choices: dict[int, int] = {}
        """The choices seen, with the frame that each came with."""
        self.finished: set[int] = set()
        self._sent: set[int] = set()

    def add(self, frame: Frame) -> None:
        self._frames.append(frame)
        self.waiting += frame.size
        self.bytes += len(frame.raw)
        for choice in frame.choices:
            self.choices.setdefault(choice, frame.number)
        if frame.finished:
            self.finished.update(frame.finished)

    def holds_more_than(self, most: int) -> bool:
        """Whether more than `most` code points of text wait here, or frames that take the memory of so many."""
        return self.waiting > most or self.bytes > BYTES * most

    def open(self, number: int) -> tuple[int, ...]:
        """The choices that had come by this frame and that the client has not seen end."""
        return tuple(sorted(c for c, first in self.choices.items() if first <= number and c not in self._sent))

    def flush(self, commands: list[Command]) -> None:
        """Let go what may go."""
        frames = self._frames
        for lane in self._lanes.values():
            lane.update()
        while frames and self._may_go(frames[0]):
            self._emit(frames.popleft(), commands)
        if len(self._lanes) > 1 and len(frames) > 1 and self.waiting >= OVERTAKE:
            self._overtake(commands)
        if not frames:
            for lane in self._lanes.values():
                if lane.changes:
                    lane.changes = tuple(c for c in lane.changes if c.span.end > lane.out)

    def _may_go(self, frame: Frame) -> bool:
        if frame.finished:
            # The last finish_reason waits for the end, so that a broken stream never looks like a whole one.
            if self.choices.keys() <= self.finished:
                return False
            if not self._whole(frame.finished):
                return False
        for lane, start, piece in frame.pieces:  # noqa: SIM110 - a generator takes three times as long
            if not lane.ready or lane.out < start + len(piece.text):
                return False
        return True

    def _overtake(self, commands: list[Command]) -> None:
        held: set[int] = set()
        waiting: set[int] = set()
        ended: set[int] = set()
        ready: list[Frame] = []
        for frame in self._frames:
            lanes = {id(lane) for lane, _, _ in frame.pieces}
            free = not lanes & held and not (waiting if frame.finished else ended).intersection(frame.choices)
            if (frame.pieces or frame.finished) and free and self._may_go(frame):
                ready.append(frame)
                continue
            held |= lanes
            waiting.update(frame.choices)
            if frame.finished or not frame.pieces:
                ended.update(frame.choices)
        if sum(frame.size for frame in ready) >= OVERTAKE:
            gone = {id(frame) for frame in ready}
            for frame in ready:
                self._emit(frame, commands)
            self._frames = deque(frame for frame in self._frames if id(frame) not in gone)

    def _emit(self, frame: Frame, commands: list[Command], unfinished: bool = False) -> None:
        self.waiting -= frame.size
        self.bytes -= len(frame.raw)
        texts: dict[str, str] = {}
        for lane, start, piece in frame.pieces:
            if lane.changes:
                text = cut_piece(piece.text, start, lane.changes)
                if text != piece.text:
                    texts[piece.path] = text
        if texts or frame.finished:
            self._send(frame, texts, unfinished and bool(frame.finished), commands)
        else:
            commands.append(Emit(frame.raw))

    def _send(self, frame: Frame, texts: Mapping[str, str], unfinished: bool, commands: list[Command]) -> None:
        if frame.finished and not unfinished:
            self._sent.update(frame.finished)
        commands.append(Emit(self._rewrite(frame.raw, texts, unfinished) if texts or unfinished else frame.raw))

    def cut(self, number: int, commands: list[Command]) -> None:
        """A block decided on what came by this frame: let out what stands before the cut of each lane, drop the rest."""
        for lane in self._lanes.values():
            lane.update()
        for frame in self._frames:
            texts: dict[str, str] = {}
            kept = False
            for lane, start, piece in frame.pieces:
                visible = piece.text[: max(0, lane.out - start)]
                text = cut_piece(visible, start, lane.changes) if visible else ""
                kept = kept or bool(text)
                if text != piece.text:
                    texts[piece.path] = text
            unfinished = bool(frame.finished) and not self._whole(frame.finished)
            if frame.number > number:
                break
            if kept if frame.pieces else (frame.choices and not unfinished):
                self._send(frame, texts, unfinished, commands)
        self._frames.clear()
        self.waiting = self.bytes = 0

    def _whole(self, choices: Iterable[int]) -> bool:
        """True where every text of these choices may go out whole."""
        return all(lane.ready and lane.out >= lane.fed for lane in self._lanes.values() if lane.id.choice in choices)

    def drain(self, complete: bool, commands: list[Command]) -> None:
        """All is judged: let everything go, but no finish_reason of a stream that broke off."""
        for lane in self._lanes.values():
            lane.update()
        while self._frames:
            frame = self._frames.popleft()
            if frame.finished and not complete:
                if frame.pieces:
                    self._emit(frame, commands, unfinished=True)
                continue
            self._emit(frame, commands)
