"""Where are the limits? The scorecard with its intervals, failures first, groups compared."""

from pathlib import Path
from typing import Any

from starlette.responses import Response

from slipway.domain.dataset import Dataset
from slipway.domain.errors import InputError
from slipway.domain.evaluation import CaseResult, Evaluation
from slipway.domain.release import Measure, Release
from slipway.evaluate.cases import parse_cases
from slipway.evaluate.comparison import compare_evaluations
from slipway.evaluate.dataset import list_datasets, load_dataset, save_cases
from slipway.evaluate.history import list_evaluations, load_evaluation
from slipway.evaluate.report import Failure, failures_of, make_scorecard, weak_groups
from slipway.evaluate.suites.base import suites
from slipway.release.parts import list_releases, load_release
from slipway.web import work
from slipway.web.drawings import group_bars, is_share, suite_bars
from slipway.web.filter import link
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, interval, micros, moment, plural, quantity, seconds, significant
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.pages.traces import release_labels
from slipway.web.report import report_response
from slipway.web.table import Column, Row, Table, tag
from slipway.workspace import Workspace

MOST_RESULTS = 50
OWN_COLUMNS = ("latency", "cost")
SEVERITIES = {"high": "fail", "medium": "fail", "low": "warn"}
RESULTS = (
    Column(key="question", label="Case", one_line=False),
    Column(key="answer", label="Answer", one_line=False),
    Column(key="state", label="Severity"),
    Column(key="why", label="Why", one_line=False),
    Column(key="score", label="Scores", one_line=False),
    Column(key="latency", label="Latency", number=True),
    Column(key="cost", label="Cost", number=True),
)
HISTORY = (
    Column(key="when", label="Run"),
    Column(key="suite", label="Suite"),
    Column(key="release", label="Release"),
    Column(key="dataset", label="Dataset", mono=True),
    Column(key="headline", label="Headline", number=True),
    Column(key="cases", label="Cases", number=True),
    Column(key="took", label="Took", number=True),
)
DATASETS = (
    Column(key="name", label="Dataset", mono=True),
    Column(key="cases", label="Cases", number=True),
    Column(key="source", label="From", one_line=False),
    Column(key="made", label="Made"),
)


def show(visit: Visit) -> View:
    workspace = visit.workspace
    releases = list_releases(workspace)
    release = chosen_release(visit, releases)
    data: dict[str, Any] = {
        "release": release,
        "releases": releases,
        "pairs": [(release.label, release.label) for release in releases],
        "suite_pairs": [(name, name) for name in suites.names()],
        "suites": workspace.settings.evaluate.suites,
        "all_suites": suites.names(),
        "history": _history(workspace, list_evaluations(workspace)[:30]),
        "datasets": _datasets(list_datasets(workspace)),
        "jobs": work.running(workspace, kinds=("evaluate",)),
        "cards": (),
        "missing": (),
        "evaluation": None,
    }
    if release is not None:
        made = make_scorecard(workspace, release)
        data["cards"] = made.dimensions
        data["missing"] = made.missing
        wanted = visit.ask("suite")
        chosen = next((each for each in made.dimensions if each.name == wanted), None)
        chosen = chosen or next(iter(made.dimensions), None)
        if chosen is not None:
            data |= _detail(chosen.evaluation, visit)
    return View("evaluate.html", "Evaluate", data, (Crumb("Evaluate"),))


def show_run(visit: Visit) -> View:
    evaluation = load_evaluation(visit.workspace, visit.part("id"))
    label = release_labels(visit.workspace).get(evaluation.release, evaluation.release[:12])
    data = {**_detail(evaluation, visit), "label": label}
    crumbs = (Crumb("Evaluate", "/evaluate"), Crumb(f"{evaluation.suite} of {label}"))
    return View("evaluation.html", f"{evaluation.suite} of {label}", data, crumbs)


def run(visit: Visit) -> Done:
    """Starts the chosen suites as jobs, one after the other."""
    release = load_release(visit.workspace, visit.said("release"))
    chosen = visit.lists.get("suite", [])
    if not chosen:
        raise InputError("No suite was chosen. Tick at least one.")
    for suite in chosen:
        visit.start("evaluate", f"Evaluate {suite}", release=release.label, suite=suite)
    return Done(f"/evaluate?release={release.number}", f"{plural(len(chosen), 'suite')} of {release.label} at work.")


def compare(visit: Visit) -> Done:
    before = load_release(visit.workspace, visit.said("before"))
    after = load_release(visit.workspace, visit.said("after"))
    compare_evaluations(visit.workspace, before, after, suite=visit.said("suite", "quality"))
    return Done(f"/release/{after.number}/compare/{before.number}", "Compared case by case.")


def import_cases(visit: Visit) -> Done:
    """A file of cases, as `slipway evaluate import` reads it from disk."""
    name, file = visit.said("name"), visit.files.get("file")
    if file is None or not file.content:
        raise InputError("No file was chosen. Take a JSONL or CSV file of questions.")
    dataset = save_cases(visit.workspace, name, parse_cases(file.content, Path(file.name)), source=file.name)
    return Done("/evaluate", f"{dataset.name}@{dataset.version} has {plural(len(dataset.cases), 'case')}.")


def show_dataset(visit: Visit) -> View:
    dataset = load_dataset(visit.workspace, visit.part("reference"))
    data = {"dataset": dataset, "cases": dataset.cases[:200]}
    reference = f"{dataset.name}@{dataset.version}"
    return View("dataset.html", reference, data, (Crumb("Evaluate", "/evaluate"), Crumb(reference)))


