"""Every component renders, in its states, with what it is given shown as text."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import UndefinedError

from slipway.domain.release import GateCheck
from slipway.web.charts import Bar, BarChart, HeatMap
from slipway.web.filter import Filter
from slipway.web.rail import Station
from slipway.web.rendering import HERE, templates
from slipway.web.table import Column, Row, Table
from slipway.web.waterfall import SpanBar
from slipway.web.work import JobShown

from .html import Page


@dataclass(frozen=True)
class Shown:
    """A component's call, and what must and must not be read on it."""

    call: str
    given: dict[str, Any] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()


EVIL = '<img src=x onerror="alert(1)">'
TABLE = Table(
    caption="Releases",
    columns=[
        Column(key="name", label="Name", sort_href="/x?sort=-name", sorted="ascending"),
        Column(key="n", label="n", number=True),
    ],
    rows=[Row(cells={"name": EVIL, "n": "3"}, href="/release/1"), Row(cells={"name": "b", "n": "4"}, selected=True)],
    more_href="/x?after=2",
)
BARS = [
    SpanBar(
        name=EVIL,
        word="error",
        depth=0,
        colour=6,
        left="0.00",
        width="100.00",
        took="1.31 s",
        href="/t?span=1",
        selected=True,
    ),
    SpanBar(
        name="chat",
        word="",
        depth=1,
        colour=1,
        left="20.00",
        width="70.00",
        took="910 ms",
        href="/t?span=2",
        selected=False,
    ),
]
JOB = JobShown(
    id="1", title="Evaluate quality", word="running", tone="on", note="3 of 9", running=True, done=3, total=9, error=""
)
CASES = {
    "icon": Shown('{{ ui.icon("search", "Search") }}', wanted=()),
    "tag": Shown('{{ ui.tag(word, "pass") }}', {"word": EVIL}, (EVIL,)),
    "gate": Shown(
        "{{ ui.gate(checks) }}",
        {
            "checks": [
                GateCheck(name="quality", state="below", reason="0.4, at least 0.5", remedy="slipway evaluate run")
            ]
        },
        ("quality", "below", "slipway evaluate run"),
    ),
    "rail": Shown(
        "{{ ui.rail(stations) }}",
        {"stations": [Station("decide", "passed", EVIL, "/decide"), Station("train", "skipped", "as it is", "/train")]},
        ("Decide", "passed with evidence", EVIL, "skipped"),
    ),
    "figure": Shown(
        '<dl>{{ ui.figure("Cost", "$6.04", note="n = 3", change="+2 %", tone="worse") }}</dl>',
        wanted=("Cost", "$6.04", "n = 3"),
    ),
    "table": Shown("{{ ui.table(table) }}", {"table": TABLE}, ("Name", EVIL, "Older")),
    "filter_bar": Shown(
        '{% call ui.filter_bar(filters, "/traces", "list", columns=columns) %}{% endcall %}<div id="list"></div>',
        {
            "filters": [
                Filter(name="q", label="Search", value=EVIL),
                Filter(name="s", label="State", choices=[("", "Any")]),
            ],
            "columns": TABLE.columns,
        },
        ("Any", "Columns"),
    ),
    "panel": Shown('{% call ui.panel("Title", "note") %}inside{% endcall %}', wanted=("Title", "note", "inside")),
    "split": Shown("{% call(side) ui.split() %}{{ 'right' if side else 'left' }}{% endcall %}", wanted=("left right",)),
    "kv": Shown('{{ ui.kv([("Start", word)]) }}', {"word": EVIL}, ("Start", EVIL)),
    "diff": Shown('{{ ui.diff([("same", "a "), ("del", "b"), ("ins", word)]) }}', {"word": EVIL}, ("a b", EVIL)),
    "prompt_editor": Shown('{{ ui.prompt_editor("system", word, "System") }}', {"word": "</textarea>" + EVIL}, (EVIL,)),
    "matrix": Shown(
        "{{ ui.matrix(matrix) }}",
        {
            "matrix": SimpleNamespace(
                caption="Trial",
                columns=[("v1", "0.76 mean")],
                rows=[
                    SimpleNamespace(
                        case="Damaged goods", cells=[SimpleNamespace(tone="fail", text=EVIL, note="30 tok")]
                    )
                ],
            )
        },
        ("v1", "Damaged goods", EVIL, "30 tok"),
    ),
    "waterfall": Shown(
        "{{ ui.waterfall(bars, ticks) }}", {"bars": BARS, "ticks": ["0 ms", "1 s"]}, (EVIL, "1.31 s", "error")
    ),
    "heatmap": Shown(
        "{{ ui.heatmap(heat) }}",
        {"heat": HeatMap(title="Recall", rows_named=["100"], columns_named=["0"], values=[[0.5]])},
        ("0.500", "Show as table"),
    ),
    "chart": Shown(
        "{{ ui.chart(chart) }}", {"chart": BarChart(title="Scores", bars=[Bar(EVIL, 0.5)])}, ("Show as table", "0.500")
    ),
    "compare": Shown(
        '{{ ui.compare("Parts", "a@1", "a@2", rows) }}',
        {"rows": [SimpleNamespace(name="prompt", before="v1", after=EVIL, difference="changed", same=False)]},
        ("a@1", "a@2", EVIL),
    ),
    "timeline": Shown(
        "{{ ui.timeline(events) }}",
        {"events": [SimpleNamespace(when="now", what=EVIL, detail="", tone="pass")]},
        ("now", EVIL),
    ),
    "empty": Shown(
        '{{ ui.empty("No traces yet", "Ask first.", "slipway release ask") }}',
        wanted=("No traces yet", "slipway release ask"),
    ),
    "error": Shown("{{ ui.error(word) }}", {"word": EVIL}, ("That did not work", EVIL)),
    "toast": Shown("{{ ui.toast(word) }}", {"word": EVIL}, (EVIL,)),
    "confirm": Shown(
        '{{ ui.confirm("c", "Erase", "Erase p-1?", "No way back.", "/erase", "Erase p-1", {"a": "b"}, "danger") }}',
        wanted=("Erase p-1?", "No way back.", "Cancel"),
    ),
    "progress": Shown("{{ ui.progress(job) }}", {"job": JOB}, ("Evaluate quality", "3 of 9", "Stop evaluate quality")),
    "copy": Shown("{{ ui.copy(word) }}", {"word": EVIL}, (EVIL,)),
    "field": Shown(
        '{{ ui.field("note", "Note", word, kind="textarea", hint="short") }}', {"word": EVIL}, ("Note", EVIL, "short")
    ),
    "range": Shown('{{ ui.range("n", "Requests", "3.7", 2, 7, 0.02, "5,000", True) }}', wanted=("Requests", "5,000")),
}


@pytest.mark.parametrize("name", CASES)
def test_a_component_renders(name: str) -> None:
    shown = CASES[name]
    html = templates().from_string(shown.call).render(shown.given)
    page = Page(html)
    assert page.problems == []
    for words in shown.wanted:
        assert words in page.text
    assert "<img" not in html


def test_every_component_has_a_case() -> None:
    assert {path.stem for path in (HERE / "components").glob("*.html")} == set(CASES)


def test_every_component_says_what_it_is_for() -> None:
    for path in (HERE / "components").glob("*.html"):
        assert path.read_text(encoding="utf-8").startswith("{# "), path.name


def test_an_undefined_name_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        templates().from_string("{{ nobody_gave_this }}").render()


def test_templates_hold_no_style_and_no_script() -> None:
    computed = {"waterfall.html", "deploy.html"}
    for path in sorted(Path(HERE).rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        if path.name not in computed:
            assert "style=" not in text, path.name
        assert "<script" not in text or path.name == "layout.html", path.name
