"""Train the encoder: one pass for all heads, unknown labels masked out of the loss, the embeddings and the lowest layers frozen.

Runs on a CPU in bfloat16 where that is fast. Every five minutes (--every) the whole state is written, and the same command goes
on from it. Seeds are fixed; the order of the batches depends on the seed alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from classifiers.train import batches, metrics
from classifiers.train.encoder import Encoder, Sizes
from classifiers.train.examples import UNKNOWN, Example, Labels, labels_of, read
from classifiers.train.manifest import PREFIXES, TOKENS
from classifiers.train.row import HEADS


@dataclass(frozen=True)
class Plan:
    """How a training goes. `power` and `most` as in batches.epoch and batches.positive_weights."""

    epochs: int = 1
    size: int = 64_000  # examples an epoch
    budget: int = 4096  # tokens a batch
    rate: float = 2.5e-4
    head_rate: float = 2e-3
    warmup: float = 0.06
    decay: float = 0.01
    dropout: float = 0.1
    frozen: int = 3  # layers, from below
    power: float = 0.6
    most: float = 4.0
    clip: float = 1.0
    seed: int = 20261124


@dataclass(frozen=True)
class Encoded:
    """Examples as numbers: token ids of each, their labels, and the class that each is balanced by."""

    ids: list[list[int]]
    labels: Labels
    classes: list[str]

    @property
    def lengths(self) -> batches.Ints:
        """Tokens of each example."""
        return np.array([len(one) for one in self.ids], np.int64)


def encoded(tokenizer: Tokenizer, examples: Sequence[Example]) -> Encoded:
    """With each role's prefix, cut at TOKENS (only training cuts: what runs makes windows)."""
    tokenizer.enable_truncation(TOKENS)
    ids: list[list[int]] = []
    for at in range(0, len(examples), 2000):
        some = [PREFIXES[one.role] + one.text for one in examples[at : at + 2000]]
        ids += [one.ids for one in tokenizer.encode_batch_fast(some)]
    classes = [f"{one.source} {one.lang} {'+'.join(head for head in HEADS if one.labels.get(head)) or '-'}" for one in examples]
    return Encoded(ids, labels_of(examples), classes)


def padded(ids: Sequence[Sequence[int]], pad: int = 1) -> tuple[Tensor, Tensor]:
    """input_ids and attention_mask of a batch."""
    longest = max(len(one) for one in ids)
    tensor = torch.tensor([[*one, *[pad] * (longest - len(one))] for one in ids])
    mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in ids])
    return tensor, mask


