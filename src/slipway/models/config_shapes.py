"""What a config.json says about a decoder, in the words of each family: layers, experts, windows, states, bits."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from slipway.domain.architecture import Architecture
from slipway.models.config_quantization import native_of

# Names of one fact in the config files of different families, in the order in which they are tried.
LAYERS = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")
HIDDEN = ("hidden_size", "d_model", "n_embd", "n_embed")
HEADS = ("num_attention_heads", "n_heads", "n_head", "num_heads", "mamba_num_heads")
KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num")
HEAD_WIDTH = ("head_dim", "attention_head_dim", "kv_channels")
INTERMEDIATE = ("intermediate_size_mlp", "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
CONTEXT = ("max_position_embeddings", "max_seq_len", "n_positions", "seq_length", "n_ctx")
VOCABULARY = ("vocab_size", "padded_vocab_size")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_PER_TOKEN = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "top_k_experts",
    "moe_top_k",
    "moe_k",
)
EXPERT_WIDTH = ("moe_intermediate_size", "intermediate_size", "ffn_hidden_size")
SHARED_WIDTH = ("shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size")
SHARED_EXPERTS = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
STATE_WIDTH = ("mamba_d_state", "ssm_state_size", "state_size")
STATE_EXPANSION = ("mamba_expand", "expand")
STATE_HEADS = ("mamba_n_heads", "mamba_num_heads", "num_heads")
STATE_HEAD_WIDTH = ("mamba_d_head", "mamba_head_dim", "head_dim")
STATE_GROUPS = ("mamba_n_groups", "n_groups")
CONVOLUTION = 4
"""Tokens that the convolution before a state looks at. Source: defaults of Mamba and of gated delta networks."""

TWO_MATRICES = frozenset(
    {"gpt_neox", "mpt", "gpt2", "gptj", "bloom", "falcon", "opt", "starcoder2", "gpt_bigcode", "phi", "nemotron"}
    | {"nemotron_h", "gpt_neo", "codegen", "persimmon"}
)
"""Families whose feed-forward block has no gate."""
TIED_BY_DEFAULT = frozenset(
    {"mpt", "gpt2", "gemma", "gemma2", "gemma3", "gemma3_text", "bloom", "opt", "falcon", "gpt_bigcode", "gpt_neo"}
    | {"cohere", "cohere2", "starcoder2", "mamba", "mamba2", "falcon_mamba"}
)
LEARNED_POSITIONS = frozenset({"gpt2", "opt", "gpt_bigcode", "gpt_neo"})
"""Families with a vector for each position."""
FULL_EVERY = {
    "gemma2": 2,
    "gpt_oss": 2,
    "gemma3": 6,
    "gemma3_text": 6,
    "cohere2": 4,
    "llama4": 4,
    "llama4_text": 4,
    "qwen3_next": 4,
}
"""Families in which one layer in so many sees all tokens, where the config does not list its layers."""
GATED_QUERIES = frozenset({"qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"})
"""Families whose attention has a gate as wide as its queries."""
ONLY_STATES = frozenset({"mamba", "mamba2", "falcon_mamba"})
ENCODERS = frozenset(
    {"albert", "bert", "bart", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie", "longformer"}
    | {"mbart", "marian", "modernbert", "mpnet", "mt5", "nomic_bert", "pegasus", "roberta", "t5", "vit", "whisper"}
    | {"wav2vec2", "xlm-roberta", "clip", "siglip", "umt5", "new", "eurobert"}
)
"""Families that read a text but do not write one token by token behind it, or do so behind an encoder."""
STATE_KINDS = frozenset({"linear_attention", "mamba", "mamba2", "conv", "recurrent", "m", "lightning_attention"})
FULL_KINDS = frozenset({"full_attention", "attention", "hybrid", "*", "global"})
NO_MIXER = frozenset({"-", "mlp", "e", "moe"})


class NotADecoder(Exception):
    """The file describes a model that does not write text token by token."""


@dataclass(frozen=True, slots=True)
class _State:
    """The mixer of a layer without keys and values: its parameters, and the numbers it keeps for each sequence."""

    parameters: int
    kept: int


def shape_of(config: Mapping[str, Any], *, name: str) -> Architecture:
    """The architecture that a config describes, its parameters counted from the shapes of its matrices.

    Raises `KeyError` with the names of the fact that is lacking, `NotADecoder`, or `ValueError` and its like where a
    number makes no sense.
    """
    # Models that also see or hear keep the decoder's facts in a table of their own.
    inner = config.get("text_config") or config.get("llm_config") or config.get("language_config") or {}
    config = {**config, **inner}
    family = str(config.get("model_type") or "unknown")
    _require_decoder(config, family)
    feed_forward = _table(config, "ffn_config")
    attention = _table(config, "attn_config")
    layers, hidden, heads = (int(_need(config, names)) for names in (LAYERS, HIDDEN, HEADS))
    if min(layers, hidden, heads) < 1:
        raise ValueError(f"{layers} layers, {heads} heads, {hidden} wide")
    kv_heads = _first(config, KV_HEADS) or attention.get("kv_n_heads")
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        kv_heads = 1
    latent = int(config.get("kv_lora_rank") or 0)
    head_dim = int(_first(config, HEAD_WIDTH) or hidden // heads)
    if latent:
        head_dim = int(config.get("v_head_dim") or head_dim)
    kinds = _kinds(config, family, layers)
    if NO_MIXER & set(kinds):
        # Blocks that only multiply follow blocks that only mix: a pair is what others call a layer.
        dense = sum(kind in NO_MIXER for kind in kinds)
        kinds = [kind for kind in kinds if kind not in NO_MIXER]
        layers = max(len(kinds), dense)
    else:
        dense = 0 if family in ONLY_STATES else layers
    experts = int(_first(config, EXPERTS) or _first(feed_forward, EXPERTS) or 0)
    sparse = _sparse_layers(config, layers) if experts > 1 else 0
    experts = experts if sparse else 0
    width = _first(config, INTERMEDIATE) or _first(feed_forward, INTERMEDIATE)
    intermediate = int(width or hidden * int(config.get("expansion_ratio") or 4))
    expert_width = int(_first(config, EXPERT_WIDTH) or _first(feed_forward, EXPERT_WIDTH) or intermediate)
    state = _state_of(config, hidden) if any(kind in STATE_KINDS for kind in kinds) else None
    states = sum(kind in STATE_KINDS for kind in kinds)
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
        vocabulary=int(_need(config, VOCABULARY)),
        context=int(_first(config, CONTEXT) or 2048),
        gated=family not in TWO_MATRICES,
        tied=bool(config.get("tie_word_embeddings", family in TIED_BY_DEFAULT)),
        full_attention_layers=sum(kind in FULL_KINDS for kind in kinds),
        sliding_window=0 if states else _window(config),
        state_numbers=states * state.kept if state is not None else 0,
        latent_rank=latent,
        rope_dim=int(config.get("qk_rope_head_dim") or 0),
        experts=experts,
        experts_per_token=int(_first(config, EXPERTS_PER_TOKEN) or _first(feed_forward, EXPERTS_PER_TOKEN) or 1)
        if experts
        else 0,
        expert_intermediate=expert_width if experts else 0,
        dense_layers=layers - sparse if experts else 0,
        native=native_of(config),
    )
    every, active = count_parameters(shape)
    more = _beyond_llama(config, shape, kinds, state)
    if not experts:
        more -= (layers - dense) * (3 if shape.gated else 2) * hidden * intermediate
    return replace(shape, parameters=every + more, active_parameters=active + more)


def count_parameters(shape: Architecture) -> tuple[int, int]:
    """Parameters by the shapes of the matrices: (all, used for one token).

    Norms and biases, below 0.1 %, are left out, and so are experts that every token uses.
    """
    embeddings = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    if shape.family in LEARNED_POSITIONS:
        embeddings += shape.context * shape.hidden
    attention = _attention_parameters(shape)
    dense = (3 if shape.gated else 2) * shape.hidden * shape.intermediate
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


def _attention_parameters(shape: Architecture) -> int:
    if shape.latent_rank:
        # Queries and outputs at full width, keys and values through the latent: Llama's rule would overcount them.
        return 2 * shape.hidden * shape.heads * shape.head_dim + shape.latent_rank * (
            shape.hidden + 2 * shape.heads * shape.head_dim
        )
    return 2 * shape.hidden * shape.head_dim * (shape.heads + shape.kv_heads)


def _beyond_llama(config: Mapping[str, Any], shape: Architecture, kinds: list[str], state: _State | None) -> int:
    """Parameters that every token uses and that the shape alone does not tell: shared experts, states, gates, queries
    through a latent."""
    hidden = shape.hidden
    sparse = shape.layers - shape.dense_layers if shape.experts else 0
    shared = int(_first(config, SHARED_WIDTH) or 0)
    if not shared and shape.experts:
        number = int(_first(config, SHARED_EXPERTS) or (1 if shape.family.startswith("llama4") else 0))
        shared = number * shape.expert_intermediate
    more = sparse * 3 * hidden * shared
    usual = _attention_parameters(shape)
    states = sum(kind in STATE_KINDS for kind in kinds)
    attending = len(kinds) - states
    if state is not None:
        more += states * (state.parameters - usual)
    more -= (shape.layers - len(kinds)) * usual
    if shape.latent_rank:
        nope = int(config.get("qk_nope_head_dim") or shape.head_dim)
        wide = shape.heads * (nope + shape.rope_dim)
        low = int(config.get("q_lora_rank") or 0)
        queries = low * (hidden + wide) if low else hidden * wide
        keys = hidden * (shape.latent_rank + shape.rope_dim) + shape.latent_rank * shape.heads * (nope + shape.head_dim)
        more += attending * (queries + keys + shape.heads * shape.head_dim * hidden - usual)
    if shape.family in GATED_QUERIES:
        more += attending * hidden * shape.heads * shape.head_dim
    return more


def _state_of(config: Mapping[str, Any], hidden: int) -> _State | None:
    """The mixer of a layer with a state: gated delta networks, Mamba 2 with heads, Mamba 1; None where it is unknown.

    Source: the matrices of these layers in transformers 4.57.
    """
    if config.get("linear_num_value_heads"):
        keys = int(config["linear_num_key_heads"]) * int(config["linear_key_head_dim"])
        heads = int(config["linear_num_value_heads"])
        values = heads * int(config["linear_value_head_dim"])
        matrices = hidden * (2 * keys + 2 * values + 2 * heads) + values * hidden
        return _State(matrices + CONVOLUTION * (2 * keys + values), values * int(config["linear_key_head_dim"]))
    width = int(_first(config, STATE_WIDTH) or 0)
    if not width:
        return None
    heads = int(_first(config, STATE_HEADS) or 0)
    inner = int(_first(config, STATE_EXPANSION) or 2) * hidden
    if heads:
        inner = heads * int(_first(config, STATE_HEAD_WIDTH) or inner // heads)
        mixed = inner + 2 * int(_first(config, STATE_GROUPS) or 1) * width
        return _State(hidden * (inner + mixed + heads) + CONVOLUTION * mixed + inner * hidden, inner * width)
    rank = config.get("mamba_dt_rank") or config.get("time_step_rank")
    rank = int(rank) if isinstance(rank, int) else -(-hidden // 16)
    matrices = 3 * inner * hidden + inner * (rank + 2 * width) + rank * inner
    return _State(matrices + inner * (CONVOLUTION + width), inner * width)


def _kinds(config: Mapping[str, Any], family: str, layers: int) -> list[str]:
    """The kind of each layer: listed one by one, drawn as a pattern, by the family's rhythm, or all the same."""
    listed = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(listed, list):
        return [str(kind) for kind in listed[:layers]]
    pattern = config.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return list(re.sub(r"[^m*e-]", "", pattern.lower()))
    flags = config.get("attn_type_list")
    if isinstance(flags, list):
        return ["full_attention" if flag else "linear_attention" for flag in flags[:layers]]
    if family in ONLY_STATES:
        return ["mamba"] * layers
    if config.get("attn_layer_period"):
        period, offset = int(config["attn_layer_period"]), int(config.get("attn_layer_offset") or 0)
        return ["full_attention" if each % period == offset else "mamba" for each in range(layers)]
    rhythm = config.get("full_attention_interval")
    stateful = bool(config.get("linear_num_value_heads"))
    windowed = bool(_window(config))
    rhythm = rhythm or config.get("sliding_window_pattern") or FULL_EVERY.get(family)
    if isinstance(rhythm, int) and rhythm > 0 and (windowed or stateful):
        other = "linear_attention" if stateful else "sliding_attention"
        return ["full_attention" if (each + 1) % rhythm == 0 else other for each in range(layers)]
    if windowed:
        # Qwen 2: the first so many layers see everything although a window is set.
        full = int(config["max_window_layers"]) if isinstance(config.get("max_window_layers"), int) else 0
        return ["full_attention" if each < full else "sliding_attention" for each in range(layers)]
    return ["full_attention"] * layers


