"""Every way in which a detector can fail, by what the policy says of failure, in requests, whole answers and streams.

What must hold each time: the action of `on_failure`, the header, the cause in the log, the count, and that others go on meanwhile.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from moderation.audit.index import Index
from moderation.detect.api import Detector, Passage, Scan
from moderation.detect.build import build
from moderation.errors import ModerationError
from moderation.policy.model import Policy
from moderation.text import Span
from moderation.verdict import Cause, Finding
from tests.audit.test_store import until
from tests.fakes import json_script, sse, stream_script
from tests.kitchen import POLICY, Kitchen, answer, chunk, frames

ID = "11010519491231002X"
DONE = threading.Event()
"""Lets the hung threads go at the end of a test."""


class Panic(BaseException):
    """What native code raises through its bindings: no Exception."""


class Model:
    """A window detector in the place of the policy's `pii`. It is well where the text says so."""

    id = "pii"
    version = "faulty"
    batch = 100

    def __init__(self, act: Callable[[Sequence[str]], object]) -> None:
        self._act = act

    def detect(self, passages: Sequence[Passage]) -> Any:
        texts = [one.text for one in passages]
        return [() for _ in texts] if all("well" in text for text in texts) else self._act(texts)


class Local:
    """The same as a local detector."""

    id = "pii"
    version = "faulty"
    behind = 0
    reach = 0

    def __init__(self, act: Callable[[Sequence[str]], object]) -> None:
        self._act = act

    def scan(self, text: str, start: int, final: bool) -> Any:
        if "well" in text:
            return Scan((), len(text))
        given = self._act([text])
        return Scan(given[0], len(text)) if isinstance(given, list) and given else given


def raising(error: BaseException) -> Callable[[Sequence[str]], object]:
    def act(texts: Sequence[str]) -> object:
        raise error

    return act


def finding(score: object = 1_000_000, span: Span | None = None, detector: str = "pii", category: object = "personal_data") -> Finding:
    return Finding(detector, category, None, "x", score, span or Span(0, 1))  # type: ignore[arg-type]


def hang(texts: Sequence[str]) -> object:
    DONE.wait(30)
    return [() for _ in texts]


def slow(texts: Sequence[str]) -> object:
    time.sleep(0.3)
    return [() for _ in texts]


def for_ever(texts: Sequence[str]) -> Iterator[tuple[Finding, ...]]:
    while True:
        yield ()


class Odd:
    """Cannot even be looked at."""

    def __eq__(self, other: object) -> bool:
        raise ValueError

    def __hash__(self) -> int:
        return 0


FAULTS: list[tuple[str, Callable[[Sequence[str]], object], Cause]] = [
    ("hangs for ever", hang, Cause.TIMEOUT),
    ("is slower than its time-out", slow, Cause.TIMEOUT),
    ("raises", raising(RuntimeError(ID)), Cause.ERROR),
    ("raises an error of ours", raising(ModerationError(ID)), Cause.ERROR),
    ("is out of memory", raising(MemoryError()), Cause.ERROR),
    ("recurses too deeply", raising(RecursionError()), Cause.ERROR),
    ("leaves by SystemExit", raising(SystemExit(ID)), Cause.ERROR),
    ("kills its thread", raising(KeyboardInterrupt()), Cause.ERROR),
    ("is cancelled", raising(asyncio.CancelledError()), Cause.ERROR),
    ("panics in native code", raising(Panic(ID)), Cause.ERROR),
    ("says nothing", lambda texts: None, Cause.INVALID),
    ("says it without end", for_ever, Cause.INVALID),
    ("has findings without end", lambda texts: [for_ever(texts) for _ in texts], Cause.INVALID),
    ("has findings that cannot be looked at", lambda texts: [Odd() for _ in texts], Cause.INVALID),
    ("has spans beyond the text", lambda texts: [(finding(span=Span(0, 99_999)),) for _ in texts], Cause.INVALID),
    ("has spans before the text", lambda texts: [(finding(span=Span(-1, 1)),) for _ in texts], Cause.INVALID),
    ("has NaN for a score", lambda texts: [(finding(math.nan),) for _ in texts], Cause.INVALID),
    ("has True for a score", lambda texts: [(finding(True),) for _ in texts], Cause.INVALID),
    ("has a score above 1", lambda texts: [(finding(1_000_001),) for _ in texts], Cause.INVALID),
    ("speaks for another detector", lambda texts: [(finding(detector="odd_terms"),) for _ in texts], Cause.INVALID),
    ("has a category that is none", lambda texts: [(finding(category=7),) for _ in texts], Cause.INVALID),
    ("has a category that the policy does not know", lambda texts: [(finding(category="x\ny"),) for _ in texts], Cause.INVALID),
]
ONLY_MODELS = [("answers for too few texts", lambda texts: [], Cause.INVALID), ("answers for too many", lambda texts: [()] * 99, Cause.INVALID)]
CASES = [
    *(pytest.param((Local, Model)[number % 2], act, cause, id=note) for number, (note, act, cause) in enumerate(FAULTS)),
    *(pytest.param(Model, act, cause, id=note) for note, act, cause in ONLY_MODELS),
]
WORDS = {"assume_match": ("redact", True), "flag": ("flag", False), "ignore": ("allow", False)}
"""By `on_failure`: what is enforced, and whether the text is kept back."""


