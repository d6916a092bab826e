"""A SQLite index over all logs of a data folder: derived, and rebuilt from the log files whenever it is missing or does not fit.

Only queries bring it up to date; the server never touches it. One process at a time owns the file: the one that holds the lock of
the data folder. The others wait for their turn, and search in memory where it does not come. It says where leaves stand, and is
believed in nothing else: what is shown is read from the log files, and an index that does not fit them is thrown away. Knows
nothing of proofs or signatures.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from moderation.audit.canon import CanonError, decode
from moderation.audit.merkle import Tree
from moderation.audit.note import NoteError, parse_verifier
from moderation.audit.qseg import NO_PREV, Leaf, ordered, parse_header, read
from moderation.audit.reader import PlaceError, Reader
from moderation.errors import LogError

T = TypeVar("T")

_DAMAGED = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What a broken index raises; the second where it is told in words that hold its bytes."""
SCHEMA = 3
"""Raised with every change of the tables; an index of another number is built anew."""
_TABLES = """
CREATE TABLE logs (log TEXT PRIMARY KEY, origin TEXT NOT NULL, size INTEGER NOT NULL, last BLOB NOT NULL);
CREATE TABLE leaves (log TEXT NOT NULL, idx INTEGER NOT NULL, req TEXT, first INTEGER NOT NULL, at INTEGER NOT NULL,
                     PRIMARY KEY (log, idx)) WITHOUT ROWID;
CREATE INDEX leaves_req ON leaves (req) WHERE req IS NOT NULL;
CREATE TABLE decisions (log TEXT NOT NULL, idx INTEGER NOT NULL, ts INTEGER NOT NULL, req TEXT NOT NULL, phase TEXT NOT NULL,
                        action TEXT NOT NULL, degraded INTEGER NOT NULL, tenant TEXT, route TEXT, model TEXT, trace TEXT,
                        PRIMARY KEY (log, idx)) WITHOUT ROWID;
CREATE INDEX decisions_ts ON decisions (ts);
CREATE INDEX decisions_req ON decisions (req);
CREATE INDEX decisions_trace ON decisions (trace) WHERE trace IS NOT NULL;
CREATE TABLE fired (log TEXT NOT NULL, idx INTEGER NOT NULL, rule TEXT NOT NULL, PRIMARY KEY (log, idx, rule)) WITHOUT ROWID;
CREATE INDEX fired_rule ON fired (rule);
"""


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; what is None does not matter. Times are µs UTC, `until` exclusive."""

    since: int | None = None
    until: int | None = None
    action: str | None = None
    rule: str | None = None
    phase: str | None = None
    tenant: str | None = None
    route: str | None = None
    model: str | None = None
    request: str | None = None
    trace: str | None = None
    degraded: bool | None = None
    limit: int | None = None
    """At most so many, the newest ones; they still come oldest first."""


@dataclass(frozen=True, slots=True)
class Row:
    """One decision in a list."""

    id: str
    ts: int
    request_id: str
    phase: str
    action: str
    would: str
    rules: tuple[str, ...]
    """All that fired."""
    monitored: tuple[str, ...]
    """Those of them that fired in monitor mode and enforced nothing."""
    degraded: bool
    model: str
    route: str
    tenant: str
    region: str
    policy: str
    simulated: bool
    trace: str | None
    """The trace that its request belongs to, as its caller says."""
    log: str
    index: int


class Index:
    """The index of one data folder, opened for queries."""

    def __init__(self, data: Path, patience: float = 30.0) -> None:
        """`patience`: seconds to wait for another process that owns the index."""
        if not data.is_dir():
            raise LogError(f"{data}: no such folder; expected the --data folder of a sidecar")
        self._data = data
        self._path = data / "index.sqlite"
        self._reader = Reader(data)
        self._patience = patience
        self._owner = False
        self._fits = True
        """Whether the file may be used; one that does not fit and cannot be removed may not."""
        self._db = self._prepared(Path(":memory:"))
        self.misfit = False
        """Whether the index did not fit the log and was built anew: somebody edited it, or a disk failed."""

    def close(self) -> None:
        self._db.close()
        self._reader.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _owning(self) -> Iterator[None]:
        """Own the file for a while, if that can be. The lock ends with the descriptor, so also with a process that is killed."""
        if self._owner:
            yield
            return
        fd = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._owner = _locked(fd, self._patience)
            yield
        finally:
            self._owner = False
            os.close(fd)

    def _connect(self) -> sqlite3.Connection:
        # A folder that cannot be written is a copy kept as evidence, perhaps; it can be searched all the same.
        for _ in range(2 if self._owner and self._fits and os.access(self._data, os.W_OK) else 0):
            try:
                return self._prepared(self._path)
            except sqlite3.OperationalError:
                break  # a full disk, another's lock: the index is a help, and not needed
            except _DAMAGED:
                if not self._removed():  # not a database any more
                    break
        return self._prepared(Path(":memory:"))

    def _prepared(self, path: Path) -> sqlite3.Connection:
        db = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            # Derived data: what a crash of the machine takes is read again from the log.
            db.execute("PRAGMA synchronous=OFF")
            db.execute("PRAGMA temp_store=MEMORY")
            if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                db.execute("BEGIN IMMEDIATE")
                if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                    self._make(db)
                db.execute("COMMIT")
            db.execute("SELECT count(*) FROM logs").fetchone()
        except _DAMAGED:
            db.close()
            raise
        return db

    def _removed(self) -> bool:
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
            return True
        return False

    def _make(self, db: sqlite3.Connection) -> None:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            db.execute(f"DROP TABLE {name}")
        for statement in _TABLES.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version={SCHEMA}")

    def catch_up(self) -> None:
        """Take in what the logs hold and the index does not. Raises LogError for a log that cannot be read."""
        with self._owning():
            self._db.close()
            # Anew each time: another owner may have put another file in its place, whose journal has the same name.
            self._db = self._connect()
            try:
                self._catch_up()
            except _DAMAGED:
                self._db.close()
                self._db = self._prepared(Path(":memory:"))
                self._catch_up()

    def _catch_up(self) -> None:
        folders = [path for path in self._data.iterdir() if re.fullmatch("log-[0-9]+", path.name) and (path / "key.pub").exists()]
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:  # commits, or rolls back on an error
            for (log,) in self._db.execute("SELECT log FROM logs").fetchall():
                if log not in {folder.name for folder in folders}:
                    self._forget(log)
            for folder in sorted(folders):
                try:
                    fits = self._follow(folder)
                except LogError:
                    fits = False  # the log is damaged, or the index is: the second try tells
                if not fits:
                    self._forget(folder.name)
                    self._follow(folder)

    def _sure(self, ask: Callable[[], T]) -> T:
        """What the index says and the log confirms. One that does not fit the log is built anew, once."""
        try:
            return ask()
        except (PlaceError, *_DAMAGED):
            self.misfit = True
            self._db.close()
            with self._owning():
                self._fits = self._owner and self._removed()
                self.catch_up()
        try:
            return ask()
        except PlaceError as error:
            raise LogError(f"{self._data}: {error}. Run `moderation audit verify`") from None

    def _forget(self, log: str) -> None:
        for table in ("logs", "leaves", "decisions", "fired"):
            self._db.execute(f"DELETE FROM {table} WHERE log = ?", (log,))

    def _follow(self, folder: Path) -> bool:
        """Take in a log's new leaves. False where what was taken in before is not what the log holds now."""
        try:
            origin = parse_verifier((folder / "key.pub").read_text("utf-8")).name
        except (NoteError, UnicodeDecodeError) as error:
            raise LogError(f"{folder / 'key.pub'}: {error}; run `moderation audit verify`") from None
        known = self._db.execute("SELECT size, last FROM logs WHERE log = ? AND origin = ?", (folder.name, origin)).fetchone()
        size, last = known or (0, NO_PREV)
        files = ordered(os.listdir(folder))
        start, tree, prev = _start(folder, files, size)
        if tree.size == size and prev != last:
            return False
        try:
            for scan in read(origin, ((name, (folder / name).read_bytes()) for name in files[start:]), tree, prev):
                first = tree.size
                for leaf in scan.leaves:
                    if leaf.index == size - 1 and leaf.hash != last:
                        return False
                    if leaf.index >= size:
                        self._take(folder.name, first, leaf)
                tree, prev = scan.tree, scan.prev
        except LogError as error:
            raise LogError(f"{folder}/{error}. Run `moderation audit verify`") from None
        if tree.size < size:
            return False
        self._db.execute("INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?)", (folder.name, origin, tree.size, prev))
        return True

    def _take(self, log: str, first: int, leaf: Leaf) -> None:
        try:
            body = decode(leaf.data)
            row = (log, leaf.index, body.get("req"), first, leaf.offset)
            self._db.execute("INSERT INTO leaves VALUES (?, ?, ?, ?, ?)", row)
            if body["kind"] == "decision":
                self._take_decision(log, leaf.index, body)
        except CanonError as error:
            raise LogError(f"leaf {leaf.index}: {error}") from None
        except (KeyError, TypeError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
            raise LogError(f"leaf {leaf.index}: not of a form that this version knows") from None

    def _take_decision(self, log: str, index: int, body: Mapping[str, object]) -> None:
        first = index
        if body["part"] == 0:
            scope = _members(body, "scope")
            row = (log, index, body["ts"], body["req"], body["phase"], body["act"], body["degraded"])
            where = (scope.get("tenant"), scope.get("route"), scope.get("model"), body.get("trace"))
            self._db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, *where))
        else:
            part = body["part"]
            first -= part if isinstance(part, int) else 0  # parts stand side by side
        for rule in _rules(body, "rules") + _rules(body, "would"):
            self._db.execute("INSERT OR IGNORE INTO fired VALUES (?, ?, ?)", (log, first, rule))

    def find(self, query: Query) -> list[Row]:
        """The decisions that fit, oldest first, as the log has them."""
        return self._sure(lambda: self._find(query))

    def _find(self, query: Query) -> list[Row]:
        conditions = {
            "ts >= ?": query.since, "ts < ?": query.until, "action = ?": query.action, "phase = ?": query.phase,
            "tenant = ?": query.tenant, "route = ?": query.route, "model = ?": query.model, "d.req = ?": query.request,
            "trace = ?": query.trace, "degraded = ?": query.degraded,
            "EXISTS (SELECT 1 FROM fired WHERE fired.log = d.log AND fired.idx = d.idx AND rule = ?)": query.rule,
        }
        used = {text: value for text, value in conditions.items() if value is not None}
        where = " AND ".join(used) or "1"
        limit = -1 if query.limit is None else query.limit
        found = self._db.execute(
            "SELECT d.log, d.idx, first, at, ts, d.req, phase, action, degraded, tenant, route, model, trace "
            "FROM decisions AS d LEFT JOIN leaves AS l ON l.log = d.log AND l.idx = d.idx "
            f"WHERE {where} ORDER BY ts DESC, d.log DESC, d.idx DESC LIMIT ?", (*used.values(), limit)).fetchall()
        rows: list[Row] = []
        for log, index, first, at, *told in reversed(found):
            row = self._row(log, index, first, at)
            have = (row.ts, row.request_id, row.phase, row.action, int(row.degraded), row.tenant, row.route, row.model,
                    row.trace)
            if [*map(str, told)] != [*map(str, have)] or not _fits(row, query):
                raise PlaceError(f"{log}: leaf {index} is not what was asked for")
            rows.append(row)
        return rows

    def _row(self, log: str, index: int, first: int, at: int) -> Row:
        leaf = self._reader.leaf(log, index, first, at)
        try:
            if leaf["kind"] != "decision" or leaf["part"] != 0:
                raise PlaceError(f"{log}: leaf {index} is no decision")
            enforced, monitored = set(_rules(leaf, "rules")), set(_rules(leaf, "would"))
            for number in range(1, int(str(leaf["parts"]))):
                part = self._leaf(log, index + number)
                enforced.update(_rules(part, "rules"))
                monitored.update(_rules(part, "would"))
            scope, policy = _members(leaf, "scope"), _members(leaf, "policy")
            trace = None if leaf.get("trace") is None else str(leaf["trace"])
            return Row(f"{leaf['req']}.{leaf['n']}", int(str(leaf["ts"])), str(leaf["req"]), str(leaf["phase"]), str(leaf["act"]),
                       str(leaf["would_act"]), tuple(sorted(enforced | monitored)), tuple(sorted(monitored)),
                       bool(leaf["degraded"]), str(scope.get("model")), str(scope.get("route")), str(scope.get("tenant")),
                       str(scope.get("region")), str(policy.get("hash")), bool(leaf["simulated"]), trace, log, index)
        except (KeyError, TypeError, ValueError):
            raise PlaceError(f"{log}: leaf {index} is no decision of a form that this version knows") from None

    def _leaf(self, log: str, index: int) -> dict[str, object]:
        place = self._db.execute("SELECT first, at FROM leaves WHERE log = ? AND idx = ?", (log, index)).fetchone()
        return self._reader.leaf(log, index, *(place or (0, 0)))

    def leaves(self, request: str) -> list[dict[str, object]]:
        """All leaves of one request, in order, as the log has them."""
        return self._sure(lambda: self._leaves(request))

    def _leaves(self, request: str) -> list[dict[str, object]]:
        found = self._db.execute("SELECT log, idx, first, at FROM leaves WHERE req = ? ORDER BY log, idx", (request,)).fetchall()
        leaves = [self._reader.leaf(*place) for place in found]
        decided = len({str(leaf.get("n")) for leaf in leaves if leaf.get("kind") == "decision"})
        short = [leaf for leaf in leaves if leaf.get("kind") == "close" and leaf.get("decisions") != decided]
        if any(leaf.get("req") != request for leaf in leaves) or (short and not self.misfit):
            raise PlaceError(f"request {request}: its leaves are not all here")
        if short:
            self.misfit = False  # a new index says the same: the log is short, and a gap leaf in it says why
        return leaves


