"""Deciding again: each recorded decision by the policy as it was kept under DATA/policies/."""

from __future__ import annotations

from pathlib import Path

from moderation.audit.bundle import Bundles
from moderation.errors import UsageError
from moderation.policy.archive import from_archive
from moderation.policy.limits import decide_all
from moderation.policy.model import Policy
from moderation.text import Phase, Scope
from moderation.verdict import Outcome, Window


class Deciders:
    """Calls `decide_all` with the kept policy of a hash. Raises UsageError where its files do not give that policy any more."""

    def __init__(self, data: Path) -> None:
        self._bundles = Bundles(data)
        self._policies: dict[str, Policy] = {}

    def __call__(self, policy_hash: str, phase: Phase, scope: Scope, windows: tuple[Window, ...]) -> Outcome:
        policy = self._policies.get(policy_hash)
        if policy is None:
            policy = from_archive(self._bundles.read(policy_hash))
            if policy.ref.hash != policy_hash:
                raise UsageError(f"policies/{policy_hash}: the files kept there give another policy ({policy.ref.hash})")
            self._policies[policy_hash] = policy
        return decide_all(policy, phase, scope, windows)
