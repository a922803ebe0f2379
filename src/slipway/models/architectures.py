"""The catalogue of open models, and the architecture of any model from its own config.json."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from math import prod
from pathlib import Path
from typing import Any

import msgspec

from slipway.domain.architecture import Architecture, Licence
from slipway.domain.errors import FileBroken, FileMissing, NotFound

# Names of one fact in the config files of different families, in the order in which they are tried.
LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
HIDDEN = ("hidden_size", "d_model", "n_embd")
HEADS = ("num_attention_heads", "n_heads", "n_head")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
INTERMEDIATE = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
CONTEXT = ("max_position_embeddings", "max_seq_len", "n_positions", "seq_length", "n_ctx")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts")
TWO_MATRICES = frozenset({"gpt_neox", "mpt", "gpt2", "gptj", "bloom", "falcon", "opt", "starcoder2", "gpt_bigcode"})
"""Families whose feed-forward block has no gate."""
TIED_BY_DEFAULT = frozenset({"mpt", "gpt2", "gemma", "gemma2", "gemma3", "gemma3_text", "bloom", "opt", "falcon"})
LEARNED_POSITIONS = frozenset({"gpt2", "opt", "gpt_bigcode"})
"""Families with a vector for each position."""
FULL_EVERY = {"gemma2": 2, "gpt_oss": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}
"""Families in which one layer in so many sees all tokens, where the config does not list its layers."""


@cache
def list_models() -> tuple[Architecture, ...]:
    """Every model of the catalogue, in the order of its families."""
    licences = {one.id: one for one in msgspec.json.decode(_data("licences.json"), type=list[Licence])}
    rows: list[dict[str, Any]] = json.loads(_data("models.json"))
    return tuple(msgspec.convert({**row, "licence": licences[row["licence"]]}, Architecture) for row in rows)


def find_model(name: str, *, folder: Path | None = None) -> Architecture:
    """A model by its catalogue name, or by the path of a config.json or of the folder that holds one.

    Relative paths are looked up under `folder`. Raises `NotFound`, with a suggestion.
    """
    known = {model.name: model for model in list_models()}
    if name.lower() in known:
        return known[name.lower()]
    path = (folder or Path()) / name
    if name.endswith(".json") or os.path.isfile(path / "config.json"):
        return read_config(path)
    next_step = "List them: slipway deploy models. Any other model works by the path of its config.json."
    raise NotFound("model", name, known=list(known), next_step=next_step)


def read_config(path: Path) -> Architecture:
    """The architecture that a model's config.json describes; `path` is the file or its folder.

    Parameters are counted in the safetensors files beside it where there are any, and from the shapes otherwise.
    Raises `FileMissing`, or `FileBroken` with the fact that is lacking.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileMissing(file, next_step="Name a config.json or the folder that holds one.") from None
    except (OSError, ValueError) as wrong:
        raise FileBroken(file, f"it is not a JSON file ({wrong})") from wrong
    if not isinstance(read, dict):
        raise FileBroken(file, "it holds no JSON object")
    # Models that also see or hear keep the decoder's facts in a table of their own.
    inner = read.get("text_config") or read.get("llm_config") or {}
    try:
        shape = _shape({**read, **inner}, name=file.resolve().parent.name)
    except KeyError as missing:
        raise FileBroken(file, f"it does not say {missing.args[0]}") from None
    except (TypeError, ValueError, ZeroDivisionError) as wrong:
        raise FileBroken(file, f"one of its numbers makes no sense ({wrong})") from wrong
    stored = count_stored(file.parent)
    if stored:
        share = shape.active_parameters / shape.parameters
        shape = replace(shape, parameters=stored, active_parameters=round(stored * share))
    return replace(shape, weights=str(file.parent), source=str(file))


