"""The formulas of cost: tokens, accelerator hours, own racks, training; in dollars."""

from dataclasses import dataclass

from slipway.decide.assumptions import Assumptions
from slipway.domain.deployment import CostLine
from slipway.domain.hardware import Hardware
from slipway.domain.model import Price

DAYS_A_MONTH = 365.25 / 12
CHIPS, SERVERS, NETWORK = 0.49, 0.32, 0.19
"""What the hardware of a large training cluster is spent on. Source: Epoch AI 2024, middles of 23-32, 15-22, 9-13 % of
development."""
CHIP_POWER = 0.6
"""Share of a server's power that its accelerators draw. Source: data sheets of eight-way H100 servers."""
CLUSTER_KWH = 0.08
"""Dollars a kilowatt hour at the scale of a training cluster. Source: Epoch AI 2024, industrial rates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """The lines of a month, and what is paid before the first one (its write-off is among the lines)."""

    lines: tuple[CostLine, ...]
    upfront: float = 0.0

    @property
    def monthly(self) -> float:
        return sum(line.monthly for line in self.lines)


def api_cost(
    requests: float,
    input_tokens: float,
    output_tokens: float,
    price: Price,
    *,
    cached_share: float = 0.0,
    tier: float = 1.0,
) -> float:
    """requests x (input x (1 - h) x p_in + input x h x p_cached + output x p_out) x tier; h is the cached share.

    A provider without a price for cached input charges the full one.
    """
    cached = price.input_per_million if price.cached_input_per_million is None else price.cached_input_per_million
    fresh = input_tokens * (1 - cached_share) * price.input_per_million
    a_request = fresh + input_tokens * cached_share * cached + output_tokens * price.output_per_million
    return requests * a_request * tier / 1e6


def device_cost(devices: float, hours: float, hourly: float) -> float:
    """devices x hours x price of one device hour."""
    return devices * hours * hourly


def own_monthly(devices: float, *, watts: float, pue: float, kwh: float, kw_space: float, hours: float) -> float:
    """Energy and space of own devices a month: devices x kW x (PUE x hours x price of a kWh + space per kW)."""
    return devices * watts / 1e3 * (pue * hours * kwh + kw_space)


def own_break_even_hours(capex: float, own_hourly: float, cloud_hourly: float) -> float | None:
    """Hours after which bought hardware has cost less than rented: capex / (cloud - own); None when never."""
    return capex / (cloud_hourly - own_hourly) if cloud_hourly > own_hourly else None


def break_even_per_hour(device_hourly: float, a_request: float) -> float:
    """Requests an hour at which one rented device costs as much as an API."""
    return device_hourly / a_request


def yearly_factor(start: float, end: float, years: float) -> float:
    """By what factor a price falls each year."""
    return float((start / end) ** (1 / years))


def development_shares(hardware: Hardware, purchase: float, given: Assumptions) -> dict[str, float]:
    """Shares of staff, hardware (chips, servers, network) and energy in developing a large model on own machines.

    Hardware is written off over three years of training and drawing power all the time; staff is its share of
    development in published accounts, because no formula gives the number of people. Shares of 1; chips, servers and
    network add up to hardware.
    """
    months = 36
    machines = purchase / CHIPS / months
    energy = own_monthly(
        1, watts=hardware.watts / CHIP_POWER, pue=given.pue, kwh=CLUSTER_KWH, kw_space=0.0, hours=730.5
    )
    equipment = (1 - given.staff_share) * machines / (machines + energy)
    return {
        "staff": given.staff_share,
        "hardware": equipment,
        "energy": (1 - given.staff_share) * energy / (machines + energy),
        "chips": equipment * CHIPS,
        "servers": equipment * SERVERS,
        "network": equipment * NETWORK,
    }
