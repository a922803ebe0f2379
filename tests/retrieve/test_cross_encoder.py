"""A cross-encoder gives the numbers of the formulas; a folder that cannot serve is told in one line."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import numpy
import pytest

from slipway.config.reader import load_settings
from slipway.domain.errors import ConfigError
from slipway.retrieve.batch import search_questions
from slipway.retrieve.index import build_index
from slipway.retrieve.rerankers.cross_encoder import CrossEncoder, Model, load_model
from slipway.workspace import Workspace, open_workspace

pytest.importorskip("tokenizers", reason="tokenizers is not installed")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "does", "shipping", "cost", "express", "lamp", "euros", "a"]
WIDTH, HEADS, INNER, LAYERS, PLACES = 384, 12, 64, 2, 64
LINE = 'reranker = { kind = "cross_encoder", path = "judge" }'


def write_model(folder: Path, **changes: Any) -> dict[str, numpy.ndarray]:
    """A cross-encoder of random numbers: two layers, twelve words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import BertProcessing

    folder.mkdir()
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    draw = numpy.random.default_rng(1)

    def some(*shape: int) -> numpy.ndarray:
        return (0.2 * draw.standard_normal(shape)).astype(numpy.float32)

    arrays = {
        "bert.embeddings.word_embeddings.weight": some(len(WORDS), WIDTH),
        "bert.embeddings.position_embeddings.weight": some(PLACES, WIDTH),
        "bert.embeddings.token_type_embeddings.weight": some(2, WIDTH),
        "bert.embeddings.LayerNorm.weight": 1 + some(WIDTH),
        "bert.embeddings.LayerNorm.bias": some(WIDTH),
        "bert.pooler.dense.weight": some(WIDTH, WIDTH),
        "bert.pooler.dense.bias": some(WIDTH),
        "classifier.weight": some(1, WIDTH),
        "classifier.bias": some(1),
    }
    for number in range(LAYERS):
        layer = f"bert.encoder.layer.{number}"
        shapes = {"attention.self.query": (WIDTH, WIDTH), "attention.self.key": (WIDTH, WIDTH)}
        shapes |= {"attention.self.value": (WIDTH, WIDTH), "attention.output.dense": (WIDTH, WIDTH)}
        shapes |= {"intermediate.dense": (INNER, WIDTH), "output.dense": (WIDTH, INNER)}
        for name, shape in shapes.items():
            arrays |= {f"{layer}.{name}.weight": some(*shape), f"{layer}.{name}.bias": some(shape[0])}
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            arrays |= {f"{layer}.{name}.weight": 1 + some(WIDTH), f"{layer}.{name}.bias": some(WIDTH)}
    for name in changes.pop("without", []):
        del arrays[name]
    header, at = {}, 0
    for name, values in arrays.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    packed = json.dumps(header).encode()
    body = b"".join(values.tobytes() for values in arrays.values())
    (folder / "model.safetensors").write_bytes(len(packed).to_bytes(8, "little") + packed + body)
    config = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS} | changes
    (folder / "config.json").write_text(json.dumps(config))
    return arrays


def by_the_formulas(arrays: dict[str, numpy.ndarray], ids: list[int], kinds: list[int]) -> float:
    """BERT as Devlin et al. (2019) write it, head by head in 64 bits."""
    of = {name.removeprefix("bert."): values.astype(numpy.float64) for name, values in arrays.items()}

    def norm(x: numpy.ndarray, name: str) -> numpy.ndarray:
        centred = x - x.mean(axis=1, keepdims=True)
        spread = numpy.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        return centred / spread * of[f"{name}.weight"] + of[f"{name}.bias"]

    def linear(x: numpy.ndarray, name: str) -> numpy.ndarray:
        return x @ of[f"{name}.weight"].T + of[f"{name}.bias"]

    state = of["embeddings.word_embeddings.weight"][ids] + of["embeddings.position_embeddings.weight"][: len(ids)]
    state = norm(state + of["embeddings.token_type_embeddings.weight"][kinds], "embeddings.LayerNorm")
    for number in range(LAYERS):
        layer = f"encoder.layer.{number}"
        query, key, value = (linear(state, f"{layer}.attention.self.{name}") for name in ("query", "key", "value"))
        heads = []
        for head in range(HEADS):
            part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            weights = numpy.exp(query[:, part] @ key[:, part].T / math.sqrt(WIDTH / HEADS))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, part])
        attended = linear(numpy.concatenate(heads, axis=1), f"{layer}.attention.output.dense")
        state = norm(attended + state, f"{layer}.attention.output.LayerNorm")
        inner = linear(state, f"{layer}.intermediate.dense")
        inner = inner * 0.5 * (1 + numpy.vectorize(math.erf)(inner / math.sqrt(2)))
        state = norm(linear(inner, f"{layer}.output.dense") + state, f"{layer}.output.LayerNorm")
    pooled = numpy.tanh(linear(state[:1], "pooler.dense"))
    return float(1 / (1 + numpy.exp(-linear(pooled, "classifier")[0, 0])))


