"""A line the size of a word, for tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipway.web.charts.chart import Chart, Rows, colour
from slipway.web.charts.svg import element, number
from slipway.web.number import UNKNOWN, significant


@dataclass(frozen=True, kw_only=True)
class Spark(Chart):
    """Values at equal distances; None leaves a gap."""

    values: Sequence[float | None]
    format: Callable[[float], str] = significant
    series: int = 1

    def svg(self) -> str:
        known = [value for value in self.values if value is not None]
        low, span = (min(known), (max(known) - min(known)) or 1.0) if known else (0.0, 1.0)
        path, pen = "", "M"
        for position, value in enumerate(self.values):
            if value is None:
                pen = "M"
                continue
            at, top = 100 * position / max(1, len(self.values) - 1), 18 - 16 * (value - low) / span
            path += f"{pen}{number(at)},{number(top)}"
            pen = "L"
        drawn = element(
            "path",
            d=path,
            fill="none",
            stroke=colour(self.series),
            stroke_width=1.5,
            vector_effect="non-scaling-stroke",
        )
        label = f"{self.title}. {self.summary()}"
        box = {"viewBox": "0 0 100 20", "preserveAspectRatio": "none", "role": "img", "aria_label": label}
        return element("svg", drawn, class_="spark", width=80, height=20, **box)

    def summary(self) -> str:
        known = [value for value in self.values if value is not None]
        if not known:
            return "No data."
        ends = f"From {self.format(known[0])} to {self.format(known[-1])}"
        return f"{ends}, between {self.format(min(known))} and {self.format(max(known))}."

    def rows(self) -> Rows:
        words = [UNKNOWN if value is None else self.format(value) for value in self.values]
        return Rows(["", "value"], [[str(position), word] for position, word in enumerate(words, 1)])
