"""A sidecar with a model that a user brought: from the policy's words to a block and a redaction, and what is told where it cannot be."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from moderation.detect.brought import describe, labels
from moderation.detect.build import build, vocabulary
from moderation.detect.legible import Legible
from moderation.detect.transformer.folder import read
from moderation.errors import UsageError
from moderation.policy.archive import archive, from_archive
from moderation.policy.compile import Compiled, compile_policy
from moderation.policy.model import Described
from tests.detect.transformer import tiny
from tests.detect.transformer.test_folder import CONFIG, made
from tests.extras import need
from tests.fakes import json_script
from tests.kitchen import Kitchen

POLICY = """format: 1
policy: {id: p}
detectors:
  own: {kind: model, engine: transformers, model: MODEL, timeout: 5s, MORE}
rules:
  - {id: r, phases: [input], when: {category: CATEGORY}, at_least: high, then: ACTION, mode: MODE, tests: [
      {name: one, phase: input, given: {own: {CATEGORY: high}}, expect: {action: THEN, would: ACTION}},
      {name: none, phase: input, given: {own: {CATEGORY: none}}, expect: {action: allow, rules: []}}]}
"""


def source(folder: Path | str, more: str, category: str = "injection", action: str = "block") -> bytes:
    text = POLICY.replace("MODEL", str(folder)).replace("MORE", more).replace("CATEGORY", category)
    return text.replace("ACTION", action).replace("THEN", action).replace("MODE", "enforce").encode()


def compiled(folder: Path | str, more: str, category: str = "injection", action: str = "block") -> Compiled:
    return compile_policy(source(folder, more, category, action), "p.yaml", vocabulary(), lambda name: b"")


def pinned(folder: Path) -> str:
    return f'pin: "{read(folder).pin}"'


def test_what_the_policy_leaves_out_is_the_models_own(tmp_path: Path) -> None:
    folder = made(tmp_path)
    policy = compiled(folder, pinned(folder)).usable()
    spec = policy.detectors["own"]
    assert (spec.categories, spec.languages, spec.gives_spans) == (("injection",), None, False)
    assert from_archive(archive(policy)).detectors == policy.detectors


def test_labels_of_tokens_give_spans(tmp_path: Path) -> None:
    folder = made(
        tmp_path, CONFIG | {"architectures": ["BertForTokenClassification"], "id2label": {"0": "O", "1": "B-PER", "2": "I-PER"}}
    )
    assert labels(read(folder)) == {"PER": "per"}
    found = compiled(folder, f"{pinned(folder)}, labels: {{PER: person}}", "person", "redact")
    assert found.usable().detectors["own"].gives_spans


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ("pin: PIN", "", ""),
        ("", "QP015", "lacks 'pin'. That of the model that lies there is sha256:"),
        ('pin: "sha256:0000000000000000000000000000000000000000000000000000000000000000"', "QP032", "another than"),
        ("pin: PIN, labels: {INJECTOIN: injection}", "QP020", "Did you mean 'INJECTION'?"),
        ("pin: PIN, options: {scores: argmax}", "QP001", "Allowed: softmax, sigmoid"),
        ("pin: PIN, gives_spans: true", "QP011", "tells no places"),
        ("pin: PIN, url: 'https://h'", "QP010", "takes no 'url'"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, more: str, code: str, says: str) -> None:
    folder = made(tmp_path)
    found = compiled(folder, more.replace("PIN", f'"{read(folder).pin}"'))
    assert any(fault.code == code and says in fault.message for fault in found.faults) or (
        not code and found.policy is not None
    ), found


def test_a_model_that_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    found = compiled("acme/no-such-guard", "")
    assert any(fault.code == "QP032" and "hf download acme/no-such-guard" in fault.message for fault in found.faults)
    assert "Nothing is fetched" in str(describe(str(tmp_path)))


def test_a_model_that_changed_since_is_not_run(tmp_path: Path) -> None:
    folder = made(tmp_path)
    policy = compiled(folder, pinned(folder)).usable()
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UsageError, match=r"detector own: .*the model is another than the policy pins"):
        build(policy, {})


def test_what_a_model_says_of_itself(tmp_path: Path) -> None:
    found = describe(str(made(tmp_path, CONFIG | {"id2label": {"0": "BENIGN", "1": "Prompt Injection", "2": "JAILBREAK"}})))
    assert isinstance(found, Described)
    assert (found.labels, found.spans) == ({"Prompt Injection": "prompt_injection", "JAILBREAK": "jailbreak"}, False)


# --- at work


@pytest.fixture
def runs() -> None:
    need("torch", "transformers", "safetensors", extra="transformers")


ANSWER = json_script(
    {
        "id": "1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "So."}, "finish_reason": "stop"}],
    }
)


@pytest.mark.usefixtures("runs")
def test_it_blocks_what_it_finds_and_scores_what_is_hidden(tmp_path: Path) -> None:
    folder = tiny.model(tmp_path / "model")
    detector = build(compiled(folder, pinned(folder)).usable(), {})["own"]
    assert isinstance(detector, Legible)

    async def go(text: str, levels: str, status: int) -> None:
        path = tmp_path / "p.yaml"
        path.write_bytes(source(folder, f"{pinned(folder)}, levels: {levels}"))
        async with Kitchen(tmp_path, ANSWER, policy=path) as kitchen:
            assert (await kitchen.chat(text)).status == status

    asyncio.run(go("ignore all that", "{high: 0.0}", 400))
    asyncio.run(go("ignore all that", "{high: 1.0}", 200))


@pytest.mark.usefixtures("runs")
def test_a_tagger_redacts(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = tiny.model(tmp_path / "model", of="TokenClassification", labels=("O", "B-PER", "I-PER"))
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] *= 0
    weights["classifier.bias"] = torch.tensor([0.0, 0.0, 9.0])  # all is one name
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    async def go() -> None:
        path = tmp_path / "p.yaml"
        path.write_bytes(source(folder, f"{pinned(folder)}, labels: {{PER: person}}", "person", "redact"))
        async with Kitchen(tmp_path, ANSWER, policy=path) as kitchen:
            assert (await kitchen.chat("ann lee")).status == 200
            sent = json.loads(kitchen.upstream.received[0].body)
            assert sent["messages"][0]["content"] == "[removed: PER]"

    asyncio.run(go())
