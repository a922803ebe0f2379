"""The roads an application can take, each able to write its bill for any volume."""

from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from typing import Literal, Protocol

from slipway.decide.assumptions import Assumptions
from slipway.decide.costs import DAYS_A_MONTH, Bill, api_cost, device_cost, own_monthly
from slipway.decide.serving import list_ways, origin_of_way
from slipway.decide.terms import RoadTerms, Terms, one_future, total_costs
from slipway.domain.architecture import Architecture
from slipway.domain.deployment import CostLine, Demand, Origin, Road
from slipway.domain.hardware import HardwarePrice
from slipway.domain.model import Price
from slipway.models.calibrations import Calibration
from slipway.models.hardware import Rent, find_hardware
from slipway.models.sizing import DAY_S, HOURS_A_MONTH, Load, Replica, peak_per_second
from slipway.models.training import pretraining_hours, reached_share, training_flop, training_hours


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
    def terms(self, demand: Demand, basis: Basis) -> RoadTerms: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A commercial model, paid by the token."""

    model: str
    provider: str
    price: Price
    context: int | None
    batch: float | None = None
    """Price of the batch interface over the normal one; None without such an interface."""
    flags: tuple[str, ...] = ()
    road: Road = "api"

    @property
    def name(self) -> str:
        return f"{self.model} by API"

    def bill(self, demand: Demand, basis: Basis) -> Bill:
        requests = demand.requests_per_day * DAYS_A_MONTH
        source = f"{self.price.source}, {self.price.as_of}"
        cached_price = self.price.cached_input_per_million
        cached = demand.cached_share if cached_price is not None else 0.0
        tier = self._tier(demand)
        # Tokens that were counted times a published price: nothing in it is estimated.
        origin: Origin = "measured" if demand.traffic is not None and not demand.traffic.split_assumed else "estimated"
        waits = f" x {tier:g} ({demand.batch_share:.0%} at the batch price)" if tier != 1 else ""
        lines = [
            CostLine(
                name="Input tokens",
                monthly=requests * demand.input_tokens * (1 - cached) * self.price.input_per_million * tier / 1e6,
                formula=f"{requests:,.0f} requests x {demand.input_tokens:,.0f} tokens x {1 - cached:.0%} fresh x "
                f"${self.price.input_per_million:g} a million{waits}",
                source=source,
                origin=origin,
            ),
            CostLine(
                name="Output tokens",
                monthly=requests * demand.output_tokens * self.price.output_per_million * tier / 1e6,
                formula=f"{requests:,.0f} requests x {demand.output_tokens:,.0f} tokens x "
                f"${self.price.output_per_million:g} a million{waits}",
                source=source,
                origin=origin,
            ),
        ]
        if cached and cached_price is not None:
            lines.insert(
                1,
                CostLine(
                    name="Cached input tokens",
                    monthly=requests * demand.input_tokens * cached * cached_price * tier / 1e6,
                    formula=f"{requests:,.0f} requests x {demand.input_tokens:,.0f} tokens x {cached:.0%} cached x "
                    f"${cached_price:g} a million{waits}",
                    source=source,
                    origin=origin,
                ),
            )
        people = people_line(basis.assumptions.people_api, basis.assumptions)
        return Bill(lines=(*lines, self.evaluation_line(demand, basis), people))

    def evaluation_line(self, demand: Demand, basis: Basis) -> CostLine:
        """What evaluations send besides the users; on own machines they run in idle hours."""
        sent, each = basis.assumptions.evaluation_requests, self._a_request(demand)
        return CostLine(
            name="Evaluation",
            monthly=sent * each,
            formula=f"{sent:,.0f} requests x ${each:.3g}",
            source="estimate: a suite of 500 questions, ten times a month",
        )

    def terms(self, demand: Demand, basis: Basis) -> Terms:
        return Terms(
            per_request=self._a_request(demand),
            other_requests=basis.assumptions.evaluation_requests,
            people=basis.assumptions.people_api,
        )

    def _a_request(self, demand: Demand) -> float:
        """Dollars of one mean request."""
        tier, cached = self._tier(demand), demand.cached_share
        return api_cost(1, demand.input_tokens, demand.output_tokens, self.price, cached_share=cached, tier=tier)

    def _tier(self, demand: Demand) -> float:
        return 1.0 if self.batch is None else 1 - demand.batch_share * (1 - self.batch)


Commitment = Literal["on demand", "reserved", "spot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """An open model on rented accelerators: day and night, or as many as each hour needs.

    `reserved` is the agreed hour of a commitment over the horizon, or one's own price of a spot hour. Spot hours can
    end at any time, so they serve only requests that may wait.
    """

    shape: Architecture
    hardware: str
    rent: Rent
    commitment: Commitment = "on demand"
    reserved: Rent | None = None
    scaled: bool = False
    calibration: Calibration | None = field(default=None, compare=False, repr=False)
    road: Road = "open"

    @property
    def model(self) -> str:
        return self.shape.name

    @property
    def name(self) -> str:
        how = {"on demand": "rented", "reserved": "reserved", "spot": "spot"}[self.commitment]
        return f"{self.shape.name} on {how} {self.hardware}{', scaled by the hour' if self.scaled else ''}"

    def bill(self, demand: Demand, basis: Basis) -> Bill:
        demand = self._spread(demand)
        replica, count = cheapest_replica(self.shape, self.hardware, demand, basis.assumptions.safe, self.calibration)
        hourly, rent = self.agreed_hourly(basis)
        copies: float = count
        hours = by_hour(demand) if self.scaled else ()
        if hours:
            inside = max(1.0, demand.peak_factor / max(hours))
            rate = demand.requests_per_day / DAY_S
            each = [replica.replicas(rate * level * inside, safe=basis.assumptions.safe) for level in hours]
            copies = sum(each) / len(each)
        tuning, upfront = tuning_lines(self.shape, self.hardware, demand, basis)
        machines = rented_line(replica, copies, rent, hourly)
        return Bill(
            lines=(*tuning, machines, people_line(basis.assumptions.people_hosting, basis.assumptions)), upfront=upfront
        )

    def terms(self, demand: Demand, basis: Basis) -> Terms:
        demand = self._spread(demand)
        replica, _ = cheapest_replica(self.shape, self.hardware, demand, basis.assumptions.safe, self.calibration)
        tuning = _tuning_compute(self.shape, self.hardware, demand, basis)
        return Terms(
            devices=replica.devices,
            per_replica=replica.requests_per_second,
            hourly=self.agreed_hourly(basis)[0],
            rent_moves=self.commitment != "reserved",
            peak_factor=demand.peak_factor,
            by_hour=by_hour(demand) if self.scaled else (),
            people=basis.assumptions.people_hosting,
            upfront=demand.data_cost if demand.tuning_tokens else 0.0,
            upfront_compute=tuning,
        )

    def agreed_hourly(self, basis: Basis) -> tuple[float, Rent]:
        if self.commitment != "on demand" and self.reserved is not None:
            return self.reserved.hourly, self.reserved
        if self.commitment == "spot":
            return basis.hourly * basis.assumptions.spot_share, self.rent
        return basis.hourly, self.rent

    def _spread(self, demand: Demand) -> Demand:
        """What may wait a day needs no machines for the busiest minute."""
        return replace(demand, peak_factor=1.0) if self.commitment == "spot" else demand


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """An open model on accelerators that we buy and run ourselves."""

    shape: Architecture
    hardware: str
    purchase: HardwarePrice
    calibration: Calibration | None = field(default=None, compare=False, repr=False)
    road: Road = "open"

    @property
    def model(self) -> str:
        return self.shape.name

    @property
    def name(self) -> str:
        return f"{self.shape.name} on own {self.hardware}"

    def bill(self, demand: Demand, basis: Basis) -> Bill:
        given = basis.assumptions
        replica, count = cheapest_replica(self.shape, self.hardware, demand, given.safe, self.calibration)
        devices = count * replica.devices
        price = self.purchase.purchase or 0.0
        capex = devices * price * given.rack_factor
        watts = replica.hardware.watts
        tuning, upfront = tuning_lines(self.shape, self.hardware, demand, basis)
        return Bill(
            lines=(
                *tuning,
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
                people_line(given.people_hosting + given.people_own, given),
            ),
            upfront=capex + upfront,
        )

    def terms(self, demand: Demand, basis: Basis) -> Terms:
        given = basis.assumptions
        replica, _ = cheapest_replica(self.shape, self.hardware, demand, given.safe, self.calibration)
        running = own_monthly(
            1,
            watts=replica.hardware.watts,
            pue=given.pue,
            kwh=given.kwh,
            kw_space=given.kw_space,
            hours=HOURS_A_MONTH,
        )
        return Terms(
            devices=replica.devices,
            per_replica=replica.requests_per_second,
            rent_moves=False,
            running=running / HOURS_A_MONTH,
            capex=(self.purchase.purchase or 0.0) * given.rack_factor,
            peak_factor=demand.peak_factor,
            people=given.people_hosting + given.people_own,
            upfront=demand.data_cost if demand.tuning_tokens else 0.0,
            upfront_compute=_tuning_compute(self.shape, self.hardware, demand, basis),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A model of our own, trained from scratch in the shape of an open one, then hosted on rented accelerators."""

    shape: Architecture
    hardware: str
    rent: Rent
    calibration: Calibration | None = field(default=None, compare=False, repr=False)
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
        hours = pretraining_hours(self.shape.active_parameters, tokens, hardware)
        runs = device_cost(1, hours * given.experiments, basis.hourly)
        share = reached_share(hardware, active_parameters=self.shape.active_parameters)
        speed = f"{share:.0%} of {hardware.tflops['bf16']:g} teraflops"
        staff, staff_formula = self._staff(runs, given)
        replica, count = cheapest_replica(self.shape, self.hardware, demand, given.safe, self.calibration)
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
                    formula=f"{staff_formula} / {basis.horizon_months} months",
                    source="estimate; staff is 29-49 % of development (Epoch AI 2024)",
                ),
                *_data(demand, basis),
                rented_line(replica, count, self.rent, basis.hourly),
                people_line(given.people_hosting, given),
            ),
            upfront=runs + staff + demand.data_cost,
        )

    def terms(self, demand: Demand, basis: Basis) -> Terms:
        given = basis.assumptions
        replica, _ = cheapest_replica(self.shape, self.hardware, demand, given.safe, self.calibration)
        tokens = given.tokens_per_parameter * self.shape.parameters
        hours = pretraining_hours(self.shape.active_parameters, tokens, find_hardware(self.hardware))
        runs = device_cost(1, hours * given.experiments, basis.hourly)
        return Terms(
            devices=replica.devices,
            per_replica=replica.requests_per_second,
            hourly=basis.hourly,
            peak_factor=demand.peak_factor,
            people=given.people_hosting,
            upfront=demand.data_cost,
            upfront_compute=runs,
            upfront_staff=self._staff(runs, given)[0],
        )

    def _staff(self, runs: float, given: Assumptions) -> tuple[float, str]:
        """The team that is stated, or the share of development that staff has in large projects, if that is more."""
        team = given.builders * given.build_months * given.engineer_monthly
        share = given.staff_share / (1 - given.staff_share) * runs
        if share > team and given.engineer_monthly:
            return share, f"{given.staff_share:.0%} of development: ${runs:,.0f} of runs x {share / runs:.2f}"
        return team, f"{given.builders:g} people x {given.build_months:g} months x ${given.engineer_monthly:,.0f}"


