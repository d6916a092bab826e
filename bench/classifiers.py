"""What the small model that ships costs, and how much of it cache and gate spare: `python -m bench.classifiers`.

CPU time of one thread for texts of 32 and 128 tokens, with all that a text goes through (tokenizer, call, calibration), beside
the same weights in torch as floats, where torch is there and `--run` names the folder that the training wrote. Then what share of
the windows that requests bring is settled before the encoder: by the cache, in chats that send their whole history at every turn,
and by the gate, with what that loses of the harmful test texts that the encoder flags. Needs the corpus for the second part.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import machine, row
from bench.run import ROOT
from classifiers.train import gate as measured
from classifiers.train.examples import Example, read
from moderation.detect.api import Passage, Windowed
from moderation.detect.classifier import Classifier, Model, gated, load, scores
from moderation.detect.classifier.gate import harm
from moderation.detect.classifier.manifest import Manifest, read_manifest
from moderation.detect.classifier.ngram import Ngram
from moderation.detect.legible import Legible
from moderation.detect.run import Runner
from moderation.detect.run.cache import Cache
from moderation.sentence import INPUT_WINDOW, windows
from moderation.text import Role

SIZES = (32, 128)
SENTENCE = (
    "The committee met on Tuesday and agreed on the plan for the new library, which will open its doors to all who live "
    "here in the spring of next year. "
)
CACHE = 64 << 20


@dataclass(frozen=True)
class Took:
    """CPU milliseconds a text, of one thread."""

    tokens: int
    calls: int
    middle: float
    slow: float

    @property
    def figures(self) -> dict[str, float]:
        return {
            "tokens": self.tokens,
            "calls": self.calls,
            "cpu_ms_p50": round(self.middle, 3),
            "cpu_ms_p95": round(self.slow, 3),
            "texts_per_second_per_core": round(1000 / self.middle, 1) if self.middle else 0.0,
        }


def took(work: Callable[[], object], tokens: int, seconds: float) -> Took:
    """Do it for so long, at least once, and once before that for nothing."""
    work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        begun = time.process_time()
        work()
        times.append((time.process_time() - begun) * 1000)
    times.sort()
    return Took(tokens, len(times), times[len(times) // 2], times[min(len(times) - 1, len(times) * 95 // 100)])


def text_of(size: int, count: Callable[[str], int]) -> str:
    """The longest ordinary text that takes no more than so many tokens."""
    words: list[str] = []
    ordinary = SENTENCE.split()
    while count(" ".join(words)) <= size:
        words.append(ordinary[len(words) % len(ordinary)])
    return " ".join(words[:-1])


def speeds(folder: Path, model: Model, seconds: float, run: Path | None, layers: int) -> tuple[dict[str, list[Took]], str]:
    """By what runs it, and in words why the floats were not measured."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    prefix = model.manifest.roles[Role.PROMPT]
    texts = [text_of(size, lambda text: len(tokenizer.encode(prefix + text).ids)) for size in SIZES]
    ids = [tokenizer.encode(prefix + text).ids for text in texts]
    name = f"{model.manifest.name}, {model.runtime}"
    found = {
        name: [
            took(lambda one=one: scores(model, Passage(one)), len(some), seconds)  # type: ignore[misc]
            for one, some in zip(texts, ids, strict=True)
        ]
    }
    if run is None:
        return found, "no --run: the weights in floats are not shipped"
    try:
        import torch

        from classifiers.train.train import load as floats
    except ImportError as error:
        return found, f"{error.name} is not installed"
    torch.set_num_threads(1)
    exact = floats(run, 0.0, layers).eval()
    rows: list[Took] = []
    for some in ids:
        given = torch.tensor([some]), torch.ones(1, len(some), dtype=torch.long)
        with torch.inference_mode():
            rows.append(took(lambda given=given: exact(*given), len(some), seconds))  # type: ignore[misc]
    return found | {f"torch {torch.__version__}, floats of 32 bits": rows}, ""


