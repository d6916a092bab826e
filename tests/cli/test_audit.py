"""`moderation audit …` as an auditor types it."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from moderation.audit.record import DetectorStatus, decision
from moderation.audit.store import Log
from moderation.cli import main
from moderation.cli.audit import VERBS, moment
from moderation.errors import UsageError
from moderation.text import Media, Span, Turn
from moderation.verdict import Action, Cause, Edit, Mode, Unknown
from tests.audit.samples import ENGINE, NAMES, activation, closed, decided, fill, opened, ulid
from tests.audit.test_verify import edit, rewrite

HOUR = 3_600_000_000


def run(*words: str, data: Path | None) -> int:
    """What main does with a verb: parse its arguments, run it."""
    for verb in VERBS:
        if words[: len(verb.words)] == verb.words:
            parser = argparse.ArgumentParser(exit_on_error=False)
            for argument in verb.arguments:
                parser.add_argument(*argument.flags, **argument.options)
            where = [] if data is None else ["--data", str(data)]
            return verb.run(parser.parse_args([*words[len(verb.words) :], *where]))
    raise AssertionError(words)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    fill(tmp_path)
    return tmp_path


def test_query(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "query", "--since", "1h", "--action", "redact", data=data) == 0
    out, err = capsys.readouterr()
    lines = out.split("\n")
    assert lines[0].split() == ["TIME", "PHASE", "ACTION", "RULES", "TENANT", "ROUTE", "MODEL", "ID"]
    assert [line.split()[-1] for line in lines[1:4]] == [f"{ulid(n)}.0" for n in (1, 2, 3)]
    assert len({line.index("redact") for line in lines[1:4]}) == 1
    assert err == "3 decisions\n"


def test_query_json(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "query", "--limit", "1", "--json", data=data) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["id"] == f"{ulid(3)}.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", row["time"])
    wanted = {"request_id": ulid(3), "phase": "input", "action": "redact", "would": "redact", "rules": ["mask"],
              "degraded": False, "model": "other", "route": "default", "tenant": "default"}
    assert {name: row[name] for name in wanted} == wanted


@pytest.mark.parametrize("words", [
    ["--action", "block"], ["--until", "1h"], ["--rule", "none"], ["--request", ulid(9)], ["--degraded"],
])
def test_query_finds_nothing(data: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "query", *words, data=data) == 0
    assert capsys.readouterr() == ("", "0 decisions\n")


def test_query_takes_a_decision_id_for_its_request(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "query", "--request", f"{ulid(2)}.0", "--json", data=data) == 0
    assert json.loads(capsys.readouterr().out)["request_id"] == ulid(2)


@pytest.mark.parametrize(("words", "match"), [
    (["query", "--since", "yesterday"], "--since .*no time"), (["query", "--request", "x"], "--request"),
    (["query", "--limit", "-1"], "--limit"),
    (["show", "x"], "ID .*no id"), (["show", ulid(1)[:-1]], "no id"),
])
def test_wrong_use(data: Path, words: list[str], match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        run("audit", *words, data=data)
    assert caught.value.exit_code == 2


def test_missing_folder(tmp_path: Path) -> None:
    for words in (["query"], ["show", ulid(1)], ["verify"]):
        with pytest.raises(UsageError, match="--data"):
            run("audit", *words, data=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no log folders"):
        run("audit", "verify", data=tmp_path)


def test_data_from_the_environment(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MODERATION_DATA", str(data))
    assert run("audit", "verify", "--json", data=None) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


@pytest.mark.parametrize(("text", "expected"), [
    ("90s", -90_000_000), ("15m", -HOUR // 4), ("1h", -HOUR), ("30d", -720 * HOUR), ("2w", -336 * HOUR),
    ("1970-01-01T01:00:00Z", HOUR), ("1970-01-01T02:00:00+01:00", HOUR), ("1970-01-02", 24 * HOUR),
    ("1970-01-01T00:00:00.000001Z", 1),
])
def test_moments(text: str, expected: int) -> None:
    now = 10**15
    assert moment(text, "--since", now) == (now + expected if expected < 0 else expected)


def test_show_a_decision_in_full(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = decided()
    watch = replace(base.outcome.fired[0], rule="watch", mode=Mode.MONITOR, action=Action.BLOCK, window=-1, on_unknown=True)
    outcome = replace(base.outcome, fired=(*base.outcome.fired, watch), unknown=(Unknown("qwen3guard", Cause.TIMEOUT),),
                      would=Action.BLOCK, degraded=True)
    leaves = decision(
        replace(base, outcome=outcome), names=NAMES, engine=ENGINE, durability="strict", commit=None, chars=12,
        detectors=[DetectorStatus("pii", "v" * 64, "ok", 77)], media=[Media("/messages/0/content/1", "image", Turn.NEW)],
        edits=[Edit("/messages/0/content", Span(3, 15), Action.REDACT, "[removed]", "EMAIL_ADDRESS")], simulated=True)

    async def write() -> None:
        log = Log.open(tmp_path)
        await log.append(activation(tmp_path), strict=True)
        await log.append(opened(ulid(1)), strict=True)
        await log.append_all(leaves, strict=True)
        await log.append(closed(ulid(1), 1), strict=True)
        await log.close()

    asyncio.run(write())
    assert run("audit", "show", f"{ulid(1)}.0", data=tmp_path) == 0
    out = capsys.readouterr().out
    for words in ("Request " + ulid(1), f"Decision {ulid(1)}.0", "redact  would be block", "degraded", "simulated",
                  "mask: redact, enforce", "watch: block, monitor, windows all: a detector gave no answer",
                  "EMAIL_ADDRESS user_supplied: highest 1, 1 found", "qwen3guard: timeout",
                  "/messages/0/content 3-15: redact, EMAIL_ADDRESS", "image at /messages/0/content/1 (new)",
                  "pii: ok, 77 µs", "12 characters, commitment none kept", "completed  (1 decisions, upstream status 200)"):
        assert words in out, words
    assert run("audit", "show", f"{ulid(1)}.0", "--json", data=tmp_path) == 0
    whole = json.loads(capsys.readouterr().out)
    assert (whole["id"], whole["action"], whole["would"]) == (f"{ulid(1)}.0", "redact", "block")
    assert whole["rules"] == ["mask", "watch"]
    assert (whole["open"]["kind"], whole["close"]["outcome"], len(whole["decisions"])) == ("open", "completed", 1)
    assert whole["decisions"][0]["leaf"]["spans"] == [["/messages/0/content", 3, 15, "redact", "EMAIL_ADDRESS"]]


def test_show_a_request(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "show", ulid(2), data=data) == 0
    assert f"Decision {ulid(2)}.0" in capsys.readouterr().out
    assert run("audit", "show", ulid(2), "--json", data=data) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"request_id", "open", "close", "decisions"}


@pytest.mark.parametrize(("at", "member", "value"), [
    (2, "caller", None), (2, "ts", []), (2, "stream", {}), (2, "kind", []), (3, "kind", []), (3, "n", []), (3, "n", {}), (3, "ts", "x"), (3, "keys", 1), (3, "sigs", [[9, 1, 1]]),
    (3, "scope", []), (3, "content", {}), (3, "rules", [1]), (3, "parts", 2**53 - 1), (3, "parts", "x"), (3, "det", [{}]), (3, "media", [[1]]), (3, "policy", None),
    (3, "act", "\x1b[2J"), (4, "ts", {}), (4, "kind", {}), (4, "outcome", "\x1b[2J"),
])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_show_what_somebody_wrote_into_the_log(
    data: Path, at: int, member: str, value: object, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(data, edit(at, **{member: value}))
    code: int | str
    try:
        code = run("audit", "show", ulid(1), *flags, data=data)
    except UsageError as error:
        code = str(error)[-28:]
    assert code in (0, 1, "Run `moderation audit verify`"[-28:])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("ident", [ulid(9), f"{ulid(9)}.0", f"{ulid(2)}.7"])
def test_show_what_is_not_there(data: Path, ident: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "show", ident, data=data) == 1
    assert "not in this log" in capsys.readouterr().err


def test_verify(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "verify", data=data) == 0
    out = capsys.readouterr().out
    assert re.search(r"INTEGRITY +ok\nCOMPLETENESS +ok\nFRESHNESS +not claimed\n$", out)
    assert "log-0  11 leaves, 3 decisions, checkpoint over 11" in out
    (data / "log-0" / "checkpoint").unlink()
    assert run("audit", "verify", data=data) == 4
    captured = capsys.readouterr()
    assert re.search(r"COMPLETENESS +broken", captured.out)
    assert re.search(r"COMPLETENESS .*log-0/checkpoint: the checkpoint is gone.*\. Put", captured.err)
    assert run("audit", "verify", "--json", data=data) == 4
    assert json.loads(capsys.readouterr().out)["exit"] == 4


def test_a_damaged_log_does_not_steer_the_terminal(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "log-0" / "key.pub").write_text("\x1b[31mred+00000000+AAAA\n")
    assert run("audit", "verify", data=data) == 3
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize(("words", "match"), [
    (["--since", "999999999w"], "--since .*too long ago"), (["--until", "999999999w"], "--until .*too long ago"),
    (["--limit", "99999999999999999999999"], "--limit expected a number"), (["--limit", "9007199254740992"], "--limit"),
])
def test_numbers_beyond_all_measure(data: Path, words: list[str], match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        run("audit", "query", *words, data=data)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("words", [
    ["--since", "9999w"], ["--limit", "9007199254740991"], ["--since", "0001-01-01T00:00:00+23:59"],
    ["--until", "9999-12-31T23:59:59-23:59"],
])
def test_numbers_at_the_edge(data: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "query", *words, data=data) == 0
    assert capsys.readouterr().err == "3 decisions\n"


@pytest.mark.parametrize("words", [["query"], ["show", ulid(1)]])
def test_a_damaged_log_is_broken_input(data: Path, words: list[str]) -> None:
    path = data / "log-0" / "seg-0.qseg"
    path.write_bytes(path.read_bytes()[:700] + b"\x00" + path.read_bytes()[701:])
    with pytest.raises(UsageError, match="audit verify") as caught:
        run("audit", *words, data=data)
    assert caught.value.exit_code == 2


def test_a_forged_index_is_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("audit", "query", data=data) == 0
    true = capsys.readouterr()
    db = sqlite3.connect(data / "index.sqlite")
    db.execute("UPDATE decisions SET action = 'block'")
    db.commit()
    db.close()
    assert run("audit", "query", data=data) == 0
    told = capsys.readouterr()
    assert told.out == true.out
    assert "did not fit the log" in told.err
    assert run("audit", "query", "--action", "redact", data=data) == 0
    assert capsys.readouterr().out == true.out


def test_verify_with_what_is_kept_elsewhere(data: Path, tmp_path_factory: pytest.TempPathFactory,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    safe = tmp_path_factory.mktemp("safe")
    (data / "keys").rename(safe / "keys")
    line = (data / "log-0" / "key.pub").read_text().strip()
    (safe / "key.pub").write_text(line + "\n")
    (safe / "checkpoint").write_bytes((data / "log-0" / "checkpoint").read_bytes())
    given = ["--keys", str(safe / "keys"), "--key", line, "--key", str(safe / "key.pub"), "--checkpoint", str(safe / "checkpoint"),
             "--checkpoint", str(safe / "keys" / "log-0.checkpoint")]
    assert run("audit", "verify", *given, "--json", data=data) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["compared_with"], report["notes"]) == (["keys", "key", "checkpoint"], [])
    assert run("audit", "verify", data=data) == 0
    assert "Nothing that is kept elsewhere was given" in capsys.readouterr().err
    for path in (data / "log-0").iterdir():
        path.unlink()
    for flags in (given[:2], given[2:4], given[4:6], given[6:8]):
        assert run("audit", "verify", *flags, data=data) == 4


@pytest.mark.parametrize(("flag", "value", "match"), [
    ("--key", "a+b", "neither a verifier key line"), ("--key", "", "neither a verifier key line"),
    ("--key", "\udcff", "neither a verifier key line"), ("--key", "a\0", "neither a verifier key line"),
    ("--checkpoint", "nowhere", "nowhere: No such file"), ("--checkpoint", "/dev/null", "not a checkpoint"),
    ("--keys", "nowhere", "expected the --keys folder"),
])
def test_what_is_kept_elsewhere_must_be_readable(data: Path, flag: str, value: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        run("audit", "verify", flag, value, data=data)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["log-0/checkpoint", "log-0/key.pub", "log-0/seg-0.qseg", "keys/log-0.checkpoint"])
def test_what_cannot_be_read_is_told(data: Path, name: str) -> None:
    """A folder in the place of the file: nobody can read that, root neither."""
    (data / name).unlink()
    (data / name).mkdir()
    with pytest.raises(UsageError, match=re.escape(name)) as caught:
        run("audit", "verify", data=data)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("flag", ["--rule", "--tenant", "--route", "--model"])
def test_an_argument_that_is_no_text_is_told(data: Path, flag: str) -> None:
    with pytest.raises(UsageError, match=f"{flag} expected UTF-8"):
        run("audit", "query", flag, "a\udcff", data=data)


def test_flags_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    """A script that shortens one would break with the next flag that begins so."""
    with pytest.raises(SystemExit) as ended:
        main(["audit", "query", "--sin", "1h"])
    assert ended.value.code == 2
    assert "--sin" in capsys.readouterr().err
