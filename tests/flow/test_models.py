"""A sidecar with a small model of its own: from the policy's words to requests, answers and streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from moderation.detect.api import Detector, Passage
from moderation.detect.build import build, vocabulary
from moderation.detect.classifier import Classifier, load, shipped
from moderation.detect.classifier.gate import Gated
from moderation.detect.classifier.layout import described
from moderation.detect.classifier.manifest import read_manifest
from moderation.detect.engines import engines
from moderation.detect.legible import Legible
from moderation.detect.models import Models, located
from moderation.errors import UsageError
from moderation.flow.loading import FileLoader
from moderation.flow.policies import PolicyRejected
from moderation.metrics import Metrics
from moderation.policy.archive import archive, from_archive
from moderation.policy.compile import Compiled, compile_policy
from moderation.policy.model import Policy
from moderation.verdict import Finding, Level, Unknown
from tests.detect.classifier import tiny
from tests.detect.classifier.bare import without
from tests.fakes import json_script, sse, stream_script
from tests.kitchen import Kitchen, answer, chunk, said

RULES = """
rules:
  - id: violence
    title: No violence
    phases: [input, tool_result, output]
    when: {category: violence}
    at_least: high
    then: block
    tests:
      - {name: a bomb, phase: input, language: en, text: "how to make a bomb", expect: {action: block}}
      - {name: a hero, phase: input, language: en, text: "how to make a hero", expect: {action: allow}}
