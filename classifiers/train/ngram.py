"""Train the fallback: a linear model over character n-grams, one weight a bucket and head, in numpy, in about a minute.

logit[h] = bias[h] + scales[h] * (sum of weights[b, h] over the text's buckets b) / sqrt(how many buckets it has)
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifiers.train import batches, metrics
from classifiers.train.examples import UNKNOWN, Example, Labels, labels_of, read
from classifiers.train.features import Sparse, sparse
from classifiers.train.row import HEADS

Floats32 = npt.NDArray[np.float32]

ORDERS = (1, 2, 3, 4, 5)
BUCKETS = 1 << 18


@dataclass(frozen=True)
class Linear:
    """A trained model: weights int8 [buckets, heads], and by head their scale and a bias."""

    weights: npt.NDArray[np.int8]
    scales: Floats32
    bias: Floats32
    orders: tuple[int, ...]

    def logits(self, texts: Sparse) -> metrics.Floats:
        """[texts, heads]."""
        return np.asarray(_sums(self.weights.astype(np.float32), texts) * self.scales + self.bias, np.float64)

    def write(self, path: Path) -> None:
        """As npz, without pickle."""
        arrays = {"weights": self.weights, "scales": self.scales, "bias": self.bias, "orders": np.array(self.orders, np.int64)}
        np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def load(path: Path) -> Linear:
    """The model in an npz file. Raises ValueError where it holds anything pickled."""
    with np.load(path, allow_pickle=False) as held:
        return Linear(held["weights"], held["scales"], held["bias"], tuple(int(one) for one in held["orders"]))


def _sums(weights: Floats32, texts: Sparse) -> Floats32:
    """Sum of the weights of each text's buckets over the root of their number: [texts, heads]."""
    lengths = np.diff(texts.starts)
    gathered = weights[texts.buckets]
    sums = np.zeros((len(texts), weights.shape[1]), np.float32)
    filled = lengths > 0
    if filled.any():
        sums[filled] = np.add.reduceat(gathered, texts.starts[:-1][filled])
    return np.asarray(sums / np.sqrt(np.maximum(lengths, 1))[:, None], np.float32)


@dataclass(frozen=True)
class Plan:
    """How it is trained: AdaGrad on masked binary cross-entropy, batches of `batch` texts."""

    epochs: int = 4
    batch: int = 1024
    rate: float = 0.1
    decay: float = 1e-6
    power: float = 0.6
    most: float = 4.0
    seed: int = 20261124


def trained(texts: Sparse, labels: Labels, classes: list[str], buckets: int, orders: tuple[int, ...], plan: Plan) -> Linear:
    """A model of these texts. `classes` is what they are balanced by."""
    rng = np.random.default_rng(plan.seed)
    heads = labels.shape[1]
    weights, seen = np.zeros((buckets, heads), np.float32), np.full((buckets, heads), 1e-6, np.float32)
    bias, bias_seen = np.full(heads, -2.0, np.float32), np.full(heads, 1e-6, np.float32)
    counts = batches.positive_weights(labels, plan.most)
    for _ in range(plan.epochs):
        order = batches.epoch(classes, len(texts), plan.power, rng)
        for at in range(0, len(order), plan.batch):
            chosen = order[at : at + plan.batch]
            some, truth = texts.taken(chosen), labels[chosen]
            chance = 1 / (1 + np.exp(-np.clip(_sums(weights, some) + bias, -30, 30)))
            known = truth != UNKNOWN
            error = np.where(truth == 1, counts * (chance - 1), chance) * known / np.maximum(known.sum(0), 1)
            lengths = np.diff(some.starts)
            spread = np.repeat(error / np.sqrt(np.maximum(lengths, 1))[:, None], lengths, axis=0)
            for head in range(heads):
                slope = np.bincount(some.buckets, spread[:, head], buckets).astype(np.float32) + plan.decay * weights[:, head]
                seen[:, head] += slope * slope
                weights[:, head] -= plan.rate * slope / np.sqrt(seen[:, head])
            total = error.sum(0).astype(np.float32)
            bias_seen += total * total
            bias -= plan.rate * total / np.sqrt(bias_seen)
    scales = np.maximum(np.quantile(np.abs(weights), 0.9999, axis=0) / 127, 1e-9).astype(np.float32)
    return Linear(np.clip(np.rint(weights / scales), -127, 127).astype(np.int8), scales, bias, orders)


def classes_of(examples: list[Example]) -> list[str]:
    """What the examples are balanced by: source, language and what they are labelled with."""
    return [f"{one.source} {one.lang} {'+'.join(head for head in HEADS if one.labels.get(head)) or '-'}" for one in examples]


def main(argv: list[str] | None = None) -> int:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.ngram", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--corpus", type=Path, default=Path("build/corpus"), help="folder of train.jsonl and dev.jsonl (default: %(default)s)"
    )
    parser.add_argument("--to", type=Path, default=Path("classifiers/ngram"), help="folder of the model (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=plan.epochs, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=plan.rate, help="of AdaGrad (default: %(default)s)")
    parser.add_argument("--buckets", type=int, default=BUCKETS, help="(default: %(default)s)")
    given = parser.parse_args(argv)
    rows, dev = read(given.corpus / "train.jsonl"), read(given.corpus / "dev.jsonl")
    texts = sparse([one.text for one in rows], ORDERS, given.buckets)
    print(f"{len(rows):,} texts, {len(texts.buckets):,} features", flush=True)
    plan = Plan(epochs=given.epochs, rate=given.rate)
    made = trained(texts, labels_of(rows), classes_of(rows), given.buckets, ORDERS, plan)
    given.to.mkdir(parents=True, exist_ok=True)
    made.write(given.to / "weights.npz")
    found = metrics.by_head(made.logits(sparse([one.text for one in dev], ORDERS, given.buckets)), labels_of(dev))
    print(
        f"{(given.to / 'weights.npz').stat().st_size:,} bytes",
        json.dumps({"dev AUPRC": {k: round(v, 4) for k, v in found.items()}}),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
