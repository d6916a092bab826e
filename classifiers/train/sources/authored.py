"""The rows that the project wrote itself: files in `authored/`, each with a header that says what it is for.

Three forms of file: `grammars` (forms with slots, expanded by a stable hash; a form is one group), `pairs` (the same
words with ill and with harmless intent; a pair is one group) and `texts` (harmless ones by topic; a text is one group).
A file with `split: train` only trains: what is tested stays what it was when such a file is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from classifiers.train.row import HEADS, Role, Row, Source, Split
from classifiers.train.sources.kinds import KINDS
from classifiers.train.splits import fraction

FOLDER = Path(__file__).resolve().parent.parent / "authored"

_SLOT = re.compile(r"\{(\w+)\}")
_TRIES = 6

# Each topic has forms in every split: of ten forms one is tested on and one tunes.
_TURN = 10
_PINS = {3: Split.TEST, 7: Split.DEV}


def fill(form: str, slots: Mapping[str, Sequence[str]], most: int) -> list[str]:
    """At most `most` different fillings of a form, the same ones each time.

    Raises KeyError when the form names a slot that is not there.
    """
    parts = _SLOT.split(form)
    between, names = parts[::2], parts[1::2]
    if not names:
        return [form]
    found: dict[str, None] = {}
    for turn in range(most * _TRIES):
        used: list[str] = []
        for place, name in enumerate(names):
            choices = [value for value in slots[name] if value not in used or not value] or list(slots[name])
            used.append(choices[int(fraction(f"{form}\0{turn}\0{place}", "slot") * len(choices))])
        found.setdefault("".join(map("".join, zip(between, (*used, ""), strict=True))))
        if len(found) == most:
            break
    return list(found)


def load(path: Path) -> dict[str, Any]:
    """A file of `authored/`; it must say its purpose."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not content.get("purpose"):
        raise ValueError(f"{path.name}: no purpose")
    return content


def _grammars(content: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    found: Mapping[str, Mapping[str, Any]] = content.get("grammars", {})
    return found.values()


def grammar_rows(name: str, content: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a file of grammars; a form is one group."""
    for topic, grammar in content["grammars"].items():
        slots = {**content.get("slots", {}), **grammar.get("slots", {})}
        labels = KINDS[grammar.get("kind", content.get("kind"))]
        most = grammar.get("most", content["most"])
        role = Role(grammar.get("role", content.get("role", "prompt")))
        lang = grammar.get("lang", content["lang"])
        own = grammar.get("slice")
        slice_ = own if own or any(labels.values()) else content.get("slice")
        for number, form in enumerate(grammar["forms"]):
            for text in fill(form, {key: [str(value) for value in values] for key, values in slots.items()}, most):
                group = f"{name}:{topic}:{number}"
                text = text[:1].upper() + text[1:]
                yield Row(text, lang, dict(labels), name, role, group, slice_, pin=_PINS.get(number % _TURN, Split.TRAIN))


def pair_rows(name: str, content: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a file of pairs: the first sentence of each is of the kind that is its key, the others are harmless."""
    for kind, pairs in content["pairs"].items():
        for number, (ill, *harmless) in enumerate(pairs):
            if not harmless:
                raise ValueError(f"{name}: no harmless side for {ill!r}")
            group = f"{name}:{kind}:{number}"
            yield Row(ill, content["lang"], dict(KINDS[kind]), name, group=group, slice="harmful_instructions")
            for text in harmless:
                yield Row(text, content["lang"], dict(KINDS["benign"]), name, group=group, slice=content["slice"])


def text_rows(name: str, content: Mapping[str, Any]) -> Iterator[Row]:
    """The rows of a file of harmless texts; those of a topic `answer_...` are an assistant's answers."""
    for topic, texts in content["texts"].items():
        role = Role.RESPONSE if topic.startswith("answer_") else Role.PROMPT
        for number, text in enumerate(texts):
            yield Row(text, content["lang"], dict(KINDS["benign"]), name, role, f"{name}:{topic}:{number}", content["slice"])


_FORMS = {"grammars": grammar_rows, "pairs": pair_rows, "texts": text_rows}


def rows(name: str, _data: Path) -> Iterator[Row]:
    """The rows of a file of `authored/`."""
    content = load(FOLDER / f"{name}.yaml")
    form = next(form for form in _FORMS if form in content)
    for row in _FORMS[form](name, content):
        yield replace(row, pin=Split(content["split"])) if "split" in content else row


def sources() -> Iterable[Source]:
    """One source for each file, in the order of names."""
    heads = frozenset(HEADS)
    for path in sorted(FOLDER.glob("*.yaml")):
        content = load(path)
        languages = frozenset({content["lang"], *(part.get("lang", content["lang"]) for part in _grammars(content))})
        yield Source(path.stem, "Apache-2.0 (written for this project)", languages, heads, heads, partial(rows, path.stem))
