"""A sidecar with Qwen3Guard-Stream's interface: who may bring the model, and a stream of an answer that is the whole text."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from pathlib import Path

import pytest

from moderation.cli import main
from moderation.detect.build import build, vocabulary
from moderation.detect.engines import Engines, engines
from moderation.detect.guards import TokenGuards, installed
from moderation.detect.models import Models
from moderation.detect.transformer.token_guard import TokenGuard
from moderation.errors import UsageError
from moderation.policy.archive import archive, from_archive
from moderation.policy.compile import Compiled, compile_policy
from tests.detect.transformer import fake_stream
from tests.detect.transformer.fake_stream import PIN, FakeOffer, FakeStream
from tests.fakes import Hold, json_script, sse, stream_script
from tests.kitchen import Kitchen, answer, chunk, said

POLICY = """format: 1
policy: {id: p}
detectors:
  tokens: {kind: model, engine: qwen3guard_stream, model: NAME, timeout: 5s, MORE}
rules:
  - {id: r, phases: [input, output], when: {category: violence}, at_least: high, then: block, tests: [
      {name: one, phase: input, given: {tokens: {violence: high}}, expect: {action: block}},
      {name: none, phase: input, given: {tokens: {violence: none}}, expect: {action: allow, rules: []}}]}
  - {id: s, phases: [output], when: {category: personal_data}, at_least: high, then: redact, tests: [
      {name: one, phase: output, given: {tokens: {personal_data: high}}, expect: {action: redact}},
      {name: none, phase: output, given: {tokens: {personal_data: none}}, expect: {action: allow, rules: []}}]}
