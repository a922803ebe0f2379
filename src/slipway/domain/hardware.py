"""Accelerators: what the data sheet promises, what share of it programs get, and what an hour costs."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from slipway.domain.deployment import Origin

Precision = Literal["bf16", "fp8", "int4"]
"""How weights are stored: 2 bytes, 1 byte, half a byte with its scales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Share of the data sheet that kernels reach at one precision, their launches apart."""

    bandwidth: float
    """Streaming weights from memory."""
    compute: float
    """Large matrix products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """One accelerator. Bandwidths are gigabytes (1e9) a second, `tflops` dense teraflops by precision."""

    name: str
    memory_gib: float
    bandwidth_gb_s: float
    tflops: dict[str, float]
    link_gb_s: float
    """To the other accelerators of one machine, one way."""
    devices_per_node: int
    watts: float
    efficiency: dict[str, Efficiency]
    origin: Origin = "estimated"
    """Calibrated where kernels were timed on it, so that its efficiencies are its own."""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwarePrice:
    """A published price of one accelerator: rent in dollars an hour, or purchase in dollars."""

    hardware: str
    seller: str
    on_demand: float | None = None
    one_year: float | None = None
    three_years: float | None = None
    purchase: float | None = None
    as_of: date
    source: str
