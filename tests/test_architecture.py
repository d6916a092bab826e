"""The house stands as docs/architecture.md draws it: floors, owners of dependencies, and habits that a reviewer would check."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import moderation

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "moderation"

# Where each file stands: the longest matching prefix counts, so a folder's line holds for all of it but what is named apart.
FLOORS: dict[str, int] = {
    "": 0,  # the package itself
    "text": 0, "verdict": 0, "errors": 0, "events": 0,
    "normalise": 1, "escapes": 1, "confusables": 1, "language": 1, "sentence": 1, "act": 1, "ulid": 1, "wire": 1,
    "audit.canon": 1, "audit.merkle": 1, "audit.note": 1, "audit.record": 1, "audit.leaf": 1, "audit": 3,
    "policy": 2, "detect": 2, "judge": 2, "stream": 2,
    "detect.run": 3, "detect.pii": 3, "detect.classifier": 3, "detect.http": 3, "detect.transformer": 3, "upstream": 3, "heap": 3, "metrics": 3, "oplog": 3, "tracing": 3,
    "detect.build": 4, "detect.models": 4, "detect.brought": 4, "detect.guards": 4, "detect.engines": 4, "detect.judges": 4, "settings": 4, "routes": 4, "config": 4, "document": 4, "routing": 4, "flow": 4, "doctor": 4, "house": 4, "pulse": 4, "server": 4, "connection": 4, "desk": 4, "standin": 4,
    "process": 4, "crew": 4, "channel": 4, "listening": 4, "supervisor": 4, "worker": 4,
    "cli": 5, "docs": 5, "__main__": 5,
}

# Files of one adapter may import each other; those of two may not.
ADAPTERS = ("audit", "detect.run", "detect.pii", "detect.classifier", "detect.http", "detect.transformer", "upstream", "metrics", "oplog", "tracing", "heap")

OWNERS: dict[str, tuple[str, ...]] = {
    "fastapi": ("server", "desk"), "starlette": ("server", "desk"), "uvicorn": ("server", "connection", "cli"), "httptools": ("connection",), "brotli": ("flow.coding",), "backports": ("flow.coding",), "uvloop": ("process",),
    "aiohttp": ("upstream",), "yaml": ("policy.load",), "sqlite3": ("audit.index",), "prometheus_client": ("metrics",),
    "presidio_analyzer": ("detect.recognizers",), "ahocorasick": ("detect.words",), "re2": ("detect",), "cryptography": ("audit",),
    "onnxruntime": ("detect.classifier",), "tokenizers": ("detect.classifier", "detect.transformer"), "numpy": ("detect.classifier",), "transformers": ("detect.transformer",), "torch": ("detect.transformer",), "safetensors": ("detect.transformer",),
    "orjson": ("audit.leaf",), "redis": ("fleet",), "opentelemetry": ("tracing",),
}

# What a pure file (floors 0 to 2) has no use for: the clock, chance, the environment, files, sockets, threads.
IMPURE = {"asyncio", "datetime", "glob", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
          "select", "shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid"}

BROAD_EXCEPT = {"detect.run.guard", "server"}
MOST_LINES = 400


def name_of(path: Path) -> str:
    """detect/run.py -> detect.run, within the house."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def sources() -> dict[str, ast.Module]:
    return {name_of(path): ast.parse(path.read_text("utf-8"), str(path)) for path in sorted(HOUSE.rglob("*.py"))}


def floor_of(name: str) -> int | None:
    steps = name.split(".") if name else []
    while steps:
        if ".".join(steps) in FLOORS:
            return FLOORS[".".join(steps)]
        steps.pop()
    return FLOORS[""] if not name else None


def within(name: str, place: str) -> bool:
    return name == place or name.startswith(place + ".")


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Full names of everything that is imported anywhere in a file, with the line; `from a import b` gives a.b as well as a."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                yield module, node.lineno
                yield from ((f"{module}.{alias.name}", node.lineno) for alias in names)
            case ast.ImportFrom():
                raise AssertionError(f"line {node.lineno}: write imports out in full")


@cache
def inner_imports(name: str) -> frozenset[str]:
    """The project's files that this one imports."""
    found = {full.removeprefix("moderation").removeprefix(".") for full, _ in imports(sources()[name])
             if within(full, "moderation")}
    return frozenset(found & set(sources()) - {name, *(packages_above(name))}) - {""}


def packages_above(name: str) -> list[str]:
    steps = name.split(".")
    return [".".join(steps[:count]) for count in range(len(steps))]


