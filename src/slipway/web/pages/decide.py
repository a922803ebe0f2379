"""Build, buy or open weights, and from what traffic? Cost curves, sliders, requirements, the verdict."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from slipway.config.settings import DecideSettings
from slipway.decide.answers import Question, list_questions, read_answer, write_answers
from slipway.decide.arrivals import parse_arrivals
from slipway.decide.decision import compare_roads, decide, latest_decision
from slipway.decide.demand import read_demand
from slipway.decide.memo import memo, row_words, strong_drivers
from slipway.decide.options import list_candidates
from slipway.decide.rents import own_prices
from slipway.decide.traffic import figures_of, measure_traffic
from slipway.decide.words import say_confidence
from slipway.deploy.safe_use import with_safe_use
from slipway.domain.deployment import DecisionRecord, Option
from slipway.domain.errors import InputError
from slipway.web.drawings import band_bars, cost_chart
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, compact, count, moment, money, significant
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.report import report_response
from slipway.web.table import Column, Row, Table, tag

MOST_TRAFFIC_BYTES = 20_000_000
"""A larger file is read on the command line, without a browser in between."""
ASSUMED = {"requests_per_day": 5000.0, "input_tokens": 1000.0, "output_tokens": 200.0}
"""Where a slider stands while [decide] does not say."""


class Slider(NamedTuple):
    """A number that the page lets one try out; `log` moves on powers of ten."""

    key: str
    label: str
    low: float
    high: float
    step: float
    log: bool
    write: Callable[[float], str]


class SliderShown(NamedTuple):
    """A slider at its place."""

    slider: Slider
    value: str
    shown: str


SLIDERS = (
    Slider("requests_per_day", "Requests a day", 2, 7, 0.02, True, significant),
    Slider("input_tokens", "Input tokens a request", 2, 5, 0.02, True, significant),
    Slider("output_tokens", "Output tokens a request", 1, 4, 0.02, True, significant),
    Slider("cached_share", "Share of input from the provider's cache", 0, 1, 0.05, False, significant),
    Slider("peak_factor", "Busiest minute over the mean", 1, 20, 0.5, False, significant),
    Slider("growth_per_year", "Traffic a year later over now", 0.5, 10, 0.1, False, significant),
    Slider("gpu_hourly", "GPU hour, $", 0.2, 15, 0.1, False, significant),
    Slider("engineer_monthly", "Engineer a month, $", 0, 30000, 500, False, significant),
    Slider("horizon_months", "Months compared", 3, 60, 1, False, count),
)
COLUMNS = (
    Column(key="name", label="Option", one_line=False),
    Column(key="verdict", label="Verdict", one_line=False),
    Column(key="monthly", label="A month", number=True),
    Column(key="band", label="Total, 80 % band", number=True),
    Column(key="cheapest", label="Cheapest in", number=True),
    Column(key="upfront", label="Up front", number=True),
    Column(key="start", label="Starts in", number=True),
)


def show(visit: Visit) -> View:
    settings = visit.workspace.settings.decide
    tried, changed = _tried(visit, settings)
    data: dict[str, Any] = {
        "questions": [_asked(question) for question in list_questions(settings)],
        "sliders": [_shown(slider, tried) for slider in SLIDERS],
        "changed": [(name, getattr(tried, name)) for name in changed],
        "record": None,
        "saved": visit.workspace.store.records.latest(DecisionRecord, visit.workspace.application),
        "missing": [name for name in ASSUMED if getattr(settings, name) is None],
        "refused": "",
    }
    try:
        demand = read_demand(tried)
        folder, now = visit.workspace.folder, visit.workspace.now()
        own = own_prices(tried, folder=folder)
        candidates = list_candidates(demand, tried, folder=folder, own=own, today=now.date())
        record = compare_roads(visit.workspace.application, demand, tried, candidates, now=now, own=own)
    except InputError as wrong:
        data["refused"] = str(wrong)
    else:
        data |= {
            "record": record,
            "chart": cost_chart(record),
            "confidence": say_confidence(record.recommended, record.sensitivity),
            "bands": band_bars(record),
            "drivers": strong_drivers(record.sensitivity),
            "options": option_table(record),
            "bill": next((option for option in record.options if option.name == record.recommended), None),
        }
    return View("decide.html", "Decide", data, (Crumb("Decide"),))


def save(visit: Visit) -> Done:
    """Decides for [decide] as it stands, and keeps the record."""
    record = decide(visit.workspace)
    return Done("/decide", f"The decision of {moment(record.created_at)} is kept.")


def answer(visit: Visit) -> Done:
    """Writes answers of the questionnaire, or what the sliders show, into slipway.toml."""
    questions = {question.key: question for question in list_questions(visit.workspace.settings.decide)}
    given = {key: read_answer(questions[key], value) for key, value in visit.form.items() if key in questions and value}
    for key, question in questions.items():
        if question.kind == "yes or no" and f"{key}-asked" in visit.form:
            given[key] = key in visit.form
    write_answers(visit.workspace.folder, given)
    return Done("/decide", "slipway.toml has your answers.")


def upload_traffic(visit: Visit) -> Done:
    """Decides for the traffic of a CSV with a line a request, keeps the record, and the figures where asked to."""
    file = visit.files.get("file")
    if file is None or not file.content:
        raise InputError("No file was chosen, or it is empty. Take a CSV with a line for each request: time, tokens.")
    if len(file.content) > MOST_TRAFFIC_BYTES:
        raise InputError(
            f"'{file.name}' has {len(file.content) / 1e6:,.0f} MB, the page takes {MOST_TRAFFIC_BYTES / 1e6:,.0f}. "
            "Read it on the command line: slipway decide run --traffic FILE"
        )
    try:
        text = file.content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"'{file.name}' is not text in UTF-8. Save it as CSV and choose it again.") from None
    arrivals = parse_arrivals(text, Path(file.name))
    counted = measure_traffic(arrivals, source=file.name)
    settings, folder = visit.workspace.settings.decide, visit.workspace.folder
    found = with_safe_use(counted, arrivals, settings, folder=folder)
    record = decide(visit.workspace, traffic=found)
    if "keep" in visit.form:
        write_answers(visit.workspace.folder, figures_of(found))
    told = f"{found.source}: {count(found.requests)} requests in {significant(found.days, 2)} days"
    return Done("/decide", f"{told}. {record.verdict}")


def report(visit: Visit) -> Response:
    """The memo as one file."""
    record = latest_decision(visit.workspace)
    return report_response("reports/decision.html", memo=memo(record), record=record)


def option_table(record: DecisionRecord) -> Table:
    chance = {one.option: one.cheapest for one in record.sensitivity.options} if record.sensitivity else {}
    words = {option.name: row_words(option, chance.get(option.name, 0.0)) for option in record.options}
    rows = [
        Row(
            cells={
                "name": option.name,
                "monthly": money(option.monthly) if option.lines else UNKNOWN,
                "band": _band(option),
                "cheapest": words[option.name][2],
                "upfront": money(option.upfront) if option.upfront else UNKNOWN,
                "start": f"{significant(option.months_to_start, 2)} months",
                "verdict": _verdict(option, record),
            }
        )
        for option in record.options
    ]
    return Table(caption="Options", columns=COLUMNS, rows=rows)


def _band(option: Option) -> str:
    if not option.lines:
        return UNKNOWN
    return f"${compact(option.horizon_low)} to {compact(option.horizon_high)}"


def _verdict(option: Option, record: DecisionRecord) -> Any:
    if option.rejected:
        return f"ruled out: {option.rejected}"
    return tag("recommended", "pass") if option.name == record.recommended else "possible"


def _tried(visit: Visit, settings: DecideSettings) -> tuple[DecideSettings, list[str]]:
    """The settings with what the sliders say, and which of them differ."""
    values: dict[str, Any] = {name: value for name, value in ASSUMED.items() if getattr(settings, name) is None}
    changed = []
    for slider in SLIDERS:
        text = visit.ask(slider.key)
        try:
            place = float(text)
        except ValueError:
            continue
        place = min(slider.high, max(slider.low, place))
        value = float(f"{10**place:.3g}") if slider.log else place
        before = getattr(settings, slider.key)
        if _place(slider, before) != _place(slider, value):
            values[slider.key] = round(value) if slider.key == "horizon_months" else value
            changed.append(slider.key)
    return msgspec.structs.replace(settings, **values), changed


def _shown(slider: Slider, settings: DecideSettings) -> SliderShown:
    value = getattr(settings, slider.key)
    return SliderShown(slider, _place(slider, value), UNKNOWN if value is None else slider.write(value))


def _place(slider: Slider, value: float | None) -> str:
    """Where the handle stands, on the slider's steps."""
    if value is None:
        return f"{slider.low:g}"
    place = math.log10(value) if slider.log else value
    steps = round((min(slider.high, max(slider.low, place)) - slider.low) / slider.step)
    return f"{slider.low + steps * slider.step:.4g}"


def _asked(question: Question) -> dict[str, Any]:
    """A question as the form shows it."""
    now = question.now
    written = (
        ""
        if now is None
        else ", ".join(now)
        if isinstance(now, list)
        else f"{now:.10g}"
        if isinstance(now, float)
        else str(now)
    )
    return {
        "key": question.key,
        "text": question.text,
        "kind": question.kind,
        "now": now,
        "now_text": written,
        "pairs": [(choice, choice) for choice in question.choices],
    }


ROUTES = [
    page("/decide", show),
    act("/decide", save, back=show, needs="change_settings"),
    act("/decide/answers", answer, back=show, needs="change_settings"),
    act("/decide/traffic", upload_traffic, back=show, needs="change_settings"),
    page("/decide/memo", report),
]
