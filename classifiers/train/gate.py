"""Measure how much the n-gram model may settle before the encoder is asked, and write that into the encoder's manifest.

The gate is what runs (moderation/detect/classifier/gate.py): the n-gram model's highest score in a text or a stretch of it. It is
put where at most LOST of the harmful development texts that the encoder flags at medium are settled, disguised ones among them,
in the stricter of English and Chinese: half of the 1 % that it may cost, for texts of other kinds lose more. To be run whenever
either model was trained or calibrated anew: calibrating writes a manifest without a gate, and one of another model is not used.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifiers.train import manifest
from classifiers.train.calibrate import LEVELS, STRICT, is_disguised, scores_of
from classifiers.train.examples import Example, read
from classifiers.train.metrics import Bools, Floats, Rate
from moderation.detect.classifier.gate import harm
from moderation.detect.classifier.manifest import read_manifest
from moderation.detect.classifier.ngram import Ngram
from moderation.verdict import FULL_SCORE

LOST = 0.005
MOST_LOST = 0.01  # of the upper ends of the intervals, for it to be used where a policy says nothing

PLAIN, DISGUISED, CHAT = "plain", "disguised", "benign_chat"


@dataclass(frozen=True)
class Cost:
    """Shares by kind of text and language."""

    lost: Mapping[str, Mapping[str, Rate]]
    """Of the harmful texts that the encoder flags at medium, those that are settled before it is asked."""
    settled: Mapping[str, Mapping[str, Rate]]
    """Of the harmless texts, those that are."""


def harms(folder: Path, rows: Sequence[Example]) -> Floats:
    """What the gate in a folder gives each text, from 0 to 1."""
    model = Ngram(read_manifest(folder))
    return np.array([harm(model, one.text) for one in rows], np.float64) / FULL_SCORE


def flagged(scores: Floats, rows: Sequence[Example]) -> Bools:
    """Harmful texts that the encoder flags at medium. `scores` [texts, heads]."""
    harmful = np.array([any(one.labels.values()) for one in rows], bool)
    return np.asarray(harmful & (scores.max(axis=1) >= LEVELS["medium"]), bool)


def threshold(scores: Floats, found: Floats, rows: Sequence[Example], share: float = LOST) -> float:
    """The greatest score for which what is below it is at most `share` of the flagged harmful texts of each language of STRICT.

    Rounded down to five places. Raises ValueError where a language has no such text.
    """
    hits, langs = flagged(scores, rows), np.array([one.lang for one in rows])
    bounds = []
    for lang in STRICT:
        ranked = np.sort(found[hits & (langs == lang)])
        if not len(ranked):
            raise ValueError(f"no harmful text in {lang} is flagged")
        bounds.append(ranked[int(len(ranked) * share)])
    return float(np.floor(min(bounds) * 1e5) / 1e5)


def cost(scores: Floats, found: Floats, below: float, rows: Sequence[Example]) -> Cost:
    """What a gate at `below` costs and spares, by kind and language."""
    hits, settled = flagged(scores, rows), found < below
    langs = np.array([one.lang for one in rows])
    disguised = np.array([is_disguised(one) for one in rows], bool)
    benign = np.array([one.benign for one in rows], bool)
    chat = np.array([one.slice == CHAT for one in rows], bool)

    def shares(kinds: Mapping[str, Bools]) -> dict[str, dict[str, Rate]]:
        return {
            name: {lang: Rate(int(settled[kind & (langs == lang)].sum()), int((kind & (langs == lang)).sum())) for lang in STRICT}
            for name, kind in kinds.items()
        }

    lost = shares({"all": hits, PLAIN: hits & ~disguised, DISGUISED: hits & disguised})
    return Cost(lost, shares({"all": benign, PLAIN: benign & ~disguised, DISGUISED: benign & disguised, CHAT: benign & chat}))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.gate", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, default=Path("classifiers/small"), help="folder of the encoder (default: %(default)s)"
    )
    parser.add_argument(
        "--gate", type=Path, default=Path("classifiers/ngram"), help="folder of the n-gram model (default: %(default)s)"
    )
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"), help="folder of dev.jsonl (default: %(default)s)")
    parser.add_argument("--lost", type=float, default=LOST, metavar="SHARE", help="what it may cost (default: %(default)s)")
    given = parser.parse_args(argv)
    rows = read(given.corpus / "dev.jsonl")
    scores, found = scores_of(given.model, rows), harms(given.gate, rows)
    below = threshold(scores, found, rows, given.lost)
    made = cost(scores, found, below, rows)
    lost, settled = made.lost["all"], made.settled[PLAIN]
    worth = all(rate.interval[1] < MOST_LOST for rate in lost.values())
    said = {
        "model": given.gate.resolve().name,
        "pin": read_manifest(given.gate).pin,
        "below": below,
        "default": worth,
        "languages": list(STRICT),
    }
    path = given.model / "manifest.yaml"
    path.write_text(manifest.with_gate(path.read_text("utf-8"), said, lost, settled), "utf-8")
    for what, by in (("lost", made.lost), ("settled", made.settled)):
        for name, rates in by.items():
            print(f"{what:8} {name:12} {'  '.join(f'{lang} {rate} of {rate.of}' for lang, rate in rates.items())}")
    print(f"below {below}, {'used' if worth else 'not used'} where a policy says nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
