"""`moderation policy …` as a person runs it: what is printed, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moderation.cli import main

GOOD = """\
format: 1
policy: {id: p}
detectors:
  cards: {kind: pii, entities: [EMAIL_ADDRESS, CREDIT_CARD]}
rules:
  - id: cards
    phases: [input, output]
    when: {detector: cards, span_origin: {not_in: [user_supplied]}}
    then: redact
    tests:
      - {name: another's, phase: output, text: "to b@y.com", expect: {action: redact, text: "to [removed: email]"}}
      - {name: one's own, phase: output, text: "to b@y.com", context: {span_origin: user_supplied}, expect: {action: allow}}
      - {name: given, phase: input, given: {cards: {personal_data: high}}, expect: {action: redact}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_check_of_a_good_policy(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", "--strict", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{file}: 0 errors, 0 warnings\n"


def test_check_prints_each_fault_with_its_place(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD.replace("then: redact", "then: redatc") + "mesages: {}\n", encoding="utf-8")
    assert main(["policy", "check", str(file)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{file}:9:11 error QP001 'redatc' is not an action. Did you mean 'redact'?")
    assert lines[1].startswith(f"{file}:14:1 error QP010 'mesages' is not a key of a policy. Did you mean 'messages'?")


def test_warnings_fail_only_when_strict(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD + "messages: {m: {en: x}}\n", encoding="utf-8")
    assert main(["policy", "check", str(file)]) == 0
    assert main(["policy", "check", "--strict", str(file)]) == 1
    assert "14:12 warning QP021 the message 'm' is never used" in capsys.readouterr().out


def test_check_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", "--json", str(file)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["policy"]["id"] == "p"
    assert len(told["policy"]["hash"]) == 64
    assert (told["errors"], told["warnings"], told["faults"]) == (0, 0, [])
    file.write_text("format: 2\n", encoding="utf-8")
    assert main(["policy", "check", "--json", str(file)]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["policy"] is None
    assert {"file", "line", "column", "level", "code", "message"} == set(told["faults"][0])


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", str(tmp_path / "no.yaml")]) == 2
    line = f"{tmp_path}/no.yaml:1:1 error QP000 the file cannot be read: No such file or directory.\n"
    assert capsys.readouterr().out == line
    assert main(["policy", "check", "--json", str(tmp_path / "no.yaml")]) == 2
    told = json.loads(capsys.readouterr().out)
    assert (told["policy"], told["errors"], told["faults"][0]["code"]) == (None, 1, "QP000")
    for verb in (["policy", "test"], ["try", "x", "--policy"]):
        assert main([*verb, str(tmp_path / "no.yaml")]) == 2
        assert capsys.readouterr().err == f"moderation: {line}"


@pytest.mark.parametrize(("day", "late"), [("2001-01-01", True), ("9999-12-31", False)])
def test_a_review_that_is_overdue(day: str, late: bool, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD.replace("{id: p}", f'{{id: p, review_by: "{day}"}}'), encoding="utf-8")
    assert main(["policy", "check", str(file)]) == 0
    line = f"{file}:2:28 warning QP602 policy.review_by was {day}. Review it, and set the next date.\n"
    assert capsys.readouterr().out == (line if late else "")
    assert main(["policy", "check", "--strict", str(file)]) == (1 if late else 0)


def test_word_lists_stand_beside_the_policy(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = "  terms: {kind: words, lists: l}\nword_lists: {l: {file: lists/l.txt}}\n"
    source = GOOD.replace("rules:\n", f"{extra}rules:\n").replace("{detector: cards,", "{detector: [cards, terms],")
    file.write_text(source, encoding="utf-8")
    assert main(["policy", "check", str(file)]) == 2
    assert "QP019 the file 'lists/l.txt' cannot be read" in capsys.readouterr().out
    (file.parent / "lists").mkdir()
    (file.parent / "lists" / "l.txt").write_text("heron\n", encoding="utf-8")
    assert main(["policy", "check", str(file)]) == 0


def test_tests_that_pass(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(file)]) == 0
    assert capsys.readouterr().out == "3 tests, 0 failures\n"


def test_a_test_that_fails_says_where_and_what(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD.replace("[removed: email]", "[removed: mail]"), encoding="utf-8")
    assert main(["policy", "test", str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{file}:11:9 failed cards: another's: text: expected 'to [removed: mail]', got 'to [removed: email]'",
        "3 tests, 1 failure",
    ]


def test_some_tests_by_name(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(file), "--run", "cards/g*", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["rule"], row["name"], row["passed"], row["line"]) for row in rows] == [("cards", "given", True, 13)]


def test_no_test_is_no_success(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "test", str(file), "--run", "nothing like it"]) == 1
    assert "no test was run" in capsys.readouterr().err
    file.write_text(GOOD[: GOOD.index("    tests:")] + "    mode: off\n", encoding="utf-8")
    assert main(["policy", "test", str(file)]) == 1


MODEL = """format: 1
policy: {id: p}
detectors:
  harm: {kind: model, engine: builtin, model: ngram}
  cards: {kind: pii}
rules:
  - id: harm
    phases: [input]
    when: {detector: harm, category: violence, at_least: high}
    then: block
    tests:
      - {name: given, phase: input, given: {harm: {violence: high}}, expect: {action: block}}
      - {name: wrong, phase: input, text: "good morning to you all", expect: {action: block}}
      - {name: calm, phase: input, text: "good morning to you all", expect: {action: allow}}
  - id: cards
    phases: [input]
    when: {all: [{detector: cards}, {none: [{detector: harm, category: violence, at_least: high}]}]}
    then: redact
    mode: monitor
    tests:
      - {name: not asked, phase: input, text: "mail a@b.com", expect: {action: allow, would: redact}}
  - id: flat
    phases: [input]
    when: {detector: cards}
    then: flag
    tests:
      - {name: one, phase: input, text: "mail a@b.com", expect: {action: flag}}
      - {name: another's, phase: input, text: "mail a@b.com", expect: {action: flag, would: redact, rules: [cards]}}
      - {name: none, phase: input, text: "no mail", expect: {action: allow}}
"""


@pytest.mark.parametrize(
    ("more", "ran", "code", "left", "note"),
    [
        ([], ["given", "one", "none"], 0, 4, "a text is left out that its rule, or the rule that it expects, gives to a model"),
        (["--models"], ["given", "wrong", "calm", "not asked", "one", "another's", "none"], 1, 0, "the model reads them all"),
        (["--run", "harm/wrong"], [], 1, 1, "nothing that ran is no success"),
        (["--run", "flat/none"], ["none"], 0, 0, "only of those that were chosen is told that they were left out"),
    ],
)
def test_texts_for_models_wait_until_models_are_asked(
    more: list[str], ran: list[str], code: int, left: int, note: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(MODEL, encoding="utf-8")
    assert main(["policy", "test", str(file), "--json", *more]) == code, note
    out, err = capsys.readouterr()
    assert [json.loads(line)["name"] for line in out.splitlines()] == ran, note
    told = f"{file}: left out: {left} test{'s' * (left != 1)} with a text for a model or a judge; --models runs all\n"
    assert (told in err) is (left > 0), note
    assert ("no test was run" in err) is (not ran), note


def test_a_broken_policy_is_not_tested(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(GOOD.replace("phases: [input, output]", "phases: [inptu]"), encoding="utf-8")
    assert main(["policy", "test", str(file)]) == 2
    assert f"{file}:7:14 error QP001" in capsys.readouterr().err


def test_the_schema_lists_all_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "schema"]) == 0
    told = json.loads(capsys.readouterr().out)
    names = {one["const"] for one in told["$defs"]["pattern"]["oneOf"]}
    assert {"cn_id_card", "cn_mobile", "payment_card", "email", "iban", "ip"} <= names


def test_the_policy_that_ships_has_no_fault_and_passes_its_tests(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "check", "--strict"]) == 0
    assert main(["policy", "test", "--models"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(" tests, 0 failures\n")
    assert int(out.split()[-4]) > 60
