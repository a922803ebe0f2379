"""The decision as a report: a page for an executive and pages for an engineer, as data to print."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from slipway.decide.sensitivity import WEAK
from slipway.decide.words import dollars, say_confidence
from slipway.domain.decision import Driver, Sensitivity, Traffic, Weighing
from slipway.domain.deployment import (
    CostLine,
    CurvePoint,
    DecisionRecord,
    Demand,
    MemoryBill,
    Option,
    Origin,
    PlanOption,
)
from slipway.models.sizing import DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadRow:
    """One option as a line of the first page; `place` is its number, by which its bill is found."""

    place: int
    name: str
    road: str
    monthly: float
    total: float
    low: float
    high: float
    cheapest: float
    """Share of the futures in which it is the cheapest of those allowed."""
    upfront: float
    months_to_start: float
    control: str
    risk: str
    rejected: str
    recommended: bool
    on_front: bool
    origin: Origin
    words: tuple[str, str, str]
    """Total, band and chance, as a reader rounds them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumption:
    """One number the decision leans on; `source` is its place in the list of sources."""

    what: str
    value: str
    source: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """A line of a bill with the place of its source in the list of sources."""

    line: CostLine
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoadDetail:
    """One option on the engineer's pages: its bill line by line, and what is not money."""

    place: int
    name: str
    lines: tuple[CostLine, ...]
    bill: tuple[BillLine, ...]
    monthly: float
    properties: tuple[tuple[str, str], ...]
    rejected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a hosted option runs on at launch: memory in gibibytes, latency at the 99th percentile in milliseconds."""

    name: str
    what: str
    memory: MemoryBill
    latency: tuple[tuple[str, str, str], ...]
    """(what, predicted, required)"""
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaCurve:
    """Replicas that the traffic needs, by hour of the day or by share of time, beside those that are paid."""

    option: str
    over: str
    """hour or share"""
    needed: tuple[tuple[float, int], ...]
    paid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Executive:
    """Page 1. Costs of the roads over the horizon, in dollars; flips are sentences."""

    verdict: str
    confidence: str
    roads: tuple[RoadRow, ...]
    crossings: tuple[str, ...]
    flips: tuple[str, ...]
    risks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engineer:
    """Pages 2 to 4: demand, machines, assumptions and sources, every bill with its formulas, futures, commands."""

    demand: tuple[tuple[str, str], ...]
    machines: tuple[Machine, ...]
    replicas: ReplicaCurve | None
    prediction: str
    """How far a predicted throughput may be off, and where that comes from."""
    assumptions: tuple[Assumption, ...]
    details: tuple[RoadDetail, ...]
    drivers: tuple[Driver, ...]
    weighing: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    method: tuple[tuple[str, str], ...]
    """(name, text) of each step and formula."""
    commands: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """A decision, ready to print. `curve` is for the chart: monthly dollars of each option over requests a day."""

    title: str
    date: str
    record: str
    previous: str
    horizon_months: int
    executive: Executive
    engineer: Engineer
    curve: tuple[CurvePoint, ...]


METHOD = (
    (
        "Order",
        "Hard constraints come first: context, memory, latency, privacy, licence, quality, skills, time, budget. An "
        "option that breaks one is ruled out, with the reason, and keeps its price for comparison. Of what is left, "
        "only options that no other beats in everything stay on the front; weights or the cost alone choose there.",
    ),
    (
        "Too close",
        "By cost alone: where the volume lies inside the band of a break-even, the costs are too close to tell apart, "
        "and the road that starts sooner is recommended.",
    ),
    (
        "API",
        "requests x (input x (1 - cached) x price + input x cached x cached price + output x price) x tier; a request "
        "that may wait a day pays the batch price.",
    ),
    (
        "Machines",
        "replicas x devices x price of an hour x 730.5 hours; replicas = peak / (throughput x safe use), rounded up; "
        "own machines: purchase x server, power x PUE x price of a kWh, space. Reserved hours keep their price.",
    ),
    (
        "Building",
        "6 x parameters x tokens / (peak speed x share that whole runs reach) x experiments x price of an hour, and "
        "the people; published hours are met within 1.5x for nine of ten runs.",
    ),
    (
        "Futures",
        "Volume, growth, prices, rents, use of machines, throughput and people vary together in thousands of futures "
        "from one seed; the band holds four of five of them. What is paid before the start stands in the total, and in "
        "the monthly cost as its share of the horizon.",
    ),
    (
        "Kinds of figures",
        "measured: counted tokens at a published price. calibrated: predicted from measurements of this model, "
        "hardware and engine. estimated: everything else. Quality is compared only where [decide] quality holds scores "
        "of your own evaluation.",
    ),
)
ORIGINS: tuple[Origin, ...] = ("measured", "calibrated", "estimated")
MOST_MACHINES = 4


def memo(record: DecisionRecord) -> Memo:
    """The pages of one decision."""
    return Memo(
        title=f"Build, buy or open weights: {record.application}",
        date=record.created_at.date().isoformat(),
        record=record.id,
        previous=record.previous,
        horizon_months=record.demand.horizon_months,
        executive=_executive(record),
        engineer=_engineer(record),
        curve=record.curve,
    )


def _executive(record: DecisionRecord) -> Executive:
    chosen = [option for option in record.options if option.name == record.recommended]
    chance = {one.option: one.cheapest for one in record.sensitivity.options} if record.sensitivity else {}
    return Executive(
        verdict=record.verdict,
        confidence=say_confidence(record.recommended, record.sensitivity),
        roads=tuple(
            RoadRow(
                place=place,
                name=option.name,
                road=option.road,
                monthly=option.monthly,
                total=option.horizon_total,
                low=option.horizon_low,
                high=option.horizon_high,
                cheapest=chance.get(option.name, 0.0),
                upfront=option.upfront,
                months_to_start=option.months_to_start,
                control=option.control,
                risk=option.properties.get("risk", ""),
                rejected=option.rejected,
                recommended=option.name == record.recommended,
                on_front=option.name in record.front,
                origin=weakest(option),
                words=row_words(option, chance.get(option.name, 0.0)),
            )
            for place, option in enumerate(record.options, 1)
        ),
        crossings=tuple(flip for flip in record.flips if flip.startswith("Volume:")),
        flips=tuple(flip for flip in record.flips if not flip.startswith("Volume:")),
        risks=tuple(option.properties["risk"] for option in chosen if "risk" in option.properties),
    )


def row_words(option: Option, chance: float) -> tuple[str, str, str]:
    """Total over the horizon, its band, and the share of futures in which an option is the cheapest."""
    if not option.lines:
        return "–", "–", "–"
    if option.rejected:
        likely = "–"
    elif 0 < chance < 0.01:
        likely = "under 1 %"
    elif 0.99 < chance < 1:
        likely = "over 99 %"
    else:
        likely = f"{100 * chance:.0f} %"
    band = f"{dollars(option.horizon_low)} to {dollars(option.horizon_high)}"
    return dollars(option.horizon_total), band, likely


def weakest(option: Option) -> Origin:
    """The kind of the weakest figure in a bill: a sum is as good as its worst part.

    People and evaluations are estimates in every bill and say nothing about one road.
    """
    kinds = [ORIGINS.index(line.origin) for line in option.lines if line.name not in ("People", "Evaluation")]
    return ORIGINS[max(kinds, default=len(ORIGINS) - 1)]


def _engineer(record: DecisionRecord) -> Engineer:
    sources: dict[str, int] = {}

    def number(source: str) -> int:
        return sources.setdefault(source, len(sources) + 1)

    assumptions = tuple(
        Assumption(what=what, value=value, source=source, number=number(source))
        for what, value, source in record.assumptions
    )
    details = tuple(
        RoadDetail(
            place=place,
            name=option.name,
            lines=option.lines,
            bill=tuple(BillLine(line=line, number=number(line.source)) for line in option.lines),
            monthly=option.monthly,
            properties=tuple(option.properties.items()),
            rejected=option.rejected,
        )
        for place, option in enumerate(record.options, 1)
    )
    hosted = [option for option in record.options if option.plan is not None]
    return Engineer(
        demand=tuple(_demand_rows(record.demand)),
        machines=tuple(_machines(hosted, record.demand)),
        replicas=_replicas(record),
        prediction=_prediction(record),
        assumptions=assumptions,
        details=details,
        drivers=strong_drivers(record.sensitivity),
        weighing=tuple(_weighing_rows(record.weighing)),
        sources=tuple(sources),
        method=METHOD,
        commands=(
            "slipway decide run",
            "slipway decide rerun",
            "slipway decide report --html decision.html",
            "slipway deploy plan",
        ),
    )


def strong_drivers(sensitivity: Sensitivity | None) -> tuple[Driver, ...]:
    """The inputs on which the answer hangs more than by chance; all of them where it hangs on none."""
    drivers = sensitivity.drivers if sensitivity is not None else ()
    return tuple(one for one in drivers if abs(one.weight) >= WEAK) or drivers


def _machines(options: list[Option], demand: Demand) -> Iterator[Machine]:
    """The machines of each option, those that are the same once."""
    seen: set[object] = set()
    for option in options:
        plan = option.plan
        assert plan is not None
        key = (option.model, plan.hardware, plan.devices_per_replica, plan.precision, plan.replicas)
        if key in seen or len(seen) == MOST_MACHINES:
            continue
        seen.add(key)
        yield Machine(
            name=option.name,
            what=f"{plan.replicas} x {plan.devices_per_replica} {plan.hardware}, {plan.precision}, up to "
            f"{plan.sequences} requests at once, {plan.utilisation:.0%} busy on average",
            memory=plan.memory,
            latency=tuple(_latency(plan, demand)),
            origin=plan.origin,
        )


def _latency(plan: PlanOption, demand: Demand) -> Iterator[tuple[str, str, str]]:
    def limit(value: float | None) -> str:
        return "no limit" if value is None else f"{value:,.0f} ms"

    yield "First token, 99th percentile", f"{plan.first_token_ms:,.0f} ms", limit(demand.first_token_ms)
    yield "Whole answer, 99th percentile", f"{plan.end_to_end_ms:,.0f} ms", limit(demand.end_to_end_ms)
    yield "Between tokens, mean", f"{plan.token_ms:,.1f} ms", "no limit"


def _replicas(record: DecisionRecord) -> ReplicaCurve | None:
    """Replicas over the trace for the recommended hosted option, else for the cheapest one; None without a trace."""
    traffic = record.demand.traffic
    hosted = [option for option in record.options if option.plan is not None and option.plan.replicas]
    if traffic is None or not hosted:
        return None
    option = next((one for one in hosted if one.name == record.recommended), hosted[0])
    plan = option.plan
    assert plan is not None
    each = plan.requests_per_second / plan.replicas
    return ReplicaCurve(
        option=option.name,
        over="hour" if traffic.by_hour else "share",
        needed=tuple(_needed(traffic, record.demand, each)),
        paid=plan.replicas,
    )


def _needed(traffic: Traffic, demand: Demand, each: float) -> Iterator[tuple[float, int]]:
    rate = demand.requests_per_day / DAY_S
    if traffic.by_hour:
        inside = max(1.0, traffic.peak_factor / max(traffic.by_hour))
        for hour, level in enumerate((*traffic.by_hour, traffic.by_hour[-1])):
            yield float(hour), max(1, ceil(rate * level * inside / each - 1e-9))
        return
    last = len(traffic.levels) - 1
    for place, level in enumerate(traffic.levels):
        yield 100 * place / last, max(1, ceil(rate * level / each - 1e-9))


def _prediction(record: DecisionRecord) -> str:
    drivers = record.sensitivity.drivers if record.sensitivity else ()
    found = next((one for one in drivers if one.what.startswith("Real throughput")), None)
    if found is None:
        return ""
    return (
        f"Real throughput lies between {found.low:.2f} and {found.high:.2f} times the predicted one in four of five "
        f"cases ({found.source}). Four measurements of your own make that a few per cent: slipway deploy calibrate."
    )


def _weighing_rows(weighing: Weighing | None) -> Iterator[tuple[str, str]]:
    if weighing is None or not weighing.scores:
        return
    yield "Method", weighing.method
    yield "Weights", ", ".join(f"{name} {share:.0%}" for name, share in weighing.weights.items())
    if weighing.consistency is not None:
        yield "Consistency ratio", f"{weighing.consistency:.2f}, below 0.1 is usable"
    for name, score in sorted(weighing.scores.items(), key=lambda pair: -pair[1]):
        yield name, f"{score:.2f}"


def _demand_rows(demand: Demand) -> list[tuple[str, str]]:
    def limit(value: float | None) -> str:
        return "none" if value is None else f"{value:,.0f} ms"

    return [
        ("Requests a day", f"{demand.requests_per_day:,.0f}, busiest minute {demand.peak_factor:.3g} times the mean"),
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
        ("Requests that may wait a day", f"{demand.batch_share:.0%}"),
        ("Quality needed", "none" if demand.quality_needed is None else f"{demand.quality_needed:g}"),
        *([("Traffic", _said(demand.traffic))] if demand.traffic is not None else []),
    ]


def _said(traffic: Traffic) -> str:
    return f"{traffic.source}: {traffic.requests:,} requests in {traffic.days:.3g} days"
