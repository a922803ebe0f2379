"""What stands behind a decision besides its bills: the traffic, the futures tried, the front and its weights."""

from dataclasses import dataclass, field
from typing import Literal

Criterion = Literal["cost", "quality", "time", "control", "risk"]
"""Dollars over the horizon, score on own questions, months to start, who holds the model, dollars paid upfront."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a trace of requests says. Rates are relative to the mean, which is 1.

    `levels` are the rates of the busiest to the quietest minutes at evenly spaced shares of time, ascending; `by_hour`
    are the 24 hours of the day (UTC), empty when the trace is shorter than a day.
    """

    source: str
    requests: int
    days: float
    requests_per_day: float
    input_tokens: float
    output_tokens: float
    long_input_tokens: float
    long_output_tokens: float
    """99th percentiles."""
    peak_factor: float
    levels: tuple[float, ...] = ()
    by_hour: tuple[float, ...] = ()
    split_assumed: bool = False
    """Whether the trace does not tell the tokens of answers, and the share of output is an assumption."""
    safe_use: float = 0.0
    """Share of a replica's throughput that the busiest minute may take, by replay; 0 where nothing was replayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """How one option does over all futures tried: how often it is the cheapest, and its 80 % band in dollars."""

    option: str
    cheapest: float
    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One uncertain input: its range, where that comes from, and how much of the answer hangs on it.

    `weight` is the rank correlation, from -1 to 1, between the input and the lead of the recommended option over the
    next best.
    """

    what: str
    low: float
    high: float
    source: str
    weight: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Many futures, drawn at once from one seed."""

    draws: int
    seed: int
    options: tuple[Likelihood, ...]
    drivers: tuple[Driver, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighing:
    """Scores inside the front: weights over the criteria add up to 1, scores of the options lie between 0 and 1.

    `consistency` is the ratio of pairwise comparisons (Saaty 1980), None for swing weights.
    """

    method: Literal["cost alone", "swing", "pairwise"]
    weights: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    consistency: float | None = None
