"""`slipway decide`: compare the roads, show the record, print the memo, answer the questionnaire."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, show, table

if TYPE_CHECKING:
    from slipway.config.settings import DecideSettings
    from slipway.decide.arrivals import Arrival
    from slipway.decide.cases import CaseOutcome
    from slipway.decide.rerun import Rerun
    from slipway.domain.decision import Traffic
    from slipway.domain.deployment import DecisionRecord
    from slipway.workspace import Workspace

app = typer.Typer(no_args_is_help=True)


TrafficFile = Annotated[
    Path | None,
    typer.Option("--traffic", help="CSV with a line a request: time, tokens (or time, input tokens, output tokens)."),
]
Traces = Annotated[bool, typer.Option("--traces", help="Take the traffic from the application's own traces.")]
OutputShare = Annotated[
    float | None, typer.Option("--output-share", help="Share of output where the file does not tell it.")
]


@app.command("run")
def run_(
    traffic: TrafficFile = None,
    traces: Traces = False,
    output_share: OutputShare = None,
    answers: Annotated[
        list[str] | None, typer.Option("--answer", "-a", help="An answer of [decide] as key=value, for this run only.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the report as one HTML file for A4.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare API, open weights and an own model, and save the record. Exit code 3: nothing meets the requirement.

    With --traffic it also runs where there is no slipway.toml yet; nothing is saved then, and nothing after --answer.
    """
    from slipway.config.reader import FILE_NAME
    from slipway.decide.decision import decide, require_recommendation

    if (folder / FILE_NAME).exists() and not answers:
        with open_here(folder) as workspace:
            requests = _requests(traffic, workspace if traces else None)
            measured = _measured(requests, output_share, workspace.settings.decide, folder)
            record = decide(workspace, traffic=measured)
        note = ""
    else:
        record = _decide_once(folder, traffic, traces, output_share, answers or [])
        note = "Nothing was saved."
    if html is not None:
        _write_report(record, html)
        note = f"{note} Wrote {html}.".strip()
    show(record, as_json=as_json, text=lambda record: _with_note(record, note))
    if not as_json or record.recommended:
        require_recommendation(record)
    else:
        raise typer.Exit(3)


def _with_note(record: "DecisionRecord", note: str) -> Iterator[str]:
    yield from _describe(record)
    if note:
        yield note


class _Requests(NamedTuple):
    """The requests of a file or of own traces, and what they are called."""

    source: str
    arrivals: "list[Arrival]"


def _requests(traffic: Path | None, workspace: "Workspace | None") -> _Requests | None:
    """Of a file, or else of a workspace's own traces; None where neither is asked for."""
    from slipway.decide.arrivals import read_arrivals
    from slipway.decide.traffic import OWN_TRACES, traced_arrivals

    if traffic is not None:
        return _Requests(traffic.name, read_arrivals(traffic))
    return _Requests(OWN_TRACES, traced_arrivals(workspace.store.traces)) if workspace is not None else None


def _measured(
    requests: _Requests | None, output_share: float | None, settings: "DecideSettings", folder: Path
) -> "Traffic | None":
    """Their traffic, with what its replay says of the use of machines where [decide] limits the latency."""
    from slipway.decide.arrivals import OUTPUT_SHARE
    from slipway.decide.traffic import measure_traffic
    from slipway.deploy.safe_use import with_safe_use

    if requests is None:
        return None
    share = OUTPUT_SHARE if output_share is None else output_share
    counted = measure_traffic(requests.arrivals, source=requests.source, output_share=share)
    return with_safe_use(counted, requests.arrivals, settings, folder=folder, output_share=share)


def _decide_once(
    folder: Path, traffic: Path | None, traces: bool, output_share: float | None, answers: list[str]
) -> "DecisionRecord":
    """A decision for a folder without an application, or with answers that hold for this run only."""
    from datetime import UTC, datetime

    import msgspec

    from slipway.config.reader import FILE_NAME, load_settings, parse_settings
    from slipway.decide.answers import list_questions, parse_pairs
    from slipway.decide.decision import compare_roads
    from slipway.decide.demand import read_demand
    from slipway.decide.options import list_candidates
    from slipway.decide.rents import own_prices
    from slipway.domain.errors import InputError

    there = (folder / FILE_NAME).exists()
    if not there and traffic is None and not answers:
        raise InputError(
            f"There is nothing to decide for: '{folder.resolve()}' holds no slipway.toml. Give the traffic: "
            "slipway decide run --traffic FILE. For an application: slipway init"
        )
    now = datetime.now(UTC)
    if there:
        with open_here(folder) as workspace:
            requests = _requests(traffic, workspace if traces else None)
        settings = load_settings(folder)
    else:
        requests = _requests(traffic, None)
        settings = parse_settings({"application": {"name": "application"}}, path=folder / FILE_NAME)
    given = parse_pairs(list_questions(settings.decide), answers)
    asked = {**msgspec.to_builtins(settings.decide), **given}
    checked = parse_settings(
        {"application": {"name": settings.application.name}, "decide": asked}, path=folder / FILE_NAME
    )
    measured = _measured(requests, output_share, checked.decide, folder)
    demand = read_demand(checked.decide, traffic=measured)
    own = own_prices(checked.decide, folder=folder)
    candidates = list_candidates(demand, checked.decide, folder=folder, own=own, today=now.date())
    return compare_roads(settings.application.name, demand, checked.decide, candidates, now=now, own=own)


