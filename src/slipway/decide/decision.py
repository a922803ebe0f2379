"""Decides: constraints first, then cost over the horizon, and a record that says what would change our mind."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from slipway.config.settings import DecideSettings
from slipway.decide.assumptions import assume
from slipway.decide.breakeven import FEWEST, MOST, draw_curve, find_break_even, flip_hourly, variations
from slipway.decide.demand import read_demand
from slipway.decide.options import list_candidates, make_option
from slipway.decide.roads import Basis, Candidate, Hosted, stale
from slipway.domain.deployment import BreakEven, DecisionRecord, Demand, Option
from slipway.domain.errors import NotFound, NothingMeets
from slipway.domain.ids import new_id
from slipway.models.hardware import Rent, purchase_of, rent_of
from slipway.workspace import Workspace


def decide(workspace: Workspace) -> DecisionRecord:
    """Compares the roads for [decide] and saves the record; the same answer again returns the one that is saved.

    The cheapest option that no constraint rules out is recommended; where the demand lies inside the band of a
    break-even, the road that starts sooner is. `recommended` is empty when nothing meets the requirement. Raises
    `RequirementMissing`, `RequirementContradiction`, `NotFound`.
    """
    settings = workspace.settings.decide
    demand = read_demand(settings)
    candidates = list_candidates(demand, settings, folder=workspace.folder)
    record = compare_roads(workspace.application, demand, settings, candidates, now=workspace.now())
    known = workspace.store.records.latest(DecisionRecord, workspace.application)
    if known is not None and replace(record, id=known.id, created_at=known.created_at) == known:
        return known
    workspace.store.records.save(record)
    return record


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
    application: str, demand: Demand, settings: DecideSettings, candidates: Sequence[Candidate], *, now: datetime
) -> DecisionRecord:
    """The record for these candidates; nothing is read or saved."""
    assumptions = assume(settings)
    rent = rent_of(settings.gpu, own_hourly=settings.gpu_hourly)
    basis = Basis(hourly=rent.hourly if rent else 0.0, assumptions=assumptions, horizon_months=demand.horizon_months)
    bases = list(variations(demand, basis, (rent.low, rent.high) if rent else ()))
    options = [make_option(one, demand, basis, bases=bases) for one in candidates]
    order = sorted(
        zip(options, candidates, strict=True), key=lambda pair: (bool(pair[0].rejected), pair[0].horizon_total)
    )
    open_to_us = [(option, candidate) for option, candidate in order if not option.rejected]
    possible = [candidate for option, candidate in order if option.lines]
    breakevens = _break_evens(possible, demand, basis, bases)
    chosen = _choose(open_to_us, breakevens, demand)
    return DecisionRecord(
        id=new_id(),
        application=application,
        demand=demand,
        options=tuple(option for option, _ in order),
        curve=draw_curve(possible, demand, basis),
        breakevens=tuple(breakevens),
        recommended=chosen.name if chosen else "",
        verdict=_verdict(chosen, [option for option, _ in order], breakevens, demand),
        flips=tuple(_flips(chosen, order, breakevens, demand, basis, rent)),
        assumptions=_assumptions(demand, settings, rent, basis, now),
        created_at=now,
    )


def _break_evens(
    possible: Sequence[Candidate], demand: Demand, basis: Basis, bases: Sequence[tuple[Demand, Basis]]
) -> list[BreakEven]:
    """The cheapest API against every way of hosting, and rented against own machines of the same model."""
    apis = [one for one in possible if one.road == "api"]
    opens = [one for one in possible if one.road == "open"]
    pairs = [(apis[0], other) for other in opens if apis]
    rented = [one for one in opens if isinstance(one, Hosted)]
    pairs += [(one, other) for one in rented for other in opens if other is not one and other.model == one.model]
    found = (find_break_even(below, above, demand, basis, bases) for below, above in pairs)
    return [one for one in found if one is not None]


def _choose(
    options: Sequence[tuple[Option, Candidate]], breakevens: Sequence[BreakEven], demand: Demand
) -> Option | None:
    """The cheapest; of two that are too close to tell apart, the one that starts sooner."""
    if not options:
        return None
    best = options[0][0]
    for other, _ in options[1:]:
        if other.months_to_start < best.months_to_start and _close(best, other, breakevens, demand):
            return other
    return best


def _close(one: Option, other: Option, breakevens: Sequence[BreakEven], demand: Demand) -> bool:
    pair = {one.name, other.name}
    return any(
        {found.cheaper_below, found.cheaper_above} == pair and found.low <= demand.requests_per_day <= found.high
        for found in breakevens
    )


def _verdict(chosen: Option | None, options: Sequence[Option], breakevens: Sequence[BreakEven], demand: Demand) -> str:
    if chosen is None:
        misses = "; ".join(f"{option.name}: {option.rejected}" for option in options[:3])
        return f"Nothing meets the requirement. Nearest: {misses}"
    volume = f"{demand.requests_per_day:,.0f} requests a day"
    sentence = f"Take {chosen.name}: about {dollars(chosen.monthly)} a month at {volume}"
    others = [option for option in options if option is not chosen and not option.rejected]
    allowed = {option.name for option in others}
    near = [one for one in breakevens if _other(one, chosen) in allowed]
    if not near:
        elsewhere = next((option for option in others if option.road != chosen.road), None)
        return f"{sentence}; {elsewhere.name} would cost {dollars(elsewhere.monthly)}." if elsewhere else f"{sentence}."
    one = min(near, key=lambda found: found.requests_per_day)
    side = "above" if one.cheaper_below == chosen.name else "below"
    if one.low <= demand.requests_per_day <= one.high:
        return f"{sentence}; {_other(one, chosen)} is too close to call, the costs cross at {_crossing(one)}."
    return f"{sentence}; {_other(one, chosen)} costs less {side} {_crossing(one)}."


def _flips(
    chosen: Option | None,
    options: Sequence[tuple[Option, Candidate]],
    breakevens: Sequence[BreakEven],
    demand: Demand,
    basis: Basis,
    rent: Rent | None,
) -> list[str]:
    """What would change our mind, each with the number at which it does. `options` are in order, cheapest first."""
    allowed = [(option, candidate) for option, candidate in options if not option.rejected]
    cheaper = [option for option, _ in options if option.rejected and option.lines]
    found = [
        f"Constraint: {option.name} would cost {dollars(option.monthly)} a month, but {option.rejected}."
        for option in sorted(cheaper, key=lambda option: option.horizon_total)[:2]
        if chosen is None or option.horizon_total < chosen.horizon_total
    ]
    if chosen is None:
        return [*found, "Loosen what rules out the nearest option, then decide again: slipway decide run"]
    names = {option.name for option, _ in allowed}
    found += [
        f"Volume: {one.cheaper_above} costs less than {one.cheaper_below} above {_crossing(one)}."
        for one in breakevens
        if _other(one, chosen) in names
    ]
    mine = next(candidate for option, candidate in allowed if option is chosen)
    if chosen.road == "api":
        found += [
            _device_flip(option, flip_hourly(mine, candidate, demand, basis), basis)
            for option, candidate in allowed
            if isinstance(candidate, Hosted)
        ]
        kept = next((option for option, candidate in allowed if candidate.road != "api"), None)
        rest = f"{kept.name} remains, at {dollars(kept.monthly)} a month" if kept else "nothing remains"
        found.append(f"Privacy: if requests may no longer leave (data_may_leave = false), {rest}.")
    found.append("Quality: a cheaper model that answers your own questions as well. Compare: slipway evaluate run.")
    if rent is not None and rent.low < rent.high and any(isinstance(candidate, Hosted) for _, candidate in options):
        found.append(
            f"Your own price: published rents run from ${rent.low:.2f} to ${rent.high:.2f} an hour. "
            "Set [decide] gpu_hourly to what you are offered."
        )
    return found


def _device_flip(option: Option, hourly: float | None, basis: Basis) -> str:
    if hourly is None:
        return (
            f"Price of a device: at this volume not even free accelerators make {option.name} cheaper; its people "
            "alone cost more."
        )
    return f"Price of a device: below ${hourly:.2f} an hour (now ${basis.hourly:.2f}) {option.name} costs less."


def _other(one: BreakEven, chosen: Option) -> str:
    """The other side of a break-even that the chosen option is part of, or nothing."""
    pair = (one.cheaper_below, one.cheaper_above)
    if chosen.name not in pair:
        return ""
    return pair[1] if pair[0] == chosen.name else pair[0]


def _assumptions(
    demand: Demand, settings: DecideSettings, rent: Rent | None, basis: Basis, now: datetime
) -> tuple[tuple[str, str, str], ...]:
    listed = [
        ("Requests a day", f"{demand.requests_per_day:,.0f}", "[decide]"),
        ("Busiest minute", f"{demand.peak_factor:g} times the mean", "[decide]"),
        ("Tokens a request", f"{demand.input_tokens:,.0f} in, {demand.output_tokens:,.0f} out", "[decide]"),
        ("Horizon", f"{demand.horizon_months} months, traffic x {demand.growth_per_year:g} a year", "[decide]"),
    ]
    today = now.date()
    if rent is not None and settings.open_models:
        age = "; older than six months, ask for a quote" if stale(rent.as_of, today) else ""
        dated = f"{rent.source}, {rent.as_of}{age}" if rent.as_of else rent.source
        listed.append(
            (f"One hour of one {settings.gpu}", f"${rent.hourly:.2f} (${rent.low:.2f} to ${rent.high:.2f})", dated)
        )
        bought = purchase_of(settings.gpu)
        if bought is not None:
            age = "; older than six months, ask for a quote" if stale(bought.as_of, today) else ""
            listed.append(
                (
                    f"Purchase of one {settings.gpu}",
                    f"${bought.purchase:,.0f}",
                    f"{bought.seller}, {bought.source}, {bought.as_of}{age}",
                )
            )
    listed.append(
        (
            "Band of the break-even",
            "device price, safe use 45-85 %, lengths x 0.7-1.4",
            "every combination of the three",
        )
    )
    return (*listed, *basis.assumptions.listed())


def _crossing(one: BreakEven) -> str:
    """`388,000 requests a day (258,000 to 1,200,000)`, in words where the band leaves what was looked at."""
    low = "from the first one" if one.low <= FEWEST else rounded(one.low)
    high = "never" if one.high >= MOST else rounded(one.high)
    return f"{rounded(one.requests_per_day)} requests a day ({low} to {high})"


def rounded(amount: float) -> str:
    """A number to three figures, as a reader rounds it."""
    digits = len(f"{amount:.0f}") - 3
    return f"{round(amount, -digits) if digits > 0 else amount:,.0f}"


def dollars(amount: float) -> str:
    """Dollars to three figures."""
    return f"${rounded(amount)}" if amount >= 10 else f"${amount:.2f}"
