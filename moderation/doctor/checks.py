"""The one table of what `moderation doctor` looks at, and what a look comes to. Knows no check's inside.

docs/doctor.md is made from CHECKS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    """It runs, and will not as you think, or not for long."""
    FAULT = "fault"
    """It does not run, or not right."""


@dataclass(frozen=True, slots=True)
class Check:
    what: str
    todo: str
    """What to do in general; a look that knows better says so."""


CHECKS: Mapping[str, Check] = {
    "python": Check("Python and the system are ones that are supported.",
                    "Use Python 3.11 or newer on Linux (macOS for development)."),
    "packages": Check("Every package that it needs is there, in a version that fits.",
                      "Install it anew: `pip install moderation`."),
    "configuration": Check("The configuration can be read, and nothing in it is unknown.", "Mend the place that is named."),
    "access": Check("Who can reach the port, and who can see /metrics.", "List `clients`, or set an admin port and token."),
    "ports": Check("The ports are free, or a sidecar serves them already.",
                   "End what listens there, or choose another `--port`."),
    "policy": Check("Every policy can be taken.", "`moderation policy check FILE` tells more."),
    "policy tests": Check("The tests in every policy pass.",
                          "`moderation policy test FILE` shows each; mend the rule or the test."),
    "detectors": Check("What the policy's detectors need is there: word lists, models.",
                       "Put the file where the policy names it."),
    "data folder": Check("The log's folder is there, or can be made, and can be written.",
                         "Give the user that runs the sidecar the right to write there: `chown`, or another `--data`."),
    "file system": Check("The log's file system keeps what it says it has kept.", "Use a local disk, or a volume, for `--data`."),
    "disk speed": Check("One write is on disk soon enough: each strict request waits for one.",
                        "Use a faster disk, or `durability: fast`, which may lose the last 50 ms at a power cut or an error of "
                        "the disk."),
    "disk room": Check("There is room for the log, for how long.",
                       "Make room, or move old log files away as docs/operations.md says."),
    "keys": Check("The log's private keys are there, and nobody else can read them.",
                  "`chmod 600` on the files, `chmod 700` on the folder."),
    "logs": Check("Which logs there are, who writes them, and whether their newest checkpoints hold.",
                  "`moderation audit verify` tells all; put a damaged log back from a backup."),
    "clock": Check("The clock is right: not before the log's last leaf, and as the upstream's.",
                   "Let NTP set it: `timedatectl`."),
    "open files": Check("As many files may be open as `max_streams` needs.", "`ulimit -n 65536`, or LimitNOFILE= in the unit."),
    "memory": Check("The memory limit leaves room for what the settings allow.",
                    "Raise the limit, or lower `max_streams`, `cache`."),
    "stderr": Check("The operational log has somewhere to go.", "Do not close stderr; let the service manager read it."),
    "proxy": Check("Variables for a proxy, which the sidecar does not use.", "Let the sidecar reach the upstream directly."),
    "upstream name": Check("The upstream's name can be looked up.",
                           "Check the URL, and the resolver of this machine or container."),
    "upstream connection": Check("A connection can be made.", "Check the firewall, and the port of the URL."),
    "upstream certificate": Check("Its certificate is trusted, and will be for a while.",
                                  "Set `upstream_ca` to the authority's file, or have the certificate renewed."),
    "upstream answer": Check("`GET /models` is answered, with the key where there is one.", "See what it says."),
}


@dataclass(frozen=True, slots=True)
class Found:
    """What one look came to."""

    check: str
    state: State
    found: str
    todo: str = ""

    def row(self) -> dict[str, str | None]:
        return {"check": self.check, "state": self.state.value, "found": self.found, "todo": self.todo or None}


def ok(check: str, found: str) -> Found:
    return Found(check, State.OK, found)


def warn(check: str, found: str, todo: str = "") -> Found:
    return Found(check, State.WARN, found, todo or CHECKS[check].todo)


def fault(check: str, found: str, todo: str = "") -> Found:
    return Found(check, State.FAULT, found, todo or CHECKS[check].todo)
