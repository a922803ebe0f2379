"""`slipway audit`: what was done, and whether the log still tells it as it was."""

from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, show, table

if TYPE_CHECKING:
    from slipway.domain.access import AuditReport

app = typer.Typer(help="Read and verify the log of what was done.", no_args_is_help=True)


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="Most lines to show.")] = 50,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show the newest lines of the log."""
    with open_here(folder) as workspace:
        events = list(workspace.store.audit.events(newest_first=True, limit=limit))
    rows = [
        [
            event.number,
            event.at.strftime("%Y-%m-%d %H:%M:%S"),
            event.actor,
            event.action,
            event.thing,
            " ".join(f"{key}={value}" for key, value in event.detail.items()),
        ]
        for event in events
    ]
    text = table(["line", "at", "who", "what", "thing", "detail"], rows) or "The log is empty."
    show(events, as_json=as_json, text=text)


@app.command()
def verify(
    head: Annotated[
        str, typer.Option(help="Hash of a line that was noted elsewhere: shows whether the end was cut off.")
    ] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Check that no line was changed, dropped or moved. Exit code 1 when one was."""
    from slipway.access.audit import verify_audit

    with open_here(folder) as workspace:
        report = verify_audit(workspace.store, head=head or None)
    show(report, as_json=as_json, text=_text)
    if not report.intact:
        raise typer.Exit(1)


def _text(report: "AuditReport") -> str:
    if report.intact:
        return f"All {report.events} lines are as they were written. Head: {report.head}"
    return f"The log was changed at line {report.first_bad}: {report.problem}."
