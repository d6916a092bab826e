"""policy/: from any bytes to a policy that runs its own tests, or to faults with places."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fuzz.target import Run, Target, law
from moderation.detect.build import build, vocabulary
from moderation.errors import UsageError
from moderation.flow.trial import trial
from moderation.policy.archive import archive, from_archive
from moderation.policy.compile import compile_policy
from moderation.policy.faults import CODES, Fault

ROOT = Path(__file__).parent.parent.parent
WORDS = "bomb\n# a comment\n炸弹  \nab ba\n".encode()


def within(data: bytes, line: int, column: int) -> bool:
    """Whether a file has such a place, its end included. Lines end as YAML 1.2 says."""
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return 1 <= line <= len(lines) and 1 <= column <= len(lines[line - 1].decode("utf-8", "replace")) + 1


def _read(name: str) -> bytes:
    if name.startswith("lists/"):
        return WORDS
    raise FileNotFoundError(2, "No such file or directory", name)


def prepare() -> Run:
    known = vocabulary()

    def run(data: bytes) -> str:
        compiled = compile_policy(data, "p.yaml", known, _read)
        for fault in compiled.faults:
            law(fault.code in CODES, "a code that is not in the table")
            law(bool(fault.message) and "\n" not in str(fault), "a message that is not one line")
            law(_inside(fault, data), "a place outside the file")
        told = " ".join(sorted({f"{fault.code} {fault.message[:12]}" for fault in compiled.faults}))
        if compiled.policy is None:
            law(any(fault.level.value == "error" for fault in compiled.faults), "no policy, and no error")
            return told
        if compiled.policy.review_by is not None:
            datetime.fromisoformat(compiled.policy.review_by).replace(tzinfo=UTC)
        law(from_archive(archive(compiled.policy)).ref == compiled.policy.ref, "read from its archive it is another")
        try:
            results = trial(compiled.policy, build)
        except UsageError as error:
            return f"taken, not built: {error}"
        return f"taken {len(results)} {sum(not one.passed for one in results)} {told}"

    return run


def _inside(fault: Fault, data: bytes) -> bool:
    return within(data if fault.file == "p.yaml" else WORDS, fault.line, fault.column)


SMALL = """\
format: 1
policy: {id: small, title: Small, languages: [en, zh], review_by: "2099-01-01"}
defaults: {mode: enforce, stream: {hold: sentence, routes: {pay: all}}, keep: {days: 184}, timeout: 300ms}
detectors:
  codes: {kind: patterns, categories: [internal], patterns:
    [email, {name: own, regex: 'AKIA[0-9A-Z]{4}', must: [AKIA1234], must_not: [AKIA]}]}
  terms: {kind: words, categories: [weapons], lists: [arms], levels: {low: 0.2, high: 0.8}, on_failure: flag}
  people: {kind: pii, entities: [EMAIL_ADDRESS, CN_ID_CARD]}
  keys: {kind: secrets}
word_lists:
  arms: {words: [bomb, 炸弹], whole_word: true}
  more: {file: lists/arms.txt}
regulations: {r1: {title: A law, url: https://x.io}}
messages: {no_arms: {en: "Not here ({decision_id}).", zh: 不行。}}
rules:
  - id: arms
    title: No arms
    severity: high
    cites: [r1]
    phases: [input, output]
    when: {any: [{category: weapons}, {all: [{detector: codes}, {route: [pay]}]}]}
    at_least: low
    then: block
    message: no_arms
    tests:
      - {name: yes, phase: input, text: a bomb, expect: {action: block}}
      - {name: given, phase: input, given: {terms: high}, expect: {action: block, rules: [arms]}}
      - {name: no, phase: input, text: hello, expect: {action: allow}}
"""


def _seeds() -> Sequence[bytes]:
    shipped = [path.read_bytes() for path in sorted((ROOT / "policies").glob("*.yaml"))]
    cases = [path.read_bytes() for path in sorted((ROOT / "tests" / "cases").glob("*.yaml"))]
    return [SMALL.encode(), *cases, *shipped]


TARGET = Target(
    "policy", "Compiled, or faults with codes and places within the file; what is compiled runs its own tests; in bounded time.",
    _seeds, prepare,
    (b"&a ", b"*a", b"!!python/object:os.system ", b"<<: *a\n", b"|\n", b">-\n", b"---\n", b"...\n", b"? ", b"- ", b"%TAG ! x:\n",
     b"# ", b"[", b"{", b": ",
     b"format: 1\n", b"rules:\n", b"when: {", b"any: [", b"all: [", b"none: [", b"at_least: 2", b"then: pseudonymise",
         b"phases: [tool_call]", b"regex: '",
     b"(?:a{1000}){1000}", b"reach: 5", b"must: [", b"over: answer", b"mode: monitor", b"given: {", b"unavailable", b"text: ",
     b"levels: {", b"file: ../x",
     b"'", b'"\\x00"', b"0o17", b".inf", b"1e400", b"2026-02-30", b"no", b"\x85", b"languages: [", b"entities: [",
     b"kind: words"),
)
