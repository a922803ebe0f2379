"""What every chart is: a title, an SVG that fits any width, a summary in words, its data as a table."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import ClassVar, NamedTuple

from slipway.web.charts.svg import element, line

TOKENS = Path(__file__).parent.parent / "static" / "tokens.css"
SERIES = 5
"""Series that stay apart under colour-vision deficiencies; the next is drawn as "other"."""


class Frame(NamedTuple):
    """The drawing's pixels: its height and the margins around the plot, whose width follows the page."""

    height: int
    left: int
    right: int
    top: int = 10
    bottom: int = 24

    @property
    def inner(self) -> int:
        return self.height - self.top - self.bottom


class Hover(NamedTuple):
    """What the tooltip says at one place: (series number, name, text) a line. `at` is per cent of the plot's width."""

    at: float
    label: str
    values: Sequence[tuple[int, str, str]]


class Rows(NamedTuple):
    """The data of a chart as a table."""

    head: Sequence[str]
    body: Sequence[Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Chart(ABC):
    """A chart draws itself with the variables of tokens.css, so it follows the theme of the page it stands on."""

    title: str
    named_in_place: ClassVar[bool] = False
    """Whether the drawing names its series itself where it has the room, so that a legend is for narrow pages."""

    @abstractmethod
    def svg(self) -> str:
        """The drawing: full width, fixed height, text at its true size."""

    @abstractmethod
    def summary(self) -> str:
        """One or two sentences that say what the drawing shows."""

    @abstractmethod
    def rows(self) -> Rows:
        """The numbers behind the drawing."""

    def legend(self) -> list[tuple[int, str]]:
        """(series number, name) of what is drawn, when there is more than one."""
        return []

    def _repr_html_(self) -> str:
        legend = " ".join(
            f'<span style="color:var(--series-{series})">■</span> {escape(name)}' for series, name in self.legend()
        )
        style = f"{notebook_tokens()};font:13px/20px system-ui;max-width:760px;margin:0;color:var(--text)"
        return (
            f'<figure style="{escape(style)}"><strong>{escape(self.title)}</strong>{self.svg()}<div>{legend}</div>'
            f'<figcaption style="color:var(--text-2)">{escape(self.summary())}</figcaption></figure>'
        )


@cache
def notebook_tokens() -> str:
    """The colours of tokens.css as one `style` value, for a chart that stands outside our pages."""
    colours = re.findall(r"(--[\w-]+): (light-dark\(#\w{6}, #\w{6}\));", TOKENS.read_text(encoding="utf-8"))
    return "color-scheme:light dark;" + ";".join(f"{name}:{value}" for name, value in colours)


def colour(series: int) -> str:
    return f"var(--series-{min(series, SERIES + 1)})"


def draw(chart: Chart, frame: Frame, body: str, *, over: str = "", hovers: Sequence[Hover] = ()) -> str:
    """The SVG of a plot: `body` uses per cent across and pixels down, `over` is drawn above it.

    The drawing is the plot itself, as wide as the page leaves it; axes and labels stand in its margins. `--right` lets
    a narrow page shrink the margin that the labels at the line ends need.
    """
    cross = line("var(--text-3)", class_="cross", y2="100%", visibility="hidden") if hovers else ""
    points = [{"at": hover.at, "label": hover.label, "values": hover.values} for hover in hovers]
    right = f"var(--right,{frame.right}px)"
    margin = f"{frame.top}px {right} {frame.bottom}px {frame.left}px"
    return element(
        "svg",
        body,
        cross,
        over,
        role="img",
        aria_label=f"{chart.title}. {chart.summary()}",
        height=frame.inner,
        style=f"display:block;overflow:visible;margin:{margin};width:calc(100% - {frame.left}px - {right})",
        data_points=json.dumps(points, ensure_ascii=False, separators=(",", ":")) if points else None,
    )


def stretched(frame: Frame, *paths: str) -> str:
    """Paths in a space of 100 across and the plot's pixels down, stretched to its width; strokes keep theirs."""
    return element(
        "svg",
        *paths,
        viewBox=f"0 0 100 {frame.inner}",
        preserveAspectRatio="none",
        width="100%",
        height=frame.inner,
        overflow="visible",
    )
