"""Sources of harmless user prompts: 0 on every head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from classifiers.train.row import BENIGN, HEADS, Role, Row, Source, Split
from classifiers.train.sources.table import json_records, json_value


def _benign(text: str, lang: str, source: str, slice_: str | None, group: str = "", pin: Split | None = None) -> Row:
    return Row(text, lang, dict(BENIGN), source, slice=slice_, group=group, pin=pin)


def arena_hard(data: Path) -> Iterator[Row]:
    """Hard user prompts, many long; v0.1 names topic clusters, each a group. Both releases are English but for a few."""
    for record in json_records(data / "arena_hard" / "data__arena-hard-v0.1__question.jsonl"):
        yield _benign(record["prompt"], "en", "arena_hard", "benign_chat", f"arena:{record['cluster']}")
    for record in json_records(data / "arena_hard" / "data__arena-hard-v2.0__question.jsonl"):
        slice_ = "code_security" if record["subcategory"] == "coding" else "benign_chat"
        yield _benign(record["prompt"], "en", "arena_hard", slice_)


def self_instruct(data: Path) -> Iterator[Row]:
    """Tasks that users may give, with and without an input."""
    folder = data / "self_instruct"
    for name in ("seed_tasks", "user_oriented_instructions"):
        for record in json_records(folder / f"{name}.jsonl"):
            given = record["instances"][0]["input"].strip()
            text = f"{record['instruction']}\n{given}" if given else record["instruction"]
            yield _benign(text, "en", "self_instruct", "benign_chat", f"self_instruct:{record['id']}")


def mt_bench(data: Path) -> Iterator[Row]:
    """Two-turn questions; kept for testing."""
    for name in ("mt_bench", "vicuna_bench"):
        for record in json_records(data / "mt_bench" / f"fastchat__llm_judge__data__{name}__question.jsonl"):
            for turn in record["turns"]:
                yield _benign(turn, "en", "mt_bench", "benign_chat", f"{name}:{record['question_id']}", Split.TEST)


def role_play(data: Path) -> Iterator[Row]:
    """Role-play tasks with no ill intent: hard negatives for `jailbreak`."""
    for record in json_value(data / "gpteacher" / "roleplay-simple-deduped-roleplay-instruct.json"):
        text = f"{record['instruction']}\n{record['input']}" if record["input"] else record["instruction"]
        yield _benign(text, "en", "gpteacher_roleplay", "benign_chat")


def code_tasks(data: Path) -> Iterator[Row]:
    """Programming tasks."""
    for record in json_value(data / "gpteacher" / "codegen-instruct.json"):
        text = f"{record['instruction']}\n{record['input']}" if record["input"] else record["instruction"]
        yield _benign(text, "en", "gpteacher_code", "code_security")


def security_work(data: Path) -> Iterator[Row]:
    """Coding requests that look like attacks and are none; those of one kind of attack follow few forms."""
    for record in json_value(data / "cyberseceval" / "mitre_frr.json"):
        if not record["is_malicious"]:
            yield _benign(record["mutated_prompt"], "en", "cyberseceval_frr", "code_security")


def secure_coding(data: Path) -> Iterator[Row]:
    """Requests for functions, written from open-source code."""
    for record in json_value(data / "cyberseceval" / "instruct.json"):
        yield _benign(record["test_case_prompt"], "en", "cyberseceval_instruct", "code_security")


def personas(data: Path) -> Iterator[Row]:
    """'Act as' prompts in simplified and traditional characters: a pair is one group."""
    for name in ("prompts-zh", "prompts-zh-TW"):
        for index, record in enumerate(json_value(data / "persona_prompts_zh" / f"{name}.json")):
            yield _benign(record["prompt"], "zh", "personas_zh", "benign_chat", f"persona:{index}")


def answers(data: Path) -> Iterator[Row]:
    """Answers to harmless tasks: role-play, code and what a set of seeds gives."""
    folder = data / "gpteacher"
    for name in ("roleplay-simple-deduped-roleplay-instruct", "codegen-instruct"):
        for record in json_value(folder / f"{name}.json"):
            yield Row(record["response"], "en", dict(BENIGN), "harmless_answers", Role.RESPONSE, also=(record["instruction"],))
    for record in json_records(data / "self_instruct" / "seed_tasks.jsonl"):
        text = record["instances"][0]["output"]
        yield Row(text, "en", dict(BENIGN), "harmless_answers", Role.RESPONSE, also=(record["instruction"],))


def sources() -> Iterable[Source]:
    """The sources of this file."""
    en, heads, none = frozenset({"en"}), frozenset(HEADS), frozenset[str]()
    yield Source("arena_hard", "Apache-2.0", en, none, heads, arena_hard)
    yield Source("self_instruct", "Apache-2.0", en, none, heads, self_instruct)
    yield Source("mt_bench", "Apache-2.0", en, none, heads, mt_bench)
    yield Source("gpteacher_roleplay", "MIT", en, none, heads, role_play)
    yield Source("gpteacher_code", "MIT", en, none, heads, code_tasks, cap=2_500)
    yield Source("cyberseceval_frr", "MIT", en, none, heads, security_work)
    yield Source("cyberseceval_instruct", "MIT", en, none, heads, secure_coding, cap=1_000)
    yield Source("harmless_answers", "MIT (GPTeacher), Apache-2.0 (Self-Instruct)", en, none, heads, answers, cap=2_500)
    yield Source("personas_zh", "MIT", frozenset({"zh"}), none, heads, personas)
