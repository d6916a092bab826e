"""Sources that label injections and jailbreaks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from classifiers.train.row import BENIGN, HEADS, Row, Source, Split, ones
from classifiers.train.sources.table import csv_records, json_records, parquet_records

_GERMAN = re.compile(r"\b(?:der|die|das|und|ist|nicht|ich|wie|ein|eine|bitte|auf|mit|f[uü]r|von|zu|mir|sie)\b", re.IGNORECASE)
_ABUSE_OF_TOOLS = frozenset(
    {"adversarial", "encoding", "code_execution", "training_extraction", "crescendo", "control", "multi_turn"}
)
_NOT_OURS = ("wildguard", "harmbench", "jbb", "jailbreakbench", "xstest")
_FRAMES = frozenset({"jailbreak", "persona_replacement", "many_shot"})


def slabs(data: Path) -> Iterator[Row]:
    """Injections, and legitimate questions with the same words; the authors' splits are kept.

    Its attacks hold jailbreak personas too, so `jailbreak` is unknown on them.
    """
    for name, split in (("train", Split.TRAIN), ("validation", Split.DEV), ("test", Split.TEST)):
        for record in csv_records(data / "slabs_pi" / f"{name}.csv"):
            labels = ones("injection") if record["label"] == "1" else dict(BENIGN)
            yield Row(record["text"], "en", labels, "slabs", pin=split)


def neuralchemy_labels(category: str, label: int) -> dict[str, int] | None:
    """The labels of a category. Attacks on tools and bare escalation steps are no injection by our meaning: left out."""
    if category in _ABUSE_OF_TOOLS:
        return None
    if not label:
        return dict(BENIGN)
    return ones("jailbreak") if category in _FRAMES else ones("injection")


def neuralchemy_row(record: Mapping[str, Any], pin: Split) -> Row | None:
    """The row of a record. Those from WildGuard (research only) and from evaluation sets are left out."""
    labels = neuralchemy_labels(record["category"], record["label"])
    if labels is None or record["source"].startswith(_NOT_OURS):
        return None
    scary = "hard_negative" in (record["tags"] or ()) and not record["label"]
    slice_ = "scary_harmless" if scary else None
    group = f"neuralchemy:{record['group_id']}"
    return Row(record["text"], "en", labels, "neuralchemy", group=group, slice=slice_, pin=pin)


def neuralchemy(data: Path) -> Iterator[Row]:
    """Injections by category; the authors' splits are kept."""
    for name, split in (("train", Split.TRAIN), ("validation", Split.DEV), ("test", Split.TEST)):
        for record in parquet_records(data / "neuralchemy_pi" / f"core-{name}.parquet"):
            row = neuralchemy_row(record, split)
            if row is not None:
                yield row


def deepset_row(record: Mapping[str, Any]) -> Row:
    """The row of a record: English unless it holds at least two common German words."""
    text = record["text"]
    lang = "de" if len(_GERMAN.findall(text)) >= 2 else "en"
    return Row(text, lang, ones("injection") if record["label"] else dict(BENIGN), "deepset")


def deepset(data: Path) -> Iterator[Row]:
    """Injections, the rest are search-like questions and messages, in English and German."""
    for path in sorted((data / "deepset_prompt_injections").glob("*.parquet")):
        yield from map(deepset_row, parquet_records(path))


def yanismiraoui(data: Path) -> Iterator[Row]:
    """Injections in eight European languages, mostly one list translated."""
    for record in csv_records(data / "yanismiraoui_pi" / "prompt_injections.csv"):
        yield Row(record["prompt_injections"], "xx", ones("injection"), "yanismiraoui")


def bastion(data: Path) -> Iterator[Row]:
    """A small mixed set, used for thresholds only."""
    for record in json_records(data / "bastioncorpus" / "injections.jsonl"):
        bad = record["label"] == "malicious"
        if bad and "injection" not in record["category"] and "override" not in record["category"]:
            continue
        labels = ones("injection") if bad else {"injection": 0}
        yield Row(record["text"], record["lang"], labels, "bastioncorpus", pin=Split.DEV, also=(record.get("intent") or "",))


def in_the_wild(data: Path) -> Iterator[Row]:
    """Jailbreak prompts that people shared."""
    for record in csv_records(data / "jailbreakllms" / "jailbreak_prompts.csv"):
        group = f"wild:{record['community_id']}" if record["community_id"] else ""
        yield Row(record["prompt"], "en", ones("jailbreak"), "jailbreakllms", group=group)


def _filled(template: str) -> str:
    return re.sub(r"\{%.*?%\}", "", re.sub(r"\{\{\s*\w+\s*\}\}", "[the question]", template))


def pyrit(data: Path) -> Iterator[Row]:
    """Jailbreak templates; most were taken from the wild, so near-duplicates join them with those."""
    for path in sorted((data / "pyrit_jailbreak_templates").rglob("*.yaml")):
        record: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(record, dict) and isinstance(record.get("value"), str):
            yield Row(_filled(record["value"]), "en", ones("jailbreak"), "pyrit", group=f"pyrit:{path.stem}")


def gptfuzz(data: Path) -> Iterator[Row]:
    """Jailbreak templates of a fuzzer's seed set."""
    for record in csv_records(data / "gptfuzz" / "GPTFuzzer.csv"):
        text = record["text"].replace("[INSERT PROMPT HERE]", "[the question]")
        yield Row(text, "en", ones("jailbreak"), "gptfuzz_templates", group=f"gptfuzz:{record['id']}", also=(record["text"],))


def sources() -> Iterable[Source]:
    """The sources of this file."""
    en, heads = frozenset({"en"}), frozenset(HEADS)
    injection, jailbreak = frozenset({"injection"}), frozenset({"jailbreak"})
    european = frozenset({"xx"})
    yield Source("slabs", "MIT", en, injection, heads, slabs)
    yield Source("neuralchemy", "Apache-2.0", en, injection | jailbreak, heads, neuralchemy)
    yield Source("deepset", "Apache-2.0", frozenset({"en", "de"}), injection, heads, deepset)
    yield Source("yanismiraoui", "Apache-2.0", european, injection, frozenset(), yanismiraoui, cap=300)
    yield Source("bastioncorpus", "MIT", frozenset({"en", "de", "it", "fr", "es"}), injection, injection, bastion)
    yield Source("jailbreakllms", "MIT", en, jailbreak, frozenset(), in_the_wild)
    yield Source("pyrit", "MIT", en, jailbreak, frozenset(), pyrit)
    yield Source("gptfuzz_templates", "MIT", en, jailbreak, frozenset(), gptfuzz)
