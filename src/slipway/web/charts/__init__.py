"""Charts as SVG drawn in Python: the same drawing on a page, in a notebook and in an exported report."""

from slipway.web.charts.axis import Mark
from slipway.web.charts.bar import Bar, BarChart
from slipway.web.charts.chart import Chart
from slipway.web.charts.heatmap import HeatMap
from slipway.web.charts.histogram import Histogram
from slipway.web.charts.line import LineChart, Point, Series
from slipway.web.charts.scatter import Dot, ScatterChart
from slipway.web.charts.spark import Spark

__all__ = [
    "Bar",
    "BarChart",
    "Chart",
    "Dot",
    "HeatMap",
    "Histogram",
    "LineChart",
    "Mark",
    "Point",
    "ScatterChart",
    "Series",
    "Spark",
]
