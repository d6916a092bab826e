"""A rate: never more than it says over any second, nobody waits longer than he would, and nothing is lost at rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.guard.pace import Pace

GAPS = st.lists(st.floats(0, 0.2), max_size=80)


@given(gaps=GAPS, rate=st.integers(1, 100), longest=st.floats(0, 1))
def test_the_rate_is_kept(gaps: list[float], rate: int, longest: float) -> None:
    pace, now = Pace(rate), 0.0
    went: list[float] = []
    for gap in gaps:
        now += gap
        seconds = pace.wait(now, longest)
        if seconds is not None:
            assert 0 <= seconds <= longest
            went.append(now + seconds)
    assert went == sorted(went)
    for start in went:
        assert sum(start <= at < start + 1 for at in went) <= rate * 1.1 + 2


def test_who_would_wait_too_long_takes_no_place() -> None:
    pace = Pace(10, burst=0)
    assert pace.wait(0.0, 1.0) == 0.0
    assert pace.wait(0.0, 0.05) is None
    assert pace.wait(0.0, 1.0) == 0.1


def test_a_rest_gives_a_small_burst() -> None:
    pace = Pace(100)
    assert sum(pace.wait(50.0, 0.0) is not None for _ in range(100)) == 11
