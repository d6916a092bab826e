"""`moderation audit query | show | verify`: the log, for auditors.

Knows how to ask and how to print, nothing of formats on disk.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from moderation.audit.index import Index, Query, Row
from moderation.audit.recall import RecallError, joined
from moderation.audit.verify import verify
from moderation.audit.verify_report import Report
from moderation.audit.verify_trust import Trust, TrustError
from moderation.cli.verb import Argument, Verb
from moderation.errors import LogError, UsageError
from moderation.text import Phase
from moderation.verdict import Action

_ID = re.compile(r"([0-7][0-9A-HJKMNP-TV-Z]{25})(?:\.([0-9]{1,9}))?")
_TRACE = re.compile(r"[0-9a-f]{32}")
_AGO = re.compile(r"([0-9]{1,9})([smhdw])")
_MOST = 2**53 - 1
"""The largest number that a leaf can hold."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}

_DATA = Argument(("--data",), {"metavar": "DIR", "help": "the sidecar's --data folder (MODERATION_DATA, else ./moderation-data)"})
_JSON = Argument(("--json",), {"action": "store_true", "help": "machine-readable output"})


def _data(args: argparse.Namespace) -> Path:
    path = Path(args.data or os.environ.get("MODERATION_DATA") or "moderation-data")
    if not path.is_dir():
        raise UsageError(f"{path} is no folder; expected the --data folder of a sidecar", "--data")
    return path


@contextmanager
def _searched(args: argparse.Namespace) -> Iterator[Index]:
    """The index, up to date. A log that cannot be read is broken input: exit 2, and verify says what is wrong."""
    try:
        with Index(_data(args)) as index:
            index.catch_up()
            yield index
            if index.misfit:
                _tell("note: index.sqlite did not fit the log and was built anew; if no disk failed, somebody edited it")
    except LogError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"{error.filename or args.data}: {error.strerror}") from None


