"""`Log`: the append-only decision log of this process, as the event loop sees it.

Strict appends return once an fdatasync covers them, fast ones once the bytes are written. A thread has one fdatasync for all that
was written meanwhile, and writes itself what could not be written at once. The first error latches: nothing more is acknowledged
until the log was reopened and a `gap` leaf is in it. Knows nothing of what decisions mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from moderation.audit.canon import CanonError
from moderation.audit.clock import Clock, SystemClock
from moderation.audit.disk import Disk
from moderation.audit.leaf import Value
from moderation.audit.opening import Opened, open_folder
from moderation.audit.record import gap, interrupted
from moderation.audit.recovery import Pairs
from moderation.audit.waiting import Bodies, Waiting, tell
from moderation.audit.writer import Limits
from moderation.errors import LogError


class Log:
    """One log folder, held by this process from open to close."""

    def __init__(
        self, opened: Opened, disk: Disk, clock: Clock, limits: Limits, observe: Callable[[int, float], None],
        count: Callable[[str, int], None],
    ) -> None:
        self.folder, self.fingerprint_key = opened.folder, opened.fingerprint_key
        self.latched: LogError | None = None
        self._lock_fd, self._writer, self._pairs = opened.lock, opened.writer, Pairs()
        self._disk, self._clock, self._limits = disk, clock, limits
        self._observe, self._count = observe, count
        self._queue: deque[Waiting] = deque()
        self._taken: list[Waiting] = []
        self._written: deque[tuple[Waiting, int]] = deque()
        """Strict appends that stand in the file and wait for an fdatasync, with their first index."""
        self._wake = threading.Condition()
        # Guards the writer and what is known of open requests. INVARIANT: not held during an fdatasync that requests wait for,
        # but to roll or reopen; the event loop never waits for it.
        self._writing = threading.RLock()
        self._unsynced: list[Mapping[str, Value]] = []
        self._unsynced_since: int | None = None
        self._kinds: Counter[str] = Counter()
        self._ours, self._cause = 0, ""
        self._dirty_at: float | None = None
        self._signed_at = self._failed_at = time.monotonic()
        self._lost, self._lost_since, self._rewound = 0, 0, False
        self._unclosed: dict[str, int] = {}
        self._closing, self._pid = False, os.getpid()
        self._tell_kinds(Counter(opened.kinds))
        self._thread = threading.Thread(target=self._run, name=f"audit-{opened.folder.name}", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls, data: Path, *, keys: Path | None = None, origin: str | None = None, log_index: int | None = None, version: str = "",
        clock: Clock | None = None, disk: Disk | None = None, limits: Limits | None = None,
        observe: Callable[[int, float], None] = lambda leaves, seconds: None,
        count: Callable[[str, int], None] = lambda kind, leaves: None,
    ) -> Log:
        """Take the first free log folder of `data` (or the one asked for), bring it in order, and write its `log_open`.

        Blocks on the disk. `observe` hears of each batch: leaves, seconds of its fdatasync. `count` hears of all leaves that are
        durable: kind, how many. Both are called in the log's thread.
        """
        clock, disk, limits = clock or SystemClock(), disk or Disk(), limits or Limits()
        opened = open_folder(data, keys or data / "keys", origin, log_index, version, clock, disk, limits)
        return cls(opened, disk, clock, limits, observe, count)

    @property
    def size(self) -> int:
        """Leaves written so far."""
        return self._writer.size

    @property
    def waiting(self) -> int:
        """Appends that wait for the disk."""
        return len(self._queue) + len(self._written)

    @property
    def unsigned(self) -> int:
        """Leaves on disk that no checkpoint covers yet."""
        return self._writer.unsigned

    async def append(self, body: Mapping[str, Value], *, strict: bool) -> int:
        """Record one leaf; gives its index. Raises LogError when that is not possible, CanonError for a body that is no leaf."""
        return await self.append_all((body,), strict=strict)

    async def append_all(self, bodies: Bodies, *, strict: bool) -> int:
        """Record leaves side by side, in order, in one batch: all of them or none. Gives the first index."""
        self._refuse_if_down(bodies)
        loop = asyncio.get_running_loop()
        waiting = Waiting(bodies, loop, loop.create_future())
        if self._at_once(waiting, strict):
            return await waiting.done
        if self.waiting >= self._limits.queue:
            await self._room(bodies)
        with self._wake:
            self._refuse_if_down(bodies)  # once more, under the lock: nothing comes into the queue of a log that is closing
            self._queue.append(waiting)
            self._wake.notify()
        return await waiting.done

    async def close(self) -> None:
        """Refuse what comes from now on, write what waits, close what is still open as interrupted, sign the last checkpoint."""
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join)
        self._writer.release()
        with contextlib.suppress(OSError):  # the lock is gone all the same, and all that counts was synced before
            self._disk.close(self._lock_fd)
        if self.latched is not None:
            raise LogError(f"{self.folder}: closed without a last checkpoint: {self.latched}")

    def _refuse_if_down(self, bodies: Bodies) -> None:
        if os.getpid() != self._pid:
            raise LogError(f"{self.folder}: the log belongs to the process that opened it; a forked worker opens its own")
        if self._closing:
            raise LogError(f"{self.folder}: the log is closed")
        if self.latched is not None:
            with self._wake:  # so that what is lost is counted before the gap leaf, or not lost
                if self.latched is not None:
                    self._lose(bodies)
                    raise LogError(str(self.latched))

    def _at_once(self, waiting: Waiting, strict: bool) -> bool:
        """Write here and now, where nothing stands before it: a strict append has only the fdatasync to wait for, then.

        The thread would have to wait for the interpreter, and take it from everybody else, to do the same.
        """
        if self._queue or self.waiting >= self._limits.queue or not self._writing.acquire(blocking=False):
            return False
        try:
            if self.latched is not None or self._closing or self._writer.is_full():
                return False
            index = self._write_now(waiting.bodies)
            if not strict:
                waiting.done.set_result(index)
                return True
            self._written.append((waiting, index))
        finally:
            self._writing.release()
        with self._wake:
            self._wake.notify()
        return True

    def _write_now(self, bodies: Bodies) -> int:
        try:
            result = self._writer.write([bodies])[0]
        except (OSError, LogError) as error:
            self._lose(bodies)
            raise self._latch(error) from None
        if isinstance(result, CanonError):
            raise result
        self._saw(bodies)
        if self._dirty_at is None:
            self._dirty_at = time.monotonic()
            with self._wake:
                self._wake.notify()
        return result

    async def _room(self, bodies: Bodies) -> None:
        deadline = time.monotonic() + self._limits.wait
        while self.waiting >= self._limits.queue:
            if self._closing:
                return
            if time.monotonic() >= deadline:
                self._lose(bodies)
                self._cause = "queue full"
                raise LogError(f"{self.folder}: {self._limits.queue} leaves are waiting for the disk; nothing was recorded")
            await asyncio.sleep(0.002)

    # Called from the loop and from the thread; _writing or _wake guards them.

    def _saw(self, bodies: Bodies) -> None:
        """These leaves are written."""
        if self._unsynced_since is None:
            self._unsynced_since = self._clock.wall()
        for body in bodies:
            kind, request = str(body.get("kind")), str(body.get("req"))
            self._kinds[kind] += 1
            self._pairs.see(kind, request, body.get("part", 0) == 0)
            if kind in ("open", "close"):
                self._unsynced.append(body)

    def _lose(self, bodies: Bodies) -> None:
        """These leaves will never be in the log."""
        with self._wake:
            if not self._lost:
                self._lost_since = self._clock.wall()
            self._lost += len(bodies)
            for body in bodies:
                request = str(body.get("req"))
                if body.get("kind") == "close" and request in self._pairs.open:
                    self._unclosed[request] = self._pairs.open.pop(request)

    def _latch(self, error: OSError | LogError) -> LogError:
        """From now on nothing is acknowledged. The first error stays."""
        with self._writing:
            if self.latched is None:
                text = f"{error.strerror}" if isinstance(error, OSError) else str(error)
                self.latched = LogError(f"{self.folder}: {text}; decisions cannot be recorded. Check the disk: the log "
                                        f"tries to go on in a new file every {self._limits.reopen_every:g} s")
                self._cause = text
                self._failed_at, self._rewound = time.monotonic(), False
                with self._wake:
                    self._wake.notify()  # the thread may be asleep for good, and has to reopen
            return self.latched

    # The thread from here on.

    def _run(self) -> None:
        try:
            while not self._turn():
                pass
        finally:
            if not self._closing:
                self._latch(LogError("the log's thread ended; restart the process"))
            self._fail([*self._taken, *self._take_queue()])

    def _turn(self) -> bool:
        """Wait for work and do it. True when all is done and the log is closing."""
        with self._wake:
            while not self._queue and not self._written and not self._closing:
                rest = self._rest()
                if rest is not None and rest <= 0:
                    break
                self._wake.wait(rest)
            closing = self._closing
        if self._written and not closing and len(self._pairs.open) >= self._limits.siblings:
            time.sleep(self._limits.gather)  # each fdatasync takes the interpreter from the event loop, several times
        taken = self._taken = self._take_queue()
        if self.latched is not None:
            for waiting in taken:
                self._lose(waiting.bodies)
            self._fail(taken)
            if closing or time.monotonic() - self._failed_at >= self._limits.reopen_every:
                self._reopen()
            return closing and self.latched is not None
        try:
            self._commit(taken)
            with self._writing:
                if self._lost:
                    self._declare()
                if closing:
                    self._interrupt()
            self._sign(closing)
        except (OSError, LogError) as error:
            self._latch(error)
            self._fail(taken)
            return False
        return closing

    def _rest(self) -> float | None:
        """Seconds until something is due without being asked."""
        now, dirty = time.monotonic(), self._dirty_at
        if self.latched is not None:
            return self._failed_at + self._limits.reopen_every - now
        due = [] if dirty is None else [dirty + self._limits.lag - now]
        if self._writer.unsigned:
            due.append(self._signed_at + self._limits.checkpoint_every - now)
        return min(due, default=None)

    def _take_queue(self) -> list[Waiting]:
        return [self._queue.popleft() for _ in range(len(self._queue))]

    def _commit(self, taken: Sequence[Waiting]) -> None:
        """One write for all that waits, one fdatasync for that and all fast leaves before it, then the acknowledgements."""
        groups = [waiting.bodies for waiting in taken]
        with self._writing:
            try:
                if self.latched is not None:
                    raise self.latched
                if self._writer.is_full():
                    self._writer.roll()
                results = self._writer.write(groups)
            except (OSError, LogError):
                for bodies in groups:
                    self._lose(bodies)
                raise
            for bodies, result in zip(groups, results, strict=True):
                if isinstance(result, int):
                    self._saw(bodies)
            mark, seen, self._dirty_at, marked = self._writer.mark(), len(self._unsynced), None, self._clock.wall()
            covered = len(self._written)
            kinds, self._kinds = self._kinds, Counter()
        leaves, began = mark.size - self._writer.durable.size, time.monotonic()
        if leaves:
            self._writer.sync(mark)
        ended = time.monotonic()
        self._tell_kinds(kinds)
        tell([*(self._written.popleft() for _ in range(covered)), *zip(taken, results, strict=True)])
        with self._writing:
            del self._unsynced[:seen]
            self._unsynced_since = None if self._writer.size == mark.size else marked
        if leaves:
            self._observe(leaves, ended - began)

    def _sign(self, closing: bool) -> None:
        now = time.monotonic()
        due = now - self._signed_at >= self._limits.checkpoint_every or self._writer.unsigned >= self._limits.checkpoint_leaves
        if self._writer.unsigned and (due or closing):
            self._writer.checkpoint()
            self._signed_at = now
        if closing:
            self._writer.remember()

    def _fail(self, taken: Sequence[Waiting]) -> None:
        text = str(self.latched or f"{self.folder}: the log is closed")
        every = [*(self._written.popleft()[0] for _ in range(len(self._written))), *taken]
        tell([(waiting, LogError(text)) for waiting in every])

    def _reopen(self) -> None:
        """Try to go on: cut what is not durable, begin a new file, say in a `gap` leaf what is missing."""
        with self._writing:
            self._failed_at = time.monotonic()
            if not self._rewound:
                self._rewind()
            try:
                if self._disk.room(self.folder) < self._limits.room:
                    return  # a gap leaf would just fit, and the next decision would not: one gap, and not one a second
                self._writer.reopen()
                self._writer.checkpoint()
                self._declare()
            except (OSError, LogError):
                return
            self._dirty_at = None
            self._unsynced.clear()

    def _declare(self) -> None:
        """Write down how many leaves are missing, and close the requests whose `close` is among them.

        A log that was down is up then: what comes before that is durable waits for it, so one gap is enough however much comes.
        """
        down, now = self.latched, self._clock.wall()
        with self._wake:
            lost, since, unclosed = self._lost, self._lost_since, dict(self._unclosed)
            bodies = [gap(lost, self._cause, since), *(interrupted(*pair) for pair in unclosed.items())] if lost else []
            self._writer.write([bodies])
            self.latched = None
        try:
            self._sync_ours(bodies)
        except (OSError, LogError):
            self.latched = down
            raise
        with self._wake:  # what did not fit the queue meanwhile is told next time
            self._lost, self._lost_since = self._lost - lost, now
            self._unclosed = {request: count for request, count in self._unclosed.items() if request not in unclosed}

    def _interrupt(self) -> None:
        """The log is closing and nothing more comes in: a `close` for each request that has none."""
        left = [interrupted(*pair) for pair in self._pairs.open.items()]
        self._writer.write([left])
        self._sync_ours(left)
        self._pairs.open.clear()

    def _sync_ours(self, bodies: Bodies) -> None:
        """Make leaves of the log's own durable. Where that fails they are not lost: they are made anew."""
        if not bodies:
            return
        self._ours, began = len(bodies), time.monotonic()
        self._writer.sync(self._writer.mark())
        self._ours = 0
        self._observe(len(bodies), time.monotonic() - began)
        self._tell_kinds(Counter(str(body["kind"]) for body in bodies))

    def _tell_kinds(self, kinds: Counter[str]) -> None:
        for kind, leaves in kinds.items():
            self._count(kind, leaves)

    def _rewind(self) -> None:
        """Count what was written and never became durable as lost, and forget what it opened and closed."""
        self._rewound = True
        lost, self._ours = self._writer.size - self._writer.durable.size - self._ours, 0
        if lost:
            with self._wake:
                since = self._clock.wall() if self._unsynced_since is None else self._unsynced_since
                self._lost, self._lost_since = self._lost + lost, min(since, self._lost_since) if self._lost else since
        self._unsynced_since = None
        self._kinds.clear()
        opened = {str(body["req"]) for body in self._unsynced if body["kind"] == "open"}
        for body in self._unsynced:
            request = str(body["req"])
            if body["kind"] == "close" and request not in opened:
                self._unclosed[request] = 0
        for request in opened:
            self._pairs.open.pop(request, None)
