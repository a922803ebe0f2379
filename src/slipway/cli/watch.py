"""`slipway watch`: traces, quality, drift, resources, alerts."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, run, show, table

if TYPE_CHECKING:
    from slipway.domain.trace import Trace
    from slipway.watch.quality import Quality
    from slipway.workspace import Workspace

app = typer.Typer(no_args_is_help=True)

Since = Annotated[str, typer.Option(help="How far back: 90m, 24h or 7d.")]
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@app.command()
def live(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show what goes through the running gateway: rates, latency, errors and cost of the last half minute."""
    from slipway.release.parts import list_releases
    from slipway.watch.live import read_live

    with open_here(folder) as workspace:
        labels = {str(release.id): release.label for release in list_releases(workspace)}
        found = read_live(workspace.state / "workers", labels=labels)
    heads = ["channel", "release", "requests/s", "errors", "p50", "p95", "first token", "tokens/s", "dollars/h"]
    rows = [
        [
            row.channel or "none",
            row.release or "none",
            f"{row.requests_per_second:.2f}",
            *(f"{value:.3g}" if value is not None else "-" for value in (row.error_rate, row.p50_s, row.p95_s)),
            f"{row.first_token_p50_s:.3g}" if row.first_token_p50_s is not None else "-",
            f"{row.tokens_per_second:.3g}",
            f"{row.dollars_per_hour:.3g}",
        ]
        for row in found.rows
    ]
    nothing = "Nothing came in the last half minute." if found.workers else "No gateway runs here: slipway serve"
    show(found, as_json=as_json, text=f"{table(heads, rows)}\n{found.in_flight} in flight" if rows else nothing)


