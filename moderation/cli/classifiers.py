"""`moderation classifiers list | show | eval | bench`: the small models, what they say of themselves, how well they do."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from moderation.cli.subject import Opened, subject
from moderation.cli.verb import Argument, Verb
from moderation.errors import UsageError
from moderation.verdict import Cause, Level, Unknown

if TYPE_CHECKING:
    from moderation.detect.api import Windowed

_EVERY = 200
"""Rows between two words on how far it is."""
_YES = 500_000
"""The score from which on the answer is yes, in millionths."""
_SENTENCE = "The committee met on Tuesday and agreed on the plan for the new library. "
_SIZES = (32, 128)
"""Tokens of the texts that `bench` times."""


def _list(args: argparse.Namespace) -> int:
    from moderation.detect.classifier import names, shipped
    from moderation.detect.classifier.manifest import read_manifest

    used = _used()
    for name in names(shipped()):
        found = read_manifest(shipped() / name)
        row = {
            "name": name, "ships": True, "default": name in used, "heads": [head.name for head in found.heads],
            "languages": list(found.languages), "engine": found.kind.value, "version": found.version, "pin": found.pin,
        }  # fmt: skip
        if args.json:
            print(json.dumps(row, ensure_ascii=False))
        else:
            mark = "*" if name in used else " "
            print(f"{mark} {name}  {found.version}  {', '.join(found.languages)}  {', '.join(head.name for head in found.heads)}")
    if not args.json:
        print("* is used by the policy that ships", file=sys.stderr)
    return 0


def _used() -> frozenset[str]:
    """The models that the shipped policy uses."""
    from moderation.flow.loading import compiled, default_policy

    policy = compiled(default_policy())[0].policy
    specs = policy.detectors.values() if policy is not None else ()
    return frozenset(s.engine.model for s in specs if s.engine is not None and s.engine.name == "builtin" and s.engine.model)


def _show(args: argparse.Namespace) -> int:
    found = subject(args.name, os.environ)
    found.check()
    said = {
        "name": found.name, "engine": found.engine, "folder": str(found.folder), "pin": found.pin, "heads": dict(found.heads),
        "levels": {level.word: score / 1_000_000 for level, score in found.levels.items()}, **found.said,
    }  # fmt: skip
    if args.json:
        print(json.dumps(said, ensure_ascii=False))
        return 0
    for key, value in said.items():
        print(f"{key:10}  {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    for card in ("card.md", "README.md") if found.folder != Path() else ():
        if (found.folder / card).exists():
            print(f"\n{(found.folder / card).read_text('utf-8')}")
            break
    return 0


# ---- eval --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    """Of one label in one group: its rows, and the scores of those that have it and of those that have it not."""

    yes: list[int] = field(default_factory=list)
    no: list[int] = field(default_factory=list)

    def row(self, least: int) -> tuple[str, ...]:
        """Rows, then recall, false positives, precision and F1 at a threshold."""
        hit, wrong = sum(s >= least for s in self.yes), sum(s >= least for s in self.no)
        recall = hit / len(self.yes) if self.yes else None
        false = wrong / len(self.no) if self.no else None
        precise = hit / (hit + wrong) if hit + wrong else None
        both = None if not self.yes or not self.no else 2 * hit / (hit + wrong + len(self.yes)) if hit + wrong else 0.0
        return (
            str(len(self.yes)),
            str(len(self.no)),
            *("-" if one is None else f"{one:.3f}" for one in (recall, false, precise, both)),
        )


def _eval(args: argparse.Namespace) -> int:
    opened = _opened(args.name)
    tallies: dict[tuple[str, str], _Tally] = defaultdict(_Tally)
    broken = unknown = silent = 0
    try:
        with Path(args.data).open("rb") as lines, Path(args.scores).open("w", encoding="utf-8") as out:
            for number, raw in enumerate(lines, 1):
                if not raw.strip():
                    continue
                try:
                    row = _row(raw)
                except ValueError as error:
                    broken += 1
                    print(f"{args.data}:{number}:1 {error}", file=sys.stderr)
                    continue
                scores = whole(opened.whole, opened.heads, row.text, row.role)
                if isinstance(scores, Cause):
                    silent += 1
                    print(json.dumps({"i": number - 1, "scores": {}, "levels": {}, "unknown": scores.value}), file=out)
                else:
                    unknown += _judged(opened, scores, row, number - 1, out, tallies)
                if not number % _EVERY and sys.stderr.isatty():
                    print(f"\r{number} rows", end="", file=sys.stderr, flush=True)
    except OSError as error:
        raise UsageError(f"{error.strerror}", error.filename) from None
    for line in _table(tallies, opened.heads):
        print(line)
    if unknown:
        print(f"{unknown} label(s) are of no head of this model", file=sys.stderr)
    if silent:
        print(f"{silent} row(s) have no answer of the model, and are not in the table", file=sys.stderr)
    if broken:
        print(f"{broken} broken line(s)", file=sys.stderr)
    return 2 if broken or silent else 0


def _opened(name: str) -> Opened:
    """The loaded model. What stands in for it is told on stderr."""
    opened = subject(name, os.environ).open()
    if opened.instead is not None:
        print(f"moderation: {opened.instead}", file=sys.stderr)
    return opened


@dataclass(frozen=True, slots=True)
class _Row:
    text: str
    role: str
    labels: Mapping[str, bool]
    group: str


def _row(raw: bytes) -> _Row:
    """Raises ValueError, in words, for a line that is broken. Columns that nobody knows are let be."""
    from moderation.text import Role

    try:
        said = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no JSON: {type(error).__name__}") from None
    if not isinstance(said, dict) or not isinstance(said.get("text"), str):
        raise ValueError('must be an object with a "text"')
    role = said.get("role", Role.PROMPT.value)
    labels, group = said.get("labels"), said.get("group")
    if role not in tuple(Role):
        raise ValueError(f'"role" must be one of {", ".join(Role)}')
    if labels is None:
        labels = {}
    if not isinstance(labels, dict) or not all(type(one) in (int, bool) and one in (0, 1) for one in labels.values()):
        raise ValueError('"labels" must be a mapping to 0 or 1')
    if group is not None and not isinstance(group, str):
        raise ValueError('"group" must be a text')
    return _Row(said["text"], role, {name: bool(one) for name, one in labels.items()}, group or "")


def _judged(
    opened: Opened, found: Mapping[str, int], row: _Row, at: int, out: TextIO, tallies: dict[tuple[str, str], _Tally]
) -> int:
    """Write the scores of a row, and count them. How many of its labels are of no head."""
    words = {
        head: max((level for level, least in opened.levels.items() if least <= score), default=Level.NONE).word
        for head, score in found.items()
    }
    shown = {head: score / 1_000_000 for head, score in found.items()}
    print(json.dumps({"i": at, "scores": shown, "levels": words}, ensure_ascii=False), file=out)
    for label, is_so in row.labels.items():
        for group in {"", row.group} if label in found else ():
            tally = tallies[(label, group)]
            (tally.yes if is_so else tally.no).append(found[label])
    any_harm = any(row.labels.values())
    if row.labels and (any_harm or found.keys() <= row.labels.keys()):
        for group in {"", row.group}:
            tally = tallies[("any", group)]
            (tally.yes if any_harm else tally.no).append(max(found.values()))
    return len(row.labels.keys() - found.keys())


def whole(detector: Windowed, heads: Iterable[str], text: str, role: str) -> dict[str, int] | Cause:
    """The highest score of each head in any window of a text, read as in a running sidecar, in millionths.

    A text that the model has no answer to in some window has none.
    """
    from moderation.detect.api import Passage
    from moderation.sentence import ANSWER_WINDOW, INPUT_WINDOW, context, windows
    from moderation.text import Role

    made = Role(role)
    spans = windows(text, ANSWER_WINDOW if made is Role.RESPONSE else INPUT_WINDOW)
    asked = [Passage(text[one.start : one.end], made, context(text[: one.start])) for one in spans]
    found = dict.fromkeys(heads, 0)
    for answer in detector.detect(asked):
        if isinstance(answer, Unknown):
            return answer.cause
        for finding in answer:
            found[finding.category] = max(found[finding.category], finding.score)
    return found


def _table(tallies: Mapping[tuple[str, str], _Tally], heads: Sequence[str]) -> Iterator[str]:
    """Label and group, all groups first; `any` is the highest score against any label."""
    order = {name: at for at, name in enumerate([*heads, "any"])}
    rows: list[tuple[str, ...]] = [("label", "group", "yes", "no", "recall", "false positives", "precision", "F1")]
    for (label, group), tally in sorted(tallies.items(), key=lambda one: (order[one[0][0]], one[0][1])):
        rows.append((label, group or "(all)", *tally.row(_YES)))
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(
            cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )


# ---- bench -------------------------------------------------------------------------------------------------------------


def _bench(args: argparse.Namespace) -> int:
    from moderation.detect.api import Passage

    opened = _opened(args.name)
    results = []
    for size in _SIZES:
        text = (_SENTENCE * (size // 12 + 1))[: size * 4]  # four characters a token, about
        passage = Passage(text)
        opened.bare.detect([passage])
        took: list[float] = []
        end = time.perf_counter() + args.seconds
        while not took or time.perf_counter() < end:
            begun = time.thread_time()
            opened.bare.detect([passage])
            took.append(time.thread_time() - begun)
        took.sort()
        middle, slow = took[len(took) // 2], took[len(took) * 95 // 100]
        results.append({
            "characters": len(text), "calls": len(took), "cpu_ms_p50": round(middle * 1e3, 3), "cpu_ms_p95": round(slow * 1e3, 3),
            "texts_per_second": round(1 / middle, 1) if middle else None,
        })  # fmt: skip
    if args.json:
        print(json.dumps({"name": opened.name, "runtime": opened.runtime, "pin": opened.pin, "results": results}))
        return 0
    print(f"{opened.name}, {opened.runtime}, one thread")
    for one in results:
        told = f"{one['cpu_ms_p50']:8} ms of CPU (p95 {one['cpu_ms_p95']}), {one['texts_per_second']} texts/s"
        print(f"{one['characters']:5} characters  {told}")
    return 0


_NAME = Argument(("name",), {"metavar": "NAME", "help": "a model that ships, the folder of any, or the id of a cached one"})
_JSON = Argument(("--json",), {"action": "store_true", "help": "print JSON"})

VERBS = (
    Verb(("classifiers", "list"), "the models that ship, and which of them the shipped policy uses", (_JSON,), _list),
    Verb(
        ("classifiers", "show"), "what a model says of itself, its pin and its card; its files are checked", (_NAME, _JSON), _show
    ),
    Verb(
        ("classifiers", "eval"),
        "scores for your own labelled texts, and a table by label and group",
        (
            _NAME,
            Argument(
                ("--data",),
                {
                    "metavar": "FILE",
                    "required": True,
                    "help": (
                        'JSON lines: {"text": …, "role": "prompt", "labels": {"injection": 1}, "group": …}. A label that is not '
                        "given is not known. A broken line is told with its number, the rest goes on, and the exit code is 2"
                    ),
                },
            ),
            Argument(
                ("--scores",),
                {
                    "metavar": "OUT",
                    "required": True,
                    "help": (
                        'where the scores go: {"i": 0, "scores": {…}, "levels": {…}} a line, i from 0; a row that the model has '
                        'no answer to has no scores but "unknown", and the exit code is 2'
                    ),
                },
            ),
        ),
        _eval,
    ),
    Verb(
        ("classifiers", "bench"),
        "how long a text takes on this machine, in CPU time of one thread",
        (
            _NAME,
            Argument(("--seconds",), {"type": float, "default": 3.0, "metavar": "S", "help": "for each length. Default: 3"}),
            _JSON,
        ),
        _bench,
    ),
)
