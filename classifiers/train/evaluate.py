"""Evaluate models on `test.jsonl`, which is neither trained nor tuned on, and print one table."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from classifiers.train import gate, keywords, manifest, metrics
from classifiers.train.calibrate import EVASION, LEVELS, is_disguised, scores_of
from classifiers.train.examples import UNKNOWN, Example, labels_of, read
from classifiers.train.metrics import Bools, Floats, Rate
from classifiers.train.row import HEADS

LANGUAGES = ("en", "zh")
SLICES = ("benign_chat", "scary_harmless", "identity", "code_security")
HARMFUL = "harmful_instructions"
RESAMPLES = 200


@dataclass(frozen=True)
class Line:
    """One measurement: of what, which language, named values as they are printed, and counts of harmful and harmless texts."""

    part: str
    name: str
    lang: str
    harmful: int
    harmless: int
    values: Mapping[str, str]


def heads(scores: Floats, rows: Sequence[Example]) -> Iterator[Line]:
    """Each head by language, over the plain rows that know it."""
    labels = labels_of(rows)
    plain = np.array([not is_disguised(one) for one in rows], bool)
    for number, head in enumerate(HEADS):
        for lang in LANGUAGES:
            known = plain & (labels[:, number] != UNKNOWN) & np.array([one.lang == lang for one in rows], bool)
            truth, found = labels[known, number] == 1, scores[known, number]
            harmful, harmless = int(truth.sum()), int((~truth).sum())
            if not harmful or not harmless:
                yield Line("head", head, lang, harmful, harmless, {"AUPRC": "-"})
                continue
            low, high = _interval(found, truth)
            flagged = found >= LEVELS["medium"]
            yield Line(
                "head",
                head,
                lang,
                harmful,
                harmless,
                {
                    "AUPRC": f"{metrics.auprc(found, truth):.3f} [{low:.3f}, {high:.3f}]",
                    "F1 at .5": f"{metrics.f1(flagged, truth):.3f}",
                    "recall at .5": str(Rate(int((flagged & truth).sum()), harmful)),
                    "false pos. at .5": str(Rate(int((flagged & ~truth).sum()), harmless)),
                    "accuracy at .5": f"{float((flagged == truth).mean()):.3f}",
                    "recall at 1 %": str(metrics.recall_at(found, truth, 0.01)),
                    "recall at 5 %": str(metrics.recall_at(found, truth, 0.05)),
                },
            )


def _interval(found: Floats, truth: Bools) -> tuple[float, float]:
    """95 % of AUPRC over resampled texts, with a fixed seed."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        at = rng.integers(0, len(found), len(found))
        values.append(metrics.auprc(found[at], truth[at]))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def slices(scores: Floats, rows: Sequence[Example]) -> Iterator[Line]:
    """Share of each harmless slice that the union of the heads flags, at each level."""
    for name in SLICES:
        for lang in LANGUAGES:
            at = [i for i, one in enumerate(rows) if one.slice == name and one.lang == lang and not any(one.labels.values())]
            if at:
                most = scores[at].max(axis=1)
                values = {
                    f"flagged at {level}": str(Rate(int((most >= bound).sum()), len(at))) for level, bound in LEVELS.items()
                }
                yield Line("harmless slice", name, lang, 0, len(at), values)


def instructions(scores: Floats, rows: Sequence[Example]) -> Iterator[Line]:
    """Recall of harmful instructions by the union of the heads: at .5, and where 5 % of harmless test text is flagged."""
    for lang in LANGUAGES:
        bad = scores[[i for i, one in enumerate(rows) if one.slice == HARMFUL and one.lang == lang]]
        good = scores[[i for i, one in enumerate(rows) if one.benign and one.lang == lang and not is_disguised(one)]]
        if len(bad) and len(good):
            worst = bad.max(axis=1)
            bound = metrics.threshold_at(good.max(axis=1), 0.05)
            values = {
                "recall at .5": str(Rate(int((worst >= LEVELS["medium"]).sum()), len(bad))),
                "false pos. at .5": str(Rate(int((good.max(axis=1) >= LEVELS["medium"]).sum()), len(good))),
                "recall at 5 %": str(Rate(int((worst >= bound).sum()), len(bad))),
            }
            yield Line(HARMFUL, "union", lang, len(bad), len(good), values)


