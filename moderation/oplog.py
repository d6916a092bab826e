"""The operational log: one JSON line an event on stderr, for whoever runs the sidecar. The only file that writes to stderr while
it serves, and that listens to the logging of libraries.

A reader of stderr that is slow or hangs must not stop a stream: lines wait in a short queue for a thread of their own, and what
does not fit is dropped and counted. Errors are told by kind and place, never by their text, which may hold content.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

from moderation.errors import ModerationError
from moderation.events import EVENTS, Level, Say, Value

MOST = 10_000
"""Lines that wait for a slow stderr."""
GATHER = 0.02
"""Seconds that lines gather before they are written together."""
ATOMIC = 4096
"""Bytes that a pipe takes as one (PIPE_BUF of Linux; POSIX warrants 512)."""
_GOODBYE = 1.0
_WORDS = {level: level.word for level in Level}
_string = json.encoder.encode_basestring
"""A string as JSON writes it, in C."""


def _json(value: str | int | float | bool) -> str:
    if type(value) is str:
        return _string(value)
    return repr(value) if type(value) in (int, float) else json.dumps(value)


class OperationalLog:
    """Makes the lines, and hands each to `write`. Callable as `Say`, from any thread."""

    def __init__(self, write: Callable[[str], None], level: str = "info", *, plain: bool = False,
                 now: Callable[[], float] = time.time, count: Callable[[str], None] = lambda level: None) -> None:
        """`plain`: words for a terminal instead of JSON; `count` is told the level of each line."""
        self._write, self._least, self._plain, self._now, self._count = write, Level[level.upper()], plain, now, count
        self._stamp = (-1, "")
        """A second and how it is written: one value, for threads may come between two."""

    def __call__(self, event: str, request_id: str | None = None, /, **fields: Value) -> None:
        about = EVENTS[event]
        if about.level >= self._least:
            self._tell(about.level, event, about.message, request_id, fields)

    def _tell(self, level: Level, event: str, template: str, request_id: str | None, fields: dict[str, Value]) -> None:
        message = template.format_map(fields) if template else ""
        now, word = self._now(), _WORDS[level]
        second, shown = self._stamp
        if int(now) != second:
            second = int(now)
            shown = datetime.fromtimestamp(second, UTC).isoformat()[:-6]
            self._stamp = second, shown
        if self._plain:
            rest = "" if message else " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)
            line = " ".join(filter(None, (shown[11:], word, message or event, request_id, rest)))
            line = line.replace("\n", " ")
        else:
            # By hand: a line for each request stands on every request's way, and json.dumps takes three times as long.
            parts = [f'{{"time":"{shown}.{int((now - second) * 1000):03}Z","level":"{word}","event":"{event}"']
            if request_id is not None:
                parts.append(f',"request_id":"{request_id}"')
            if message:
                parts.append(f',"message":{_string(message)}')
            for name, value in fields.items():
                if value is not None:
                    parts.append(f',"{name}":{_json(value)}')
            line = "".join(parts) + "}"
        self._count(word)
        self._write(line)


class Stderr:
    """Lines on their way to something that may be slow. `put` never blocks."""

    def __init__(self, write: Callable[[memoryview], int], most: int = MOST,
                 dropped: Callable[[int], None] = lambda lines: None) -> None:
        """`write` is os.write's like; `dropped` is told, in any thread, how many lines were lost."""
        self._out, self._most, self._dropped = write, most, dropped
        self._waiting: deque[str] = deque()
        self._lost, self._lock = 0, threading.Lock()
        self._work = threading.Event()
        self._closing = self._closed = False
        self._thread = threading.Thread(target=self._run, name="stderr", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        if self._closed:
            self._written(f"{line}\n".encode("utf-8", "backslashreplace"), 1)
            return
        if len(self._waiting) >= self._most:
            with self._lock:
                self._lost += 1
            self._dropped(1)
            return
        self._waiting.append(line)
        if not self._work.is_set():
            self._work.set()

    def close(self) -> None:
        """Write what waits, as far as stderr takes it within a second."""
        self._closing = True
        self._work.set()
        self._thread.join(_GOODBYE)
        self._closed = not self._thread.is_alive()

    def _run(self) -> None:
        while not (self._closing and not self._waiting):
            self._work.wait()
            if not self._closing:
                time.sleep(GATHER)
            self._work.clear()
            lines: list[str] = []
            while self._waiting:
                lines.append(self._waiting.popleft())
            with self._lock:
                lost, self._lost = self._lost, 0
            if lost:
                OperationalLog(lines.append)("lines_dropped", lines=lost)
            if not all(self._written(data, data.count(b"\n")) for data in _batches(lines)):
                return
            if self._closing:
                self._work.set()

    def _written(self, data: bytes, lines: int) -> bool:
        """False where nobody reads stderr any more."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._out(view):]
            except BlockingIOError:  # somebody else made the descriptor non-blocking
                time.sleep(GATHER)
            except OSError:
                self._dropped(lines)
                return False
        return True


def opened(level: str, stream: TextIO | None = None, dropped: Callable[[int], None] = lambda lines: None,
           count: Callable[[str], None] = lambda level: None) -> tuple[OperationalLog, Stderr]:
    """The log of this process: words on a terminal, JSON anywhere else."""
    stderr = stream or sys.stderr
    writer = Stderr(_sink(stderr), dropped=dropped)
    return OperationalLog(writer.put, level, plain=stderr.isatty(), count=count), writer


def _batches(lines: Iterable[str]) -> Iterator[bytes]:
    """Whole lines, as many as a pipe takes at once: where processes share a stderr, no line lies within another."""
    batch = b""
    for line in lines:
        data = f"{line}\n".encode("utf-8", "backslashreplace")
        if batch and len(batch) + len(data) > ATOMIC:
            yield batch
            batch = b""
        batch += data
    if batch:
        yield batch


def _sink(stream: TextIO) -> Callable[[memoryview], int]:
    """The descriptor below a stream: print() would lock it, and a buffer would keep what a crash then loses."""
    try:
        return partial(os.write, stream.fileno())
    except OSError:  # no descriptor, as where a test catches what is said
        return lambda data: len(data) if stream.write(bytes(data).decode()) else 0


def place_of(error: BaseException) -> str:
    """Where an error was raised: FILE:LINE, and nothing that it says."""
    frames = traceback.extract_tb(error.__traceback__)
    return _place(frames[-1].filename, frames[-1].lineno or 0) if frames else "unknown"


def _place(filename: str, line: int) -> str:
    return f"{'/'.join(PurePath(filename).parts[-3:])}:{line}"


class Ears(logging.Handler):
    """Libraries' logging as events: who, how grave, what kind of error, where. Their words are left out."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.DEBUG)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._say("library", library=record.name.split(".")[0], severity=record.levelname.lower(),
                  kind=type(error).__name__ if error else None,
                  place=place_of(error) if error and error.__traceback__ else _place(record.pathname, record.lineno))


