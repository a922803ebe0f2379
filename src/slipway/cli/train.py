"""`slipway train`: the data report, the table of methods, runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, progress, show, table

if TYPE_CHECKING:
    from slipway.domain.training import TrainingRun
    from slipway.train.memory import MethodRow
    from slipway.train.report import DataReport
    from slipway.workspace import Workspace

app = typer.Typer(no_args_is_help=True)

Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", help="Dataset whose answered cases are pairs too; may be repeated.")
]


@app.command()
def report(datasets: Datasets = None, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """What is in the training data: splits, duplicates, leaks, lengths, personal data, and a verdict."""
    with open_here(folder) as workspace:
        found = _report(workspace, datasets or [])
    show(found, as_json=as_json, text=_describe_report)


@app.command()
def methods(
    base: Annotated[str, typer.Option(help="Catalogue name or folder of the base; empty takes [train] base.")] = "",
    tokens: Annotated[float | None, typer.Option(help="Tokens of data; empty counts the application's own.")] = None,
    epochs: Annotated[float, typer.Option(help="How often the data is read.")] = 3.0,
    batch: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 8,
    length: Annotated[int, typer.Option(min=1, help="Longest example, tokens.")] = 1024,
    rank: Annotated[int, typer.Option(min=1, help="Rank of LoRA.")] = 16,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Memory, time and money of each method, before anything runs."""
    from slipway.models.architectures import find_model
    from slipway.train.memory import method_table

    with open_here(folder) as workspace:
        name = (
            base or workspace.settings.train.base or next(iter(workspace.settings.decide.open_models), "llama-3.1-8b")
        )
        shape = find_model(name, folder=workspace.folder)
        counted = tokens if tokens is not None else float(_report(workspace, []).tokens)
    rows = method_table(shape, tokens=counted, epochs=epochs, batch=batch, length=length, rank=rank)
    about = f"{shape.name}: {shape.parameters / 1e9:.3g} billion parameters; {counted:,.0f} tokens x {epochs:g}"
    show(rows, as_json=as_json, text=lambda rows: _describe_methods(rows, about))