"""


def known(*offers: tuple[str, object]) -> Engines:
    """With these offered by packages."""
    return engines(Models(), TokenGuards(lambda: {name: partial(_given, offer) for name, offer in offers}))


def _given(offer: object) -> object:
    return offer


def source(name: str = "fake", more: str = f'pin: "{PIN}"') -> bytes:
    return POLICY.replace("NAME", name).replace("MORE", more).encode()


def compiled(known: Engines, name: str = "fake", more: str = f'pin: "{PIN}"') -> Compiled:
    return compile_policy(source(name, more), "p.yaml", vocabulary(known), lambda name: b"")


def test_a_policy_names_what_is_installed(tmp_path: Path) -> None:
    policy = compiled(known(("fake", FakeOffer()))).usable()
    spec = policy.detectors["tokens"]
    assert {"violence", "personal_data", "other_harm"} <= set(spec.categories)
    assert spec.gives_spans
    assert from_archive(archive(policy)).detectors == policy.detectors
    assert isinstance(build(policy, {}, known(("fake", FakeOffer())))["tokens"], TokenGuard)


class Unopened:
    pin = PIN

    def open(self) -> object:
        raise OSError("no weights")


@pytest.mark.parametrize(
    ("offer", "name", "more", "code", "says"),
    [
        (FakeOffer(), "fake", "", "QP015", f"lacks 'pin'. That of the model that lies there is {PIN}"),
        (FakeOffer(), "fake", f'pin: "{PIN.replace("7", "8")}"', "QP032", "another than"),
        (FakeOffer(), "fakes", f'pin: "{PIN}"', "QP032", "Did you mean 'fake'?"),
        (FakeOffer(), "os", f'pin: "{PIN}"', "QP032", "no installed package offers it"),
        (FakeOffer(), "'tests.flow:Unopened'", f'pin: "{PIN}"', "QP032", "no installed package offers it"),
        (FakeOffer(pin="latest"), "fake", f'pin: "{PIN}"', "QP032", "has no pin"),
        (object(), "fake", f'pin: "{PIN}"', "QP032", "has no pin"),
        (FakeOffer(), "fake", f'pin: "{PIN}", options: {{trust_remote_code: true}}', "QP010", "trust_remote_code"),
        (FakeOffer(), "fake", f'pin: "{PIN}", url: "http://h"', "QP010", "takes no 'url'"),
    ],
)
def test_what_is_wrong_is_told(offer: object, name: str, more: str, code: str, says: str) -> None:
    faults = compiled(known(("fake", offer)), name, more).faults
    assert any(fault.code == code and says in fault.message for fault in faults), list(map(str, faults))


def test_a_package_that_does_not_work_is_told() -> None:
    def broken() -> object:
        raise ImportError("torch")

    none = TokenGuards(lambda: {"fake": broken})
    assert any("cannot be imported" in fault.message for fault in compiled(engines(Models(), none)).faults)
    policy = compiled(known(("fake", Unopened()))).usable()
    with pytest.raises(UsageError, match=r"detector tokens: .*cannot be loaded \(OSError\)"):
        build(policy, {}, known(("fake", Unopened())))
    with pytest.raises(UsageError, match="another than the policy pins"):
        build(policy, {}, known(("fake", FakeOffer(pin=PIN.replace("7", "8")))))


def test_an_installed_package_registers_what_it_offers_and_nothing_is_imported_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "acme-stream" not in installed()
    about = tmp_path / "acme_stream-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-stream\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[moderation.token_guards]\nacme-stream = acme_stream_offer:OFFER\n")
    (tmp_path / "acme_stream_offer.py").write_text(
        "from tests.detect.transformer.fake_stream import FakeOffer\nOFFER = FakeOffer()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "acme-stream" in installed()
    every = engines(Models())
    compiled(every, "other")
    assert "acme_stream_offer" not in sys.modules, "what no policy names is not run"
    policy = compiled(every, "acme-stream").usable()
    assert isinstance(build(policy, {}, every)["tokens"], TokenGuard)
    del sys.modules["acme_stream_offer"]


# --- at work

TEXT = "Well, here is a harmless sentence that anybody may read, with many words in it. " * 3


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStream:
    """Offered by an installed package, as `fake`."""
    about = tmp_path / "site" / "fake_guard-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-guard\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[moderation.token_guards]\nfake = tests.detect.transformer.fake_stream:OFFER\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    fake_stream.OFFER.model = FakeStream()
    return fake_stream.OFFER.model


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (TEXT, TEXT),
        (TEXT + "Then x alone, and p.", TEXT + "Then x alone, and p."),
        (TEXT + "Ring +pp+ at nine. " + TEXT, TEXT + "Ring +[removed: personal_data]+ at nine. " + TEXT),
        (TEXT + "Then xx is told. And more.", None),
    ],
    ids=["none", "one alone", "redacted", "blocked"],
)
def test_a_stream_is_the_whole_text_and_every_stream_is_closed(
    tmp_path: Path, model: FakeStream, size: int, text: str, shown: str | None
) -> None:
    async def go() -> None:
        events = [chunk({"content": text[at : at + size]}) for at in range(0, len(text), size)]
        script = stream_script(*sse(*events, chunk({}, "stop")))
        async with Kitchen(tmp_path, script, json_script(answer(text)), policy=tmp_path / "p.yaml", cache="1") as kitchen:
            streamed = await kitchen.chat("hello", stream=True)
            whole = await kitchen.chat("hello")
            if shown is None:
                assert "xx" not in said(streamed.body)
                assert "content_filter" in streamed.body.decode()
                assert whole.header("x-moderation-action") == "block"
            else:
                assert said(streamed.body) == shown == whole.json["choices"][0]["message"]["content"]
            windows = [
                [one["wins"] for one in kitchen.leaves(reply.header("x-request-id") or "") if one.get("phase") == "output"][-1:]
                for reply in (streamed, whole)
            ]
            assert shown is None or windows[0] == windows[1], "the same scores, window by window"

    (tmp_path / "p.yaml").write_bytes(source())
    asyncio.run(go())
    assert model.states
    assert model.all_closed


def test_a_client_that_leaves_in_the_middle_leaves_no_stream_open(tmp_path: Path, model: FakeStream) -> None:
    async def go() -> None:
        events = [chunk({"content": f"{TEXT} {at}. "}) for at in range(20)]
        script = stream_script(*sse(*events, done=False), Hold(asyncio.Event()))
        async with Kitchen(tmp_path, script, policy=tmp_path / "p.yaml") as kitchen:
            body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
            reply = await kitchen.send("POST", "/v1/chat/completions", body)
            await reply.read_until(b"Well")
            reply.close()
            await asyncio.wait_for(kitchen.upstream.received[0].gone.wait(), 5)

    (tmp_path / "p.yaml").write_bytes(source())
    asyncio.run(go())
    assert model.states
    assert model.all_closed


@pytest.mark.parametrize("verb", ["show", "eval", "bench"])
def test_it_is_shown_measured_and_timed(tmp_path: Path, model: FakeStream, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "rows.jsonl", tmp_path / "scores.jsonl"
    data.write_text('{"text": "a xx b", "role": "response", "labels": {"violence": 1}}')
    given = {"show": ["--json"], "eval": ["--data", str(data), "--scores", str(out)], "bench": ["--seconds", "0", "--json"]}
    assert main(["classifiers", verb, "fake", *given[verb]]) == 0
    said = capsys.readouterr().out
    match verb:
        case "show":
            assert (json.loads(said)["engine"], json.loads(said)["pin"]) == ("qwen3guard_stream", PIN)
            assert not model.states
        case "eval":
            assert json.loads(out.read_text("utf-8"))["scores"]["violence"] == 0.9
        case _:
            assert len(json.loads(said)["results"]) == 2
    assert model.all_closed
