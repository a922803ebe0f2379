"""How long one step of a model takes on given accelerators: the slower of reading weights and multiplying them."""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slipway.domain.architecture import Architecture
from slipway.domain.hardware import Efficiency, Hardware, Precision
from slipway.models.memory import BITS, kv_copies

Numbers: TypeAlias = float | NDArray[np.float64]
"""One figure, or one for each row of a table."""

SHARPNESS = 2.5
"""How sudden the change from memory-bound to compute-bound is; exponent of the smooth maximum. Source: a fit on 6,384
measured products in 16 and 8 bits (aiconfigurator's kernels) gives 2.0 to 2.9."""
ATTENTION_SHARE = 0.7
"""Attention over a prompt reaches this share of what large products reach. Source: prefill kernels on H100."""
WIDE = 8192
"""Hidden size from which products do not grow faster."""
DEEPER_REDUCE = 0.15
"""Each doubling of the devices beyond two makes an all-reduce so much slower to start."""


class Growth(NamedTuple):
    """Exponents by which products reach more of the data sheet: with the hidden size of the model (up to `WIDE`), with
    the devices that share a layer, and with the tokens of a step over 2,048."""

    width: float
    devices: float
    tokens: float


GROWTH: dict[Precision, Growth] = {
    "bf16": Growth(0.02, -0.02, 0.03),
    "fp8": Growth(0.2, -0.1, 0.05),
    "int4": Growth(0.2, -0.1, 0.05),
}
"""Source: a fit on 2,390 measured products of 256 and more tokens (aiconfigurator's kernels, seven accelerators, three
engines): of m x n x k in 8 and 4 bits the share grows as m^.05 n^.13 k^.06, in 16 bits hardly. Of a layer two thirds
are split in n, one third in k."""
FEWEST_GROWING = 64.0


class Speed(NamedTuple):
    """What a step costs on accelerators under an engine. Seconds; efficiencies are shares of the data sheet.

    The first eight describe every model, the next three mixtures of experts, the last two how an engine answers:
    `request` is what a request costs before its prompt is worked on, `queue` what waiting costs over its simulation.
    """

    step: Numbers = 0.6e-3
    layer: Numbers = 12e-6
    weights: Numbers = 0.75
    products: Numbers = 0.6
    cache: Numbers = 0.9
    all_reduce: Numbers = 8e-6
    link: Numbers = 0.45
    sequence: Numbers = 20e-6
    expert_weights: Numbers = 0.7
    expert_products: Numbers = 0.5
    expert_layer: Numbers = 35e-6
    request: Numbers = 0.035
    queue: Numbers = 1.0


PRIOR = Speed()
"""Where a fit starts, and what is assumed for an engine of which nothing is known."""
REFERENCE = Efficiency(bandwidth=0.85, compute=0.64)
"""Share of the data sheet that kernels reach where the prior was chosen: H100 in 8 bits."""


