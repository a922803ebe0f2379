"""Charts: numbers in, points out, words that say the same, and one golden drawing a kind."""

import os
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from slipway.web.charts import (
    Bar,
    BarChart,
    Chart,
    Dot,
    HeatMap,
    Histogram,
    LineChart,
    Mark,
    Point,
    ScatterChart,
    Series,
    Spark,
)
from slipway.web.charts.axis import shorten
from slipway.web.charts.labels import spread
from slipway.web.charts.scale import Scale, ScaleKind
from slipway.web.number import money

GOLDEN = Path(__file__).parent / "golden"

KINDS: dict[str, Chart] = {
    "line": LineChart(
        title="Tokens a second",
        x_label="batch",
        series=[
            Series(name="measured", points=[Point(1, 10), Point(2, 18), Point(4, None), Point(8, 40), Point(16, 52)]),
            Series(name="predicted", points=[Point(1, 11), Point(16, 50)]),
        ],
    ),
    "step": LineChart(
        title="Monthly cost",
        x_kind="log",
        y_kind="log",
        x_label="requests per day",
        format=money,
        marks=[Mark(3000, "Break-even 3,000", 2000, 5000)],
        series=[
            Series(name="API", points=[Point(100, 6), Point(1e5, 6000)]),
            Series(name="Own GPUs", shape="step", points=[Point(100, 180), Point(2e4, 360), Point(1e5, 720)]),
        ],
    ),
    "band": LineChart(
        title="Quality",
        x_kind="time",
        top=1.0,
        series=[Series(name="score", points=[Point(1.7e9 + 3600 * at, 0.5 + at / 20, 0.4, 0.9) for at in range(6)])],
    ),
    "bar": BarChart(
        title="Scores", top=1.0, bars=[Bar("exact", 0.5, 0.4, 0.6, 80), Bar("<grounded>", 0.9), Bar("refused", None)]
    ),
    "histogram": Histogram(
        title="Latency", values=[0.1, 0.2, 0.2, 0.4, 0.9, 1.0], bins=5, x_label="seconds", marks=[Mark(0.8, "limit")]
    ),
    "scatter": ScatterChart(
        title="Cost and quality",
        dots=[Dot(1, 0.5, "a"), Dot(3, 0.9, "b", 2)],
        groups=["API", "open"],
        x_label="$",
        y_label="score",
    ),
    "spark": Spark(title="Errors", values=[1, 2, None, 4, 3]),
    "heatmap": HeatMap(
        title="Recall",
        corner="chunk",
        rows_named=["100", "200"],
        columns_named=["0", "0.5", "1"],
        values=[[0.4, 0.6, None], [0.5, 0.9, 0.7]],
        best=(1, 1),
        notes={(1, 1): "±0.04"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_drawing_is_the_golden_one(kind: str) -> None:
    drawn = KINDS[kind].svg().replace("><", ">\n<") + "\n"
    golden = GOLDEN / f"{kind}.svg"
    if os.environ.get("SLIPWAY_WRITE_GOLDEN"):
        golden.write_text(drawn, encoding="utf-8")
    assert drawn == golden.read_text(encoding="utf-8"), (
        "look at the change, then write it: SLIPWAY_WRITE_GOLDEN=1 pytest"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_chart_is_well_formed_and_says_what_it_shows(kind: str) -> None:
    chart = KINDS[kind]
    root = ElementTree.fromstring(chart.svg())
    assert root.get("role") == "img"
    assert root.get("aria-label") == f"{chart.title}. {chart.summary()}"
    assert len(chart.rows().body) > 0
    assert all(len(row) == len(chart.rows().head) for row in chart.rows().body)


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_gets_the_colours_with_the_drawing(kind: str) -> None:
    html = KINDS[kind]._repr_html_()
    used = set(re.findall(r"var\((--[\w-]+)", html)) - {"--right"}
    assert used
    assert all(f"{name}:light-dark" in html for name in used)


EMPTY: list[Chart] = [
    LineChart(title="e", series=[]),
    LineChart(title="e", series=[Series(name="n", points=[Point(1, None)])], x_kind="log", y_kind="log"),
    LineChart(title="e", series=[Series(name="n", points=[Point(1, 2)])], x_kind="time"),
    BarChart(title="e", bars=[]),
    BarChart(title="e", bars=[Bar("x", 0.0)]),
    Histogram(title="e", values=[]),
    Histogram(title="e", values=[3.0, 3.0, float("nan")]),
    ScatterChart(title="e", dots=[]),
    Spark(title="e", values=[]),
    HeatMap(title="e", rows_named=[], columns_named=[], values=[]),
    HeatMap(title="e", rows_named=["a"], columns_named=["b"], values=[[None]]),
    HeatMap(title="e", rows_named=["a"], columns_named=["b"], values=[[0.0]], diverging=True),
]


@pytest.mark.parametrize("chart", EMPTY, ids=lambda chart: type(chart).__name__)
def test_little_or_no_data_still_draws(chart: Chart) -> None:
    ElementTree.fromstring(chart.svg())
    assert "nan" not in chart.svg().lower()
    assert chart.summary() or isinstance(chart, LineChart)
    chart.rows()


def test_points_land_where_their_values_are() -> None:
    chart = LineChart(
        title="t", series=[Series(name="s", points=[Point(0, 0), Point(5, 50), Point(10, 100)])], tall=134
    )
    # 134 px less the margins of 10 and 24 leave 100 px of plot.
    assert 'd="M0,100L50,50L100,0"' in chart.svg()


def test_long_names_that_begin_alike_stay_apart() -> None:
    alike = ("llama-3.1-8b on rented h100-sxm", "llama-3.1-8b on rented h100-sxm, scaled by the hour")
    told = {shorten(name, 22) for name in alike}
    assert len(told) == 2
    assert all(len(name) == 22 and name.startswith("llama-3.1-8") for name in told)
    assert shorten("fits", 22) == "fits"


def test_a_step_holds_its_value() -> None:
    points = [Point(0, 0), Point(5, 50), Point(10, 100)]
    chart = LineChart(title="t", series=[Series(name="s", points=points, shape="step")], tall=134)
    assert 'd="M0,100H50V50H100V0"' in chart.svg()


def test_untrusted_names_are_shown_as_text() -> None:
    chart = BarChart(title="<script>", bars=[Bar('"><img src=x>', 1.0)])
    assert "<script" not in chart.svg()
    assert "<img" not in chart.svg() + chart._repr_html_()


TICKS = [
    pytest.param("linear", (0, 1), ["0", "0.25", "0.5", "0.75", "1"], id="a share"),
    pytest.param("linear", (-2, 5), ["−2", "0", "2", "4", "6"], id="below and above zero"),
    pytest.param("linear", (0, 1e7), ["0", "2.5M", "5M", "7.5M", "10M"], id="millions"),
    pytest.param("log", (100, 2.5e6), ["100", "1k", "10k", "100k", "1M", "10M"], id="decades"),
    pytest.param("log", (1, 10), ["1", "2", "5", "10"], id="a single decade"),
    pytest.param("time", (0, 86400), ["1 Jan", "06:00", "12:00", "18:00", "2 Jan"], id="one day"),
    pytest.param("time", (0, 600), ["1 Jan", "00:05", "00:10"], id="ten minutes"),
]


@pytest.mark.parametrize(("kind", "values", "labels"), TICKS)
def test_ticks_are_round(kind: ScaleKind, values: tuple[float, float], labels: list[str]) -> None:
    assert [tick.label for tick in Scale.over(values, kind).ticks()] == labels


COLLISIONS = [
    pytest.param([10.0, 50.0], [10.0, 50.0], id="far apart: nothing moves"),
    pytest.param([50.0, 50.0], [43.0, 57.0], id="two at one place part evenly"),
    pytest.param([50.0, 48.0], [56.0, 42.0], id="the order of the lines is kept"),
    pytest.param([2.0, 3.0], [4.0, 18.0], id="pushed back below the upper edge"),
    pytest.param([99.0, 98.0], [98.0, 84.0], id="pushed back above the lower edge"),
    pytest.param([40.0, 41.0, 42.0], [27.0, 41.0, 55.0], id="three share the middle"),
]


@pytest.mark.parametrize(("wanted", "placed"), COLLISIONS)
def test_labels_at_line_ends_do_not_collide(wanted: list[float], placed: list[float]) -> None:
    assert spread(wanted, gap=14, low=4, high=98) == pytest.approx(placed)


def test_more_labels_than_room_share_it_evenly() -> None:
    places = spread([5.0] * 11, gap=14, low=0, high=50)
    assert places == pytest.approx([5.0 * at for at in range(11)])


def test_histogram_counts_every_value_once() -> None:
    histogram = Histogram(title="h", values=[0.0, 0.1, 0.2, 0.3, 1.0], bins=10)
    assert sum(step.many for step in histogram.steps()) == 5
    assert histogram.steps()[-1].high == 1.0


def test_heat_runs_from_weakest_to_strongest() -> None:
    heat = HeatMap(title="h", rows_named=["a"], columns_named=["x", "y", "z"], values=[[0.0, 0.5, 1.0]])
    assert [heat.strength(value)[1] for value in (0.0, 0.5, 1.0)] == [0, 50, 100]


def test_diverging_heat_is_centred_on_no_change() -> None:
    heat = HeatMap(title="h", rows_named=["a"], columns_named=["x", "y"], values=[[-0.1, 0.2]], diverging=True)
    assert heat.strength(-0.1) == ("--heat-fail", 50)
    assert heat.strength(0.2) == ("--heat-pass", 100)
