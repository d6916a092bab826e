"""`moderation policy check | test | schema`: is a policy right, does it do what its tests say, what may it hold."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from moderation.cli.verb import Argument, Verb
from moderation.errors import UsageError

if TYPE_CHECKING:
    from moderation.flow.reading import Active
    from moderation.policy.cases import Examined, Result
    from moderation.policy.compile import Compiled
    from moderation.policy.model import Policy
    from moderation.text import Phase


def _compiled(file: str | None) -> tuple[Compiled, Path]:
    # Detectors come with these: an `audit` command need not wait for them.
    from moderation.flow.loading import compiled, default_policy

    path = Path(file) if file is not None else default_policy()
    try:
        return compiled(path)[0], path
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", f"{path}:1:1") from None


def _check(args: argparse.Namespace) -> int:
    from moderation.policy.faults import Grade

    found, path = _compiled(args.file)
    errors = sum(fault.level is Grade.ERROR for fault in found.faults)
    warnings = len(found.faults) - errors
    if args.json:
        ref = asdict(found.policy.ref) if found.policy is not None else None
        rows = [asdict(fault) for fault in found.faults]
        print(json.dumps({"policy": ref, "errors": errors, "warnings": warnings, "faults": rows}, ensure_ascii=False))
    else:
        for fault in found.faults:
            print(fault)
        print(f"{path}: {_count(errors, 'error')}, {_count(warnings, 'warning')}", file=sys.stderr)
    return 2 if errors else 1 if warnings and args.strict else 0


def _test(args: argparse.Namespace) -> int:
    from moderation.policy.cases import run

    found, path = _compiled(args.file)
    policy = found.usable()
    wanted = args.only
    examiner = _Examiner()
    try:
        results = run(
            policy, examiner.examine, lambda rule, test: wanted is None or _named(wanted, f"{rule.id}/{test.name}")
        )
    finally:
        examiner.close()
    failed = sum(not result.passed for result in results)
    if args.json:
        for result in results:
            print(json.dumps(_row(result, str(path)), ensure_ascii=False))
    else:
        for result in results:
            for problem in result.problems:
                print(f"{path}:{result.line}:{result.column} failed {result.rule}: {result.name}: {problem}")
        print(f"{_count(len(results), 'test')}, {_count(failed, 'failure')}")
    if not results:
        print(f"{path}: no test was run", file=sys.stderr)
    return 1 if failed or not results else 0


def _named(pattern: str, name: str) -> bool:
    return pattern.lower() in name.lower() or fnmatch.fnmatchcase(name.lower(), pattern.lower())


def _row(result: Result, file: str) -> dict[str, object]:
    return {
        "rule": result.rule, "name": result.name, "passed": result.passed, "problems": list(result.problems),
        "file": file, "line": result.line, "column": result.column,
    }  # fmt: skip


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


class _Examiner:
    """Reads the texts of tests as a request's or an answer's texts are read. The detectors are built at the first text."""

    def __init__(self) -> None:
        self._active: Active | None = None
        self._loop = asyncio.Runner()

    def examine(self, policy: Policy, phase: Phase, text: str, context: Mapping[str, str]) -> Examined:
        from moderation.flow.reading import read, scoped
        from moderation.flow.showing import merged
        from moderation.language import language_of
        from moderation.policy.cases import Examined, bare_key, scope_of
        from moderation.text import Channel, Conversation, Origin, Phase, Segment, Turn

        if self._active is None:
            self._active = self._build(policy)
        active = self._active
        scope = scoped(scope_of(context), active, context.get("model"), context.get("language") or language_of(text))
        supplied = None
        names = None
        if phase in (Phase.OUTPUT, Phase.TOOL_CALL):
            # What the conversation supplied is learnt as in life: by reading it there first.
            channel = {
                Origin.USER: Channel.USER, Origin.APP: Channel.SYSTEM, Origin.TOOL: Channel.TOOL_RESULT,
            }.get(Origin(context.get("span_origin", Origin.MODEL)))  # fmt: skip
            before = Phase.TOOL_RESULT if channel is Channel.TOOL_RESULT else Phase.INPUT
            said = (Segment(channel, before, Turn.NEW, text, "/text"),) if channel else ()
            request = self._loop.run(read(active, Conversation(said), scope))
            supplied, names = request.supplied, request.names
        key = bare_key(phase, context)
        segment = Segment(key.channel, phase, key.turn, text, "/text", key.tool)
        verdict = self._loop.run(read(active, Conversation((segment,)), scope, supplied=supplied, names=names))
        return Examined(merged(verdict), "" if verdict.blocked else verdict.text(0))

    def _build(self, policy: Policy) -> Active:
        from moderation.flow.loading import FileLoader
        from moderation.flow.reading import Active
        from moderation.metrics import Metrics

        self._loader = FileLoader(1 << 20, Metrics())
        return Active.of(policy, self._loader.runner(policy), 1)

    def close(self) -> None:
        self._loop.close()
        if self._active is not None:
            self._loader.close()


def _schema(args: argparse.Namespace) -> int:
    from moderation.detect.build import vocabulary
    from moderation.policy.schema import schema

    print(json.dumps(schema(vocabulary()), indent=2, ensure_ascii=False))
    return 0


_FILE = Argument(("file",), {"nargs": "?", "metavar": "FILE", "help": "the policy; without it the default that ships"})
_JSON = Argument(("--json",), {"action": "store_true", "help": "print JSON"})

VERBS = (
    Verb(("policy", "check"), "all faults of a policy, each with its place; exit 2 on an error", (
        _FILE,
        Argument(("--strict",), {"action": "store_true", "help": "warnings fail too: exit 1"}),
        _JSON,
    ), _check),
    Verb(("policy", "test"), "run the tests that stand in a policy; exit 1 where one fails, or where there is none", (
        _FILE,
        Argument(("--run",), {"dest": "only", "metavar": "PAT", "help": "tests whose RULE/NAME holds PAT (wildcards: *, ?)"}),
        _JSON,
    ), _test),
    Verb(("policy", "schema"), "the JSON Schema of policy files, with the names of all patterns", (_JSON,), _schema),
)
