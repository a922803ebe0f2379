"""Runs a BERT of MiniLM's size on the CPU: its weights read, its layers in numpy or as a graph of 8-bit integers."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import mmap
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
from numpy.typing import NDArray

from slipway.wire.onnx import MICROSOFT, Graph

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HEADS = 12
WIDTH = 384
EPSILON = 1e-12

Floats = NDArray[numpy.float32]
Layer = dict[str, Any]
"""The arrays of one layer by what they do, such as `qkv` and `qkv_bias`."""


def through_layers(layers: Sequence[Layer], state: Floats, lengths: Sequence[int]) -> Floats:
    """Shape (tokens of all texts, 384): the last state of texts that lie end to end, the shorter ones first."""
    spans = equal_lengths(lengths)
    for layer in layers:
        attended = attend(state @ layer["qkv"].T + layer["qkv_bias"], spans)
        state = normalise(attended @ layer["out"].T + layer["out_bias"] + state, *layer["out_norm"])
        inner: Floats = state @ layer["up"].T
        inner += layer["up_bias"]
        gelu(inner)
        state = normalise(inner @ layer["down"].T + layer["down_bias"] + state, *layer["down_norm"])
    return state


class Session:
    """The layers in 8-bit integers on onnxruntime; the graph of them is written from the weights when it is loaded.

    Each text is run alone: the range of its numbers, by which they are rounded, must not depend on its neighbours.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph = write_graph(layers, bits=weight_bits())
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(self, state: Floats) -> Floats:
        """Shape (tokens, 384): the last state of one text, from its first."""
        last: Floats = self._session.run(None, {"state": state[None]})[0][0]
        return last


def has_onnxruntime() -> bool:
    """Whether `Session` can run here."""
    return importlib.util.find_spec("onnxruntime") is not None


def write_graph(layers: Sequence[Layer], *, bits: int) -> bytes:
    """The layers as an ONNX model from `state` (texts, tokens, 384) to the last state; weights have `bits` bits."""
    graph = Graph("all-MiniLM-L6-v2")
    state = graph.input("state", ("texts", "tokens", WIDTH))
    for number, layer in enumerate(layers):

        def named(what: str, number: int = number) -> str:
            return f"layer{number}.{what}"

        def product(what: str, input: str, bias: bool, layer: Layer = layer) -> str:
            whole, scale = _quantise(layer[what], bits)
            inputs = [input, graph.tensor(f"{named(what)}.weight", whole), graph.tensor(f"{named(what)}.scale", scale)]
            inputs += ["", graph.tensor(f"{named(what)}.bias", layer[f"{what}_bias"])] if bias else []
            return graph.node("DynamicQuantizeMatMul", inputs, [named(what)], domain=MICROSOFT)

        def normalised(what: str, input: str, before: str, layer: Layer = layer) -> str:
            weight, shift = layer[f"{what}_norm"]
            constants = [
                (f"{what}_norm.weight", weight),
                (f"{what}_norm.bias", shift),
                (f"{what}.bias", layer[f"{what}_bias"]),
            ]
            inputs = [input, before, *(graph.tensor(named(name), values) for name, values in constants)]
            return graph.node("SkipLayerNormalization", inputs, [named(f"{what}_norm")], domain=MICROSOFT,
                              attributes={"epsilon": EPSILON})  # fmt: skip

        projected = product("qkv", state, True)
        parts = [named(part) for part in ("query", "key", "value")]
        sizes = graph.tensor(named("sizes"), numpy.array([WIDTH] * 3, dtype=numpy.int64))
        graph.node("Split", [projected, sizes], parts, attributes={"axis": 2})
        attended = graph.node(
            "MultiHeadAttention", parts, [named("attended")], domain=MICROSOFT, attributes={"num_heads": HEADS}
        )
        state = normalised("out", product("out", attended, False), state)
        bias = graph.tensor(named("up.bias"), layer["up_bias"])
        inner = graph.node("BiasGelu", [product("up", state, False), bias], [named("inner")], domain=MICROSOFT)
        state = normalised("down", product("down", inner, False), state)
    graph.output(state, ("texts", "tokens", WIDTH))
    return graph.model()


def _quantise(weight: Floats, bits: int) -> tuple[NDArray[numpy.int8], Floats]:
    """Whole numbers, shape (inputs, outputs), and the scale of each output; symmetric, so that zero stays zero."""
    most = 2 ** (bits - 1) - 1
    scale = numpy.maximum(numpy.abs(weight).max(axis=1), 1e-12) / most
    whole = numpy.rint(weight / scale[:, None]).astype(numpy.int8)
    return numpy.ascontiguousarray(whole.T), scale.astype(numpy.float32)


