"""Writes the reference pages from the code's tables: settings, error codes, metrics, commands. Knows the tables, not their use.

`python -m moderation.docs` writes docs/*.md and the pages that /docs serves; with `--check` it writes nothing and exits 1 where
one is out of date.
"""

from __future__ import annotations

import argparse
import html
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from moderation.cli import VERBS
from moderation.cli.verb import Argument, Verb
from moderation.doctor.checks import CHECKS
from moderation.errors import CODES
from moderation.events import EVENTS
from moderation.metrics import METRICS, PREFIX, PROCESS, VOCABULARY
from moderation.policy.faults import CODES as POLICY_CODES
from moderation.settings import SETTINGS

HERE = Path(__file__).parent
PAGES = HERE / "pages"
_MADE = "Made by `make docs` from the code's own tables; do not edit."


@dataclass(frozen=True, slots=True)
class Table:
    title: str
    intro: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A reference page; its texts are Markdown of which only `code` is used, so that both forms can be made from it."""

    name: str
    title: str
    intro: str
    tables: tuple[Table, ...]

    def markdown(self) -> str:
        parts = [f"# {self.title}", f"<!-- {_MADE} -->", self.intro]
        for table in self.tables:
            parts += [f"## {table.title}"] if table.title else []
            parts += [table.intro] if table.intro else []
            lines = [_row(table.columns), "|" + "---|" * len(table.columns), *map(_row, table.rows)]
            parts += ["\n".join(lines)] if table.rows else []
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        body = [f"<h1>{_inline(self.title)}</h1>", f"<p>{_inline(self.intro)}</p>"]
        for table in self.tables:
            body += [f"<h2>{_inline(table.title)}</h2>"] if table.title else []
            body += [f"<p>{_inline(table.intro)}</p>"] if table.intro else []
            if table.rows:
                head = "".join(f"<th>{_inline(column)}</th>" for column in table.columns)
                rows = "\n".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
                body.append(f"<table>\n<tr>{head}</tr>\n{rows}\n</table>")
        links = "\n".join(f'<a href="{page}.html">{title}</a>' for page, title in NAVIGATION)
        return _FRAME.format(title=html.escape(self.title), links=links, body="\n".join(body), made=_inline(_MADE))


NAVIGATION = (("index", "start"), ("settings", "settings"), ("codes", "error codes"), ("metrics", "metrics"),
              ("events", "events"), ("doctor", "doctor"), ("cli", "commands"))

_FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<base href="/docs/">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · moderation</title>
<link rel="stylesheet" href="style.css">
</head>
<body>
<nav>
{links}
</nav>
<main>
{body}
</main>
<!-- {made} -->
</body>
</html>
"""


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def settings_page() -> Page:
    rows = tuple((f"`{setting.name}`", f"`{setting.flag_name}`" if setting.flag_name else "", f"`{setting.env_name}`",
                  "yes" if setting.file else "", f"`{setting.shown_default}`" if setting.shown_default else "",
                  setting.kind.words, setting.help) for setting in SETTINGS)
    return Page("settings", "Settings", (
        "A flag wins over a variable, a variable over `moderation.yaml`, the file over the default. "
        "Paths in the file are relative to the file. All faults are told at once, each with its place. "
        "A variable MODERATION_… that is no setting is named on stderr, and so is a `host` beyond loopback without `clients`: "
        "then anybody who reaches the port may use it."), (
        Table("", "", ("setting", "flag", "variable", "in the file", "default", "takes", "what it does"), rows),
        Table("clients", (
            "A list in `moderation.yaml`. With it, every request needs `Authorization: Bearer KEY` of one of them, and the "
            "caller's key never goes upstream. Only the key's hash is kept: `printf %s KEY | sha256sum`."),
            ("key", "takes", "what it does"), (
            ("`name`", "a name", "who asks; routes can match it"),
            ("`key_sha256`", "64 hex digits", "the SHA-256 of the client's key"),
            ("`tenant`", "a name", "the tenant of this client's requests; it comes before the route's"))),
        Table("routes", (
            "A list in `moderation.yaml`; the first that matches takes the request, and `default` takes what none matches. "
            "Tenant, route and region come from here, never from a body."),
            ("key", "takes", "what it does"), (
            ("`name`", "a name", "what policies and the log call it"),
            ("`match`", "`path: /payroll`, `key: CLIENT`, `port: 8081`, or several, which must all hold",
             "which requests take it; the path prefix is taken off"),
            ("`tenant`", "a name", "the tenant, where no client key gives one"),
            ("`region`", "a name", "pins the upstream: a region has one, and a route of a region without one is refused"),
            ("`upstream`", "a URL", "where this route goes; without it, the region's or the main one"),
            ("`upstream_key_env`", "the name of a variable", "this upstream's key; the main key goes to the main upstream alone"),
            ("`policy`", "a path", "the policy of this route"),
            ("`durability`", "`strict` or `fast`", "as the setting"))),
    ))


