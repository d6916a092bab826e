"""A sidecar that asks a judge over the network: what it blocks, what a judge that fails comes to, in requests, answers and streams."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from moderation.cli import main
from moderation.detect.build import build
from moderation.flow.loading import FileLoader
from moderation.flow.policies import PolicyRejected
from moderation.metrics import Metrics
from tests.detect.test_http import verdict
from tests.fakes import FakeUpstream, Pause, Received, Script, free_port, json_script, sse, stream_script
from tests.kitchen import Kitchen

POLICY = """
format: 1
policy: {{id: p}}
detectors:
  guard:
    kind: http
    engine: qwen3guard
    url: {url}
    model: m
    timeout: {timeout}
    on_failure: {failure}
{more}
  terms: {{kind: words, lists: l}}
word_lists: {{l: {{words: [heron]}}}}
rules:
  - id: violence
    title: No violence
    phases: [input, output]
    when: {{category: violence}}
    at_least: high
    then: block
    tests:
      - {{name: one, phase: input, text: "I will hurt you", expect: {{action: block}}}}
      - {{name: none, phase: input, text: "I will help you", expect: {{action: allow}}}}
  - id: terms
    title: No birds
    phases: [input]
    when: {{detector: terms}}
    then: flag
    tests:
      - {{name: one, phase: input, text: "a heron", expect: {{action: flag}}}}
      - {{name: none, phase: input, text: "a hero", expect: {{action: allow, rules: []}}}}