"""


def policy(detector: str, rules: str = RULES) -> str:
    return f"format: 1\npolicy: {{id: p}}\ndetectors:\n  harm: {detector}\n{rules}"


def compiled(models: Models, detector: str, rules: str = RULES) -> Compiled:
    known = vocabulary(engines(models))
    return compile_policy(policy(detector, rules).encode(), "p.yaml", known, lambda name: b"")


@pytest.fixture
def models(tmp_path: Path) -> Models:
    tiny.encoder(tmp_path / "models" / "tiny")
    tiny.ngram(tmp_path / "models" / "ngram")
    return Models(tmp_path / "models")


BUILTIN = "{kind: model, engine: builtin, model: tiny}"


def test_what_the_policy_leaves_out_is_the_models_own(models: Models) -> None:
    made = compiled(models, BUILTIN).usable()
    spec = made.detectors["harm"]
    assert spec.categories == ("injection", "violence")
    assert spec.levels == {Level.MEDIUM: 500_000, Level.HIGH: 850_000, Level.CRITICAL: 970_000}
    assert (spec.languages, spec.gives_spans) == (("en", "zh"), False)
    assert spec.engine is not None
    assert spec.engine.pin == read_manifest(models.folder / "tiny").pin
    assert from_archive(archive(made)).detectors == made.detectors


SAID = [
    (
        "{kind: model, engine: builtin, model: tiny, categories: violence, levels: {high: 0.9}, languages: any}",
        ("violence",),
        None,
    ),
    ("{kind: model, engine: builtin, model: tiny, labels: {injection: violence}, languages: [en]}", ("violence",), ("en",)),
]


@pytest.mark.parametrize(("detector", "categories", "languages"), SAID)
def test_what_the_policy_says(
    models: Models, detector: str, categories: tuple[str, ...], languages: tuple[str, ...] | None
) -> None:
    spec = compiled(models, detector).usable().detectors["harm"]
    assert (spec.categories, spec.languages) == (categories, languages)


WRONG = [
    ("{kind: model, engine: builtin, model: tinny}", "QP032", "none that ships is called 'tinny'. Did you mean 'tiny'?"),
    ("{kind: model, engine: builtin}", "QP015", "lacks 'model'"),
    ("{kind: model, model: tiny}", "QP015", "lacks 'engine'. Known: builtin, onnx"),
    ("{kind: model, engine: builtin, model: tiny, pin: 'sha256:00'}", "QP012", "pin must be"),
    (
        "{kind: model, engine: builtin, model: tiny, pin: 'sha256:" + "0" * 64 + "'}",
        "QP032",
        "is another than the detector 'harm' pins: sha256:",
    ),
    (
        "{kind: model, engine: builtin, model: tiny, labels: {violense: x}}",
        "QP020",
        "has no label 'violense'. Did you mean 'violence'?",
    ),
    ("{kind: model, engine: builtin, model: tiny, categories: [violence, hate]}", "QP020", "gives no category 'hate'"),
    ("{kind: model, engine: builtin, model: tiny, gives_spans: true}", "QP011", "tells no places"),
    ("{kind: model, engine: builtin, model: tiny, url: 'http://h'}", "QP010", "takes no 'url'"),
    ("{kind: model, engine: qwen3guard, model: m}", "QP032", "nor a cached model of this name"),
    ("{kind: model, engine: onnx, model: /nowhere, pin: 'sha256:" + "0" * 64 + "'}", "QP032", "Nothing is fetched while it runs"),
    ("{kind: model, engine: onnx, model: /nowhere, options: {scores: relu}}", "QP001", "Allowed: softmax, sigmoid"),
    ("{kind: model, engine: builtin, model: tiny, options: {scores: sigmoid}}", "QP010", "scores"),
]


@pytest.mark.parametrize(("detector", "code", "said"), WRONG)
def test_what_is_wrong_is_told(models: Models, detector: str, code: str, said: str) -> None:
    faults = compiled(models, detector).faults
    assert any(fault.code == code and said in fault.message for fault in faults), list(map(str, faults))


def test_a_folder_of_ones_own_must_be_pinned(models: Models) -> None:
    folder = models.folder / "tiny"
    faults = compiled(models, f"{{kind: model, engine: onnx, model: {folder}}}").faults
    assert [fault.code for fault in faults] == ["QP015"]
    assert read_manifest(folder).pin in faults[0].message, "told, so that it can be copied"


def test_a_model_that_changes_after_the_policy_was_read_is_not_taken(models: Models) -> None:
    made = compiled(models, BUILTIN).usable()
    tiny.encoder(models.folder / "tiny", version="2")
    with pytest.raises(UsageError, match=r"detector harm: .*another than the policy pins"):
        build(made, {}, engines(models))


def test_heads_that_no_category_is_wanted_of_find_nothing(models: Models) -> None:
    made = compiled(models, "{kind: model, engine: builtin, model: tiny, categories: violence}").usable()
    (detector,) = build(made, {}, engines(models)).values()
    assert isinstance(detector, Legible)
    assert isinstance(detector.inner, Classifier)
    assert [head.name for _, head, _ in detector.inner._wanted] == ["violence"]


def behind(models: Models, detector: str) -> object:
    """What stands right behind the readings of a text."""
    (made,) = build(compiled(models, detector).usable(), {}, engines(models)).values()
    assert isinstance(made, Legible)
    return made.inner


def measured(models: Models, **changes: object) -> None:
    pin = read_manifest(models.folder / "ngram").pin
    gate = {"model": "ngram", "pin": pin, "below": 0.3, "default": True, "languages": ["en", "zh"]} | changes
    tiny.encoder(models.folder / "tiny", gate=gate)


GATES = [
    ("{kind: model, engine: builtin, model: tiny}", {}, True, "measured, and worth it"),
    ("{kind: model, engine: builtin, model: tiny}", {"default": False}, False, "measured, and not worth it"),
    ("{kind: model, engine: builtin, model: tiny}", {"pin": "sha256:" + "0" * 64}, False, "measured with another"),
    ("{kind: model, engine: builtin, model: tiny, options: {gate: none}}", {}, False, "not wanted"),
    ("{kind: model, engine: builtin, model: tiny, options: {gate: ngram}}", {"default": False}, True, "wanted"),
    ("{kind: model, engine: builtin, model: tiny, levels: {low: 0.3, high: 0.9}}", {}, False, "not measured so far below"),
    ("{kind: model, engine: builtin, model: tiny, levels: {high: 0.9}}", {}, True, "above what was measured"),
    (
        "{kind: model, engine: builtin, model: tiny, levels: {low: 0.3, high: 0.9}, options: {gate: ngram}}",
        {},
        True,
        "wanted all the same",
    ),
]


@pytest.mark.parametrize(("detector", "changes", "has", "note"), GATES)
def test_a_gate(models: Models, detector: str, changes: dict[str, object], has: bool, note: str) -> None:
    measured(models, **changes)
    assert isinstance(behind(models, detector), Gated) is has, note


def test_a_model_of_ones_own_has_a_gate_where_that_is_wanted(models: Models) -> None:
    measured(models)
    folder = models.folder / "tiny"
    said = f"{{kind: model, engine: onnx, model: {folder}, pin: '{read_manifest(folder).pin}'"
    assert isinstance(behind(models, said + "}"), Classifier)
    assert isinstance(behind(models, said + ", options: {gate: ngram}}"), Gated)


def test_a_gate_that_is_wanted_and_cannot_be_had_is_told(models: Models) -> None:
    wants = "{kind: model, engine: builtin, model: tiny, options: {gate: ngram}}"
    with pytest.raises(UsageError, match="cannot have the gate ngram: nobody has measured one for the model tiny"):
        behind(models, wants)
    measured(models)
    (models.folder / "ngram" / "weights.npz").write_bytes(b"damaged")
    with pytest.raises(UsageError, match=r"cannot have the gate ngram: .*weights\.npz"):
        behind(models, wants)
    assert isinstance(behind(models, BUILTIN), Classifier), "where the policy says nothing all is asked of the model"


def exported(folder: Path, more: str = "") -> str:
    pin = described(folder).pin
    return f"{{kind: model, engine: onnx, model: {folder}, pin: '{pin}', labels: {{Prompt Injection: injection}}{more}}}"


def test_an_exported_folder_has_the_usual_levels_and_chances_of_its_own_or_of_the_policy(models: Models, tmp_path: Path) -> None:
    folder = tiny.exported(tmp_path / "guard")
    found = {}
    for more in ("", ", options: {scores: sigmoid}"):
        made = compiled(models, exported(folder, more)).usable()
        spec = made.detectors["harm"]
        assert (spec.categories, spec.languages) == (("injection", "violence"), None)
        assert spec.levels == {Level.LOW: 300_000, Level.MEDIUM: 500_000, Level.HIGH: 850_000}
        (detector,) = build(made, {}, engines(models)).values()
        assert isinstance(detector, Legible)
        found[more] = detector.detect([Passage("a"), Passage("ignore bomb")])
        assert detector.detect([Passage("ignore")])[0] == detector.detect([Passage("ignore")])[0]
    plain, own = ([{one.category: one.score for one in said} for said in answers] for answers in found.values())  # type: ignore[union-attr]
    assert plain[0] == {"injection": 333_333, "violence": 333_333}
    assert own[0] == {"injection": 500_000, "violence": 500_000}
    assert own[1]["violence"] > 900_000 < own[1]["injection"], "both hold"


def test_an_exported_folder_that_changes_is_not_taken(models: Models, tmp_path: Path) -> None:
    made = compiled(models, exported(tiny.exported(tmp_path / "guard"))).usable()
    tiny.exported(tmp_path / "guard", problem_type="multi_label_classification")
    with pytest.raises(UsageError, match="the model is another than the policy pins"):
        build(made, {}, engines(models))


def test_an_exported_model_is_found_in_the_cache(models: Models, tmp_path: Path) -> None:
    hub = tmp_path / "hub" / "models--acme--guard"
    cached = tiny.exported(hub / "snapshots" / "abc")
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    assert located("acme/guard", {"HF_HUB_CACHE": str(tmp_path / "hub")}) == cached
    with pytest.raises(UsageError, match="hf download acme/other"):
        located("acme/other", {"HF_HUB_CACHE": str(tmp_path / "hub")})


def test_what_an_exported_folder_lacks_is_told_at_its_place(models: Models, tmp_path: Path) -> None:
    folder = tiny.exported(tmp_path / "guard")
    said = exported(folder)
    (folder / "tokenizer.json").unlink()
    fault = next(one for one in compiled(models, said).faults if one.code == "QP032")
    assert "nor tokenizer.json. Write it with" in fault.message


# ---- in a running sidecar ----------------------------------------------------------------------------------------------


def own(tmp_path: Path, rules: str = RULES, more: str = "") -> Path:
    """A policy with a folder of one's own."""
    folder = tiny.encoder(tmp_path / "mine")
    path = tmp_path / "p.yaml"
    detector = f"{{kind: model, engine: onnx, model: {folder}, pin: '{read_manifest(folder).pin}'{more}}}"
    path.write_text(policy(detector, rules), "utf-8")
    return path


