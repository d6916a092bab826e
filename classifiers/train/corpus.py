"""Build the corpus: read all sources, drop what is held out, join near-duplicates, split, write, count.

python -m classifiers.train.corpus --data ../shared/data --out build/corpus
python -m classifiers.train.corpus --data ../shared/data --out build/corpus --check
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from pathlib import Path

from classifiers.train import evasions
from classifiers.train.check import problems
from classifiers.train.heldout import is_held_out, read_keys
from classifiers.train.near import group_numbers
from classifiers.train.row import Role, Row, Source, Split
from classifiers.train.sources import SOURCES
from classifiers.train.splits import fraction, split_of
from classifiers.train.windows import flat, windows

MOST_WINDOWS = 2
SHORTEST = 3


def source_rows(source: Source, data: Path, keys: Set[str]) -> Iterator[Row]:
    """The rows of a source as flat windows, without those any of whose fields is held out.

    Raises ValueError when the reader gives a label that its source does not declare.
    """
    for row in source.read(data):
        for head, value in row.labels.items():
            if head not in (source.positive if value else source.negative):
                raise ValueError(f"{source.name}: label {head}={value} is not declared")
        if is_held_out((row.text, *row.also), keys):
            continue
        # An unsafe answer need not be unsafe in its later parts.
        most = 1 if row.role is Role.RESPONSE and any(row.labels.values()) else MOST_WINDOWS
        for text in windows(flat(row.text), most):
            if len(text) >= SHORTEST and not is_held_out((text,), keys):
                group = row.group or f"{source.name}:{_digest(row.text)}"
                yield replace(row, text=text, group=group)


def capped(source: Source, rows: Iterable[Row]) -> Iterator[Row]:
    """At most `cap` rows of each (language, positive or not), chosen by a stable hash; those with a pin to test stay."""
    if source.cap is None:
        yield from rows
        return
    classes: dict[tuple[str, bool], list[Row]] = {}
    for row in rows:
        classes.setdefault((row.lang, any(row.labels.values())), []).append(row)
    for members in classes.values():
        members.sort(key=lambda row: fraction(row.text, "cap"))
        yield from members[: source.cap]


def merged(rows: Iterable[Row]) -> list[Row]:
    """The rows without exact duplicates of text and role: labels are joined, and a head they differ in is unknown."""
    kept: dict[tuple[str, str], Row] = {}
    disputed: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        at = (row.role, row.text.casefold())
        old = kept.get(at)
        if old is None:
            kept[at] = row
            continue
        clash = disputed.setdefault(at, set())
        clash |= {head for head in old.labels.keys() & row.labels.keys() if old.labels[head] != row.labels[head]}
        labels = {head: value for head, value in {**row.labels, **old.labels}.items() if head not in clash}
        kept[at] = replace(old, labels=labels, slice=old.slice or row.slice, pin=old.pin or row.pin)
    return [row for row in kept.values() if row.labels]


def _digest(text: str) -> str:
    """A name for a text: of its very signs, since a text of emoji alone has an empty normal form."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def placed(rows: list[Row]) -> dict[Split, list[Row]]:
    """The rows by split; each row's `group` is now the name of its near-duplicate group."""
    numbers = group_numbers([row.text for row in rows], [row.group for row in rows])
    members: dict[int, list[int]] = {}
    for at, number in enumerate(numbers):
        members.setdefault(number, []).append(at)
    splits: dict[Split, list[Row]] = {split: [] for split in Split}
    for at_rows in members.values():
        name = min(_digest(rows[at].text) for at in at_rows)
        split = split_of(name, (rows[at].pin for at in at_rows))
        splits[split] += [replace(rows[at], group=name) for at in at_rows]
    for members_of in splits.values():
        members_of.sort(key=lambda row: (fraction(row.text, "order"), row.text, row.role))
    return splits


def build(data: Path) -> dict[Split, list[Row]]:
    """The whole corpus, by split, with the evasions added."""
    keys = read_keys(data / "heldout_sha256.txt")
    rows: list[Row] = []
    for source in SOURCES:
        own = list(capped(source, source_rows(source, data, keys)))
        if not own:
            raise ValueError(f"{source.name}: no row")
        print(f"{source.name}: {len(own)} rows", file=sys.stderr)
        rows += own
    splits = placed(merged(rows))
    return {split: evasions.with_evasions(members, split) for split, members in splits.items()}


def record(row: Row) -> dict[str, object]:
    """A row as it is written."""
    return {
        "text": row.text,
        "role": row.role,
        "lang": row.lang,
        "labels": dict(row.labels),
        "source": row.source,
        "group": row.group,
        "slice": row.slice,
    }


def table(splits: dict[Split, list[Row]]) -> str:
    """Counts as lines of tab-separated cells: source, head, language, and zeros and ones in each split."""
    counts: Counter[tuple[str, str, str, Split, int]] = Counter()
    for split, rows in splits.items():
        for row in rows:
            for head, value in row.labels.items():
                counts[row.source, head, row.lang, split, value] += 1
                counts["(all)", head, row.lang, split, value] += 1
    lines = ["\t".join(("source", "head", "lang", *(f"{split}:{value}" for split in Split for value in (0, 1))))]
    for source, head, lang in sorted({(source, head, lang) for source, head, lang, _, _ in counts}):
        cells = (str(counts[source, head, lang, split, value]) for split in Split for value in (0, 1))
        lines.append("\t".join((source, head, lang, *cells)))
    return "\n".join(lines) + "\n"


def slices(splits: dict[Split, list[Row]]) -> str:
    """Counts of each slice by language in the test split."""
    counts = Counter((row.slice or "(none)", row.lang) for row in splits[Split.TEST])
    return "".join(f"{name}\t{lang}\t{count}\n" for (name, lang), count in sorted(counts.items()))


def write(splits: dict[Split, list[Row]], out: Path) -> None:
    """Write the three files and the tables of counts."""
    out.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        with (out / f"{split}.jsonl").open("w", encoding="utf-8") as lines:
            lines.writelines(json.dumps(record(row), ensure_ascii=False) + "\n" for row in rows)
    (out / "counts.tsv").write_text(table(splits), encoding="utf-8")
    (out / "slices.tsv").write_text(slices(splits), encoding="utf-8")


def main() -> int:
    """Build the corpus, or check the one that is there."""
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.corpus", description="Build or check the corpus.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the raw sources")
    parser.add_argument("--out", type=Path, default=Path("build/corpus"), help="folder of train, dev and test.jsonl")
    parser.add_argument("--check", action="store_true", help="build nothing: check the files in --out")
    arguments = parser.parse_args()
    if arguments.check:
        found = problems(arguments.out, read_keys(arguments.data / "heldout_sha256.txt"))
        for line in found:
            print(line)
        print("the corpus has problems" if found else "the corpus is sound")
        return 1 if found else 0
    splits = build(arguments.data)
    write(splits, arguments.out)
    print(slices(splits), end="")
    for split, rows in splits.items():
        print(f"{split}\t{len(rows)} rows\t{len({row.group for row in rows})} groups")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
