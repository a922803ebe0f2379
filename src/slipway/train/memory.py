"""What each training method needs before it runs: trainable parameters, memory, hours, money."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slipway.domain.architecture import Architecture
from slipway.domain.training import MethodName
from slipway.models.hardware import list_hardware, rent_of
from slipway.models.memory import GIB, RESERVED_GB
from slipway.models.training import training_flop, training_hours

METHODS: tuple[MethodName, ...] = ("lora", "output-layer", "all-layers")
TRAINED_BYTES = 16.0
"""A trained parameter in mixed precision: weight 2, gradient 2, and AdamW's master, mean and variance of 4 each."""
FROZEN_BYTES = {"bf16": 2.0, "f32": 4.0}
ACTIVATION_BYTES = 34.0
"""A token, a layer and a hidden unit, without the attention matrix. Source: Korthikanti et al. 2022, section 4.1."""
CHECKPOINTED_BYTES = 2.0
LOGIT_BYTES = 10.0
"""A token and a word of the vocabulary: logits in 16 bit, their copy and gradient in 32."""
MADE_OF = {
    "lora": "base frozen, small matrices beside every linear layer",
    "output-layer": "only the layer that turns states into words",
    "all-layers": "everything; risks forgetting what the base knew",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRow:
    """One line of the table. Memory is gibibytes on one device; `device` is the cheapest that holds it, or empty."""

    method: MethodName
    trainable: int
    share: float
    memory_gib: float
    weights_gib: float
    training_gib: float
    activations_gib: float
    device: str
    hours: float | None
    dollars: float | None
    adapter_mib: float
    about: str
    warning: str = ""


def method_table(
    shape: Architecture,
    *,
    tokens: float,
    epochs: float = 3.0,
    batch: int = 8,
    length: int = 1024,
    rank: int = 16,
    checkpointing: bool = True,
    devices: Sequence[str] = (),
) -> list[MethodRow]:
    """A line for each method, for `tokens` of data read `epochs` times in batches of `batch` x `length` tokens.

    Memory = frozen weights x 2 + trained x 16 bytes + activations + 2 GB. Hours = floating point operations / (what
    runs reach of the device). All of it is estimated.
    """
    return [
        _row(method, shape, tokens * epochs, batch, length, rank, checkpointing=checkpointing, devices=devices)
        for method in METHODS
    ]


def trainable_parameters(method: MethodName, shape: Architecture, *, rank: int) -> int:
    """Parameters that a method changes. LoRA: rank x (in + out) of every linear layer but the output layer."""
    if method == "all-layers":
        return shape.parameters
    if method == "output-layer":
        return shape.vocabulary * shape.hidden
    width, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = 2 * (shape.hidden + width) + 2 * (shape.hidden + kv)
    matrices = 3 if shape.gated else 2
    feed_forward = matrices * (shape.hidden + shape.intermediate)
    if shape.experts:
        feed_forward = shape.experts * 3 * (shape.hidden + shape.expert_intermediate)
    return rank * shape.layers * (attention + feed_forward)


def activations_gib(method: MethodName, shape: Architecture, *, batch: int, length: int, checkpointing: bool) -> float:
    """What the forward pass keeps for the backward pass."""
    here = batch * length
    logits = here * shape.vocabulary * LOGIT_BYTES
    if method == "output-layer":
        return (logits + here * shape.hidden * 2) / GIB
    layer = here * shape.hidden * ACTIVATION_BYTES
    kept = here * shape.hidden * CHECKPOINTED_BYTES * shape.layers + layer if checkpointing else layer * shape.layers
    return (logits + kept) / GIB


def training_memory_gib(
    method: MethodName,
    shape: Architecture,
    *,
    rank: int,
    batch: int,
    length: int,
    checkpointing: bool,
    precision: Literal["bf16", "f32"] = "bf16",
) -> tuple[float, float, float]:
    """Gibibytes of (frozen weights, what training keeps for trained parameters, activations)."""
    trained = trainable_parameters(method, shape, rank=rank)
    frozen = shape.parameters + trained if method == "lora" else shape.parameters
    extra = trained if method == "output-layer" and shape.tied else 0
    weights = (frozen - trained + extra) * FROZEN_BYTES[precision] / GIB
    activations = activations_gib(method, shape, batch=batch, length=length, checkpointing=checkpointing)
    return weights, trained * TRAINED_BYTES / GIB, activations


def _row(
    method: MethodName,
    shape: Architecture,
    tokens: float,
    batch: int,
    length: int,
    rank: int,
    *,
    checkpointing: bool,
    devices: Sequence[str],
) -> MethodRow:
    trained = trainable_parameters(method, shape, rank=rank)
    weights, training, activations = training_memory_gib(
        method, shape, rank=rank, batch=batch, length=length, checkpointing=checkpointing
    )
    total = weights + training + activations + RESERVED_GB * 1e9 / GIB
    device, hours, dollars = _cheapest(method, shape, tokens, total, devices)
    return MethodRow(
        method=method,
        trainable=trained,
        share=trained / shape.parameters,
        memory_gib=total,
        weights_gib=weights,
        training_gib=training,
        activations_gib=activations,
        device=device,
        hours=hours,
        dollars=dollars,
        adapter_mib=trained * 2 / 2**20,
        about=MADE_OF[method],
        warning="input and output share one matrix: it is untied first, which adds a copy"
        if method == "output-layer" and shape.tied
        else "",
    )


def _cheapest(
    method: MethodName, shape: Architecture, tokens: float, memory_gib: float, devices: Sequence[str]
) -> tuple[str, float | None, float | None]:
    """The device that does it for the least money, with hours and dollars; nothing when none holds it alone."""
    best: tuple[str, float | None, float | None] = ("", None, None)
    for hardware in list_hardware():
        rent = rent_of(hardware.name)
        if rent is None or hardware.memory_gib < memory_gib or (devices and hardware.name not in devices):
            continue
        hours = training_hours(_flop(method, shape, tokens), hardware)
        if best[2] is None or hours * rent.hourly < best[2]:
            best = (hardware.name, hours, hours * rent.hourly)
    return best


def _flop(method: MethodName, shape: Architecture, tokens: float) -> float:
    active = float(shape.active_parameters)
    if method == "output-layer":
        # Below the output layer there is a forward pass only.
        head = float(shape.vocabulary * shape.hidden)
        return (2 * (active - head) + 6 * head) * tokens
    return training_flop(active, tokens, frozen=active if method == "lora" else 0.0)