def test_requests_and_answers(tmp_path: Path) -> None:
    async def go() -> None:
        scripts = [json_script(answer("all is well")), json_script(answer("then you kill it with a bomb"))]
        async with Kitchen(tmp_path, *scripts, policy=own(tmp_path)) as kitchen:
            assert (await kitchen.chat("hello")).status == 200
            blocked = await kitchen.chat("how to make a bomb")
            assert blocked.json["error"]["moderation"]["rules"] == ["violence"]
            (decided,) = [one for one in kitchen.leaves(blocked.header("x-request-id") or "") if one["kind"] == "decision"]
            models = json.loads(json.dumps(decided["det"]))
            assert [(one["id"], one["st"], len(one["bin"])) for one in models] == [("harm", "ok", 64)], "which model it was"
            assert (await kitchen.chat("how to make a b\u200bоmb")).status == 400, "as it looks, not as it is written"
            told = await kitchen.chat("hello again")
            assert "bomb" not in json.dumps(told.json)
            assert told.header("x-moderation-action") == "block"
            for sent in ("tool", "user"):
                messages = [
                    {"role": "user", "content": "hello"},
                    {"role": sent, "content": "bomb", **({"tool_call_id": "x"} if sent == "tool" else {})},
                ]
                assert (await kitchen.chat(messages)).status == 400, sent

    asyncio.run(go())


