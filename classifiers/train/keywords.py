"""A list of words as a classifier: the floor that a model must be well above. It is no part of what runs.

A head scores 1 where one of its words stands in the text, else 0: in Latin letters as whole words, in Chinese anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from classifiers.train.examples import Example
from classifiers.train.metrics import Floats
from classifiers.train.row import HEADS

FILE = Path(__file__).with_suffix(".yaml")


def read(path: Path) -> dict[str, re.Pattern[str]]:
    """The words of each head as one pattern. Raises ValueError for a head that is none, or has no words in a language."""
    said: Mapping[str, Mapping[str, Sequence[str]]] = yaml.safe_load(path.read_text("utf-8"))
    if set(said) != set(HEADS) or not all(set(by) == {"en", "zh"} and all(by.values()) for by in said.values()):
        raise ValueError(f"{path}: must hold words in en and zh for each of {', '.join(HEADS)}")
    found = {}
    for head in HEADS:
        spaced = "|".join(re.escape(_plain(word)).replace(r"\ ", r"\s+") for word in said[head]["en"])
        found[head] = re.compile(rf"\b(?:{spaced})\b|{'|'.join(re.escape(_plain(word)) for word in said[head]['zh'])}")
    return found


def scores(words: Mapping[str, re.Pattern[str]], rows: Sequence[Example]) -> Floats:
    """[texts, heads] of 0 and 1."""
    texts = [_plain(one.text) for one in rows]
    return np.array([[float(words[head].search(text) is not None) for head in HEADS] for text in texts]).reshape(-1, len(HEADS))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
