"""`moderation try`: what would be decided about a text, without a server."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from moderation.cli.verb import Argument, Verb
from moderation.errors import Refused, UsageError
from moderation.policy.keys import LANGUAGE
from moderation.settings import NAME, Kind, Unfit, text
from moderation.text import Phase, Scope
from moderation.ulid import ulid
from moderation.wire.body import parse
from moderation.wire.verdicts import CONTEXT_KEYS, text_conversation

_BOM = b"\xef\xbb\xbf"
_ROW = '{"text": "…", "phase": "input"} on one line'
_FAULT = re.compile("(?:line 1, column ([0-9]+): )?([^;]*)")
_KINDS: Mapping[str, Kind] = {
    "tenant": NAME, "route": NAME, "region": NAME,
    "language": text(LANGUAGE.pattern, "a language tag such as en or zh"),
    "model": text(r"[^\x00-\x1f\x7f]{1,200}", "a model's name"),
}  # fmt: skip
"""What a request's place may be called: as in the settings."""


def _context(pairs: Iterable[str]) -> dict[str, str]:
    context: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or key not in CONTEXT_KEYS:
            raise UsageError(f"expected KEY=VALUE with KEY of {', '.join(CONTEXT_KEYS)}; got {pair!r}", "--context")
        try:
            _KINDS[key].read(value)
        except Unfit as unfit:
            raise UsageError(f"{key}: expected {unfit}, got {value!r}", "--context") from None
        context[key] = value
    return context


class _Judge:
    """A loaded policy that judges one text after another."""

    def __init__(self, policy: str | None) -> None:
        from moderation.flow.loading import FileLoader
        from moderation.metrics import Metrics

        self._loader = FileLoader(1 << 20, Metrics(), tested=False)
        self._loop = asyncio.Runner()
        self._active = self._loader(policy, 1).active
        for name, told in self._active.instead.items():
            print(f"moderation: the detector {name}: {told}", file=sys.stderr)

    def verdict(self, text: str, phase: Phase, context: Mapping[str, str]) -> dict[str, Any]:
        """The verdict object. Nothing is written to a log."""
        from moderation.flow.reading import read, scoped
        from moderation.flow.showing import show
        from moderation.language import language_of

        scope = Scope(**{key: context[key] for key in ("tenant", "route", "region") if key in context})
        scope = scoped(scope, self._active, context.get("model"), context.get("language") or language_of(text))
        verdict = self._loop.run(read(self._active, text_conversation(phase, text), scope))
        return show(self._active, verdict, f"{ulid(time.time_ns() // 1_000_000, os.urandom(10))}.0", phase, scope.language)

    def close(self) -> None:
        self._loop.run(self._loader.end())
        self._loop.close()
        self._loader.close()


def _try(args: argparse.Namespace) -> int:
    context = _context(args.context or [])
    if (args.text is None) == (args.jsonl is None):
        raise UsageError("give one text, `-` for standard input, or --jsonl FILE", "try")
    judge = _Judge(args.policy)
    try:
        if args.jsonl is not None:
            return _rows(judge, args.jsonl, Phase(args.phase), context)
        said = _standard_input() if args.text == "-" else args.text
        if any("\ud800" <= char <= "\udfff" for char in said):
            raise UsageError("the text is not valid UTF-8", "try")
        shown = judge.verdict(said, Phase(args.phase), context)
    finally:
        judge.close()
    if args.json:
        print(json.dumps(shown, ensure_ascii=False))
    else:
        _print(shown, said)
    return 0


def _standard_input() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def _rows(judge: _Judge, file: str, phase: Phase, context: Mapping[str, str]) -> int:
    """One verdict a line, in order; a broken line is told and the rest goes on."""
    broken = False
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            said, where = _row(line, phase)
        except Refused as fault:
            print(f"{file}:{number}:{_told(fault)}; expected {_ROW}", file=sys.stderr)
            broken = True
            continue
        print(json.dumps(judge.verdict(said, where, context), ensure_ascii=False), flush=True)
    return 2 if broken else 0


def _row(line: bytes, phase: Phase) -> tuple[str, Phase]:
    """The text and the phase of a row, read as the sidecar reads a request: a lone surrogate escape is U+FFFD."""
    row = parse(line.rstrip(b"\r\n"))
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise Refused("invalid_body", "no `text`")
    named = row.get("phase", phase)
    if not isinstance(named, str) or named not in list(Phase):
        raise Refused("invalid_body", f"no such phase, but {', '.join(Phase)}")
    return row["text"], Phase(named)


def _told(fault: Refused) -> str:
    """`COLUMN error PROBLEM`: the parser knows of one line alone."""
    said = _FAULT.match(fault.message)
    return f"{said[1] or 1} error {said[2]}" if said else "1 error"


def _lines(file: str) -> Iterator[bytes]:
    """Lines as bytes, so that one that is not UTF-8 breaks no other; a mark at the start of the file is passed over."""
    try:
        with open(file, "rb") if file != "-" else sys.stdin.buffer as source:
            for number, line in enumerate(source):
                yield line if number else line.removeprefix(_BOM)
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
        Argument(("--jsonl",), {"metavar": "FILE", "help": (
            "a text a line, {\"text\": …, \"phase\": …}, read as a request is; a verdict a line. A broken line is told with its "
            "number, the rest goes on, and the exit code is 2")}),
        Argument(("--json",), {"action": "store_true", "help": "print the verdict as JSON"}),
    ), _try),
)
