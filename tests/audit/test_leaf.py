"""What is written is what canon reads: both make the same bytes of whatever a leaf can hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.audit import canon
from moderation.audit.canon import MAX_INT, MAX_LEAF, CanonError
from moderation.audit.leaf import encode
from moderation.audit.record import closing, gap, interrupted, log_open, opening, policy_activate, policy_reject, recovery
from moderation.text import Scope
from moderation.verdict import Decision
from tests.audit.samples import ENGINE, NAMES, POLICY, decisions, leaves_of, ulid

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=6), inner, max_size=4), max_leaves=20)
BODIES = st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=6), VALUES, max_size=6)
REFUSED = [
    ("an integer of 2^53", {"a": MAX_INT + 1}), ("the same below zero", {"a": -MAX_INT - 1}), ("a lone surrogate", {"a": "\ud800"}),
    ("a lone surrogate in a key", {"\ud800": 1}), ("a key that is no string", {1: 1}), ("bytes", {"a": b""}), ("a set", {"a": {1}}),
    ("too long", {"a": "x" * MAX_LEAF}),
]


@given(BODIES)
def test_is_the_form_of_canon(body: dict[str, Any]) -> None:
    assert encode(body) == canon.encode(body)


@given(decisions)
def test_decisions_too(one: Decision) -> None:
    for body in leaves_of(one):
        assert encode(body) == canon.encode(body)


def test_and_every_other_leaf() -> None:
    for body in (
        opening(ulid(1), Scope(), POLICY, names=NAMES, engine=ENGINE, endpoint="/é", client="c", user="ü", model="m", stream=True),
        closing(ulid(1), "completed", names=NAMES, decisions=2, upstream_status=200, upstream_id="x", in_tokens=1, out_tokens=2),
        interrupted(ulid(1), 2), gap(3, "ENOSPC", 12), recovery("seg-0.qseg.torn-9", 9, 4, "0" * 64),
        policy_activate(POLICY, engine=ENGINE, files={"b": b"2", "a": b"1"}, previous=None, signed=False),
        policy_reject(source="0" * 64, code="QP001", where="policy.yaml:3:1", kept=POLICY.hash),
        log_open(version="1", key="k", siblings=[("log-1", 4, "AA==")], checkpoint=True, unsigned=0),
    ):
        assert encode(body) == canon.encode(body)


@pytest.mark.parametrize("body", [case[1] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_is_refused_by_both(body: Any) -> None:
    for one in (encode, canon.encode):
        with pytest.raises(CanonError):
            one(body)


def test_a_fault_tells_no_content() -> None:
    with pytest.raises(CanonError) as caught:
        encode({"a": "secret\ud800"})
    assert "secret" not in str(caught.value)