def gate_speed(gate: Ngram, model: Model, folder: Path, seconds: float) -> list[Took]:
    from tokenizers import Tokenizer

    tokenizer, prefix = Tokenizer.from_file(str(folder / "tokenizer.json")), model.manifest.roles[Role.PROMPT]
    made = []
    for size in SIZES:
        text = text_of(size, lambda one: len(tokenizer.encode(prefix + one).ids))
        made.append(took(lambda one=text: harm(gate, one), len(tokenizer.encode(prefix + text).ids), seconds))  # type: ignore[misc]
    return made


@dataclass
class Counted:
    """A window detector that counts what it is asked about."""

    inner: Windowed
    asked: int = field(default=0)

    def __post_init__(self) -> None:
        self.id, self.version, self.batch = self.inner.id, self.inner.version, self.inner.batch

    def detect(self, passages: Sequence[Passage]) -> Sequence[Any]:
        self.asked += len(passages)
        return self.inner.detect(passages)


@dataclass(frozen=True)
class Spared:
    """Of chats that send their whole history at every turn. Counts of windows; `read` and `dear` count readings of them."""

    brought: int
    missed: int
    read: int
    dear: int

    @property
    def figures(self) -> dict[str, float]:
        cache = 1 - self.missed / self.brought
        gate = 1 - self.dear / self.read if self.read else 0.0
        return {
            "windows": self.brought,
            "by_cache": round(cache, 4),
            "by_gate_of_the_rest": round(gate, 4),
            "asked_of_the_encoder": round((1 - cache) * (1 - gate), 4),
        }


async def chats(model: Model, found: Manifest, gate: Manifest | None, texts: Sequence[str], turns: int) -> Spared:
    """Chats of `turns` texts each, judged as a sidecar judges them."""
    last = Counted(Classifier("m", model))
    first = Counted(gated(last, found, gate)) if gate is not None else last
    outer = Counted(Legible(first, found.languages))
    runner = Runner({"m": outer}, {"m": 60.0}, cache=Cache(CACHE))
    brought = 0
    try:
        for start in range(0, len(texts) - turns + 1, turns):
            for turn in range(1, turns + 1):
                history = texts[start : start + turn]
                brought += sum(len(windows(text, INPUT_WINDOW)) for text in history)
                await runner.examine(history, frozenset(("m",)), f"chat {start}", INPUT_WINDOW)
    finally:
        await runner.end()
        runner.close()
    return Spared(brought, outer.asked, first.asked, last.asked)


def costs(model: Model, gate: Ngram, below: float, rows: Sequence[Example]) -> measured.Cost:
    """What the gate loses and settles of labelled texts, each asked of both models."""
    every = np.array([[max(scores(model, Passage(one.text, Role(one.role))).values())] for one in rows], np.float64) / 1e6
    found = np.array([harm(gate, one.text) for one in rows], np.float64) / 1e6
    return measured.cost(every, found, below, rows)


