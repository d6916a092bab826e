"""Write a model's card.md from its manifest, its evaluation and the sources of the corpus. No figure in it is typed by hand."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from classifiers.train import manifest
from classifiers.train.evaluate import Line, table
from classifiers.train.examples import Example, read
from classifiers.train.row import HEADS

TEXT: Mapping[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))


def sources_table(rows: Sequence[Example], licences: Mapping[str, str]) -> str:
    """Sources of the training rows with licence, languages and count, as Markdown."""
    counts: Counter[str] = Counter(one.source for one in rows)
    languages: dict[str, set[str]] = {}
    for one in rows:
        languages.setdefault(one.source, set()).add(one.lang)
    lines = ["| source | licence | languages | training rows |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {licences.get(name, 'see the corpus code')} | {' '.join(sorted(languages[name]))} | {counts[name]:,} |"
        for name in sorted(counts)
    ]
    return "\n".join(lines)


def rates_table(about: Mapping[str, Any]) -> str:
    """The manifest's rates of the union, as Markdown."""
    lines = ["| level | score | language | harmless development text flagged by any head, 95 % interval |", "|---|---|---|---|"]
    for level, by in about["union"].items():
        lines += [
            f"| {level} | {about['levels'][level]} | {lang} | {value:.2%} [{low:.2%}, {high:.2%}] |"
            for lang, (value, low, high) in by.items()
        ]
    return "\n".join(lines)


def gate_table(said: Mapping[str, Any]) -> str:
    """What the manifest says of a gate, as Markdown."""
    lines = ["| language | harmful texts flagged at medium that it settles | harmless texts that it settles |", "|---|---|---|"]
    for lang, lost in said["lost"].items():
        cells = (f"{value:.2%} [{low:.2%}, {high:.2%}]" for value, low, high in (lost, said["settled"][lang]))
        lines.append(f"| {lang} | {' | '.join(cells)} |")
    return "\n".join(lines)


def card(
    about: Mapping[str, Any], lines: Sequence[Line], rows: Sequence[Example], licences: Mapping[str, str], pieces: int, note: str
) -> str:
    """The card's text. `lines` are the evaluation's, `rows` the training rows, `pieces` the size of the vocabulary."""
    heads = "\n".join(f"- `{head}`: {TEXT['meanings'][head]}" for head in HEADS)
    megabytes = sum(int(one["bytes"]) for one in about["files"].values()) / 1e6
    languages = " and ".join(about["languages"])
    parts = [
        f"# {about['name']} {about['version']}\n\n{note}".rstrip(),
        f"A classifier of prompts and answers ({languages}), {megabytes:.1f} MB, seven heads:\n\n{heads}",
        f"## Intended use\n\n{TEXT['use']}",
        "## What it must not be trusted with\n\n" + "\n".join(f"- {one}" for one in TEXT["limits"]),
        f"## Method\n\n{TEXT['method'][about['engine']].format(pieces=f'{pieces:,}')}",
        f"## Levels\n\n{TEXT['levels']}\n\n{rates_table(about)}",
        *([f"## Gate\n\n{TEXT['gate']}\n\n{gate_table(about['gate'])}"] if "gate" in about else []),
        f"## Evaluation\n\n{TEXT['evaluation']}\n\n{table(lines)}",
        f"## Training data\n\n{len(rows):,} rows, disguised copies among them. Texts of held-out sets were dropped.\n\n"
        + sources_table(rows, licences),
    ]
    return "\n\n".join(parts) + "\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.card", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, default=Path("classifiers/small"), help="folder of the model (default: %(default)s)"
    )
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"), help="folder of train.jsonl (default: %(default)s)")
    parser.add_argument("--eval", type=Path, default=Path("build/eval"), help="where evaluate wrote (default: %(default)s)")
    parser.add_argument("--note", default="", help="a sentence to put on top")
    given = parser.parse_args(argv)
    from classifiers.train.sources import SOURCES

    about = manifest.read(given.model)
    lines = [Line(**one) for one in json.loads((given.eval / f"{given.model.resolve().name}.json").read_text("utf-8"))]
    words = given.model / "tokenizer.json"
    pieces = len(json.loads(words.read_text("utf-8"))["model"]["vocab"]) if words.exists() else 0
    text = card(about, lines, read(given.corpus / "train.jsonl"), {one.name: one.licence for one in SOURCES}, pieces, given.note)
    (given.model / "card.md").write_text(text, "utf-8")
    print(f"{given.model / 'card.md'}: {len(text):,} characters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
