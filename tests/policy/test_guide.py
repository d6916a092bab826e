"""docs/policy.md tells the truth: its policies compile and pass their tests, and it names every key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moderation.cli import main
from moderation.policy import keys
from moderation.policy.compile import compile_policy
from moderation.policy.faults import CODES, Faults
from moderation.policy.load import parse
from tests.policy.doubles import VOCABULARY, Files

GUIDE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
WHOLE = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
PARTS = re.findall(r"```yaml-part\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("source", WHOLE)
def test_whole_policies_pass(source: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(source, encoding="utf-8")
    assert main(["policy", "check", "--strict", str(path)]) == 0
    assert main(["policy", "test", str(path)]) == 0


@pytest.mark.parametrize("when", [line[6:] for part in PARTS for line in part.splitlines() if line.startswith("when: ")])
def test_each_condition_can_be_read(when: str) -> None:
    categories = ["injection", "jailbreak", "secret", "violence"]
    detectors = "".join(f"  {c}: {{kind: words, categories: {c}, lists: l}}\n" for c in categories)
    source = f"""format: 1
policy: {{id: p}}
detectors:
{detectors}  pii: {{kind: patterns, categories: personal_data, patterns: [cn_id_card, payment_card]}}
word_lists: {{l: {{words: [x]}}}}
rules:
  - id: r
    phases: [input]
    then: block
    mode: monitor
    when: {when}
"""
    found = compile_policy(source.encode(), "p.yaml", VOCABULARY, Files({}))
    assert found.policy is not None, "\n".join(map(str, found.faults))


@pytest.mark.parametrize("part", [part for part in PARTS if not part.startswith("when: ")])
def test_each_part_is_yaml(part: str) -> None:
    faults = Faults("part")
    assert parse(part.encode(), faults) is not None
    assert faults.found == []


@pytest.mark.parametrize(
    "table",
    [keys.TOP, keys.POLICY, keys.DEFAULTS, keys.STREAM, keys.KEEP, keys.DETECTOR, keys.PATTERN, keys.WORD_LIST, keys.RULE, keys.GROUPS,
     keys.ATOM, keys.TEST, keys.EXPECT],
)  # fmt: skip
def test_every_key_is_named(table: dict[str, str]) -> None:
    assert [key for key in table if not re.search(rf"[`{{ ,]{key}[`:,}} ]", GUIDE)] == []


def test_every_word_of_a_context_is_named() -> None:
    assert [key for key in keys.CONTEXT if f"`{key}`" not in GUIDE] == []


def test_codes_say_what_to_do() -> None:
    assert all(about.meaning.endswith(".") and about.todo.endswith(".") for about in CODES.values())
    assert "`QP018`" in GUIDE
