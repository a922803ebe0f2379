"""`slipway demo`, `init`, `up` and `doctor`: start an application and bring it up."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, run, show, to_json

if TYPE_CHECKING:
    from rich.progress import TaskID

    from slipway.lifecycle.up import Brought, Step

NoServe = Annotated[bool, typer.Option("--no-serve", help="End when everything is built, without a server.")]
Port = Annotated[int | None, typer.Option(help="Port of the server; 0 takes a free one.")]


def mount(app: typer.Typer) -> None:
    """Adds the commands to the top level."""
    for command in (demo, init, up, doctor):
        app.command()(command)


def demo(
    documents: Annotated[
        list[Path] | None, typer.Option("--documents", help="Folder or file of your own; else Slipway's own docs.")
    ] = None,
    folder: Annotated[Path, typer.Option("--dir", "-C", help="Folder for the demo application.")] = Path(
        "slipway-demo"
    ),
    no_serve: NoServe = False,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Take an application through all eleven stages, twice, on real documents."""
    from slipway.lifecycle.demo import run_demo

    with _bar(quiet=as_json) as (tell, on_progress):
        shown = run(
            run_demo(
                folder,
                documents=documents or [],
                on_stage=lambda stage: tell(f"{'ok ' if stage.ok else 'no '} {stage.name.ljust(9)} {stage.summary}"),
                on_progress=on_progress,
            )
        )
    if as_json:
        print(to_json(shown))
    if not shown.ok:
        raise typer.Exit(1)
    if not as_json:
        print(f"\nThe application is in {folder}. {shown.closing}")
    if not no_serve:
        from slipway.server import serve

        serve(folder, port=port)


def init(
    folder: Annotated[Path, typer.Argument(help="Folder for the application.")],
    documents: Annotated[
        list[Path] | None, typer.Option("--documents", help="Folder or file to answer from; may be repeated.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="JSONL file of questions with expected answers.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name that clients call; empty takes the folder's name.")] = "",
    as_json: AsJson = False,
) -> None:
    """Start an application: slipway.toml, a prompt, and where the documents lie."""
    from slipway.lifecycle.start import init_application

    path = init_application(folder, name=name, documents=documents or [], questions=questions)
    told = f"{path} is written. Edit it, then run: slipway up --dir {folder}"
    show({"settings": str(path)}, as_json=as_json, text=told)


def up(
    folder: Folder = HERE,
    no_serve: NoServe = False,
    port: Port = None,
    as_json: AsJson = False,
) -> None:
    """Build what is missing, evaluate, gate and serve; repeats only what changed."""
    from slipway.lifecycle.up import bring_up

    with open_here(folder) as workspace, _bar(quiet=as_json) as (tell, on_progress):
        brought = run(bring_up(workspace, on_step=lambda step: tell(_step_text(step)), on_progress=on_progress))
    for item in () if as_json else brought.unreadable:
        print(f"left out          {item.source}: {item.reason}")
    if as_json:
        print(to_json(_shown(brought)))
    if not no_serve:
        from slipway.server import serve

        serve(folder, port=port)


def doctor(
    fix: Annotated[str, typer.Option(help="Install what this extra needs: local, postgres or train.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Check the installation and the application; exit code 1 when something needs mending."""
    from slipway.lifecycle.doctor import examine
    from slipway.lifecycle.mending import install_extra

    if fix:
        install_extra(fix)
    findings = examine(folder)
    lines = []
    for item in findings:
        lines.append(f"{item.state.ljust(8)} {item.name.ljust(16)} {item.detail}")
        if item.remedy:
            lines.append(f"{' ' * 26}{item.remedy}")
    show(findings, as_json=as_json, text="\n".join(lines))
    if any(item.state == "problem" for item in findings):
        raise typer.Exit(1)


@contextmanager
def _bar(*, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[str, int, int], None]]]:
    """Prints finished lines on stdout and, where there is a terminal, a bar for work that takes over a second."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if quiet:
        yield lambda _line: None, lambda _what, _done, _total: None
        return
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    began = time.monotonic()
    shown: dict[str, TaskID] = {}

    def tell(line: str) -> None:
        nonlocal began
        for task in shown.values():
            bar.remove_task(task)
        shown.clear()
        began = time.monotonic()
        if bar.live.is_started:
            bar.console.file.flush()
        print(line, flush=True)

    def on_progress(what: str, done: int, total: int) -> None:
        if time.monotonic() - began < 1:
            return
        if what not in shown:
            shown[what] = bar.add_task(what, total=total)
        bar.update(shown[what], completed=done, total=total)

    with bar:
        yield tell, on_progress


def _step_text(step: "Step") -> str:
    seconds = f"{step.seconds:.1f} s" if step.changed else "unchanged"
    return f"{step.name.ljust(17)} {step.summary} ({seconds})"


def _shown(brought: "Brought") -> dict[str, object]:
    return {
        "release": brought.release.id,
        "label": brought.release.label,
        "live": brought.live,
        "gate": {"open": brought.gate.open, "checks": brought.gate.checks},
        "steps": brought.steps,
        "unreadable": brought.unreadable,
    }
