"""`moderation policy check | test | schema`: is a policy right, does it do what its tests say, what may it hold."""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from moderation.cli.verb import Argument, Verb

if TYPE_CHECKING:
    from moderation.detect.api import Detector
    from moderation.policy.cases import Result
    from moderation.policy.compile import Compiled
    from moderation.policy.faults import Fault
    from moderation.policy.model import Policy, Rule, Test


def _compiled(file: str | None) -> tuple[Compiled, Path]:
    # Detectors come with these: an `audit` command need not wait for them.
    from moderation.flow.loading import compiled, default_policy

    path = Path(file) if file is not None else default_policy()
    return compiled(path)[0], path


def _check(args: argparse.Namespace) -> int:
    from moderation.policy.faults import Grade

    found, path = _compiled(args.file)
    faults = (*found.faults, *_overdue(found, path))
    errors = sum(fault.level is Grade.ERROR for fault in faults)
    warnings = len(faults) - errors
    if args.json:
        ref = asdict(found.policy.ref) if found.policy is not None else None
        rows = [asdict(fault) for fault in faults]
        print(json.dumps({"policy": ref, "errors": errors, "warnings": warnings, "faults": rows}, ensure_ascii=False))
    else:
        for fault in faults:
            print(fault)
        print(f"{path}: {_count(errors, 'error')}, {_count(warnings, 'warning')}", file=sys.stderr)
    return 2 if errors else 1 if warnings and args.strict else 0


def _overdue(found: Compiled, path: Path) -> Iterator[Fault]:
    """The policy itself knows no clock."""
    from moderation.policy.faults import Faults

    if found.policy is not None and found.policy.review_by is not None and found.review is not None:
        faults = Faults(str(path))
        if date.fromisoformat(found.policy.review_by) < datetime.now(UTC).date():
            faults.add("QP602", found.review, f"policy.review_by was {found.policy.review_by}. Review it, and set the next date.")
        yield from faults.found


def _test(args: argparse.Namespace) -> int:
    from moderation.detect.build import build
    from moderation.detect.models import stand_ins
    from moderation.flow.trial import hanging, trial, without_models
    from moderation.policy.detectors import WITH_ENGINE

    found, path = _compiled(args.file)
    policy = found.usable()
    wanted = args.only
    quiet = {name for name, spec in policy.detectors.items() if spec.kind in WITH_ENGINE and not args.models}
    hangs = hanging(policy, quiet)

    def chosen(rule: Rule, test: Test) -> bool:
        return wanted is None or _named(wanted, f"{rule.id}/{test.name}")

    def make(policy: Policy) -> Mapping[str, Detector]:
        made = build(policy) if args.models else without_models(policy)
        for name, told in stand_ins(made).items():
            print(f"{path}: the detector {name}: {told}", file=sys.stderr)
        return made

    results = trial(policy, make, lambda rule, test: chosen(rule, test) and not hangs(rule, test))
    left = sum(chosen(rule, test) and hangs(rule, test) for rule in policy.rules for test in rule.tests)
    failed = sum(not result.passed for result in results)
    if args.json:
        for result in results:
            print(json.dumps(_row(result, str(path)), ensure_ascii=False))
    else:
        for result in results:
            for problem in result.problems:
                print(f"{path}:{result.line}:{result.column} failed {result.rule}: {result.name}: {problem}")
        print(f"{_count(len(results), 'test')}, {_count(failed, 'failure')}")
    if left:
        print(f"{path}: left out: {_count(left, 'test')} with a text for a model or a judge; --models runs all", file=sys.stderr)
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
        Argument(("--models",), {
            "action": "store_true",
            "help": "models and judges read the texts, too, and what a judge reads leaves this machine; without it both find "
                    "nothing, and tests with a text for them are left out",
        }),
        _JSON,
    ), _test),
    Verb(("policy", "schema"), "the JSON Schema of policy files, with the names of all patterns", (_JSON,), _schema),
)
