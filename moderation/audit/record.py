"""The bodies of leaves: what the log says of a request, of a decision, of a policy and of itself.

Pure. No content of prompts or answers gets in here: texts stand as salted commitments, edits as offsets, and names that a caller
chose only where the configuration or the policy lists them. The store adds v, log, idx, prev, ts, mono and boot.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from moderation.audit.canon import MAX_INT, CanonError
from moderation.audit.leaf import Body, Value, measure
from moderation.errors import ModerationError
from moderation.text import Media, Phase, Scope
from moderation.verdict import Decision, Edit, Fired, Key, Mode, PolicyRef, Signal, Unknown, Window

MAX_DECISION = 1 << 20
"""Bytes of all parts of one decision; beyond it the caller decides again with Unknown(too_large)."""
MOST_SPANS = 4000
"""Edits that are told one by one; of more only their number. What decides are signals, and those are all there."""
_PART = 64_000
"""Bytes of one part before the store's stamps, which take less than 500 bytes (the origin has at most 120 characters)."""
_SMALL = 24
"""Up to so many list items no decision comes near _PART, so measuring is skipped."""
_RUNS = 500
"""Runs of windows in one entry of `rules`, so that no entry comes near _PART."""
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_TRACE = re.compile(r"[0-9a-f]{32}")
_INDEX = re.compile(r"[0-9]{1,5}")
"""At most five digits: a longer one may be a number that identifies a person, used as a key."""

_STEPS = frozenset({
    "messages", "content", "text", "role", "name", "tool_calls", "function", "function_call", "arguments", "tool_call_id",
    "id", "type", "tools", "description", "parameters", "properties", "items", "required", "enum", "default", "title",
    "examples", "strict", "anyOf", "oneOf", "allOf", "choices", "message", "delta", "reasoning", "reasoning_content",
    "refusal", "audio", "transcript", "image_url", "input_audio", "file", "file_data", "filename", "url", "data", "detail",
    "prediction", "response_format", "json_schema", "schema", "json_object", "functions", "input", "instructions", "prompt",
    "suffix", "system", "user", "assistant", "tool", "stop", "metadata", "logprobs", "annotations", "additionalProperties",
    "const", "format", "pattern", "$defs", "$ref",
})

LISTS = ("keys", "sigs", "unks", "wins", "runs", "unknown", "rules", "would", "det", "spans", "media")
"""Members of a decision that go on in the next leaf where they do not fit; readers join them by part."""


class RecordTooLarge(ModerationError):
    """The Signals of one decision take more than 1 MiB; decide again with Unknown(too_large) and record that."""


@dataclass(frozen=True, slots=True)
class DetectorStatus:
    """How one detector did in one decision."""

    id: str
    version: str
    status: str
    """ok, or a Cause"""
    micros: int


@dataclass(frozen=True, slots=True)
class Names:
    """Which names that callers choose may stand in leaves as they are, and the key behind the fingerprints of all others."""

    key: bytes
    models: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()

    def model(self, value: str) -> str:
        return _shown(self.key, value, self.models)

    def tool(self, value: str) -> str:
        return _shown(self.key, value, self.tools)

    def user(self, value: str) -> str:
        return _shown(self.key, value, self.users)

    def other(self, value: str) -> str:
        """For what is never listed: ids of the upstream, values of headers."""
        return _shown(self.key, value, frozenset())


def _shown(key: bytes, value: str, listed: frozenset[str]) -> str:
    if value in listed or value == "other":
        return value
    return f"other:{(_remembered if len(value) <= _SHORT else fingerprint)(key, value)}"


def fingerprint(key: bytes, value: str) -> str:
    """Tells repeats of a name from one another without the name: 16 bytes of HMAC-SHA256, base64."""
    return _b64(hmac.digest(key, b"modlog/name/v1\x00" + value.encode("utf-8", "surrogatepass"), "sha256")[:16])


_SHORT = 64
"""Names of models come again with every request; a longer value is no name, and would only take memory."""
_remembered = lru_cache(maxsize=1024)(fingerprint)


def commitment(salt: bytes, text: str) -> str:
    """c1: binds to the text, hides it, and once the salt is thrown away can be linked to no guess."""
    if len(salt) != 32:
        raise ValueError("a salt has 32 bytes")
    return _b64(sha256(b"modlog/content-commit/v1\x00" + salt + text.encode("utf-8", "surrogatepass")).digest())