@app.command()
def upstreams(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the engines that fail, as the running gateway sees them."""
    from slipway.watch.upstreams import read_health

    with open_here(folder) as workspace:
        found = read_health(workspace.state / "workers")
    rows = [[one.engine, one.model or "all", one.address, one.state, one.opened, one.reason[:80]] for one in found]
    text = table(["engine", "model", "address", "breaker", "opened", "last failure"], rows)
    show(found, as_json=as_json, text=text or "No engine has failed lately.")


@app.command()
def traces(
    query: Annotated[str, typer.Argument(help="Words to look for in questions and answers.")] = "",
    status: Annotated[str, typer.Option(help="ok, error, blocked, abstained or cancelled.")] = "",
    release: Annotated[str, typer.Option(help="Release.")] = "",
    since: Since = "7d",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most traces to list.")] = 20,
    after: Annotated[str, typer.Option(help="Where the page before ended.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List traces, newest first."""
    from slipway.release.parts import load_release

    with _drained(folder) as workspace:
        page = workspace.store.traces.list(
            text=query,
            status=status or None,
            release=load_release(workspace, release).id if release else None,
            since=_since(since, workspace.now()),
            limit=limit,
            after=after or None,
        )
    rows = [
        [
            row.id,
            row.started_at.strftime("%m-%d %H:%M:%S"),
            row.status,
            f"{row.seconds * 1000:.0f} ms",
            row.input_tokens + row.output_tokens,
            row.preview[:60],
        ]
        for row in page.rows
    ]
    shown = table(["trace", "at", "status", "took", "tokens", "question"], rows) or "There are no such traces."
    if page.next:
        shown += f"\nMore: --after {page.next}"
    show({"traces": page.rows, "next": page.next}, as_json=as_json, text=shown)


@app.command()
def trace(
    id: Annotated[str, typer.Argument(help="Trace id, as in the header x-slipway-trace.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show one trace: its spans, messages, passages, verdicts, tokens and cost."""
    from slipway.domain.ids import TraceId

    with _drained(folder) as workspace:
        found = workspace.store.traces.get(TraceId(id))
    show(found, as_json=as_json, text=_trace_text)


@app.command()
def quality(
    since: Since = "7d",
    share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of traces to score; empty takes [watch] sample.")
    ] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Score a sample of the answers and name what fell, since when."""
    from slipway.watch.quality import watch_quality

    with _drained(folder) as workspace:
        seen = watch_quality(workspace, since=_since(since, workspace.now()), share=share)
    show(seen, as_json=as_json, text=_quality_text)


@app.command()
def drift(
    since: Since = "1d",
    before: Annotated[str, typer.Option(help="How far back the questions to compare with reach.")] = "30d",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare the newest questions with those before: lengths, words, scripts, meaning."""
    from slipway.watch.drift import measure_drift
    from slipway.watch.questions import questions_between

    with _drained(folder) as workspace:
        now = workspace.now()
        middle = _since(since, now)
        shifts = measure_drift(
            questions_between(workspace, since=_since(before, now), until=middle),
            questions_between(workspace, since=middle, until=now),
            embedder=workspace.embedder,
        )
    rows = [[shift.what, shift.verdict, shift.index, shift.detail] for shift in shifts]
    show(shifts, as_json=as_json, text=table(["what", "verdict", "index", "detail"], rows))


@app.command()
def resources(since: Since = "30d", folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Processor, memory and disk now; requests, tokens and money by release."""
    from slipway.watch.resources import measure_machine, spending

    with _drained(folder) as workspace:
        machine = measure_machine(workspace)
        spent = spending(workspace, since=_since(since, workspace.now()))
    lines = [
        f"load {machine.load:.1f} on {machine.cores} cores, {machine.memory_available / 1e9:.1f} GB of memory free",
        f"disk: {machine.disk_used_by_slipway / 1e6:.1f} MB used by Slipway, {machine.disk_free / 1e9:.0f} GB free",
        "",
        table(
            ["release", "requests", "errors", "tokens in", "tokens out", "cost $", "p50 ms", "p95 ms"],
            [
                [
                    row.key[:12],
                    row.requests,
                    row.errors,
                    row.input_tokens,
                    row.output_tokens,
                    row.cost_micros / 1e6,
                    row.p50_ms,
                    row.p95_ms,
                ]
                for row in spent
            ],
        ),
    ]
    show({"machine": machine, "spending": spent}, as_json=as_json, text="\n".join(lines).rstrip())


@app.command()
def alerts(
    check: Annotated[bool, typer.Option("--check", help="Check the conditions now and tell the webhook.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List open alerts; with --check, look at the conditions of [watch] first."""
    from slipway.watch.alerts import check_alerts, open_alerts, tell_alerts

    with _drained(folder) as workspace:
        if check:
            run(tell_alerts(workspace, check_alerts(workspace)))
        standing = open_alerts(workspace)
    rows = [[alert.created_at.strftime("%Y-%m-%d %H:%M"), alert.condition, alert.message] for alert in standing]
    show(standing, as_json=as_json, text=table(["since", "condition", "message"], rows) or "No alert is open.")


def _drained(folder: "Any") -> "Workspace":
    """The workspace with every acknowledged trace in its database."""
    from slipway.tracing.ingest import drain

    workspace = open_here(folder)
    drain(workspace.store)
    return workspace


def _since(text: str, now: datetime) -> datetime:
    from slipway.domain.errors import Conflict

    number, unit = text[:-1], text[-1:]
    if not number.isdigit() or unit not in UNITS:
        raise Conflict(f"'{text}' is not a stretch of time. Write it like 90m, 24h or 7d.")
    return now - timedelta(**{UNITS[unit]: int(number)})


def _trace_text(trace: "Trace") -> Iterator[str]:
    root = trace.root
    yield f"{trace.id}  {root.status}  {root.seconds * 1000:.0f} ms  release {root.release or '–'}"
    for span in trace.spans:
        offset = (span.start_ns - root.start_ns) / 1e6
        tokens = f"  {span.input_tokens} → {span.output_tokens} tokens" if span.output_tokens else ""
        yield f"  {offset:8.1f} ms {span.seconds * 1000:8.1f} ms  {span.name}{tokens}"
    for rail, decision in root.verdicts.items():
        yield f"  {rail}: {decision}"
    for key, value in root.content.items():
        yield f"{key}: {value}"


def _quality_text(seen: "Quality") -> Iterator[str]:
    yield f"{seen.sampled} of {seen.of} traces were scored."
    yield table(
        ["from", "n", "answered", "errors", "blocked", "context overlap"],
        [
            [
                point.start.strftime("%m-%d %H:%M"),
                point.n,
                point.answered,
                point.errors,
                point.blocked,
                point.grounded,
            ]
            for point in seen.points
        ],
    )
    for fall in seen.falls:
        yield f"{fall.measure} fell from {fall.before:.2f} to {fall.after:.2f} since {fall.since:%Y-%m-%d %H:%M}"
        yield f"  suspects: {', '.join(fall.suspects)}"
