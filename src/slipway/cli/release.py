"""`slipway release`: cut, show, compare, gate, promote, split, roll back, card."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, run, show, table

if TYPE_CHECKING:
    from slipway.domain.answer import Answer
    from slipway.domain.release import Channel, Gate, Measure, Release
    from slipway.release.card import Card
    from slipway.release.changes import Changes
    from slipway.workspace import Workspace

app = typer.Typer(no_args_is_help=True)

Reference = Annotated[str, typer.Argument(help="Release: `support@14`, the beginning of its id, or a channel.")]
ChannelName = Annotated[str, typer.Option("--channel", help="Channel; empty is the application's own.")]


@app.command()
def cut(
    note: Annotated[str, typer.Option(help="What this release is for.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Cut a release from slipway.toml, the prompt files and the latest index."""
    from slipway.release.parts import cut_release

    with open_here(folder) as workspace:
        release = cut_release(workspace, note=note)
        show(release, as_json=as_json, text=_describe)


@app.command("list")
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the releases, newest first."""
    from slipway.domain.release import Release
    from slipway.release.parts import list_releases

    with open_here(folder) as workspace:
        releases = list_releases(workspace)
        rows = [
            {
                "label": release.label,
                "id": release.id,
                "state": workspace.store.records.state(Release, release.id),
                "model": f"{release.model.engine}/{release.model.name}",
                "prompt": str(release.prompt or "–"),
                "index": str(release.index or "–"),
                "created_at": release.created_at.isoformat(timespec="seconds"),
            }
            for release in releases
        ]
    empty = "There is no release yet. Cut one: slipway release cut"
    show(
        rows, as_json=as_json, text=lambda rows: table(list(rows[0]), [row.values() for row in rows]) if rows else empty
    )


@app.command("show")
def show_(release: Reference = "", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show a release: its parts, evidence and gate."""
    from slipway.release.card import system_card
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        card = system_card(workspace, load_release(workspace, release))
    show(card, as_json=as_json, text=_card_text)