def count_stored(folder: Path) -> int:
    """Parameters in the safetensors files of a folder, by their headers; 0 where there are none."""
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            if length > file.stat().st_size:
                raise FileBroken(file, "its header is longer than the file")
            header: dict[str, Any] = json.loads(content.read(length))
        total += sum(prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total


def count_parameters(shape: Architecture) -> tuple[int, int]:
    """Parameters by the shapes of the matrices: (all, used for one token).

    Norms and biases, below 0.1 %, are left out, and so are experts that every token uses.
    """
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    if shape.family in LEARNED_POSITIONS:
        embeddings += shape.context * shape.hidden
    if shape.latent_rank:
        # Queries and outputs at full width, keys and values through the latent: Llama's rule would overcount them.
        attention = 2 * shape.hidden * shape.heads * shape.head_dim
        attention += shape.latent_rank * (shape.hidden + 2 * shape.heads * shape.head_dim)
    else:
        attention = 2 * shape.hidden * shape.head_dim * (shape.heads + shape.kv_heads)
    matrices = 3 if shape.gated else 2
    dense = matrices * shape.hidden * shape.intermediate
    if not shape.experts:
        every = embeddings + shape.layers * (attention + dense)
        return every, every
    expert = 3 * shape.hidden * shape.expert_intermediate
    sparse_layers = shape.layers - shape.dense_layers
    fixed = (
        embeddings
        + shape.layers * attention
        + shape.dense_layers * dense
        + sparse_layers * shape.hidden * shape.experts
    )
    return (
        fixed + sparse_layers * shape.experts * expert,
        fixed + sparse_layers * shape.experts_per_token * expert,
    )


def _shape(config: Mapping[str, Any], *, name: str) -> Architecture:
    family = str(config.get("model_type") or "unknown")
    layers, hidden, heads = (int(_need(config, names)) for names in (LAYERS, HIDDEN, HEADS))
    attention = config.get("attn_config") or {}
    kv_heads = _first(config, KV_HEADS) or (attention.get("kv_n_heads") if isinstance(attention, Mapping) else None)
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        kv_heads = 1
    head_dim = int(config.get("head_dim") or config.get("kv_channels") or hidden // heads)
    intermediate = int(_first(config, INTERMEDIATE) or hidden * int(config.get("expansion_ratio") or 4))
    experts = int(_first(config, EXPERTS) or 0)
    shape = Architecture(
        name=name,
        family=family,
        parameters=0,
        active_parameters=0,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=int(kv_heads or heads),
        head_dim=head_dim,
        intermediate=intermediate,
        vocabulary=int(_need(config, ("vocab_size",))),
        context=int(_first(config, CONTEXT) or 2048),
        gated=family not in TWO_MATRICES,
        tied=bool(config.get("tie_word_embeddings", family in TIED_BY_DEFAULT)),
        full_attention_layers=_full_layers(config, family, layers),
        sliding_window=int(config.get("sliding_window") or 0) if config.get("use_sliding_window", True) else 0,
        latent_rank=int(config.get("kv_lora_rank") or 0),
        rope_dim=int(config.get("qk_rope_head_dim") or 0),
        experts=experts,
        experts_per_token=int(_first(config, EXPERTS_PER_TOKEN) or 0) if experts else 0,
        expert_intermediate=int(config.get("moe_intermediate_size") or intermediate) if experts else 0,
        dense_layers=int(config.get("first_k_dense_replace") or 0) if experts else 0,
    )
    parameters, active = count_parameters(shape)
    return replace(shape, parameters=parameters, active_parameters=active)


def _full_layers(config: Mapping[str, Any], family: str, layers: int) -> int:
    """How many layers keep every token: listed one by one, by the family's rhythm, or all of them."""
    kinds = config.get("layer_types")
    if isinstance(kinds, list):
        return sum(1 for kind in kinds if kind == "full_attention")
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    rhythm = config.get("sliding_window_pattern") or FULL_EVERY.get(family)
    if rhythm:
        return layers // int(rhythm)
    return 0 if window else layers


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _need(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    value = _first(config, names)
    if value is None:
        raise KeyError(" or ".join(names))
    return value


def _data(name: str) -> bytes:
    return files("slipway.models").joinpath("data", name).read_bytes()
