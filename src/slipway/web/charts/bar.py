"""Horizontal bars, one a category, with their intervals and printed values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from slipway.web.charts.axis import across, shorten, words_wide
from slipway.web.charts.chart import Chart, Frame, Rows, colour, draw
from slipway.web.charts.scale import Scale
from slipway.web.charts.svg import element, line, percent, text
from slipway.web.number import UNKNOWN, compact, significant

ROW = 26
LONGEST_NAME = 28


class Bar(NamedTuple):
    """A category with its value; `n` cases stand behind it."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0


@dataclass(frozen=True, kw_only=True)
class BarChart(Chart):
    """Bars from zero. `top` fixes the end of the axis, 1.0 for shares."""

    bars: Sequence[Bar]
    format: Callable[[float], str] = significant
    axis_format: Callable[[float], str] = compact
    top: float | None = None
    series: int = 1

    def svg(self) -> str:
        values = [value for bar in self.bars for value in (bar.value, bar.low, bar.high) if value is not None]
        scale = Scale.over([*values, self.top or 0.0], zero=True, top=self.top, format=self.axis_format)
        left = 14 + max((words_wide(shorten(bar.label, LONGEST_NAME), 12) for bar in self.bars), default=0)
        right = 16 + max((words_wide(self._words(bar), 12) for bar in self.bars), default=0)
        frame = Frame(ROW * len(self.bars) + 34, round(left), round(right))
        rows = [self._row(bar, position * ROW + ROW // 2, scale, frame) for position, bar in enumerate(self.bars)]
        # The values stand in the right margin: it stays, however narrow the page.
        drawn = draw(self, frame, across(scale, frame, ticks=5, grid=True) + "".join(rows))
        return drawn.replace(f"var(--right,{frame.right}px)", f"{frame.right}px")

    def _row(self, bar: Bar, middle: int, scale: Scale, frame: Frame) -> str:
        ink = "var(--text)"
        parts = [text(shorten(bar.label, LONGEST_NAME), size=12, colour=ink, x=-8, y=middle, dy=4, text_anchor="end")]
        if bar.value is not None:
            zero, at = scale.at(0), scale.at(bar.value)
            left, width = percent(min(zero, at)), percent(abs(at - zero))
            parts.append(element("rect", x=left, y=middle - 6, width=width, height=12, rx=2, fill=colour(self.series)))
        if bar.low is not None and bar.high is not None:
            low, high = percent(scale.at(bar.low)), percent(scale.at(bar.high))
            parts.append(line(ink, x1=low, x2=high, y1=middle, y2=middle, stroke_width=1.5))
            parts += [line(ink, x1=end, x2=end, y1=middle - 4, y2=middle + 4, stroke_width=1.5) for end in (low, high)]
        value = self._words(bar)
        parts.append(text(value, size=12, colour=ink, x="100%", dx=frame.right - 2, y=middle, dy=4, text_anchor="end"))
        return "".join(parts)

    def _words(self, bar: Bar) -> str:
        return UNKNOWN if bar.value is None else self.format(bar.value)

    def summary(self) -> str:
        known = [(bar.value, bar) for bar in self.bars if bar.value is not None]
        if not known:
            return "No data."
        best = max(known, key=lambda each: each[0])[1]
        worst = min(known, key=lambda each: each[0])[1]
        if best is worst:
            return f"{best.label}: {self._words(best)}."
        return f"Highest: {best.label} {self._words(best)}. Lowest: {worst.label} {self._words(worst)}."

    def rows(self) -> Rows:
        body = []
        for bar in self.bars:
            known = bar.low is not None and bar.high is not None
            bounds = f"{self.format(bar.low or 0)} to {self.format(bar.high or 0)}" if known else UNKNOWN
            body.append([bar.label, self._words(bar), bounds, str(bar.n) if bar.n else UNKNOWN])
        return Rows(["", "value", "95 % interval", "n"], body)