MODULES = sorted(sources())


def test_every_file_has_its_floor() -> None:
    homeless = [name for name in MODULES if floor_of(name) is None]
    assert not homeless, f"give these a floor in FLOORS, and a place in docs/architecture.md: {homeless}"


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    up = [other for other in inner_imports(name) if (floor_of(other) or 0) > (floor_of(name) or 0)]
    assert not up, f"{name} (floor {floor_of(name)}) imports {[(other, floor_of(other)) for other in up]}"


def test_imports_never_go_in_a_circle() -> None:
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, "a circle: " + " -> ".join([*path[path.index(name):], name])
        if name not in done:
            for other in inner_imports(name):
                walk(other, (*path, name))
            done.add(name)

    for name in MODULES:
        walk(name, ())


@pytest.mark.parametrize("name", [name for name in MODULES if floor_of(name) == 3])
def test_adapters_do_not_import_each_other(name: str) -> None:
    own = next(adapter for adapter in ADAPTERS if within(name, adapter))
    others = [other for other in inner_imports(name) if floor_of(other) == 3 and not within(other, own)]
    assert not others, f"{name} imports the adapters {others}"


@pytest.mark.parametrize("name", MODULES)
def test_a_dependency_has_one_owner(name: str) -> None:
    for full, line in imports(sources()[name]):
        owners = OWNERS.get(full.split(".")[0])
        assert owners is None or any(within(name, owner) for owner in owners), f"{name}:{line} imports {full}, which {owners} own"


@pytest.mark.parametrize("name", [name for name in MODULES if (floor_of(name) or 0) <= 2])
def test_the_core_is_pure(name: str) -> None:
    taken = [(full, line) for full, line in imports(sources()[name]) if full.split(".")[0] in IMPURE]
    calls = [node.lineno for node in ast.walk(sources()[name])
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"open", "print", "input"}]
    assert not taken, f"{name} is pure, and imports {taken}"
    assert not calls, f"{name} is pure, and does I/O in lines {calls}"


def test_the_verifier_can_disagree_with_the_rest() -> None:
    verifier = [name for name in MODULES if name.startswith("audit.verify")]
    for name in verifier:
        outside = {other for other in inner_imports(name) if other not in verifier}
        assert outside <= {"audit.canon", "audit.merkle"}, f"{name} imports {outside}"


@pytest.mark.parametrize("name", MODULES)
def test_habits(name: str) -> None:
    tree = sources()[name]
    said = []
    for node in ast.walk(tree):
        match node:
            case ast.ExceptHandler(body=[*_, ast.Raise(exc=None)]):
                pass  # tidies up, and lets it go on: nothing is swallowed
            case ast.ExceptHandler(type=kind) if name not in BROAD_EXCEPT and (kind is None or broad(kind)):
                said.append(f"line {node.lineno}: a broad except fails open; name the errors")
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=args) if any(map(broad, args)):
                said.append(f"line {node.lineno}: suppresses everything")
            case ast.Attribute(attr="splitlines"):
                said.append(f"line {node.lineno}: splitlines cuts at U+2028 and its like; split on what is meant")
            case ast.Global():
                said.append(f"line {node.lineno}: module state")
            case _:
                pass
    if not ast.get_docstring(tree):
        said.append("no docstring that says what the file is")
    assert not said, f"{name}: {said}"


def broad(kind: ast.expr) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(isinstance(each, ast.Name) and each.id in {"Exception", "BaseException"} for each in kinds)


@pytest.mark.parametrize("path", sorted([*HOUSE.rglob("*.py"), *(ROOT / "bench").rglob("*.py"), *(ROOT / "fuzz").rglob("*.py")]), ids=lambda path: path.name)
def test_files_are_short(path: Path) -> None:
    lines = path.read_bytes().count(b"\n")
    assert lines <= MOST_LINES, f"{path.relative_to(ROOT)} has {lines} lines: cut it by nouns"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.name)
def test_tests_patch_nothing(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    taken = [line for full, line in imports(tree) if within(full, "unittest.mock") or within(full, "mock")]
    used = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr) == ("monkeypatch", "setattr")]
    assert not taken + used, f"{path.relative_to(ROOT)}, lines {taken + used}: give the double to a constructor"


def test_importing_the_package_is_light() -> None:
    code = "import sys; before = set(sys.modules); import moderation; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["moderation"]


def test_the_version_is_told_once() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == moderation.__version__
