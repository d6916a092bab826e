"""`moderation try`: what would be decided about a text, without a server."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from moderation.cli.verb import Argument, Verb
from moderation.errors import UsageError
from moderation.text import Phase, Scope
from moderation.ulid import ulid
from moderation.wire.verdicts import CONTEXT_KEYS, text_conversation


def _context(pairs: Iterable[str]) -> dict[str, str]:
    context: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key not in CONTEXT_KEYS:
            raise UsageError(f"expected KEY=VALUE with KEY of {', '.join(CONTEXT_KEYS)}; got {pair!r}", "--context")
        context[key] = value
    return context


class _Judge:
    """A loaded policy that judges one text after another."""

    def __init__(self, policy: str | None) -> None:
        from moderation.flow.loading import FileLoader
        from moderation.metrics import Metrics

        self._loader = FileLoader(1 << 20, Metrics())
        self._active = self._loader(policy, 1).active

    def verdict(self, text: str, phase: Phase, context: Mapping[str, str]) -> dict[str, Any]:
        """The verdict object. Nothing is written to a log."""
        from moderation.flow.reading import read, scoped
        from moderation.flow.showing import show
        from moderation.language import language_of

        scope = Scope(**{key: context[key] for key in ("tenant", "route", "region") if key in context})
        scope = scoped(scope, self._active, context.get("model"), context.get("language") or language_of(text))
        verdict = asyncio.run(read(self._active, text_conversation(phase, text), scope))
        return show(self._active, verdict, f"{ulid(time.time_ns() // 1_000_000, os.urandom(10))}.0", phase, scope.language)

    def close(self) -> None:
        self._loader.close()


def _try(args: argparse.Namespace) -> int:
    context = _context(args.context or [])
    if (args.text is None) == (args.jsonl is None):
        raise UsageError("give one text, `-` for standard input, or --jsonl FILE", "try")
    judge = _Judge(args.policy)
    try:
        if args.jsonl is not None:
            return _rows(judge, args.jsonl, Phase(args.phase), context)
        text = sys.stdin.read() if args.text == "-" else args.text
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise UsageError("the text is not valid UTF-8", "try")
        shown = judge.verdict(text, Phase(args.phase), context)
    finally:
        judge.close()
    if args.json:
        print(json.dumps(shown, ensure_ascii=False))
    else:
        _print(shown, text)
    return 0


def _rows(judge: _Judge, file: str, phase: Phase, context: Mapping[str, str]) -> int:
    """One verdict a line, in order; a broken line is told and the rest goes on."""
    broken = False
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            text, where = row["text"], Phase(row.get("phase", phase))
            if not isinstance(text, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError):
            print(f'{file}:{number}:1 error expected {{"text": "…", "phase": "input"}} on one line', file=sys.stderr)
            broken = True
            continue
        print(json.dumps(judge.verdict(text, where, context), ensure_ascii=False), flush=True)
    return 2 if broken else 0


def _lines(file: str) -> Iterator[str]:
    try:
        with open(file, encoding="utf-8", errors="surrogateescape") if file != "-" else sys.stdin as source:
            yield from source
    except OSError as error:
        raise UsageError(f"{error.strerror}", file) from None


def _print(shown: Mapping[str, Any], text: str) -> None:
    """The verdict for people."""
    action, would = shown["action"], shown["would"]
    print(f"{action}" + (f"   (would be {would} if monitored rules were enforced)" if would != action else ""))
    for rule in shown["rules"]:
        print(f"  rule     {rule['id']}  {rule['action']}, {rule['mode']}, severity {rule['severity']}")
    for finding in shown["findings"]:
        used = ", ".join(finding["rules"]) or "no rule used it"
        what = finding["entity"] or finding["name"]
        start, end = finding["start"], finding["end"]
        quoted = f"{start}-{end} {text[start:end]!r}" if start is not None else "the text as a whole"
        print(f"  finding  {finding['detector']}/{finding['category']} {what} {finding['level']} ({finding['score']:g}) "
              f"at {quoted}: {used}")
    for unknown in shown["unknown"]:
        print(f"  unknown  {unknown['detector']}: {unknown['cause']}")
    if shown["degraded"]:
        print("  degraded: a rule was decided without the answer of its detector")
    if shown["message"] is not None:
        print(f"  message  {shown['message']}")
    for segment in shown["segments"]:
        print(f"  goes on  {segment['text']}")


VERBS = (
    Verb(("try",), "what would be decided about a text, with every finding and the rules, without a server", (
        Argument(("text",), {"nargs": "?", "help": "the text; `-` reads standard input"}),
        Argument(("--phase",), {"choices": [p.value for p in Phase], "default": "input", "help": "what it is. Default: input."}),
        Argument(("--policy",), {"metavar": "FILE", "help": "the policy; without it the default that ships"}),
        Argument(("--context",), {"action": "append", "metavar": "KEY=VALUE", "help": f"any of {', '.join(CONTEXT_KEYS)}"}),
        Argument(("--jsonl",), {"metavar": "FILE", "help": "a text a line, {\"text\": …, \"phase\": …}; a verdict a line"}),
        Argument(("--json",), {"action": "store_true", "help": "print the verdict as JSON"}),
    ), _try),
)
