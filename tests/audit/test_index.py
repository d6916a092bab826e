"""The index is derived: deleted, outdated, broken, of a log that went back, it always comes to what the files say."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from moderation.audit.index import Index, Query, Row
from moderation.audit.store import Log
from moderation.audit.writer import Limits
from moderation.errors import LogError
from moderation.text import Phase, Scope
from moderation.verdict import Action, Mode
from tests.audit.samples import activation, closed, decided, fill, leaves_of, opened, ulid
from tests.audit.test_verify import rewrite


def find(data: Path, query: Query = Query()) -> list[Row]:  # noqa: B008  # frozen
    with Index(data) as index:
        index.catch_up()
        return index.find(query)


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def varied(data: Path) -> None:
    """Four requests that differ in all that can be asked for."""
    fired = decided().outcome.fired[0]
    monitored = replace(fired, rule="watch", mode=Mode.MONITOR, action=Action.BLOCK)
    ones = [
        decided(ulid(1)), decided(ulid(2), action=Action.ALLOW, scope=Scope(tenant="acme", route="payroll", model="qwen-plus")),
        replace(decided(ulid(3)), phase=Phase.OUTPUT, outcome=replace(decided().outcome, degraded=True)),
        replace(decided(ulid(4), n=1), outcome=replace(decided().outcome, would=Action.BLOCK, fired=(fired, monitored))),
    ]

    async def run() -> None:
        log = Log.open(data, limits=Limits(roll_bytes=3000))
        await log.append(activation(data), strict=True)
        for one in ones:
            await log.append(opened(one.request), strict=False)
            await log.append_all(leaves_of(one, TRACE if one.request == ulid(2) else None), strict=False)
            await log.append(closed(one.request, 1), strict=False)
        await log.close()

    asyncio.run(run())


@pytest.mark.parametrize(("query", "expected"), [
    (Query(), [1, 2, 3, 4]), (Query(action="allow"), [2]), (Query(rule="mask"), [1, 3, 4]), (Query(rule="watch"), [4]),
    (Query(rule="nothing"), []), (Query(phase="output"), [3]), (Query(tenant="acme"), [2]), (Query(route="payroll"), [2]),
    (Query(model="qwen-plus"), [2]), (Query(request=ulid(3)), [3]), (Query(degraded=True), [3]),
    (Query(degraded=False), [1, 2, 4]), (Query(trace=TRACE), [2]), (Query(trace="0" * 31 + "1"), []),
    (Query(limit=2), [3, 4]), (Query(limit=0), []), (Query(tenant="default", rule="mask", phase="input"), [1, 4]),
    (Query(since=2**60), []), (Query(until=0), []), (Query(since=0, until=2**60), [1, 2, 3, 4]),
])
def test_finds(tmp_path: Path, query: Query, expected: list[int]) -> None:
    varied(tmp_path)
    assert [row.request_id for row in find(tmp_path, query)] == [ulid(number) for number in expected]


def test_rows_say_what_was_decided(tmp_path: Path) -> None:
    varied(tmp_path)
    row = find(tmp_path)[3]
    assert (row.id, row.action, row.would) == (f"{ulid(4)}.1", "redact", "block")
    assert (row.rules, row.monitored) == (("mask", "watch"), ("watch",))
    assert (row.tenant, row.model, row.degraded, row.simulated, row.log) == ("default", "other", False, False, "log-0")
    assert abs(row.ts / 1e6 - time.time()) < 60
    assert find(tmp_path, Query(since=row.ts))[-1] == row
    assert row not in find(tmp_path, Query(until=row.ts))


def test_long_decisions_are_one_row_with_all_rules(tmp_path: Path) -> None:
    fired = decided().outcome.fired[0]
    many = tuple(replace(fired, rule=f"rule-{i}", label="x" * 200) for i in range(400))
    one = replace(decided(), outcome=replace(decided().outcome, fired=many))
    assert len(leaves_of(one)) > 1

    async def run() -> None:
        log = Log.open(tmp_path)
        await log.append_all(leaves_of(one), strict=True)
        await log.close()

    asyncio.run(run())
    (row,) = find(tmp_path)
    assert sorted(row.rules) == sorted({rule.rule for rule in many})
    assert [found.id for found in find(tmp_path, Query(rule="rule-399"))] == [one.id]


@pytest.mark.parametrize("harm", ["delete", "junk", "old schema", "empty", "nothing"])
def test_is_rebuilt(tmp_path: Path, harm: str) -> None:
    varied(tmp_path)
    before = find(tmp_path)
    path = tmp_path / "index.sqlite"
    match harm:
        case "delete":
            path.unlink()
        case "junk":
            path.write_bytes(b"not a database at all" * 100)
        case "empty":
            path.write_bytes(b"")
        case "old schema":
            db = sqlite3.connect(path)
            db.execute("PRAGMA user_version=99")
            db.execute("DROP TABLE fired")
            db.commit()
            db.close()
    assert find(tmp_path) == before
    assert len(before) == 4


def test_catches_up_file_by_file(tmp_path: Path) -> None:
    limits = Limits(roll_bytes=2500)
    for life in range(4):
        fill(tmp_path, range(life * 10, life * 10 + 5), limits)
        expected = [ulid(n) for before in range(life + 1) for n in range(before * 10, before * 10 + 5)]
        assert [row.request_id for row in find(tmp_path)] == expected
    assert len(list((tmp_path / "log-0").glob("*.qseg"))) > 4


def test_follows_a_log_that_is_being_written(tmp_path: Path) -> None:
    async def run() -> None:
        log = Log.open(tmp_path)
        for number in range(5):
            await log.append_all(leaves_of(decided(ulid(number))), strict=bool(number % 2))
            assert len(find(tmp_path)) == number + 1
        await log.close()

    asyncio.run(run())


def test_a_log_that_went_back_is_read_anew(tmp_path: Path) -> None:
    """After a failed fsync leaves that nobody was told of are cut off; the index may have seen them."""
    fill(tmp_path)
    assert len(find(tmp_path)) == 3
    rewrite(tmp_path, lambda leaves: leaves[:8])
    assert [row.request_id for row in find(tmp_path)] == [ulid(1), ulid(2)]
    rewrite(tmp_path, lambda leaves: [*leaves[:3], {**leaves[3], "act": "block"}, *leaves[4:], leaves[0]])
    assert [row.action for row in find(tmp_path)] == ["block", "redact"]


def test_logs_come_and_go(tmp_path: Path) -> None:
    fill(tmp_path / "a", [1])
    fill(tmp_path / "b", [2])
    (tmp_path / "b" / "log-0").rename(tmp_path / "a" / "log-1")
    assert {row.log for row in find(tmp_path / "a")} == {"log-0", "log-1"}
    (tmp_path / "a" / "log-1").rename(tmp_path / "gone")
    assert [row.request_id for row in find(tmp_path / "a")] == [ulid(1)]


def test_damage_is_told(tmp_path: Path) -> None:
    folder = fill(tmp_path)
    data = bytearray((folder / "seg-0.qseg").read_bytes())
    data[700] ^= 1
    (folder / "seg-0.qseg").write_bytes(data)
    with pytest.raises(LogError, match="audit verify"):
        find(tmp_path)
    with pytest.raises(LogError, match="no such folder"):
        Index(tmp_path / "nowhere")


def test_leaves_of_a_request(tmp_path: Path) -> None:
    fill(tmp_path)
    with Index(tmp_path) as index:
        index.catch_up()
        assert [leaf["kind"] for leaf in index.leaves(ulid(2))] == ["open", "decision", "close"]
        assert index.leaves(ulid(9)) == []


TRUE = Query(), [1, 2, 3, 4]
EDITS: list[tuple[str, str, tuple[Query, list[int]]]] = [
    ("another action", "UPDATE decisions SET action = 'block' WHERE idx = 3", (Query(action="block"), [])),
    ("another tenant", "UPDATE decisions SET tenant = 'x'", (Query(tenant="x"), [])),
    ("another trace", f"UPDATE decisions SET trace = '{TRACE}'", (Query(trace=TRACE), [2])),
    ("another time", "UPDATE decisions SET ts = ts + 1000000", TRUE),
    ("a rule that never fired", "INSERT INTO fired SELECT log, idx, 'nothing' FROM decisions", (Query(rule="nothing"), [])),
    ("a decision that never was", "INSERT INTO decisions SELECT log, 99, ts, req, phase, action, degraded, tenant, route, model, trace "
     "FROM decisions WHERE idx = 3", TRUE),
    ("a decision in place of another leaf", "UPDATE decisions SET idx = 2 WHERE idx = 3", TRUE),
    ("a log that never was", "INSERT INTO decisions SELECT 'log-7', idx, ts, req, phase, action, degraded, tenant, route, model, trace "
     "FROM decisions", TRUE),
    ("a place outside", "UPDATE leaves SET first = '../../x'", TRUE),
    ("a log outside", "UPDATE decisions SET log = '../x'", TRUE),
    ("another place", "UPDATE leaves SET at = at + 1", TRUE),
    ("a place that is none", "UPDATE leaves SET at = -1", TRUE),
    ("a place beyond", "UPDATE leaves SET at = 9223372036854775807", TRUE),
    ("places of two swapped", "UPDATE leaves SET at = (SELECT at FROM leaves WHERE idx = 3) WHERE idx = 6", TRUE),
    ("places gone", "DELETE FROM leaves", TRUE),
    ("a table gone", "DROP TABLE fired", (Query(rule="mask"), [1, 3, 4])),
    ("a table that is another", "DROP TABLE decisions; CREATE TABLE decisions (x)", TRUE),
    ("a view for a table", "ALTER TABLE decisions RENAME TO d; CREATE VIEW decisions AS SELECT 'log-0' AS log, 3 AS idx, 1 AS ts",
     TRUE),
]


@pytest.mark.parametrize(("note", "statements", "asked"), EDITS, ids=[note for note, _, _ in EDITS])
def test_a_forged_index_is_not_believed(tmp_path: Path, note: str, statements: str, asked: tuple[Query, list[int]]) -> None:
    varied(tmp_path)
    query, expected = asked
    true = find(tmp_path, query)
    assert [row.request_id for row in true] == [ulid(number) for number in expected]
    forge(tmp_path, statements)
    with Index(tmp_path) as index:
        index.catch_up()
        assert index.find(query) == true
        assert index.misfit
    with Index(tmp_path) as index:
        index.catch_up()
        assert index.find(query) == true
        assert not index.misfit  # the new one stays, and fits


def forge(data: Path, statements: str) -> None:
    db = sqlite3.connect(data / "index.sqlite")
    db.executescript(statements)
    db.commit()
    db.close()


@pytest.mark.parametrize("statements", [
    "DELETE FROM leaves WHERE idx = 6", "UPDATE leaves SET req = 'x' WHERE idx = 6", "UPDATE leaves SET at = 0 WHERE idx = 6",
    "DELETE FROM leaves WHERE idx = 6; UPDATE logs SET size = 6", "UPDATE leaves SET req = (SELECT req FROM leaves WHERE idx = 6)",
    "INSERT INTO leaves SELECT log, 999, req, first, at FROM leaves WHERE idx = 6", "DELETE FROM logs",
])
def test_a_request_is_shown_as_the_log_has_it(tmp_path: Path, statements: str) -> None:
    fill(tmp_path)
    find(tmp_path)
    forge(tmp_path, statements)
    with Index(tmp_path) as index:
        index.catch_up()
        assert [(leaf["idx"], leaf["kind"]) for leaf in index.leaves(ulid(2))] == [(5, "open"), (6, "decision"), (7, "close")]


def test_a_log_that_is_short_is_no_misfit(tmp_path: Path) -> None:
    fill(tmp_path)
    rewrite(tmp_path, lambda leaves: [*leaves[:3], *leaves[4:]], sign=True)
    with Index(tmp_path) as index:
        index.catch_up()
        assert [leaf["kind"] for leaf in index.leaves(ulid(1))] == ["open", "close"]
        assert not index.misfit


@pytest.mark.parametrize("before", [True, False], ids=["an index from before", "none"])
def test_a_full_disk_hinders_no_query(tmp_path: Path, before: bool) -> None:
    fill(tmp_path, [1])
    if before:
        find(tmp_path)
    fill(tmp_path, range(2, 60))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            status = len(find(tmp_path))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 59
    assert len(find(tmp_path)) == 59


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_an_index_that_cannot_be_opened_hinders_no_query(tmp_path: Path, kind: str) -> None:
    fill(tmp_path)
    if kind == "folder":
        (tmp_path / "index.sqlite").mkdir()
    else:
        (tmp_path / "index.sqlite").symlink_to(tmp_path / "nowhere" / "x")
    assert len(find(tmp_path)) == 3


HOLD = """
import fcntl, os, sys, time
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(60)
"""


def test_one_process_at_a_time_owns_the_file(tmp_path: Path) -> None:
    fill(tmp_path, [1, 2])
    find(tmp_path)
    fill(tmp_path, [3])
    path = tmp_path / "index.sqlite"
    before = path.read_bytes()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"held\n"
        with Index(tmp_path, patience=0.05) as index:
            index.catch_up()
            assert len(index.find(Query())) == 3  # searched in memory
        forge(tmp_path, "UPDATE decisions SET action = 'block'")
        forged = path.read_bytes()
        with Index(tmp_path, patience=0.05) as index:
            index.catch_up()
            assert [row.action for row in index.find(Query())] == ["redact"] * 3
        assert path.read_bytes() == forged != before
        owner.kill()
    with Index(tmp_path, patience=0.05) as index:  # the owner is dead, and this one takes over
        index.catch_up()
        assert len(index.find(Query())) == 3
        assert index.misfit
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM decisions WHERE action = 'redact'").fetchone() == (3,)
    db.close()


def test_nobody_waits_for_whoever_reads_on(tmp_path: Path) -> None:
    fill(tmp_path)
    find(tmp_path)
    forge(tmp_path, "UPDATE decisions SET action = 'block'")
    with Index(tmp_path) as index:
        index.catch_up()
        with Index(tmp_path, patience=0.05) as other:
            other.catch_up()
            assert len(other.find(Query())) == 3
        assert len(index.find(Query())) == 3


def test_many_at_once_find_all(tmp_path: Path) -> None:
    fill(tmp_path, range(1, 40))
    code = "import sys; from pathlib import Path; from tests.audit.test_index import find; print(len(find(Path(sys.argv[1]))))"
    asked = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(3)]
    assert [one.communicate(timeout=60)[0].strip() for one in asked] == [b"39"] * 3
@pytest.mark.parametrize(("member", "value"), [
    ("req", []), ("req", {}), ("degraded", []), ("ts", {}), ("act", [1]), ("phase", {"a": 1}), ("scope", {"tenant": []}), ("rules", [1]),
    ("kind", None),
])
def test_a_leaf_of_another_form_is_told(tmp_path: Path, member: str, value: object) -> None:
    fill(tmp_path)
    rewrite(tmp_path, lambda leaves: [*leaves[:3], {**leaves[3], member: value}, *leaves[4:]])
    if (member, value) == ("kind", None):
        assert len(find(tmp_path)) == 2, "a kind of a later version is no decision"
        return
    with pytest.raises(LogError, match="leaf 3: not of a form that this version knows"):
        find(tmp_path)


def test_an_index_whose_schema_is_no_text_is_built_anew(tmp_path: Path) -> None:
    fill(tmp_path)
    before = find(tmp_path)
    path = tmp_path / "index.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"leaves_req ON leaves", b"leaves_re\xd2 ON leave\xd2"))
    assert path.read_bytes() != whole
    assert find(tmp_path) == before
