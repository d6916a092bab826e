"""The other workers of a sidecar, as one of them sees them: how many there are, what they counted, changing policies together.

`Alone` is the crew of a sidecar of one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from moderation.flow.policies import Policies
from moderation.metrics import Snapshot


class Crew(Protocol):
    """Where a worker turns to for what concerns all of them."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Workers: configured, ready."""
        ...

    async def others(self, own: Snapshot) -> Sequence[Snapshot]:
        """The figures of all others, for one's own. Raises Refused when they cannot be had."""
        ...

    async def renew(self, policies: Policies, *, force: bool) -> None:
        """Read the policies again: what has changed, or all."""
        ...


class Alone:
    """There are no others."""

    counts: Mapping[str, int] = {"configured": 1, "ready": 1}

    async def others(self, own: Snapshot) -> Sequence[Snapshot]:
        states = [((state,), 1.0) for state in ("configured", "ready", "answered")]
        return ({"workers": states},)

    async def renew(self, policies: Policies, *, force: bool) -> None:
        await policies.reload(force=force)
