"""The check of one log folder: files, leaves, chain, tree, pairs. Part of verify, and as independent as it.

Knows nothing of other logs, nor of policies; it collects what is said about them.
"""

from __future__ import annotations

import base64
import os
import re
from hashlib import sha256
from pathlib import Path
from zlib import crc32

from moderation.audit.canon import CanonError, decode
from moderation.audit.merkle import HASH_LENGTH, Tree, leaf_hash
from moderation.audit.verify_files import (
    COMMIT,
    FRAME,
    HEAD,
    Key,
    commit_after,
    ends_inside,
    frames,
    header,
    is_in_use,
    is_signed,
    mapping,
    number,
    read_checkpoint,
    read_key,
    rows,
    text,
)
from moderation.audit.verify_report import RESTORE, Checked, Claim, Fault, Report, Verdict

GRACE_MICROS = 15 * 60 * 1_000_000
"""A request opened this shortly before the newest leaf may have been in flight when the process died or the files were copied."""
MOST_MISSING = 1 << 24
"""More leaves than this before a file that is there are not missing: its header is made up. It bounds the memory of a check."""
SEGMENT = re.compile(r"seg-(0|[1-9][0-9]*)\.qseg")


class LogAudit:
    """The check of one log folder."""

    def __init__(self, folder: Path, report: Report) -> None:
        self.folder, self.report, self.state = folder, report, Checked(folder.name)
        self.claims: list[Claim] = []
        self.siblings: list[tuple[str, Claim]] = []
        self.activated: dict[str, list[tuple[str, str]]] = {}
        self.decided_by: dict[str, int] = {}
        self.key: Key | None = None
        self._hashes: list[bytes | None] = []
        self._prev = bytes(HASH_LENGTH)
        self._tree: Tree | None = Tree()
        self._tail = ""
        self._broken = False
        self._opens: dict[str, tuple[int, str]] = {}
        self._decisions: dict[str, dict[int, list[int]]] = {}
        self._gapped: set[str] = set()
        self._recovered: dict[str, str] = {}
        self._boot, self._mono = "", 0
        self._sizes: dict[str, int] = {}
        self._early = False
        self.began = False
        """Whether there is more in it than starts: before a log's first checkpoint nothing is served."""
        self.has_copy = self._has_checkpoint = self._has_key_file = False

    def fault(self, verdict: Verdict, where: str, problem: str, todo: str) -> None:
        place = where if where.startswith("/") or os.sep in where else f"{self.folder}: {where}"
        self.report.faults.append(Fault(verdict, place, problem, todo))

    # A running writer only adds. So what others say of it is read in this order: sizes of all logs; keys and checkpoints of all
    # logs; leaves. All that a checkpoint covers is then among the leaves that are read, and so is what the leaves that stood at
    # the first look say of other logs. What later ones say is not looked at: it may be newer than what was read of the other.

    def look(self) -> None:
        """Note what is there now."""
        self._sizes = {path.name: path.stat().st_size for path in self.folder.iterdir() if SEGMENT.fullmatch(path.name)}

    def read_claims(self, copy: Path | None) -> None:
        """Read the key, the checkpoint, and the copy of the checkpoint where there is one."""
        self.state.in_use = is_in_use(self.folder)
        try:
            self.key = read_key((self.folder / "key.pub").read_bytes())
        except FileNotFoundError:
            self.key = None
        else:
            self._has_key_file = True
            self.state.origin = self.key[0] if self.key else ""
        self._has_checkpoint = self._read_checkpoint(self.folder / "checkpoint")
        self.has_copy = copy is not None and self._read_checkpoint(copy)

    def _read_checkpoint(self, path: Path) -> bool:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return False
        checkpoint = read_checkpoint(data)
        if checkpoint is None:
            self.fault(Verdict.INTEGRITY, str(path), "not a checkpoint (origin, size, root, empty line, signature)", RESTORE)
            return True
        signed, signatures, origin, size, root = checkpoint
        if self.key is not None and (origin != self.key[0] or not is_signed(signed, signatures, self.key)):
            self.fault(Verdict.INTEGRITY, str(path), "not signed by the key in key.pub",
                       "Find out which of the two was replaced.")
            return True
        self.claims.append(Claim(str(path), size, root))
        if path.parent == self.folder:
            self.state.signed = size
        return True

    def read_leaves(self) -> None:
        names = sorted(os.listdir(self.folder))
        segments = sorted((name for name in names if SEGMENT.fullmatch(name)), key=lambda name: int(name[4:-5]))
        for name in segments:
            self._read_segment(name, name == segments[-1])
        self.state.leaves = len(self._hashes)
        back = "Put key.pub back from a copy kept elsewhere."
        if self.key is None and self._has_key_file:
            self.fault(Verdict.INTEGRITY, str(self.folder / "key.pub"), "not a verifier key line", back)
        elif self.key is None and (segments or self._has_checkpoint):
            self.fault(Verdict.INTEGRITY, str(self.folder / "key.pub"), "the log's public key is gone", back)
        if self.began and not self._has_checkpoint and not (self.folder / "checkpoint").exists():
            self.fault(Verdict.COMPLETENESS, str(self.folder / "checkpoint"), "the checkpoint is gone, so nothing says how long "
                       "the log was", "Put the newest checkpoint back from a backup.")
        self._check_pairs()
        self._check_torn(names)

    def _read_segment(self, name: str, last: bool) -> None:
        path = self.folder / name
        data = path.read_bytes()
        head, expected = header(data), len(self._hashes)
        if head is None:
            if last and int(name[4:-5]) == expected and self._next_header().startswith(data):
                self._tail = "" if self.state.in_use else f"{path}: byte 0"
            else:
                self._break(f"{path}: byte 0", "no sound header")
            return
        origin, first, prev, compact, start = head
        if first - expected > MOST_MISSING:
            self._break(f"{path}: byte 0", f"begins with leaf {first}, and {expected} leaves stand before it")
            return
        if first != int(name[4:-5]) or (self.key is not None and origin != sha256(self.key[0].encode()).digest()):
            self._break(f"{path}: byte 0", "the header belongs to another file or log")
        elif first > expected and self._tree is not None:
            self.fault(Verdict.COMPLETENESS, f"leaves {expected} to {first - 1}", f"missing before {name}", RESTORE)
        elif first < expected:
            self._break(f"{path}: byte 0", f"begins with leaf {first}, but leaf {expected} was to come")
        elif self._tree is not None and first == expected and (prev, compact) != (self._prev, self._tree.compact):
            self._break(f"{path}: byte 0", "the header does not follow from the leaves before")
        del self._hashes[first:]
        self._hashes += [None] * (first - expected)
        self._prev, self._tree = prev, Tree(first, compact)
        self._read_batches(path, data, start, last)

    def _next_header(self) -> bytes:
        """The one header that a file may have here; a crash may leave a part of it, or nothing."""
        if self._tree is None or self.key is None:
            return b""
        compact = self._tree.compact
        fixed = HEAD.pack(b"QSEG", 1, len(compact), sha256(self.key[0].encode()).digest(), self._tree.size, self._prev)
        head = fixed + b"".join(compact)
        return head + crc32(head).to_bytes(4, "big")

    def _read_batches(self, path: Path, data: bytes, start: int, last: bool) -> None:
        tree, end, bad = Tree(len(self._hashes), self._tree.compact if self._tree else ()), start, None
        batch: list[tuple[int, bytes]] = []
        for at, payload in frames(data, start):
            if payload is None:
                bad = at
            elif payload[0] == 1:
                batch.append((at, payload[1:]))
                tree.append(leaf_hash(payload[1:]))
            else:
                _, size, root, count = COMMIT.unpack(payload)
                if size != tree.size or count != len(batch) or not batch or root != tree.root():
                    self._break(f"{path}: byte {at}", "a commit that does not fit the leaves before it")
                for offset, leaf in batch:
                    self._early = offset < self._sizes.get(path.name, 0)
                    self._read_leaf(f"{path}: byte {offset}", leaf)
                batch, end = [], at + FRAME.size + len(payload)
                self._tree = tree.copy()
        if end == len(data):
            return
        cut = bad is None or ends_inside(data, bad)
        if not last or not cut or (bad is not None and commit_after(data, bad)):
            self._break(f"{path}: byte {end if bad is None else bad}", "bytes that are no sound frame")
            self._tree = None
        elif not self.state.in_use:
            self._tail = f"{path}: byte {end}"

    def _break(self, where: str, problem: str) -> None:
        self._broken = True
        self.fault(Verdict.INTEGRITY, where, problem, RESTORE)

    def _read_leaf(self, where: str, data: bytes) -> None:
        index, prev = len(self._hashes), base64.b64encode(self._prev).decode()
        self._prev = leaf_hash(data)
        self._hashes.append(self._prev)
        try:
            leaf = decode(data)
        except CanonError as error:
            self._break(where, str(error))
            return
        for name, value in (("v", 1), ("idx", index), ("prev", prev), *((("log", self.key[0]),) if self.key else ())):
            if leaf.get(name) != value or type(leaf.get(name)) is not type(value):
                self._break(where, f"leaf {index}: `{name}` is not what it must be here")
        ts, mono, kind, boot = leaf.get("ts"), leaf.get("mono"), leaf.get("kind"), leaf.get("boot")
        if type(ts) is not int or type(mono) is not int or type(kind) is not str or type(boot) is not str:
            self._break(where, f"leaf {index}: ts, mono, kind or boot is missing")
            return
        self.state.first_ts = ts if self.state.first_ts is None else self.state.first_ts
        self.state.last_ts = ts
        self._boot, self._mono = boot, mono
        self.began = self.began or kind not in ("log_open", "recovery")
        try:
            self._take(kind, leaf, index, mono)
        except (KeyError, TypeError, ValueError):
            self._break(where, f"leaf {index}: not a `{kind}` as schema 1 has it")

    def _take(self, kind: str, leaf: dict[str, object], index: int, mono: int) -> None:
        """What a leaf says about others."""
        request = str(leaf.get("req"))
        match kind:
            case "open":
                if request in self._opens:
                    self.fault(Verdict.COMPLETENESS, f"leaf {index}", f"request {request} is opened twice", RESTORE)
                self._opens[request] = (mono, self._boot)
            case "close":
                self._close(request, leaf, index)
            case "decision":
                part, parts = number(leaf, "part"), number(leaf, "parts")
                if part == 0 and request not in self._opens and self._boot not in self._gapped:
                    self.fault(Verdict.COMPLETENESS, f"leaf {index}",
                               f"request {request} has a decision, but is not open", RESTORE)
                self._decisions.setdefault(request, {}).setdefault(number(leaf, "n"), [parts]).append(part)
                self.state.decisions += part == 0
                if part == 0:
                    self.decided_by.setdefault(text(mapping(leaf, "policy"), "hash"), index)
            case "policy_activate":
                files = [(str(name), str(digest)) for name, digest in rows(leaf, "files")]
                self.activated.setdefault(text(mapping(leaf, "policy"), "hash"), []).extend(files)
            case "gap":
                self.state.gaps += number(leaf, "lost")
                self._gapped.add(self._boot)
            case "recovery":
                self._recovered[text(leaf, "file")] = text(leaf, "sha256")
            case "log_open":
                if self.key is not None and leaf["key"] != self.key[2]:
                    self._break(f"leaf {index}", "the log was opened with another key than key.pub")
                if leaf["checkpoint"] is not True:
                    self.report.notes.append(f"{self.folder}: leaf {index}: at this start the checkpoint was missing; leaves "
                                             "before it may have been cut off.")
                late = number(leaf, "unsigned") if "unsigned" in leaf else 0  # logs from before it have none
                self.state.unsigned_at_starts += late
                if late:
                    self.report.notes.append(
                        f"{self.folder}: leaf {index}: this start found {late} leaves (from leaf {index - late} on) under no "
                        "checkpoint. A process that is killed leaves its last second so; so does whoever adds leaves "
                        "without the key. The log's key has signed them since, and vouches for them no more than before.")
                for name, size, root in rows(leaf, "siblings"):
                    told = base64.b64decode(str(root), validate=True)
                    if type(size) is not int or size < 0 or len(told) != HASH_LENGTH:
                        raise ValueError
                    if self._early:
                        self.siblings.append((str(name), Claim(f"{self.folder} leaf {index}", size, told)))
            case _:
                pass  # kinds of later versions are hashed like any other

    def _close(self, request: str, leaf: dict[str, object], index: int) -> None:
        opened, decided = self._opens.pop(request, None), self._decisions.pop(request, {})
        if self._boot in self._gapped or (opened is not None and opened[1] in self._gapped):
            return  # the gap leaf says that leaves are missing
        if opened is None:
            self.fault(Verdict.COMPLETENESS, f"leaf {index}", f"request {request} is closed, but was never opened", RESTORE)
        if len(decided) != number(leaf, "decisions") or sorted(decided) != list(range(len(decided))):
            self.fault(Verdict.COMPLETENESS, f"leaf {index}", f"request {request} has {leaf['decisions']} decisions, "
                       f"the log holds {len(decided)} (or their numbers have holes)", RESTORE)
        for n, (parts, *found) in decided.items():
            if len(found) != parts or sorted(found) != list(range(parts)):
                self.fault(Verdict.COMPLETENESS, f"leaf {index}", f"decision {request}.{n} has {parts} parts, "
                           f"{len(found)} are here", RESTORE)

    def _check_pairs(self) -> None:
        for request, (mono, boot) in self._opens.items():
            # By the clock that never goes back: the other one may have been set in the meantime.
            if boot == self._boot and (self.state.in_use or self._mono - mono <= GRACE_MICROS):
                self.state.open += 1
            elif boot not in self._gapped:
                self.fault(Verdict.COMPLETENESS, f"request {request}", "opened and never closed",
                           "Start the sidecar once on this folder: it closes what a crash left open. If it has run since, leaves "
                           "are missing.")
        if self.state.open and not self.state.in_use:
            self.report.notes.append(f"{self.folder}: {self.state.open} requests were open at the end; the next start closes "
                                     "them as interrupted.")

    def _check_torn(self, names: list[str]) -> None:
        for name, digest in self._recovered.items():
            path = self.folder / name
            if not path.exists():
                self.fault(Verdict.COMPLETENESS, str(path), "the bytes that a recovery cut off are gone", RESTORE)
            elif sha256(path.read_bytes()).hexdigest() != digest:
                self.fault(Verdict.INTEGRITY, str(path), "not the bytes that the recovery cut off", RESTORE)
        for name in names:
            if ".torn-" in name and name not in self._recovered:
                self.report.notes.append(f"{self.folder / name}: no recovery leaf speaks of it yet; the next start writes one.")
        if self._tail:
            self.report.notes.append(f"{self._tail}: a torn tail follows; the next start cuts it off and keeps it.")

    def check_claims(self) -> None:
        """Compare what checkpoints say with the tree of the leaves that are here."""
        tree = Tree()
        for claim in sorted(self.claims, key=lambda claim: claim.size):
            if claim.size > len(self._hashes):
                if not self._broken:
                    tail = f" {self._tail}: bytes are there that end in the middle." if self._tail else ""
                    self.fault(Verdict.COMPLETENESS, claim.source, f"{claim.size} leaves are signed for, {len(self._hashes)} are "
                               f"in {self.folder}: the last ones are missing.{tail}", RESTORE)
                continue
            for leaf in self._hashes[tree.size : claim.size]:
                if leaf is None:
                    return  # missing leaves were reported, and roots over them cannot be had
                tree.append(leaf)
            if tree.root() != claim.root:
                self.fault(Verdict.INTEGRITY, claim.source, f"not the root of the first {claim.size} leaves of {self.folder}",
                           "Leaves were altered and hashed anew, or the checkpoint was. Compare with copies kept elsewhere.")
        if not self._broken and None not in self._hashes:
            for leaf in self._hashes[tree.size :]:
                tree.append(leaf or b"")
            self.state.root = base64.b64encode(tree.root()).decode()
        unsigned = len(self._hashes) - self.state.signed
        if unsigned > 0 and not self.state.in_use:
            self.report.notes.append(f"{self.folder}: the last {unsigned} leaves are under no checkpoint (a crash within a "
                                     "second of them, or added by someone without the key).")
