"""Decides: hard constraints, then the front, then weights inside it, then many futures; and a record of all that."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from slipway.config.settings import DecideSettings
from slipway.decide.assumptions import assume
from slipway.decide.breakeven import draw_curve, find_break_even, variations
from slipway.decide.demand import read_demand
from slipway.decide.front import pareto_front, weigh
from slipway.decide.options import combine, list_candidates, make_option
from slipway.decide.rents import own_prices, purchase_for, rent_for
from slipway.decide.roads import Api, Basis, Candidate, Hosted, cheapest_replica
from slipway.decide.sensitivity import draw_futures, find_flips, spread_of, try_futures
from slipway.decide.serving import throughput_spread
from slipway.decide.terms import RoadTerms
from slipway.decide.words import dollars as dollars
from slipway.decide.words import list_assumptions, say_flips, say_verdict
from slipway.domain.decision import Sensitivity, Traffic, Weighing
from slipway.domain.deployment import BreakEven, DecisionRecord, Demand, Option
from slipway.domain.errors import NotFound, NothingMeets
from slipway.domain.ids import new_id
from slipway.models.hardware import Rent
from slipway.models.own_prices import NOTHING_OWN, OwnPrices
from slipway.workspace import Workspace


def decide(workspace: Workspace, *, traffic: Traffic | None = None, previous: str = "") -> DecisionRecord:
    """Compares the roads for [decide] and saves the record; the same answer again returns the one that is saved.

    `traffic`, measured on a trace, goes before the numbers of [decide]. `recommended` is empty when nothing meets the
    requirement. Raises `RequirementMissing`, `RequirementContradiction`, `NotFound`, `InputError`.
    """
    record = compute(workspace, traffic=traffic)
    known = workspace.store.records.latest(DecisionRecord, workspace.application)
    if known is not None and same_decision(record, known):
        return known
    record = replace(record, previous=previous)
    workspace.store.records.save(record)
    return record


def compute(workspace: Workspace, *, traffic: Traffic | None = None) -> DecisionRecord:
    """The record for [decide] as it stands; nothing is saved."""
    settings = workspace.settings.decide
    demand = read_demand(settings, traffic=traffic)
    own = own_prices(settings, folder=workspace.folder)
    now = workspace.now()
    candidates = list_candidates(demand, settings, folder=workspace.folder, own=own, today=now.date())
    return compare_roads(workspace.application, demand, settings, candidates, now=now, own=own)


def same_decision(one: DecisionRecord, other: DecisionRecord) -> bool:
    """Whether two records say the same, whenever they were made."""
    return replace(one, id=other.id, created_at=other.created_at, previous=other.previous) == other


def latest_decision(workspace: Workspace) -> DecisionRecord:
    """The newest saved record. Raises `NotFound` before the first one."""
    found = workspace.store.records.latest(DecisionRecord, workspace.application)
    if found is None:
        raise NotFound("decision", workspace.application, next_step="Make one: slipway decide run")
    return found


def require_recommendation(record: DecisionRecord) -> None:
    """Raises `NothingMeets`, with the nearest misses, when every option was ruled out."""
    if not record.recommended:
        raise NothingMeets(record.verdict)


def compare_roads(
    application: str,
    demand: Demand,
    settings: DecideSettings,
    candidates: Sequence[Candidate],
    *,
    now: datetime,
    own: OwnPrices = NOTHING_OWN,
) -> DecisionRecord:
    """The record for these candidates and the roads that combine two of them; nothing is read or saved.

    Constraints rule out first. Of the rest only options that no other beats in everything stay on the front; inside it
    the weights of [decide] choose, or the cost over the horizon alone. By cost alone, of two that are too close to tell
    apart the one that starts sooner is taken.
    """
    assumptions = assume(settings, demand.traffic)
    rent = rent_for(settings, own)
    basis = Basis(hourly=rent.hourly if rent else 0.0, assumptions=assumptions, horizon_months=demand.horizon_months)
    all_roads = [*candidates, *combine(candidates, demand, basis)]
    options = [make_option(one, demand, basis, quality=settings.quality) for one in all_roads]
    order = sorted(
        zip(options, all_roads, strict=True), key=lambda pair: (bool(pair[0].rejected), pair[0].horizon_total)
    )
    allowed = [option for option, _ in order if not option.rejected]
    possible = [candidate for option, candidate in order if option.lines]
    bases = list(variations(demand, basis, (rent.low, rent.high) if rent else ()))
    breakevens = _break_evens(possible, demand, basis, bases)
    front = pareto_front(allowed)
    weighing = weigh(front, weights={**settings.weights}, pairwise=settings.pairwise)
    chosen = _choose(front, weighing, breakevens, demand)
    roads = {candidate.name: candidate.terms(demand, basis) for candidate in possible}
    names = [option.name for option in allowed]
    sensitivity = _try_futures(
        possible,
        roads,
        demand,
        basis,
        rent,
        allowed=names,
        chosen=chosen.name if chosen else "",
        seed=settings.seed,
    )
    flips = (
        find_flips(
            {name: roads[name] for name in names},
            demand,
            assumptions,
            months=demand.horizon_months,
            chosen=chosen.name,
        )
        if chosen
        else []
    )
    banded = [(_with_band(option, sensitivity), candidate) for option, candidate in order]
    chosen = next((option for option, _ in banded if chosen and option.name == chosen.name), None)
    return DecisionRecord(
        id=new_id(),
        application=application,
        demand=demand,
        options=tuple(option for option, _ in banded),
        curve=draw_curve(possible, demand, basis),
        breakevens=tuple(breakevens),
        recommended=chosen.name if chosen else "",
        verdict=say_verdict(chosen, [option for option, _ in banded], breakevens, demand, sensitivity),
        flips=tuple(say_flips(chosen, banded, breakevens, demand, basis, rent, flips, sensitivity)),
        assumptions=list_assumptions(demand, settings, rent, purchase_for(settings, own), basis, possible, now=now),
        front=tuple(option.name for option in front),
        weighing=weighing,
        sensitivity=sensitivity,
        prices=prices_of(possible, rent, settings),
        created_at=now,
    )


def _try_futures(
    candidates: Sequence[Candidate],
    roads: Mapping[str, RoadTerms],
    demand: Demand,
    basis: Basis,
    rent: Rent | None,
    *,
    allowed: Sequence[str],
    chosen: str,
    seed: int,
) -> Sensitivity | None:
    """The futures of these roads; None where there is none."""
    if not roads:
        return None
    hosted = next((one for one in candidates if isinstance(one, Hosted)), None)
    factor, source = 1.0001, ""
    if hosted is not None:
        way, _ = cheapest_replica(hosted.shape, hosted.hardware, demand, basis.assumptions.safe, hosted.calibration)
        factor, source = throughput_spread(way)
    given = basis.assumptions
    spread = spread_of(demand, throughput=factor, source=source, safe=given.safe_range)
    futures = draw_futures(demand, given, spread, rent, seed=seed)
    return try_futures(
        roads,
        demand,
        given,
        futures,
        spread,
        rent,
        months=demand.horizon_months,
        seed=seed,
        allowed=allowed,
        chosen=chosen,
    )


def prices_of(candidates: Sequence[Candidate], rent: Rent | None, settings: DecideSettings) -> dict[str, float]:
    """Every price that entered a decision, by what it is for."""
    found: dict[str, float] = {}
    for one in candidates:
        if isinstance(one, Api):
            found[f"{one.model}, a million tokens in"] = one.price.input_per_million
            found[f"{one.model}, a million tokens out"] = one.price.output_per_million
            if one.price.cached_input_per_million is not None:
                found[f"{one.model}, a million cached tokens in"] = one.price.cached_input_per_million
        if isinstance(one, Hosted) and one.reserved is not None:
            found[f"{one.hardware}, a {one.commitment} hour"] = one.reserved.hourly
    if rent is not None and settings.open_models:
        found[f"{settings.gpu}, an hour"] = rent.hourly
    found["an engineer a month"] = settings.engineer_monthly
    return found


def _with_band(option: Option, sensitivity: Sensitivity | None) -> Option:
    found = next((one for one in sensitivity.options if one.option == option.name), None) if sensitivity else None
    if found is None:
        return option
    return replace(
        option,
        horizon_low=min(found.low, option.horizon_total),
        horizon_high=max(found.high, option.horizon_total),
    )


def _break_evens(
    possible: Sequence[Candidate], demand: Demand, basis: Basis, bases: Sequence[tuple[Demand, Basis]]
) -> list[BreakEven]:
    """The cheapest API against every way of hosting, and rented against own machines of the same model."""
    apis = [one for one in possible if one.road == "api"]
    # What is scaled by the hour follows the same curve a little lower; its own crossing would say nothing new.
    opens = [one for one in possible if one.road == "open" and not (isinstance(one, Hosted) and one.scaled)]
    pairs = [(apis[0], other) for other in opens if apis]
    rented = [one for one in opens if isinstance(one, Hosted) and one.commitment == "on demand"]
    pairs += [(one, other) for one in rented for other in opens if other is not one and other.model == one.model]
    found = (find_break_even(below, above, demand, basis, bases) for below, above in pairs)
    return [one for one in found if one is not None]


def _choose(
    front: Sequence[Option], weighing: Weighing, breakevens: Sequence[BreakEven], demand: Demand
) -> Option | None:
    """The best score; by cost alone the cheapest, and of two too close to tell apart the one that starts sooner."""
    if not front:
        return None
    if weighing.method != "cost alone":
        return max(front, key=lambda option: (weighing.scores[option.name], -option.horizon_total))
    best = min(front, key=lambda option: option.horizon_total)
    for other in sorted(front, key=lambda option: option.horizon_total):
        if other.months_to_start < best.months_to_start and _close(best, other, breakevens, demand):
            return other
    return best


def _close(one: Option, other: Option, breakevens: Sequence[BreakEven], demand: Demand) -> bool:
    pair = {one.name, other.name}
    return any(
        {found.cheaper_below, found.cheaper_above} == pair and found.low <= demand.requests_per_day <= found.high
        for found in breakevens
    )
