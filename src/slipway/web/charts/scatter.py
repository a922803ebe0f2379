"""Points of two measures, with names where they stand out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from slipway.web.charts.axis import across, down, height, left_margin, shorten
from slipway.web.charts.chart import Chart, Frame, Hover, Rows, colour, draw
from slipway.web.charts.scale import Scale, ScaleKind
from slipway.web.charts.svg import Attribute, element, percent, text
from slipway.web.number import compact, significant

MOST_NAMES = 24


class Dot(NamedTuple):
    """A point; `series` picks its colour."""

    x: float
    y: float
    label: str
    series: int = 1


@dataclass(frozen=True, kw_only=True)
class ScatterChart(Chart):
    """At most a few hundred dots; names are printed while they fit. `groups` name the series."""

    dots: Sequence[Dot]
    groups: Sequence[str] = ()
    x_label: str = "x"
    y_label: str = "y"
    x_kind: ScaleKind = "linear"
    y_kind: ScaleKind = "linear"
    x_format: Callable[[float], str] = significant
    y_format: Callable[[float], str] = significant
    tall: int = 260

    def legend(self) -> list[tuple[int, str]]:
        return list(enumerate(self.groups, 1)) if len(self.groups) > 1 else []

    def svg(self) -> str:
        x = Scale.over([dot.x for dot in self.dots], self.x_kind, format=compact)
        y = Scale.over([dot.y for dot in self.dots], self.y_kind, format=compact)
        frame = Frame(self.tall, left_margin(y), 20, top=22, bottom=40)
        parts = [down(y, frame), across(x, frame, label=self.x_label), text(self.y_label, x=-frame.left + 4, y=-10)]
        for dot in self.dots:
            at, top = x.at(dot.x), height(y, frame, dot.y)
            parts.append(element("circle", cx=percent(at), cy=top, r=4, fill=colour(dot.series)))
            if len(self.dots) <= MOST_NAMES:
                anchor, dx = ("end", -8) if at > 70 else ("start", 8)
                place: dict[str, Attribute] = {
                    "x": percent(at),
                    "dx": dx,
                    "dy": 4,
                    "text_anchor": anchor,
                    "class_": "sparse",
                }
                parts.append(text(shorten(dot.label, 28), 11, "var(--text-2)", y=top, **place))
        return draw(self, frame, "".join(parts), hovers=[self._hover(dot, x) for dot in sorted(self.dots)])

    def _hover(self, dot: Dot, x: Scale) -> Hover:
        lines = [(dot.series, self.y_label, self.y_format(dot.y)), (dot.series, self.x_label, self.x_format(dot.x))]
        return Hover(round(x.at(dot.x), 2), dot.label, lines)

    def summary(self) -> str:
        if not self.dots:
            return "No data."
        high = max(self.dots, key=lambda dot: dot.y)
        place = f"{self.y_label} {self.y_format(high.y)} at {self.x_label} {self.x_format(high.x)}"
        return f"{len(self.dots)} points. Highest: {high.label}, {place}."

    def rows(self) -> Rows:
        body = [[dot.label, self.x_format(dot.x), self.y_format(dot.y)] for dot in self.dots]
        return Rows(["", self.x_label, self.y_label], body)