@dataclass(frozen=True, slots=True)
class Content:
    """All that the log tells of texts: a commitment, and how many code points they have."""

    commit: str
    chars: int


def content(salt: bytes, texts: Sequence[str]) -> Content:
    """Of texts that are whole: joined by U+0000."""
    return Content(commitment(salt, "\x00".join(texts)), sum(map(len, texts)))


class GrowingContent:
    """The same for texts that come in pieces: in the order in which they come, U+0000 where one piece is of another text."""

    __slots__ = ("_chars", "_hash", "_text")

    def __init__(self, salt: bytes) -> None:
        self._hash = sha256(b"modlog/content-commit/v1\x00" + salt)
        self._chars = 0
        self._text: object = None

    def add(self, text: object, piece: str) -> None:
        """A piece of the text that goes by this name."""
        if text != self._text:
            if self._text is not None:
                self._hash.update(b"\x00")
            self._text = text
        self._hash.update(piece.encode("utf-8", "surrogatepass"))
        self._chars += len(piece)

    def content(self) -> Content:
        return Content(_b64(self._hash.digest()), self._chars)


def masked(path: str) -> str:
    """A path as it may stand in the log: array indexes and OpenAI's own field names survive, any other step becomes `*`."""
    return "#".join("/".join(step if _known(step) else "*" for step in half.split("/")) for half in path.split("#", 1))


def _known(step: str) -> bool:
    return not step or step in _STEPS or _INDEX.fullmatch(step) is not None


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _request(value: str) -> str:
    if not _ULID.fullmatch(value):
        raise CanonError("req: expected a ULID (26 characters of Crockford's base32)")
    return value


def _scope(scope: Scope, names: Names) -> Body:
    return {"tenant": scope.tenant, "route": scope.route, "region": scope.region, "model": names.model(scope.model),
            "lang": scope.language}


def _policy(policy: PolicyRef, engine: str) -> Body:
    return {"id": policy.id, "hash": policy.hash, "engine": engine}


def opening(
    request: str, scope: Scope, policy: PolicyRef, *, names: Names, engine: str, endpoint: str, client: str | None = None,
    user: str | None = None, model: str | None = None, stream: bool = False,
) -> Body:
    """`open`: a request has come in. `client` is the name in the configuration; `user` and `model` are what the body says."""
    caller: Body = {"client": client, "user": None if user is None else names.user(user)}
    asked = None if model is None else names.model(model)
    return {"kind": "open", "req": _request(request), "scope": _scope(scope, names), "policy": _policy(policy, engine),
            "caller": caller, "model": asked, "stream": stream, "endpoint": endpoint}


def closing(
    request: str, outcome: str, *, names: Names, decisions: int, upstream_status: int | None = None,
    upstream_id: str | None = None, in_tokens: int | None = None, out_tokens: int | None = None, chunks: int = 0,
) -> Body:
    """`close`: completed, blocked, client_gone, upstream_error or interrupted. `decisions` counts the decisions recorded."""
    if outcome not in ("completed", "blocked", "client_gone", "upstream_error", "interrupted"):
        raise CanonError("outcome: expected completed, blocked, client_gone, upstream_error or interrupted")
    return {"kind": "close", "req": _request(request), "outcome": outcome, "decisions": decisions, "chunks": chunks,
            "upstream_status": upstream_status, "upstream_id": None if upstream_id is None else names.other(upstream_id),
            "in_tokens": in_tokens, "out_tokens": out_tokens}


def interrupted(request: str, decisions: int) -> Body:
    """The `close` that the store writes for a request whose end was never recorded."""
    return {"kind": "close", "req": request, "outcome": "interrupted", "decisions": decisions}


def policy_activate(policy: PolicyRef, *, engine: str, files: Mapping[str, bytes], previous: str | None, signed: bool) -> Body:
    """`files` are what is kept under DATA/policies/<hash>/; their hashes go in."""
    hashes = [[name, sha256(data).hexdigest()] for name, data in sorted(files.items())]
    return {"kind": "policy_activate", "policy": _policy(policy, engine), "files": hashes, "previous": previous, "signed": signed}


