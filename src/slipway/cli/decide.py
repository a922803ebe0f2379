"""`slipway decide`: compare the roads, show the record, print the memo, answer the questionnaire."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, show, table

if TYPE_CHECKING:
    from slipway.decide.cases import CaseOutcome
    from slipway.domain.deployment import DecisionRecord

app = typer.Typer(no_args_is_help=True)


@app.command("run")
def run_(
    from_traces: Annotated[
        str, typer.Option("--from-traces", help="Take requests and lengths from the traffic of this time, such as 30d.")
    ] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Compare API, open weights and an own model for [decide], and save the record. Exit code 3: nothing meets it."""
    from slipway.cli.watch import measured
    from slipway.decide.decision import decide, require_recommendation

    with open_here(folder) as workspace:
        record = decide(measured(workspace, from_traces))
    show(record, as_json=as_json, text=_describe)
    if not as_json or record.recommended:
        require_recommendation(record)
    else:
        raise typer.Exit(3)


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
        from slipway.store.files import write_text
        from slipway.web.report import render_report

        write_text(html, render_report("reports/decision.html", memo=pages, record=record))
    wrote = f"Wrote {html}." if html is not None else ""
    show(pages, as_json=as_json, text=wrote or (lambda _: _describe(record)))


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
    yield record.verdict
    yield ""
    yield table(
        [
            "option",
            "road",
            "$ a month",
            "$ upfront",
            f"$ in {record.demand.horizon_months} months",
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
                f"{option.months_to_start:g} months",
                option.rejected,
            ]
            for option in record.options
        ],
    )
    if record.flips:
        yield ""
        yield "What would change our mind:"
        yield from (f"  {flip}" for flip in record.flips)
    yield ""
    yield "All figures are estimated. Assumptions with source and date: slipway decide report --json"


def _describe_cases(outcomes: list["CaseOutcome"]) -> Iterator[str]:
    word = {True: "within", False: "outside", None: "skipped"}
    yield table(
        ["id", "kind", "published", "ours", "unit", "tolerance"],
        [
            [one.id, one.kind, one.published, one.ours, one.unit, f"{word[one.within]} {one.reason}".strip()]
            for one in outcomes
        ],
    )
    checked = [one for one in outcomes if one.within is not None]
    yield f"{sum(bool(one.within) for one in checked)} of {len(checked)} within their tolerance."


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)