def _window(config: Mapping[str, Any]) -> int:
    if not config.get("use_sliding_window", True):
        return 0
    return int(config.get("sliding_window") or config.get("attention_chunk_size") or 0)


def _sparse_layers(config: Mapping[str, Any], layers: int) -> int:
    """How many layers hold experts, in the words of each family."""
    listed = config.get("moe_layers")
    if isinstance(listed, list) and listed:
        return len(listed)
    frequency = config.get("moe_layer_freq")
    if isinstance(frequency, list):
        return sum(bool(each) for each in frequency[:layers])
    period = int(config.get("expert_layer_period") or 1)
    offset = int(config.get("expert_layer_offset") or 0)
    step = int(config.get("decoder_sparse_step") or config.get("interleave_moe_layer_step") or 1)
    dense = {int(each) for each in config.get("mlp_only_layers") or []}
    first = int(config.get("first_k_dense_replace") or 0)
    return sum(
        each >= first and each not in dense and each % period == offset % period and (each + 1) % step == 0
        for each in range(layers)
    )


def _require_decoder(config: Mapping[str, Any], family: str) -> None:
    if (family in ENCODERS and not config.get("is_decoder")) or config.get("is_encoder_decoder"):
        raise NotADecoder(f"a model of the family {family} does not write its answer token by token behind the prompt")


def _table(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, Mapping) else {}


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _need(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    value = _first(config, names)
    if value is None:
        raise KeyError(" or ".join(names))
    return value
