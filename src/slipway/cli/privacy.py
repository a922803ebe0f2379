"""`slipway privacy`: hand out, erase and keep what is stored about people."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, show, table, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipway.domain.privacy import ErasureReport, RetentionReport

app = typer.Typer(help="Hand out, erase and keep what is stored about people.", no_args_is_help=True)

Person = Annotated[str, typer.Argument(help="The person's id, as clients send it in `user` or `x-slipway-subject`.")]


@app.command()
def people(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the ids of everybody about whom something is kept."""
    from slipway.tracing.ingest import drain

    with open_here(folder) as workspace:
        drain(workspace.store)
        known = workspace.store.keys.subjects()
        show(known, as_json=as_json, text="\n".join(known) or "Nothing is kept about anybody.")


@app.command()
def export(
    person: Person,
    out: Annotated[Path | None, typer.Option("--out", help="File to write to; without it, print.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write everything that is kept about a person as one JSON object."""
    from slipway.access.audit import record_event
    from slipway.domain.errors import NotFound
    from slipway.domain.ids import SubjectId
    from slipway.privacy.export import export_subject, size_of
    from slipway.store.files import write_text

    with open_here(folder) as workspace:
        exported = export_subject(workspace, SubjectId(person))
        things = size_of(exported)
        if not things:
            known = workspace.store.keys.subjects()
            raise NotFound("person", person, known=known, next_step="List the ids: slipway privacy people")
        record_event(workspace.store, "cli", "export_person", workspace.store.keys.pseudonym(person))
    if out is None:
        print(to_json(exported))
        return
    write_text(out, to_json(exported) + "\n")
    show({"file": str(out), "things": things}, as_json=as_json, text=f"{things} things about {person} are in {out}.")


@app.command()
def erase(
    person: Person,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Also rewrite what says the same words but was not copied.")
    ] = False,
    prove: Annotated[bool, typer.Option(help="Search every file of the store afterwards.")] = True,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Erase a person for good, follow every copy, and report each thing. Exit code 1 when something remains."""
    from slipway.domain.ids import SubjectId
    from slipway.privacy.erasure import erase_subject

    if not yes and not as_json:
        typer.confirm(f"Erase everything about {person}? This cannot be undone", abort=True)
    with open_here(folder) as workspace:
        report = erase_subject(workspace, SubjectId(person), everywhere=everywhere, prove=prove)
    show(report, as_json=as_json, text=_erasure_text)
    if report.remains:
        raise typer.Exit(1)


@app.command()
def keep(
    days: Annotated[
        int | None, typer.Option("--days", min=1, help="Days to keep; by default [privacy] keep_days.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Remove traces and jobs that are older than they may be kept."""
    from slipway.privacy.retention import run_retention

    with open_here(folder) as workspace:
        report = run_retention(workspace, keep_days=days)
        show(report, as_json=as_json, text=_retention_text)


@app.command()
def rewrap(
    new_key: Annotated[
        str, typer.Argument(help="New master key as env:NAME or file:PATH; it holds 64 hexadecimal digits.")
    ],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Change the master key: data keys are wrapped anew, no content is rewritten."""
    from slipway.config.secrets import read_secret

    with open_here(folder) as workspace:
        secret = read_secret(new_key, place="the new master key", folder=folder)
        count = workspace.store.keys.rewrap(secret)
    text = f'{count} keys are wrapped anew. Write this into slipway.toml under [privacy]: master_key = "{new_key}"'
    show({"keys": count, "master_key": new_key}, as_json=as_json, text=text)


def _erasure_text(report: "ErasureReport") -> "Iterator[str]":
    if not report.nodes and not report.keys:
        yield "Nothing is kept about this person. List the ids: slipway privacy people"
        return
    yield table(["thing", "id", "state", "why"], [[one.kind, one.id, one.state, one.reason] for one in report.nodes])
    told = ", ".join(f"{count} {state}" for state, count in sorted(report.counts.items()))
    yield f"{told}; {report.keys} keys destroyed; {report.files_searched} files searched in {report.seconds:.1f} s."
    for line in report.remains:
        yield f"Remains: {line}."
    for line in report.notes:
        yield f"Note: {line}."


def _retention_text(report: "RetentionReport") -> str:
    before = report.before.strftime("%Y-%m-%d %H:%M")
    return f"{report.traces} traces and {report.jobs} jobs from before {before} were removed; numbers stay."
