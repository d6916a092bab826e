"""From the words of a policy to detectors, and what a policy may say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from moderation.detect.api import Detector, Local, Passage
from moderation.detect.build import _one, check_regex, finds, inline, vocabulary
from moderation.detect.catalogue import NAMES
from moderation.detect.decoding import Decoding
from moderation.detect.pii import ENTITIES
from moderation.policy.model import CustomPattern, DetectorSpec, Policy, WordList
from moderation.verdict import Finding, Level, Unknown
from tests.detect.law import spans, whole


class Lists:
    """As much of a policy as building one detector reads."""

    def __init__(self, lists: Mapping[str, WordList]) -> None:
        self.word_lists = lists


def build(kind: str, **more: object) -> Local:
    spec = DetectorSpec("d", kind, ("cat",), {Level.HIGH: 800_000}, **more)  # type: ignore[arg-type]
    policy: Policy = Lists({"birds": WordList("birds", ("heron", "蓝鹭"), True, True)})  # type: ignore[assignment]
    return _one(spec, policy)


def wrapped(kind: str, **more: object) -> Detector:
    return Decoding(build(kind, **more))


@pytest.mark.parametrize(
    ("kind", "more", "text", "found"),
    [
        ("patterns", {"patterns": ("cn_id_card", "ip")}, "8.8.8.8 a@b.io", [("ip", "8.8.8.8")]),
        ("patterns", {"patterns": (CustomPattern("case", r"CASE-\d{4,8}", None, "CASE_ID"),)}, "见CASE-12345。", [("case", "CASE-12345")]),
        ("patterns", {"patterns": (CustomPattern("run", "x+", 3, None),)}, "xxxx", [("run", "xxx"), ("run", "x")]),
        ("words", {"lists": ("birds",)}, "a Heron 蓝鹭", [("birds", "Heron"), ("birds", "蓝鹭")]),
        ("secrets", {}, "AKIAIOSFODNN7EXAMPLE", [("aws_access_key", "AKIAIOSFODNN7EXAMPLE")]),
        ("secrets", {"entities": ("SECRET_JWT",)}, "AKIAIOSFODNN7EXAMPLE", []),
        ("pii", {"entities": ("EMAIL_ADDRESS", "CN_MOBILE")}, "a@b.io 8.8.8.8", [("email", "a@b.io")]),
        ("pii", {"entities": ("EMAIL_ADDRESS", "CN_MOBILE"), "regions": ("us",)}, "13812345678", []),
    ],
)
def test_kinds(kind: str, more: dict[str, object], text: str, found: list[tuple[str, str]]) -> None:
    detector = build(kind, **more)
    findings = whole(detector, text)
    assert spans(findings, text) == found
    assert {f.category for f in findings} <= {"cat"}
    assert {f.detector for f in findings} <= {"d"}


@pytest.mark.parametrize(
    ("kind", "more", "part"),
    [
        ("patterns", {"patterns": ("nonesuch",)}, "no pattern named 'nonesuch'"),
        ("patterns", {"patterns": (CustomPattern("x", "a*", None, None),)}, "empty"),
        ("pii", {"entities": ("PERSON",)}, "trained model"),
        ("model", {}, "not one that this version builds"),
    ],
)
def test_refusals(kind: str, more: dict[str, object], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        build(kind, **more)


def test_vocabulary() -> None:
    known = vocabulary()
    assert set(known.patterns) == set(NAMES)
    assert all(known.patterns.values())
    assert known.pattern_entities["payment_card"] == {"CREDIT_CARD"}
    assert known.entities == ENTITIES
    assert "SECRET_AWS_ACCESS_KEY" in known.secrets
    assert known.normalise("ＡＢ\u200bＣ") == "ABC"


@pytest.mark.parametrize(
    ("regex", "reach", "part"),
    [("a{2,5}", None, None), ("a+", 20, None), ("a+", None, "reach"), ("a*", 5, "empty"), ("(a", None, "never closed"), ("(?=a)", None, "ahead")],
)
def test_check_regex(regex: str, reach: int | None, part: str | None) -> None:
    wrong = check_regex(regex, reach)
    assert (wrong is None) if part is None else (wrong is not None and part in wrong)


def test_finds() -> None:
    assert finds("email", "邮箱ａ＠ｂ．ｉｏ")
    assert not finds("email", "no")
    assert finds("x+y", "axxy")
    assert not finds(r"CASE-\d+", "case-1")


class Model:
    id = "model"
    version = "1"
    batch = 1

    def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
        return [() for _ in passages]


def test_what_may_run_on_the_loop() -> None:
    made: dict[str, Detector] = {
        "ours": wrapped("pii", entities=("EMAIL_ADDRESS",)), "words": wrapped("words", lists=("birds",)), "model": Model(),
    }  # fmt: skip
    assert inline(made) == {"ours", "words"}
