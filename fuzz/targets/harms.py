"""What can be done to the files of a log: bytes, whole files, and sound batches, for which no key is needed.

Harms are written in six bytes each: which, to which file, where (two bytes), with what, how much. What is not filled up is a text
that some harms put in.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import NamedTuple
from zlib import crc32

from moderation.audit.canon import CanonError, decode, encode
from moderation.audit.merkle import Tree, leaf_hash
from moderation.audit.note import Signer
from moderation.audit.qseg import commit_frame, header_for, ordered, read, record_frame
from moderation.errors import LogError

SEEDED = Signer("moderation/fuzz/log-0", bytes(range(32)))
"""The log's key."""

Files = dict[str, bytes]

ODD: tuple[object, ...] = (
    None, True, -1, 0, 2**53 - 1, 10**9, "", "x", "../../../x", "a\0b", "\u202e", [], [[]], [[None] * 5], {}, {"a": 1}, ["x"] * 9,
    [["log-9", 3, "AAAA"]], "\x1b[2J", "decision", "close", "log_open", "recovery", "gap", "policy_activate",
)
"""In place of a member of a leaf."""
ODD_FIRST = (1, 4, 5, 99, 10**6, 2**40, 10**15)
STRAY = ("checkpoint.tmp-1", "seg-0.qseg.torn-84", "seg-99.qseg", "seg-00.qseg", "seg-0.qseg.torn-0-2", "seg-x.qseg")
"""Names of files that were not there."""


class Harm(NamedTuple):
    file: str
    at: int
    value: int
    size: int
    text: bytes


def _flip(files: Files, harm: Harm) -> bytes:
    data = files[harm.file]
    return data[: harm.at] + bytes([data[harm.at] ^ (harm.value or 1)]) + data[harm.at + 1 :] if harm.at < len(data) else data


def _cut(files: Files, harm: Harm) -> bytes:
    return files[harm.file][: harm.at]


def _drop(files: Files, harm: Harm) -> bytes:
    return files[harm.file][: harm.at] + files[harm.file][harm.at + harm.size :]


def _twice(files: Files, harm: Harm) -> bytes:
    data = files[harm.file]
    return data[: harm.at + harm.size] + data[harm.at :]


def _put(files: Files, harm: Harm) -> bytes:
    return files[harm.file][: harm.at] + harm.text + files[harm.file][harm.at :]


def _append(files: Files, harm: Harm) -> bytes:
    return files[harm.file] + harm.text


def _frame(files: Files, harm: Harm) -> bytes:
    """A sound frame behind all others, and half a commit, or one that does not fit."""
    commit = commit_frame(harm.at, bytes(32), harm.value)
    return files[harm.file] + record_frame(harm.text) + commit[: harm.size]


def _over(files: Files, harm: Harm) -> bytes:
    return files[sorted(files)[harm.value % len(files)]]


def _batch(files: Files, harm: Harm) -> bytes:
    """A sound batch behind all others, with a leaf that was there before but for one member: no key is needed for that."""
    if not harm.file.endswith(".qseg"):
        return files[harm.file]
    try:
        scans = list(read(SEEDED.verifier.name, [(name[6:], files[name]) for name in segments(files)]))
        leaves = [leaf for scan in scans for leaf in scan.leaves]
        members = decode(leaves[harm.at % len(leaves)].data)
    except (LogError, CanonError, ZeroDivisionError):
        return files[harm.file]
    names = sorted({*members, "siblings", "parts", "decisions"})
    members[names[harm.value % len(names)]] = ODD[harm.size % len(ODD)]
    if harm.size < 192:
        members |= {"idx": scans[-1].tree.size, "prev": base64.b64encode(scans[-1].prev).decode()}
    body, tree = encode(members), scans[-1].tree.copy()
    tree.append(leaf_hash(body))
    made = files[segments(files)[-1]] + record_frame(body) + commit_frame(tree.size, tree.root(), 1)
    return made if harm.file == segments(files)[-1] else files[harm.file]


def segments(files: Files) -> list[str]:
    """The log files, in the order of their leaves."""
    return [f"log-0/{name}" for name in ordered(name[6:] for name in files if name.startswith("log-0/"))]


def _sums(files: Files, harm: Harm) -> bytes:
    """The checksums of all frames made to fit, as somebody would who knows the format. Headers are variable; see qseg."""
    data = bytearray(files[harm.file])
    count = int.from_bytes(data[6:8], "big") if len(data) > 8 else 0
    at = 84 + 32 * count
    if harm.file.endswith(".qseg") and len(data) > at:
        data[at - 4 : at] = struct.pack(">I", crc32(data[: at - 4]))
        while at + 8 < len(data):
            length = int.from_bytes(data[at : at + 4], "big")
            data[at + 4 : at + 8] = struct.pack(">I", crc32(data[at + 8 : at + 8 + length]))
            at += 8 + length
    return bytes(data)


_Way = Callable[[Files, Harm], bytes]
_WAYS: tuple[_Way, ...] = (_flip, _flip, _cut, _drop, _twice, _put, _append, _frame, _over, _sums, _batch, _batch)


def harmed(files: Files, data: bytes) -> Files:
    made = dict(files)
    text = data[len(data) - len(data) % 6 :] or b'{"kind":"open"}'
    for start in range(0, min(len(data) - len(data) % 6, 36), 6):
        way, which, high, low, value, size = data[start : start + 6]
        if not made:
            break
        name = sorted(made)[which % len(made)]
        harm = Harm(name, (high << 8 | low) % (len(made[name]) + 1), value, size, text)
        if way % 16 == 12:
            del made[name]
        elif way % 16 == 13:
            made[f"log-0/{STRAY[value % len(STRAY)]}"] = made[name]
        elif way % 16 == 14:
            first = ODD_FIRST[value % len(ODD_FIRST)]
            header = header_for(SEEDED.verifier.name, Tree(first, [bytes(32)] * first.bit_count()), bytes(32))
            made[f"log-0/{header.name}"] = header.to_bytes() + made[name][size:]
        else:
            made[name] = _WAYS[way % 16 % len(_WAYS)](made, harm)
    return made
