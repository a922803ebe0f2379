"""`slipway watch`: traces, quality, drift, resources, alerts."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, run, show, table

if TYPE_CHECKING:
    from slipway.domain.expense import Costs, TraceGroup, TrafficShape
    from slipway.domain.trace import Trace, TraceSummary
    from slipway.store.trace_sums import GroupedBy
    from slipway.watch.quality import Quality
    from slipway.watch.trace_comparison import TraceComparison
    from slipway.workspace import Workspace

app = typer.Typer(no_args_is_help=True)

Since = Annotated[str, typer.Option(help="How far back: 90m, 24h or 7d.")]
Filter = Annotated[
    str, typer.Option("--filter", "-f", help="As 'latency > 2s and not status = ok'; see slipway watch fields.")
]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Most lines to list.")]
After = Annotated[str, typer.Option(help="Where the page before ended.")]
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
    filter: Filter = "",
    status: Annotated[str, typer.Option(help="ok, error, blocked, abstained or cancelled.")] = "",
    release: Annotated[str, typer.Option(help="Release.")] = "",
    since: Since = "7d",
    limit: Limit = 20,
    after: After = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List traces, newest first."""
    from slipway.release.parts import load_release

    with _drained(folder) as workspace:
        page = workspace.store.traces.list(
            text=query,
            query=filter,
            status=status or None,
            release=load_release(workspace, release).id if release else None,
            since=_since(since, workspace.now()),
            limit=limit,
            after=after or None,
        )
    rows = [_line(row) for row in page.rows]
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
    from slipway.domain.money import Money
    from slipway.watch.resources import measure_machine, saved_by_cache, spending

    with _drained(folder) as workspace:
        machine = measure_machine(workspace)
        saved = saved_by_cache(workspace)
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
    if saved.requests:
        lines += [
            "",
            f"the cache answered {saved.requests} requests in {saved.period} and saved {Money(micros=saved.micros)}",
        ]
    show({"machine": machine, "spending": spent, "saved": saved}, as_json=as_json, text="\n".join(lines).rstrip())


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


