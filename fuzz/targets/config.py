"""config.py: moderation.yaml."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fuzz.target import Target, law
from fuzz.targets.policy import within
from moderation.config import ConfigError, load

_PLACE = re.compile(r"moderation\.yaml:(\d+):(\d+) ")


def _run(data: bytes) -> str:
    try:
        config = load({}, {"MODERATION_PORT": "", "KEY": "k"}, read_file=lambda path: _file(path, data))
    except ConfigError as error:
        law(bool(error.faults), "refused without a fault")
        for fault in error.faults:
            place = _PLACE.match(str(fault))
            law((place is not None and within(data, int(place[1]), int(place[2]))) or not place, "a place outside the file")
        return "; ".join(sorted({str(fault).partition(" ")[2][:40] for fault in error.faults}))[:200]
    config.client_for("Bearer x")
    config.passes("/v1/files/../chat/completions")
    config.answers_for("[::1]:80")
    return f"taken {len(config.routes)} {len(config.clients)} {len(config.warnings)}"


def _file(path: Path, data: bytes) -> bytes:
    if path.name != "moderation.yaml":
        raise FileNotFoundError(2, "No such file or directory", str(path))
    return data


def _seeds() -> Sequence[bytes]:
    key = "a" * 64
    return [text.encode() for text in (
        "upstream: https://dashscope.aliyuncs.com/compatible-mode/v1\nport: 8080\nmax_body: 20MiB\ndrain: 30s\n",
        f"upstream: https://h\nclients:\n  - {{name: app, key_sha256: {key}, tenant: acme}}\n"
        "routes:\n  - name: pay\n    match: {path: /payroll}\n"
        "    policy: p.yaml\n    durability: fast\n"
        "  - name: rest\n    match: {key: app}\n    tenant: t\n  - {name: two, match: {port: 8081}}\n",
        "# nothing\n", "passthrough: [/embeddings, /v1/files]\nallowed_hosts: ['*', a.b]\nblock_as: completion\n",
        "upstream_ca: x.pem\nkeys: /k\n")]


TARGET = Target(
    "config", "A configuration is taken, or refused with all faults and places within the file.", _seeds, lambda: _run,
    (b"routes:\n", b"clients:\n", b"  - ", b"match: {", b"path: ", b"port: ", b"key: ", b": ", b"&a ", b"*a", b"!!python/x ",
     b"<<: ", b"| \n", b"> ",
     b"---\n", b"...\n", b"%YAML 1.1\n", b"? ", b"[", b"0x10", b"1_000", b"no", b"2026-11-24", b'"\\u2028"', b"upstream: ",
         b"name: "),
)
