"""Tests of what an extra brings: skipped, visibly, where it is not installed; but never in CI, which installs it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec

import pytest


def missing(modules: tuple[str, ...]) -> list[str]:
    """Those that cannot be imported here. Nothing is imported to tell."""
    return [name for name in modules if find_spec(name) is None]


def need(*modules: str, extra: str, environ: Mapping[str, str] = os.environ) -> None:
    """Go on where all are here. Else: in CI, fail; anywhere else, skip the test, or the whole file where none has begun."""
    lacks = missing(modules)
    if not lacks:
        return
    told = f"{', '.join(lacks)} not installed: make install EXTRAS={extra}"
    if environ.get("CI"):
        raise RuntimeError(f"CI must run every test: {told}")
    pytest.skip(told, allow_module_level=True)
