"""What any model needs to be served: weights by precision, the cache of a token, the fewest devices that hold it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slipway.domain.architecture import Architecture
from slipway.domain.hardware import Precision
from slipway.models.architectures import find_model
from slipway.models.hardware import find_hardware
from slipway.models.memory import kv_bytes_per_token, sequences_that_fit, weights_gib
from slipway.models.sizing import SPLITS

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp8", "int4")
USUAL_HARDWARE = ("l40s", "a100-sxm", "h100-sxm", "h200-sxm")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeeds:
    """`devices` names for each kind of hardware and precision the fewest devices that hold one whole context."""

    shape: Architecture
    weights_gib: dict[str, float]
    cache_bytes_a_token: float
    devices: dict[str, dict[str, int]]


def describe(config: str, *, hardware: Sequence[str] = (), folder: Path | None = None) -> ModelNeeds:
    """What a catalogue model or a config.json needs. Raises `NotFound`, `FileMissing` or `FileBroken`."""
    shape = find_model(config, folder=folder)
    return ModelNeeds(
        shape=shape,
        weights_gib={precision: weights_gib(shape.parameters, precision) for precision in PRECISIONS},
        cache_bytes_a_token=kv_bytes_per_token(shape),
        devices={name: _fewest(shape, name) for name in hardware or USUAL_HARDWARE},
    )


def _fewest(shape: Architecture, name: str) -> dict[str, int]:
    hardware = find_hardware(name)
    found: dict[str, int] = {}
    for precision in PRECISIONS:
        if precision not in hardware.efficiency:
            continue
        for devices in SPLITS:
            fits = devices <= hardware.devices_per_node and shape.heads % devices == 0
            if fits and sequences_that_fit(shape, hardware, devices, precision, tokens=shape.context) >= 1:
                found[precision] = devices
                break
    return found
