"""Where one road starts to cost less than another: curves over volume, break-even with a band, and what flips it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import exp, log

from slipway.decide.roads import Basis, Candidate
from slipway.domain.deployment import BreakEven, CurvePoint, Demand

FEWEST, MOST = 10.0, 1e8
"""Requests a day between which roads are compared."""
A_DECADE = 10
COARSE = 5
LENGTHS = (0.7, 1.0, 1.4)


def volumes(*, a_decade: int = A_DECADE) -> list[float]:
    """Requests a day from 10 to 100 million, evenly spaced on a logarithmic scale."""
    steps = round(log(MOST / FEWEST, 10) * a_decade)
    return [FEWEST * 10 ** (step / a_decade) for step in range(steps + 1)]


def at_volume(demand: Demand, requests_per_day: float) -> Demand:
    return replace(demand, requests_per_day=requests_per_day)


def draw_curve(
    candidates: Sequence[Candidate], demand: Demand, basis: Basis, *, a_decade: int = 6
) -> tuple[CurvePoint, ...]:
    """Monthly cost of each candidate over volume, and at the demand's own volume."""
    days = sorted({*volumes(a_decade=a_decade), demand.requests_per_day})
    return tuple(
        CurvePoint(
            requests_per_day=day,
            monthly={one.name: one.bill(at_volume(demand, day), basis).monthly for one in candidates},
        )
        for day in days
    )


def variations(demand: Demand, basis: Basis, hourlies: Iterable[float]) -> Iterator[tuple[Demand, Basis]]:
    """Every corner of what is uncertain: price of a device hour, safe utilisation, lengths of requests."""
    prices = sorted({*hourlies, basis.hourly})
    for factor in LENGTHS:
        varied = replace(demand, input_tokens=demand.input_tokens * factor, output_tokens=demand.output_tokens * factor)
        low, high = basis.assumptions.safe_range
        for safe in (low, basis.assumptions.safe, high):
            for hourly in prices:
                yield varied, replace(basis, hourly=hourly, assumptions=replace(basis.assumptions, safe=safe))


def find_break_even(
    below: Candidate, above: Candidate, demand: Demand, basis: Basis, bases: Sequence[tuple[Demand, Basis]]
) -> BreakEven | None:
    """The volume from which `above` costs less than `below` for good, or None when it never does.

    The band is the lowest and the highest volume over the variations; where one of them never flips, the band ends
    at the largest volume looked at.
    """
    crossing = _crossing(_difference(below, above, demand, basis))
    if crossing is None:
        return None
    # The ends of a band need three digits; a coarser grid halves the work.
    found = [
        _crossing(_difference(below, above, varied, other), a_decade=COARSE, halvings=14) for varied, other in bases
    ]
    ends = [crossing, *(MOST if one is None else one for one in found)]
    return BreakEven(
        cheaper_below=below.name, cheaper_above=above.name, requests_per_day=crossing, low=min(ends), high=max(ends)
    )


def flip_hourly(below: Candidate, above: Candidate, demand: Demand, basis: Basis) -> float | None:
    """The price of a device hour at which `above` would cost what `below` costs now; None when no price does it."""
    target = below.bill(demand, basis).monthly
    free = above.bill(demand, replace(basis, hourly=0.0)).monthly
    now = above.bill(demand, basis).monthly
    if now == free or target <= free:
        return None
    return (target - free) / (now - free) * basis.hourly


def _difference(below: Candidate, above: Candidate, demand: Demand, basis: Basis) -> Callable[[float], float]:
    """Cost of `above` minus `below` at a volume; infinite where one of them cannot run."""

    def at(day: float) -> float:
        there = at_volume(demand, day)
        try:
            return above.bill(there, basis).monthly - below.bill(there, basis).monthly
        except LookupError:
            return float("inf")

    return at


def _crossing(difference: Callable[[float], float], *, a_decade: int = A_DECADE, halvings: int = 30) -> float | None:
    """The volume after which the difference stays below zero, by grid and halving on the logarithm.

    Hosted capacity comes in steps, so there can be several crossings: the last one counts.
    """
    grid = volumes(a_decade=a_decade)
    last = next((place for place in range(len(grid) - 1, -1, -1) if difference(grid[place]) >= 0), None)
    if last is None:
        return grid[0]
    if last == len(grid) - 1:
        return None
    low, high = log(grid[last]), log(grid[last + 1])
    for _ in range(halvings):
        middle = (low + high) / 2
        low, high = (middle, high) if difference(exp(middle)) >= 0 else (low, middle)
    return exp(high)