def cheapest_replica(
    shape: Architecture, hardware: str, demand: Demand, safe: float, calibration: Calibration | None = None
) -> tuple[Replica, int]:
    """The way to run a model that needs the fewest devices for that demand, and how many copies of it.

    Raises `LookupError` when none fits; `sized` says why.
    """
    peak = peak_per_second(demand)
    fitting = [one for one in sized(shape, hardware, demand, calibration) if not one.rejected]
    if not fitting:
        raise LookupError(f"{shape.name} does not fit {hardware}")
    best = min(fitting, key=lambda one: (one.devices * one.replicas(peak, safe=safe), one.devices))
    return best, best.replicas(peak, safe=safe)


def sized(
    shape: Architecture, hardware: str, demand: Demand, calibration: Calibration | None = None
) -> tuple[Replica, ...]:
    """Every way to run a model on that hardware for requests of these lengths and limits, whatever their number."""
    return _sized(shape, hardware, Load.of(demand), calibration)


@lru_cache(maxsize=256)
def _sized(shape: Architecture, hardware: str, load: Load, calibration: Calibration | None) -> tuple[Replica, ...]:
    return tuple(list_ways(shape, find_hardware(hardware), load, calibration))


def levels(demand: Demand) -> tuple[float, ...]:
    """Rates of minutes over the mean: those of the trace, else p x q^(p - 1) at share q of time, whose mean is 1 and
    whose highest is the peak factor p."""
    if demand.traffic is not None and demand.traffic.levels:
        return demand.traffic.levels
    peak = demand.peak_factor
    return tuple(peak * (step / 100) ** (peak - 1) for step in range(101))


