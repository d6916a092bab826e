"""Judges over the network in a policy: what may be said of each engine, where it is wrong, and that no key is ever shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moderation.detect.build import vocabulary
from moderation.detect.judges import ENGINES
from moderation.policy.archive import archive, from_archive
from moderation.policy.compile import Compiled, compile_policy
from moderation.policy.faults import Faults
from moderation.policy.load import parse, plain
from moderation.policy.model import DetectorSpec
from moderation.policy.schema import schema
from moderation.verdict import Level
from tests.policy.doubles import Files
from tests.policy.test_schema import accepts

GUARD = "{kind: http, engine: qwen3guard, url: 'https://guard:8000/v1', model: Qwen/Qwen3Guard-Gen-4B}"
POLICY = """format: 1
policy: {id: p}
detectors:
  guard: %s
rules:
  - id: r
    phases: [input, output]
    when: {category: %s}
    at_least: high
    then: block
    mode: monitor
"""


def compiled(detector: str, category: str = "violence") -> Compiled:
    return compile_policy((POLICY % (detector, category)).encode(), "p.yaml", vocabulary(), Files({}))


def spec(detector: str, category: str = "violence") -> DetectorSpec:
    return compiled(detector, category).usable().detectors["guard"]


def without(text: str, key: str) -> str:
    start = text.index(f"{key}: ")
    end = min(at for at in (text.find(", ", start), text.find("}", start)) if at > 0)
    return text[:start].removesuffix(", ") + text[end:]


def test_what_a_policy_says_is_what_is_built() -> None:
    one = spec(
        GUARD.replace(
            "}", ", key_env: GUARD_KEY, timeout: 2s, labels: {Violent: threats}, options: {strictness: loose, rate: 50}}"
        ),
        "threats",
    )
    assert one.engine is not None
    assert (one.engine.name, one.engine.model, one.engine.url) == (
        "qwen3guard",
        "Qwen/Qwen3Guard-Gen-4B",
        "https://guard:8000/v1",
    )
    assert (one.engine.key_env, one.engine.labels) == ("GUARD_KEY", {"Violent": "threats"})
    assert one.engine.options == {"strictness": "loose", "rate": 50}
    assert {"threats", "violence", "self_harm"} <= set(one.categories)
    assert (one.gives_spans, one.timeout_ms) == (False, 2_000)
    assert one.level(900_000) is Level.HIGH
    assert one.level(600_000) is Level.MEDIUM


def test_an_archive_holds_it_and_other_policies_keep_their_hash() -> None:
    policy = compiled(GUARD.replace("}", ", options: {strictness: strict}}")).usable()
    kept = from_archive(archive(policy))
    assert kept.detectors == policy.detectors
    assert kept.ref == policy.ref != compiled(GUARD).usable().ref
    plain = compiled("{kind: secrets, categories: [violence]}").usable()
    assert "engine" not in json.loads(archive(plain)["compiled.json"])["detectors"]["guard"]


GOOD = [
    ("{kind: http, engine: openai_moderation, url: 'http://127.0.0.1:8081/v1'}", "other_harm"),
    ("{kind: http, engine: openai_moderation, url: 'https://[::1]:8/v1/', model: m, key_env: K}", "hate_harassment"),
    (
        "{kind: http, engine: aliyun, url: 'https://green-cip.cn-shanghai.aliyuncs.com', key_env: S, options: {key_id_env: I}}",
        "politics",
    ),
    ("{kind: http, engine: llm_judge, url: 'https://h/v1', model: m, categories: [leaks, tone]}", "leaks"),
    (
        "{kind: http, engine: llm_judge, url: 'https://h', model: m, categories: a, options: {prompt: 'Judge {categories}.', format: text}}",
        "a",
    ),
    (GUARD.replace("}", ", categories: [violence, jailbreak]}"), "jailbreak"),
    (GUARD.replace("}", ", categories: [harm], labels: {Violent: harm, Jailbreak: harm}}"), "harm"),
]


@pytest.mark.parametrize(("detector", "category"), GOOD)
def test_what_can_be_said(detector: str, category: str) -> None:
    found = compiled(detector, category)
    assert found.policy is not None, "\n".join(map(str, found.faults))


BAD = [
    (without(GUARD, "engine"), "QP015", "lacks 'engine'"),
    (without(GUARD, "url"), "QP015", "lacks 'url', which the engine qwen3guard needs"),
    (without(GUARD, "model"), "QP015", "lacks 'model'"),
    (GUARD.replace("qwen3guard", "qwen3gard"), "QP001", "Did you mean 'qwen3guard'?"),
    (GUARD.replace("https://", "ftp://"), "QP012", "url must be http://"),
    (GUARD.replace("https://", "https://me:sesame@"), "QP012", "without user"),
    (GUARD.replace("/v1'", "/v1?key=sesame'"), "QP012", "without user, query"),
    (GUARD.replace("}", ", key_env: sk-sesame}"), "QP012", "never the key itself"),
    (GUARD.replace("}", ", options: {strictness: harsh}}"), "QP001", "Allowed: strict, graded, loose"),
    (GUARD.replace("}", ", options: {stricness: loose}}"), "QP010", "Did you mean 'strictness'?"),
    (GUARD.replace("}", ", options: {rate: 0}}"), "QP016", "rate is '0'; expected 1 to 10000"),
    (GUARD.replace("}", ", categories: [violense]}"), "QP020", "Did you mean 'violence'?"),
    (GUARD.replace("}", ", categories: [illegal_acts]}"), "QP020", "`labels` gives a label another category"),
    (GUARD.replace("}", ", gives_spans: true}"), "QP011", "tells no places"),
    (GUARD.replace("}", ", patterns: [email]}"), "QP010", "belongs to the kind patterns"),
    (GUARD.replace("}", ", entities: [X]}"), "QP010", "belongs to the kinds pii and secrets"),
    (GUARD.replace("}", ", pin: x}"), "QP010", "takes no 'pin'"),
    (
        "{kind: http, engine: openai_moderation, url: 'https://h', options: {strictness: loose}}",
        "QP010",
        "not a key of the options",
    ),
    ("{kind: http, engine: aliyun, url: 'https://h', key_env: S}", "QP015", "lack 'key_id_env'"),
    ("{kind: http, engine: aliyun, url: 'https://h', options: {key_id_env: I}}", "QP015", "lacks 'key_env'"),
    (
        "{kind: http, engine: aliyun, url: 'https://h', model: m, key_env: S, options: {key_id_env: I}}",
        "QP010",
        "takes no 'model'",
    ),
    (
        "{kind: http, engine: aliyun, url: 'https://h', key_env: S, options: {key_id_env: sesame-1}}",
        "QP012",
        "never the key itself",
    ),
    ("{kind: http, engine: llm_judge, url: 'https://h', model: m}", "QP015", "judges what they name"),
    (
        "{kind: http, engine: llm_judge, url: 'https://h', model: m, categories: a, options: {prompt: 'Judge it.'}}",
        "QP011",
        "must hold {categories}",
    ),
    ("{kind: secrets, categories: violence, engine: qwen3guard}", "QP010", "belongs to the kinds model, http"),
    ("{kind: secrets, categories: violence, options: {}}", "QP010", "belongs to the kinds model, http"),
]


@pytest.mark.parametrize(("detector", "code", "says"), BAD)
def test_what_is_wrong_is_told_and_no_key_is(detector: str, code: str, says: str) -> None:
    found = compiled(detector)
    told = [fault for fault in found.faults if fault.code == code]
    assert found.policy is None
    assert any(says in fault.message for fault in told), "\n".join(map(str, found.faults))
    assert all(fault.line == 4 for fault in told)
    assert not any("sesame" in fault.message for fault in found.faults)


def test_what_a_judge_finds_has_no_place_so_it_is_not_redacted() -> None:
    source = (POLICY % (GUARD, "violence")).replace("then: block", "then: redact")
    found = compile_policy(source.encode(), "p.yaml", vocabulary(), Files({}))
    assert "QP504" in [fault.code for fault in found.faults]


@pytest.mark.parametrize(("detector", "category"), GOOD)
def test_the_schema_knows_it(detector: str, category: str) -> None:
    node = parse((POLICY % (detector, category)).encode(), Faults("p"))
    assert node is not None
    shape = schema(vocabulary())["properties"]["detectors"]["additionalProperties"]
    value = plain(node)
    assert isinstance(value, dict)
    assert accepts(shape, value["detectors"]["guard"])


def test_the_guide_names_every_engine_option_and_category() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "policy.md").read_text(encoding="utf-8")
    for name, words in ENGINES.items():
        for word in (name, *words.options, *words.categories):
            assert f"`{word}`" in guide, word
