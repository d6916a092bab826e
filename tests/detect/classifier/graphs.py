"""What a graph in an onnx file holds, read in the words of onnx.proto: its nodes and its whole numbers of eight bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_INT8 = 3
_GRAPH, _NODE, _INITIALIZER = 7, 1, 5


@dataclass(frozen=True)
class Node:
    op: str
    inputs: tuple[str, ...]


def fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a message; packed numbers stay bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(raw):
        key = varint()
        match key & 7:
            case 0:
                yield key >> 3, varint()
            case 2:
                size = varint()
                yield key >> 3, raw[at : at + size]
                at += size
            case 1 | 5:
                size = 8 if key & 7 == 1 else 4
                yield key >> 3, raw[at : at + size]
                at += size
            case kind:
                raise ValueError(f"wire type {kind}")


def read(raw: bytes) -> tuple[list[Node], dict[str, npt.NDArray[np.int8]]]:
    """The nodes of a model, and its tensors of int8 by name."""
    (graph,) = [value for number, value in fields(raw) if number == _GRAPH]
    assert isinstance(graph, bytes)
    nodes: list[Node] = []
    tensors: dict[str, npt.NDArray[np.int8]] = {}
    for number, value in fields(graph):
        if number == _NODE and isinstance(value, bytes):
            said = list(fields(value))
            names = tuple(one.decode() for part, one in said if part == 1 and isinstance(one, bytes))
            nodes.append(Node(next(one.decode() for part, one in said if part == 4 and isinstance(one, bytes)), names))
        elif number == _INITIALIZER and isinstance(value, bytes):
            named = _int8(value)
            if named is not None:
                tensors[named[0]] = named[1]
    return nodes, tensors


def _int8(raw: bytes) -> tuple[str, npt.NDArray[np.int8]] | None:
    shape: list[int] = []
    kind, name, held = 0, "", b""
    for number, value in fields(raw):
        match number, value:
            case 1, int():
                shape.append(value)
            case 1, bytes():
                shape += _packed(value)
            case 2, int():
                kind = value
            case 8, bytes():
                name = value.decode()
            case 9, bytes():
                held = value
    return (name, np.frombuffer(held, np.int8).reshape(shape)) if kind == _INT8 and held else None


def _packed(raw: bytes) -> list[int]:
    made, value, shift = [], 0, 0
    for byte in raw:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            made.append(value)
            value = shift = 0
    return made
