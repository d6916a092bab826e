"""Sources of what a model answers, and of what a tool gives back."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from classifiers.train.row import BENIGN, HEADS, Role, Row, Source, Split, ones
from classifiers.train.sources.kinds import refined
from classifiers.train.sources.table import csv_records, json_records, json_value
from classifiers.train.splits import fraction
from classifiers.train.windows import flat

_HATEFUL = frozenset({"Offending User", "Biased Opinion"})
_SPOKEN_TO_MODEL = frozenset(
    {
        "Alphanumeric Substitution", "Homophonic Substitution", "Misspelling Intentionally", "Anagramming",
        "Space Removal & Grouping", "Instruction", "Social Interaction", "Persuasion", "Clickbait", "Malware Distribution",
    }
)  # fmt: skip
_REFUSES = re.compile(r"sorry|apolog|can(?:'|’)?t|cannot|unable|not able|抱歉|不能|无法", re.IGNORECASE)
_PLACES, _SIDE = 8, 150


def diasafety(data: Path) -> Iterator[Row]:
    """Replies in a chat. Only what a reply itself says is used: what is wrong by its context alone is left out."""
    for name, pin in (("train", None), ("val", Split.DEV), ("test", Split.TEST)):
        for record in json_value(data / "diasafety" / f"{name}.json"):
            unsafe = record["label"] == "Unsafe"
            if unsafe and record["category"] not in _HATEFUL:
                continue
            labels = {"hate_harassment": int(unsafe)}
            yield Row(record["response"], "en", labels, "diasafety", Role.RESPONSE, also=(record["context"],), pin=pin)


def jailbroken(data: Path) -> Iterator[Row]:
    """Answers to harmful questions under a jailbreak: given (by the question's own words) or refused (harmless).

    What was judged no success and does not refuse either is half an answer: it is left out.
    """
    questions = [record["text"] for record in csv_records(data / "gptfuzz" / "question_list.csv")]
    for name in ("train", "evaluate"):
        for record in csv_records(data / "gptfuzz" / f"{name}.csv"):
            question = questions[int(record["question"])]
            if record["label"] == "1":
                labels = {head: 1 for head, value in refined(question, "crime").items() if value}
            elif _REFUSES.search(record["Response"]):
                labels = dict(BENIGN)
            else:
                continue
            group = f"gptfuzz_answer:{record['question']}"
            yield Row(record["Response"], "en", labels, "gptfuzz_answers", Role.RESPONSE, group, also=(question,))


def _slice(text: str, salt: str) -> str:
    """A stretch of a text, of at most `_SIDE` code points, from a place that the salt picks."""
    room = max(0, len(text) - _SIDE)
    start = int(fraction(text, salt) * (room + 1))
    return text[start : start + _SIDE].strip()


def bipia(data: Path) -> Iterator[Row]:
    """Orders hidden in e-mails that a tool gives back, and the same e-mails without. Other contexts are share-alike."""
    mails = [flat(record["context"]) for record in json_records(data / "bipia" / "benchmark__email__train.jsonl")]
    for index, mail in enumerate(mails):
        yield Row(mail, "en", {"injection": 0, "jailbreak": 0}, "bipia", Role.TOOL_RESULT, f"bipia:mail:{index}")
    for area, attacks in json_value(data / "bipia" / "benchmark__text_attack_train.json").items():
        if area not in _SPOKEN_TO_MODEL:
            continue
        for number, attack in enumerate(attacks):
            for place in range(_PLACES):
                salt = f"{area}:{number}:{place}"
                before, after = (mails[int(fraction(salt, side) * len(mails))] for side in ("before", "after"))
                text = f"{_slice(before, salt)} {attack} {_slice(after, salt)}"
                yield Row(text, "en", ones("injection"), "bipia", Role.TOOL_RESULT, f"bipia:{area}", also=(attack,))


def toxic_spans(data: Path) -> Iterator[Row]:
    """Comments judged by a crowd; rows that say both 'all toxic' and 'not toxic' are left out, as are split votes."""
    votes: defaultdict[str, list[bool]] = defaultdict(list)
    for record in csv_records(data / "toxic_spans" / "annotations.csv"):
        all_toxic, not_toxic = record["all toxic"] == "True", record["not toxic"] == "True"
        if not (all_toxic and not_toxic):
            votes[record["comment_id"]].append(not not_toxic)
    for record in csv_records(data / "toxic_spans" / "comments.csv"):
        given = votes[record["comment_id"]]
        if len(given) >= 3 and len(set(given)) == 1:
            yield Row(record["comment_text"], "en", {"hate_harassment": int(given[0])}, "toxic_spans")


def sources() -> Iterable[Source]:
    """The sources of this file."""
    en, heads, hate = frozenset({"en"}), frozenset(HEADS), frozenset({"hate_harassment"})
    injection = frozenset({"injection"})
    yield Source("diasafety", "Apache-2.0", en, hate, hate, diasafety, cap=2_500)
    yield Source("gptfuzz_answers", "MIT", en, heads - {"injection", "jailbreak"}, heads, jailbroken, cap=700)
    yield Source("bipia", "MIT", en, injection, injection | {"jailbreak"}, bipia)
    yield Source("toxic_spans", "CC0-1.0", en, hate, hate, toxic_spans, cap=3_000)