def chosen_release(visit: Visit, releases: list[Release]) -> Release | None:
    """The release that `?release=` names by number, else the newest."""
    wanted = visit.ask("release")
    return next((release for release in releases if str(release.number) == wanted), releases[0] if releases else None)


def scorecard(visit: Visit) -> Response:
    """The scorecard as one file."""
    made = make_scorecard(
        visit.workspace, load_release(visit.workspace, f"{visit.workspace.application}@{visit.part('number')}")
    )
    return report_response("reports/scorecard.html", scorecard=made)


def _headline(evaluation: Evaluation) -> Measure | None:
    named = (item for item in evaluation.measures if item.name == evaluation.headline)
    return next(named, evaluation.measures[0] if evaluation.measures else None)


def _words(measure: Measure | None) -> str:
    return (
        f"{measure.name.replace('_', ' ')} {quantity(measure.value, measure.unit)}" if measure else "nothing measured"
    )


def _sure(measure: Measure) -> str:
    """`0.81 to 0.92, n = 40`."""
    bounds = interval(measure.low, measure.high, measure.unit)
    cases = f"n = {count(measure.n)}" if measure.n else ""
    return ", ".join(part for part in (bounds, cases) if part)


def _detail(evaluation: Evaluation, visit: Visit) -> dict[str, Any]:
    failures = {id(failure.result): failure for failure in failures_of(evaluation)}
    failed = [failure.result for failure in failures.values()]
    rest = [result for result in evaluation.results if id(result) not in failures]
    only_failed = visit.ask("show", "failed" if failed else "all") == "failed"
    shown = failed if only_failed else [*failed, *rest]
    start = int(visit.ask("from")) if visit.ask("from").isdigit() else 0
    path, query = visit.request.url.path, dict(visit.request.query_params)
    more = link(path, query, **{"from": str(start + MOST_RESULTS)}) if len(shown) > start + MOST_RESULTS else ""
    return {
        "evaluation": evaluation,
        "shares": suite_bars(evaluation),
        "others": [
            (item.name.replace("_", " "), quantity(item.value, item.unit), _sure(item))
            for item in evaluation.measures
            if not is_share(item)
        ],
        "groups": group_bars(evaluation),
        "weak": [
            (weak.group, weak.measure.name.replace("_", " "), _value(weak.measure), _value(weak.overall))
            for weak in weak_groups(evaluation)
        ],
        "failed": len(failed),
        "total": len(evaluation.results),
        "only_failed": only_failed,
        "show_failed": link(path, query, show="failed", **{"from": ""}),
        "show_all": link(path, query, show="all", **{"from": ""}),
        "results": Table(
            caption="Cases",
            columns=RESULTS,
            rows=[_row(result, failures.get(id(result))) for result in shown[start : start + MOST_RESULTS]],
            more_href=more,
            first_href=link(path, query, **{"from": ""}) if start else "",
        ),
    }


def _value(measure: Measure) -> str:
    return quantity(measure.value, measure.unit)


def _row(result: CaseResult, failure: Failure | None) -> Row:
    word, tone = ("passed", "pass") if failure is None else (failure.severity, SEVERITIES[failure.severity])
    scores = ", ".join(
        f"{score.metric.replace('_', ' ')} {significant(score.value)}"
        for score in result.scores
        if score.value is not None and score.metric not in OWN_COLUMNS
    )
    return Row(
        href=f"/traces/{result.trace}" if result.trace else "",
        cells={
            "question": result.question,
            "answer": result.error or result.answer or UNKNOWN,
            "state": tag("error" if result.error else word, tone),
            "why": failure.reason if failure else "blocked by a guardrail" if result.blocked else "",
            "score": scores or UNKNOWN,
            "latency": seconds(result.seconds) if result.seconds else UNKNOWN,
            "cost": micros(result.cost_micros) if result.cost_micros else UNKNOWN,
        },
    )


def _history(workspace: Workspace, evaluations: list[Evaluation]) -> Table:
    labels = release_labels(workspace)
    return Table(
        caption="Runs",
        columns=HISTORY,
        rows=[
            Row(
                href=f"/evaluate/{evaluation.id}",
                cells={
                    "when": moment(evaluation.started_at),
                    "suite": evaluation.suite,
                    "release": labels.get(evaluation.release, UNKNOWN),
                    "dataset": evaluation.dataset or UNKNOWN,
                    "headline": _words(_headline(evaluation)),
                    "cases": count(len(evaluation.results)),
                    "took": seconds(evaluation.seconds),
                },
            )
            for evaluation in evaluations
        ],
        compact=True,
    )


def _datasets(datasets: list[Dataset]) -> Table:
    return Table(
        caption="Datasets",
        columns=DATASETS,
        rows=[
            Row(
                href=f"/evaluate/dataset/{dataset.name}@{dataset.version}",
                cells={
                    "name": f"{dataset.name}@{dataset.version}",
                    "cases": count(len(dataset.cases)),
                    "source": dataset.source + (", made by Slipway" if dataset.made else ""),
                    "made": moment(dataset.created_at),
                },
            )
            for dataset in datasets[:50]
        ],
        compact=True,
    )


ROUTES = [
    page("/evaluate", show),
    act("/evaluate", run, back=show, needs="run_evaluation"),
    act("/evaluate/compare", compare, back=show, needs="run_evaluation"),
    act("/evaluate/import", import_cases, back=show, needs="run_evaluation"),
    page("/evaluate/scorecard/{number:int}", scorecard, needs="see_content"),
    page("/evaluate/dataset/{reference}", show_dataset, needs="see_content"),
    page("/evaluate/{id}", show_run, needs="see_content"),
]
