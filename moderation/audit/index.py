"""A SQLite index over all logs of a data folder: derived, and rebuilt from the log files whenever it is missing or does not fit.

Only queries bring it up to date; the server never touches it. Knows nothing of keys, proofs or signatures: that is verify's.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moderation.audit.canon import CanonError, decode
from moderation.audit.merkle import Tree
from moderation.audit.note import NoteError, parse_verifier
from moderation.audit.qseg import NO_PREV, Leaf, ordered, parse_header, read
from moderation.errors import LogError

SCHEMA = 1
"""Raised with every change of the tables; an index of another number is built anew."""
_TABLES = """
CREATE TABLE logs (log TEXT PRIMARY KEY, origin TEXT NOT NULL, size INTEGER NOT NULL, last BLOB NOT NULL);
CREATE TABLE leaves (log TEXT NOT NULL, idx INTEGER NOT NULL, kind TEXT NOT NULL, req TEXT, n INTEGER, ts INTEGER NOT NULL,
                     data BLOB NOT NULL, PRIMARY KEY (log, idx)) WITHOUT ROWID;
CREATE INDEX leaves_req ON leaves (req, n) WHERE req IS NOT NULL;
CREATE TABLE decisions (id TEXT NOT NULL, log TEXT NOT NULL, idx INTEGER NOT NULL, ts INTEGER NOT NULL, req TEXT NOT NULL,
                        n INTEGER NOT NULL, phase TEXT NOT NULL, action TEXT NOT NULL, would TEXT NOT NULL,
                        degraded INTEGER NOT NULL, tenant TEXT, route TEXT, region TEXT, model TEXT, policy TEXT,
                        simulated INTEGER NOT NULL, PRIMARY KEY (log, idx)) WITHOUT ROWID;
CREATE INDEX decisions_ts ON decisions (ts);
CREATE INDEX decisions_req ON decisions (req);
CREATE TABLE fired (log TEXT NOT NULL, idx INTEGER NOT NULL, rule TEXT NOT NULL, enforced INTEGER NOT NULL,
                    PRIMARY KEY (log, idx, rule, enforced)) WITHOUT ROWID;
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
    log: str
    index: int