"""


def judge(received: Received) -> Script:
    """Unsafe is what says hurt."""
    messages = received.json["messages"]
    unsafe = "hurt" in messages[-1]["content"]
    said = "Safety: Unsafe\nCategories: Violent" if unsafe else "Safety: Safe\nCategories: None"
    return json_script(verdict(said + ("\nRefusal: No" if messages[-1]["role"] == "assistant" else "")))


def written(folder: Path, url: str, failure: str = "assume_match", timeout: str = "2s", more: str = "") -> Path:
    path = folder / "p.yaml"
    path.write_text(POLICY.format(url=url, failure=failure, timeout=timeout, more=more), encoding="utf-8")
    return path


ANSWER = json_script(
    {
        "id": "1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "So be it."}, "finish_reason": "stop"}],
    }
)
THREAT = json_script(
    {
        "id": "1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "I will hurt you."}, "finish_reason": "stop"}],
    }
)


def test_requests_and_answers_are_judged_with_their_roles(tmp_path: Path) -> None:
    async def go() -> None:
        async with (
            FakeUpstream(judge) as guard,
            Kitchen(tmp_path, ANSWER, THREAT, policy=written(tmp_path, guard.base)) as kitchen,
        ):
            assert (await kitchen.chat("I will help you.")).status == 200
            roles = [received.json["messages"][-1]["role"] for received in guard.received]
            assert roles == ["user", "assistant"]
            refused = await kitchen.chat("I will hurt you.")
            assert (refused.status, refused.json["error"]["moderation"]["rules"]) == (400, ["violence"])
            assert len(kitchen.upstream.received) == 1, "what is blocked never goes upstream"
            hurt = await kitchen.chat("What will you do?")
            assert hurt.header("x-moderation-action") == "block"
            assert b"hurt" not in hurt.body
            before = len(guard.received)
            await kitchen.chat("I will hurt you.")
            assert len(guard.received) == before, "judged before"
            assert hurt.header("x-moderation-degraded") is None

    asyncio.run(asyncio.wait_for(go(), 30))


def test_a_stream_waits_for_the_judge(tmp_path: Path) -> None:
    words = [
        "All is well. ",
        "Nobody is here who would mind what I say to you now, or what I do to you in this room. ",
        "I will hurt you. ",
        "The end.",
    ]
    chunks = [
        {
            "id": "1",
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}],
        }
        for word in words
    ]
    last = {"id": "1", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}

    async def go() -> None:
        async with (
            FakeUpstream(judge) as guard,
            Kitchen(tmp_path, stream_script(*sse(*chunks, last)), policy=written(tmp_path, guard.base)) as kitchen,
        ):
            reply = await kitchen.chat("Well?", stream=True)
            assert b"All is well" in reply.body
            assert b"hurt" not in reply.body
            assert b"content_filter" in reply.body
            assert any(len(received.json["messages"]) == 3 for received in guard.received), "with the sentences before"

    asyncio.run(asyncio.wait_for(go(), 30))


FAILURES: list[tuple[Script | None, str, str]] = [
    (json_script({"error": "x"}, 500), "unavailable", "broken"),
    (json_script(verdict("I would rather not say.")), "invalid", "chatting"),
    (Script([Pause(60)]), "timeout", "slow"),
    (None, "unavailable", "gone"),
]


@pytest.mark.parametrize(("script", "cause", "note"), FAILURES, ids=[case[-1] for case in FAILURES])
@pytest.mark.parametrize(("failure", "status"), [("assume_match", 400), ("flag", 200), ("ignore", 200)])
def test_a_judge_that_fails_is_unknown(
    tmp_path: Path, script: Script | None, cause: str, note: str, failure: str, status: int
) -> None:
    async def go() -> None:
        async with FakeUpstream(script or ANSWER) as guard:
            url = guard.base if script else f"http://127.0.0.1:{free_port()}"
            async with Kitchen(tmp_path, ANSWER, policy=written(tmp_path, url, failure, "200ms")) as kitchen:
                reply = await kitchen.chat("I will help you.")
                assert (reply.status, reply.header("x-moderation-degraded")) == (status, "true"), note
                leaves = kitchen.leaves(reply.header("x-request-id") or "")
                told = json.dumps(leaves)
                assert cause in told
                assert "help you" not in told
                assert f'moderation_detector_unknown_total{{cause="{cause}",detector="guard"}}' in await scrape(kitchen)

    asyncio.run(asyncio.wait_for(go(), 30))


async def scrape(kitchen: Kitchen) -> str:
    return (await kitchen.ask("GET", "/metrics")).body.decode()


def test_a_dead_judge_is_not_asked_until_it_answers_again(tmp_path: Path) -> None:
    dead = [True]

    def server(received: Received) -> Script:
        return json_script({}, 500) if dead[0] else judge(received)

    async def go() -> None:
        async with FakeUpstream(server) as guard, Kitchen(tmp_path, ANSWER, policy=written(tmp_path, guard.base)) as kitchen:
            for number in range(5):
                assert (await kitchen.chat(f"Help me {number}.")).status == 400
            await until(lambda: any("detector_dead" in line for line in kitchen.said))
            (told,) = [line for line in kitchen.said if "detector_dead" in line]
            assert "it answered with the status 500" in told
            asked = [received.json["messages"][-1]["content"] for received in guard.received]
            assert (await kitchen.chat("Do not ask.")).status == 400
            assert "Do not ask." not in [received.json["messages"][-1]["content"] for received in guard.received]
            assert any("committee" in text for text in asked), "tried on a text of ours"
            dead[0] = False
            await until(lambda: any("detector_back" in line for line in kitchen.said))
            assert (await kitchen.chat("Help me now.")).status == 200

    asyncio.run(asyncio.wait_for(go(), 30))


async def until(condition: Any, seconds: float = 15.0) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while not condition():
        assert asyncio.get_running_loop().time() < end, "it did not happen"
        await asyncio.sleep(0.01)


# --- taking a policy


def test_a_policy_is_taken_though_its_judge_is_gone(tmp_path: Path) -> None:
    path = written(tmp_path, f"http://127.0.0.1:{free_port()}", timeout="60s")
    loader = FileLoader(1 << 20, Metrics())
    try:
        assert loader(str(path), 1).active.policy.ref.id == "p"
    finally:
        loader.close()


def test_what_hangs_on_no_judge_is_tested_all_the_same(tmp_path: Path) -> None:
    path = written(tmp_path, "http://127.0.0.1:1")
    path.write_text(path.read_text().replace('text: "a heron"', 'text: "a hero"'))
    loader = FileLoader(1 << 20, Metrics())
    try:
        with pytest.raises(PolicyRejected, match="the test 'one' of the rule 'terms' fails") as caught:
            loader(str(path), 1)
    finally:
        loader.close()
    assert len(caught.value.lines) == 1


def test_a_missing_key_is_a_fault_of_the_policy(tmp_path: Path) -> None:
    path = written(tmp_path, "https://guard", more="    key_env: NO_SUCH_KEY")
    loader = FileLoader(1 << 20, Metrics(), lambda policy: build(policy, {}))
    try:
        with pytest.raises(PolicyRejected) as caught:
            loader(str(path), 1)
    finally:
        loader.close()
    assert (caught.value.code, len(caught.value.lines)) == ("QP044", 1)
    assert "detector guard: the environment variable NO_SUCH_KEY, which key_env names, is not set" in caught.value.lines[0]


def test_a_missing_key_on_reload_keeps_the_old_policy(tmp_path: Path) -> None:
    async def go() -> None:
        async with FakeUpstream(judge) as guard, Kitchen(tmp_path, ANSWER, policy=written(tmp_path, guard.base)) as kitchen:
            written(tmp_path, guard.base, more="    key_env: NO_SUCH_KEY")
            await kitchen.house.policies.reload()
            assert any("QP044" in line for line in kitchen.said)
            assert (await kitchen.chat("I will hurt you.")).status == 400

    asyncio.run(asyncio.wait_for(go(), 30))


def test_policy_test_asks_the_judge_when_it_is_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def go() -> list[int]:
        async with FakeUpstream(judge) as guard:
            path = written(tmp_path, guard.base)
            first = await asyncio.to_thread(main, ["policy", "test", "--models", str(path)])
            path.write_text(path.read_text().replace("I will help you", "I will hurt you all"))
            return [first, await asyncio.to_thread(main, ["policy", "test", "--models", str(path)]), len(guard.received)]

    passed, failed, asked = asyncio.run(asyncio.wait_for(go(), 30))
    assert (passed, failed) == (0, 1)
    assert asked >= 4
    assert "violence: none: " in capsys.readouterr().out


def test_policy_test_leaves_a_judge_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither its key nor the network is needed, and that two tests did not run is told."""

    async def go() -> tuple[int, int]:
        async with FakeUpstream(judge) as guard:
            path = written(tmp_path, guard.base, more="    key_env: NO_SUCH_KEY")
            return await asyncio.to_thread(main, ["policy", "test", str(path)]), len(guard.received)

    assert asyncio.run(asyncio.wait_for(go(), 30)) == (0, 0)
    out, err = capsys.readouterr()
    assert out == "2 tests, 0 failures\n"
    assert "left out: 2 tests with a text for a model or a judge; --models runs all" in err


def test_try_asks_the_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"I will {word} you. " * 40}) + "\n" for word in ("help", "hurt", "hug")))

    async def go() -> int:
        async with FakeUpstream(judge) as guard:
            return await asyncio.to_thread(
                main, ["try", "--policy", str(written(tmp_path, guard.base)), "--jsonl", str(rows), "--json"]
            )

    assert asyncio.run(asyncio.wait_for(go(), 30)) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.split("\n") if line]
    assert [one["action"] for one in said] == ["allow", "block", "allow"]
    assert said[1]["findings"][0] | {"rules": []} == {
        "detector": "guard", "category": "violence", "entity": None, "name": "violence", "level": "high", "score": 0.9, "segment": 0,
        "start": None, "end": None, "rules": [],
    }  # fmt: skip
