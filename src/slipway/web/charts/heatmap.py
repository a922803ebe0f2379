"""A heat map: a number in each cell, its colour as strong as the number, the best one framed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from slipway.web.charts.axis import shorten, words_wide
from slipway.web.charts.chart import Chart, Frame, Rows, draw
from slipway.web.charts.svg import Attribute, element, number, percent, text
from slipway.web.number import UNKNOWN, significant

ROW = 34
LONGEST_NAME = 24


@dataclass(frozen=True, kw_only=True)
class HeatMap(Chart):
    """`values[row][column]`, None where nothing was measured; `notes` hold a second line such as an interval.

    `diverging` centres the colours on zero: red is worse, green is better.
    """

    rows_named: Sequence[str]
    columns_named: Sequence[str]
    values: Sequence[Sequence[float | None]]
    corner: str = ""
    notes: Mapping[tuple[int, int], str] = field(default_factory=dict)
    format: Callable[[float], str] = significant
    diverging: bool = False
    low: float | None = None
    high: float | None = None
    best: tuple[int, int] | None = None

    def strength(self, value: float) -> tuple[str, float]:
        """The token that a cell's colour runs to, and how far it runs (0 to 100)."""
        known = [each for row in self.values for each in row if each is not None]
        if self.diverging:
            reach = max(abs(each) for each in known) or 1.0
            return ("--heat-pass" if value > 0 else "--heat-fail"), 100 * abs(value) / reach
        low = min(known) if self.low is None else self.low
        high = max(known) if self.high is None else self.high
        return "--heat", 100 * max(0.0, min(1.0, (value - low) / (high - low))) if high > low else 50.0

    def svg(self) -> str:
        left = round(14 + max((words_wide(shorten(name, LONGEST_NAME), 12) for name in self.rows_named), default=0))
        top = 38 if self.corner else 24
        frame = Frame(top + 2 + ROW * len(self.rows_named), left, 0, top=top, bottom=2)
        width = 100 / max(1, len(self.columns_named))
        parts = [text(self.corner, x=-left, y=-25)] if self.corner else []
        for column, name in enumerate(self.columns_named):
            parts.append(text(shorten(name, 14), x=percent((column + 0.5) * width), y=-8, text_anchor="middle"))
        for row, name in enumerate(self.rows_named):
            place: dict[str, Attribute] = {"x": -8, "y": row * ROW + ROW // 2, "dy": 4, "text_anchor": "end"}
            parts.append(text(shorten(name, LONGEST_NAME), 12, "var(--text-2)", **place))
            parts += [self._cell(row, column, value, width) for column, value in enumerate(self.values[row])]
        return draw(self, frame, "".join(parts))

    def _cell(self, row: int, column: int, value: float | None, width: float) -> str:
        top, centre = row * ROW, percent((column + 0.5) * width)
        words, fill = UNKNOWN, "var(--sunken)"
        if value is not None:
            token, level = self.strength(value)
            words, fill = self.format(value), f"color-mix(in oklab,var({token}) {number(level)}%,var(--surface))"
        framed = (row, column) == self.best
        note = self.notes.get((row, column), "")
        parts = [
            element(
                "rect",
                x=percent(column * width),
                y=top + 1,
                width=percent(width),
                height=ROW - 2,
                rx=3,
                style=f"fill:{fill}",
                stroke="var(--accent)" if framed else "var(--surface)",
                stroke_width=2,
            ),
            text(
                words,
                size=12,
                colour="var(--text)",
                x=centre,
                y=top + (15 if note else 21),
                text_anchor="middle",
                font_weight=600 if framed else None,
            ),
        ]
        if note:
            parts.append(text(note, colour="var(--text)", x=centre, y=top + 28, text_anchor="middle", class_="sparse"))
        return "".join(parts)

    def summary(self) -> str:
        known = [
            (value, self.rows_named[row], self.columns_named[column])
            for row, values in enumerate(self.values)
            for column, value in enumerate(values)
            if value is not None
        ]
        if not known:
            return "No data."
        (high, *above), (low, *below) = max(known), min(known)
        return f"Highest: {self.format(high)} at {', '.join(above)}. Lowest: {self.format(low)} at {', '.join(below)}."

    def rows(self) -> Rows:
        body = []
        for row, name in enumerate(self.rows_named):
            words = [
                UNKNOWN if value is None else f"{self.format(value)} {self.notes.get((row, column), '')}".strip()
                for column, value in enumerate(self.values[row])
            ]
            body.append([name, *words])
        return Rows([self.corner, *self.columns_named], body)
