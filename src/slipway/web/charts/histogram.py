"""A histogram: how often values fall into equal steps, with a marked threshold."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from slipway.web.charts.axis import Mark, across, down, height, left_margin, marked, marks_high
from slipway.web.charts.chart import Chart, Frame, Hover, Rows, colour, draw
from slipway.web.charts.scale import Scale, nice_step
from slipway.web.charts.svg import element, percent
from slipway.web.number import compact, significant


class Step(NamedTuple):
    """Values from `low` up to, but not at, `high`; the last step includes it."""

    low: float
    high: float
    many: int


@dataclass(frozen=True, kw_only=True)
class Histogram(Chart):
    """Values in about `bins` equal steps with round borders."""

    values: Sequence[float]
    bins: int = 20
    x_label: str = ""
    format: Callable[[float], str] = significant
    marks: Sequence[Mark] = ()
    tall: int = 180

    def steps(self) -> list[Step]:
        values = [value for value in self.values if math.isfinite(value)]
        if not values:
            return []
        low, high = min(values), max(values)
        width = nice_step(high - low, self.bins) if high > low else (abs(low) / 10 or 0.1)
        first = math.floor(low / width + 1e-9)
        counts = [0] * max(1, math.ceil(high / width - 1e-9) - first)
        for value in values:
            counts[min(len(counts) - 1, math.floor(value / width + 1e-9) - first)] += 1
        edges = [round((first + position) * width, 12) for position in range(len(counts) + 1)]
        return [Step(edges[at], edges[at + 1], many) for at, many in enumerate(counts)]

    def svg(self) -> str:
        steps = self.steps()
        x = Scale(kind="linear", low=steps[0].low, high=steps[-1].high) if steps else Scale.over([])
        y = Scale.over([step.many for step in steps], zero=True, format=compact)
        bottom = 40 if self.x_label else 24
        frame = Frame(self.tall, left_margin(y), 12, top=marks_high(self.marks, x), bottom=bottom)
        bars = [
            element(
                "rect",
                x=percent(x.at(step.low)),
                width=percent(x.at(step.high) - x.at(step.low)),
                y=height(y, frame, step.many),
                height=frame.inner - height(y, frame, step.many),
                fill=colour(1),
                stroke="var(--surface)",
            )
            for step in steps
            if step.many
        ]
        body = down(y, frame, ticks=4) + across(x, frame, label=self.x_label) + "".join(bars)
        hovers = [
            Hover(round(x.at((step.low + step.high) / 2), 2), self._range(step), [(1, "count", str(step.many))])
            for step in steps
        ]
        return draw(self, frame, body, over=marked(self.marks, x, frame), hovers=hovers)

    def _range(self, step: Step) -> str:
        return f"{self.format(step.low)} to {self.format(step.high)}"

    def summary(self) -> str:
        values = sorted(value for value in self.values if math.isfinite(value))
        if not values:
            return "No data."
        ends = f"{len(values)} values from {self.format(values[0])} to {self.format(values[-1])}"
        return " ".join(
            [f"{ends}, median {self.format(values[len(values) // 2])}.", *(f"{mark.label}." for mark in self.marks)]
        )

    def rows(self) -> Rows:
        body = [[self.format(step.low), self.format(step.high), str(step.many)] for step in self.steps()]
        return Rows(["from", "to", "count"], body)