def evasions(scores: Floats, rows: Sequence[Example]) -> Iterator[Line]:
    """Each evasion: how much of its harmful text the union of the heads still flags at .5, and of its harmless text."""
    for name in sorted({one.slice for one in rows if one.slice and one.slice.startswith(EVASION)}):
        for lang in LANGUAGES:
            at = [i for i, one in enumerate(rows) if one.slice == name and one.lang == lang]
            bad = [i for i in at if any(rows[i].labels.values())]
            good = [i for i in at if not any(rows[i].labels.values())]
            if at:
                hit, false = (
                    Rate(int((scores[some].max(axis=1) >= LEVELS["medium"]).sum()) if some else 0, len(some))
                    for some in (bad, good)
                )
                yield Line(
                    "evasion",
                    name.removeprefix(EVASION),
                    lang,
                    len(bad),
                    len(good),
                    {"recall at .5": str(hit), "false pos. at .5": str(false)},
                )


def settled(scores: Floats, harms: Floats, below: float, rows: Sequence[Example]) -> Iterator[Line]:
    """What a gate costs that settles texts of which the n-gram model scores less than `below`, and how much it settles."""
    cost = gate.cost(scores, harms, below, rows)
    for name in dict.fromkeys((*cost.lost, *cost.settled)):
        lost, spared = cost.lost.get(name, {}), cost.settled.get(name, {})
        for lang in dict.fromkeys((*lost, *spared)):
            hit, free = lost.get(lang, Rate(0, 0)), spared.get(lang, Rate(0, 0))
            yield Line(
                "gate", name, lang, hit.of, free.of, {"lost of the flagged": str(hit), "settled of the harmless": str(free)}
            )


def measured(scores: Floats, rows: Sequence[Example]) -> list[Line]:
    """Every line of the table."""
    return [*heads(scores, rows), *slices(scores, rows), *instructions(scores, rows), *evasions(scores, rows)]


def table(lines: Sequence[Line]) -> str:
    """The lines as Markdown, one table a part."""
    made = []
    for part in dict.fromkeys(line.part for line in lines):
        some = [line for line in lines if line.part == part]
        columns = list(dict.fromkeys(name for line in some for name in line.values))
        rows = [[part, "language", "harmful", "harmless", *columns]]
        rows += [
            [one.name, one.lang, str(one.harmful), str(one.harmless), *(one.values.get(name, "-") for name in columns)]
            for one in some
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
        made.append("\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]]))
    return "\n\n".join(made)


def beside(every: Mapping[str, Sequence[Line]]) -> str:
    """Recall and false positives at .5 of all models by head and language, and of their unions on harmful instructions."""
    made: dict[tuple[str, str, str], Line] = {}
    for name, lines in every.items():
        for line in lines:
            if line.part in ("head", HARMFUL) and "recall at .5" in line.values:
                key = ("side by side", line.name if line.part == "head" else HARMFUL, line.lang)
                values = {f"{name}: recall": line.values["recall at .5"], f"{name}: false pos.": line.values["false pos. at .5"]}
                held = made[key].values if key in made else {}
                made[key] = Line(*key, line.harmful, line.harmless, {**held, **values})
    return table(list(made.values()))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument(
        "models", type=Path, nargs="*", default=[Path("classifiers/small"), Path("classifiers/ngram")], help="folders of models"
    )
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"), help="folder of test.jsonl (default: %(default)s)")
    parser.add_argument(
        "--to", type=Path, default=Path("build/eval"), help="folder for the tables, also as JSON (default: %(default)s)"
    )
    parser.add_argument(
        "--keywords", type=Path, default=keywords.FILE, help="the list of words that is the floor (default: %(default)s)"
    )
    given = parser.parse_args(argv)
    rows = read(given.corpus / "test.jsonl")
    given.to.mkdir(parents=True, exist_ok=True)
    every = {}
    for folder in given.models:
        scores = scores_of(folder, rows)
        lines = measured(scores, rows)
        said = manifest.read(folder).get("gate")
        if said is not None:
            lines += settled(scores, gate.harms(folder.parent / said["model"], rows), said["below"], rows)
        every[folder.resolve().name] = lines
    every["keywords"] = measured(keywords.scores(keywords.read(given.keywords), rows), rows)
    for name, lines in every.items():
        (given.to / f"{name}.json").write_text(json.dumps([asdict(line) for line in lines], indent=1), "utf-8")
        print(f"## {name}, {len(rows):,} test texts\n\n{table(lines)}\n", flush=True)
    print(f"## side by side\n\n{beside(every)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
