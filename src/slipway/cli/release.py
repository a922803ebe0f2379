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
    plain: Annotated[
        bool,
        typer.Option("--plain", help="No prompt and no index: forwards to the model of [release], behind the rails."),
    ] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Cut a release from slipway.toml, the prompt files and the latest index."""
    from slipway.release.parts import cut_plain_release, cut_release

    with open_here(folder) as workspace:
        if plain:
            chosen = workspace.settings.release
            release = cut_plain_release(workspace, engine=chosen.engine, model=chosen.model, note=note)
        else:
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
    from dataclasses import fields
    from itertools import chain

    from slipway.release.card import system_card
    from slipway.release.channels import channel_releases, list_channels
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        found = load_release(workspace, release)
        card = system_card(workspace, found)
        serving = [channel for channel in list_channels(workspace) if found.id in channel_releases(channel)]
        channels = [_channel_text(workspace, channel) for channel in serving]
    shown = {field.name: getattr(card, field.name) for field in fields(card)} | {"channels": serving}
    show(shown, as_json=as_json, text=lambda _: chain(_card_text(card), [""] if channels else [], channels))


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


@app.command("rollback-rule")
def rollback_rule(
    channel: Annotated[str, typer.Argument(help="Channel; empty is the application's own.")] = "",
    error_rate: Annotated[
        float | None, typer.Option(help="Highest share of failed requests; counts only above its neighbours' share.")
    ] = None,
    latency_ratio: Annotated[
        float | None, typer.Option(help="Highest 95th percentile of the latency, as a multiple of the neighbours'.")
    ] = None,
    quality_drop: Annotated[
        float | None, typer.Option(help="How far the mean of --metric may lie below the neighbours'.")
    ] = None,
    metric: Annotated[str | None, typer.Option(help="feedback, grounded or answered.")] = None,
    fewest: Annotated[int | None, typer.Option(help="Requests to the canary before errors decide.")] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Leave a bound out: error-rate, latency-ratio, quality-drop.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Never roll back by itself.")] = False,
    default: Annotated[bool, typer.Option("--default", help="Back to the rule that new channels have.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show or set when a channel's canary loses its traffic by itself."""
    from dataclasses import replace

    from slipway.domain.routing import DEFAULT_RULE
    from slipway.release import channels

    bounds = {"error_rate": error_rate, "latency_ratio": latency_ratio, "quality_drop": quality_drop, "fewest": fewest}
    wishes: dict[str, Any] = {name: value for name, value in bounds.items() if value is not None}
    if metric is not None:
        wishes["metric"] = _metric(metric)
    wishes |= dict.fromkeys(map(_bound, without or ()), None)
    with open_here(folder) as workspace:
        found = channels.load_channel(workspace, channel or workspace.application)
        if off or default or wishes:
            before = DEFAULT_RULE if default else found.rule or DEFAULT_RULE
            found = channels.set_rule(workspace, found.name, None if off else replace(before, **wishes))
        shown = {"channel": found.name, "rule": found.rule}
        show(shown, as_json=as_json, text=lambda _: f"{found.name}: {channels.describe_rule(found.rule)}")


@app.command()
def adaptive(
    channel: Annotated[str, typer.Argument(help="Channel; empty is the application's own.")] = "",
    metric: Annotated[str, typer.Option(help="feedback, grounded or answered.")] = "feedback",
    floor: Annotated[float, typer.Option(help="Least share of each release.")] = 0.05,
    off: Annotated[bool, typer.Option("--off", help="Leave the shares as they stand.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Let a channel's split follow a quality metric."""
    from slipway.domain.routing import AdaptiveSplit
    from slipway.release import channels

    wish = None if off else AdaptiveSplit(metric=_metric(metric), floor=floor)
    with open_here(folder) as workspace:
        changed = channels.set_adaptive(workspace, channel or workspace.application, wish)
        show(changed, as_json=as_json, text=lambda _: _channel_text(workspace, changed))


@app.command()
def shadow(
    channel: Annotated[str, typer.Argument(help="Channel whose requests are copied.")],
    release: Annotated[str, typer.Argument(help="Release that gets the copies; empty ends it.")] = "",
    share: Annotated[float, typer.Option(help="Share of the requests, above 0 and at most 1.")] = 1.0,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Send copies of a channel's requests to a release whose answers nobody sees."""
    from slipway.release import channels
    from slipway.release.parts import load_release

    with open_here(folder) as workspace:
        found = load_release(workspace, release) if release else None
        changed = channels.shadow(workspace, channel, found, share=share)
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
    from slipway.release.channels import channel_releases, describe_steering

    total = sum(share.weight for share in channel.shares)
    named = {id: workspace.store.records.find(Release, id) for id in channel_releases(channel)}
    labels = {id: release.label for id, release in named.items() if release is not None}
    parts = [f"{labels.get(share.release, share.release[:12])} {share.weight / total:.0%}" for share in channel.shares]
    return "\n".join([f"{channel.name} serves {', '.join(parts)}.", *describe_steering(channel, labels)])


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


def _metric(name: str) -> Any:
    from typing import get_args

    from slipway.domain.errors import Conflict, did_you_mean
    from slipway.domain.routing import QualityMetric

    known = get_args(QualityMetric)
    if name not in known:
        raise Conflict(f"'{name}' is no metric of answers; there are {', '.join(known)}.{did_you_mean(name, known)}")
    return name


def _bound(name: str) -> str:
    from slipway.domain.errors import Conflict

    known = ("error-rate", "latency-ratio", "quality-drop")
    if name not in known:
        raise Conflict(f"'{name}' is no bound of a rule; there are {', '.join(known)}.")
    return name.replace("-", "_")


def _is_weight(text: str) -> bool:
    try:
        return float(text) > 0
    except ValueError:
        return False