def configured(folder: Path, line: str = LINE) -> Workspace:
    path = folder / "slipway.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("[retrieve]\n", f"[retrieve]\ncut = 0.0\n{line}\n"))
    return open_workspace(folder, settings=load_settings(folder))


def test_scores_are_those_of_the_formulas(tmp_path: Path) -> None:
    arrays = write_model(tmp_path / "judge")
    model = Model(tmp_path / "judge", 64, runtime="numpy")
    found = model.score("what does shipping cost", ["express shipping cost a lamp", "euros"])
    first = by_the_formulas(arrays, [2, 4, 5, 6, 7, 3, 8, 6, 7, 11, 9, 3], [0] * 6 + [1] * 6)
    second = by_the_formulas(arrays, [2, 4, 5, 6, 7, 3, 10, 3], [0] * 6 + [1] * 2)
    assert found == pytest.approx([first, second], abs=1e-4)
    assert abs(first - second) > 0.01


def test_eight_bit_integers_give_nearly_the_same_scores(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    write_model(tmp_path / "judge")
    texts = ["express shipping cost a lamp", "euros", "lamp a cost", "shipping"]
    exact = Model(tmp_path / "judge", 64, runtime="numpy").score("what does shipping cost", texts)
    found = load_model(tmp_path / "judge", 64).score("what does shipping cost", texts)
    assert found != exact
    # Random weights round worse than trained ones, whose numbers lie close together.
    assert found == pytest.approx(exact, abs=0.2)


def test_hits_are_scored_again_without_tokens_or_money(application: Path) -> None:
    write_model(application / "judge")
    with configured(application) as workspace:
        index = build_index(workspace)
        (told,) = search_questions(workspace, index, [("", "What does shipping of a lamp cost?")])
    scores = [passage.score for passage in told.passages]
    assert scores == sorted(scores, reverse=True)
    assert all(passage.first_score is not None for passage in told.passages)
    assert told.reranked is not None
    assert (told.reranked.model, told.reranked.input_tokens, told.reranked.failed) == ("judge", 0, "")


def test_other_weights_than_those_pinned_are_not_used(application: Path) -> None:
    write_model(application / "judge")
    with configured(application) as workspace:
        index = build_index(workspace)
        assert len(json.loads(index.search.reranker)["weights"]) == 64
        weights = application / "judge" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
        (told,) = search_questions(workspace, index, [("", "What does shipping cost?")])
    assert told.passages
    assert told.reranked is not None
    assert "expected" in told.reranked.failed


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (None, "There is no file or folder"),
        ({"hidden_size": 768}, "only models of MiniLM's size"),
        ({"without": ["classifier.weight"]}, "no cross-encoder"),
    ],
)
def test_a_folder_that_cannot_serve_is_told_when_the_index_is_built(
    application: Path, changes: dict[str, Any] | None, why: str
) -> None:
    if changes is not None:
        write_model(application / "judge", **changes)
    with configured(application) as workspace, pytest.raises(ConfigError, match=why):
        build_index(workspace)


def test_no_passage_needs_no_model(workspace: Workspace) -> None:
    scored = asyncio.run(CrossEncoder(path="absent").score("?", [], workspace=workspace))
    assert scored.scores == ()