@contextmanager
def listening(say: Say, level: str) -> Iterator[None]:
    """As long as this lasts, what libraries, warnings and uncaught errors say ends in this log.

    An error that nothing foresaw ends the process, and is told on the way: the hooks stay in place for it.
    """
    root = logging.getLogger()
    handlers, least, shown = root.handlers[:], root.level, warnings.showwarning
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    root.handlers[:] = [Ears(say)]
    root.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)

    def warned(message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
               line: str | None = None) -> None:
        say("library", library="python", severity="warning", kind=category.__name__, place=_place(filename, lineno))

    def crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        say("crashed", kind=kind.__name__, place=place_of(error))

    def failed(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            say("task_failed", kind=type(args.exc_value).__name__, place=place_of(args.exc_value))

    def unraisable(args: Any) -> None:
        if args.exc_value is not None:
            say("task_failed", kind=type(args.exc_value).__name__, place=place_of(args.exc_value))

    warnings.showwarning = warned
    sys.excepthook, threading.excepthook, sys.unraisablehook = crashed, failed, unraisable
    foreseen: ModerationError | None = None
    try:
        yield
    except ModerationError as error:
        foreseen = error
    root.handlers[:] = handlers
    root.setLevel(least)
    warnings.showwarning = shown
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    if foreseen is not None:
        raise foreseen


def hear_loop(loop: asyncio.AbstractEventLoop, say: Say) -> None:
    """What goes wrong in an event loop, in tasks that nobody waits for, ends in this log."""

    def handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        kind = type(error).__name__ if error is not None else "asyncio"
        with suppress(RuntimeError):  # the interpreter is ending
            say("task_failed", kind=kind, place=place_of(error) if error is not None else "unknown")

    loop.set_exception_handler(handler)
