"""Thousands of futures at once: how often each road is cheapest, the band of its cost, and what moves the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from math import log

import numpy as np
from numpy.typing import NDArray

from slipway.decide.assumptions import Assumptions
from slipway.decide.terms import Futures, Numbers, RoadTerms, one_future, total_costs, vary
from slipway.domain.decision import Driver, Likelihood, Sensitivity
from slipway.domain.deployment import Demand
from slipway.models.hardware import Rent

DRAWS = 4_000
Z90 = 1.2816
"""Standard deviations to the 10th and the 90th percentile of a normal distribution."""
FACTORS = np.geomspace(0.05, 20, 241)
"""Factors of one input with which a flip is looked for."""
WEAK = 0.04
"""Rank correlations below this are chance at so many draws."""
WORDS = {
    "volume": "Traffic over what is stated",
    "growth": "Traffic a year later over now",
    "api_price": "Price of tokens",
    "api_fall": "Yearly fall of API prices",
    "rent": "Rent of an accelerator over the default",
    "rent_fall": "Yearly fall of rents",
    "safe": "Use of machines in the busiest minute",
    "throughput": "Real throughput over the predicted",
    "staff": "People needed over the assumed",
    "training": "Training hours over the predicted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flip:
    """At which factor of one input another option becomes the cheapest over the horizon."""

    name: str
    factor: float
    option: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How uncertain the inputs are: factors within which four of five values lie, or ranges."""

    volume: float = 1.6
    growth: float = 1.5
    staff: float = 1.7
    training: float = 1.5
    throughput: float = 1.35
    throughput_source: str = "nothing measured"
    api_fall: tuple[float, float] = (1.0, 3.0)
    rent_fall: tuple[float, float] = (0.0, 0.30)
    safe: tuple[float, float] = (0.45, 0.85)


def spread_of(
    demand: Demand, *, throughput: float = 1.35, source: str = "", safe: tuple[float, float] | None = None
) -> Spread:
    """The spread of a demand: traffic that was counted is less uncertain than traffic that was guessed."""
    usual = Spread()
    return Spread(
        volume=1.25 if demand.traffic is not None else usual.volume,
        throughput=throughput,
        throughput_source=source or usual.throughput_source,
        safe=safe or usual.safe,
    )


def draw_futures(
    demand: Demand, given: Assumptions, spread: Spread, rent: Rent | None, *, draws: int = DRAWS, seed: int = 0
) -> Futures:
    """So many futures from one seed; the same seed gives the same futures.

    Volume, growth, staff, throughput and training hours are log-normal around 1, the yearly fall of API prices is even
    on the logarithm, that of rents even, use triangular, the rent triangular on the logarithm between its sellers (at
    most twice the default). An own price of an hour is certain.
    """
    chance = np.random.default_rng(seed)

    def around(factor: float) -> Numbers:
        return np.exp(chance.normal(0.0, log(factor) / Z90, draws))

    if rent is None or rent.high <= rent.low or rent.hourly <= 0:
        rents = np.ones(draws)
    else:
        low, high = log(rent.low / rent.hourly), log(min(rent.high / rent.hourly, 2.0))
        rents = np.exp(chance.triangular(min(low, 0.0), 0.0, max(high, 1e-9), draws))
    return Futures(
        volume=around(spread.volume),
        growth=demand.growth_per_year * around(spread.growth),
        api_price=np.ones(draws),
        api_fall=np.exp(chance.uniform(log(spread.api_fall[0]), log(spread.api_fall[1]), draws)),
        rent=rents,
        rent_fall=chance.uniform(*spread.rent_fall, draws),
        safe=chance.triangular(spread.safe[0], given.safe, spread.safe[1], draws),
        throughput=around(spread.throughput),
        staff=around(spread.staff),
        training=around(spread.training),
    )