def moment(text: str, flag: str, now: int) -> int:
    """µs UTC of `90s`, `15m`, `1h`, `30d`, `2w` (ago) or of an RFC 3339 time; a date alone is its midnight, UTC."""
    ago = _AGO.fullmatch(text)
    if ago:
        then_micros = now - int(ago[1]) * _SECONDS[ago[2]] * 1_000_000
        if then_micros < -_MOST:
            raise UsageError(f"{text!r} is too long ago", flag)
        return then_micros
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time; expected 90s, 15m, 1h, 30d or RFC 3339 like 2026-11-24T09:30:00Z", flag) from None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return (then - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _time(micros: int) -> str:
    try:
        stamp = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    except OverflowError:
        return str(micros)
    return stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _is_text(word: str) -> bool:
    """Whether an argument came as UTF-8; what did not is there as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in word)


def _clean(value: object) -> str:
    """For a terminal: what is not printable in a damaged log must not steer it."""
    return "".join(c if c.isprintable() else "?" for c in str(value))


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _query(args: argparse.Namespace) -> int:
    now = time.time_ns() // 1000
    request = args.request
    if request is not None:
        match = _ID.fullmatch(request)
        if match is None:
            raise UsageError(f"{request!r} is no request id; expected the 26 characters of x-request-id", "--request")
        request = match[1]
    for name in ("rule", "tenant", "route", "model"):
        if not _is_text(getattr(args, name) or ""):
            raise UsageError("expected UTF-8", f"--{name}")
    if args.limit is not None and not 0 <= args.limit <= _MOST:
        raise UsageError(f"expected a number from 0 to {_MOST}", "--limit")
    if args.trace is not None and not _TRACE.fullmatch(args.trace):
        raise UsageError(f"{args.trace!r} is no trace id; expected the 32 hex digits in the middle of traceparent", "--trace")
    query = Query(
        since=None if args.since is None else moment(args.since, "--since", now),
        until=None if args.until is None else moment(args.until, "--until", now),
        action=args.action, rule=args.rule, phase=args.phase, tenant=args.tenant, route=args.route, model=args.model,
        request=request, trace=args.trace, degraded=True if args.degraded else None, limit=args.limit,
    )
    with _searched(args) as index:
        rows = index.find(query)
    if args.json:
        _say(*(json.dumps(_row(row), ensure_ascii=False) for row in rows))
        return 0
    if rows:
        _say(*_table(["TIME", "PHASE", "ACTION", "RULES", "TENANT", "ROUTE", "MODEL", "ID"], [
            [_time(row.ts)[:23] + "Z", row.phase, _action(row), " ".join(row.rules) or "-", row.tenant, row.route, row.model,
             row.id] for row in rows]))
    _tell(f"{len(rows)} decision{'' if len(rows) == 1 else 's'}")
    return 0


def _action(row: Row) -> str:
    words = row.action if row.would == row.action else f"{row.action} (would {row.would})"
    return f"{words} degraded" if row.degraded else words


def _row(row: Row) -> dict[str, object]:
    members = asdict(row)
    return {"id": members.pop("id"), "time": _time(members.pop("ts")), **members}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [list(head), *([_clean(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _show(args: argparse.Namespace) -> int:
    match = _ID.fullmatch(args.id)
    if match is None:
        raise UsageError(f"{args.id!r} is no id; expected <ULID>.<n> as in x-moderation-decision, or the ULID of x-request-id",
                         "ID")
    request, n = match[1], None if match[2] is None else int(match[2])
    with _searched(args) as index:
        leaves = index.leaves(request)
    try:
        lines = _of_request(args, request, n, leaves)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise UsageError(f"{request}: a leaf is not of a form that this version knows. Run `moderation audit verify`") from None
    if not lines:
        _tell(f"{args.id}: not in this log. `moderation audit query --request {request}` lists what is there of the request")
        return 1
    _say(*lines)
    return 0


def _of_request(args: argparse.Namespace, request: str, n: int | None, leaves: Sequence[dict[str, Any]]) -> list[str]:
    """What is said of a request; nothing where it is not here. Raises whatever Python does for leaves of an odd form."""
    by_number: dict[Any, list[dict[str, Any]]] = {}
    for leaf in leaves:
        if leaf["kind"] == "decision" and n in (None, leaf["n"]):
            by_number.setdefault(leaf["n"], []).append(leaf)
    if not by_number and (n is not None or not leaves):
        return []
    decisions = _whole(by_number)
    ends = {kind: next((leaf for leaf in leaves if leaf["kind"] == kind), None) for kind in ("open", "close")}
    if args.json:
        whole = {"request_id": request, **ends, "decisions": [_named(one) for one in decisions]}
        # Asked for one decision, its own members stand on top as well.
        return [json.dumps(whole if n is None else {**_named(decisions[0]), **whole}, ensure_ascii=False)]
    lines = _opened(ends["open"]) if ends["open"] else []
    for decision in decisions:
        lines += ["", *_decided(decision)]
    return [_clean(line) for line in (*lines, "", _closed(ends["close"]))]


def _named(leaf: Mapping[str, Any]) -> dict[str, Any]:
    """A decision leaf with the names that lists of decisions use."""
    rules = list(dict.fromkeys(rule["id"] for rule in [*leaf["rules"], *leaf["would"]]))
    return {"id": f"{leaf['req']}.{leaf['n']}", "time": _time(leaf["ts"]), "action": leaf["act"], "phase": leaf["phase"],
            "degraded": leaf["degraded"], "tenant": leaf["scope"]["tenant"], "route": leaf["scope"]["route"],
            "model": leaf["scope"]["model"], "fired": leaf["rules"], "monitored": leaf["would"], "would": leaf["would_act"],
            "rules": rules, "leaf": leaf}


def _whole(by_number: Mapping[Any, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    try:
        return [joined(parts) for _, parts in sorted(by_number.items())]
    except RecallError as error:
        raise UsageError(f"{error}. Run `moderation audit verify`") from None


def _opened(leaf: Mapping[str, Any]) -> list[str]:
    caller = leaf["caller"]
    stream = "  stream" if leaf["stream"] else ""
    return [f"Request {leaf['req']}", f"  opened     {_time(leaf['ts'])}  {_clean(leaf['endpoint'])}{stream}",
            f"  caller     client {_clean(caller['client'] or '-')}, user {_clean(caller['user'] or '-')}"]


def _closed(leaf: Mapping[str, Any] | None) -> str:
    if leaf is None:
        return "Not closed yet: in flight, or cut off by a crash (the next start closes it as interrupted)."
    parts = [f"{leaf['decisions']} decisions"]
    names = ("upstream_status", "in_tokens", "out_tokens", "chunks")
    parts += [f"{name.replace('_', ' ')} {leaf[name]}" for name in names if leaf.get(name)]
    return f"Closed {_time(leaf['ts'])}  {leaf['outcome']}  ({', '.join(parts)})"


def _key(keys: Sequence[Sequence[str | None]], number: int) -> str:
    return _clean(" ".join(part for part in keys[number] if part))


def _decided(leaf: Mapping[str, Any]) -> list[str]:
    """One decision in words. Members that a later schema leaves out raise no error here: `joined` has checked the lists."""
    scope, policy, keys = leaf["scope"], leaf["policy"], leaf["keys"]
    parts = f", {leaf['parts']} parts" if leaf["parts"] > 1 else ""
    would = f"  would be {leaf['would_act']} with every rule enforced" if leaf["act"] != leaf["would_act"] else ""
    lines = [
        f"Decision {leaf['req']}.{leaf['n']}",
        f"  time       {_time(leaf['ts'])}  leaf {leaf['idx']} of {_clean(leaf['log'])}{parts}",
        f"  phase      {leaf['phase']}{'  (simulated)' if leaf['simulated'] else ''}",
        f"  action     {leaf['act']}{would}{'  degraded' if leaf['degraded'] else ''}",
        f"  scope      tenant {_clean(scope['tenant'])}, route {_clean(scope['route'])}, region {_clean(scope['region'])}, "
        f"model {_clean(scope['model'])}, language {_clean(scope['lang'])}",
        f"  policy     {_clean(policy['id'])} {_clean(policy['hash'])}, engine {_clean(policy['engine'])}",
        *([f"  trace      {_clean(leaf['trace'])}"] if leaf.get("trace") else []),
        f"  content    {leaf['content']['chars']} characters, commitment {_clean(leaf['content']['commit'] or 'none kept')}",
    ]
    for rule in [*leaf["rules"], *leaf["would"]]:
        windows = ", ".join("all" if at < 0 else str(at) if count == 1 else f"{at}-{at + count - 1}" for at, count in rule["win"])
        why = "; ".join(f"{_key(keys, key)} from {least / 1_000_000:g}" for key, least in rule["why"])
        cause = "a detector gave no answer" if rule["on_unknown"] else why or "no finding needed"
        lines.append(f"  rule       {_clean(rule['id'])}: {rule['act']}, {rule['mode']}, windows {windows}: {cause}")
    lines += [f"  signal     {_key(keys, key)}: highest {score / 1_000_000:g}, {count} found"
              for key, score, count in leaf["sigs"] if len(keys[key]) > 3]
    lines += [f"  unknown    {_clean(detector)}: {_clean(cause)}" for detector, cause in leaf["unknown"]]
    lines += [f"  edit       {_clean(path)} {start}-{end}: {action}, {_clean(kind)}"
              for path, start, end, action, kind in leaf["spans"]]
    lines += [f"  unscanned  {_clean(kind)} at {_clean(path)} ({turn})" for path, kind, turn in leaf["media"]]
    lines += [f"  detector   {_clean(d['id'])}: {_clean(d['st'])}, {d['us']} µs, version {_clean(d['bin'])[:16]}"
              for d in leaf["det"]]
    return lines


def _verify(args: argparse.Namespace) -> int:
    data = _data(args)
    try:
        trust = Trust.read(Path(args.keys) if args.keys else None, args.key or (), [Path(name) for name in args.checkpoint or ()])
        report = verify(data, trust)
    except TrustError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        # What cannot be read is neither sound nor broken.
        raise UsageError(f"{error.filename}: {error.strerror}" if error.filename else str(error)) from None
    if args.json:
        _say(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        _print_report(report)
    return report.exit_code


def _print_report(report: Report) -> None:
    words = report.to_json()
    for log in report.logs:
        span = "" if log.first_ts is None or log.last_ts is None else f", {_time(log.first_ts)} to {_time(log.last_ts)}"
        use = ", in use" if log.in_use else ""
        gaps = f", {log.gaps} leaves lost and declared" if log.gaps else ""
        _say(f"{log.log}  {log.leaves} leaves, {log.decisions} decisions, checkpoint over {log.signed}{span}{use}{gaps}",
             f"       origin {_clean(log.origin)}  root {log.root or '-'}")
    _say(*(f"{name.upper():<13} {words[name]}" for name in ("integrity", "completeness", "freshness")))
    for fault in report.faults:
        _tell(f"{fault.verdict.value.upper()} {_clean(fault.where)}: {_clean(fault.problem)}. {fault.todo}")
    for note in report.notes:
        _tell(f"note: {_clean(note)}")


VERBS = (
    Verb(("audit", "query"), "list decisions from the log", (
        Argument(("--since",), {"metavar": "TIME", "help": "from then on: 90s, 15m, 1h, 30d ago, or RFC 3339"}),
        Argument(("--until",), {"metavar": "TIME", "help": "before then"}),
        Argument(("--action",), {"choices": [action.word for action in Action], "help": "what was enforced"}),
        Argument(("--rule",), {"metavar": "ID", "help": "a rule that fired, enforced or monitored"}),
        Argument(("--phase",), {"choices": [phase.value for phase in Phase], "help": "what was judged"}),
        Argument(("--tenant",), {"metavar": "NAME", "help": "tenant, by the configuration"}),
        Argument(("--route",), {"metavar": "NAME", "help": "route, by the configuration"}),
        Argument(("--model",), {"metavar": "NAME", "help": "model that the policy names, else `other`"}),
        Argument(("--request",), {"metavar": "ID", "help": "x-request-id"}),
        Argument(("--trace",), {"metavar": "ID", "help": "the W3C trace id of the request's traceparent"}),
        Argument(("--degraded",), {"action": "store_true", "help": "only what was decided without an answer of some detector"}),
        Argument(("--limit",), {"metavar": "N", "type": int, "help": "the newest N; without it, every match"}),
        _DATA, _JSON,
    ), _query),
    Verb(("audit", "show"), "one decision, or all of a request, in full", (
        Argument(("id",), {"metavar": "ID", "help": "<ULID>.<n> for a decision, <ULID> for all of the request"}), _DATA, _JSON,
    ), _show),
    Verb(("audit", "verify"), "check that the log is unaltered and complete", (
        Argument(("--keys",), {"metavar": "DIR", "help": "the sidecar's --keys folder, where it lies apart: its copies of "
                               "checkpoints must fit, for each log"}),
        Argument(("--key",), {"metavar": "LINE|FILE", "action": "append", "help": "a verifier key kept elsewhere, as in key.pub; "
                              "one for each log"}),
        Argument(("--checkpoint",), {"metavar": "FILE", "action": "append", "help": "a checkpoint kept elsewhere; may be given "
                                     "several times"}),
        _DATA, _JSON,
    ), _verify),
)