@app.command()
def parquet(
    out: Annotated[Path, typer.Argument(help="Folder for the files, one a day.")],
    since: Since = "7d",
    content: Annotated[bool, typer.Option("--content", help="Write what was said too, in the clear.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write traces as Parquet files, one a day, for DuckDB, pandas or Spark."""
    from slipway.tracing.parquet import export_days

    with _drained(folder) as workspace:
        now = workspace.now()
        written = export_days(workspace.store, out, since=_since(since, now).date(), until=now.date(), content=content)
    listed = [{"path": str(file.path), "spans": file.spans} for file in written]
    shown = table(["file", "spans"], [[file.path, file.spans] for file in written])
    show({"files": listed}, as_json=as_json, text=shown if written else "There are no traces in that time.")


@app.command()
def fields(as_json: AsJson = False) -> None:
    """List what a filter over traces may name, with units and signs."""
    from slipway.domain.trace_filter import ALIASES, FIELDS

    rows = [
        {
            "field": name,
            "measure": field.measure,
            "of": "the trace" if field.place == "trace" else "a step",
            "about": field.about,
            "choices": list(field.choices),
        }
        for name, field in FIELDS.items()
    ]
    more = (
        ("verdict.RAIL", "choice", "what a rail decided; alone: it did not let the text pass"),
        ("feedback", "choice", "good, mixed or bad; alone: any"),
        ("score, score.NAME", "count", "a score of a person, -1 to 1"),
        ("label", "text", "a label of a person"),
        ("text", "text", "words that were said, as in: text ~ refund*"),
        ("attribute.NAME", "text", "a raw attribute of a step"),
    )
    rows += [
        {"field": name, "measure": measure, "of": "the trace", "about": about, "choices": []}
        for name, measure, about in more
    ]
    text = table(["field", "measure", "of", "about"], [[row[key] for key in list(row)[:4]] for row in rows])
    aliases = ", ".join(f"{alias} = {name}" for alias, name in ALIASES.items())
    show({"fields": rows, "aliases": ALIASES}, as_json=as_json, text=f"{text}\n\nAlso: {aliases}")


@app.command()
def sessions(
    filter: Filter = "",
    since: Since = "7d",
    limit: Limit = 20,
    after: After = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List conversations, the newest first: how many requests, how long, what they cost."""
    _show_groups("session", filter=filter, since=since, limit=limit, after=after, folder=folder, as_json=as_json)


@app.command()
def users(
    filter: Filter = "",
    since: Since = "7d",
    limit: Limit = 20,
    after: After = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """List the people behind the traffic by their pseudonyms, the newest first."""
    _show_groups("subject", filter=filter, since=since, limit=limit, after=after, folder=folder, as_json=as_json)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="Trace id.")],
    after: Annotated[str, typer.Argument(help="Trace id to compare it with.")],
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare two traces: parts of the release, figures, and the words that came and went."""
    from slipway.watch.trace_comparison import compare_traces

    with _drained(folder) as workspace:
        traces = workspace.store.traces
        compared = compare_traces(workspace, traces.get(before), traces.get(after))
    show(compared, as_json=as_json, text=_comparison_text)


@app.command()
def replay(
    id: Annotated[str, typer.Argument(help="Trace id.")],
    release: Annotated[str, typer.Option(help="Release that is asked; empty is the newest.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Ask the request of a trace again, of another release, and compare the two answers."""
    from slipway.release.parts import load_release
    from slipway.watch.replay import replay as replay_
    from slipway.watch.trace_comparison import compare_traces

    with _drained(folder) as workspace:
        traces = workspace.store.traces
        old = traces.get(id)
        made = run(replay_(workspace, old, load_release(workspace, release)))
        compared = compare_traces(workspace, old, traces.get(made))
    show({"trace": made, "comparison": compared}, as_json=as_json, text=lambda _: _comparison_text(compared))


@app.command()
def note(
    id: Annotated[str, typer.Argument(help="Trace id.")],
    comment: Annotated[str, typer.Argument(help="What to note.")] = "",
    thumbs: Annotated[str, typer.Option(help="up or down.")] = "",
    score: Annotated[float | None, typer.Option(help="From -1 (bad) to 1 (good).")] = None,
    name: Annotated[str, typer.Option(help="What is judged, such as tone; empty is the answer as a whole.")] = "",
    label: Annotated[str, typer.Option(help="A word for it, such as rude.")] = "",
    correction: Annotated[str, typer.Option(help="What the answer should have said.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Note something on a trace: a thumb, a score, a label, a comment, a correction."""
    from slipway.domain.errors import InputError
    from slipway.watch.notes import annotate

    if thumbs not in ("", "up", "down"):
        raise InputError(f"'{thumbs}' is no thumb. Write --thumbs up or --thumbs down.")
    with _drained(folder) as workspace:
        kept = annotate(
            workspace,
            id,
            thumbs=thumbs,  # type: ignore[arg-type]
            score=score,
            name=name,
            label=label,
            comment=comment,
            correction=correction,
        )
    show(kept, as_json=as_json, text=f"The note is kept with trace {kept.trace}. Find it: --filter 'feedback'")


@app.command()
def tail(
    query: Annotated[str, typer.Argument(help="Words that must all occur.")] = "",
    filter: Filter = "",
    count: Annotated[int, typer.Option(min=0, help="End after this many; 0 goes on until Ctrl C.")] = 0,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Print traces as they arrive; with --json one object a line."""
    import json
    from itertools import islice

    import msgspec

    from slipway.tracing.ingest import drain
    from slipway.watch.tail import Tail, follow

    with _drained(folder) as workspace:
        new = follow(Tail(workspace, query=filter, text=query), refresh=lambda: drain(workspace.store))
        try:
            for row in islice(new, count) if count else new:
                built = msgspec.to_builtins(row, enc_hook=str)
                print(json.dumps(built, ensure_ascii=False) if as_json else " ".join(map(str, _line(row))), flush=True)
        except KeyboardInterrupt:
            return


@app.command()
def costs(
    since: Since = "30d",
    most: Annotated[int, typer.Option(min=1, max=200, help="Lines of each list.")] = 10,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """What users' traffic costs by release, model, person and operation, and what a cache of repeats would save."""
    from slipway.watch.costs import read_costs

    with _drained(folder) as workspace:
        read = read_costs(workspace, since=_since(since, workspace.now()), most=most)
    show(read, as_json=as_json, text=_costs_text)


@app.command()
def traffic(
    since: Since = "30d",
    csv: Annotated[Path | None, typer.Option(help="Write arrival time and tokens of every request here.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the measured figures to [decide].")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Measure the stored traffic as the demand of `slipway decide` and `slipway deploy plan`."""
    from slipway.decide.answers import write_answers
    from slipway.watch.traffic import demand_of, measure_traffic, read_traffic, write_csv

    with _drained(folder) as workspace:
        begins = _since(since, workspace.now())
        if csv is not None:
            write_csv(csv, read_traffic(workspace, since=begins))
        shape = measure_traffic(workspace, since=begins)
    if write:
        write_answers(folder, demand_of(shape))
    show(shape, as_json=as_json, text=lambda shape: _traffic_text(shape, csv, written=write))


def measured(workspace: "Workspace", since: str) -> "Workspace":
    """The workspace whose [decide] says what the traffic of this time was; as it is for an empty time."""
    from slipway.tracing.ingest import drain
    from slipway.watch.traffic import measure_traffic, with_traffic

    if not since:
        return workspace
    drain(workspace.store)
    return with_traffic(workspace, measure_traffic(workspace, since=_since(since, workspace.now())))


def _show_groups(
    by: "GroupedBy", *, filter: str, since: str, limit: int, after: str, folder: Path, as_json: bool
) -> None:
    from slipway.store.trace_sums import read_groups

    with _drained(folder) as workspace:
        page = read_groups(
            workspace.store.traces,
            by=by,
            query=filter,
            since=_since(since, workspace.now()),
            limit=limit,
            after=after or None,
        )
    what = "session" if by == "session" else "person"
    text = _groups_table(what, page.rows) or f"No trace of this time names a {what}."
    if page.next:
        text += f"\nMore: --after {page.next}"
    show({"groups": page.rows, "next": page.next}, as_json=as_json, text=text)


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


def _line(row: "TraceSummary") -> list[object]:
    return [
        row.id,
        row.started_at.strftime("%m-%d %H:%M:%S"),
        row.status,
        f"{row.seconds * 1000:.0f} ms",
        row.input_tokens + row.output_tokens,
        row.preview[:60],
    ]


def _groups_table(what: str, groups: "Sequence[TraceGroup]") -> str:
    return table(
        [what, "requests", "errors", "tokens in", "tokens out", "cost $", "last"],
        [
            [
                group.key or "–",
                group.traces,
                group.errors,
                group.input_tokens,
                group.output_tokens,
                group.cost_micros / 1e6,
                group.last_at.strftime("%m-%d %H:%M:%S"),
            ]
            for group in groups
        ],
    )


def _comparison_text(compared: "TraceComparison") -> Iterator[str]:
    yield f"before {compared.before.id}\nafter  {compared.after.id}\n"
    changes = [change for change in (*compared.parts, *compared.facts) if change.changed]
    rows: list[list[object]] = [[change.part, change.before or "–", change.after or "–", ""] for change in changes]
    rows += [
        [f"{figure.name} {figure.unit}".strip(), figure.before, figure.after, _signed(figure.difference)]
        for figure in compared.figures
        if figure.before or figure.after
    ]
    yield table(["what", "before", "after", "difference"], rows)
    for change in compared.said:
        if not change.changed:
            yield f"\n{change.what}: the same"
            continue
        marks = {"same": "{}", "del": "[-{}-]", "ins": "{{+{}+}}"}
        yield f"\n{change.what}:{' (only its beginning was compared)' if change.cut else ''}"
        yield "".join(marks[piece.kind].format(piece.text) for piece in change.pieces)


def _signed(difference: float | None) -> str:
    return "" if not difference else f"{difference:+.3g}"


def _costs_text(read: "Costs") -> Iterator[str]:
    yield f"{read.requests} requests of users cost ${read.cost_micros / 1e6:.4g} since {read.since:%Y-%m-%d %H:%M}."
    for title, groups in (("release", read.by_release), ("model", read.by_model), ("person", read.by_user)):
        if groups:
            yield f"\n{_groups_table(title, groups)}"
    if read.by_operation:
        head = ["operation", "kind", "steps", "errors", "tokens in", "tokens out", "cost $", "time s"]
        yield "\n" + table(
            head,
            [
                [
                    one.name,
                    one.kind,
                    one.count,
                    one.errors,
                    one.input_tokens,
                    one.output_tokens,
                    one.cost_micros / 1e6,
                    one.seconds,
                ]
                for one in read.by_operation
            ],
        )
    repeats = read.repeats
    share = f" (the newest {repeats.looked_at} of {repeats.of})" if repeats.looked_at < repeats.of else ""
    yield (
        f"\nOf {repeats.looked_at} calls{share}, {repeats.repeated} repeated an earlier one word for word. A cache "
        f"would have saved {repeats.tokens_saved} tokens and ${repeats.saved_micros / 1e6:.4g}; kept apart by person, "
        f"{repeats.own_repeated} calls and ${repeats.own_saved_micros / 1e6:.4g}."
    )
    if repeats.most:
        yield table(
            ["for example trace", "calls", "saved $"],
            [[one.example, one.calls, one.saved_micros / 1e6] for one in repeats.most],
        )


def _traffic_text(shape: "TrafficShape", csv: Path | None, *, written: bool) -> Iterator[str]:
    yield f"{shape.requests} requests of users from {shape.since:%Y-%m-%d %H:%M} to {shape.until:%Y-%m-%d %H:%M}:"
    yield table(
        ["", "measured"],
        [
            ["requests a day", shape.requests_per_day],
            ["input tokens a request", shape.input_tokens],
            ["output tokens a request", shape.output_tokens],
            ["longest request, tokens", shape.longest_tokens],
            ["busiest minute / mean minute", shape.peak_factor],
            ["cached share of input", shape.cached_share],
        ],
    )
    if csv is not None:
        yield f"Wrote {csv}."
    if written:
        yield "Wrote [decide] of slipway.toml. Decide now: slipway decide run"
    else:
        yield "Decide with it: slipway decide run --traces"


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
