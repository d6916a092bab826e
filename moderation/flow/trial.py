"""A policy's own tests, run with detectors at work: by `policy test`, and before a sidecar takes a policy.

A test asks what a policy means and not how busy the machine is: detectors have all the time they need here, and nothing is
counted or kept. Blocks until all have run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor

from moderation.detect.api import Detector, Passage
from moderation.detect.build import build
from moderation.detect.engines import ENGINES, Engine
from moderation.detect.run import Runner
from moderation.detect.run.cache import Cache
from moderation.flow.reading import Active, read, scoped
from moderation.flow.showing import merged
from moderation.language import language_of
from moderation.policy.cases import Examined, Result, bare_key, run, scope_of
from moderation.policy.conditions import atoms
from moderation.policy.model import DetectorSpec, Policy, Rule, Test
from moderation.text import Channel, Conversation, Origin, Phase, Segment, Turn
from moderation.verdict import Finding

_TIMEOUT = 60.0
"""Seconds."""
_CACHE = 1 << 20
_CHANNELS = {Origin.USER: Channel.USER, Origin.APP: Channel.SYSTEM, Origin.TOOL: Channel.TOOL_RESULT}


def trial(
    policy: Policy,
    make: Callable[[Policy], Mapping[str, Detector]],
    only: Callable[[Rule, Test], bool] = lambda rule, test: True,
) -> tuple[Result, ...]:
    """Run the tests of a policy, in the order of the file. `make` builds its detectors, and is asked at the first text."""

    def work() -> tuple[Result, ...]:
        bench = _Bench(make)
        try:
            return run(policy, bench.examine, only)
        finally:
            bench.close()

    # A thread of its own: the caller's may have an event loop, and one cannot run within another.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


class Quiet:
    """Stands in for a model or a judge that is not asked while tests run, and finds nothing."""

    version = "quiet"
    at_once = 1
    why = None

    def __init__(self, id: str) -> None:
        self.id = id

    async def ask(self, passage: Passage) -> tuple[Finding, ...]:
        return ()

    async def close(self) -> None:
        pass


def hanging(policy: Policy, quiet: AbstractSet[str]) -> Callable[[Rule, Test], bool]:
    """Whether a test says nothing while these detectors are quiet: its rule, or one that it expects, asks one of them."""
    rules = {rule.id for rule in policy.rules if any(quiet & set(atom.able) for atom in atoms(rule.when))}
    return lambda rule, test: test.text is not None and bool(rules & {rule.id, *(test.expect.rules or ())})


def without_models(policy: Policy) -> Mapping[str, Detector]:
    """The detectors of a policy, models and judges quiet: nothing is loaded, no key is read, and no text leaves the machine."""
    return build(policy, engines={name: Engine(one.words, _quiet) for name, one in ENGINES.items()})


def _quiet(spec: DetectorSpec, environ: Mapping[str, str]) -> Quiet:
    return Quiet(spec.id)


class _Bench:
    """Reads the texts of tests as a request's or an answer's texts are read."""

    def __init__(self, make: Callable[[Policy], Mapping[str, Detector]]) -> None:
        self._make = make
        self._active: Active | None = None
        self._loop = asyncio.Runner()

    def examine(self, policy: Policy, phase: Phase, text: str, context: Mapping[str, str]) -> Examined:
        active = self._active = self._active or self._of(policy)
        scope = scoped(scope_of(context), active, context.get("model"), context.get("language") or language_of(text))
        supplied = None
        names = None
        if phase in (Phase.OUTPUT, Phase.TOOL_CALL):
            # What the conversation supplied is learnt as in life: by reading it there first.
            channel = _CHANNELS.get(Origin(context.get("span_origin", Origin.MODEL)))
            before = Phase.TOOL_RESULT if channel is Channel.TOOL_RESULT else Phase.INPUT
            said = (Segment(channel, before, Turn.NEW, text, "/text"),) if channel else ()
            request = self._loop.run(read(active, Conversation(said), scope))
            supplied, names = request.supplied, request.names
        key = bare_key(phase, context)
        segment = Segment(key.channel, phase, key.turn, text, "/text", key.tool)
        verdict = self._loop.run(read(active, Conversation((segment,)), scope, supplied=supplied, names=names))
        return Examined(merged(verdict), "" if verdict.blocked else verdict.text(0))

    def _of(self, policy: Policy) -> Active:
        detectors = self._make(policy)
        # None of them inline: what they share then pays for many requests, and takes ten times as long to build as tests to run.
        return Active.of(policy, Runner(detectors, dict.fromkeys(detectors, _TIMEOUT), cache=Cache(_CACHE)), 0)

    def close(self) -> None:
        if self._active is not None:
            self._loop.run(self._active.runner.end())
        self._loop.close()
        if self._active is not None:
            self._active.runner.close()
