"""Write a model's manifest.yaml: what is in the folder, what the heads mean, and how their scores are calibrated."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from classifiers.train.metrics import Rate
from classifiers.train.row import HEADS

UNLISTED = {"manifest.yaml", "card.md"}
TOKENS = 160  # the most that a call takes, specials among them
WINDOWS = {"input": 400, "answer": 100, "tokens": TOKENS}
PREFIXES = {"prompt": "query: ", "response": "passage: ", "tool_result": "passage: "}

Rates = Mapping[str, Mapping[str, Rate]]  # by level and language


class _Flow(list[Any]):
    """A list that is written on one line."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Flow, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=True))


def files(folder: Path) -> dict[str, dict[str, object]]:
    """sha256 and size of every file of a model but its manifest and card."""
    found = sorted(path for path in folder.iterdir() if path.is_file() and path.name not in UNLISTED)
    return {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size} for path in found}


def written(
    folder: Path,
    version: str,
    languages: Sequence[str],
    knots: Mapping[str, Sequence[tuple[float, float]]],
    levels: Mapping[str, float],
    heads: Mapping[str, Rates],
    union: Rates,
) -> str:
    """The manifest of the model in `folder`, as YAML."""
    engine = "ngram" if (folder / "weights.npz").exists() else "encoder"
    made = {
        "format": 1,
        "name": folder.resolve().name,
        "version": version,
        "engine": engine,
        "languages": _Flow(languages),
        "files": files(folder),
        "windows": dict(WINDOWS),
        "roles": dict(PREFIXES) if engine == "encoder" else dict.fromkeys(PREFIXES, ""),
        "heads": {
            head: {"category": head, "calibration": _Flow(_Flow(knot) for knot in knots[head]), "rates": _rates(heads[head])}
            for head in HEADS
        },
        "union": _rates(union),
        "harmless": {lang: rate.of for lang, rate in next(iter(union.values())).items()},
        "levels": dict(levels),
    }
    return _text(made)


def with_gate(text: str, said: Mapping[str, object], lost: Mapping[str, Rate], settled: Mapping[str, Rate]) -> str:
    """A manifest's text with a gate in it, in place of one that it has. Shares stand with their 95 % intervals."""
    held = text.partition("\ngate:\n")[0].rstrip("\n")
    plain = {key: _Flow(value) if isinstance(value, list) else value for key, value in said.items()}
    gate = {**plain, "lost": _shares(lost), "settled": _shares(settled)}
    return f"{held}\n{_text({'gate': gate})}"


def _text(made: Mapping[str, object]) -> str:
    return yaml.dump(dict(made), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100_000)


def _rates(rates: Rates) -> dict[str, dict[str, _Flow]]:
    """Each rate with its 95 % interval: [rate, low, high]."""
    return {level: _shares(by) for level, by in rates.items()}


def _shares(by: Mapping[str, Rate]) -> dict[str, _Flow]:
    return {name: _Flow(round(one, 5) for one in (rate.value, *rate.interval)) for name, rate in by.items()}


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a folder."""
    found: dict[str, Any] = yaml.safe_load((folder / "manifest.yaml").read_text("utf-8"))
    return found
