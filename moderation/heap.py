"""The C library's heaps, so that what a policy took goes back to the system. Without such calls (musl, macOS) nothing happens.

A policy takes some 60 MB while it is built, nearly all of it outside of Python. Left alone, glibc keeps such room, in pieces, in
a heap for each thread in which one was ever built.
"""

from __future__ import annotations

import contextlib
import ctypes

ARENAS = 2
"""Heaps for all threads together; glibc's own bound is 8 a processor."""
_M_ARENA_MAX = -8  # mallopt(3)


def few_arenas() -> None:
    """Have the threads that are not started yet share a few heaps."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS)


def trim() -> None:
    """Give free memory back: malloc_trim(3), some milliseconds in which threads that want memory wait."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
