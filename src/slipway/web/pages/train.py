"""Does training pay? What is in the data, what each method would take, what runs gave."""

from typing import Any

from slipway.domain.errors import SlipwayError
from slipway.domain.training import TrainingRun
from slipway.models.architectures import find_model, list_models
from slipway.train.memory import MethodRow, method_table
from slipway.train.pairs import collect_pairs
from slipway.train.report import DataReport, report_on
from slipway.train.runs import list_runs, load_run, settings_for
from slipway.web import work
from slipway.web.charts import LineChart, Point, Series
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, moment, money, plural, seconds, share, significant
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.table import Column, Row, Table, described

TONES = {"ready": "pass", "look first": "warn", "not ready": "fail"}
EPOCHS = 3.0
ASSUMED_TOKENS = 1e6
METHODS = (
    Column(key="method", label="Method", one_line=False),
    Column(key="trained", label="Trained", number=True),
    Column(key="memory", label="Memory", number=True),
    Column(key="device", label="Cheapest device"),
    Column(key="hours", label="Hours", number=True),
    Column(key="dollars", label="Cost", number=True),
    Column(key="file", label="Result", number=True),
)
RUNS = (
    Column(key="when", label="Run"),
    Column(key="method", label="Method"),
    Column(key="data", label="Data", mono=True),
    Column(key="before", label="Loss before", number=True),
    Column(key="after", label="Loss after", number=True),
    Column(key="memory", label="Peak memory", number=True),
    Column(key="took", label="Took", number=True),
)


def show(visit: Visit) -> View:
    workspace = visit.workspace
    datasets = visit.asked("dataset")
    data: dict[str, Any] = {
        "report": None,
        "refused": "",
        "datasets": _datasets(visit, datasets),
        "models": [(model.name, model.name) for model in list_models()],
        "model": visit.ask("model") or workspace.settings.deploy.model or "llama-3.1-8b",
        "base": workspace.settings.train.base,
        "method": workspace.settings.train.method,
        "runs": _runs(list_runs(workspace)[:20]),
        "jobs": work.running(workspace, kinds=("train",)),
    }
    tokens = 0.0
    try:
        settings = workspace.settings.train
        collected = collect_pairs(workspace, datasets=datasets)
        report = report_on(workspace, collected, validation_share=settings.validation_share, seed=settings.seed)
        tokens = float(report.tokens)
        data |= {"report": report, "tone": TONES[report.verdict], "figures": _figures(report)}
        shape = find_model(data["model"], folder=workspace.folder)
        rows = method_table(shape, tokens=tokens or ASSUMED_TOKENS, epochs=EPOCHS)
        data["methods"] = _methods(rows)
        size = f"{count(tokens)} tokens of data" if tokens else "a million tokens of data, assumed"
        data["reckoned"] = f"estimated for {size}, read three times"
        data["warnings"] = [f"{row.method}: {row.warning}" for row in rows if row.warning]
    except SlipwayError as wrong:
        data["refused"] = str(wrong)
    return View("train.html", "Train", data, (Crumb("Train"),))


def show_run(visit: Visit) -> View:
    run = load_run(visit.workspace, visit.part("id"))
    chart = LineChart(
        title="Loss",
        x_label="step",
        zero=False,
        series=[Series(name="training loss", points=[Point(point.step, point.loss) for point in run.losses])],
    )
    data = {
        "run": run,
        "chart": chart if run.losses else None,
        "figures": [
            ("Held-out loss before", significant(run.validation_before), "nats a token"),
            ("Held-out loss after", significant(run.validation_after), "nats a token"),
            ("Trained", count(run.trainable), f"of {count(run.parameters)} parameters"),
            ("Took", seconds(run.seconds), plural(run.steps, "step")),
            ("Peak memory", f"{significant(run.peak_memory_gib)} GiB", ""),
        ],
        "facts": [
            ("Base", f"{run.base} {run.base_hash[:12]}"),
            ("Data", f"{run.data} {run.data_hash[:12]}"),
            ("Result", f"{run.output} {run.output_hash[:12]}"),
            ("Seed", str(run.seed)),
            *run.settings.items(),
            *run.versions.items(),
        ],
    }
    crumbs = (Crumb("Train", "/train"), Crumb(f"{run.method} of {moment(run.created_at)}"))
    return View("training_run.html", f"{run.method} run", data, crumbs)


def start(visit: Visit) -> Done:
    datasets = visit.lists.get("dataset", [])
    settings_for(visit.workspace, method=visit.said("method"))
    visit.start("train", "Train", method=visit.said("method"), datasets=datasets, force=bool(visit.said("force")))
    return Done("/train", "The run waits for its turn.")


def _datasets(visit: Visit, chosen: list[str]) -> list[tuple[str, bool]]:
    from slipway.domain.dataset import Dataset

    return [(name, name in chosen) for name in visit.workspace.store.records.names(Dataset)]


def _figures(report: DataReport) -> list[tuple[str, str, str]]:
    held = plural(len(report.validation), "pair")
    return [
        ("Pairs", count(report.pairs), f"{count(len(report.kept))} after duplicates, {held} held out"),
        (
            "Tokens",
            count(report.tokens),
            f"median {report.prompt_tokens.median} in, {report.completion_tokens.median} out",
        ),
        ("Near duplicates", count(report.near_duplicates), ""),
        ("Contradictions", count(report.contradictions), "prompts with several answers"),
        ("Personal data", count(sum(report.personal_data.values())), ", ".join(report.personal_data) or "none found"),
        ("Secrets", count(report.secrets), ""),
    ]


def _methods(rows: list[MethodRow]) -> Table:
    return Table(
        caption="Methods",
        columns=METHODS,
        rows=[
            Row(
                cells={
                    "method": described(row.method, row.about),
                    "trained": share(row.share),
                    "memory": f"{significant(row.memory_gib)} GiB",
                    "device": row.device or "none holds it alone",
                    "hours": significant(row.hours),
                    "dollars": money(row.dollars),
                    "file": f"{count(row.adapter_mib)} MiB",
                }
            )
            for row in rows
        ],
    )


def _runs(runs: list[TrainingRun]) -> Table:
    return Table(
        caption="Runs",
        columns=RUNS,
        rows=[
            Row(
                href=f"/train/{run.id}",
                cells={
                    "when": moment(run.created_at),
                    "method": run.method,
                    "data": run.data,
                    "before": significant(run.validation_before),
                    "after": significant(run.validation_after),
                    "memory": f"{significant(run.peak_memory_gib)} GiB" if run.peak_memory_gib else UNKNOWN,
                    "took": seconds(run.seconds),
                },
            )
            for run in runs
        ],
    )


ROUTES = [
    page("/train", show, needs="see_content"),
    act("/train", start, back=show, needs="run_training"),
    page("/train/{id}", show_run, needs="see_content"),
]