def codes_page() -> Page:
    rows = tuple((f"`{name}`", str(code.status), f"`{code.type}`", "yes" if code.retry else "no", code.meaning, code.todo)
                 for name, code in CODES.items())
    return Page("codes", "Error codes", (
        "Every error that the sidecar itself answers with has this shape: "
        '`{"error": {"message": …, "type": …, "param": null, "code": …}, "request_id": …}`. '
        "Where another try cannot help, the header `x-should-retry: false` says so. `data_inspection_failed` is what Model "
        "Studio itself answers; ours has `error.moderation` beside it, and the setting `block_code` changes the word."), (
        Table("", "", ("code", "HTTP", "type", "try again", "what it means", "what to do"), rows),
        Table("Faults of a policy", "What `moderation policy check` prints, as `FILE:LINE:COLUMN LEVEL CODE message`.",
              ("code", "level", "what it means", "what to do"),
              tuple((f"`{name}`", about.grade.value, about.meaning, about.todo) for name, about in POLICY_CODES.items())),
        Table("Exit codes", "Of the command `moderation`.", ("exit code", "what it means"), (
            ("0", "all well"),
            ("1", "what was asked for did not hold: a failing test, a warning with `--strict`"),
            ("2", "wrong use or broken input, told with file, line and column"),
            ("3", "`audit verify`: INTEGRITY is broken"),
            ("4", "`audit verify`: COMPLETENESS is broken"),
            ("5", "`audit verify`: FRESHNESS is not shown"),
            ("74", "the log cannot be written"))),
    ))


def metrics_page() -> Page:
    rows = tuple((f"`{metric.shown_name}`", metric.kind.value, ", ".join(f"`{label}`" for label in metric.labels), metric.help)
                 for metric in METRICS)
    words = tuple((f"`{label}`", ", ".join(f"`{word}`" for word in sorted(allowed))) for label, allowed in VOCABULARY.items())
    return Page("metrics", "Metrics", (
        f"`GET /metrics`, in Prometheus' text format; every name begins with `{PREFIX}`. No label holds what a caller chose: "
        "names that neither the configuration nor the active policy has are counted as `other`."), (
        Table("", "", ("metric", "kind", "labels", "what it tells"), rows),
        Table("The process", "Under the names that they have for every program; on Linux alone.", ("metric", "what it tells"),
              tuple((f"`{name}`", help) for name, help in PROCESS.items())),
        Table("Labels with fixed words", "", ("label", "words"), words),
    ))


