"""Which examples an epoch holds and how they are put into batches: balanced by source, short with short."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from classifiers.train.examples import Labels

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def epoch(classes: Sequence[str], size: int, power: float, rng: np.random.Generator) -> Ints:
    """Indices of `size` examples in random order; a class of n examples gets a share in proportion to n ** power.

    With power 1 each example is as likely as any other; with less, small classes come oftener. Within a class the examples are
    taken in turn, so that none comes twice before each came once.
    """
    names, numbers = np.unique(np.asarray(classes), return_inverse=True)
    counts = np.bincount(numbers, minlength=len(names))
    shares = counts**power / (counts**power).sum()
    wanted = np.floor(shares * size).astype(np.int64)
    wanted[np.argsort(-shares)[: size - int(wanted.sum())]] += 1
    chosen = []
    for number, want in enumerate(wanted):
        members = np.flatnonzero(numbers == number)
        turns = [rng.permutation(members) for _ in range(-(-int(want) // len(members)))]
        chosen.append(np.concatenate([*turns, np.empty(0, np.int64)])[:want].astype(np.int64))
    return rng.permutation(np.concatenate(chosen))


def buckets(order: Ints, lengths: Ints, budget: int, rng: np.random.Generator, pool: int = 4096) -> list[Ints]:
    """Batches of examples of like lengths, each of at most `budget` tokens with its padding (or of one example), in random order.

    Within each `pool` of examples that follow each other in `order` they are sorted by length.
    """
    made: list[Ints] = []
    for at in range(0, len(order), pool):
        held = order[at : at + pool]
        held = held[np.argsort(lengths[held], kind="stable")]
        start = 0
        for end in range(1, len(held) + 1):
            if end == len(held) or (end + 1 - start) * lengths[held[end]] > budget:
                made.append(held[start:end])
                start = end
    return [made[i] for i in rng.permutation(len(made))]


def positive_weights(labels: Labels, most: float) -> Floats:
    """By head, what a positive counts for beside a negative: the root of their ratio, within 1 and `most`."""
    ones, zeros = (labels == 1).sum(0), (labels == 0).sum(0)
    weights: Floats = np.clip(np.sqrt(zeros / np.maximum(ones, 1)), 1.0, most)
    return weights


def warmed_cosine(step: int, steps: int, warmup: float) -> float:
    """The learning rate's factor at a step: up to 1 over the first share `warmup` of the steps, then down a cosine to 0."""
    rise = max(1, int(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return float(0.5 * (1 + np.cos(np.pi * (step - rise) / max(1, steps - rise))))
