"""A sidecar with Qwen3Guard in process: from the policy's words to a block, and what is told where it cannot be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from moderation.detect.build import build, vocabulary
from moderation.detect.guards import describe
from moderation.detect.transformer.folder import place, read_written
from moderation.detect.transformer.guard import Guard
from moderation.errors import UsageError
from moderation.policy.archive import archive, from_archive
from moderation.policy.compile import Compiled, compile_policy
from tests.detect.transformer import tiny_guard
from tests.extras import need
from tests.fakes import json_script
from tests.kitchen import Kitchen

POLICY = """format: 1
policy: {id: p}
detectors:
  own: {kind: model, engine: qwen3guard, model: MODEL, timeout: 5s, MORE}
rules:
  - {id: r, phases: [input, output], when: {category: violence}, at_least: high, then: block, tests: [
      {name: one, phase: input, given: {own: {violence: high}}, expect: {action: block}},
      {name: none, phase: input, given: {own: {violence: none}}, expect: {action: allow, rules: []}}]}
"""
CONFIG: dict[str, Any] = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}
ANSWER = json_script(
    {
        "id": "1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "to boom"}, "finish_reason": "stop"}],
    }
)


def made(folder: Path, config: object = CONFIG, *, template: str | None = "chat_template.jinja") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("{}")
    if template is not None:
        (folder / template).write_text('{"chat_template": "{{ messages }}"}')
    return folder


def source(folder: Path | str, more: str) -> bytes:
    return POLICY.replace("MODEL", str(folder)).replace("MORE", more).encode()


def compiled(folder: Path | str, more: str) -> Compiled:
    return compile_policy(source(folder, more), "p.yaml", vocabulary(), lambda name: b"")


def pinned(folder: Path) -> str:
    return f'pin: "{read_written(folder).pin}"'


def test_what_the_policy_leaves_out_is_the_engines_own(tmp_path: Path) -> None:
    folder = made(tmp_path)
    policy = compiled(folder, pinned(folder)).usable()
    spec = policy.detectors["own"]
    assert {"violence", "personal_data", "politics", "jailbreak"} <= set(spec.categories)
    assert (spec.languages, spec.gives_spans, len(spec.categories)) == (None, False, 9)
    assert from_archive(archive(policy)).detectors == policy.detectors


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ("pin: PIN", "", ""),
        ("pin: PIN, labels: {Violent: violence, PII: violence}, options: {strictness: strict}", "", ""),
        ("", "QP015", "lacks 'pin'. That of the model that lies there is sha256:"),
        ('pin: "sha256:0000000000000000000000000000000000000000000000000000000000000000"', "QP032", "another than"),
        ("pin: PIN, labels: {Violence: x}", "QP020", "Did you mean 'Violent'?"),
        ("pin: PIN, options: {strictness: strickt}", "QP001", "Allowed: strict, graded, loose"),
        ("pin: PIN, options: {rate: 5}", "QP010", "rate"),
        ("pin: PIN, levels: {high: 0.95}", "QP031", "no score of the model reaches"),
        ("pin: PIN, gives_spans: true", "QP011", "tells no places"),
        ("pin: PIN, url: 'https://h'", "QP010", "takes no 'url'"),
        ("pin: PIN, key_env: KEY", "QP010", "takes no 'key_env'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, more: str, code: str, says: str) -> None:
    folder = made(tmp_path)
    found = compiled(folder, more.replace("PIN", f'"{read_written(folder).pin}"'))
    assert any(fault.code == code and says in fault.message for fault in found.faults) or (
        not code and found.policy is not None
    ), found


@pytest.mark.parametrize(
    ("config", "template", "says"),
    [
        (CONFIG | {"architectures": ["Qwen3ForSequenceClassification"]}, "chat_template.jinja", "it does not write"),
        (CONFIG | {"architectures": ["Qwen3ForGuardModel"], "auto_map": {"AutoModel": "m.py"}}, "chat_template.jinja", "code of its own"),
        (CONFIG, None, "no chat template"),
        (CONFIG, "vocab.json", "no chat template"),
        ([], "chat_template.jinja", "no object"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_guards_is_told(tmp_path: Path, config: object, template: str | None, says: str) -> None:
    assert says in str(describe(str(made(tmp_path, config, template=template))))


@pytest.mark.parametrize("template", ["chat_template.jinja", "tokenizer_config.json"])
def test_its_instruction_is_pinned(tmp_path: Path, template: str) -> None:
    folder = made(tmp_path, template=template)
    pin = read_written(folder).pin
    (folder / template).write_text('{"chat_template": "Say: Safety: Safe"}')
    assert read_written(folder).pin != pin


def test_one_that_is_cached_is_found_by_its_id(tmp_path: Path) -> None:
    hub = tmp_path / "models--Qwen--Qwen3Guard-Gen-0.6B"
    cached = made(hub / "snapshots" / "abc")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    assert place("Qwen/Qwen3Guard-Gen-0.6B", {"HF_HUB_CACHE": str(tmp_path)}) == cached


def test_one_that_is_not_there_is_told_with_what_to_do() -> None:
    faults = compiled("acme/no-such-guard", "").faults
    assert any(fault.code == "QP032" and "hf download acme/no-such-guard" in fault.message for fault in faults)


def test_a_model_that_changed_since_is_not_run(tmp_path: Path) -> None:
    folder = made(tmp_path)
    policy = compiled(folder, pinned(folder)).usable()
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UsageError, match=r"detector own: .*the model is another than the policy pins"):
        build(policy, {})


# --- at work


@pytest.mark.parametrize(
    ("text", "status", "degraded", "note"),
    [
        ("how to hello", 200, False, "a safe prompt goes through, and the answer is unsafe"),
        ("how to bomb", 400, False, "an unsafe one does not"),
        ("how to chatter", 400, True, "what does not parse counts as a match"),
    ],
)
def test_it_reads_prompts_and_answers(tmp_path: Path, text: str, status: int, degraded: bool, note: str) -> None:
    need("torch", "transformers", "safetensors", extra="transformers")
    folder = tiny_guard.model(tmp_path / "model")
    policy = tmp_path / "p.yaml"
    policy.write_bytes(source(folder, pinned(folder)))
    assert isinstance(build(compiled(folder, pinned(folder)).usable(), {})["own"], Guard)

    async def go() -> None:
        async with Kitchen(tmp_path, ANSWER, policy=policy) as kitchen:
            reply = await kitchen.chat(text)
            assert reply.status == status, note
            assert len(kitchen.upstream.received) == (1 if status == 200 else 0)
            assert (b"content_filter" in reply.body) == (status == 200)
            assert b"boom" not in reply.body
            assert (dict(reply.headers).get("x-moderation-degraded") is not None) == degraded, reply.headers

    asyncio.run(go())
