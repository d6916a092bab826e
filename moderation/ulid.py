"""ULIDs: 48 bits of milliseconds and 80 random bits, 26 characters of Crockford's base32 (github.com/ulid/spec)."""

from __future__ import annotations

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS = range(120, -1, -10)


def ulid(milliseconds: int, randomness: bytes) -> str:
    """`milliseconds` since 1970 (below 2**48) and 10 random bytes."""
    if not 0 <= milliseconds < 1 << 48 or len(randomness) != 10:
        raise ValueError("a ULID wants 48 bits of milliseconds and 10 random bytes")
    number = milliseconds << 80 | int.from_bytes(randomness, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
