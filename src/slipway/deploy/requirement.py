"""What a plan is asked for beyond [decide]: a trace, other limits, own racks instead of rented accelerators."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Protocol

from slipway.config.reader import parse_settings
from slipway.config.settings import Settings
from slipway.decide.costs import own_monthly
from slipway.decide.demand import check_demand, read_demand
from slipway.deploy.replicas import check_halves
from slipway.deploy.traffic import Traffic
from slipway.domain.deployment import Demand
from slipway.domain.errors import InputError
from slipway.domain.hardware import Hardware, HardwarePrice
from slipway.models.hardware import Rent, purchase_of, rent_of
from slipway.models.own_prices import NOTHING_OWN, OwnPrices
from slipway.models.sizing import DAY_S, HOURS_A_MONTH
from slipway.workspace import utc_now

PUE, KWH_DOLLARS, KW_SPACE_DOLLARS = 1.3, 0.12, 150.0
"""Power of the building over that of the machines, price of energy, and of space and cooling a kilowatt and month."""
MOST_HEADROOM = 100.0
MACHINE_FACTOR = 1.4
"""A whole machine costs so many times its accelerators. Source: list prices of 8-way machines, 2025."""


class Surroundings(Protocol):
    """What a plan for a model needs of an application; every workspace has it."""

    @property
    def folder(self) -> Path: ...

    @property
    def settings(self) -> Settings: ...

    @property
    def application(self) -> str: ...

    @property
    def now(self) -> Callable[[], datetime]: ...


@dataclass(frozen=True, slots=True)
class NoApplication:
    """A folder without slipway.toml: its own prices and calibration count, all settings are the defaults."""

    folder: Path
    settings: Settings = field(default_factory=lambda: parse_settings({"application": {"name": "unnamed"}}))
    now: Callable[[], datetime] = utc_now

    @property
    def application(self) -> str:
        return self.settings.application.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Limits in milliseconds at the 99th percentile and, with p50, at the median; dollars a month; None leaves what
    [decide] says."""

    trace: Traffic | None = None
    requests_per_day: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    first_token_ms: float | None = None
    token_ms: float | None = None
    end_to_end_ms: float | None = None
    first_token_p50_ms: float | None = None
    token_p50_ms: float | None = None
    end_to_end_p50_ms: float | None = None
    monthly_budget: float | None = None
    own_racks: bool = False
    region: str = ""
    headroom: float = 0.0
    """Share by which more requests a second are planned for than the trace or [decide] says."""

    @property
    def traffic(self) -> Traffic | None:
        """The trace with the headroom."""
        if self.trace is None or not self.headroom:
            return self.trace
        return self.trace.at_rate(self.trace.per_second * (1 + self.headroom))

    def demand(self, workspace: Surroundings) -> Demand:
        """The demand to plan for. Raises `RequirementMissing`, `RequirementContradiction`, `InputError`."""
        if self.own_racks and self.region:
            raise InputError("Own racks stand in no cloud region. Give own racks or a region, not both.")
        settings = workspace.settings.decide
        given = {
            "requests_per_day": self.requests_per_day,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "first_token_ms": self.first_token_ms,
            "token_ms": self.token_ms,
            "end_to_end_ms": self.end_to_end_ms,
            "first_token_p50_ms": self.first_token_p50_ms,
            "token_p50_ms": self.token_p50_ms,
            "end_to_end_p50_ms": self.end_to_end_p50_ms,
            "monthly_budget": self.monthly_budget,
        }
        for name, value in given.items():
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name} = {value:g} makes no sense. Give a number above 0.")
        check_headroom(self.headroom)
        changes = {name: value for name, value in given.items() if value is not None}
        traffic = self.traffic
        if traffic is not None:
            if len(traffic) < 2:
                raise InputError("A trace of one request shows no rate. Give one of a day, better of a week.")
            longest = int((traffic.input_tokens + traffic.output_tokens).max())
            demand = Demand(
                requests_per_day=traffic.per_second * DAY_S,
                input_tokens=float(traffic.input_tokens.mean()),
                output_tokens=float(traffic.output_tokens.mean()),
                # The trace holds its own bursts.
                peak_factor=1.0,
                first_token_ms=settings.first_token_ms,
                end_to_end_ms=settings.end_to_end_ms,
                context_tokens=longest,
                monthly_budget=settings.monthly_budget,
                horizon_months=settings.horizon_months,
            )
        elif {"requests_per_day", "input_tokens", "output_tokens"} <= set(changes):
            demand = Demand(
                requests_per_day=changes["requests_per_day"],
                input_tokens=changes["input_tokens"],
                output_tokens=changes["output_tokens"],
                peak_factor=settings.peak_factor,
                first_token_ms=settings.first_token_ms,
                end_to_end_ms=settings.end_to_end_ms,
                context_tokens=max(
                    settings.context_tokens, ceil(changes["input_tokens"]) + ceil(changes["output_tokens"])
                ),
                monthly_budget=settings.monthly_budget,
                horizon_months=settings.horizon_months,
            )
        else:
            demand = read_demand(settings)
        demand = replace(demand, **changes)  # type: ignore[arg-type]
        if traffic is None:
            demand = replace(demand, requests_per_day=demand.requests_per_day * (1 + self.headroom))
        check_halves(
            {name: getattr(demand, name) for name in ("first_token_ms", "token_ms", "end_to_end_ms")},
            {name: getattr(demand, name) for name in ("first_token_p50_ms", "token_p50_ms", "end_to_end_p50_ms")},
        )
        check_demand(demand, api_models=settings.api_models or ["any"], open_models=settings.open_models or ["any"])
        return demand

    def rent(
        self,
        hardware: Hardware,
        own_hourly: float | None,
        demand: Demand,
        *,
        own: OwnPrices = NOTHING_OWN,
        region: str = "",
    ) -> Rent | None:
        """Dollars an hour of one accelerator, rented or written off over the horizon; None without any price.

        Rented: the own price of the region, else `own_hourly`, else the own price of any region, else published ones.
        """
        mine = own.hardware.get(hardware.name)
        if not self.own_racks:
            here = region_hourly(own, hardware.name, region)
            if mine is not None and here is not None:
                source = f"{own.file}: {mine.source}, {region}"
                return Rent(hourly=here, low=here, high=here, source=source, as_of=mine.as_of)
            if own_hourly is None and mine is not None and mine.on_demand is not None:
                fixed, source = mine.on_demand, f"{own.file}: {mine.source}"
                return Rent(hourly=fixed, low=fixed, high=fixed, source=source, as_of=mine.as_of)
            return rent_of(hardware.name, own_hourly=own_hourly)
        bought = purchase_of(hardware.name)
        if mine is not None and mine.purchase is not None:
            bought = HardwarePrice(
                hardware=hardware.name, seller=own.file, purchase=mine.purchase, as_of=mine.as_of, source=mine.source
            )
        if bought is None or bought.purchase is None:
            return None
        written_off = bought.purchase * MACHINE_FACTOR / demand.horizon_months
        running = own_monthly(
            1, watts=hardware.watts, pue=PUE, kwh=KWH_DOLLARS, kw_space=KW_SPACE_DOLLARS, hours=HOURS_A_MONTH
        )
        hourly = (written_off + running) / HOURS_A_MONTH
        over = f"{MACHINE_FACTOR:g} over {demand.horizon_months} months"
        source = f"bought for ${bought.purchase:,.0f} x {over}; {bought.source}"
        return Rent(hourly=hourly, low=hourly, high=hourly, source=source, as_of=bought.as_of)


def check_headroom(headroom: float) -> None:
    """Raises `InputError` for a headroom that makes no sense."""
    if not 0 <= headroom <= MOST_HEADROOM:
        raise InputError(f"A headroom of {headroom:g} makes no sense. Give a share of the rate, such as 0.3 for 30 %.")


def region_hourly(own: OwnPrices, hardware: str, region: str) -> float | None:
    """One's own price of an hour in that region; None where it is not known. Names are compared without case."""
    mine = own.hardware.get(hardware)
    if mine is None or not region:
        return None
    return next((price for name, price in mine.regions.items() if name.lower() == region.lower()), None)
