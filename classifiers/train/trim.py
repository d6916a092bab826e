"""Trim the vocabulary to what the languages served need, and the embedding with it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from classifiers.train import examples, unigram

PREFIXES = ("query: ", "passage: ")


def encodings(tokenizer: Tokenizer, texts: list[str]) -> Iterator[list[int]]:
    """The ids of each text, without specials."""
    for at in range(0, len(texts), 1000):
        for one in tokenizer.encode_batch_fast(texts[at : at + 1000], add_special_tokens=False):
            yield one.ids


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.trim", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tokenizer", type=Path, default=Path("build/fetch/tokenizer.json"), help="the whole one (default: %(default)s)"
    )
    parser.add_argument(
        "--encoder", type=Path, default=Path("build/e5/encoder.safetensors"), help="from convert (default: %(default)s)"
    )
    parser.add_argument(
        "--corpus", type=Path, default=Path("build/corpus"), help="pieces of train.jsonl stay (default: %(default)s)"
    )
    parser.add_argument(
        "--latin", type=int, default=22000, help="so many of the most frequent Latin pieces stay (default: %(default)s)"
    )
    parser.add_argument("--to", type=Path, default=Path("build/trimmed"), help="folder for the result (default: %(default)s)")
    given = parser.parse_args(argv)
    whole = json.loads(given.tokenizer.read_text("utf-8"))
    cutter = Tokenizer.from_file(str(given.tokenizer))
    texts = [one.text for one in examples.read(given.corpus / "train.jsonl")]
    used = unigram.used_ids(encodings(cutter, [*PREFIXES, *texts]))
    ids = unigram.kept(whole["model"]["vocab"], used, given.latin)
    given.to.mkdir(parents=True, exist_ok=True)
    (given.to / "tokenizer.json").write_text(json.dumps(unigram.trimmed(whole, ids), ensure_ascii=False), "utf-8")
    tensors = load_file(given.encoder)
    tensors["words.weight"] = tensors["words.weight"][ids]
    with safe_open(given.encoder, "np") as file:
        about = file.metadata()
    save_file(tensors, given.to / "encoder.safetensors", about)
    print(
        f"{len(ids):,} of {len(whole['model']['vocab']):,} pieces stay; {len(used):,} come in the {len(texts):,} training texts"
    )
    short = Tokenizer.from_file(str(given.to / "tokenizer.json"))
    unknown = 3
    for name in ("dev.jsonl", "test.jsonl"):
        if (given.corpus / name).exists():
            sample = [one.text for one in examples.read(given.corpus / name)]
            pairs = list(zip(encodings(cutter, sample), encodings(short, sample), strict=True))
            same = sum([ids[i] for i in after] == before for before, after in pairs) / max(1, len(pairs))
            lost = sum(after.count(unknown) for _, after in pairs) / max(1, sum(len(after) for _, after in pairs))
            print(f"{name}: {same:.2%} of texts are cut as before; {lost:.3%} of pieces are unknown")
    return 0


if __name__ == "__main__":
    sys.exit(main())
