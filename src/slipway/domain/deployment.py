"""Requirements, decisions and plans: what an application needs, which road it takes, what it runs on."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from slipway.domain.architecture import Architecture
from slipway.domain.decision import Sensitivity, Traffic, Weighing

Road = Literal["api", "open", "build", "mixed"]
"""A commercial API, open weights hosted by us, an own model built from scratch, or two of them side by side or one
after the other."""
Origin = Literal["measured", "calibrated", "estimated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What the use case asks for. Lengths are tokens a request, latencies milliseconds."""

    requests_per_day: float
    input_tokens: float
    output_tokens: float
    peak_factor: float = 3.0
    first_token_ms: float | None = None
    token_ms: float | None = None
    end_to_end_ms: float | None = None
    context_tokens: int = 8192
    residency: str = ""
    data_may_leave: bool = True
    commercial_use: bool = True
    monthly_budget: float | None = None
    horizon_months: int = 36
    growth_per_year: float = 1.0
    cached_share: float = 0.0
    skills: Literal["none", "some", "strong"] = "some"
    batch_share: float = 0.0
    """Share of requests that may wait a day."""
    monthly_users: float | None = None
    trains_on_output: bool = False
    quality_needed: float | None = None
    tuning_tokens: float = 0.0
    data_cost: float = 0.0
    """Tokens that an open model is tuned on, all epochs together, and dollars for the data."""
    traffic: Traffic | None = None
    """The trace that the numbers come from, where there is one."""
    first_token_p50_ms: float | None = None
    token_p50_ms: float | None = None
    end_to_end_p50_ms: float | None = None
    """Limits that half of the requests hold; the others hold for 99 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One line of a bill, in dollars a month, with the formula it comes from."""

    name: str
    monthly: float
    formula: str
    source: str = ""
    origin: Origin = "estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One road with its costs and properties. `rejected` carries the reason when a hard constraint rules it out.

    `monthly` is the whole cost of a month at launch, with what is paid `upfront` written off over the horizon;
    `horizon_total` follows the growth of traffic over the horizon, `horizon_low` and `horizon_high` are its band.
    """

    road: Road
    name: str
    model: str
    monthly: float
    upfront: float
    horizon_total: float = 0.0
    horizon_low: float = 0.0
    horizon_high: float = 0.0
    lines: tuple[CostLine, ...]
    rejected: str = ""
    control: str = ""
    months_to_start: float = 0.0
    properties: dict[str, str] = field(default_factory=dict)
    criteria: dict[str, float] = field(default_factory=dict)
    """Numbers by which the front is drawn, by criterion."""
    plan: "PlanOption | None" = None
    """What it runs on at launch, where machines are ours to run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """Monthly cost of each option (by name) at one volume."""

    requests_per_day: float
    monthly: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """The volume at which `cheaper_above` starts to cost less than `cheaper_below`, with a band."""

    cheaper_below: str
    cheaper_above: str
    requests_per_day: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A saved decision: demand, options, curve, break-evens, verdict, and what would change our mind."""

    id: str
    application: str
    demand: Demand
    options: tuple[Option, ...]
    curve: tuple[CurvePoint, ...]
    breakevens: tuple[BreakEven, ...]
    recommended: str
    verdict: str
    flips: tuple[str, ...]
    assumptions: tuple[tuple[str, str, str], ...]
    """(what, value, source with date)"""
    front: tuple[str, ...] = ()
    """Options that no other option beats in everything."""
    weighing: Weighing | None = None
    sensitivity: Sensitivity | None = None
    prices: dict[str, float] = field(default_factory=dict)
    """Every price that entered, in dollars: what a later run is compared with."""
    previous: str = ""
    """Id of the decision that this one re-ran."""
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBill:
    """Gibibytes on each device group: what fills them."""

    weights_gib: float
    kv_cache_gib: float
    reserve_gib: float
    available_gib: float

    @property
    def total_gib(self) -> float:
        return self.weights_gib + self.kv_cache_gib + self.reserve_gib


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOption:
    """One way to run a model: hardware, parallelism, replicas, and what it would do.

    `first_token_ms` and `end_to_end_ms` are 99th percentiles, `token_ms` is the mean time between two tokens after the
    first; `requests_per_second` is what all replicas carry within the limits, `utilisation` the share that the mean
    load takes of it.
    """

    hardware: str
    devices_per_replica: int
    replicas: int
    precision: str
    memory: MemoryBill
    first_token_ms: float
    token_ms: float
    tokens_per_second: float
    utilisation: float
    monthly: float
    requests_per_second: float = 0.0
    end_to_end_ms: float = 0.0
    sequences: int = 0
    """Requests that one replica works on at once."""
    step_tokens: int = 0
    """Tokens that the engine should work on in one step; 0 leaves its default."""
    least_replicas: int = 0
    """Lower bound for an autoscaler: what the calmest minutes need; 0 where no traffic was replayed."""
    replicas_by_rule: int = 0
    """What rate / throughput would have said; 0 where no traffic was replayed."""
    later_replicas: int = 0
    """What later traffic may need, which comes faster than the trace; 0 where no trace was given."""
    later_growth: float = 1.0
    """How many times faster later traffic is taken to come."""
    first_token_low_ms: float = 0.0
    first_token_high_ms: float = 0.0
    """An interval that holds 80 % of what is measured in like places."""
    rejected: str = ""
    origin: Origin = "estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayWindow:
    """A part of the replayed traffic: what arrived, what an autoscaler would run, what 1 % waited for at least."""

    seconds: float
    """Since the first request."""
    requests_per_second: float
    replicas: int
    first_token_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer of deployment planning: the chosen option, runners-up, and what ruled out the rest."""

    id: str
    application: str
    model: str
    shape: Architecture | None = None
    """The model's architecture, when it is hosted by us."""
    demand: Demand
    chosen: PlanOption | None
    others: tuple[PlanOption, ...]
    reasons: tuple[str, ...]
    assumptions: tuple[tuple[str, str, str], ...] = ()
    """(what, value, source with date)"""
    region: str = ""
    """Where the machines are to stand: a cloud region, or empty where any will do."""
    own_racks: bool = False
    replay: tuple[ReplayWindow, ...] = ()
    """The chosen option over the traffic that was replayed; empty without a limit on latency."""
    created_at: datetime