class Index:
    """The index of one data folder, opened for queries."""

    def __init__(self, data: Path) -> None:
        if not data.is_dir():
            raise LogError(f"{data}: no such folder; expected the --data folder of a sidecar")
        self._data = data
        self._db = self._connect()

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> sqlite3.Connection:
        path = self._data / "index.sqlite"
        if not os.access(self._data, os.W_OK):
            path = Path(":memory:")  # a copy kept as evidence, perhaps; it can be searched all the same
        for attempt in range(2):
            db = sqlite3.connect(path, timeout=30, isolation_level=None)
            try:
                # Derived data: what a crash of the machine takes is read again from the log.
                db.execute("PRAGMA synchronous=OFF")
                if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                    db.execute("BEGIN IMMEDIATE")
                    if db.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
                        self._make(db)
                    db.execute("COMMIT")
                db.execute("SELECT count(*) FROM logs").fetchone()
            except sqlite3.DatabaseError as error:
                db.close()
                if attempt or isinstance(error, sqlite3.OperationalError):
                    raise LogError(f"{path}: {error}; delete the file, it is built anew") from None
                path.unlink(missing_ok=True)  # not a database any more
            else:
                return db
        raise AssertionError("unreachable")

    def _make(self, db: sqlite3.Connection) -> None:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            db.execute(f"DROP TABLE {name}")
        for statement in _TABLES.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version={SCHEMA}")

    def catch_up(self) -> None:
        """Take in what the logs hold and the index does not. Raises LogError for a log that cannot be read."""
        folders = [path for path in self._data.iterdir() if re.fullmatch("log-[0-9]+", path.name) and (path / "key.pub").exists()]
        self._db.execute("BEGIN IMMEDIATE")
        with self._db:  # commits, or rolls back on an error
            for (log,) in self._db.execute("SELECT log FROM logs").fetchall():
                if log not in {folder.name for folder in folders}:
                    self._forget(log)
            for folder in sorted(folders):
                if not self._follow(folder):
                    self._forget(folder.name)
                    self._follow(folder)

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
                for leaf in scan.leaves:
                    if leaf.index == size - 1 and leaf.hash != last:
                        return False
                    if leaf.index >= size:
                        self._take(folder.name, leaf)
                tree, prev = scan.tree, scan.prev
        except LogError as error:
            raise LogError(f"{folder}/{error}. Run `moderation audit verify`") from None
        if tree.size < size:
            return False
        self._db.execute("INSERT OR REPLACE INTO logs VALUES (?, ?, ?, ?)", (folder.name, origin, tree.size, prev))
        return True

    def _take(self, log: str, leaf: Leaf) -> None:
        try:
            body = decode(leaf.data)
            row = (log, leaf.index, body["kind"], body.get("req"), body.get("n"), body["ts"], leaf.data)
            self._db.execute("INSERT INTO leaves VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            if body["kind"] == "decision":
                self._take_decision(log, leaf.index, body)
        except CanonError as error:
            raise LogError(f"leaf {leaf.index}: {error}") from None
        except (KeyError, TypeError, sqlite3.IntegrityError, sqlite3.InterfaceError):
            raise LogError(f"leaf {leaf.index}: not of a form that this version knows") from None

    def _take_decision(self, log: str, index: int, body: Mapping[str, object]) -> None:
        request, n = body["req"], body["n"]
        first = index
        if body["part"] == 0:
            scope, policy = _members(body, "scope"), _members(body, "policy")
            where = (scope.get("tenant"), scope.get("route"), scope.get("region"), scope.get("model"), policy.get("hash"))
            what = (body["phase"], body["act"], body["would_act"], body["degraded"])
            self._db.execute("INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                             (f"{request}.{n}", log, index, body["ts"], request, n, *what, *where, body["simulated"]))
        else:
            part = body["part"]
            first -= part if isinstance(part, int) else 0  # parts stand side by side
        for name, enforced in (("rules", 1), ("would", 0)):
            entries = body.get(name, [])
            for rule in entries if isinstance(entries, list) else []:
                self._db.execute("INSERT OR IGNORE INTO fired VALUES (?, ?, ?, ?)", (log, first, rule["id"], enforced))

    def find(self, query: Query) -> list[Row]:
        """The decisions that fit, oldest first."""
        conditions = {
            "ts >= ?": query.since, "ts < ?": query.until, "action = ?": query.action, "phase = ?": query.phase,
            "tenant = ?": query.tenant, "route = ?": query.route, "model = ?": query.model, "req = ?": query.request,
            "degraded = ?": query.degraded,
            "EXISTS (SELECT 1 FROM fired WHERE fired.log = d.log AND fired.idx = d.idx AND rule = ?)": query.rule,
        }
        used = {text: value for text, value in conditions.items() if value is not None}
        where = " AND ".join(used) or "1"
        limit = -1 if query.limit is None else query.limit
        found = self._db.execute(
            "SELECT id, ts, req, phase, action, would, degraded, model, route, tenant, region, policy, simulated, log, idx "
            f"FROM decisions AS d WHERE {where} ORDER BY ts DESC, log DESC, idx DESC LIMIT ?", (*used.values(), limit)).fetchall()
        return [self._row(row) for row in reversed(found)]

    def _row(self, row: Sequence[object]) -> Row:
        (ident, ts, request, phase, action, would, degraded, model, route, tenant, region, policy, simulated, log, index) = row
        fired = self._db.execute("SELECT rule, enforced FROM fired WHERE log = ? AND idx = ? ORDER BY rule",
                                 (log, index)).fetchall()
        return Row(str(ident), int(str(ts)), str(request), str(phase), str(action), str(would),
                   tuple(dict.fromkeys(rule for rule, _ in fired)), tuple(rule for rule, enforced in fired if not enforced),
                   bool(degraded), str(model), str(route), str(tenant), str(region), str(policy), bool(simulated), str(log),
                   int(str(index)))

    def leaves(self, request: str) -> list[dict[str, object]]:
        """All leaves of one request, in order."""
        found = self._db.execute("SELECT data FROM leaves WHERE req = ? ORDER BY log, idx", (request,)).fetchall()
        return [json.loads(data) for (data,) in found]


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
