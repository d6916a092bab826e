"""What kinds of harm mean in heads: each source of harmful requests maps its own categories to these kinds.

A kind says which heads are certainly 1 and which are certainly 0; the rest is unknown. The requests are plain, with no
frame and no override, so `injection` and `jailbreak` are 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from classifiers.train.row import BENIGN, ones, zeros

_PLAIN = zeros("injection", "jailbreak")

KINDS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "crime": _PLAIN | ones("illicit") | zeros("self_harm"),
        "cyber": _PLAIN | ones("illicit") | zeros("self_harm", "sexual", "violence", "hate_harassment"),
        "fraud": _PLAIN | ones("illicit") | zeros("self_harm", "sexual", "violence", "hate_harassment"),
        "drugs": _PLAIN | ones("illicit") | zeros("sexual", "violence", "hate_harassment"),
        "privacy": _PLAIN | ones("illicit") | zeros("self_harm", "violence"),
        "weapons": _PLAIN | ones("illicit", "violence") | zeros("self_harm", "sexual"),
        "violent": _PLAIN | ones("violence") | zeros("self_harm"),
        "violent_crime": _PLAIN | ones("illicit", "violence") | zeros("self_harm"),
        "sex_crime": _PLAIN | ones("illicit", "sexual") | zeros("self_harm"),
        "sexual": _PLAIN | ones("sexual") | zeros("self_harm"),
        "hate": _PLAIN | ones("hate_harassment") | zeros("self_harm"),
        "violent_hate": _PLAIN | ones("hate_harassment", "violence"),
        "bullying": _PLAIN | ones("hate_harassment") | zeros("sexual"),
        "self_harm": _PLAIN | ones("self_harm") | zeros("illicit", "sexual", "hate_harassment"),
        "distress": dict(BENIGN),
        "disinformation": _PLAIN | ones("illicit") | zeros("self_harm", "sexual"),
        "injection": ones("injection") | zeros("self_harm", "sexual"),
        "jailbreak": ones("jailbreak") | zeros("self_harm", "sexual"),
        "jailbreak_crime": ones("jailbreak", "illicit") | zeros("self_harm", "sexual"),
        "unknown": dict(_PLAIN),
        "benign": dict(BENIGN),
    }
)

_WORDS = (
    (
        "self_harm",
        r"suicid|self[- ]?harm|kill (?:my|your|him|her|them)sel|cut(?:ting)? (?:my|your|them)sel|eating disorder|anorexi"
        r"|自杀|自残|自伤|轻生|割腕",
    ),
    ("sexual", r"\bporn|\bsex(?:ual|ually)?\b|erotic|\bnude|naked|色情|淫秽|裸照|卖淫|嫖|性侵"),
    (
        "violence",
        r"\bkill|murder|\bbomb|explosiv|assassinat|massacre|\bassault|tortur|terroris|\bweapon|firearm|\bguns?\b"
        r"|杀人|杀死|谋杀|炸弹|爆炸|恐怖袭击|枪支|武器|毒死|砍",
    ),
    (
        "hate_harassment",
        r"racis|\bbully|harass|hate speech|\bsexist|discriminat|neo-nazi|anti-?semit|歧视|霸凌|羞辱|侮辱",
    ),
)
_WORD_HEADS = tuple((head, re.compile(pattern, re.IGNORECASE)) for head, pattern in _WORDS)


def refined(text: str, kind: str) -> dict[str, int]:
    """The labels of a harmful request: those of its kind, and 1 for each head that its own words name.

    A request about self-harm is never `illicit`: asking for a way to die is a sign of risk, not a crime.
    """
    named = {head for head, words in _WORD_HEADS if words.search(text)}
    if "self_harm" in named and kind in ("crime", "violent_crime", "violent", "unknown"):
        return dict(KINDS["self_harm"])
    labels = dict(KINDS[kind])
    labels.update(dict.fromkeys(named - {"self_harm"}, 1))
    if "self_harm" in named:
        labels.pop("self_harm", None)
    return labels