HEAD_NORMS = frozenset(
    {"qwen3", "qwen3_moe", "qwen3_next", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text", "minimax_m2"}
    | {"gemma3", "gemma3_text", "olmo2", "olmo3", "glm4_moe", "exaone4"}
)
"""Families with a norm on each query and key. Source: their classes in transformers."""
KERNELS, NORM_KERNELS = 12, 1
"""Kernels of a layer: two norms, four products and what brings their inputs into fewer bits, attention, activation.
Norms of queries and keys are one more in TensorRT-LLM (fusedQKNormRopeKernel), two in others; one is counted."""
QUANTISING_S = 4e-6
"""Of the prior's time of a layer, what goes into bringing the inputs of its four products into 8 or 4 bits. Source:
products in 8 bits start 2 to 3 us later than in 16 (aiconfigurator's kernels); graphs hide a part of it."""


class Work(NamedTuple):
    """What one step does.

    `tokens` pass through the weights; `sequences` of them each add one to an answer and read `context` cached tokens
    in all; `attention` is the sum over the prompts' tokens of how many tokens they look back on.
    """

    tokens: Numbers
    sequences: Numbers
    context: Numbers
    attention: Numbers


class Facts(NamedTuple):
    """What the roofline needs of a model on a group of devices; bytes, operations and seconds without prefixes."""

    layers: Numbers
    launched_layers: Numbers
    """Layers, each counted by the kernels that it launches."""
    expert_layers: Numbers
    dense_bytes: Numbers
    expert_bytes: Numbers
    experts: Numbers
    experts_per_token: Numbers
    head_bytes: Numbers
    """Weights of the head, in 16 bits: published checkpoints in fewer leave it so."""
    dense_flop: Numbers
    expert_flop: Numbers
    head_flop: Numbers
    attention_flop: Numbers
    flops: Numbers
    dense_flops: Numbers
    attention_flops: Numbers
    bandwidth: Numbers
    link: Numbers
    devices: Numbers
    split: Numbers
    """Devices that share one copy of the layers outside the experts."""
    cache_bytes: Numbers
    full_layers: Numbers
    windowed_layers: Numbers
    window: Numbers
    state_bytes: Numbers
    """What a sequence keeps besides keys and values; each step reads it and writes it anew."""
    activation_bytes: Numbers
    """What a token's passage between the products of all layers moves through the memory of one device."""
    hidden_bytes: Numbers
    growth: Numbers
    """Exponent of the tokens of a step in the speed of products."""
    stages: Numbers
    """Stages of a pipeline: each works on its share of the sequences, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How a model is spread: tensor parallel, pipeline stages, copies of the attention, groups of experts."""

    tensor: int = 1
    pipeline: int = 1
    attention_copies: int = 1
    experts: int = 1

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.attention_copies


def facts_of(
    shape: Architecture, hardware: Hardware, split: Split, precision: Precision, *, cache_bytes_each: float = 2.0
) -> Facts:
    """The facts of a model on one pipeline stage's devices.

    Experts in 4 bits leave the other layers in 16, as published checkpoints do.
    """
    devices = split.tensor * split.attention_copies
    each = BITS[precision] / 8
    growth = GROWTH["bf16" if shape.experts and precision == "int4" else precision]
    reached = (min(shape.hidden, WIDE) / WIDE) ** growth.width * split.tensor**growth.devices
    expert = 3 * shape.hidden * shape.expert_intermediate
    sparse_layers = shape.layers - shape.dense_layers if shape.experts else 0
    in_experts = min(sparse_layers * shape.experts * expert, shape.parameters)
    embeddings = 0 if shape.tied else shape.vocabulary * shape.hidden
    head = shape.vocabulary * shape.hidden
    dense = max(1, shape.parameters - in_experts - embeddings - head)
    active_experts = sparse_layers * shape.experts_per_token * expert
    active_dense = max(shape.active_parameters - active_experts - embeddings - head, 0.3 * dense)
    kept_wide = bool(shape.experts) and precision == "int4"
    flops = hardware.tflops.get("fp4", hardware.tflops["int4"]) if precision == "int4" else hardware.tflops[precision]
    if shape.latent_rank:
        a_token = (shape.latent_rank + shape.rope_dim) * cache_bytes_each
    else:
        a_token = 2 * shape.kv_heads * shape.head_dim * cache_bytes_each
    return Facts(
        layers=float(shape.layers),
        launched_layers=shape.layers * (1 + (NORM_KERNELS / KERNELS if shape.family in HEAD_NORMS else 0.0)),
        expert_layers=float(sparse_layers),
        dense_bytes=dense * (2.0 if kept_wide else each),
        expert_bytes=in_experts * each,
        experts=float(max(1, shape.experts)),
        experts_per_token=float(shape.experts_per_token),
        head_bytes=2.0 * head,
        dense_flop=2.0 * active_dense / reached,
        expert_flop=2.0 * active_experts,
        head_flop=2.0 * head,
        attention_flop=4.0 * shape.heads * shape.head_dim,
        flops=flops * 1e12,
        dense_flops=(hardware.tflops["bf16"] if kept_wide else flops) * 1e12,
        attention_flops=hardware.tflops["bf16"] * 1e12,
        bandwidth=hardware.bandwidth_gb_s * 1e9,
        link=hardware.link_gb_s * 1e9,
        devices=float(devices),
        split=float(split.tensor),
        cache_bytes=a_token * kv_copies(shape, split.tensor),
        full_layers=float(shape.full_attention_layers),
        windowed_layers=float(shape.layers - shape.full_attention_layers),
        window=float(shape.sliding_window),
        state_bytes=float(shape.state_numbers * cache_bytes_each),
        activation_bytes=_activation_bytes(shape, split, precision),
        hidden_bytes=2.0 * shape.hidden,
        growth=growth.tokens,
        stages=float(split.pipeline),
    )


def kernel_prior(shape: Architecture, hardware: Hardware, precision: Precision) -> Speed:
    """The prior, moved by what measured kernels reach on this hardware at this precision."""
    kept_wide = bool(shape.experts) and precision == "int4"
    dense = hardware.efficiency["bf16" if kept_wide else precision]
    share = hardware.efficiency[precision]
    wide = kept_wide or precision == "bf16"
    return PRIOR._replace(
        layer=PRIOR.layer - QUANTISING_S * wide,
        weights=PRIOR.weights * dense.bandwidth / REFERENCE.bandwidth,
        products=PRIOR.products * dense.compute / REFERENCE.compute,
        expert_weights=PRIOR.expert_weights * share.bandwidth / dense.bandwidth,
        expert_products=PRIOR.expert_products * share.compute / dense.compute,
    )


def step_seconds(facts: Facts, speed: Speed, work: Work) -> Numbers:
    """Seconds of one step: overheads + weights or products, whichever is slower + head + activations + cache
    + attention + all-reduce.

    Only tokens that get an answer pass through the head; a prompt's last one is not counted.

    Of E experts k a token, T tokens touch E x (1 - (1 - k/E)^T). The layers outside the experts are kept once for each
    copy of the attention, the experts once in all.
    """
    tokens = np.maximum(work.tokens, 1e-9)
    reading = facts.dense_bytes / (facts.split * facts.bandwidth * speed.weights)
    grown = np.power(np.maximum(tokens, FEWEST_GROWING) / 2048, facts.growth)
    multiplying = facts.dense_flop * tokens / (facts.devices * facts.dense_flops * speed.products * grown)
    slower = _smooth_maximum(reading, multiplying)
    touched = 1 - np.power(1 - facts.experts_per_token / facts.experts, np.maximum(tokens, 1.0))
    in_experts = facts.devices * facts.bandwidth * speed.weights * speed.expert_weights
    by_experts = facts.devices * facts.flops * speed.products * speed.expert_products
    slower = slower + _smooth_maximum(
        facts.expert_bytes * touched / in_experts, facts.expert_flop * tokens / by_experts
    )
    # The last stage of a pipeline alone has the head, and the slowest stage sets the pace of all.
    answered = np.maximum(work.sequences, 1.0)
    head = facts.stages * _smooth_maximum(
        facts.head_bytes / (facts.split * facts.bandwidth * speed.weights),
        facts.head_flop * answered / (facts.devices * facts.attention_flops * speed.products),
    )
    overhead = facts.stages * (speed.step + work.sequences * speed.sequence)
    overhead = overhead + facts.launched_layers * speed.layer + facts.expert_layers * speed.expert_layer
    each = work.context / np.maximum(work.sequences, 1.0)
    looked_at = facts.full_layers * each + facts.windowed_layers * np.minimum(each, facts.window)
    read = looked_at * facts.cache_bytes + 2 * facts.state_bytes
    cache = work.sequences * read / (facts.devices * facts.bandwidth * speed.cache)
    moving = tokens * facts.activation_bytes / (facts.bandwidth * speed.weights)
    back = work.attention / tokens
    seen = facts.full_layers + facts.windowed_layers * np.minimum(1.0, facts.window / np.maximum(back, 1.0))
    reached = facts.devices * facts.attention_flops * speed.products * ATTENTION_SHARE
    attention = facts.attention_flop * seen * work.attention / reached
    return overhead + slower + head + moving + cache + attention + _all_reduce_seconds(facts, speed, tokens)


def decode_step_s(
    shape: Architecture,
    hardware: Hardware,
    devices: int,
    precision: Precision,
    *,
    sequences: float,
    tokens: float,
    speed: Speed | None = None,
    cache_bytes_each: float = 2.0,
) -> float:
    """Seconds of one step that adds a token to each of `sequences`, which hold `tokens` each."""
    facts = facts_of(shape, hardware, Split(tensor=devices), precision, cache_bytes_each=cache_bytes_each)
    work = Work(tokens=sequences, sequences=sequences, context=sequences * tokens, attention=0.0)
    return float(step_seconds(facts, speed or kernel_prior(shape, hardware, precision), work))


def prefill_s(
    shape: Architecture,
    hardware: Hardware,
    devices: int,
    precision: Precision,
    *,
    tokens: float,
    speed: Speed | None = None,
) -> float:
    """Seconds to read a prompt of `tokens`; each token looks back on half of them."""
    facts = facts_of(shape, hardware, Split(tensor=devices), precision)
    work = Work(tokens=tokens, sequences=0.0, context=0.0, attention=tokens * tokens / 2)
    return float(step_seconds(facts, speed or kernel_prior(shape, hardware, precision), work))


def _activation_bytes(shape: Architecture, split: Split, precision: Precision) -> float:
    """Bytes that a token moves between the products, on one device: what norms, rotation and gates read and write.

    Products read and write 16 bits, and read 8 where weights have 8 or fewer. A layer has two norms, which every device
    of a group computes for itself: each reads a product and the residual, writes the residual and what the next product
    reads. Queries, keys, values, and what attention and the gate make of them, are split over the devices.
    """
    narrow = 2.0 if precision == "bf16" else 1.0
    norms = 2 * shape.hidden * (6 + narrow)
    queries = shape.heads * shape.head_dim
    width = shape.expert_intermediate * shape.experts_per_token if shape.experts else shape.intermediate
    before = (2.0 if shape.gated else 1.0) * width
    split_over = (queries + 2 * shape.kv_heads * shape.head_dim) * 4 + queries * (4 + narrow)
    split_over += before * 4 + width * 2 * narrow
    if shape.family in HEAD_NORMS:
        split_over += (queries + shape.kv_heads * shape.head_dim) * 4
    devices = split.tensor * split.attention_copies
    return float(shape.layers * (norms / split.attention_copies + split_over / devices))


def _smooth_maximum(one: Numbers, other: Numbers) -> Numbers:
    total: Numbers = np.power(np.power(one, SHARPNESS) + np.power(other, SHARPNESS), 1 / SHARPNESS)
    return total


def _all_reduce_seconds(facts: Facts, speed: Speed, tokens: Numbers) -> Numbers:
    """Two sums over all devices a layer: a fixed delay, and 2 (n - 1) / n of the bytes over the link."""
    more = np.log2(np.maximum(facts.devices, 1.0))
    start = speed.all_reduce * (1 + DEEPER_REDUCE * np.where(more > 1, more, 0.0))
    sent = 2 * (facts.devices - 1) / facts.devices * tokens * facts.hidden_bytes
    seconds: Numbers = np.where(more > 0, 2 * facts.layers * (start + sent / (facts.link * speed.link)), 0.0)
    return seconds