def policies(folder: Path) -> dict[str, Path]:
    text = POLICY.read_text()
    for word in WORDS:
        (folder / f"{word}.yaml").write_text(text.replace("pii: {kind: pii,", f"pii: {{kind: pii, timeout: 30ms, on_failure: {word},"))
    return {word: folder / f"{word}.yaml" for word in WORDS}


@pytest.mark.parametrize(("kind", "act", "cause"), CASES)
def test_what_on_failure_says_is_done(
    tmp_path: Path, kind: Callable[[Callable[[Sequence[str]], object]], Detector], act: Callable[[Sequence[str]], object], cause: Cause,
) -> None:
    """One sidecar with a route for each word of `on_failure`; each is asked for a whole answer and for a stream."""
    files = policies(tmp_path)
    config = tmp_path / "moderation.yaml"
    config.write_text("routes:\n" + "".join(
        f"  - {{name: {word}, match: {{path: /{word}}}, policy: {file}}}\n" for word, file in files.items()))
    whole = json_script(answer(f"It is {ID}."))
    streamed = stream_script(*sse(chunk({"content": "It is "}), chunk({"content": f"{ID}."}), chunk({}, "stop")))

    def make(policy: Policy) -> Mapping[str, Detector]:
        return {**build(policy), "pii": kind(act)}

    async def go() -> None:
        async with Kitchen(tmp_path, *[whole, streamed] * 3, policy=files["flag"], make=make, config=str(config)) as kitchen:
            for word, (action, kept_back) in WORDS.items():
                for stream in (False, True):
                    body = {"messages": [{"role": "user", "content": f"my number is {ID}"}], "stream": stream}
                    reply = await kitchen.ask("POST", f"/{word}/v1/chat/completions", body)
                    assert (reply.status, reply.header("x-moderation-degraded")) == (200, "true")
                    assert (ID in kitchen.upstream.received[-1].body.decode()) is not kept_back
                    assert (ID.encode() in reply.body) is not kept_back
                    assert not stream or frames(reply.body)[-1:] == [{}], (word, reply.raw, kitchen.said)
                    request = reply.header("x-request-id") or ""
                    told = {row.phase: (row.action, row.degraded) for row in kitchen.rows(request)}
                    assert told == {"input": (action, True), "output": (action, True)}
                    causes = dict(_unknown(kitchen, request))
                    assert causes.keys() == {"input", "output"}
                    wanted = {cause.value, "unavailable"}  # where its breaker has opened since, it is not asked
                    assert all(set(found) and set(found) <= wanted for found in causes.values()), causes
            assert kitchen.metrics.text().count(f'cause="{cause.value}",detector="pii"'.encode()) == 1
            assert ID not in "\n".join(kitchen.said)
            DONE.set()

    DONE.clear()
    asyncio.run(go())


def _unknown(kitchen: Kitchen, request: str) -> list[tuple[str, list[str]]]:
    """By decision: its phase, and the causes for which pii gave no answer."""
    with Index(kitchen.data) as index:
        index.catch_up()
        leaves = index.leaves(request)
    return [
        (str(leaf["phase"]), [cause for detector, cause in leaf["unknown"] if detector == "pii"])  # type: ignore[attr-defined]
        for leaf in leaves if leaf["kind"] == "decision"
    ]


def test_others_go_on_while_a_detector_hangs_and_its_breaker_shows(tmp_path: Path) -> None:
    """A hung model: requests that do not need it, and those that it can answer, go on; then it is not asked, and comes back."""
    policy = policies(tmp_path)["flag"]
    stuck = threading.Event()

    def act(texts: Sequence[str]) -> object:
        stuck.wait(30)
        return [() for _ in texts]

    def make(made: Policy) -> Mapping[str, Detector]:
        return {**build(made), "pii": Model(act)}

    async def go() -> None:
        async with Kitchen(tmp_path, json_script(answer("all is well")), policy=policy, make=make) as kitchen:
            def gauge(state: int) -> bool:
                return f'moderation_detector_breaker{{detector="pii"}} {state}.0'.encode() in kitchen.metrics.text()

            assert gauge(0)
            await kitchen.chat("all is well")  # both ways, so that no answer's text is asked about while the model hangs
            hanging = [asyncio.create_task(kitchen.chat(f"text {number}")) for number in range(6)]
            assert (await kitchen.chat("all is well")).header("x-moderation-degraded") is None
            assert {(await reply).status for reply in hanging} == {200}
            await until(lambda: gauge(1) or gauge(2))
            assert b'moderation_detector_breaker_trips_total{detector="pii"} 1.0' in kitchen.metrics.text()
            replies = await asyncio.gather(*(kitchen.chat(f"more {number}") for number in range(20)))
            assert {reply.header("x-moderation-degraded") for reply in replies} == {"true"}
            causes = [found for reply in replies for _, found in _unknown(kitchen, reply.header("x-request-id") or "")]
            assert {cause for found in causes for cause in found} == {"unavailable"}
            stuck.set()
            await until(lambda: gauge(0), 10)
            assert (await kitchen.chat("text again")).header("x-moderation-degraded") is None
            told = [line for line in kitchen.said if "the detector pii" in line]
            assert [("gives no answer" in line, "answers again" in line) for line in told] == [(True, False), (False, True)]

    asyncio.run(go())
