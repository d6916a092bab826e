"""The policy that ships without its models: what the proxy costs, and not what a model does.

A model takes milliseconds of a core for a text; beside it nothing else would show. The target `judged` runs the policy whole.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml


def without_models(shipped: Path, folder: Path) -> Path:
    """Write the policy to a folder, without detectors of the kind `model` and the rules that ask them."""
    content: dict[str, Any] = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    models = {name for name, detector in content["detectors"].items() if detector["kind"] == "model"}
    content["detectors"] = {name: detector for name, detector in content["detectors"].items() if name not in models}
    content["rules"] = [rule for rule in content["rules"] if not names(rule["when"]) & models]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(shipped.parent / "lists", folder / "lists", dirs_exist_ok=True)
    path = folder / "without_models.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def names(condition: Any) -> set[str]:
    """The detectors that a condition names."""
    match condition:
        case {"detector": str(one), **rest}:
            return {one} | names(rest)
        case {"detector": list(several), **rest}:
            return set(several) | names(rest)
        case dict():
            return set().union(*map(names, condition.values()))
        case list():
            return set().union(*map(names, condition))
    return set()
