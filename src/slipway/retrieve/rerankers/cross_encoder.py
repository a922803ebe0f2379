"""Scores passages with a local cross-encoder of MiniLM's size, on the CPU as MiniLM runs: nothing is sent anywhere."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy

from slipway.domain.errors import ConfigError, FileBroken, FileMissing, PackageMissing, WeightsInvalid
from slipway.networks.bert import (
    HEADS,
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
from slipway.retrieve.asking import Spent
from slipway.retrieve.rerankers.base import Scored, rerankers
from slipway.workspace import Workspace

PLACE = "[retrieve] reranker"
Runtime = Literal["auto", "numpy"]
WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"


@rerankers.register("cross_encoder")
@dataclass(frozen=True)
class CrossEncoder:
    """Scores the `depth` best hits with the cross-encoder in the folder `path`; no tokens, no money.

    The folder holds model.safetensors (32-bit), tokenizer.json and config.json of a BERT with 384 dimensions, 12 heads
    and one label, such as ms-marco-MiniLM-L6-v2. Of question and passage the first `tokens` count. `weights` and
    `tokenizer` are the SHA-256 of the files, which an index version pins.
    """

    path: str
    depth: int = 20
    tokens: int = 512
    weights: str = ""
    tokenizer: str = ""

    def __post_init__(self) -> None:
        if not 2 <= self.depth <= 100:
            raise ValueError("`depth` is from 2 to 100")
        if not 16 <= self.tokens <= 512:
            raise ValueError("`tokens` is from 16 to 512")

    def pin(self, workspace: Workspace) -> dict[str, object]:
        """Raises `FileMissing`, `FileBroken`, `PackageMissing`, `WeightsInvalid` where a given digest differs."""
        folder = workspace.folder / self.path
        model = load_model(folder, self.tokens)
        for name, expected, found in ((WEIGHTS, self.weights, model.weights), (TOKENIZER, self.tokenizer, model.words)):
            if expected and expected != found:
                raise WeightsInvalid(folder / name, expected, found)
        return {
            "path": self.path,
            "depth": self.depth,
            "tokens": self.tokens,
            "weights": model.weights,
            "tokenizer": model.words,
        }

    async def score(self, question: str, texts: Sequence[str], *, workspace: Workspace) -> Scored:
        """Raises what `pin` raises: files that changed since are not used."""
        if not texts:
            return Scored((), Spent())
        await asyncio.to_thread(self.pin, workspace)
        model = load_model(workspace.folder / self.path, self.tokens)
        scores = await asyncio.to_thread(model.score, question, texts)
        return Scored(tuple(scores), Spent(engine="cross_encoder", model=Path(self.path).name))


class Model:
    """A cross-encoder in memory. `weights` and `words` are the SHA-256 of its files."""

    def __init__(self, folder: Path, tokens: int, *, runtime: Runtime = "auto") -> None:
        if importlib.util.find_spec("tokenizers") is None:
            raise PackageMissing("reranker 'cross_encoder'", "tokenizers", "pip install 'slipway[local]'")
        config = _read_config(folder / CONFIG)
        if (config.get("hidden_size"), config.get("num_attention_heads")) != (WIDTH, HEADS):
            raise ConfigError(
                PLACE,
                f"'{folder}' has {config.get('hidden_size')} dimensions and {config.get('num_attention_heads')} heads; "
                f"only models of MiniLM's size run here ({WIDTH} and {HEADS}), such as ms-marco-MiniLM-L6-v2.",
            )
        one_thread_per_product()
        content, vocabulary = _open(folder / WEIGHTS), _open(folder / TOKENIZER)
        self.weights = hashlib.sha256(content).hexdigest()
        self.words = hashlib.sha256(vocabulary).hexdigest()
        self._tokens = open_tokenizer(bytes(vocabulary))
        self._tokens.enable_truncation(max_length=tokens, strategy="only_second")
        try:
            arrays = read_arrays(folder / WEIGHTS, content)
            found = {name.removeprefix("bert."): values for name, values in arrays.items()}
            self._embeddings = {kind: found[f"embeddings.{kind}_embeddings.weight"] for kind in KINDS}
            self._norm = (found["embeddings.LayerNorm.weight"], found["embeddings.LayerNorm.bias"])
            count = int(config["num_hidden_layers"])
            self._layers = [read_layer(found, f"encoder.layer.{number}.") for number in range(count)]
            self._pooler = (found["pooler.dense.weight"], found["pooler.dense.bias"])
            self._head = (found["classifier.weight"], found["classifier.bias"])
        except (KeyError, ValueError, UnicodeDecodeError) as missing:
            raise FileBroken(
                folder / WEIGHTS,
                f"it is no cross-encoder with 32-bit weights: {missing} is not there",
                next_step="Name a folder of a cross-encoder: [retrieve] reranker path.",
            ) from missing
        if self._head[0].shape != (1, WIDTH):
            raise ConfigError(PLACE, f"'{folder}' has {self._head[0].shape[0]} labels; a reranker has one.")
        self._session = Session(self._layers) if runtime == "auto" and has_onnxruntime() else None

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        """Probability that each text answers the question; each pair is run by itself."""
        return [self._score(encoding) for encoding in self._tokens.encode_batch([(question, text) for text in texts])]

    def _score(self, encoding: Any) -> float:
        ids, kinds = numpy.asarray(encoding.ids), numpy.asarray(encoding.type_ids)
        words, places, types = (self._embeddings[kind] for kind in KINDS)
        state = normalise(words[ids] + places[: len(ids)] + types[kinds], *self._norm)
        if self._session is not None:
            state = self._session.run(state)
        else:
            state = through_layers(self._layers, state, [len(state)])
        pooled = numpy.tanh(self._pooler[0] @ state[0] + self._pooler[1])
        logit = float((self._head[0] @ pooled + self._head[1])[0])
        return float(1 / (1 + numpy.exp(-logit)))


KINDS = ("word", "position", "token_type")


@lru_cache(maxsize=2)
def _load(folder: Path, tokens: int, _stamp: tuple[float, ...]) -> Model:
    return Model(folder, tokens)


def load_model(folder: Path, tokens: int) -> Model:
    """The model of a folder, read once as long as its files are the same. Raises `FileMissing`, `FileBroken`."""
    try:
        stamp = tuple((folder / name).stat().st_mtime for name in (WEIGHTS, TOKENIZER, CONFIG))
    except OSError as missing:
        raise FileMissing(
            missing.filename, next_step="Name the folder of a cross-encoder: [retrieve] reranker path."
        ) from None
    return _load(folder, tokens, stamp)


def _open(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as wrong:
        raise FileBroken(path, str(wrong), next_step="Copy the model again.") from wrong


def _read_config(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as wrong:
        raise FileBroken(path, str(wrong), next_step="Copy the model again.") from wrong
    return found if isinstance(found, dict) else {}