def weight_bits() -> int:
    """7 on an x86 processor without VNNI: there two products are added in 16 bits, which 8-bit weights overflow."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return 8
    facts = Path("/proc/cpuinfo")
    return 8 if facts.is_file() and "vnni" in facts.read_text(encoding="utf-8", errors="replace") else 7


def read_layer(arrays: dict[str, Floats], prefix: str) -> Layer:
    projections = [f"{prefix}attention.self.{name}" for name in ("query", "key", "value")]
    return {
        "qkv": numpy.concatenate([arrays[f"{name}.weight"] for name in projections]),
        "qkv_bias": numpy.concatenate([arrays[f"{name}.bias"] for name in projections]),
        "out": arrays[f"{prefix}attention.output.dense.weight"],
        "out_bias": arrays[f"{prefix}attention.output.dense.bias"],
        "out_norm": (
            arrays[f"{prefix}attention.output.LayerNorm.weight"],
            arrays[f"{prefix}attention.output.LayerNorm.bias"],
        ),
        "up": arrays[f"{prefix}intermediate.dense.weight"],
        "up_bias": arrays[f"{prefix}intermediate.dense.bias"],
        "down": arrays[f"{prefix}output.dense.weight"],
        "down_bias": arrays[f"{prefix}output.dense.bias"],
        "down_norm": (arrays[f"{prefix}output.LayerNorm.weight"], arrays[f"{prefix}output.LayerNorm.bias"]),
    }


def attend(projected: Floats, spans: Sequence[tuple[int, int, int]]) -> Floats:
    """Attention within each text. `spans` are (first row, texts, tokens of each)."""
    attended = numpy.empty((len(projected), WIDTH), dtype=numpy.float32)
    for first, texts, length in spans:
        rows = slice(first, first + texts * length)
        # (texts, tokens, 3, heads, 32) -> 3 x (texts, heads, tokens, 32)
        query, key, value = projected[rows].reshape(texts, length, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
        weights = query @ key.swapaxes(-1, -2)
        weights *= (WIDTH // HEADS) ** -0.5
        weights -= weights.max(axis=-1, keepdims=True)
        numpy.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        attended[rows] = (weights @ value).transpose(0, 2, 1, 3).reshape(-1, WIDTH)
    return attended


def normalise(state: Floats, weight: Floats, bias: Floats) -> Floats:
    state = state - state.mean(axis=1, keepdims=True)
    variance = numpy.einsum("ij,ij->i", state, state)[:, None] / WIDTH
    state /= numpy.sqrt(variance + EPSILON)
    state *= weight
    state += bias
    return state


def gelu(inner: Floats) -> None:
    """x * (1 + erf(x / sqrt 2)) / 2 in place, with erf by Abramowitz and Stegun 7.1.26 (error below 1.5e-7)."""
    for first in range(0, len(inner), 32):  # small blocks stay in the processor's cache
        x = inner[first : first + 32]
        z = numpy.abs(x) * numpy.float32(0.7071067811865476)
        t = 1 / (1 + numpy.float32(0.3275911) * z)
        tail = t * numpy.float32(1.061405429)
        for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            tail += numpy.float32(factor)
            tail *= t
        numpy.multiply(z, z, out=z)
        numpy.negative(z, out=z)
        numpy.exp(z, out=z)
        tail *= z
        # 1 + erf is 2 - tail right of zero and tail left of it.
        numpy.subtract(2, tail, out=tail, where=x > 0)
        tail *= numpy.float32(0.5)
        x *= tail


def equal_lengths(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first row, texts, tokens of each) for each run of texts of the same length."""
    spans: list[tuple[int, int, int]] = []
    row = 0
    for length in lengths:
        if spans and spans[-1][2] == length:
            first, texts, _ = spans[-1]
            spans[-1] = (first, texts + 1, length)
        else:
            spans.append((row, 1, length))
        row += length
    return spans


def one_thread_per_product() -> None:
    """Keeps OpenBLAS from splitting each product over threads that then wait for each other.

    Whole groups of texts run in parallel instead, and a single question costs one core. Another BLAS is left as it is.
    """
    libraries = Path(numpy.__file__).parent.parent / "numpy.libs"
    for library in sorted(libraries.glob("*openblas*")):
        loaded = ctypes.CDLL(str(library))
        for name in ("scipy_openblas_set_num_threads64_", "scipy_openblas_set_num_threads", "openblas_set_num_threads"):
            if hasattr(loaded, name):
                getattr(loaded, name)(1)
                return


def read_arrays(path: Path, content: mmap.mmap) -> dict[str, Floats]:
    """The float arrays of a safetensors file: eight bytes of header length, a JSON header, then the numbers."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    arrays: dict[str, Floats] = {}
    for name, facts in header.items():
        if facts.get("dtype") == "F32":
            start, end = facts["data_offsets"]
            flat = numpy.frombuffer(content, dtype="<f4", count=(end - start) // 4, offset=8 + length + start)
            arrays[name] = flat.reshape(facts["shape"])
    return arrays


def open_tokenizer(content: bytes) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(content)
    # The file carries truncation and padding to 128, which would make every count at most 128.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
