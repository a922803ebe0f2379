"""Accelerators to choose from and what an hour of them costs, with source and date."""

from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from statistics import median

import msgspec

from slipway.domain.errors import NotFound
from slipway.domain.hardware import Hardware, HardwarePrice


@dataclass(frozen=True, slots=True, kw_only=True)
class Rent:
    """Dollars for one hour of one accelerator, with the range in which sellers ask for it on the same day."""

    hourly: float
    low: float
    high: float
    source: str
    as_of: date | None
    """None for a price that the user gave."""


@cache
def list_hardware() -> tuple[Hardware, ...]:
    """Every accelerator of the catalogue."""
    return tuple(msgspec.json.decode(_data("hardware.json"), type=list[Hardware]))


@cache
def list_prices() -> tuple[HardwarePrice, ...]:
    """Published rents and purchase prices. Few and dated: an own price is always better."""
    return tuple(msgspec.json.decode(_data("hardware_prices.json"), type=list[HardwarePrice]))


def find_hardware(name: str) -> Hardware:
    """An accelerator by its catalogue name. Raises `NotFound`, with a suggestion."""
    known = {one.name: one for one in list_hardware()}
    try:
        return known[name.lower()]
    except KeyError:
        raise NotFound("hardware", name, known=list(known), next_step="List it: slipway deploy hardware.") from None


def rent_of(hardware: str, *, own_hourly: float | None = None) -> Rent | None:
    """What an hour on demand costs: the user's own price, else the median of the published ones; None without any.

    An own price is certain, so its range is itself.
    """
    if own_hourly is not None:
        return Rent(hourly=own_hourly, low=own_hourly, high=own_hourly, source="[decide] gpu_hourly", as_of=None)
    listed = [one for one in list_prices() if one.hardware == hardware and one.on_demand is not None]
    if not listed:
        return None
    asked = sorted(one.on_demand or 0.0 for one in listed)
    sellers = ", ".join(sorted(one.seller for one in listed))
    return Rent(
        hourly=median(asked),
        low=asked[0],
        high=asked[-1],
        source=f"median of {len(listed)} on-demand list prices ({sellers}); {listed[0].source}",
        as_of=min(one.as_of for one in listed),
    )


def purchase_of(hardware: str) -> HardwarePrice | None:
    """What buying one costs, by the newest published price."""
    bought = [one for one in list_prices() if one.hardware == hardware and one.purchase is not None]
    return max(bought, key=lambda one: one.as_of, default=None)


def _data(name: str) -> bytes:
    return files("slipway.models").joinpath("data", name).read_bytes()
