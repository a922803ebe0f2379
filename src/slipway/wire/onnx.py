"""Writes ONNX models: nodes and tensors as the protocol buffers that onnxruntime reads, without the onnx package."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy
from numpy.typing import NDArray

IR_VERSION = 8
OPSET = 17
MICROSOFT = "com.microsoft"
"""Domain of onnxruntime's own operators."""
ELEMENT_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7}


@dataclass(slots=True)
class Graph:
    """A graph that grows node by node. Field numbers are those of onnx.proto3 (ONNX 1.15)."""

    name: str
    _nodes: list[bytes] = field(default_factory=list)
    _tensors: list[bytes] = field(default_factory=list)
    _inputs: list[bytes] = field(default_factory=list)
    _outputs: list[bytes] = field(default_factory=list)

    def tensor(self, name: str, values: NDArray[numpy.generic]) -> str:
        """Adds a constant; returns its name. Raises `KeyError` for an element type that is not in `ELEMENT_TYPES`."""
        kind = ELEMENT_TYPES[values.dtype.name]
        dims = b"".join(_integer(1, size) for size in values.shape)
        raw = numpy.ascontiguousarray(values).tobytes()
        self._tensors.append(dims + _integer(2, kind) + _bytes(8, name.encode()) + _bytes(9, raw))
        return name

    def node(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        domain: str = "",
        attributes: Mapping[str, int | float] | None = None,
    ) -> str:
        """Adds an operation; returns its first output. An empty input is one that is left out."""
        parts = [_bytes(1, name.encode()) for name in inputs]
        parts += [_bytes(2, name.encode()) for name in outputs]
        parts += [_bytes(4, kind.encode())]
        parts += [_bytes(5, _attribute(name, value)) for name, value in (attributes or {}).items()]
        parts += [_bytes(7, domain.encode())] if domain else []
        self._nodes.append(b"".join(parts))
        return outputs[0]

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        """Names a float input; a text in `shape` is a size that may differ from call to call."""
        self._inputs.append(_float_value(name, shape))
        return name

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        self._outputs.append(_float_value(name, shape))

    def model(self) -> bytes:
        """The whole model as the bytes of a .onnx file."""
        graph = b"".join(
            [
                *_all(1, self._nodes),
                _bytes(2, self.name.encode()),
                *_all(5, self._tensors),
                *_all(11, self._inputs),
                *_all(12, self._outputs),
            ]
        )
        opsets = [_integer(2, OPSET), _bytes(1, MICROSOFT.encode()) + _integer(2, 1)]
        return b"".join(
            [_integer(1, IR_VERSION), _bytes(2, b"slipway"), _bytes(7, graph), *(_bytes(8, opset) for opset in opsets)]
        )


def _attribute(name: str, value: int | float) -> bytes:
    named = _bytes(1, name.encode())
    if isinstance(value, float):
        return named + b"\x15" + struct.pack("<f", value) + _integer(20, 1)
    return named + _integer(3, value) + _integer(20, 2)


def _float_value(name: str, shape: Sequence[int | str]) -> bytes:
    sizes = [_bytes(2, size.encode()) if isinstance(size, str) else _integer(1, size) for size in shape]
    dimensions = b"".join(_all(1, sizes))
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _integer(1, 1) + _bytes(2, dimensions)))


def _all(number: int, contents: Iterable[bytes]) -> list[bytes]:
    return [_bytes(number, content) for content in contents]


def _integer(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Base 128, the lowest seven bits first (protocol buffers' encoding)."""
    pieces = bytearray()
    while value > 127:
        pieces.append(value & 127 | 128)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)
