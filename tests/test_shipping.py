"""What is shipped: every package pinned, and a container without rights and without secrets. It builds no image."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from moderation.detect.classifier import names
from moderation.detect.classifier.manifest import MANIFEST, read_manifest
from tests.extras import missing, need

ROOT = Path(__file__).resolve().parents[1]
INSTALL = (ROOT / "scripts" / "install").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line and not line.startswith("#")]
    found = dict(line.split("==") for line in lines)
    assert len(found) == len(lines)
    return {canonicalize_name(name): version for name, version in found.items()}


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> set[str]:
    """Every package that one brings with it here, itself not counted."""
    if (name, extras) in seen:
        return set()
    seen.add((name, extras))
    found = set()
    for line in requires(name) or []:
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            found |= {canonicalize_name(one.name)} | needed(one.name, frozenset(one.extras), seen)
    return found


def test_every_package_is_pinned() -> None:
    here = {"otel", "dev"} | (set() if missing(("torch", "transformers", "onnx", "pyarrow")) else {"transformers", "train"})
    every = needed("moderation", frozenset(here), set()) - {"moderation"}
    assert {"aiohttp", "cryptography", "opentelemetry-sdk", "multidict"} <= every, "those of others, too"
    ours = {name for name in every if not name.startswith(("nvidia-", "cuda-", "triton"))}  # of some builds of torch
    assert sorted(ours - pins().keys()) == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *(line for some in project["optional-dependencies"].values() for line in some)]
    named = {canonicalize_name(Requirement(line).name) for line in lines}
    assert {"torch", "transformers", "safetensors", "onnx", "pyarrow"} <= named
    assert sorted(named - pins().keys() - {"moderation"}) == [], "those of extras that may not be here, too"
    assert all(re.fullmatch(r"[0-9][0-9a-z.+]*", version) for version in pins().values()), "one version each"


def test_every_model_is_in_the_wheel() -> None:
    """A folder with a manifest ships: `"classifiers/NAME" = "moderation/classifiers/NAME"` under force-include."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"][
        "force-include"
    ]
    assert {path: where for path, where in told.items() if path.startswith("classifiers")} == {
        f"classifiers/{name}": f"moderation/classifiers/{name}" for name in names(ROOT / "classifiers")
    }


def test_the_wheel_holds_what_ships() -> None:
    """All of the package and of the policies, of each model what its manifest lists, and nothing that lies about."""
    need("hatchling", extra="dev")
    from hatchling.builders.wheel import WheelBuilder

    wheel = WheelBuilder(str(ROOT))
    held = {Path(file.distribution_path) for file in wheel.recurse_included_files()}
    house = {path.relative_to(ROOT) for path in (ROOT / "moderation").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    policies = {"moderation" / path.relative_to(ROOT) for path in (ROOT / "policies").rglob("*") if path.is_file()}
    models = {
        Path("moderation", "classifiers", name, file)
        for name in names(ROOT / "classifiers")
        for file in (MANIFEST, "card.md", *read_manifest(ROOT / "classifiers" / name).files)
    }
    assert {Path("moderation/py.typed"), Path("moderation/pages/index.html")} <= house
    assert sorted(held) == sorted(house | policies | models)


def test_the_container_is_built_from_all_that_the_wheel_takes() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for path in (*told["packages"], *told["force-include"]):
        assert f"\nCOPY {path} {path}\n" in DOCKERFILE, path
        assert f"!{path}" in ignore, path


def test_every_way_to_install_keeps_to_the_pins() -> None:
    installs = [line for line in INSTALL.splitlines() if "pip install" in line]
    assert len(installs) == 1
    assert '--constraint "$here/constraints.txt"' in installs[0]
    makefile, ci = (ROOT / "Makefile").read_text("utf-8"), (ROOT / ".ci" / "run").read_text("utf-8")
    assert "scripts/install --dev" in makefile
    assert "make --no-print-directory install" in ci
    assert "RUN scripts/install /opt/moderation" in DOCKERFILE
    for text in (makefile, ci, DOCKERFILE):
        assert "pip install" not in text
        assert not re.search(r"\b(curl|wget)\b", text)


def test_the_container_has_no_rights_and_no_secret() -> None:
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    users = re.findall(r"(?m)^USER (\S+)$", last)
    assert users == ["10001:10001"]
    assert last.index("\nUSER ") < last.index("\nENTRYPOINT "), "nobody runs before that"
    assert re.findall(r"(?m)^COPY (.*)$", last) == ["--from=build /opt/moderation /opt/moderation"]
    assert "-m 0700 /data" in last
    assert 'VOLUME ["/data"]' in last
    assert not re.search(r"(?i)(token|secret|password|api_key)", DOCKERFILE)
    assert "ADD " not in DOCKERFILE
