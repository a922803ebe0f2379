"""How long one step of a model takes on given accelerators: the slower of reading weights and multiplying them."""

from dataclasses import dataclass
from math import pow

from slipway.domain.architecture import Architecture
from slipway.domain.hardware import Hardware, Precision
from slipway.models.memory import BITS, kv_bytes, kv_copies

SHARPNESS = 4.0
"""How sudden the change from memory-bound to compute-bound is; exponent of the smooth maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """What a step costs besides weights and products: priors for hardware and engines that were not calibrated.

    Seconds; efficiencies are shares of the data sheet. A link below `slow_link_gb_s` is PCIe. Chosen on published
    measurements of dense models (fp8, H100, H200, B200; vLLM and TensorRT-LLM), where the time per token then has a
    median error of 9 %; for mixtures of experts it is 30 %.
    """

    per_layer: float = 12e-6
    per_step: float = 500e-6
    cache_bandwidth: float = 0.9
    link: float = 0.6
    all_reduce: float = 16e-6
    all_reduce_pcie: float = 40e-6
    slow_link_gb_s: float = 100.0


PRIOR = StepCosts()


def decode_step_s(
    shape: Architecture,
    hardware: Hardware,
    devices: int,
    precision: Precision,
    *,
    sequences: float,
    tokens: float,
    costs: StepCosts = PRIOR,
) -> float:
    """Seconds of one step that adds a token to each of `sequences`, which hold `tokens` each."""
    cache = sequences * kv_bytes(shape, tokens) * kv_copies(shape, devices)
    reading = cache / (devices * hardware.bandwidth_gb_s * 1e9 * costs.cache_bandwidth)
    return _matrices_s(shape, hardware, devices, precision, tokens=sequences, costs=costs) + reading


def prefill_s(
    shape: Architecture,
    hardware: Hardware,
    devices: int,
    precision: Precision,
    *,
    tokens: float,
    costs: StepCosts = PRIOR,
) -> float:
    """Seconds to read a prompt of `tokens`; attention adds 2 S^2 per layer and head width, causal."""
    attention = 2 * tokens * min(tokens, _window(shape, tokens)) * shape.layers * shape.heads * shape.head_dim
    products = devices * hardware.tflops["bf16"] * 1e12 * hardware.efficiency["bf16"].compute
    return _matrices_s(shape, hardware, devices, precision, tokens=tokens, costs=costs) + attention / products


def _matrices_s(
    shape: Architecture, hardware: Hardware, devices: int, precision: Precision, *, tokens: float, costs: StepCosts
) -> float:
    share = hardware.efficiency[precision]
    reading = _bytes_read(shape, precision, tokens) / (devices * hardware.bandwidth_gb_s * 1e9 * share.bandwidth)
    multiplying = 2 * shape.active_parameters * tokens / (devices * hardware.tflops[precision] * 1e12 * share.compute)
    slower = pow(pow(reading, SHARPNESS) + pow(multiplying, SHARPNESS), 1 / SHARPNESS)
    return (
        costs.per_step
        + shape.layers * costs.per_layer
        + slower
        + _all_reduce_s(shape, hardware, devices, tokens, costs)
    )


def _bytes_read(shape: Architecture, precision: Precision, tokens: float) -> float:
    """Weights that one step touches. Of E experts k a token, T tokens touch E x (1 - (1 - k/E)^T)."""
    each = BITS[precision] / 8
    if not shape.experts:
        return shape.parameters * each
    expert = 3 * shape.hidden * shape.expert_intermediate
    in_experts = (shape.layers - shape.dense_layers) * shape.experts * expert
    in_experts = min(in_experts, shape.parameters)
    touched = 1 - pow(1 - shape.experts_per_token / shape.experts, tokens)
    return (shape.parameters - in_experts + in_experts * touched) * each


def _all_reduce_s(shape: Architecture, hardware: Hardware, devices: int, tokens: float, costs: StepCosts) -> float:
    """Two sums over all devices a layer: a fixed delay, and the bytes over the link."""
    if devices == 1:
        return 0.0
    delay = costs.all_reduce_pcie if hardware.link_gb_s < costs.slow_link_gb_s else costs.all_reduce
    sent = 2 * (devices - 1) / devices * tokens * shape.hidden * 2
    return 2 * shape.layers * (delay + sent / (hardware.link_gb_s * 1e9 * costs.link))


def _window(shape: Architecture, tokens: float) -> float:
    """Tokens that a token looks back on, averaged over the layers."""
    windowed = shape.layers - shape.full_attention_layers
    return (shape.full_attention_layers * tokens + windowed * min(tokens, shape.sliding_window)) / shape.layers
