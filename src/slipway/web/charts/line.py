"""Lines, steps and bands over a common axis, with marked places such as break-evens and releases."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from slipway.web.charts.axis import Mark, across, down, height, left_margin, marked, marks_high, shorten, words_wide
from slipway.web.charts.chart import Chart, Frame, Hover, Rows, colour, draw, stretched
from slipway.web.charts.labels import spread
from slipway.web.charts.scale import Scale, ScaleKind, time_label
from slipway.web.charts.svg import element, number, percent, text
from slipway.web.number import UNKNOWN, compact, significant

LONGEST_NAME = 26
MOST_HOVERS = 400


class Point(NamedTuple):
    """A point of a series; `y` None is a gap. `low` and `high` draw the band around it."""

    x: float
    y: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points of one name in the order of x. A `step` holds its value until the next point."""

    name: str
    points: Sequence[Point]
    shape: Literal["line", "step"] = "line"


@dataclass(frozen=True, kw_only=True)
class LineChart(Chart):
    """Up to five series. `format` writes values in tooltips, `axis_format` and `x_format` write the axes.

    `zero` makes the vertical axis start at zero, `top` ends it there when no value is higher.
    """

    named_in_place: ClassVar[bool] = True
    series: Sequence[Series]
    x_kind: ScaleKind = "linear"
    y_kind: ScaleKind = "linear"
    x_label: str = ""
    format: Callable[[float], str] = significant
    axis_format: Callable[[float], str] = compact
    x_format: Callable[[float], str] = compact
    marks: Sequence[Mark] = ()
    zero: bool = True
    top: float | None = None
    tall: int = 260
    span: tuple[float, float] | None = None
    """Both ends of the horizontal axis, where several charts share one."""
    margins: tuple[int, int] | None = None
    """Pixels left and right of the plot, where several charts stand below each other."""

    def legend(self) -> list[tuple[int, str]]:
        named = [(position, series.name) for position, series in enumerate(self.series, 1)]
        return named if len(named) > 1 else []

    def scales(self) -> tuple[Scale, Scale]:
        points = [point for series in self.series for point in series.points]
        xs = [point.x for point in points]
        ys = [value for point in points for value in (point.y, point.low, point.high) if value is not None]
        x = Scale.over(self.span or xs, self.x_kind, format=self.x_format, nice=False)
        return x, Scale.over(ys, self.y_kind, format=self.axis_format, zero=self.zero, top=self.top)

    def svg(self) -> str:
        x, y = self.scales()
        ends = self._ends()
        right = 12
        if self.legend():
            right = round(16 + max((words_wide(name) for _, name, _ in ends), default=0))
        left, right = self.margins or (left_margin(y), right)
        top = marks_high(self.marks, x)
        frame = Frame(self.tall, left, right, top=top, bottom=40 if self.x_label else 24)
        lines = [self._drawn(position, series, x, y, frame) for position, series in enumerate(self.series, 1)]
        dots = [
            element("circle", cx=percent(x.at(point.x)), cy=height(y, frame, point.y), r=3, fill=colour(position))
            for position, series in enumerate(self.series, 1)
            for point in alone(series.points)
            if point.y is not None
        ]
        body = down(y, frame) + across(x, frame, label=self.x_label) + stretched(frame, *lines) + "".join(dots)
        over = marked(self.marks, x, frame) + (self._end_labels(ends, y, frame) if self.legend() else "")
        return draw(self, frame, body, over=over, hovers=self._hovers(x))

    def _ends(self) -> list[tuple[int, str, float]]:
        """(series, its name, its last value) of every series that has one."""
        return [
            (position, shorten(series.name, LONGEST_NAME), last)
            for position, series in enumerate(self.series, 1)
            if (last := last_value(series)) is not None
        ]

    def _end_labels(self, ends: Sequence[tuple[int, str, float]], y: Scale, frame: Frame) -> str:
        places = spread([height(y, frame, last) for _, _, last in ends], gap=14, low=4, high=frame.inner - 2)
        return "".join(
            text(name, colour=colour(series), class_="end-label", x="100%", dx=8, y=place, dy=4, font_weight=550)
            for (series, name, _), place in zip(ends, places, strict=True)
        )

    def _drawn(self, position: int, series: Series, x: Scale, y: Scale, frame: Frame) -> str:
        parts = []
        for run in runs(series.points):
            band = [point for point in run if point.low is not None and point.high is not None]
            if len(band) > 1:
                edge = [*((point.x, point.high) for point in band), *((point.x, point.low) for point in band[::-1])]
                corners = [f"{number(x.at(at))},{number(height(y, frame, value or 0))}" for at, value in edge]
                parts.append(element("path", d=f"M{'L'.join(corners)}Z", fill=colour(position), fill_opacity=".14"))
            parts.append(
                element(
                    "path",
                    d=path(run, x, y, frame, series.shape),
                    fill="none",
                    stroke=colour(position),
                    stroke_width=1.75,
                    stroke_linejoin="round",
                    vector_effect="non-scaling-stroke",
                )
            )
        return "".join(parts)

    def _hovers(self, x: Scale) -> list[Hover]:
        table = list(self._by_x().items())[:MOST_HOVERS]
        return [Hover(round(x.at(at), 2), self._x_words(at), values) for at, values in table]

    def _by_x(self) -> dict[float, list[tuple[int, str, str]]]:
        """For every x: (series, its name, its value in words)."""
        table: dict[float, list[tuple[int, str, str]]] = {}
        for position, series in enumerate(self.series, 1):
            for point in series.points:
                if point.y is not None:
                    table.setdefault(point.x, []).append((position, series.name, self._y_words(point, point.y)))
        return dict(sorted(table.items()))

    def _y_words(self, point: Point, y: float) -> str:
        if point.low is None or point.high is None:
            return self.format(y)
        return f"{self.format(y)} ({self.format(point.low)} to {self.format(point.high)})"

    def _x_words(self, value: float) -> str:
        if self.x_kind == "time":
            clock = time_label(value, 1)[:5] if value % 86400 else ""
            return f"{time_label(value, 86400)} {clock}".strip()
        return f"{self.x_format(value)} {self.x_label}".strip()

    def summary(self) -> str:
        parts = []
        for series in self.series:
            known = [(point.x, point.y) for point in series.points if point.y is not None]
            if not known:
                parts.append(f"{series.name}: no data.")
                continue
            (first_x, first), (last_x, last) = known[0], known[-1]
            start = f"{self.format(first)} at {self._x_words(first_x)}"
            parts.append(
                f"{series.name}: {start}"
                + (f", {self.format(last)} at {self._x_words(last_x)}." if len(known) > 1 else ".")
            )
        return " ".join([*parts, *(f"{mark.label}." for mark in self.marks)])

    def rows(self) -> Rows:
        body = []
        for at, values in self._by_x().items():
            words = {series: value for series, _, value in values}
            body.append(
                [self._x_words(at), *(words.get(position, UNKNOWN) for position in range(1, len(self.series) + 1))]
            )
        return Rows(
            [self.x_label or ("time" if self.x_kind == "time" else "x"), *(series.name for series in self.series)], body
        )


def path(run: Sequence[Point], x: Scale, y: Scale, frame: Frame, shape: Literal["line", "step"]) -> str:
    """The `d` of one unbroken stretch."""
    written = ""
    for point in run:
        at, top = number(x.at(point.x)), number(height(y, frame, point.y or 0))
        if not written:
            written = f"M{at},{top}"
        else:
            written += f"H{at}V{top}" if shape == "step" else f"L{at},{top}"
    return written


def runs(points: Sequence[Point]) -> list[list[Point]]:
    """Unbroken stretches of at least two points; a missing value ends one."""
    found: list[list[Point]] = [[]]
    for point in points:
        if point.y is None:
            found.append([])
        else:
            found[-1].append(point)
    return [run for run in found if len(run) > 1]


def alone(points: Sequence[Point]) -> list[Point]:
    """Points without a neighbour to draw a line to: they become dots."""
    drawn = {point.x for run in runs(points) for point in run}
    return [point for point in points if point.y is not None and point.x not in drawn]


def last_value(series: Series) -> float | None:
    return next((point.y for point in reversed(series.points) if point.y is not None), None)
