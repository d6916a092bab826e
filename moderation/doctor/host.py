"""Looks at the machine: Python, packages, limits, stderr."""

from __future__ import annotations

import re
from collections.abc import Iterator

from moderation import __version__
from moderation.doctor.checks import Found, fault, ok, warn
from moderation.doctor.given import Given
from moderation.doctor.machine import Machine

_NEED = re.compile(r"([A-Za-z0-9._-]+)>=([0-9.]+)")
_BASE = 256 << 20
"""Bytes that a sidecar takes before its first request, about: the interpreter, detectors, the default policy."""
_OTHER_FILES = 100
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")


def look(given: Given, machine: Machine) -> Iterator[Found]:
    yield from _python(machine)
    yield from _packages(machine)
    yield _open_files(given, machine)
    yield _memory(given, machine)
    kind = machine.stderr()
    yield fault("stderr", "it is closed") if kind is None else ok("stderr", f"it is {kind}")
    named = sorted(name for name in _PROXIES if machine.environ.get(name))
    if named:
        yield warn("proxy", f"{', '.join(named)} is set, and has no effect: the sidecar goes to the upstream directly")


def _python(machine: Machine) -> Iterator[Found]:
    version, platform = machine.python(), machine.platform()
    shown = ".".join(map(str, version))
    if version < (3, 11):
        yield fault("python", f"Python {shown} is too old")
    elif platform not in ("linux", "darwin"):
        yield fault("python", f"{platform} is not supported")
    elif platform == "darwin":
        yield warn("python", f"Python {shown} on macOS, which is for development", "Run it on Linux where it counts.")
    else:
        yield ok("python", f"moderation {__version__} on Python {shown}, {platform}")


def _packages(machine: Machine) -> Iterator[Found]:
    needs = [found for need in machine.needs() if "extra ==" not in need and (found := _NEED.match(need))]
    bad = 0
    for need in needs:
        have = machine.version(need[1])
        if have is None or _numbers(have) < _numbers(need[2]):
            bad += 1
            yield fault("packages", f"{need[1]} {have or 'is missing'}: it takes {need[2]} or newer")
    if not needs:
        yield warn("packages", "this is not an installed package, so what it needs is not known", "Run `make install`.")
    elif not bad:
        yield ok("packages", f"all {len(needs)} are there")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:4])


def _open_files(given: Given, machine: Machine) -> Found:
    most, wanted = machine.open_files(), 2 * given.max_streams + _OTHER_FILES
    if 0 <= most < wanted:
        fits = max(1, (most - _OTHER_FILES) // 2)
        return warn("open files", f"{most} may be open; {given.max_streams} streams need about {wanted}",
                    f"`ulimit -n {max(4096, wanted)}`, LimitNOFILE= in the unit, or a `max_streams` of {fits}.")
    return ok("open files", f"{'any number' if most < 0 else most} may be open")


def _memory(given: Given, machine: Machine) -> Found:
    limit, wanted = machine.memory(), _BASE + given.cache + given.max_streams * given.stream_buffer
    if limit is None:
        return ok("memory", "no limit")
    if limit < wanted:
        return warn("memory", f"the limit is {_mib(limit)}; {given.max_streams} streams and the cache may take {_mib(wanted)}")
    return ok("memory", f"the limit is {_mib(limit)}; the settings may take {_mib(wanted)}")


def _mib(size: int) -> str:
    return f"{size >> 20} MiB"