def events_page() -> Page:
    rows = tuple((f"`{name}`", event.level.word, event.when, ", ".join(f"`{one}`" for one in event.fields), event.todo)
                 for name, event in EVENTS.items())
    return Page("events", "Operational log", (
        "What a running sidecar says on stderr: one JSON object a line, with `time` (RFC 3339, UTC), `level`, `event`, "
        "`request_id` where there is a request, `message` for people where the fields do not say all, and the event's fields; on "
        "a terminal, the same in words. The setting `log_level` says from which level on. No line holds content or what a caller "
        "chose; of errors, kind and place are told, and not their text. A slow reader of stderr stops nothing: lines that do not "
        "fit a queue of 10,000 are dropped, and counted. A sidecar that does not start says why in words, and ends with an exit "
        "code."), (
        Table("", "", ("event", "level", "when", "fields", "what to do"), rows),
        Table("The event `request`", "One line for each request that was moderated, judged, passed through or refused.",
              ("field", "what it tells"), _REQUEST),
    ))


_REQUEST = (
    ("`endpoint`", "`/chat/completions`, `/moderate`, `/v1/moderations`, or `passed` for what is not moderated; none where it "
                   "was refused before that was known"),
    ("`status`", "the HTTP status that went out; 0 where the client left first"),
    ("`outcome`", "as the label of `moderation_requests_total`"),
    ("`code`", "the error of ours that it ended with"),
    ("`action`, `degraded`", "the most severe of its decisions, and whether one leaned on a detector that gave no answer"),
    ("`ms`", "from its arrival to the last byte of its answer"),
    ("`upstream_status`, `upstream_ms`", "what the upstream answered, and how long its first byte took"),
    ("`received`, `sent`", "bytes of its body, decoded, and of the answer's body"),
)


def doctor_page() -> Page:
    rows = tuple((f"`{name}`", check.what, check.todo) for name, check in CHECKS.items())
    return Page("doctor", "Doctor", (
        "`moderation doctor` takes the flags of `serve`, looks at everything, and says of each look `ok`, `warn` or `fault`, "
        "what it found, and what to do. It exits with 1 where there is a fault. It writes nothing but a probe in the data "
        "folder, which it removes, and may run beside a sidecar. It asks the upstream for its models, with the key of the "
        "configuration or of `--key-env`; it never shows a key."), (
        Table("", "", ("check", "what it looks at", "what to do where it is not so"), rows),
    ))


def cli_page(all_verbs: Sequence[Verb]) -> Page:
    tables = tuple(Table("moderation " + " ".join(verb.words), verb.help[:1].upper() + verb.help[1:] + ".",
                         ("argument", "what it does"), tuple(map(_argument, verb.arguments))) for verb in all_verbs)
    return Page("cli", "Commands", (
        "Results go to stdout, words for people to stderr. `--json` prints one object, or one a line. "
        "`moderation VERB --help` says the same as this page."), tables)


def _argument(argument: Argument) -> tuple[str, str]:
    options = argument.options
    meta = options.get("metavar") or ("|".join(map(str, options["choices"])) if options.get("choices") else "")
    shown = ", ".join(argument.flags) if argument.flags[0].startswith("-") else str(meta or argument.flags[0]).upper()
    takes = f" {meta}" if meta and argument.flags[0].startswith("-") else ""
    return f"`{shown}{takes}`", str(options.get("help") or "").replace("%%", "%")


def pages() -> tuple[Page, ...]:
    verbs = sorted(VERBS, key=lambda verb: verb.words)
    return settings_page(), codes_page(), metrics_page(), events_page(), doctor_page(), cli_page(verbs)


def files(root: Path) -> Iterator[tuple[Path, str]]:
    """Every generated file and its text, for a checkout at `root`."""
    for page in pages():
        yield root / "docs" / f"{page.name}.md", page.markdown()
        yield root / "moderation" / "pages" / f"{page.name}.html", page.html()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m moderation.docs", description="Write the reference pages.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is out of date")
    chosen = parser.parse_args(arguments)
    stale = [(path, text) for path, text in files(HERE.parent) if not path.is_file() or path.read_text("utf-8") != text]
    for path, text in stale:
        print(path.relative_to(HERE.parent))
        if not chosen.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    return 1 if stale and chosen.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