def _locked(fd: int, patience: float) -> bool:
    """Whether the lock was had in this time, in seconds."""
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.01)


def _fits(row: Row, query: Query) -> bool:
    """Whether a row is one that the query asked for."""
    asked = ((query.action, row.action), (query.phase, row.phase), (query.tenant, row.tenant), (query.route, row.route),
             (query.model, row.model), (query.request, row.request_id), (query.trace, row.trace), (query.degraded, row.degraded))
    return (all(want is None or want == have for want, have in asked)
            and (query.rule is None or query.rule in row.rules)
            and (query.since is None or row.ts >= query.since) and (query.until is None or row.ts < query.until))


def _start(folder: Path, files: Sequence[str], size: int) -> tuple[int, Tree, bytes]:
    """The newest file that begins at or before leaf `size`, and the state before it as its header tells."""
    for number in range(len(files) - 1, 0, -1):
        with (folder / files[number]).open("rb") as file:
            header = parse_header(file.read(8192))
        if header is not None and header.first <= size:
            return number, Tree(header.first, header.compact), header.prev
    return 0, Tree(), NO_PREV


def _members(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = body[name]
    return value if isinstance(value, dict) else {}


def _rules(body: Mapping[str, object], name: str) -> list[str]:
    entries = body.get(name, [])
    return [str(rule["id"]) for rule in entries] if isinstance(entries, list) else []