def policy_reject(*, source: str, code: str, where: str, kept: str | None) -> Body:
    """A policy that was not taken: SHA-256 of its bytes, the first fault's code and place, the hash of the one that stays."""
    return {"kind": "policy_reject", "source": source, "code": code, "where": where, "kept": kept}


def gap(lost: int, cause: str, since: int) -> Body:
    """So many leaves could not be recorded, from `since` (µs UTC) on."""
    return {"kind": "gap", "lost": lost, "cause": cause, "since": since}


def recovery(file: str, offset: int, count: int, digest: str) -> Body:
    """A torn tail was cut off: `count` bytes with this SHA-256, kept beside the log as `file`."""
    return {"kind": "recovery", "file": file, "offset": offset, "bytes": count, "sha256": digest}


def log_open(*, version: str, key: str, siblings: Iterable[tuple[str, int, str]], checkpoint: bool, unsigned: int) -> Body:
    """A process has opened the log. `siblings` are the other logs' checkpoints as they stood: (folder, size, root).

    `unsigned`: so many leaves before this one were under no checkpoint when the process found them.
    """
    return {"kind": "log_open", "version": version, "key": key, "siblings": [list(item) for item in siblings],
            "checkpoint": checkpoint, "unsigned": unsigned}


def decision(
    decided: Decision, *, names: Names, engine: str, durability: str, commit: str | None, chars: int,
    detectors: Sequence[DetectorStatus] = (), edits: Sequence[Edit] = (), media: Sequence[Media] = (),
    micros: Mapping[str, int] | None = None, simulated: bool = False, out_commit: str | None = None, out_chars: int | None = None,
    trace: str | None = None,
) -> tuple[Body, ...]:
    """`decision`: everything decide read and said, in one leaf or, where that is too long, in parts.

    `commit` and `chars` are of the inspected text, `out_*` of the text after the action; `trace` is a W3C trace
    id. Raises RecordTooLarge over 1 MiB.
    """
    outcome, tables = decided.outcome, _Tables(names)
    wins, runs = tables.windows(decided.windows)
    severity = max((fired.severity for fired in outcome.fired if fired.mode is Mode.ENFORCE), default=None)
    head: Body = {
        "kind": "decision", "req": _request(decided.request), "n": decided.n, "part": 0, "parts": 1,
        "phase": decided.phase.value, "scope": _scope(decided.scope, names), "policy": _policy(decided.policy, engine),
        "act": outcome.action.word, "would_act": outcome.would.word, "sev": 0 if severity is None else int(severity),
        "degraded": outcome.degraded, "message": outcome.message, "dur": durability, "simulated": simulated,
        "content": {"alg": "c1", "commit": commit, "chars": chars}, "lat": dict(micros or {}),
    }
    if trace is not None:
        if not _TRACE.fullmatch(trace):
            raise CanonError("trace: expected the 32 hex digits of a W3C trace id")
        head["trace"] = trace
    if out_chars is not None:
        head["out"] = {"alg": "c1", "commit": out_commit, "chars": out_chars}
    if len(edits) > MOST_SPANS:
        head["cut"] = len(edits) - MOST_SPANS
    lists: dict[str, list[Value]] = {
        "wins": wins, "runs": runs, "unknown": [[u.detector, u.cause.value] for u in outcome.unknown],
        "rules": tables.fired(f for f in outcome.fired if f.mode is Mode.ENFORCE),
        "would": tables.fired(f for f in outcome.fired if f.mode is not Mode.ENFORCE),
        "det": [{"id": d.id, "bin": d.version, "st": d.status, "us": d.micros} for d in detectors],
        # What takes all of a tape that is still to come has an end that nobody knows yet.
        "spans": [[masked(e.path), e.span.start, e.span.end if e.span.end <= MAX_INT else -1, e.action.word, e.kind]
                  for e in edits[:MOST_SPANS]],
        "media": [[masked(m.path), m.kind, m.turn.value] for m in media],
    }
    lists |= {"keys": tables.keys, "sigs": tables.sigs, "unks": tables.unks}
    if sum(map(len, lists.values())) <= _SMALL or len(measure({**head, **lists})) <= _PART:
        return ({**head, **lists},)
    return _parts(head, lists, decided.phase)


