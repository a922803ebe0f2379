"""`slipway learn`: findings, drafts of the change, and what is closed."""

from pathlib import Path
from typing import Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, run, show, table

app = typer.Typer(no_args_is_help=True)

FindingId = Annotated[str, typer.Argument(help="Finding by id or the beginning of it.")]


@app.command()
def triage(
    release: Annotated[str, typer.Argument(help="Release; empty is the newest.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Look for findings in a release's traces, failed cases and feedback."""
    from slipway.learn.triage import triage as look
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        findings = look(workspace, load_release(workspace, release))
    show(findings, as_json=as_json, text=_findings_text)


@app.command("list")
def list_(
    state: Annotated[str, typer.Option(help="open, drafted, closed, dismissed or all.")] = "open",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List findings, the most frequent first."""
    from typing import get_args

    from slipway.domain.errors import NotFound
    from slipway.domain.feedback import FindingState
    from slipway.learn.inbox import list_findings

    states = {name: name for name in get_args(FindingState)}
    if state not in {*states, "all"}:
        raise NotFound("state", state, known=[*states, "all"])
    with open_here(folder) as workspace:
        findings = [item for item in list_findings(workspace) if state in ("all", item.state)]
    show(findings, as_json=as_json, text=_findings_text)


@app.command("show")
def show_(finding: FindingId, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show a finding with its evidence and its drafts."""
    from slipway.learn.inbox import list_drafts, load_finding

    with open_here(folder) as workspace:
        found = load_finding(workspace, finding)
        drafts = list_drafts(workspace, found)
    lines = [f"{found.id}  {found.title}", f"  {found.kind} → {found.route}, {found.state}, {found.volume} times"]
    lines += [f"  {found.detail}", *(f"  ? {question}" for question in found.questions[:10])]
    lines += [f"  draft {draft.id[:12]} for {draft.path}" for draft in drafts]
    show({"finding": found, "drafts": drafts}, as_json=as_json, text="\n".join(lines))


@app.command()
def route(finding: FindingId, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Draft the change that answers a finding: prompt edit, document, test case or training pair."""
    from slipway.learn.inbox import load_finding
    from slipway.learn.routes import draft, draft_file

    with open_here(folder) as workspace:
        made = draft(workspace, load_finding(workspace, finding))
        file = draft_file(workspace, made)
    told = f"{file} holds the draft for {made.path}. Look at it, then run: slipway learn apply {made.finding[:12]}"
    show({"draft": made, "file": str(file)}, as_json=as_json, text=told)


@app.command()
def apply(
    finding: FindingId,
    document: Annotated[
        Path | None, typer.Option("--document", help="Document that answers the finding, instead of the draft.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Put the draft of a finding where it belongs."""
    from slipway.domain.errors import NotFound
    from slipway.learn.inbox import list_drafts, load_finding
    from slipway.learn.routes import accept_document, apply_draft

    with open_here(folder) as workspace:
        found = load_finding(workspace, finding)
        drafts = list_drafts(workspace, found)
        if not drafts:
            raise NotFound(
                "draft of finding", found.id[:12], next_step=f"Make one: slipway learn route {found.id[:12]}"
            )
        path = accept_document(workspace, drafts[0], document) if document else apply_draft(workspace, drafts[0])
    show({"path": str(path)}, as_json=as_json, text=f"{path} is written. Take it into a release: slipway up")


@app.command()
def dismiss(finding: FindingId, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Set a finding aside."""
    from slipway.learn.inbox import load_finding, set_state

    with open_here(folder) as workspace:
        found = set_state(workspace, load_finding(workspace, finding), "dismissed")
    show(found, as_json=as_json, text=f"{found.id[:12]} is dismissed.")


@app.command()
def close(
    release: Annotated[str, typer.Argument(help="Release; empty is the newest.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Close the gaps whose questions a release now answers."""
    from slipway.learn.closing import close_answered
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        closed = run(close_answered(workspace, load_release(workspace, release)))
    show(closed, as_json=as_json, text=lambda closed: f"{len(closed)} gaps are closed.")


def _findings_text(findings: list[object]) -> str:
    from slipway.domain.feedback import Finding

    rows = [
        [item.id[:12], item.volume, item.kind, item.route, item.state, item.title]
        for item in findings
        if isinstance(item, Finding)
    ]
    return table(["finding", "times", "kind", "route", "state", "what"], rows) or "Nothing was found."