def report(
    head: Mapping[str, str],
    speed: Mapping[str, Sequence[Took]],
    why: str,
    spared: Spared | None,
    cost: measured.Cost | None,
    below: float | None,
) -> tuple[str, dict[str, Any]]:
    """The result as Markdown and as JSON."""
    lines = [
        f"# Small models, {head['date']}",
        "",
        *(f"- {key}: {value}" for key, value in head.items() if key != "date"),
        "",
        "## CPU time of a text, one thread",
        "",
        row(("what", "tokens", "p50 ms", "p95 ms", "texts/s a core", "of the encoder's time")),
        "|---|---|---|---|---|---|",
    ]
    first = next(iter(speed.values()))
    for name, some in speed.items():
        for one, base in zip(some, first, strict=True):
            per = one.figures["texts_per_second_per_core"]
            share = f"{one.middle / base.middle:.2f}" if base.middle else ""
            lines.append(row((name, str(one.tokens), f"{one.middle:.2f}", f"{one.slow:.2f}", f"{per:.0f}", share)))
    if why:
        lines += ["", f"Torch was not measured: {why}."]
    body: dict[str, Any] = {**head, "speed": {name: [one.figures for one in some] for name, some in speed.items()}}
    if spared is not None:
        said = body["spared"] = spared.figures
        lines += [
            "",
            "## Windows settled before the encoder, in chats that send their history at every turn",
            "",
            row(("windows", "by the cache", "of the rest by the gate", "asked of the encoder")),
            "|---|---|---|---|",
            row(
                (
                    str(spared.brought),
                    f"{said['by_cache']:.1%}",
                    f"{said['by_gate_of_the_rest']:.1%}",
                    f"{said['asked_of_the_encoder']:.1%}",
                )
            ),
        ]
    if cost is not None:
        lines += [
            "",
            f"## The gate at {below:g}, on test texts",
            "",
            row(("texts", "language", "lost of the harmful that the encoder flags", "settled of the harmless")),
            "|---|---|---|---|",
        ]
        for name in dict.fromkeys((*cost.lost, *cost.settled)):
            for lang in dict.fromkeys((*cost.lost.get(name, {}), *cost.settled.get(name, {}))):
                lost, free = cost.lost.get(name, {}).get(lang), cost.settled.get(name, {}).get(lang)
                lines.append(
                    row((name, lang, *(f"{one} of {one.of}" if one is not None and one.of else "-" for one in (lost, free))))
                )
        body["gate"] = {
            "below": below,
            **{
                what: {name: {lang: [rate.hits, rate.of] for lang, rate in by.items()} for name, by in rates.items()}
                for what, rates in (("lost", cost.lost), ("settled", cost.settled))
            },
        }
    elif spared is not None:
        lines += ["", "The model has no gate."]
    return "\n".join(lines) + "\n", body


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.classifiers", description="What the small model costs, and what spares it."
    )
    parser.add_argument("--model", type=Path, default=ROOT / "classifiers" / "small", metavar="DIR", help="folder of the encoder")
    parser.add_argument(
        "--gate", type=Path, default=ROOT / "classifiers" / "ngram", metavar="DIR", help="folder of the n-gram model"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="folder with the same weights in floats, as the training wrote them"
    )
    parser.add_argument("--layers", type=int, default=6, help="of them (default: 6)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each length (default: 5)")
    parser.add_argument("--corpus", type=Path, default=ROOT / "build" / "corpus", metavar="DIR", help="folder of test.jsonl")
    parser.add_argument("--rows", type=int, default=6000, help="test texts for the gate, evenly from all (default: 6000; 0: all)")
    parser.add_argument("--chats", type=int, default=30, help="chats of ordinary test texts (default: 30)")
    parser.add_argument("--turns", type=int, default=10, help="of each (default: 10)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results", metavar="DIR", help="where the result is kept")
    chosen = parser.parse_args(arguments)
    found, about = read_manifest(chosen.model), read_manifest(chosen.gate)
    model, ngram = load(chosen.model)[0], load(chosen.gate)[0]
    assert isinstance(ngram, Ngram)
    speed, why = speeds(chosen.model, model, chosen.seconds, chosen.run, chosen.layers)
    speed[f"the gate ({about.name}, {ngram.runtime})"] = gate_speed(ngram, model, chosen.model, chosen.seconds)
    spared, cost = None, None
    if (path := chosen.corpus / "test.jsonl").exists():
        rows = read(path)
        calm = [one.text for one in rows if one.slice == measured.CHAT and one.lang in found.languages]
        some = calm[:: max(1, len(calm) // max(1, chosen.chats * chosen.turns))][: chosen.chats * chosen.turns]
        spared = asyncio.run(chats(model, found, about if found.gate is not None else None, some, min(chosen.turns, len(some))))
        if found.gate is not None:
            step = max(1, len(rows) // chosen.rows) if chosen.rows else 1
            cost = costs(model, ngram, found.gate.below / 1e6, rows[::step])
    else:
        print(f"bench: there is no {path}: cache and gate are not measured", file=sys.stderr)
    head = {
        **machine(ROOT),
        "model": f"{found.name} {found.version}, {found.pin}",
        "command": f"`{' '.join(['python -m bench.classifiers', *arguments])}`",
    }
    text, body = report(head, speed, why, spared, cost, found.gate.below / 1e6 if found.gate is not None else None)
    print(text)
    base: Path = chosen.out / f"{time.strftime('%Y-%m-%d-%H%M%S', time.gmtime())}-classifiers"
    base.parent.mkdir(parents=True, exist_ok=True)
    base.with_suffix(".md").write_text(text)
    base.with_suffix(".json").write_text(json.dumps(body, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
