"""What a road costs as plain numbers, so that thousands of futures are computed at once."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slipway.decide.assumptions import Assumptions
from slipway.decide.costs import DAYS_A_MONTH
from slipway.domain.deployment import Demand
from slipway.models.sizing import DAY_S, HOURS_A_MONTH

Numbers = NDArray[np.float64]
BASE_SHARES = (0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of the machines for the busiest minute with which a mixed road is tried; the cheapest counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The cost terms of one road, in dollars. Machines are counted by the busiest minute, or by the hour if `by_hour`.

    `per_replica` are requests a second at full load; `hourly` is the rent of a device, `running` energy and space of an
    own one an hour, `capex` its purchase. `upfront` is paid before the first month; `upfront_compute` and
    `upfront_staff` are the parts of it that the price of an hour and the cost of people move.
    """

    per_request: float = 0.0
    other_requests: float = 0.0
    """Requests a month besides those of users: evaluations."""
    devices: int = 0
    per_replica: float = 0.0
    hourly: float = 0.0
    rent_moves: bool = True
    """False for a reserved hour, whose price is agreed."""
    running: float = 0.0
    capex: float = 0.0
    peak_factor: float = 1.0
    by_hour: tuple[float, ...] = ()
    people: float = 0.0
    """Engineers."""
    upfront: float = 0.0
    upfront_compute: float = 0.0
    upfront_staff: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Two roads at once: machines carry the base, the API what is over it. `levels`: rates of minutes over the mean."""

    api: Terms
    hosted: Terms
    levels: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Two roads one after the other: the API until hosting costs less for good, then machines; moving costs once."""

    api: Terms
    hosted: Terms
    moving_months: float
    """Months of the people who host, before the machines take over."""


RoadTerms = Terms | Mix | Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Futures:
    """Many futures: each field is an array over them. Factors multiply what is stated today."""

    volume: Numbers
    growth: Numbers
    """Traffic a year later over now."""
    api_price: Numbers
    api_fall: Numbers
    rent: Numbers
    rent_fall: Numbers
    safe: Numbers
    throughput: Numbers
    staff: Numbers
    training: Numbers

    @property
    def count(self) -> int:
        return len(self.volume)


def one_future(demand: Demand, given: Assumptions) -> Futures:
    """The central future: everything as stated, prices falling as assumed."""
    return Futures(
        volume=np.ones(1),
        growth=np.array([demand.growth_per_year]),
        api_price=np.ones(1),
        api_fall=np.array([given.api_fall]),
        rent=np.ones(1),
        rent_fall=np.array([given.rent_fall]),
        safe=np.array([given.safe]),
        throughput=np.ones(1),
        staff=np.ones(1),
        training=np.ones(1),
    )


def vary(futures: Futures, name: str, factors: Sequence[float] | Numbers) -> Futures:
    """The single future of `futures`, repeated with one field times each factor."""
    values: dict[str, Any] = {
        field.name: np.repeat(getattr(futures, field.name), len(factors)) for field in fields(Futures)
    }
    values[name] = values[name] * np.asarray(factors)
    return Futures(**values)


def monthly_costs(road: RoadTerms, demand: Demand, futures: Futures, given: Assumptions, months: int) -> Numbers:
    """Dollars of each month in each future, shape (futures, months); what is paid upfront stands in the first one.

    Month m asks for requests a day x volume x growth ^ (m / 12). Tokens cost less by api_fall ^ (m / 12), rents by
    (1 - rent_fall) ^ (m / 12).
    """
    match road:
        case Terms():
            return _costs(road, demand, futures, given, months)
        case Mix():
            return _mixed(road, demand, futures, given, months)
        case Phase():
            return _phased(road, demand, futures, given, months)


def total_costs(road: RoadTerms, demand: Demand, futures: Futures, given: Assumptions, months: int) -> Numbers:
    """Dollars over the horizon in each future, shape (futures,)."""
    total: Numbers = monthly_costs(road, demand, futures, given, months).sum(axis=1)
    return total


def switch_months(road: Phase, demand: Demand, futures: Futures, given: Assumptions, months: int) -> NDArray[np.int64]:
    """The month in which each future moves from the API to machines; `months` where it never pays."""
    api = _costs(road.api, demand, futures, given, months)
    hosted = _costs(_started(road.hosted), demand, futures, given, months)
    moving = _moving(road, futures, given)
    # From the last month backwards: moving in month m saves what is left, less the cost of moving.
    saved = np.cumsum((api - hosted)[:, ::-1], axis=1)[:, ::-1]
    best = np.argmax(saved, axis=1)
    pays = saved[np.arange(futures.count), best] > moving
    chosen: NDArray[np.int64] = np.where(pays, best, months)
    return chosen


def replica_counts(terms: Terms, rate: Numbers, futures: Futures, *, peak: float) -> Numbers:
    """Copies that hold `rate` (requests a second) times `peak`: at least one."""
    carried = (terms.per_replica * futures.throughput * futures.safe)[:, None]
    counts: Numbers = np.maximum(1.0, np.ceil(rate * peak / carried - 1e-9))
    return counts


