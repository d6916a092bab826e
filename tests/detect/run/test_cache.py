"""What is kept of judged texts: bounded, least recently used first out, and no text in it."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from moderation.detect.run.cache import FINDING, Cache
from moderation.text import Span
from moderation.verdict import Finding

FOUND = (Finding("d", "c", None, "n", 1, Span(0, 1)),)


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(1000)
    a, b, c = (cache.fingerprint("t", text) for text in "abc")
    cache.put(a, "1", (), 0)
    cache.put(b, "1", (), 0)
    assert cache.get(a, "1") == ()
    cache.put(c, "1", (), 0)
    assert cache.get(b, "1") is None
    assert cache.get(a, "1") == cache.get(c, "1") == ()


def test_hits_and_misses_are_told_once_for_many() -> None:
    told: list[tuple[str, int]] = []
    cache = Cache(1000, count=lambda result, times: told.append((result, times)))
    cache.count(3, 1)
    cache.count(0, 2)
    assert (cache.hits, cache.misses) == (3, 3)
    assert told == [("hit", 3), ("miss", 1), ("miss", 2)]


def test_nothing_is_kept_without_room() -> None:
    cache = Cache(0)
    key = cache.fingerprint("t", "a")
    cache.put(key, "1", FOUND, FINDING)
    assert cache.get(key, "1") is None
    assert cache.size == 0


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 5)), max_size=60))
def test_never_more_than_the_bound(puts: list[tuple[str, int]]) -> None:
    cache = Cache(3000, key=b"k")
    for text, count in puts:
        cache.put(cache.fingerprint("t", text), "1", FOUND * count, FINDING * count)
        assert 0 <= cache.size <= 3000


def test_keys_tell_tenants_apart_and_differ_between_processes() -> None:
    one, two = Cache(1), Cache(1)
    assert one.fingerprint("a", "bc") != one.fingerprint("ab", "c")
    assert one.fingerprint("a", "b") != one.fingerprint("c", "b")
    assert one.fingerprint("a", "b") == one.fingerprint("a", "b")
    assert one.fingerprint("a", "b") != two.fingerprint("a", "b")
    assert one.fingerprint("a", "\ud800")


def test_no_text_is_in_it() -> None:
    cache = Cache(1_000_000)
    text = "".join(chr(0x4E00 + i * 7) for i in range(50))
    cache.put(cache.fingerprint("t", text), "1", FOUND, FINDING)
    held = gc.get_referents(cache._kept)
    assert held
    assert not any(text in repr(one) for one in held)
