"""Nouns as charts: the same drawing on a page and in a report."""

import math
from collections.abc import Mapping

from slipway.decide.memo import ReplicaCurve
from slipway.domain.deployment import DecisionRecord, Plan
from slipway.domain.evaluation import Evaluation
from slipway.domain.release import Measure
from slipway.web.charts import Bar, BarChart, LineChart, Mark, Point, Series
from slipway.web.number import compact, money, seconds, significant

MOST_CURVES = 5
MOST_GROUP_CHARTS = 4
NEAR = 0.1
"""A break-even this near to the own traffic (in powers of ten) is not marked beside it."""


def cost_chart(record: DecisionRecord, *, tall: int = 260) -> LineChart:
    """Monthly cost over traffic: the recommended option, then the cheapest of each road, both axes logarithmic."""
    demand = record.demand.requests_per_day
    marks = [Mark(demand, f"your traffic, {significant(demand)} a day")]
    marks += [
        Mark(even.requests_per_day, f"break-even {compact(even.requests_per_day)}", even.low, even.high)
        for even in record.breakevens[:2]
        if abs(math.log10(even.requests_per_day / demand)) > NEAR
    ]
    return LineChart(
        title="Monthly cost by traffic",
        x_kind="log",
        y_kind="log",
        x_label="requests a day",
        format=money,
        axis_format=lambda value: f"${compact(value)}",
        marks=marks,
        tall=tall,
        series=[
            Series(name=name, points=[Point(point.requests_per_day, point.monthly.get(name)) for point in record.curve])
            for name in _curves(record)
        ],
    )


def replay_chart(plan: Plan) -> LineChart:
    """Replicas that an autoscaler would run over the replayed traffic, under what arrived."""
    return LineChart(
        title="Replicas over the traffic",
        x_label="seconds",
        format=significant,
        series=[
            Series(
                name="replicas",
                shape="step",
                points=[Point(window.seconds, window.replicas) for window in plan.replay],
            ),
            Series(
                name="requests a second",
                points=[Point(window.seconds, window.requests_per_second) for window in plan.replay],
            ),
        ],
    )


def wait_chart(plan: Plan) -> LineChart:
    """The wait for the first token that 1 % exceeds, over the replayed traffic, with the limit."""
    waits = [Point(window.seconds, window.first_token_ms) for window in plan.replay]
    lines = [Series(name="99th percentile", points=waits)]
    if plan.demand.first_token_ms is not None and waits:
        ends = [Point(at.x, plan.demand.first_token_ms) for at in (waits[0], waits[-1])]
        lines.append(Series(name="limit", points=ends))
    return LineChart(
        title="First token over the traffic",
        x_label="seconds",
        format=lambda value: seconds(value / 1000),
        axis_format=lambda value: seconds(value / 1000),
        series=lines,
    )


def replica_chart(curve: ReplicaCurve) -> LineChart:
    """Replicas that the traffic needs and those that are paid, over the hours of a day or over shares of time."""
    hours = curve.over == "hour"
    return LineChart(
        title="Replicas over the trace",
        x_label="hour of the day, UTC" if hours else "share of time, quietest minutes first, %",
        series=[
            Series(name="needed", points=[Point(x, float(y)) for x, y in curve.needed], shape="step"),
            Series(name="paid", points=[Point(x, float(curve.paid)) for x, _ in curve.needed], shape="step"),
        ],
        tall=160,
    )


def band_bars(record: DecisionRecord) -> BarChart:
    """Cost of each option over the horizon with the band that holds four of five futures."""
    return BarChart(
        title=f"Cost over {record.demand.horizon_months} months",
        bars=[
            Bar(option.name, option.horizon_total, option.horizon_low, option.horizon_high)
            for option in record.options
            if option.lines
        ],
        format=lambda value: f"${compact(float(f'{value:.3g}'))}",
        axis_format=lambda value: f"${compact(value)}",
    )


def measure_bars(title: str, measures: Mapping[str, Measure]) -> BarChart:
    """Shares and scores from 0 to 1 as bars with their intervals."""
    bars = [Bar(label.replace("_", " "), item.value, item.low, item.high, item.n) for label, item in measures.items()]
    return BarChart(title=title, bars=bars, top=1.0)


def suite_bars(evaluation: Evaluation) -> BarChart | None:
    """The measures of a suite that share the axis from 0 to 1; None when there are none."""
    shares = {item.name: item for item in evaluation.measures if is_share(item)}
    return measure_bars(f"{evaluation.suite} measures", shares) if shares else None


def group_bars(evaluation: Evaluation) -> list[BarChart]:
    """One chart a measure over all groups that have it, for measures from 0 to 1."""
    names = dict.fromkeys(item.name for items in evaluation.groups.values() for item in items if is_share(item))
    return [
        measure_bars(
            name.replace("_", " "),
            {group: item for group, items in evaluation.groups.items() for item in items if item.name == name},
        )
        for name in list(names)[:MOST_GROUP_CHARTS]
    ]


def is_share(measure: Measure) -> bool:
    """Whether a measure lies between 0 and 1, so that it can stand on a common axis."""
    bounds = [value for value in (measure.value, measure.low, measure.high) if value is not None]
    return not measure.unit and all(0 <= value <= 1 for value in bounds)


def _curves(record: DecisionRecord) -> list[str]:
    """Names of the curves that fit on one chart: the chosen one, those of the break-evens that are marked, the cheapest
    of each road, then by cost."""
    drawn = {name for point in record.curve for name in point.monthly}
    options = [option for option in record.options if option.name in drawn]
    first = [option.name for option in options if option.name == record.recommended]
    for even in record.breakevens[:2]:
        first += [option.name for option in options if option.name in (even.cheaper_below, even.cheaper_above)]
    for road in ("api", "open", "build"):
        first += [option.name for option in options if option.road == road][:1]
    return list(dict.fromkeys([*first, *(option.name for option in options)]))[:MOST_CURVES]
