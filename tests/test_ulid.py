"""ULIDs sort by time and use the alphabet of the specification."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.ulid import ulid


def test_the_specifications_example() -> None:
    assert ulid(1469918176385, bytes(10))[:10] == "01ARYZ6S41"


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_sorts_by_time(one: int, other: int, noise: bytes) -> None:
    a, b = ulid(one, noise), ulid(other, bytes(10))
    assert re.fullmatch(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", a)
    if one < other:
        assert a < b


@pytest.mark.parametrize(("time", "noise"), [(-1, bytes(10)), (2**48, bytes(10)), (0, bytes(9))])
def test_refuses_what_does_not_fit(time: int, noise: bytes) -> None:
    with pytest.raises(ValueError, match="48 bits"):
        ulid(time, noise)
