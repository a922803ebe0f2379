"""How much memory a model needs: weights, keys and values, and what must stay free."""

from slipway.domain.architecture import Architecture
from slipway.domain.deployment import MemoryBill
from slipway.domain.hardware import Hardware, Precision

GIB = 2**30
BITS = {
    "f32": 32.0,
    "f16": 16.0,
    "bf16": 16.0,
    "fp8": 8.0,
    "int8": 8.0,
    "q8_0": 8.5,
    "q4_k_m": 4.9,
    "q4_0": 4.5,
    "int4": 4.5,
}
"""Bits a parameter takes in the file, scales included. Source: model files of Llama 3 in these formats."""
RESERVED_SHARE = 0.10
RESERVED_GB = 2.0
"""Per accelerator: what engines leave free, and the driver with its libraries. Source: the default of 0.9 in vLLM."""
STEP_TOKENS = 2048
"""Tokens that one step of an engine works on at most; activations are sized for them."""


def weights_gib(parameters: float, precision: str) -> float:
    """Gibibytes of the weights: parameters x bits / 8 / 2^30."""
    return parameters * BITS[precision] / 8 / GIB


def kv_bytes(shape: Architecture, tokens: float, *, bytes_each: float = 2.0) -> float:
    """Bytes of keys and values for one sequence of so many tokens.

    2 x layers x KV heads x head width x bytes a token; with multi-head latent attention layers x (latent + rope) x
    bytes. Layers with a sliding window stop growing at the window; a state has its whole size from the first token.
    """
    if shape.latent_rank:
        each = (shape.latent_rank + shape.rope_dim) * bytes_each
    else:
        each = 2 * shape.kv_heads * shape.head_dim * bytes_each
    windowed = shape.layers - shape.full_attention_layers
    kept = shape.full_attention_layers * tokens + windowed * min(tokens, shape.sliding_window)
    return each * kept + shape.state_numbers * bytes_each


def kv_bytes_per_token(shape: Architecture, *, bytes_each: float = 2.0) -> float:
    """Bytes of keys and values that one token adds while no window is full."""
    return kv_bytes(shape, 1, bytes_each=bytes_each) - kv_bytes(shape, 0, bytes_each=bytes_each)


def kv_copies(shape: Architecture, devices: int) -> float:
    """How often the cache is kept when a model is split over so many devices.

    Devices beyond the number of KV heads hold copies; a latent cache serves all heads and is kept by each device.
    """
    if shape.latent_rank:
        return devices
    return max(1.0, devices / shape.kv_heads)


def reserve_gib(shape: Architecture, hardware: Hardware, devices: int) -> float:
    """Gibibytes that are not for weights or cache: 10 % + 2 GB a device, and the activations of one step."""
    activations = STEP_TOKENS * (8 * shape.hidden + 2 * max(shape.intermediate, shape.expert_intermediate)) * 2
    return devices * (RESERVED_SHARE * hardware.memory_gib + RESERVED_GB * 1e9 / GIB) + activations / GIB


def serving_bill(
    shape: Architecture, hardware: Hardware, devices: int, precision: Precision, *, sequences: float, tokens: float
) -> MemoryBill:
    """What fills the memory of one replica that holds `sequences` of `tokens` each at once."""
    cache = sequences * kv_bytes(shape, tokens) * kv_copies(shape, devices)
    return MemoryBill(
        weights_gib=weights_gib(shape.parameters, precision),
        kv_cache_gib=cache / GIB,
        reserve_gib=reserve_gib(shape, hardware, devices),
        available_gib=devices * hardware.memory_gib,
    )


def sequences_that_fit(
    shape: Architecture,
    hardware: Hardware,
    devices: int,
    precision: Precision,
    *,
    tokens: float,
    bytes_each: float = 2.0,
) -> float:
    """How many sequences of so many tokens one replica holds at once; below 1 the model does not fit."""
    empty = serving_bill(shape, hardware, devices, precision, sequences=0, tokens=tokens)
    each = kv_bytes(shape, tokens, bytes_each=bytes_each) * kv_copies(shape, devices) / GIB
    return max(0.0, (empty.available_gib - empty.total_gib) / each) if each else float("inf")