@app.command()
def compare(
    before: Annotated[str, typer.Argument(help="Release to compare with.")],
    after: Annotated[str, typer.Argument(help="Release that is new.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare two releases: parts, figures and paired differences."""
    from slipway.release.changes import compare_releases
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        changes = compare_releases(workspace, load_release(workspace, before), load_release(workspace, after))
    show(changes, as_json=as_json, text=_changes_text)


@app.command()
def gate(release: Reference = "", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Check whether a release may go out; exit code 3 when it may not."""
    from slipway.release.gate import gate_release
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        found = load_release(workspace, release)
        answer = gate_release(workspace, found)
    shown = {"release": found.id, "label": found.label, "open": answer.open, "checks": answer.checks}
    show(shown, as_json=as_json, text=lambda _: _gate_text(found, answer))
    if not answer.open:
        raise typer.Exit(3)


@app.command()
def promote(
    release: Reference = "",
    channel: ChannelName = "",
    weight: Annotated[float, typer.Option(help="Share of the traffic, above 0 and at most 1.")] = 1.0,
    by: Annotated[str, typer.Option(help="Who promotes.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Promote although the gate is closed; recorded.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Let a release out on a channel; exit code 3 while its gate is closed."""
    from slipway.release import channels
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        changed = channels.promote(
            workspace, load_release(workspace, release), channel, weight=weight, force=force, by=by
        )
        show(changed, as_json=as_json, text=lambda _: _channel_text(workspace, changed))


@app.command()
def split(
    channel: Annotated[str, typer.Argument(help="Channel to split.")],
    shares: Annotated[list[str], typer.Argument(help="Releases with weights: support@14=0.9 support@15=0.1")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Split a channel's traffic between releases."""
    from slipway.domain.errors import Conflict
    from slipway.release import channels
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        parts = []
        for share in shares:
            name, equals, weight = share.rpartition("=")
            if not equals or not _is_weight(weight):
                raise Conflict(f"'{share}' is not a share. Write RELEASE=WEIGHT, for example support@14=0.9.")
            parts.append((load_release(workspace, name), float(weight)))
        changed = channels.split(workspace, channel, parts)
        show(changed, as_json=as_json, text=lambda _: _channel_text(workspace, changed))


@app.command("roll-back")
def roll_back(
    channel: Annotated[str, typer.Argument(help="Channel; empty is the application's own.")] = "",
    by: Annotated[str, typer.Option(help="Who rolls back.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Return a channel to what it served before."""
    from slipway.release import channels

    with open_here(folder) as workspace:
        changed = channels.roll_back(workspace, channel, by=by)
        show(changed, as_json=as_json, text=lambda _: _channel_text(workspace, changed))


@app.command()
def retire(release: Reference, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Take a release out of use."""
    from slipway.release import channels
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        found = load_release(workspace, release)
        channels.retire(workspace, found)
    show({"retired": found.label}, as_json=as_json, text=f"{found.label} is retired.")


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="Question to put to the release.")],
    release: Annotated[str, typer.Option("--release", help="Release; empty is the newest.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Ask a release one question and show where its answer comes from."""
    from slipway.release.parts import load_release
    from slipway.release.pipeline import answer

    with open_here(folder) as workspace:
        found = load_release(workspace, release)
        reply = run(answer(found, question, workspace=workspace))
    show(reply, as_json=as_json, text=_answer_text)


@app.command()
def card(
    release: Reference = "",
    html: Annotated[Path | None, typer.Option("--html", help="Write the card as one HTML file.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write the system card of a release from its evidence."""
    from slipway.release.card import system_card
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        made = system_card(workspace, load_release(workspace, release))
        if html is not None:
            from slipway.web.report import render_report

            html.write_text(render_report("reports/card.html", card=made), encoding="utf-8")
    show(made, as_json=as_json, text=_card_text if html is None else f"The card of {made.release.label} is in {html}.")


def _describe(release: "Release") -> Iterator[str]:
    from slipway.release.changes import describe_parts

    yield f"{release.label}  {release.id[:12]}"
    width = max(map(len, describe_parts(release)))
    yield from (f"  {part.ljust(width)}  {text}" for part, text in describe_parts(release).items())


def _gate_text(release: "Release", gate: "Gate") -> Iterator[str]:
    yield f"The gate of {release.label} is {'open' if gate.open else 'closed'}."
    for check in gate.checks:
        yield f"  {check.state.ljust(8)} {check.name}: {check.reason}"
        if check.state != "passed" and check.remedy:
            yield f"           {check.remedy}"


def _channel_text(workspace: "Workspace", channel: "Channel") -> str:
    from slipway.domain.release import Release

    total = sum(share.weight for share in channel.shares)
    parts = [
        f"{workspace.store.records.get(Release, share.release).label} {share.weight / total:.0%}"
        for share in channel.shares
    ]
    return f"{channel.name} serves {', '.join(parts)}."


def _answer_text(answer: "Answer") -> Iterator[str]:
    yield answer.text
    for citation in answer.citations:
        yield f"  {citation.document} [{citation.start}:{citation.end}] {citation.title}"
    yield f"  {answer.seconds:.2f} s, {answer.usage.total_tokens} tokens, {answer.cost}, trace {answer.trace}"


def _changes_text(changes: "Changes") -> Iterator[str]:
    before, after = changes.before.label, changes.after.label
    yield (
        table(["part", before, after], [[part.part, part.before, part.after] for part in changes.parts if part.changed])
        or "The parts are the same."
    )
    if changes.figures:
        yield ""
        yield table(
            ["measure", before, after],
            [[f"{item.suite}.{item.name}", _figure(item.before), _figure(item.after)] for item in changes.figures],
        )
    for paired in changes.comparisons:
        low, high = paired.interval
        verdict = "" if paired.clear else ": no clear difference"
        yield f"\n{paired.metric}: {paired.difference:+.3g} ({low:+.3g} to {high:+.3g}, n = {paired.n}){verdict}"


def _card_text(card: "Card") -> Iterator[str]:
    from slipway.release.gate import show_measure

    yield from _describe(card.release)
    yield ""
    for evidence in card.evidence:
        yield f"{evidence.suite}: {evidence.summary}"
        yield from (f"  {show_measure(measure)}" for measure in evidence.measures)
    for signoff in card.signoffs:
        yield f"{signoff.role}: {signoff.person} {signoff.decision}s. {signoff.note}".rstrip()
    yield ""
    yield from _gate_text(card.release, card.gate)


def _figure(measure: "Measure | None") -> Any:
    if measure is None:
        return "–"
    from slipway.release.gate import show_measure

    return show_measure(measure).removeprefix(f"{measure.name} ")


def _is_weight(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