def try_futures(
    roads: Mapping[str, RoadTerms],
    demand: Demand,
    given: Assumptions,
    futures: Futures,
    spread: Spread,
    rent: Rent | None,
    *,
    months: int,
    seed: int,
    allowed: Sequence[str],
    chosen: str,
) -> Sensitivity:
    """Bands of all roads, and how often each of those allowed is the cheapest over the horizon."""
    totals = {name: total_costs(road, demand, futures, given, months) for name, road in roads.items()}
    first = _cheapest([totals[name] for name in allowed], futures.count)
    options = tuple(
        Likelihood(
            option=name,
            cheapest=float(np.mean(first == allowed.index(name))) if name in allowed else 0.0,
            low=float(np.quantile(total, 0.1)),
            median=float(np.median(total)),
            high=float(np.quantile(total, 0.9)),
        )
        for name, total in totals.items()
    )
    others = [totals[name] for name in allowed if name != chosen]
    lead = np.min(others, axis=0) - totals[chosen] if others and chosen in totals else np.zeros(futures.count)
    return Sensitivity(
        draws=futures.count, seed=seed, options=options, drivers=_drivers(futures, spread, rent, lead, demand)
    )


def find_flips(
    roads: Mapping[str, RoadTerms],
    demand: Demand,
    given: Assumptions,
    *,
    months: int,
    chosen: str,
    names: Sequence[str] = ("volume", "api_price", "rent", "staff", "throughput", "growth"),
) -> list[Flip]:
    """For each input the nearest factor, up or down, at which another road costs less over the horizon.

    Everything else stays as in the central future. Inputs that flip nothing between a twentieth and twenty times are
    left out.
    """
    found = []
    central = one_future(demand, given)
    for name in names:
        futures = vary(central, name, FACTORS)
        totals = {road: total_costs(terms, demand, futures, given, months) for road, terms in roads.items()}
        known = list(totals)
        first = _cheapest(list(totals.values()), futures.count)
        middle = len(FACTORS) // 2
        if known[first[middle]] != chosen:
            continue
        away = [place for place in range(len(FACTORS)) if known[first[place]] != chosen]
        if away:
            nearest = min(away, key=lambda place: abs(place - middle))
            found.append(Flip(name=name, factor=float(FACTORS[nearest]), option=known[first[nearest]]))
    return found


def _cheapest(totals: Sequence[Numbers], count: int) -> NDArray[np.int64]:
    if not totals:
        return np.full(count, -1)
    first: NDArray[np.int64] = np.argmin(np.stack(totals), axis=0)
    return first


def _drivers(futures: Futures, spread: Spread, rent: Rent | None, lead: Numbers, demand: Demand) -> tuple[Driver, ...]:
    """Each input that varies, with its 80 % range, and how much of the lead hangs on it, strongest first."""
    sources = {
        "volume": f"80 % within x/÷ {spread.volume:g}: {'counted' if demand.traffic else 'stated, not counted'}",
        "growth": f"80 % within x/÷ {spread.growth:g} of [decide] growth_per_year",
        "api_fall": "even on the logarithm; a16z 2024 saw 10x at equal quality, a list price may stay",
        "rent": rent.source if rent is not None else "",
        "rent_fall": "even, estimate",
        "safe": "triangular; Azure conversation trace 2023, replayed",
        "throughput": f"80 % within x/÷ {spread.throughput:.3g}: {spread.throughput_source}",
        "staff": f"80 % within x/÷ {spread.staff:g}, estimate",
        "training": "four of five published runs within 1.5x",
    }
    ranked = _ranks(lead)
    found = []
    for one in fields(Futures):
        values: Numbers = getattr(futures, one.name)
        if float(values.max()) <= float(values.min()):
            continue
        weight = 0.0 if float(lead.max()) <= float(lead.min()) else float(np.corrcoef(_ranks(values), ranked)[0, 1])
        low, high = (float(value) for value in np.quantile(values, (0.1, 0.9)))
        found.append(Driver(what=WORDS[one.name], low=low, high=high, source=sources.get(one.name, ""), weight=weight))
    return tuple(sorted(found, key=lambda driver: -abs(driver.weight)))


def _ranks(values: Numbers) -> Numbers:
    ranks: Numbers = np.argsort(np.argsort(values)).astype(np.float64)
    return ranks
