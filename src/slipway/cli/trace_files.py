"""`slipway watch export` and `import`: traces to files of OTLP JSON lines and back."""

from pathlib import Path
from typing import Annotated, Any

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, show
from slipway.cli.watch import _since, app


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="File to write, such as traces.jsonl or traces.jsonl.gz.")],
    query: Annotated[str, typer.Option(help="Filter, such as status = 'error' and model = 'm'.")] = "",
    text: Annotated[str, typer.Option(help="Words that must all occur.")] = "",
    since: Annotated[str, typer.Option(help="How far back: 90m, 24h or 7d; empty is everything.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write traces to a file, one OTLP request a line. What people said stands there in the clear."""
    from slipway.tracing.export import export_file
    from slipway.tracing.ingest import drain

    with open_here(folder) as workspace:
        drain(workspace.store)
        filters: dict[str, Any] = {"query": query, "text": text}
        if since:
            filters["since"] = _since(since, workspace.now())
        count = export_file(workspace.store, path, **filters)
    show({"path": str(path), "traces": count}, as_json=as_json, text=f"{count} traces were written to {path}")


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="File of OTLP JSON lines, plain or .gz, as collectors write them.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Take in traces and log records from a file; taking it in twice changes nothing."""
    from slipway.tracing.export import import_file

    with open_here(folder) as workspace:
        done = import_file(workspace.store, path)
    text = f"{done.lines} lines: {done.spans} new spans, {done.events} log records of spans, {done.rejected} not usable"
    show(done._asdict(), as_json=as_json, text=text)