def _rates(demand: Demand, futures: Futures, months: int) -> tuple[Numbers, Numbers]:
    """Requests a month and a second, and years passed."""
    years = np.arange(months) / 12
    days = demand.requests_per_day * futures.volume[:, None] * futures.growth[:, None] ** years
    return days, years


def _costs(terms: Terms, demand: Demand, futures: Futures, given: Assumptions, months: int) -> Numbers:
    days, years = _rates(demand, futures, months)
    requests = days * DAYS_A_MONTH + terms.other_requests
    total = requests * terms.per_request * _token_price(futures, years)
    total = total + terms.people * given.engineer_monthly * futures.staff[:, None]
    if terms.devices:
        total = total + _machines(terms, _counts(terms, days / DAY_S, futures), futures, years)
    total[:, 0] += terms.upfront + terms.upfront_compute * futures.rent * futures.training
    total[:, 0] += terms.upfront_staff * futures.staff
    return total


def _counts(terms: Terms, rate: Numbers, futures: Futures) -> Numbers:
    """Replicas that are paid: those of the busiest minute, or the mean over the hours of the day."""
    if not terms.by_hour:
        return replica_counts(terms, rate, futures, peak=terms.peak_factor)
    # Within an hour the busiest minute stands over the hour as the whole day's stands over its busiest hour.
    inside = max(1.0, terms.peak_factor / max(terms.by_hour))
    hours = [replica_counts(terms, rate, futures, peak=level * inside) for level in terms.by_hour]
    mean: Numbers = np.mean(hours, axis=0)
    return mean


def _machines(terms: Terms, replicas: Numbers, futures: Futures, years: Numbers) -> Numbers:
    devices = replicas * terms.devices
    rent = terms.hourly * np.ones_like(devices)
    if terms.rent_moves:
        rent = rent * futures.rent[:, None] * (1 - futures.rent_fall[:, None]) ** years
    total: Numbers = devices * (rent + terms.running) * HOURS_A_MONTH
    if terms.capex:
        # Bought when needed, never sold.
        needed = np.maximum.accumulate(devices, axis=1)
        total = total + terms.capex * np.diff(needed, axis=1, prepend=0.0)
    return total


def _token_price(futures: Futures, years: Numbers) -> Numbers:
    price: Numbers = futures.api_price[:, None] / futures.api_fall[:, None] ** years
    return price


def overflow_share(levels: Sequence[float], capacity: Numbers) -> Numbers:
    """Share of requests that come in over a capacity, both relative to the mean rate."""
    known = np.asarray(levels)
    grid = np.linspace(0, max(1.0, float(known.max())), 200)
    over = np.maximum(0.0, known[None, :] - grid[:, None]).mean(axis=1) / known.mean()
    share: Numbers = np.interp(capacity, grid, over, right=0.0)
    return share


def _mixed(mix: Mix, demand: Demand, futures: Futures, given: Assumptions, months: int) -> Numbers:
    days, years = _rates(demand, futures, months)
    rate = days / DAY_S
    full = replica_counts(mix.hosted, rate, futures, peak=mix.hosted.peak_factor)
    price = mix.api.per_request * _token_price(futures, years)
    tokens = days * DAYS_A_MONTH * price
    best: Numbers | None = None
    for share in BASE_SHARES:
        replicas = np.maximum(1.0, np.ceil(full * share))
        carried = replicas * (mix.hosted.per_replica * futures.throughput * futures.safe)[:, None] / rate
        cost = _machines(mix.hosted, replicas, futures, years) + tokens * overflow_share(mix.levels, carried)
        best = cost if best is None else np.minimum(best, cost)
    assert best is not None
    best = best + mix.api.other_requests * price
    best = best + (mix.api.people + mix.hosted.people) * given.engineer_monthly * futures.staff[:, None]
    best[:, 0] += mix.hosted.upfront + mix.hosted.upfront_compute * futures.rent * futures.training
    best[:, 0] += mix.hosted.upfront_staff * futures.staff
    return best


def _phased(phase: Phase, demand: Demand, futures: Futures, given: Assumptions, months: int) -> Numbers:
    api = _costs(phase.api, demand, futures, given, months)
    hosted = _costs(_started(phase.hosted), demand, futures, given, months)
    start = switch_months(phase, demand, futures, given, months)[:, None]
    month = np.arange(months)[None, :]
    moving = np.where(month == start, _moving(phase, futures, given)[:, None], 0.0)
    costs: Numbers = np.where(month < start, api, hosted) + moving
    return costs


def _moving(phase: Phase, futures: Futures, given: Assumptions) -> Numbers:
    """Dollars that moving costs, with what the machines' road asks for upfront (which stands in its first month)."""
    upfront = phase.hosted.upfront + phase.hosted.upfront_compute * futures.rent * futures.training
    people = phase.moving_months * phase.hosted.people * given.engineer_monthly * futures.staff
    moving: Numbers = people + upfront
    return moving


def _started(terms: Terms) -> Terms:
    """The terms without what is paid upfront: a phased road pays that when it moves."""
    return replace(terms, upfront=0.0, upfront_compute=0.0, upfront_staff=0.0)
