"""Looks at the policies: can they be taken, do their tests pass, is what their detectors need there?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from moderation.detect.api import Detector
from moderation.detect.build import build
from moderation.detect.models import stand_ins
from moderation.doctor.checks import Found, fault, ok, warn
from moderation.doctor.given import Given
from moderation.errors import UsageError
from moderation.flow.loading import compiled, default_policy
from moderation.flow.trial import trial
from moderation.policy.detectors import WITH_ENGINE
from moderation.policy.faults import Grade
from moderation.policy.model import Policy


def look(given: Given, make: Callable[[Policy], Mapping[str, Detector]] = build) -> Iterator[Found]:
    """`make` builds the detectors of a policy."""
    for name in given.policies:
        yield from _policy(name, make)


def _policy(name: str | None, make: Callable[[Policy], Mapping[str, Detector]]) -> Iterator[Found]:
    path = default_policy() if name is None else Path(name)
    found, sources = compiled(path)
    for said in found.faults:
        yield (fault if said.level is Grade.ERROR else warn)("policy", str(said))
    policy = found.policy
    if policy is None:
        yield fault("policy tests", f"{path}: not run, for the policy cannot be taken", "Mend the policy first.")
        return
    shown = f"{policy.ref.id} ({path}), version {policy.ref.hash[:12]}"
    yield ok("policy", f"{shown}: {len(policy.rules)} rules; not signed: this version checks no signatures")
    try:
        detectors = make(policy)
    except UsageError as error:
        yield fault("detectors", str(error))
        return
    for name, told in stand_ins(detectors).items():
        yield warn("detectors", f"{name}: {told}", "Install onnxruntime and tokenizers.")
    results = trial(policy, lambda _: detectors)
    failed = [one for one in results if not one.passed]
    for one in failed:
        yield fault("policy tests", f"{path}:{one.line}:{one.column} {one.rule}: {one.name} fails")
    if not results:
        yield warn("policy tests", f"{path} has none", "Write a test beside each rule: nobody sees otherwise that it works.")
    elif not failed:
        yield ok("policy tests", f"all {len(results)} of {policy.ref.id} pass")
    yield _detectors(policy, len(sources) - 1)


def _detectors(policy: Policy, files: int) -> Found:
    models = sorted(one.id for one in policy.detectors.values() if one.kind in WITH_ENGINE)
    told = f"models: {', '.join(models)}" if models else "none of them is a model"
    return ok("detectors", f"{len(policy.detectors)} detectors, {files} file(s) of theirs read; {told}")
