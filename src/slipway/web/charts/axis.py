"""Axes: grid lines, tick labels, marked places, and what is measured."""

from collections.abc import Sequence
from typing import NamedTuple

from slipway.web.charts.chart import Frame
from slipway.web.charts.scale import Scale
from slipway.web.charts.svg import element, line, percent, text

ROW = 14
"""Pixels from one row of labels above a plot to the next."""


class Mark(NamedTuple):
    """A marked place on the horizontal axis, with an uncertain range where it has one."""

    x: float
    label: str
    low: float | None = None
    high: float | None = None


def across(scale: Scale, frame: Frame, *, label: str = "", ticks: int = 6, grid: bool = False) -> str:
    """The horizontal axis below the plot."""
    parts = [line("var(--border-control)", x2="100%", y1=frame.inner, y2=frame.inner)]
    for position, tick in enumerate(scale.ticks(ticks)):
        at = percent(tick.at)
        anchor = "start" if tick.at < 3 else "end" if tick.at > 97 else "middle"
        # On a narrow page every second label goes (class sparse).
        sparse = "sparse" if position % 2 else None
        parts.append(text(tick.label, x=at, y=frame.inner + 16, text_anchor=anchor, class_=sparse))
        if grid:
            parts.append(line("var(--border)", x1=at, x2=at, y2=frame.inner))
    if label:
        parts.append(text(label, x="50%", y=frame.inner + 32, text_anchor="middle"))
    return "".join(parts)


def down(scale: Scale, frame: Frame, *, ticks: int = 5) -> str:
    """The vertical axis: a grid line a tick, its label left of the plot."""
    parts = []
    for tick in scale.ticks(ticks):
        y = height(scale, frame, tick.value)
        parts.append(line("var(--border)", x2="100%", y1=y, y2=y))
        parts.append(text(tick.label, x=-8, y=y, dy=4, text_anchor="end"))
    return "".join(parts)


def marked(marks: Sequence[Mark], scale: Scale, frame: Frame) -> str:
    """Dashed lines with their labels above the plot; a mark outside the scale is left out."""
    parts = []
    for mark, row in mark_rows(marks, scale):
        at = scale.at(mark.x)
        if mark.low is not None and mark.high is not None:
            left, right = max(0.0, scale.at(mark.low)), min(100.0, scale.at(mark.high))
            width = percent(max(0.0, right - left))
            parts.append(
                element(
                    "rect", x=percent(left), width=width, height=frame.inner, fill="var(--text-3)", fill_opacity=".1"
                )
            )
        anchor, dx = ("end", -4) if at > 60 else ("start", 4)
        parts.append(
            line(
                "var(--text-3)",
                x1=percent(at),
                x2=percent(at),
                y1=-14 - ROW * row,
                y2=frame.inner,
                stroke_dasharray="3 3",
            )
        )
        parts.append(
            text(
                mark.label,
                colour="var(--text-2)",
                x=percent(at),
                dx=dx,
                y=-6 - ROW * row,
                text_anchor=anchor,
                font_weight=600,
            )
        )
    return "".join(parts)


def mark_rows(marks: Sequence[Mark], scale: Scale) -> list[tuple[Mark, int]]:
    """Each mark that lies on the scale with the row of its label: labels that would touch stand in different rows.

    Reckoned for a plot of 440 px, the narrowest beside a side panel.
    """
    taken: list[list[tuple[float, float]]] = []
    placed = []
    for mark in marks:
        at = scale.at(mark.x)
        if not 0 <= at <= 100:
            continue
        width = 100 * (words_wide(mark.label) + 8) / 440
        left, right = (at - width, at) if at > 60 else (at, at + width)
        row = next((row for row, spans in enumerate(taken) if all(right < a or left > b for a, b in spans)), len(taken))
        taken += [[] for _ in range(row + 1 - len(taken))]
        taken[row].append((left, right))
        placed.append((mark, row))
    return placed


def marks_high(marks: Sequence[Mark], scale: Scale) -> int:
    """Pixels above the plot that the labels of marks need."""
    rows = [row for _, row in mark_rows(marks, scale)]
    return 10 + ROW * (max(rows) + 1) if rows else 10


def height(scale: Scale, frame: Frame, value: float) -> float:
    """Pixels from the top of the plot."""
    return frame.inner * (1 - scale.at(value) / 100)


def left_margin(scale: Scale, *, ticks: int = 5) -> int:
    """Room for the longest tick label."""
    return round(14 + words_wide(max((tick.label for tick in scale.ticks(ticks)), key=len, default="")))


def words_wide(words: str, size: int = 11) -> float:
    """Pixels that words take, estimated: Inter's digits and lower case are about 0.58 em wide."""
    return 0.58 * size * len(words)


def shorten(words: str, limit: int) -> str:
    """At most `limit` letters: names that begin alike end differently, so the middle gives way."""
    if len(words) <= limit:
        return words
    tail = (limit - 1) // 2
    return f"{words[: limit - 1 - tail]}…{words[-tail:]}"
