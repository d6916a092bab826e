"""Sources that name groups of people without attacking them, and templates that do both: they teach hate alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from classifiers.train.row import Row, Source, Split
from classifiers.train.sources.table import csv_records
from classifiers.train.splits import fraction

_HATE = frozenset({"hate_harassment"})
_TEST_FORMS = frozenset({"you_are_adj", "you_are_identity_p", "am_identity", "am_hate_adj", "hate_identity", "you_occupation"})
_SHARE = 0.05
_MOST_TOXIGEN = 120


def google_templates(data: Path) -> Iterator[Row]:
    """Short phrases made of an identity and a word; whole forms are kept for testing."""
    for name, lang in (("en", "en"), ("zh-cn", "zh")):
        for record in csv_records(data / "google_sentence_templates" / f"{name}_sentence_templates.csv"):
            form, text = record["template"], record["phrase"]
            if fraction(text, "google") >= (
                _SHARE if form in ("name_adj", "being_identity", "verb_identity", "verb_adj") else 0.3
            ):
                continue
            toxic = record["toxicity"] == "toxic"
            pin = Split.TEST if form in _TEST_FORMS else None
            yield Row(
                text, lang, {"hate_harassment": int(toxic)}, "google_templates", slice=None if toxic else "identity", pin=pin
            )


def toxigen_neutral(data: Path) -> Iterator[Row]:
    """Neutral sentences on groups, from the few-shot prompts; a sentence stands in many prompts and is taken once."""
    for path in sorted((data / "toxigen_prompts").glob("neutral_*_1k.txt")):
        group = path.stem.removeprefix("neutral_").removesuffix("_1k")
        lines = path.read_text(encoding="utf-8").splitlines()
        seen = {
            part.strip() for line in lines for part in line.replace("\\n", "\n").lstrip("- ").split("\n- ") if part.strip(" -")
        }
        for text in sorted(seen, key=lambda text: fraction(text, "toxigen"))[:_MOST_TOXIGEN]:
            yield Row(
                text.lstrip("- "), "en", {"hate_harassment": 0}, "toxigen", slice="identity", group=f"toxigen:{group}:{text[:12]}"
            )


def sources() -> Iterable[Source]:
    """The sources of this file."""
    both = frozenset({"en", "zh"})
    yield Source("google_templates", "Apache-2.0", both, _HATE, _HATE, google_templates, cap=1_500)
    yield Source("toxigen", "MIT", frozenset({"en"}), frozenset(), _HATE, toxigen_neutral)