@app.command()
def rerun(
    traffic: TrafficFile = None,
    traces: Traces = False,
    output_share: OutputShare = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make the newest decision again with today's prices, traffic and requirements; say what changed."""
    from slipway.decide.rerun import decide_again

    with open_here(folder) as workspace:
        requests = _requests(traffic, workspace if traces else None)
        measured = _measured(requests, output_share, workspace.settings.decide, folder)
        again = decide_again(workspace, traffic=measured)
    show(again, as_json=as_json, text=_describe_rerun)


@app.command("traffic")
def traffic_(
    file: Annotated[Path, typer.Argument(help="CSV with a line a request: time, tokens (or time, input, output).")],
    output_share: OutputShare = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the figures into [decide] of slipway.toml.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show what a CSV of requests says: how many a day, how long, how uneven."""
    from slipway.decide.answers import write_answers
    from slipway.decide.arrivals import OUTPUT_SHARE
    from slipway.decide.traffic import figures_of, read_traffic

    found = read_traffic(file, output_share=OUTPUT_SHARE if output_share is None else output_share)
    if keep:
        write_answers(folder, figures_of(found))
    show(found, as_json=as_json, text=lambda found: _describe_traffic(found, keep=keep))


@app.command("show")
def show_(
    reference: Annotated[str, typer.Argument(help="Id of a record; empty is the newest.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show a saved decision."""
    from slipway.decide.decision import latest_decision
    from slipway.domain.deployment import DecisionRecord

    with open_here(folder) as workspace:
        records = workspace.store.records
        record = records.get(DecisionRecord, reference) if reference else latest_decision(workspace)
    show(record, as_json=as_json, text=_describe)


@app.command("list")
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the saved decisions, newest first."""
    from slipway.domain.deployment import DecisionRecord

    with open_here(folder) as workspace:
        records = workspace.store.records.list(DecisionRecord)
    rows = [
        {
            "id": record.id,
            "date": record.created_at.date().isoformat(),
            "requests_per_day": record.demand.requests_per_day,
            "recommended": record.recommended,
        }
        for record in records
    ]
    empty = "There is no decision yet. Make one: slipway decide run"
    show(
        rows, as_json=as_json, text=lambda rows: table(list(rows[0]), [row.values() for row in rows]) if rows else empty
    )


@app.command()
def report(
    html: Annotated[Path | None, typer.Option("--html", help="Write the memo as one HTML file for A4.")] = None,
    reference: Annotated[str, typer.Option("--id", help="Id of a record; empty is the newest.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """The memo of a decision: a page for an executive, a page for an engineer."""
    from slipway.decide.decision import latest_decision
    from slipway.decide.memo import memo
    from slipway.domain.deployment import DecisionRecord

    with open_here(folder) as workspace:
        records = workspace.store.records
        record = records.get(DecisionRecord, reference) if reference else latest_decision(workspace)
    pages = memo(record)
    if html is not None:
        _write_report(record, html)
    wrote = f"Wrote {html}." if html is not None else ""
    show(pages, as_json=as_json, text=wrote or (lambda _: _describe(record)))


def _write_report(record: "DecisionRecord", path: Path) -> None:
    from slipway.decide.memo import memo
    from slipway.store.files import write_text
    from slipway.web.report import render_report

    write_text(path, render_report("reports/decision.html", memo=memo(record), record=record))


@app.command()
def ask(
    answers: Annotated[
        list[str] | None, typer.Option("--answer", "-a", help="An answer as key=value; asks nothing then.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also ask what has a default.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Answer the questions that a decision needs; writes [decide] of slipway.toml and keeps its comments."""
    from slipway.config.reader import load_settings
    from slipway.decide.answers import Answer, list_questions, parse_pairs, read_answer, write_answers
    from slipway.decide.demand import read_demand
    from slipway.domain.errors import InputError

    questions = list_questions(load_settings(folder).decide)
    given: dict[str, Answer] = parse_pairs(questions, answers or [])
    if not answers:
        for question in questions:
            if not (question.needed or everything):
                continue
            while question.key not in given:
                default = "" if question.now is None else f" [{_shown(question.now)}]"
                typed = typer.prompt(f"{question.text}{default}", default="", show_default=False)
                if not typed.strip():
                    break
                try:
                    given[question.key] = read_answer(question, typed)
                except InputError as wrong:
                    typer.echo(str(wrong), err=True)
    write_answers(folder, given)
    demand = read_demand(load_settings(folder).decide)
    show(demand, as_json=as_json, text="Wrote [decide] of slipway.toml. Decide now: slipway decide run")


@app.command()
def evaluate(
    cases: Annotated[Path, typer.Option("--cases", help="JSONL of published figures: id, kind, inputs, expected.")],
    as_json: AsJson = False,
) -> None:
    """Compare our formulas with published cost figures."""
    from slipway.decide.cases import evaluate_case, read_cases

    outcomes = [evaluate_case(case) for case in read_cases(cases)]
    show(outcomes, as_json=as_json, text=_describe_cases)


def _describe(record: "DecisionRecord") -> Iterator[str]:
    from slipway.decide.words import say_confidence

    if record.demand.traffic is not None:
        yield from _describe_traffic(record.demand.traffic, keep=False)
        yield ""
    yield record.verdict
    yield f"Confidence: {say_confidence(record.recommended, record.sensitivity)}."
    yield ""
    chance = {one.option: one.cheapest for one in record.sensitivity.options} if record.sensitivity else {}
    yield table(
        [
            "option",
            "road",
            "$ a month",
            "$ upfront",
            f"$ in {record.demand.horizon_months} months, 80 % band",
            "cheapest in",
            "start",
            "ruled out",
        ],
        [
            [
                ("* " if option.name == record.recommended else "  ") + option.name,
                option.road,
                f"{option.monthly:,.0f}" if option.lines else None,
                f"{option.upfront:,.0f}" if option.lines else None,
                f"{option.horizon_low:,.0f} to {option.horizon_high:,.0f}" if option.lines else None,
                f"{chance[option.name]:.0%}" if option.name in chance and not option.rejected else None,
                f"{option.months_to_start:g} months",
                option.rejected,
            ]
            for option in record.options
        ],
    )
    if record.weighing is not None and record.weighing.method != "cost alone":
        yield ""
        weights = ", ".join(f"{name} {share:.0%}" for name, share in record.weighing.weights.items())
        ratio = record.weighing.consistency
        yield f"Weights ({record.weighing.method}): {weights}" + (
            f"; consistency ratio {ratio:.2f}" if ratio is not None else ""
        )
    if record.flips:
        yield ""
        yield "What would change our mind:"
        yield from (f"  {flip}" for flip in record.flips)
    yield ""
    yield "Figures are estimated unless they say otherwise. Sources and dates: slipway decide report --json"


def _describe_traffic(found: "Traffic", *, keep: bool) -> Iterator[str]:
    yield (
        f"{found.source}: {found.requests:,} requests in {found.days:.3g} days, {found.requests_per_day:,.0f} a day; "
        f"{found.input_tokens:,.0f} tokens in and {found.output_tokens:,.0f} out on average; the busiest minute has "
        f"{found.peak_factor:.2f} times the mean."
    )
    if found.split_assumed:
        yield "The file does not tell the tokens of answers: their share is assumed (--output-share)."
    if found.days < 1:
        yield "It is shorter than a day, so the quiet hours are not in it: the real rate a day is probably lower."
    if keep:
        yield "Wrote [decide] of slipway.toml. Decide now: slipway decide run"


def _describe_rerun(again: "Rerun") -> Iterator[str]:
    if not again.changes:
        yield f"Nothing has changed since {again.before.created_at.date()}: {again.before.verdict}"
        return
    yield table(
        ["what", "before", "now"], [[f"{one.kind}: {one.what}", one.before, one.after] for one in again.changes]
    )
    yield ""
    if again.turned:
        before, after = again.before.recommended or "nothing", again.after.recommended or "nothing"
        yield f"The verdict TURNS from {before} to {after}."
    else:
        yield "The verdict stays."
    yield again.after.verdict


def _describe_cases(outcomes: list["CaseOutcome"]) -> Iterator[str]:
    word = {True: "within", False: "OUTSIDE", None: "skipped"}
    yield table(
        ["id", "kind", "published", "ours", "unit", "tolerance"],
        [
            [one.id, one.kind, one.published, _figure(one.ours), one.unit, f"{word[one.within]} {one.reason}".strip()]
            for one in outcomes
        ],
    )
    checked = [one for one in outcomes if one.within is not None]
    skipped = len(outcomes) - len(checked)
    rest = f"; {skipped} skipped, with the reason" if skipped else ""
    yield f"{sum(bool(one.within) for one in checked)} of {len(checked)} within their tolerance{rest}."


def _figure(ours: object) -> str | None:
    """A figure, a list or a table of them, to four digits."""
    if isinstance(ours, float):
        return f"{ours:,.0f}" if 1e3 <= abs(ours) < 1e15 else f"{ours:.4g}"
    if isinstance(ours, tuple):
        return ", ".join(_figure(one) or "" for one in ours)
    if isinstance(ours, dict):
        return ", ".join(f"{name} {_figure(one)}" for name, one in ours.items())
    return None


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)
