"""`moderation doctor`: what is wrong, and what to do, in plain words."""

from __future__ import annotations

import argparse
import json
import os
import sys

from moderation.cli.serve import FLAGS
from moderation.cli.verb import Argument, Verb
from moderation.errors import UsageError
from moderation.settings import SETTINGS


def _doctor(args: argparse.Namespace) -> int:
    # Detectors come with these: other commands need not wait for them.
    from moderation.doctor import examine
    from moderation.doctor.checks import State
    from moderation.doctor.machine import Machine

    key = None
    if args.key_env is not None:
        key = os.environ.get(args.key_env)
        if not key:
            raise UsageError(f"the variable {args.key_env} is not set", "--key-env")
    flags = {setting.name: getattr(args, setting.name, None) for setting in SETTINGS if setting.flag}
    found = []
    for one in examine(flags, Machine(), key):
        found.append(one)
        if not args.json:
            print(f"{one.state.value:5}  {one.check}: {one.found}")
            if one.todo:
                print(f"       -> {one.todo}")
    faults, warnings = (sum(one.state is state for one in found) for state in (State.FAULT, State.WARN))
    if args.json:
        rows = [one.row() for one in found]
        print(json.dumps({"ok": not faults, "faults": faults, "warnings": warnings, "checks": rows}, ensure_ascii=False))
    else:
        print(f"{faults} fault(s), {warnings} warning(s)", file=sys.stderr)
    return 1 if faults else 0


VERBS = (
    Verb(("doctor",), "check all that a sidecar needs: configuration, policy, log, disk, clock, upstream; exit 1 on a fault", (
        Argument(("--key-env",), {"metavar": "NAME", "help": (
            "the variable with a key to try at the upstream, where the configuration has none; the key is never shown")}),
        Argument(("--json",), {"action": "store_true", "help": "one object: ok, faults, warnings, checks"}),
        *FLAGS,
    ), _doctor),
)