def masked_loss(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean binary cross-entropy over the known labels, a positive counting `weights` of its head."""
    known = labels != UNKNOWN
    each = functional.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).float(), pos_weight=weights, reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def load(folder: Path, dropout: float, layers: int) -> Encoder:
    """The encoder in a folder that trim or train wrote. A head that is not there yet begins at zero."""
    with safe_open(folder / "encoder.safetensors", "pt") as file:
        about = file.metadata() or {}
    state = load_file(folder / "encoder.safetensors")
    words, positions, wide = state["words.weight"], state["positions.weight"], state["layers.0.widen.weight"]
    heads, eps = int(about["heads"]), float(about["eps"])
    sizes = Sizes(words.shape[0], words.shape[1], layers, heads, wide.shape[0], positions.shape[0], eps, len(HEADS))
    model = Encoder(sizes, dropout)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    model.load_state_dict({name: value for name, value in state.items() if not _above(name, layers)}, strict=False)
    return model


def _above(name: str, layers: int) -> bool:
    parts = name.split(".")
    return parts[0] == "layers" and int(parts[1]) >= layers


def write(model: Encoder, folder: Path) -> None:
    """Write the encoder with its head to a folder."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "encoder.safetensors", {"eps": repr(model.sizes.eps), "heads": str(model.sizes.heads)})


def logits_of(model: Encoder, data: Encoded, autocast: bool) -> metrics.Floats:
    """[examples, heads], in the examples' order."""
    model.eval()
    made = np.zeros((len(data.ids), len(HEADS)), np.float64)
    order = np.argsort(data.lengths, kind="stable")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for chosen in batches.buckets(order, data.lengths, 8192, np.random.default_rng(0), len(order) or 1):
            made[chosen] = model(*padded([data.ids[i] for i in chosen])).numpy()
    model.train()
    return made


def optimizer_of(model: Encoder, plan: Plan) -> torch.optim.AdamW:
    """AdamW over what is trained; norms and biases do not decay; the head learns faster."""
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    head = [one for name, one in named if name.startswith("head.")]
    flat = [one for name, one in named if not name.startswith("head.") and one.ndim < 2]
    rest = [one for name, one in named if not name.startswith("head.") and one.ndim >= 2]
    groups = [
        {"params": rest, "lr": plan.rate, "weight_decay": plan.decay},
        {"params": flat, "lr": plan.rate, "weight_decay": 0.0},
        {"params": head, "lr": plan.head_rate, "weight_decay": plan.decay},
    ]
    return torch.optim.AdamW(groups, fused=True)


def schedule(plan: Plan, data: Encoded) -> list[batches.Ints]:
    """Every batch of the training, in order."""
    rng = np.random.default_rng(plan.seed)
    made: list[batches.Ints] = []
    for _ in range(plan.epochs):
        made += batches.buckets(batches.epoch(data.classes, plan.size, plan.power, rng), data.lengths, plan.budget, rng)
    return made


def train(model: Encoder, data: Encoded, plan: Plan, run: Path | None, every: float, autocast: bool) -> None:
    """Train in place, going on from the state in `run` when there is one."""
    torch.manual_seed(plan.seed)
    model.freeze(plan.frozen)
    model.train()
    steps = schedule(plan, data)
    optimizer = optimizer_of(model, plan)
    cosine = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: batches.warmed_cosine(step, len(steps), plan.warmup))
    weights = torch.tensor(batches.positive_weights(data.labels[np.concatenate(steps)], plan.most), dtype=torch.float32)
    print(
        f"{len(data.ids):,} examples, {len(steps):,} steps; a positive counts {[round(float(w), 1) for w in weights]}", flush=True
    )
    done = 0
    state = run / "state.pt" if run else None
    if state and state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        cosine.load_state_dict(saved["cosine"])
        torch.set_rng_state(saved["rng"])
        done = saved["done"]
    began = written = shown = time.monotonic()
    total = sum(int(data.lengths[chosen].max()) * len(chosen) for chosen in steps[done:])
    passed, mean = 0, 0.0
    for number in range(done, len(steps)):
        chosen = steps[number]
        ids, mask = padded([data.ids[i] for i in chosen])
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model(ids, mask)
        loss = masked_loss(logits, torch.from_numpy(data.labels[chosen]), weights)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_((one for one in model.parameters() if one.requires_grad), plan.clip)
        optimizer.step()
        cosine.step()
        passed += ids.numel()
        mean += (float(loss.detach()) - mean) * (0.02 if number - done > 50 else 1 / (number - done + 1))
        now = time.monotonic()
        if now - shown > 15 or number + 1 == len(steps):
            shown = now
            left = (total - passed) * (now - began) / passed
            print(
                f"step {number + 1}/{len(steps)}  loss {mean:.4f}  "
                f"{passed / (now - began):,.0f} tokens/s  {left / 60:.1f} min left",
                flush=True,
            )
        if state and now - written > every:
            written = now
            part = state.with_suffix(".part")
            torch.save(
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "cosine": cosine.state_dict(),
                    "rng": torch.get_rng_state(),
                    "done": number + 1,
                },
                part,
            )
            part.replace(state)


def main(argv: list[str] | None = None) -> int:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.train", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--corpus", type=Path, default=Path("build/corpus"), help="folder of train.jsonl and dev.jsonl (default: %(default)s)"
    )
    parser.add_argument(
        "--start", type=Path, default=Path("build/trimmed"), help="encoder and tokenizer to begin with (default: %(default)s)"
    )
    parser.add_argument(
        "--run", type=Path, default=Path("build/run"), help="folder for the state and the result (default: %(default)s)"
    )
    parser.add_argument("--layers", type=int, default=6, help="layers, from below (default: %(default)s)")
    parser.add_argument(
        "--frozen", type=int, default=plan.frozen, help="of them, so many keep what they are (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=plan.epochs, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=plan.size, help="examples an epoch (default: %(default)s)")
    parser.add_argument(
        "--rate", type=float, default=plan.rate, help="highest learning rate of the layers (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=plan.seed, help="(default: %(default)s)")
    parser.add_argument("--every", type=float, default=300.0, help="seconds between two checkpoints (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--fp32", action="store_true", help="no bfloat16: for a CPU that has no fast one")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    given.run.mkdir(parents=True, exist_ok=True)
    plan = Plan(epochs=given.epochs, size=given.size, rate=given.rate, frozen=given.frozen, seed=given.seed)
    tokenizer = Tokenizer.from_file(str(given.start / "tokenizer.json"))
    data = encoded(tokenizer, read(given.corpus / "train.jsonl"))
    model = load(given.start, plan.dropout, given.layers)
    train(model, data, plan, given.run, given.every, not given.fp32)
    write(model, given.run)
    (given.run / "tokenizer.json").write_bytes((given.start / "tokenizer.json").read_bytes())
    dev = encoded(tokenizer, read(given.corpus / "dev.jsonl"))
    found = metrics.by_head(logits_of(model, dev, not given.fp32), dev.labels)
    print(json.dumps({"dev AUPRC": {head: round(value, 4) for head, value in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