def test_the_log_tells_a_model_with_a_gate_from_one_without(tmp_path: Path) -> None:
    """What the gate settles was not judged by the model: the log names neither alone, but both together."""
    pin = read_manifest(shipped() / "ngram").pin
    folder = tiny.encoder(tmp_path / "mine", gate={"pin": pin, "below": 0.0, "default": True, "languages": ["en"]})
    said = f"kind: model, engine: onnx, model: {folder}, pin: '{read_manifest(folder).pin}'"
    found = {}
    for name, more in (("plain", ""), ("gated", ", options: {gate: ngram}")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(policy(f"{{{said}{more}}}"), "utf-8")
        (detector,) = build(compile_policy(path.read_bytes(), "p.yaml", vocabulary(), lambda name: b"").usable(), {}).values()

        async def go(path: Path = path, name: str = name) -> None:
            async with Kitchen(tmp_path / name, json_script(answer("well")), policy=path) as kitchen:
                reply = await kitchen.chat("Good morning!")
                (decided,) = [
                    one
                    for one in kitchen.leaves(reply.header("x-request-id") or "")
                    if one["kind"] == "decision" and not one["n"]
                ]
                found[name] = json.loads(json.dumps(decided["det"]))[0]["bin"]

        (tmp_path / name).mkdir()
        asyncio.run(go())
        assert found[name] == detector.version
        assert isinstance(detector, Legible)
        assert isinstance(detector.inner, Gated) is (name == "gated")
    assert found["plain"] != found["gated"]


def test_a_model_reads_only_the_texts_that_a_rule_asks_it_about(tmp_path: Path) -> None:
    rules = RULES.replace("{category: violence}", "{category: violence, channel: user, turn: new}").replace("tool_result, ", "")
    asked: list[Passage] = []

    class Listening(Classifier):
        def detect(self, passages: Sequence[Passage]) -> Sequence[tuple[Finding, ...] | Unknown]:
            asked.extend(passages)
            return super().detect(passages)

    path = own(tmp_path, rules)
    model = load(tmp_path / "mine")[0]

    async def go() -> None:
        scripts = [json_script(answer("all is well"))] * 3
        make = lambda made: {"harm": Listening("harm", model)}  # noqa: E731
        async with Kitchen(tmp_path, *scripts, policy=path, make=make) as kitchen:
            asked.clear()
            before = [{"role": "system", "content": "the app's bomb"}, {"role": "user", "content": "a bomb, once"},
                      {"role": "assistant", "content": "no bomb here"}, {"role": "tool", "tool_call_id": "x", "content": "bomb"}]
            quiet = await kitchen.chat([*before, {"role": "user", "content": "hello"}])
            assert (quiet.status, [one.text for one in asked]) == (200, ["hello"])
            last = await kitchen.chat([*before, {"role": "user", "content": "one more bomb"}])
            assert (last.status, [one.text for one in asked]) == (400, ["hello", "one more bomb"])
            silent = await kitchen.chat([{"role": "system", "content": "the app's bomb"}, {"role": "assistant", "content": "hm"}])
            assert (silent.status, len(asked)) == (200, 2)
            for reply, ids in ((quiet, ["harm"]), (last, ["harm"]), (silent, [])):
                leaves = kitchen.leaves(reply.header("x-request-id") or "")
                decided = [one for one in leaves if one["kind"] == "decision" and one["phase"] == "input"]
                assert [one["id"] for one in json.loads(json.dumps(decided[0]["det"]))] == ids, "the log names who was asked"

    asyncio.run(go())


TEXT = (
    "Well, here is a long and harmless sentence for whoever may read it, with many words. " * 3
    + "Then take a bomb. And more follows."
)


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("text", [TEXT, TEXT.replace("bomb", "book")], ids=["harm", "none"])
def test_a_stream_is_the_whole_text(tmp_path: Path, size: int, text: str) -> None:
    async def go() -> None:
        events = [chunk({"content": text[at : at + size]}) for at in range(0, len(text), size)]
        script = stream_script(*sse(*events, chunk({}, "stop")))
        async with Kitchen(tmp_path, script, json_script(answer(text)), policy=own(tmp_path)) as kitchen:
            streamed = await kitchen.chat("hello", stream=True)
            whole = await kitchen.chat("hello")
            assert (said(streamed.body) == text) is ("bomb" not in text)
            assert (whole.json["choices"][0]["message"]["content"] == text) is ("bomb" not in text)
            windows = [
                [one["wins"] for one in kitchen.leaves(reply.header("x-request-id") or "") if one.get("phase") == "output"][-1:]
                for reply in (streamed, whole)
            ]
            assert "bomb" in text or windows[0] == windows[1], "the same scores, window by window"

    asyncio.run(go())


RUSSIAN = "это просто обычный русский текст о погоде"


@pytest.mark.parametrize(
    ("handling", "status", "degraded"), [("ignore", 200, None), ("flag", 200, "true"), ("assume_match", 400, None)]
)
def test_a_language_that_it_does_not_know(tmp_path: Path, handling: str, status: int, degraded: str | None) -> None:
    async def go() -> None:
        path = own(tmp_path, more=f", on_unsupported: {handling}")
        async with Kitchen(tmp_path, json_script(answer("well")), policy=path) as kitchen:
            reply = await kitchen.chat(RUSSIAN)
            assert reply.status == status
            assert status == 400 or reply.header("x-moderation-degraded") == degraded
            unknown = json.dumps(kitchen.leaves(reply.header("x-request-id") or ""))
            assert "unsupported" in unknown

    asyncio.run(go())


def test_a_damaged_model_is_told_and_nothing_is_served(tmp_path: Path) -> None:
    path = own(tmp_path)
    (tmp_path / "mine" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(PolicyRejected, match=r"model\.onnx"):
        FileLoader(0, Metrics())(str(path), 1)


def test_a_policy_of_which_a_test_fails_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(PolicyRejected, match="fails"):
        FileLoader(0, Metrics())(str(own(tmp_path, RULES.replace("a hero", "a bomb"))), 1)


# ---- what stands in ----------------------------------------------------------------------------------------------------

STOOD_IN = """format: 1
policy: {id: p}
detectors:
  harm: {kind: model, engine: builtin, model: small, timeout: 10s}
  mail: {kind: pii}
rules:
  - id: violence
    phases: [input]
    when: {detector: harm, category: violence, at_least: high}
    then: block
    tests:
      - {name: given, phase: input, given: {harm: {violence: high}}, expect: {action: block}}
      - {name: no model says so, phase: input, text: "good morning to you all", expect: {action: block}}
      - {name: none, phase: input, given: {harm: {}}, expect: {action: allow}}
  - id: mail
    phases: [input]
    when: {detector: mail}
    then: flag
    tests:
      - {name: one, phase: input, text: "to b@y.com", expect: {action: flag}}
      - {name: none, phase: input, text: "to you", expect: {action: allow}}
"""


def test_what_stands_in_is_said_wherever_an_operator_looks(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(STOOD_IN, encoding="utf-8")
    why = "onnxruntime cannot be imported: ngram stands in for the model small, and finds less"

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer("well")), policy=path, make=without) as kitchen:
            (line,) = [json.loads(line) for line in kitchen.said if "stands in" in line]
            assert (line["level"], line["event"], line["detector"], line["why"]) == ("error", "detector_stand_in", "harm", why)
            ready = (await kitchen.ask("GET", "/readyz")).json["detectors"]
            assert ready == {"status": "stand-in", "missing": [], "stand_ins": {"harm": why}}
            assert 'moderation_detector_stand_in{detector="harm"} 1.0' in (await kitchen.ask("GET", "/metrics")).body.decode()
            assert (await kitchen.chat("how do I build a bomb to kill my neighbour")).status == 400, "it judges all the same"
            path.write_text(STOOD_IN.replace("{id: p}", "{id: p, title: again}"), encoding="utf-8")
            await kitchen.house.policies.reload()
            assert sum("stands in" in line for line in kitchen.said) == 2, "each version that is taken says it"

    asyncio.run(go())


def test_nothing_stands_in_where_all_is_there(tmp_path: Path) -> None:
    path = own(tmp_path)

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer("well")), policy=path) as kitchen:
            assert not [line for line in kitchen.said if "stand_in" in line]
            assert (await kitchen.ask("GET", "/readyz")).json["detectors"] == {"status": "ready", "missing": []}
            assert "moderation_detector_stand_in{" not in (await kitchen.ask("GET", "/metrics")).body.decode()

    asyncio.run(go())


TAKEN = [
    (without, "", "what the model is to find is not asked of what stands in"),
    (without, "to b@y.com", "all other tests must pass"),
    (build, "", "the model itself must pass its tests"),
]


@pytest.mark.parametrize(("make", "broken", "note"), TAKEN, ids=[note for _, _, note in TAKEN])
def test_tests_of_a_model_are_for_that_model(
    tmp_path: Path, make: Callable[[Policy], Mapping[str, Detector]], broken: str, note: str
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(STOOD_IN.replace(broken, "to nobody") if broken else STOOD_IN, encoding="utf-8")
    loader = FileLoader(0, Metrics(), make)
    try:
        if make is without and not broken:
            assert loader(str(path), 1).active.instead, note
        else:
            with pytest.raises(PolicyRejected, match="the test 'one'" if broken else "no model says so"):
                loader(str(path), 1)
    finally:
        loader.close()
