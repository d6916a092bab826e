"""Inputs from inputs: flips, splices, words, numbers, deep nesting, long runs. Knows no format but by its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

WORDS: tuple[bytes, ...] = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b"\n\n", b"\t", b" ", b"\\", b'"', b"'", b"{", b"}", b"[", b"]", b",",
    b":",
    b"\\u0000", b"\\ud800", b"\\ud83d\\ude00", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", "\u2028".encode(),
    "\u202e".encode(), "\u200b".encode(), "\U0001f600".encode(), "\uff11\u0663".encode(), "\u4e2d\u6587".encode(), b"e\xcc\x81",
    "\ufdfa".encode(), b"null", b"true", b"-0", b"1e999", b"NaN", b"-1", b"18446744073709551616", b"9" * 40, b"0x", b"~", b"%s",
    b"{}",
)
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_NUMBER = re.compile(rb"\d+")
_OPENERS = ((b"[", b"]"), (b"{", b"}"), (b"(", b")"), (b'{"a":', b"}"), (b"- ", b""), (b"(?:", b")?"), (b'"', b'"'))

Pool = Sequence[bytes]


def mutated(data: bytes, others: Pool, words: Pool, random: Random, longest: int) -> bytes:
    """One to a few changes, mostly few."""
    made = data
    for _ in range(1 + min(int(random.expovariate(0.7)), 12)):
        made = random.choice(_WAYS)(made, others, words, random)[:longest]
    return made


def _span(data: bytes, random: Random, most: int = 64) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.randrange(1, most + 1))


def _flip(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    if not data:
        return b"\0"
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << random.randrange(8))]) + data[at + 1 :]


def _byte(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]


def _word(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    at, end = _span(data, random, 8)
    return data[:at] + random.choice(words) + data[at if random.random() < 0.6 else end :]


def _drop(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    at, end = _span(data, random)
    return data[:at] + data[end:]


def _twice(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    at, end = _span(data, random)
    place = random.randrange(len(data) + 1)
    return data[:place] + data[at:end] * random.choice((1, 1, 1, 2, 8)) + data[place:]


def _run(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    piece = data[at : at + random.choice((1, 1, 2, 5))] if random.random() < 0.5 else random.choice(words)
    return data[:at] + piece * random.choice((30, 100, 300, 1100)) + data[at:]


def _splice(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    other = random.choice(others)
    at, end = _span(other, random, 256)
    place, stop = _span(data, random, 256)
    if random.random() < 0.3:
        return data[:place] + other[at:]
    return data[:place] + other[at:end] + data[stop if random.random() < 0.5 else place :]


def _nest(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    before, after = random.choice(_OPENERS)
    at, end = _span(data, random)
    depth = random.choice((1, 2, 3, 10, 40, 99, 101, 1200))
    return data[:at] + before * depth + data[at:end] + after * depth + data[end:]


def _cut(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] if random.random() < 0.7 else data[at:]


def _count(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    """Another number in place of a written one, or a binary one over some bytes."""
    found = list(_NUMBER.finditer(data[:4096]))
    if found and random.random() < 0.7:
        one = random.choice(found)
        value = random.choice((*NUMBERS, int(one[0][:18]) + 1, int(one[0][:18]) - 1, 10**random.randrange(40)))
        return data[: one.start()] + str(value).encode() + data[one.end() :]
    size = random.choice((1, 2, 4, 8))
    at = random.randrange(len(data) + 1)
    value = random.choice(NUMBERS) & ((1 << 8 * size) - 1)
    return data[:at] + value.to_bytes(size, random.choice(("big", "little"))) + data[at + size :]


def _swap(data: bytes, others: Pool, words: Pool, random: Random) -> bytes:
    """Two lines, or two stretches, change places."""
    if random.random() < 0.5 and data.count(b"\n") > 1:
        lines = data.split(b"\n")
        a, b = random.randrange(len(lines)), random.randrange(len(lines))
        lines[a], lines[b] = lines[b], lines[a]
        return b"\n".join(lines)
    a, b, c = sorted(random.randrange(len(data) + 1) for _ in range(3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


_Way = Callable[[bytes, Pool, Pool, Random], bytes]
_WAYS: tuple[_Way, ...] = (
    _flip, _byte, _word, _word, _word, _drop, _twice, _run, _splice, _splice, _nest, _cut, _count, _swap,
)
