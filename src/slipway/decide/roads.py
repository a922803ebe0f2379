"""The roads an application can take, each able to write its bill for any volume."""

from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from typing import Protocol

from slipway.decide.assumptions import Assumptions
from slipway.decide.costs import DAYS_A_MONTH, Bill, device_cost, own_monthly
from slipway.domain.architecture import Architecture
from slipway.domain.deployment import CostLine, Demand, Road
from slipway.domain.hardware import HardwarePrice
from slipway.domain.model import Price
from slipway.models.hardware import Rent, find_hardware
from slipway.models.sizing import HOURS_A_MONTH, Load, Replica, list_replicas, peak_per_second
from slipway.models.training import reached_share, training_flop, training_hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a bill is written on: the rent of a device hour, the assumptions, the horizon in months."""

    hourly: float
    assumptions: Assumptions
    horizon_months: int


class Candidate(Protocol):
    """One road with one model. `bill` may be asked for any demand that is not rejected."""

    @property
    def road(self) -> Road: ...
    @property
    def name(self) -> str: ...
    @property
    def model(self) -> str: ...

    def bill(self, demand: Demand, basis: Basis) -> Bill: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A commercial model, paid by the token."""

    model: str
    provider: str
    price: Price
    context: int | None
    road: Road = "api"

    @property
    def name(self) -> str:
        return f"{self.model} by API"

    def bill(self, demand: Demand, basis: Basis) -> Bill:
        requests = demand.requests_per_day * DAYS_A_MONTH
        source = f"{self.price.source}, {self.price.as_of}"
        cached_price = self.price.cached_input_per_million
        cached = demand.cached_share if cached_price is not None else 0.0
        lines = [
            CostLine(
                name="Input tokens",
                monthly=requests * demand.input_tokens * (1 - cached) * self.price.input_per_million / 1e6,
                formula=f"{requests:,.0f} requests x {demand.input_tokens:,.0f} tokens x {1 - cached:.0%} fresh x "
                f"${self.price.input_per_million:g} a million",
                source=source,
            ),
            CostLine(
                name="Output tokens",
                monthly=requests * demand.output_tokens * self.price.output_per_million / 1e6,
                formula=f"{requests:,.0f} requests x {demand.output_tokens:,.0f} tokens x "
                f"${self.price.output_per_million:g} a million",
                source=source,
            ),
        ]
        if cached and cached_price is not None:
            lines.insert(
                1,
                CostLine(
                    name="Cached input tokens",
                    monthly=requests * demand.input_tokens * cached * cached_price / 1e6,
                    formula=f"{requests:,.0f} requests x {demand.input_tokens:,.0f} tokens x {cached:.0%} cached x "
                    f"${cached_price:g} a million",
                    source=source,
                ),
            )
        return Bill(lines=(*lines, _people(basis.assumptions.people_api, basis.assumptions)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """An open model on rented accelerators that run day and night."""

    shape: Architecture
    hardware: str
    rent: Rent
    road: Road = "open"

    @property
    def model(self) -> str:
        return self.shape.name

    @property
    def name(self) -> str:
        return f"{self.shape.name} on rented {self.hardware}"

    def bill(self, demand: Demand, basis: Basis) -> Bill:
        replica, count = cheapest_replica(self.shape, self.hardware, demand, basis.assumptions.safe)
        return Bill(
            lines=(
                _rented(replica, count, self.rent, basis.hourly),
                _people(basis.assumptions.people_hosting, basis.assumptions),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """An open model on accelerators that we buy and run ourselves."""

    shape: Architecture
    hardware: str
    purchase: HardwarePrice
    road: Road = "open"

    @property
    def model(self) -> str:
        return self.shape.name

    @property
    def name(self) -> str:
        return f"{self.shape.name} on own {self.hardware}"

    def bill(self, demand: Demand, basis: Basis) -> Bill:
        given = basis.assumptions
        replica, count = cheapest_replica(self.shape, self.hardware, demand, given.safe)
        devices = count * replica.devices
        price = self.purchase.purchase or 0.0
        capex = devices * price * given.rack_factor
        watts = replica.hardware.watts
        return Bill(
            lines=(
                CostLine(
                    name="Machines, written off",
                    monthly=capex / basis.horizon_months,
                    formula=f"{devices} {self.hardware} x ${price:,.0f} x {given.rack_factor:g} for the server / "
                    f"{basis.horizon_months} months",
                    source=f"{self.purchase.seller}, {self.purchase.source}, {self.purchase.as_of}",
                ),
                CostLine(
                    name="Energy and space",
                    monthly=own_monthly(
                        devices,
                        watts=watts,
                        pue=given.pue,
                        kwh=given.kwh,
                        kw_space=given.kw_space,
                        hours=HOURS_A_MONTH,
                    ),
                    formula=f"{devices} x {watts / 1e3:g} kW x ({given.pue:g} x {HOURS_A_MONTH:g} h x ${given.kwh:g} + "
                    f"${given.kw_space:g})",
                    source="estimate",
                ),
                _people(given.people_hosting + given.people_own, given),
            ),
            upfront=capex,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A model of our own, trained from scratch in the shape of an open one, then hosted on rented accelerators."""

    shape: Architecture
    hardware: str
    rent: Rent
    road: Road = "build"

    @property
    def model(self) -> str:
        return f"own model in the shape of {self.shape.name}"

    @property
    def name(self) -> str:
        return f"own {self.shape.name}-sized model"

    def bill(self, demand: Demand, basis: Basis) -> Bill:
        given = basis.assumptions
        hardware = find_hardware(self.hardware)
        tokens = given.tokens_per_parameter * self.shape.parameters
        hours = training_hours(training_flop(self.shape.active_parameters, tokens), hardware)
        runs = device_cost(1, hours * given.experiments, basis.hourly)
        speed = f"{reached_share(hardware):.0%} of {hardware.tflops['bf16']:g} teraflops"
        staff = given.builders * given.build_months * given.engineer_monthly
        replica, count = cheapest_replica(self.shape, self.hardware, demand, given.safe)
        return Bill(
            lines=(
                CostLine(
                    name="Training, written off",
                    monthly=runs / basis.horizon_months,
                    formula=f"6 x {self.shape.active_parameters / 1e9:.3g}e9 parameters x "
                    f"{tokens / 1e9:,.0f}e9 tokens / ({speed}) = {hours:,.0f} h x "
                    f"{given.experiments:g} for experiments x ${basis.hourly:.2f} / {basis.horizon_months} months",
                    source=f"6ND; share reached over 40 published runs; {_rent_source(self.rent)}",
                ),
                CostLine(
                    name="Team that builds, written off",
                    monthly=staff / basis.horizon_months,
                    formula=f"{given.builders:g} people x {given.build_months:g} months x "
                    f"${given.engineer_monthly:,.0f} / {basis.horizon_months} months",
                    source="estimate",
                ),
                _rented(replica, count, self.rent, basis.hourly),
                _people(given.people_hosting, given),
            ),
            upfront=runs + staff,
        )


def cheapest_replica(shape: Architecture, hardware: str, demand: Demand, safe: float) -> tuple[Replica, int]:
    """The way to run a model that needs the fewest devices for that demand, and how many copies of it.

    Raises `LookupError` when none fits; `sized` says why.
    """
    peak = peak_per_second(demand)
    fitting = [one for one in sized(shape, hardware, demand) if not one.rejected]
    if not fitting:
        raise LookupError(f"{shape.name} does not fit {hardware}")
    best = min(fitting, key=lambda one: (one.devices * one.replicas(peak, safe=safe), one.devices))
    return best, best.replicas(peak, safe=safe)


def sized(shape: Architecture, hardware: str, demand: Demand) -> tuple[Replica, ...]:
    """Every way to run a model on that hardware for requests of these lengths and limits, whatever their number."""
    return _sized(shape, hardware, Load.of(demand))


@lru_cache(maxsize=256)
def _sized(shape: Architecture, hardware: str, load: Load) -> tuple[Replica, ...]:
    return tuple(list_replicas(shape, find_hardware(hardware), load))


def horizon_total(candidate: Candidate, demand: Demand, basis: Basis) -> float:
    """Dollars over the whole horizon while traffic grows: the sum of its monthly bills."""
    return sum(
        candidate.bill(
            replace(demand, requests_per_day=demand.requests_per_day * float(demand.growth_per_year ** (month / 12))),
            basis,
        ).monthly
        for month in range(basis.horizon_months)
    )


def stale(as_of: date | None, today: date, *, months: int = 6) -> bool:
    """Whether a price is older than so many months."""
    return as_of is not None and (today - as_of).days > months * DAYS_A_MONTH


def _rented(replica: Replica, count: int, rent: Rent, hourly: float) -> CostLine:
    copies = "1 replica" if count == 1 else f"{count} replicas"
    return CostLine(
        name="Accelerator hours",
        monthly=device_cost(count * replica.devices, HOURS_A_MONTH, hourly),
        formula=f"{copies} x {replica.devices} {replica.hardware.name} ({replica.precision}) x ${hourly:.2f} x "
        f"{HOURS_A_MONTH:g} h",
        source=_rent_source(rent),
    )


def _rent_source(rent: Rent) -> str:
    return rent.source if rent.as_of is None else f"{rent.source}, {rent.as_of}"


def _people(share: float, given: Assumptions) -> CostLine:
    return CostLine(
        name="People",
        monthly=share * given.engineer_monthly,
        formula=f"{share:g} engineers x ${given.engineer_monthly:,.0f}",
        source="estimate; [decide] engineer_monthly",
    )