@app.command("run")
def run_(
    method: Annotated[str, typer.Option(help="lora, output-layer or all-layers; empty takes [train] method.")] = "",
    base: Annotated[Path | None, typer.Option(help="Folder of the base model; empty takes [train] base.")] = None,
    epochs: Annotated[float, typer.Option(help="How often the data is read.")] = 3.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps instead of epochs.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples a step.")] = 8,
    rate: Annotated[float | None, typer.Option(help="Learning rate; empty takes the method's own.")] = None,
    length: Annotated[int, typer.Option(min=2, help="Longest example, tokens.")] = 1024,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 50,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the method as key=value, for example rank=8.")
    ] = None,
    datasets: Datasets = None,
    force: Annotated[bool, typer.Option("--force", help="Train although the data report advises against it.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Train on the application's pairs; a run that was killed continues. Exit code 3: the data is not ready."""
    from slipway.train.runs import settings_for, train

    with open_here(folder) as workspace, progress("training", quiet=as_json) as on_progress:
        settings = settings_for(
            workspace,
            method=method,
            base=base,
            epochs=epochs,
            steps=steps,
            batch=batch,
            rate=rate,
            length=length,
            checkpoint_every=checkpoint_every,
            method_settings=setting or [],
        )
        done = train(
            workspace,
            settings,
            datasets=datasets or [],
            force=force,
            on_step=lambda step, steps, _loss: on_progress(step, steps),
        )
    show(done, as_json=as_json, text=_describe_run)


@app.command("list")
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the finished runs, newest first."""
    from slipway.train.runs import list_runs

    with open_here(folder) as workspace:
        runs = list_runs(workspace)
    rows = [
        {
            "id": run.id,
            "method": run.method,
            "data": run.data,
            "steps": run.steps,
            "before": run.validation_before,
            "after": run.validation_after,
            "created_at": run.created_at.isoformat(timespec="seconds"),
        }
        for run in runs
    ]
    empty = "Nothing was trained yet. Look at the data first: slipway train report"
    show(
        rows, as_json=as_json, text=lambda rows: table(list(rows[0]), [row.values() for row in rows]) if rows else empty
    )


@app.command("show")
def show_(
    reference: Annotated[str, typer.Argument(help="Id of a run or its beginning; empty is the newest.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show a finished run with its losses and where its weights lie."""
    from slipway.train.runs import load_run

    with open_here(folder) as workspace:
        run = load_run(workspace, reference)
    show(run, as_json=as_json, text=_describe_run)


def _report(workspace: "Workspace", datasets: list[str]) -> "DataReport":
    from slipway.train.pairs import collect_pairs
    from slipway.train.report import report_on

    settings = workspace.settings.train
    collected = collect_pairs(workspace, datasets=datasets)
    return report_on(workspace, collected, validation_share=settings.validation_share, seed=settings.seed)


def _describe_report(report: "DataReport") -> Iterator[str]:
    yield f"{report.verdict}: {'; '.join(report.reasons) or 'nothing stands against training on it'}"
    yield ""
    prompt, completion = report.prompt_tokens, report.completion_tokens
    rows: list[tuple[str, object]] = [
        ("pairs", report.pairs),
        *((f"  from {source}", count) for source, count in report.sources.items()),
        ("kept", len(report.kept)),
        ("held out", len(report.validation)),
        ("exact duplicates", report.exact_duplicates),
        ("near duplicates", report.near_duplicates),
        ("contradictions", report.contradictions),
        ("leaks into evaluation", sum(leak.pairs for leak in report.leaks)),
        ("people", report.people),
        ("personal data", sum(report.personal_data.values())),
        ("secrets", report.secrets),
        ("tokens", report.tokens),
        ("tokens of a prompt, median / 95 % / longest", f"{prompt.median} / {prompt.p95} / {prompt.longest}"),
        ("tokens of an answer", f"{completion.median} / {completion.p95} / {completion.longest}"),
    ]
    yield table(["what", "count"], rows)
    for leak in report.leaks:
        yield f"also in {leak.dataset}: {leak.examples[0]}"
    yield from report.left_out
    yield ""
    yield report.advice


def _describe_methods(rows: "list[MethodRow]", about: str) -> Iterator[str]:
    yield about
    yield ""
    yield table(
        ["method", "trained", "memory GiB", "weights", "training", "activations", "cheapest device", "hours", "$"],
        [
            [
                row.method,
                f"{row.trainable / 1e6:,.1f} M ({row.share:.2%})",
                f"{row.memory_gib:.1f}",
                f"{row.weights_gib:.1f}",
                f"{row.training_gib:.1f}",
                f"{row.activations_gib:.1f}",
                row.device or "none alone",
                None if row.hours is None else f"{row.hours:.2g}",
                None if row.dollars is None else f"{row.dollars:.2f}",
            ]
            for row in rows
        ],
    )
    yield from (f"{row.method}: {row.warning}" for row in rows if row.warning)
    yield ""
    yield "All figures are estimated: memory by formula, hours by what whole training runs reach of a device."


def _describe_run(run: "TrainingRun") -> Iterator[str]:
    yield f"{run.id}  {run.method} on {run.base}, {run.data}"
    yield f"{run.steps} steps, {run.trainable:,} of {run.parameters:,} parameters, {run.seconds:.0f} s"
    if run.losses:
        yield f"loss {run.losses[0].loss:.3f} -> {run.losses[-1].loss:.3f} nats a token"
    if run.validation_before is not None and run.validation_after is not None:
        yield f"held out {run.validation_before:.3f} -> {run.validation_after:.3f}"
    if run.merge_difference is not None:
        yield f"merging changed no logit by more than {run.merge_difference:.1e}"
    yield from run.notes
    yield f"weights in .slipway/{run.output}"
