"""`moderation doctor`: is all that a sidecar needs there, and right? Looks at everything, whatever it has found before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from moderation.doctor import given, host, policies, storage, upstreams
from moderation.doctor.checks import Found
from moderation.doctor.machine import Machine


def examine(flags: Mapping[str, str | None], machine: Machine, key: str | None = None) -> Iterator[Found]:
    """All looks, more or less in the order of CHECKS. `key` is tried where the configuration has none for an upstream."""
    made, found = given.read(flags, machine.environ, key)
    yield from found
    yield from given.look(made, machine)
    yield from host.look(made, machine)
    yield from policies.look(made)
    yield from storage.look(made, machine)
    yield from upstreams.look(made, machine)
