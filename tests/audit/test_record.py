"""Leaves hold everything that decide read and nothing that anyone wrote; and they can be read back."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.audit.canon import CanonError, decode, encode
from moderation.audit.recall import RecallError, joined, recall, windows_of
from moderation.audit.record import (
    LISTS,
    MAX_DECISION,
    MOST_SPANS,
    DetectorStatus,
    Names,
    RecordTooLarge,
    closing,
    commitment,
    decision,
    fingerprint,
    gap,
    interrupted,
    log_open,
    masked,
    opening,
    policy_activate,
    policy_reject,
    recovery,
)
from moderation.text import Channel, Media, Phase, Scope, Span, Turn
from moderation.verdict import Action, Decision, Edit, Key, Outcome, Signal, Window
from tests.audit.samples import BARE, EMAIL, ENGINE, NAMES, POLICY, decided, decisions, leaves_of, ulid

CANARY = "canary7Q canary 13812345678 张伟"
DETECTORS = (DetectorStatus("pii", "v" * 64, "ok", 120), DetectorStatus("secrets", "w" * 64, "timeout", 20_000))


def stamped(leaves: object) -> list[dict[str, object]]:
    """As the store would write and read them."""
    assert isinstance(leaves, tuple)
    return [decode(encode({**leaf, "v": 1, "log": "x" * 120, "idx": 2**53 - 1, "prev": "A" * 44, "ts": 2**52, "mono": 2**52,
                           "boot": "0" * 16})) for leaf in leaves]


@given(decisions)
def test_goes_round(one: Decision) -> None:
    read = recall(stamped(leaves_of(one)))
    assert read.windows == one.windows == windows_of(stamped(leaves_of(one)))
    assert (read.id, read.phase, read.scope, read.policy) == (one.id, one.phase, one.scope, one.policy)
    assert Counter(read.outcome.fired) == Counter(one.outcome.fired)
    assert replace(read.outcome, fired=()) == replace(one.outcome, fired=())


def test_detectors_go_round() -> None:
    leaves = decision(decided(), names=NAMES, engine=ENGINE, durability="fast", commit=None, chars=3, detectors=DETECTORS)
    assert recall(stamped(leaves)).detectors == DETECTORS


@settings(max_examples=15, deadline=None)
@given(decisions, st.integers(0, 2**32))
def test_long_decisions_go_on_in_parts(one: Decision, seed: int) -> None:
    many = tuple(Window((Signal(BARE, 0, 1), Signal(EMAIL, (seed + i * 7919) % 1_000_000, i))) for i in range(4000))
    fired = one.outcome.fired[0] if one.outcome.fired else decided().outcome.fired[0]
    alternate = tuple(replace(fired, window=2 * i) for i in range(3000))
    long = replace(one, windows=(*one.windows, *many), outcome=replace(one.outcome, fired=alternate))
    leaves = stamped(leaves_of(long))
    assert len(leaves) > 1
    assert [leaf["part"] for leaf in leaves] == list(range(len(leaves)))
    assert {leaf["parts"] for leaf in leaves} == {len(leaves)}
    assert windows_of(list(reversed(leaves))) == long.windows
    assert recall(leaves).outcome.fired == alternate
    for missing in range(len(leaves)):
        with pytest.raises(RecallError):
            recall(leaves[:missing] + leaves[missing + 1 :])
    with pytest.raises(RecallError):
        recall([*leaves, leaves[-1]])
    with pytest.raises(RecallError):
        recall([*leaves[:-1], {**leaves[-1], "n": 77}])


def test_quiet_windows_cost_nothing() -> None:
    quiet = Window((Signal(BARE, 0, 1),))
    one = replace(decided(), windows=(quiet,) * 500_000)
    (leaf,) = stamped(leaves_of(one))
    assert leaf["runs"] == [[0, 500_000]]
    assert len(encode(leaf)) < 1500


def test_too_much_is_refused() -> None:
    windows = tuple(Window((Signal(Key(Channel.USER, Turn.NEW, None, "d", f"category-{i}" * 4), i, 1),)) for i in range(20_000))
    with pytest.raises(RecordTooLarge, match=str(MAX_DECISION)):
        leaves_of(replace(decided(), windows=windows))


def test_every_list_can_be_cut() -> None:
    leaves = decision(
        decided(), names=NAMES, engine=ENGINE, durability="strict", commit=None, chars=1,
        edits=[Edit("/messages/0/content", Span(i, i + 1), Action.REDACT, "x", "EMAIL_ADDRESS") for i in range(3000)])
    whole = joined(stamped(leaves))
    assert len(leaves) > 1
    spans = whole["spans"]
    assert isinstance(spans, list)
    assert [span[1] for span in spans] == list(range(3000))
    assert set(LISTS) <= whole.keys()
    assert "cut" not in whole


def test_very_many_edits_do_not_make_a_decision_too_large() -> None:
    edits = [Edit("/messages/0/content", Span(i, i + 1), Action.REDACT, "x", "EMAIL_ADDRESS") for i in range(100_000)]
    whole = joined(stamped(decision(
        decided(), names=NAMES, engine=ENGINE, durability="strict", commit=None, chars=1, edits=edits)))
    assert len(whole["spans"]) == MOST_SPANS  # type: ignore[arg-type]  # a list
    assert whole["cut"] == 100_000 - MOST_SPANS


@pytest.mark.parametrize("change", [
    {"kind": "open"}, {"part": "0"}, {"part": -1}, {"parts": 2}, {"sigs": [[99, 0, 1]]}, {"wins": [[[-1], []]]}, {"wins": [[0]]},
    {"runs": [[0, 10**9]]}, {"runs": [[7, 1]]}, {"runs": 3}, {"keys": [["nowhere", "new", None]]}, {"keys": [["user"]]},
    {"phase": "x"}, {"act": "destroy"}, {"scope": []}, {"unks": [["d", "because"]]}, {"rules": ["x"]}, {"det": [{}]},
    {"det": ["x"]}, {"sigs": [["a", 0, 1]]},
])
def test_strange_leaves_are_refused(change: dict[str, object]) -> None:
    leaf = stamped(leaves_of(decided()))[0]
    with pytest.raises(RecallError):
        recall([{**leaf, **change}])


def test_no_leaves_are_no_decision() -> None:
    with pytest.raises(RecallError):
        recall([])


PATHS = [
    ("plain", "/messages/3/content/0/text", "/messages/3/content/0/text"),
    ("arguments", "/messages/3/tool_calls/0/function/arguments#/to/0", "/messages/3/tool_calls/0/function/arguments#/*/0"),
    ("key of the caller", f"/messages/0/{CANARY}/x", "/messages/0/*/*"),
    ("number that says who", "/metadata/13812345678", "/metadata/*"),
    ("escaped slash", "/tools/0/function/parameters/properties/a~1b", "/tools/0/function/parameters/properties/*"),
    ("hash in a key", "/messages/0/content#/a#b/c", "/messages/0/content#/*/*"),
    ("other digits", "/messages/\u0661", "/messages/*"), ("empty", "", ""), ("root member", "/secret", "/*"),
]


def test_an_edit_of_all_that_is_still_to_come_has_an_end_that_the_log_can_hold() -> None:
    edits = [Edit("/choices/0/content", Span(3, 1 << 60), Action.REDACT, "x", "pii")]
    (leaf,) = decision(decided(), names=NAMES, engine=ENGINE, durability="strict", commit=None, chars=12, edits=edits)
    assert decode(encode(leaf))["spans"] == [["/choices/0/content", 3, -1, "redact", "pii"]]


@pytest.mark.parametrize(("path", "shown"), [case[1:] for case in PATHS], ids=[case[0] for case in PATHS])
def test_paths_are_masked(path: str, shown: str) -> None:
    assert masked(path) == shown


def test_no_string_of_a_caller_gets_in() -> None:
    """P18: a canary in every field that a caller, a tool or an upstream fills."""
    key = Key(Channel.TOOL_RESULT, Turn.NEW, CANARY, "pii", "personal_data", "EMAIL_ADDRESS")
    fired = replace(decided().outcome.fired[0], keys=(key,))
    one = replace(decided(), scope=Scope(model=CANARY), windows=(Window((Signal(key, 1, 1),)),),
                  outcome=replace(decided().outcome, fired=(fired,)))
    salt = b"s" * 32
    leaves = [
        *decision(one, names=NAMES, engine=ENGINE, durability="strict", commit=commitment(salt, CANARY), chars=len(CANARY),
                  edits=[Edit(f"/messages/0/content#/{CANARY}", Span(0, 4), Action.REDACT, CANARY, "EMAIL_ADDRESS")],
                  media=[Media(f"/messages/0/{CANARY}", "image", Turn.NEW)], detectors=DETECTORS,
                  out_commit=commitment(salt, CANARY), out_chars=3),
        opening(one.request, one.scope, POLICY, names=NAMES, engine=ENGINE, endpoint="chat", user=CANARY, model=CANARY),
        closing(one.request, "completed", names=NAMES, decisions=1, upstream_id=CANARY),
    ]
    for leaf in leaves:
        text = encode(leaf).decode()
        for piece in CANARY.split():
            assert piece not in text
    assert f"other:{fingerprint(NAMES.key, CANARY)}" in encode(leaves[0]).decode()
    assert recall(stamped((leaves[0],))).windows[0].signals[0].key.tool == f"other:{fingerprint(NAMES.key, CANARY)}"


def test_listed_names_get_in() -> None:
    names = Names(b"k" * 32, frozenset({"qwen-max"}), frozenset({"kb"}), frozenset({"ann"}))
    shown = (names.model("qwen-max"), names.tool("kb"), names.user("ann"), names.model("other"))
    assert shown == ("qwen-max", "kb", "ann", "other")
    assert names.model("kb") == f"other:{fingerprint(names.key, 'kb')}"
    assert names.other("qwen-max").startswith("other:")


def test_fingerprints_tell_repeats_apart() -> None:
    assert fingerprint(b"k" * 32, "a") == fingerprint(b"k" * 32, "a")
    assert len({fingerprint(key, value) for key in (b"k", b"l") for value in ("a", "b", "\ud800")}) == 6
    assert len(base64.b64decode(fingerprint(b"k", "a"))) == 16


def test_commitments_hide_and_bind() -> None:
    salt = bytes(range(32))
    # SHA-256("modlog/content-commit/v1" || 00 || 00..1f || "abc"), worked out apart from this code.
    assert base64.b64decode(commitment(salt, "abc")).hex() == "39da6af7be09bdcbeddbb74e2ac53b45da26b3c3bcc2dabdc5bd7f2250f67c9c"
    assert commitment(salt, "abc") != commitment(salt[::-1], "abc")
    assert commitment(salt, "a\ud800")
    with pytest.raises(ValueError, match="32 bytes"):
        commitment(b"short", "abc")


def test_other_leaves_are_leaves() -> None:
    bodies = [
        policy_activate(POLICY, engine=ENGINE, files={"b": b"2", "a": b"1"}, previous=None, signed=False),
        policy_reject(source="0" * 64, code="QP001", where="policy.yaml:3:1", kept=POLICY.hash), gap(3, "ENOSPC", 12),
        recovery("seg-0.qseg.torn-9", 9, 4, "0" * 64),
        log_open(version="1", key="k", siblings=[("log-1", 4, "AA==")], checkpoint=True, unsigned=0), interrupted(ulid(1), 2),
    ]
    kinds = [decode(encode(body))["kind"] for body in bodies]
    assert kinds == ["policy_activate", "policy_reject", "gap", "recovery", "log_open", "close"]
    assert json.loads(encode(bodies[0]))["files"] == [["a", sha256(b"1").hexdigest()], ["b", sha256(b"2").hexdigest()]]


def test_wrong_use_is_told() -> None:
    with pytest.raises(CanonError, match="ULID"):
        leaves_of(replace(decided(), request="not-a-ulid"))
    with pytest.raises(CanonError, match="outcome"):
        closing(ulid(1), "gone", names=NAMES, decisions=0)


def test_phases_and_actions_are_words() -> None:
    outcome = Outcome(Action.ALLOW, Action.BLOCK, (), (), False, None)
    leaf = leaves_of(replace(decided(), phase=Phase.TOOL_CALL, outcome=outcome))[0]
    assert (leaf["phase"], leaf["act"], leaf["would_act"], leaf["sev"]) == ("tool_call", "allow", "block", 0)
