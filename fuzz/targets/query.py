"""cli/audit.py: arguments of `audit query`, `show` and `verify`, a line each, on a small log. The first byte says which verb."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz.target import Run, Target, law
from moderation.cli import main
from tests.audit.samples import fill, ulid

CODES = {"query": (0, 1, 2), "show": (0, 1, 2), "verify": (0, 2, 3, 4, 5)}


def prepare() -> Run:
    folder = TemporaryDirectory(prefix="fuzz-query-")
    fill(Path(folder.name), (1, 2))

    def run(raw: bytes) -> str:
        verb = tuple(CODES)[(raw[0] if raw else 0) % len(CODES)]
        # As the system hands them over: no NUL, and what is no UTF-8 as lone surrogates.
        lines = [line.decode("utf-8", "surrogateescape") for line in raw[1:].replace(b"\0", b"").split(b"\n")]
        argv = ["audit", verb, *[line for line in lines if line], "--data", folder.name]
        out, err = io.BytesIO(), io.BytesIO()
        # Kept, for a wrapper that is thrown away closes what it wraps.
        words, told = io.TextIOWrapper(out, "utf-8", write_through=True), io.TextIOWrapper(err, "utf-8", "backslashreplace",
        write_through=True)
        with contextlib.redirect_stdout(words), contextlib.redirect_stderr(told):
            try:
                code = main(argv)
            except SystemExit as end:
                code = int(end.code or 0)
        law(code in CODES[verb], "another exit code than the verb's")
        law(code != 2 or bool(err.getvalue()), "refused without a word")
        if code == 0 and "--json" in argv and not out.getvalue().startswith(b"usage:"):
            for line in out.getvalue().splitlines():
                json.loads(line)
        return f"{verb} {code} {err.getvalue()[-60:]!r}"

    return run


def _seeds() -> Sequence[bytes]:
    lines = (
        (0, "--since 1h --until=2026-11-24T09:30:00Z --json"), (0, "--action redact --phase input --limit 3"),
        (0, f"--request {ulid(1)} --rule mask --tenant default --degraded"), (0, "--since 2026-W01-1 --route=x --model y"),
        (1, ulid(1)), (1, f"{ulid(2)}.0 --json"), (2, "--json"), (2, "--key a+b+c"), (2, "--checkpoint x --keys y"),
    )
    return [bytes([verb]) + words.replace(" ", "\n").encode() for verb, words in lines]


TARGET = Target(
    "query", "Arguments of `audit` are taken, or refused with a word: exit codes only, and JSON where JSON was asked for.",
    _seeds, prepare, (b"--since\n", b"--until\n", b"--limit\n", b"--request\n", b"--json\n", b"999999999w", b"0001-01-01",
                      b"9999-12-31T23:59:59+14:00",
                      b"-1", b"--key\n", b".999999999", b"T", b"Z", b"+23:59", "\u0663".encode(), b"--help\n", b"--\n",
                      b"2026-02-30", b"24:00"),
    longest=600,
)
