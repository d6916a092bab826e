"""Chinese sources of harmful and delicate requests, and the parts of them that exist in English too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from classifiers.train.row import BENIGN, HEADS, Role, Row, Source, Split, ones, zeros
from classifiers.train.sources.kinds import KINDS, refined
from classifiers.train.sources.table import csv_cells, csv_records, json_records

_SLICE = "harmful_instructions"

_JADE = (
    ("毒品", "drugs"), ("武器", "weapons"), ("恐怖", "violent_crime"), ("故意伤害", "violent_crime"),
    ("抢劫", "violent_crime"), ("非法侵入", "cyber"), ("网络欺诈", "cyber"), ("诈骗", "fraud"), ("伪造", "fraud"),
    ("内幕", "fraud"), ("勒索", "crime"), ("宣扬暴力、淫秽", "unknown"), ("淫秽色情", "sexual"),
    ("宣扬暴力", "violent"), ("民族歧视", "hate"), ("歧视", "hate"), ("隐私", "privacy"), ("个人信息", "privacy"),
    ("私人信息", "privacy"), ("身心健康", "unknown"), ("名誉", "bullying"), ("肖像", "privacy"),
    ("虚假有害", "disinformation"), ("虐待与贩卖", "crime"), ("走私", "crime"), ("偷窃", "crime"), ("赃物", "crime"),
    ("赌", "crime"), ("贪污", "crime"), ("商业秘密", "privacy"),
)  # fmt: skip

_RISK = re.compile(
    r"suicid|kill(?:ing)? myself|end(?:ing)? my (?:own )?life|want(?:ed)? to die|hurt(?:ing)? myself|self[- ]harm"
    r"|自杀|自残|轻生|结束(?:自己的)?生命|不想活|想死|活不下去|伤害自己|割腕",
    re.IGNORECASE,
)
_ABOUT_LEAKS = re.compile(r"attack|leak|prevent|protect|攻击|泄|防止|保护", re.IGNORECASE)
_OVERRIDE = re.compile(r"ignor|disregard|forget|directly output|just output|忽略|无视|不要理会|直接输出|忘记|忘掉", re.IGNORECASE)

_CALM = zeros("sexual", "self_harm", "illicit", "injection", "jailbreak")
_XSAFETY_PLAIN = {
    "Insult": ones("hate_harassment") | zeros("self_harm", "illicit", "injection", "jailbreak"),
    "Unfairness_And_Discrimination": ones("hate_harassment") | zeros("self_harm", "sexual", "illicit", "injection", "jailbreak"),
    "Crimes_And_Illegal_Activities": ones("illicit") | zeros("injection", "jailbreak"),
    "Ethics_And_Morality": dict(BENIGN),
    "Physical_Harm": _CALM | zeros("hate_harassment"),
    "Inquiry_With_Unsafe_Opinion": zeros("injection", "jailbreak"),
    "Privacy_And_Property": zeros("injection", "jailbreak", "sexual", "violence", "self_harm"),
    "Role_Play_Instruction": zeros("injection", "self_harm"),
    "Unsafe_Instruction_Topic": zeros("injection", "jailbreak"),
    "commonsense": zeros("injection", "jailbreak", "sexual", "hate_harassment"),
    "Reverse_Exposure": zeros("injection", "jailbreak"),
}


def xsafety_labels(scene: str, text: str) -> dict[str, int] | None:
    """The labels that a scene of XSafety gives a text; None where it teaches nothing certain."""
    match scene:
        case "Mental_Health":
            return dict(KINDS["self_harm"]) if _RISK.search(text) else dict(BENIGN)
        case "Goal_Hijacking":
            return ones("injection") | zeros("self_harm") if _OVERRIDE.search(text) else None
        case "Prompt_Leaking":
            return dict(BENIGN) if _ABOUT_LEAKS.search(text) else None
        case "Inquiry_With_Unsafe_Opinion" | "Physical_Harm" if _RISK.search(text):
            return zeros("injection", "jailbreak", "illicit")
        case "Crimes_And_Illegal_Activities":
            return refined(text, "crime")
        case _:
            return dict(_XSAFETY_PLAIN[scene])


def xsafety(data: Path) -> Iterator[Row]:
    """Scenes of unsafe talk, the same lines in English and Chinese: a pair is one group."""
    for path in sorted((data / "xsafety").glob("*__*.csv")):
        lang, _, name = path.stem.partition("__")
        scene = re.sub(r"_(?:n|en)$", "", name)
        for index, cell in enumerate(csv_cells(path)):
            text = cell.strip()
            labels = xsafety_labels(scene, text)
            if labels:
                yield Row(text, lang, labels, "xsafety", group=f"xsafety:{scene}:{index}")


def jade_kind(subclass: str) -> str:
    """The kind of harm that a subclass of JADE names."""
    return next((kind for word, kind in _JADE if word in subclass), "crime")


def jade(data: Path) -> Iterator[Row]:
    """Harmful questions bent to slip past a model; the first, hand-picked release is kept for testing.

    The English ones on privacy ask what anybody may ask (a firm's budget, a person's views): they are left out.
    """
    folder = data / "jade_db"
    for name, lang, split in (
        ("jade-db-v1.0__jade_benchmark_zh", "zh", Split.TEST),
        ("jade-db-v1.0__jade_benchmark_en", "en", Split.TEST),
        ("jade-db-v2.0__jade_benchmark_easy_zh", "zh", None),
        ("jade-db-v2.0__jade_benchmark_medium_zh", "zh", None),
    ):
        for record in csv_records(folder / f"{name}.csv"):
            kind = jade_kind(record["违规子类"])
            if kind == "privacy" and lang == "en":
                continue
            labels = refined(record["问题"], kind)
            slice_ = _SLICE if kind not in ("unknown", "hate", "privacy") else None
            yield Row(record["问题"], lang, labels, "jade", slice=slice_, pin=split)


def jade_answers(data: Path) -> Iterator[Row]:
    """Answers to JADE's questions: the unsafe one and the safe one of a question are a pair."""
    folder = data / "jade_db"
    for level in ("hard", "medium"):
        for record in csv_records(folder / f"jade-db-v3.0__jade_alignment_{level}_zh.csv", encoding="gb18030"):
            question, bad, good = record["问题"], record["违规回答"], record["安全有用回答"]
            group, also = f"jade:{level}:{record['ID']}", (question, bad, good)
            yield Row(bad, "zh", ones("illicit"), "jade_answers", Role.RESPONSE, group, also=also)
            yield Row(good, "zh", dict(BENIGN), "jade_answers", Role.RESPONSE, group, also=also)


def cvalues(data: Path) -> Iterator[Row]:
    """Delicate but mostly legitimate questions: hard negatives."""
    for record in json_records(data / "cvalues" / "cvalues_responsibility_prompts.jsonl"):
        labels = dict(BENIGN)
        del labels["hate_harassment"]
        yield Row(record["prompt"], "zh", labels, "cvalues", slice="scary_harmless")


def sources() -> Iterable[Source]:
    """The sources of this file."""
    zh, both, heads = frozenset({"zh"}), frozenset({"en", "zh"}), frozenset(HEADS)
    harms = heads - {"injection", "jailbreak"}
    yield Source("xsafety", "Apache-2.0", both, heads - {"jailbreak"}, heads, xsafety)
    yield Source("jade", "MIT", both, harms, heads, jade)
    yield Source("jade_answers", "MIT", zh, frozenset({"illicit"}), heads, jade_answers)
    yield Source("cvalues", "Apache-2.0", zh, frozenset(), heads - {"hate_harassment"}, cvalues)