def levels_source(demand: Demand) -> str:
    if demand.traffic is not None and demand.traffic.levels:
        return f"minutes of {demand.traffic.source}"
    return "a day's shape assumed from peak_factor"


def by_hour(demand: Demand) -> tuple[float, ...]:
    return demand.traffic.by_hour if demand.traffic is not None else ()


def horizon_total(candidate: Candidate, demand: Demand, basis: Basis) -> float:
    """Dollars over the whole horizon while traffic grows and prices fall as assumed."""
    future = one_future(demand, basis.assumptions)
    terms = candidate.terms(demand, basis)
    return float(total_costs(terms, demand, future, basis.assumptions, basis.horizon_months)[0])


def stale(as_of: date | None, today: date, *, months: int = 6) -> bool:
    """Whether a price is older than so many months."""
    return as_of is not None and (today - as_of).days > months * DAYS_A_MONTH


def rented_line(replica: Replica, count: float, rent: Rent, hourly: float) -> CostLine:
    copies = "1 replica" if count == 1 else f"{count:.4g} replicas"
    return CostLine(
        name="Accelerator hours",
        monthly=device_cost(count * replica.devices, HOURS_A_MONTH, hourly),
        formula=f"{copies} x {replica.devices} {replica.hardware.name} ({replica.precision}) x ${hourly:.2f} x "
        f"{HOURS_A_MONTH:g} h",
        source=_rent_source(rent),
        origin=origin_of_way(replica),
    )


