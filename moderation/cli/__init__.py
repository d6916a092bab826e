"""The command line: verbs in tables, one file a subject, and `main`, which runs one and gives its exit code.

Exit codes: 0 all well, 1 what was asked for did not hold, 2 wrong use or broken input, 3-5 audit verify, 74 the log cannot be
written. Results go to stdout, words for people to stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from moderation import __version__
from moderation.cli.audit import VERBS as AUDIT
from moderation.cli.classifiers import VERBS as CLASSIFIERS
from moderation.cli.demo import VERBS as DEMO
from moderation.cli.doctor import VERBS as DOCTOR
from moderation.cli.policy import VERBS as POLICY
from moderation.cli.serve import VERBS as SERVE
from moderation.cli.tryout import VERBS as TRY
from moderation.cli.verb import Verb
from moderation.errors import ModerationError

VERBS: tuple[Verb, ...] = (*SERVE, *DOCTOR, *TRY, *POLICY, *CLASSIFIERS, *AUDIT, *DEMO)
GROUPS = {
    "policy": "Check, test and describe policies.",
    "classifiers": "The small models: what they are, how well and how fast they judge.",
    "audit": "Search the decision log and check it.",
}


def parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    root = argparse.ArgumentParser(prog="moderation", description="A moderation sidecar for LLM apps on Qwen.")
    root.add_argument("--version", action="version", version=f"moderation {__version__}")
    top = root.add_subparsers(dest="verb", metavar="VERB", required=True)
    groups: dict[str, argparse._SubParsersAction[argparse.ArgumentParser]] = {}
    for verb in VERBS:
        holder = top
        if len(verb.words) == 2:
            group = verb.words[0]
            if group not in groups:
                one = top.add_parser(group, help=GROUPS[group], description=GROUPS[group])
                groups[group] = one.add_subparsers(dest="subverb", metavar="VERB", required=True)
            holder = groups[group]
        # A script that shortens a flag would break with the next flag that begins so.
        sub = holder.add_parser(verb.words[-1], help=verb.help, description=verb.help, allow_abbrev=False)
        for argument in verb.arguments:
            sub.add_argument(*argument.flags, **dict(argument.options))
        sub.set_defaults(run=verb.run)
    return root


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb."""
    args = parser().parse_args(argv)
    try:
        code: int = args.run(args)
    except ModerationError as error:
        print(f"moderation: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough of it.
        sys.stderr.close()
        return 0
    return code
