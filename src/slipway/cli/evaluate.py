"""`slipway evaluate`: datasets, suites over a release, comparisons, the scorecard."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, progress, run, show, table

if TYPE_CHECKING:
    from slipway.domain.dataset import Dataset
    from slipway.domain.evaluation import Comparison, Evaluation
    from slipway.domain.release import Measure
    from slipway.evaluate.report import Failure, Scorecard

app = typer.Typer(no_args_is_help=True)

Reference = Annotated[str, typer.Argument(help="Release: `support@14`, the beginning of its id, or a channel.")]
MOST_FAILURES = 10


@app.command("run")
def run_(
    release: Reference = "",
    suite: Annotated[list[str] | None, typer.Option(help="Suite; may be repeated. Default: [evaluate] suites.")] = None,
    dataset: Annotated[str, typer.Option(help="Dataset, `name` or `name@2`. Default: the own questions.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Most cases per suite, drawn by chance.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Run suites over a release; a run that was stopped goes on where it was."""
    from slipway.evaluate.dataset import default_dataset, load_dataset
    from slipway.evaluate.runner import evaluate
    from slipway.evaluate.suites.base import suites
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        found = load_release(workspace, release)
        cases = load_dataset(workspace, dataset) if dataset else default_dataset(workspace)
        names = suite or workspace.settings.evaluate.suites
        for name in names:
            suites.load(name)
        evaluations = []
        for name in names:
            with progress(name, quiet=as_json) as on_progress:
                evaluations.append(
                    run(
                        evaluate(
                            workspace, found, suite=name, dataset=cases, limit=limit, seed=seed, on_progress=on_progress
                        )
                    )
                )
            if not as_json:
                show(evaluations[-1], as_json=False, text=_evaluation_text)
    if as_json:
        show(evaluations, as_json=True)


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="Name of the dataset.")],
    file: Annotated[Path, typer.Argument(help="JSONL or CSV file of questions.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Import a file of questions as the next version of a dataset."""
    from slipway.evaluate.dataset import import_dataset

    with open_here(folder) as workspace:
        dataset = import_dataset(workspace, name, file)
    show(dataset, as_json=as_json, text=_dataset_line(dataset))


@app.command()
def collect(
    name: Annotated[str, typer.Argument(help="Name of the dataset that gets the questions.")],
    said: Annotated[
        Literal["anything", "good", "bad"], typer.Option(help="Keep only traces with this feedback.")
    ] = "anything",
    query: Annotated[str, typer.Option(help="Words that the trace holds.")] = "",
    release: Annotated[str, typer.Option(help="Release that answered.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most traces to take, newest first.")] = 100,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Collect questions from traces and what users said about the answers."""
    from slipway.evaluate.dataset import dataset_from_traces
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        dataset = dataset_from_traces(
            workspace,
            name,
            said=said,
            query=query,
            release=load_release(workspace, release).id if release else None,
            limit=limit,
        )
    show(dataset, as_json=as_json, text=_dataset_line(dataset))


@app.command()
def datasets(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List every version of every dataset, newest first."""
    from slipway.evaluate.dataset import list_datasets

    with open_here(folder) as workspace:
        found = list_datasets(workspace)
    rows = [
        [
            f"{dataset.name}@{dataset.version}",
            len(dataset.cases),
            sum(case.answerable is False for case in dataset.cases),
            dataset.source,
            f"{dataset.created_at:%Y-%m-%d %H:%M}",
            dataset.hash[:12],
        ]
        for dataset in found
    ]
    empty = "There are no datasets. Import one: slipway evaluate import NAME FILE"
    text = table(["dataset", "questions", "without an answer", "from", "at", "hash"], rows)
    show(found, as_json=as_json, text=text or empty)


@app.command("list")
def list_(release: Reference = "", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List evaluations, newest first."""
    from slipway.evaluate.history import list_evaluations
    from slipway.evaluate.runner import summarise
    from slipway.release.parts import list_releases, load_release

    with open_here(folder) as workspace:
        labels = {known.id: known.label for known in list_releases(workspace)}
        found = list_evaluations(workspace, load_release(workspace, release) if release else None)
    rows = [
        [
            evaluation.id,
            labels.get(evaluation.release, evaluation.release[:12]),
            evaluation.suite,
            str(evaluation.dataset or "–"),
            f"{evaluation.started_at:%Y-%m-%d %H:%M}",
            summarise(evaluation),
        ]
        for evaluation in found
    ]
    text = table(["evaluation", "release", "suite", "dataset", "at", "headline"], rows)
    show(found, as_json=as_json, text=text or "There are no evaluations. Run one: slipway evaluate run")


@app.command("show")
def show_(
    evaluation: Annotated[str, typer.Argument(help="Evaluation, or the beginning of its id.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show one evaluation: measures, groups, failures first."""
    from slipway.evaluate.history import load_evaluation

    with open_here(folder) as workspace:
        found = load_evaluation(workspace, evaluation)
    show(found, as_json=as_json, text=_details)


@app.command()
def compare(
    before: Annotated[str, typer.Argument(help="Release to compare with.")],
    after: Annotated[str, typer.Argument(help="Release that is compared.")],
    suite: Annotated[str, typer.Option(help="Suite whose newest runs are compared.")] = "quality",
    metric: Annotated[str, typer.Option(help="Score to compare by; empty is the suite's own.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare two releases case by case over the same dataset version."""
    from slipway.evaluate.comparison import compare_evaluations, describe
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        old, new = load_release(workspace, before), load_release(workspace, after)
        comparison = compare_evaluations(workspace, old, new, suite=suite, metric=metric)
    show(comparison, as_json=as_json, text=lambda made: _comparison_text(made, describe(made, old.label)))


@app.command()
def report(
    release: Reference = "",
    html: Annotated[Path | None, typer.Option("--html", help="Write the scorecard as one HTML file.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show the scorecard of a release: every suite, what fails, which groups fall behind."""
    from slipway.evaluate.report import make_scorecard
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        scorecard = make_scorecard(workspace, load_release(workspace, release))
    if html is not None:
        from slipway.web.report import render_report

        html.write_text(render_report("reports/scorecard.html", scorecard=scorecard), encoding="utf-8")
    written = f"The scorecard of {scorecard.release.label} is in {html}."
    show(scorecard, as_json=as_json, text=_scorecard_text if html is None else written)


@app.command()
def suites(as_json: AsJson = False) -> None:
    """List the suites and the metrics with what they do."""
    from slipway.evaluate.suites.base import suites as known
    from slipway.metrics.base import metrics

    found = {
        "suites": {name: known.help(name) for name in known.names()},
        "metrics": {name: metrics.help(name) for name in metrics.names()},
    }
    rows = [[kind[:-1], name, about] for kind, names in found.items() for name, about in names.items()]
    show(found, as_json=as_json, text=table(["kind", "name", "what it does"], rows))


def _dataset_line(dataset: "Dataset") -> str:
    return f"{dataset.name}@{dataset.version} holds {len(dataset.cases)} questions ({dataset.hash[:12]})."


def _measures(measures: "Iterable[Measure]") -> str:
    rows = [
        [measure.name, f"{measure.value:.3g}{_unit(measure)}", _interval(measure), measure.n or "–"]
        for measure in measures
    ]
    return table(["measure", "value", "95 % interval", "n"], rows)


def _unit(measure: "Measure") -> str:
    return f" {measure.unit}" if measure.unit else ""


def _interval(measure: "Measure") -> str:
    if measure.low is None or measure.high is None:
        return "–"
    return f"{measure.low:.3g} to {measure.high:.3g}"


def _evaluation_text(evaluation: "Evaluation") -> Iterator[str]:
    yield (
        f"{evaluation.suite}: {len(evaluation.results)} cases of {evaluation.dataset} in {evaluation.seconds:.1f} s, "
        f"evaluation {evaluation.id}"
    )
    yield _measures(evaluation.measures)
    yield from (f"note: {note}" for note in evaluation.notes)
    yield ""


def _details(evaluation: "Evaluation") -> Iterator[str]:
    from slipway.evaluate.report import failures_of

    yield from _evaluation_text(evaluation)
    yield from _failures(failures_of(evaluation))
    for group, measures in evaluation.groups.items():
        yield f"{group}: " + ", ".join(
            f"{measure.name} {measure.value:.3g} ({_interval(measure)}, n = {measure.n})" for measure in measures
        )


def _failures(failures: "Sequence[Failure]") -> Iterator[str]:
    for failure in failures[:MOST_FAILURES]:
        yield f"{failure.severity.ljust(6)} {failure.result.case}: {failure.result.question[:100]}"
        yield f"       {failure.reason[:160]}"
    if len(failures) > MOST_FAILURES:
        yield f"… and {len(failures) - MOST_FAILURES} more (--json lists all)"
    if failures:
        yield ""


def _comparison_text(comparison: "Comparison", sentence: str) -> Iterator[str]:
    yield sentence
    yield (
        f"{comparison.wins} better, {comparison.losses} worse, {comparison.ties} alike of {comparison.n} cases of "
        f"{comparison.dataset}; p = {comparison.p_value:.3g} ({comparison.method})"
    )
    if comparison.lost:
        yield f"worse: {', '.join(comparison.lost[:20])}"


def _scorecard_text(scorecard: "Scorecard") -> Iterator[str]:
    yield f"{scorecard.release.label}  {scorecard.release.id[:12]}"
    for dimension in scorecard.dimensions:
        yield ""
        errors = f", {dimension.errors} errors" if dimension.errors else ""
        yield f"{dimension.name}: {dimension.question} ({dimension.cases} cases{errors})"
        yield _measures(dimension.evaluation.measures)
        yield from _failures(dimension.failures)
    for weak in scorecard.weak:
        yield (
            f"falls behind: {weak.suite}, {weak.group}: {weak.measure.name} {weak.measure.value:.3g} "
            f"({_interval(weak.measure)}) against {weak.overall.value:.3g}"
        )
    for name in scorecard.missing:
        yield f"never run: {name} (slipway evaluate run {scorecard.release.label} --suite {name})"
