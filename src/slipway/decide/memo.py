"""The decision as a memo: a page for an executive and a page for an engineer, as data to print."""

from dataclasses import dataclass

from slipway.domain.deployment import CostLine, CurvePoint, DecisionRecord, Demand


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadRow:
    """One option as a line of the first page."""

    name: str
    road: str
    monthly: float
    total: float
    low: float
    high: float
    upfront: float
    months_to_start: float
    control: str
    risk: str
    rejected: str
    recommended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One number the decision leans on, with its source and date."""

    what: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadDetail:
    """One option on the engineer's page: its bill line by line, and what is not money."""

    name: str
    lines: tuple[CostLine, ...]
    monthly: float
    properties: tuple[tuple[str, str], ...]
    rejected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Executive:
    """Page 1. Costs of the roads over the horizon, in dollars; flips are sentences."""

    verdict: str
    roads: tuple[RoadRow, ...]
    crossings: tuple[str, ...]
    flips: tuple[str, ...]
    risks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engineer:
    """Page 2. The demand, the assumptions with source and date, every bill with its formulas, the commands."""

    demand: tuple[tuple[str, str], ...]
    assumptions: tuple[Assumption, ...]
    details: tuple[RoadDetail, ...]
    method: tuple[str, ...]
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """A decision, ready to print. `curve` is for the chart: monthly dollars of each option over requests a day."""

    title: str
    date: str
    record: str
    horizon_months: int
    executive: Executive
    engineer: Engineer
    curve: tuple[CurvePoint, ...]


METHOD = (
    "Hard constraints come first: context, memory, latency, privacy, licence, skills, budget. An option that breaks "
    "one is ruled out, with the reason, and keeps its price for comparison.",
    "Of what is left, the cheapest over the horizon is recommended. Where the volume lies inside the band of a "
    "break-even, the costs are too close to tell apart and the road that starts sooner is.",
    "What is paid before the start is written off over the horizon and stands in the monthly cost.",
    "Replicas come from the roofline of one step and a safe utilisation of the busiest minute, not from a measurement: "
    "all such figures are estimated. Quality is not compared here; the evaluation of a release does that.",
)


def memo(record: DecisionRecord) -> Memo:
    """The two pages of one decision."""
    return Memo(
        title=f"Build, buy or open weights: {record.application}",
        date=record.created_at.date().isoformat(),
        record=record.id,
        horizon_months=record.demand.horizon_months,
        executive=_executive(record),
        engineer=_engineer(record),
        curve=record.curve,
    )


def _executive(record: DecisionRecord) -> Executive:
    chosen = [option for option in record.options if option.name == record.recommended]
    return Executive(
        verdict=record.verdict,
        roads=tuple(
            RoadRow(
                name=option.name,
                road=option.road,
                monthly=option.monthly,
                total=option.horizon_total,
                low=option.horizon_low,
                high=option.horizon_high,
                upfront=option.upfront,
                months_to_start=option.months_to_start,
                control=option.control,
                risk=option.properties.get("risk", ""),
                rejected=option.rejected,
                recommended=option.name == record.recommended,
            )
            for option in record.options
        ),
        crossings=tuple(flip for flip in record.flips if flip.startswith("Volume:")),
        flips=tuple(flip for flip in record.flips if not flip.startswith("Volume:")),
        risks=tuple(option.properties["risk"] for option in chosen if "risk" in option.properties),
    )


def _engineer(record: DecisionRecord) -> Engineer:
    return Engineer(
        demand=tuple(_demand_rows(record.demand)),
        assumptions=tuple(
            Assumption(what=what, value=value, source=source) for what, value, source in record.assumptions
        ),
        details=tuple(
            RoadDetail(
                name=option.name,
                lines=option.lines,
                monthly=option.monthly,
                properties=tuple(option.properties.items()),
                rejected=option.rejected,
            )
            for option in record.options
        ),
        method=METHOD,
        commands=("slipway decide run", "slipway decide report --html decision.html", "slipway deploy plan"),
    )


def _demand_rows(demand: Demand) -> list[tuple[str, str]]:
    def limit(value: float | None) -> str:
        return "none" if value is None else f"{value:,.0f} ms"

    return [
        ("Requests a day", f"{demand.requests_per_day:,.0f}, busiest minute {demand.peak_factor:g} times the mean"),
        ("Tokens a request", f"{demand.input_tokens:,.0f} in, {demand.output_tokens:,.0f} out"),
        ("Cached input", f"{demand.cached_share:.0%}"),
        ("First token, 99th percentile", limit(demand.first_token_ms)),
        ("Whole answer, 99th percentile", limit(demand.end_to_end_ms)),
        ("Context", f"{demand.context_tokens:,} tokens"),
        ("Requests may leave", "yes" if demand.data_may_leave else "no"),
        ("Residency", demand.residency or "anywhere"),
        ("Commercial use", "yes" if demand.commercial_use else "no"),
        ("Budget a month", "none" if demand.monthly_budget is None else f"${demand.monthly_budget:,.0f}"),
        ("Horizon", f"{demand.horizon_months} months, traffic x {demand.growth_per_year:g} a year"),
        ("Experience of the team", demand.skills),
    ]
