"""Put the logits of all heads on one scale, on which .5, .85 and .97 are where the union of the heads flags 5 %, 1 % and 0.2 % of
harmless text, in the stricter of English and Chinese; and write the manifest.

Every head flags the same share q of harmless text at a level, and q is the greatest for which their union stays within the
level's rate; no level asks for less than the odds in FLOORS. So the maximum over the heads ranks texts by how rare such a score
is among harmless ones, whatever the head. All of it is measured on `dev.jsonl`, with the quantised model, on plain rows of which
every head is known to be 0.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifiers.train import manifest, score
from classifiers.train.examples import Example, read
from classifiers.train.metrics import Floats, Rate, threshold_at
from classifiers.train.row import HEADS

# (score, rate of the union among harmless text). The three levels, and points between and below so that ranks are kept there.
POINTS = (
    (0.05, 0.6),
    (0.15, 0.4),
    (0.25, 0.25),
    (0.35, 0.15),
    (0.43, 0.08),
    (0.5, 0.05),
    (0.7, 0.025),
    (0.85, 0.01),
    (0.92, 0.005),
    (0.97, 0.002),
)
# (score, least logit). Rare among harmless texts is not enough: where a head is so sure of all development texts that one of 1 %
# is rare, a short greeting would reach a level. So a level also asks for odds: 3 to 7, 1 to 1, 4 to 1.
FLOORS = ((0.5, -0.85), (0.7, -0.4), (0.85, 0.0), (0.92, 0.7), (0.97, 1.39))
LEVELS = {"medium": 0.5, "high": 0.85, "critical": 0.97}
STRICT = ("en", "zh")
ALL = "all"  # texts of all languages of STRICT
EVASION = "evasion:"
APART = 1e-3  # least distance of two knots, in logits


@dataclass(frozen=True)
class Calibration:
    """By head, knots (logit, score), both rising; linear between, the ends clamp."""

    knots: Mapping[str, tuple[tuple[float, float], ...]]

    def scores(self, logits: Floats) -> Floats:
        """[texts, heads] on the calibrated scale."""
        made = [np.interp(logits[:, i], *np.array(self.knots[head], np.float64).T) for i, head in enumerate(HEADS)]
        return np.stack(made, axis=1)


def is_disguised(example: Example) -> bool:
    """An evasion: a text that was made hard to read."""
    return (example.slice or "").startswith(EVASION)


def harmless(examples: Sequence[Example]) -> dict[str, list[int]]:
    """Which examples measure false positives of the union, by language: every head known to be 0, and not an evasion."""
    found: dict[str, list[int]] = {}
    for number, one in enumerate(examples):
        if one.benign and not is_disguised(one):
            found.setdefault(one.lang, []).append(number)
    return found


def share_for(negatives: Sequence[Floats], rate: float) -> float:
    """The greatest per-head share q for which the union flags at most `rate` of each of `negatives` ([texts, heads])."""
    low, high = 0.0, rate
    if _fits(negatives, high, rate):
        return high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if _fits(negatives, middle, rate) else (low, middle)
    return low


def thresholds(negatives: Sequence[Floats], share: float) -> Floats:
    """By head, the least logit that flags at most `share` in every language."""
    each = [[threshold_at(some[:, head], share) for head in range(some.shape[1])] for some in negatives]
    made: Floats = np.max(np.array(each), axis=0)
    return made


def _fits(negatives: Sequence[Floats], share: float, rate: float) -> bool:
    at = thresholds(negatives, share)
    return all((some >= at).any(axis=1).mean() <= rate for some in negatives)


def calibrated(negatives: Sequence[Floats], everything: Floats) -> Calibration:
    """The scale, from the logits of harmless texts by language. `everything` ([texts, heads], any) says where the ends are."""
    lines = [(value, thresholds(negatives, share_for(negatives, rate))) for value, rate in POINTS]
    knots: dict[str, tuple[tuple[float, float], ...]] = {}
    for i, head in enumerate(HEADS):
        least = dict(FLOORS)
        line = [(max(float(at[i]), least.get(value, -math.inf)), value) for value, at in lines]
        top = max(float(everything[:, i].max()), line[-1][0] + 1.0)
        line = [(min(float(everything[:, i].min()), line[0][0] - 1.0), 0.0), *line, (top, 1.0)]
        knots[head] = _rising(line)
    return Calibration(knots)


def _rising(line: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """The same knots, each at least APART above the last: raising a threshold never flags more."""
    made: list[tuple[float, float]] = []
    for logit, value in line:
        logit = round(logit + 5e-5, 4)
        made.append((max(logit, round(made[-1][0] + APART, 4)) if made else logit, value))
    return tuple(made)


def rates(
    scores: Floats, members: Mapping[str, Sequence[int]], languages: Sequence[str]
) -> tuple[dict[str, dict[str, dict[str, Rate]]], dict[str, dict[str, Rate]]]:
    """Shares of harmless text at or above each level: by head, level and language; and of the union, by level and language."""
    heads: dict[str, dict[str, dict[str, Rate]]] = {head: {} for head in HEADS}
    union: dict[str, dict[str, Rate]] = {}
    for level, at in LEVELS.items():
        flagged = {lang: scores[list(members.get(lang, ()))] >= at for lang in languages}
        union[level] = {lang: Rate(int(some.any(axis=1).sum()), len(some)) for lang, some in flagged.items()}
        for i, head in enumerate(HEADS):
            heads[head][level] = {lang: Rate(int(some[:, i].sum()), len(some)) for lang, some in flagged.items()}
    return heads, union


def scores_of(folder: Path, rows: Sequence[Example]) -> Floats:
    """Calibrated scores of a model folder: [texts, heads]."""
    knots = {
        head: tuple((logit, value) for logit, value in one["calibration"]) for head, one in manifest.read(folder)["heads"].items()
    }
    return Calibration(knots).scores(score.logits(folder, rows))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.calibrate", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", type=Path, default=Path("classifiers/small"), help="folder of the model (default: %(default)s)"
    )
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"), help="folder of dev.jsonl (default: %(default)s)")
    parser.add_argument("--version", default="2026.11.24", help="the model's version (default: %(default)s)")
    given = parser.parse_args(argv)
    rows = read(given.corpus / "dev.jsonl")
    logits = score.logits(given.model, rows)
    members = harmless(rows)
    scale = calibrated([logits[members[lang]] for lang in STRICT], logits)
    members[ALL] = [at for lang in STRICT for at in members[lang]]
    heads, union = rates(scale.scores(logits), members, (*STRICT, ALL))
    text = manifest.written(given.model, given.version, STRICT, scale.knots, LEVELS, heads, union)
    (given.model / "manifest.yaml").write_text(text, "utf-8")
    for level, found in union.items():
        print(level, {lang: f"{rate} of {rate.of}" for lang, rate in found.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
