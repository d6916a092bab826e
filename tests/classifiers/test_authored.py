"""The authored files parse, say their purpose, hold pairs, and fill their forms the same way each time."""

import re
from pathlib import Path

import pytest

from classifiers.train.row import HEADS, Role, Row, Split
from classifiers.train.sources.authored import FOLDER, fill, load, rows
from classifiers.train.sources.kinds import KINDS, refined

FILES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
PAIRS = [name for name in FILES if "pairs" in load(FOLDER / f"{name}.yaml")]
HARMFUL = {kind for kind, labels in KINDS.items() if any(labels.values())}


def of(name: str) -> list[Row]:
    return list(rows(name, Path()))


@pytest.mark.parametrize("name", FILES)
def test_a_file_says_its_purpose_and_every_form_can_be_filled(name: str) -> None:
    assert load(FOLDER / f"{name}.yaml")["purpose"]
    found = of(name)
    assert found
    assert found == of(name)
    for row in found:
        assert row.text == row.text.strip() or row.text.endswith(" "), row.text
        assert not re.search(r"[{}]", row.text), row.text
        assert row.labels.keys() <= set(HEADS)
        assert row.group
        assert row.lang in ("en", "zh") or name == "benign_eu"
    assert len({row.text for row in found}) >= 0.98 * len(found)


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_holds_one_harmful_and_some_harmless_sentences(name: str) -> None:
    groups: dict[str, list[Row]] = {}
    for row in of(name):
        groups.setdefault(row.group, []).append(row)
    assert len(groups) >= 100
    for members in groups.values():
        harmful = [row for row in members if any(row.labels.values())]
        harmless = [row for row in members if set(row.labels.values()) == {0} and len(row.labels) == len(HEADS)]
        assert len(harmful) == 1, members
        assert len(harmless) == len(members) - 1 >= 1, members
        assert {row.slice for row in harmless} == {"scary_harmless"}


@pytest.mark.parametrize("name", FILES)
def test_somebody_at_risk_is_never_illicit_and_a_harmful_sentence_is_short(name: str) -> None:
    for row in of(name):
        if row.labels.get("self_harm"):
            assert row.labels["illicit"] == 0
        if any(row.labels.values()):
            assert len(row.text) <= 280, "a harmful example is a sentence that asks"


def test_the_thin_heads_have_examples_in_both_languages() -> None:
    for lang in ("en", "zh"):
        own = [row for name in FILES for row in of(name) if row.lang == lang]
        for head in ("self_harm", "sexual", "violence", "injection", "jailbreak", "illicit", "hate_harassment"):
            assert sum(row.labels.get(head, 0) for row in own) >= 15, (lang, head)
    assert sum(not any(row.labels.values()) for name in FILES for row in of(name) if row.lang == "zh") >= 3000


def test_a_form_is_filled_with_different_values_and_no_more_often_than_asked() -> None:
    slots = {"a": ["x", "y", "z"], "b": ["1", "2"]}
    assert fill("plain", {}, 5) == ["plain"]
    assert len(fill("{a}{b}", slots, 4)) == 4
    assert set(fill("{a}{b}", slots, 99)) <= {a + b for a in "xyz" for b in "12"}
    assert all(text[0] != text[1] for text in fill("{a}{a}", slots, 9)), "a slot twice in a form takes two values"
    with pytest.raises(KeyError):
        fill("{none}", slots, 1)


def test_a_file_without_a_purpose_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("lang: en\n")
    with pytest.raises(ValueError, match="no purpose"):
        load(tmp_path / "x.yaml")


@pytest.mark.parametrize(
    ("note", "text", "kind", "labels"),
    [
        ("a way to die is no crime", "How do I commit suicide?", "crime", {"self_harm": 1, "illicit": 0}),
        ("getting others to die stays what it is", "Write a post that urges suicide", "hate", {"hate_harassment": 1}),
        ("a bomb is violence too", "Build a bomb", "crime", {"illicit": 1, "violence": 1}),
        ("a plain crime says nothing of hate", "Rob a shop", "crime", {"illicit": 1}),
    ],
)
def test_words_refine_a_kind(note: str, text: str, kind: str, labels: dict[str, int]) -> None:
    found = refined(text, kind)
    assert {head: value for head, value in found.items() if head in labels} == labels, note
    if note.startswith("a plain"):
        assert "hate_harassment" not in found
    if note.startswith("getting"):
        assert "self_harm" not in found


def test_harmful_kinds_are_plain_requests_unless_they_say_so() -> None:
    assert {kind for kind in HARMFUL if KINDS[kind].get("injection") or KINDS[kind].get("jailbreak")} == {
        "injection",
        "jailbreak",
        "jailbreak_crime",
    }


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_only_trains_adds_no_text_to_what_is_tested(name: str) -> None:
    if load(FOLDER / f"{name}.yaml").get("split") == "train":
        assert {row.pin for row in of(name)} == {Split.TRAIN}
    else:
        assert Split.TRAIN not in {row.pin for row in of(name)} or any(row.pin is not Split.TRAIN for row in of(name))


def test_files_of_harmless_texts_hold_answers_too() -> None:
    found = of("calm_en")
    assert {row.role for row in found} == {Role.PROMPT, Role.RESPONSE}
    assert all(set(row.labels.values()) == {0} for row in found)
    assert len({row.group for row in found}) == len(found)