def _parts(head: Body, lists: Mapping[str, list[Value]], phase: Phase) -> tuple[Body, ...]:
    parts, total = [{**head, **{name: [] for name in LISTS}}], 0
    room = _PART - len(measure(parts[0]))
    for name in LISTS:
        for item in lists[name]:
            length = len(measure(item)) + 1
            total += length
            if length > room:
                base: Body = {"kind": "decision", "req": head["req"], "n": head["n"], "part": len(parts), "phase": phase.value}
                parts.append({**base, **{name: [] for name in LISTS}})
                room = _PART - len(measure(parts[-1]))
            if length > room or total > MAX_DECISION:
                raise RecordTooLarge(f"decision {head['req']}.{head['n']}: its signals take more than {MAX_DECISION} bytes")
            room -= length
            entries = parts[-1][name]
            assert isinstance(entries, list)
            entries.append(item)
    for part in parts:
        part["parts"] = len(parts)
    return tuple(parts)


class _Tables:
    """Keys, signals and unknowns of one decision, each written once and then meant by its number."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._known_keys: dict[Key, int] = {}
        self._known_sigs: dict[tuple[int, int, int], int] = {}
        self._known_unks: dict[Unknown, int] = {}
        self.keys: list[Value] = []
        self.sigs: list[Value] = []
        self.unks: list[Value] = []

    def key(self, key: Key) -> int:
        number = self._known_keys.get(key)
        if number is None:
            number = self._known_keys[key] = len(self.keys)
            tool = None if key.tool is None else self._names.tool(key.tool)
            entry: list[Value] = [key.channel.value, key.turn.value, tool]
            if key.detector is not None or key.category is not None or key.entity is not None or key.origin is not None:
                entry += [key.detector, key.category, key.entity, None if key.origin is None else key.origin.value]
            self.keys.append(entry)
        return number

    def windows(self, windows: Sequence[Window]) -> tuple[list[Value], list[Value]]:
        """Different windows once each, and the order in which they stood as runs [which, how many]: nothing is lost."""
        wins: list[Value] = []
        runs: list[Value] = []
        known: dict[Window, int] = {}
        same: dict[int, int] = {}  # by identity: most windows are quiet, and those of one kind are one object
        last, run = None, [0, 0]
        alone = len(windows) == 1  # most are; then nothing needs to be found again
        for window in windows:
            if window is last or window == last:
                run[1] += 1
                continue
            number = None if alone else same.get(id(window))
            if number is None and not alone:
                number = known.get(window)
            if number is None:
                number = len(wins)
                if not alone:
                    known[window] = same[id(window)] = number
                wins.append([[self._signal(s) for s in window.signals], [self._unknown(u) for u in window.unknown]])
            run = [number, 1]
            runs.append(run)
            last = window
        return wins, runs

    def _signal(self, signal: Signal) -> int:
        entry = (self.key(signal.key), signal.score, signal.count)
        number = self._known_sigs.get(entry)
        if number is None:
            number = self._known_sigs[entry] = len(self.sigs)
            self.sigs.append(list(entry))
        return number

    def _unknown(self, unknown: Unknown) -> int:
        number = self._known_unks.get(unknown)
        if number is None:
            number = self._known_unks[unknown] = len(self.unks)
            self.unks.append([unknown.detector, unknown.cause.value])
        return number

    def fired(self, fired: Iterable[Fired]) -> list[Value]:
        """Equal firings once, with the windows in which they fired as runs [first, how many]."""
        groups: dict[tuple[object, ...], tuple[Fired, list[list[int]]]] = {}
        for one in fired:
            same = (one.rule, one.action, one.mode, one.label, one.keys, one.at_least, one.on_unknown, one.whole, one.severity)
            runs = groups.setdefault(same, (one, []))[1]
            if runs and runs[-1][0] + runs[-1][1] == one.window and one.window > 0:
                runs[-1][1] += 1
            else:
                runs.append([one.window, 1])
        return [self._rule(one, runs[at : at + _RUNS]) for one, runs in groups.values() for at in range(0, len(runs), _RUNS)]

    def _rule(self, one: Fired, runs: list[list[int]]) -> Body:
        why = [[self.key(key), least] for key, least in zip(one.keys, one.at_least, strict=True)]
        return {"id": one.rule, "act": one.action.word, "mode": one.mode.value, "sev": int(one.severity), "label": one.label,
                "why": why, "on_unknown": one.on_unknown, "whole": one.whole, "win": runs}