def _rent_source(rent: Rent) -> str:
    return rent.source if rent.as_of is None else f"{rent.source}, {rent.as_of}"


def people_line(share: float, given: Assumptions) -> CostLine:
    return CostLine(
        name="People",
        monthly=share * given.engineer_monthly,
        formula=f"{share:g} engineers x ${given.engineer_monthly:,.0f}",
        source="estimate; [decide] engineer_monthly",
    )


def _tuning_compute(shape: Architecture, hardware: str, demand: Demand, basis: Basis) -> float:
    """Dollars of accelerator hours for tuning an adapter, experiments included; 0 where nothing is tuned."""
    if not demand.tuning_tokens:
        return 0.0
    flop = training_flop(shape.active_parameters, demand.tuning_tokens, frozen=shape.active_parameters)
    hours = training_hours(flop, find_hardware(hardware))
    return device_cost(1, hours * basis.assumptions.experiments, basis.hourly)


def tuning_lines(
    shape: Architecture, hardware: str, demand: Demand, basis: Basis
) -> tuple[tuple[CostLine, ...], float]:
    """The lines of fine-tuning and its data, written off, and what is paid upfront for them."""
    if not demand.tuning_tokens:
        return (), 0.0
    compute = _tuning_compute(shape, hardware, demand, basis)
    line = CostLine(
        name="Fine-tuning, written off",
        monthly=compute / basis.horizon_months,
        formula=f"4 x {shape.active_parameters / 1e9:.3g}e9 parameters x {demand.tuning_tokens:,.0f} tokens / "
        f"({reached_share(find_hardware(hardware)):.0%} of peak) x {basis.assumptions.experiments:g} for experiments "
        f"x ${basis.hourly:.2f} / {basis.horizon_months} months",
        source="4ND for an adapter (frozen weights get no gradient); share reached over published runs",
    )
    return (line, *_data(demand, basis)), compute + demand.data_cost


def _data(demand: Demand, basis: Basis) -> tuple[CostLine, ...]:
    if not demand.data_cost:
        return ()
    return (
        CostLine(
            name="Data, written off",
            monthly=demand.data_cost / basis.horizon_months,
            formula=f"${demand.data_cost:,.0f} / {basis.horizon_months} months",
            source="[decide] data_cost",
        ),
    )
