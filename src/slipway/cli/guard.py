"""`slipway guard`: rails, check, scoreboard, threshold."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from slipway.cli.output import HERE, AsJson, Folder, show, table

if TYPE_CHECKING:
    from slipway.domain.guardrail import RailSpec
    from slipway.guard.checker import Checked

app = typer.Typer(no_args_is_help=True)

Source = Annotated[
    Literal["user", "document", "tool", "answer"], typer.Option("--source", help="Where the texts come from.")
]
Rails = Annotated[
    list[str] | None, typer.Option("--rail", help="Rail to use; may be given again. Empty takes those of slipway.toml.")
]
Rows = Annotated[
    Path, typer.Argument(help="JSONL file with `text`, `label` (0 or 1) and where known `source`, `rail`.")
]


@app.command("rails")
def rails_(as_json: AsJson = False) -> None:
    """List the rails, what each fires on, and its settings."""
    import dataclasses

    from slipway.guard.rails.base import rails

    listed = [
        {
            "rail": name,
            "help": rails.help(name),
            "redacts": rails.load(name).redacts,
            "settings": {field.name: field.default for field in dataclasses.fields(rails.load(name)) if field.init},
        }
        for name in rails.names()
    ]
    show(listed, as_json=as_json, text=lambda _: (f"{row['rail']}: {row['help']}" for row in listed))


@app.command()
def check(
    text: Annotated[str, typer.Argument(help="Text to check; leave it out with --file.")] = "",
    file: Annotated[Path | None, typer.Option("--file", help="File to check instead of TEXT.")] = None,
    source: Source = "user",
    rail: Rails = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Check one text; exit code 3 when a rail blocks it."""
    from slipway.domain.errors import FileBroken, FileMissing, InputError
    from slipway.guard.checker import check as look

    if file is not None:
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise FileMissing(file) from None
        except (OSError, UnicodeDecodeError) as wrong:
            raise FileBroken(file, str(wrong)) from wrong
    if not text:
        raise InputError('There is nothing to check. Give a text: slipway guard check "…", or --file PATH.')
    specs, when_undecided = _specs(folder, rail, source)
    checked = look(text, specs, source=source, when_undecided=when_undecided)
    show(checked, as_json=as_json, text=_checked_text)
    if checked.blocked is not None:
        raise typer.Exit(3)


@app.command()
def scoreboard(
    file: Rows, source: Source = "user", rail: Rails = None, folder: Folder = HERE, as_json: AsJson = False
) -> None:
    """Measure rails on labelled texts: caught, missed, false alarms, cost."""
    from slipway.guard.scoreboard import read_labelled, score_rails

    rows = read_labelled(file, source=source)
    scores = score_rails(_specs(folder, rail, source)[0], rows)
    lines = [
        [
            score.rail,
            score.source,
            score.caught,
            score.missed,
            score.raised,
            score.passed,
            f"{score.recall.low:.3f}–{score.recall.high:.3f}",
            f"{score.false_alarms.low:.3f}–{score.false_alarms.high:.3f}",
            round(score.microseconds),
        ]
        for score in scores
    ]
    head = [
        "rail",
        "source",
        "caught",
        "missed",
        "false alarms",
        "passed",
        "recall 95 %",
        "false alarms 95 %",
        "us a text",
    ]
    show(scores, as_json=as_json, text=table(head, lines))


@app.command()
def threshold(
    file: Rows,
    rail: Annotated[str, typer.Option("--rail", help="Rail that gives scores.")] = "prompt_attack",
    source: Source = "user",
    budget: Annotated[float, typer.Option(help="Share of harmless texts that may fire.")] = 0.01,
    as_json: AsJson = False,
) -> None:
    """Find the threshold for a stated budget of false alarms on your own texts."""
    from slipway.domain.guardrail import RailSpec
    from slipway.guard.scoreboard import read_labelled
    from slipway.guard.thresholds import choose_threshold

    found = choose_threshold(RailSpec(name=rail), read_labelled(file, source=source), source=source, budget=budget)
    key = f"{source if source in ('user', 'tool') else 'document'}_threshold"
    lines = [
        f'{{ rail = "{rail}", {key} = {found.value} }}',
        f"{found.harmless} harmless texts: {found.false_alarms.low:.2%} to {found.false_alarms.high:.2%} fire (95 %).",
        f"{found.attacks} attacks: {found.recall.low:.0%} to {found.recall.high:.0%} are caught (95 %)."
        if found.attacks
        else "There are no attacks among the rows, so nothing is known about what is caught.",
    ]
    if not found.enough:
        lines.append(
            f"These texts are too few to be sure of {budget:.2%}: about {4 / budget:,.0f} harmless ones are needed."
        )
    show(found, as_json=as_json, text=lambda _: lines)


def _specs(
    folder: Path, names: list[str] | None, source: str
) -> "tuple[tuple[RailSpec, ...], Literal['allow', 'block']]":
    """Rails by name, or those of the application's slipway.toml, or the defaults where there is none."""
    from slipway.config.reader import load_settings, parse_settings
    from slipway.domain.errors import NotAnApplication
    from slipway.domain.guardrail import RailSpec
    from slipway.guard.checker import rail_of
    from slipway.guard.parts import guardrails_from_settings

    if names:
        specs = tuple(RailSpec(name=name) for name in names)
        for spec in specs:
            rail_of(spec)
        return specs, "block"
    try:
        settings = load_settings(folder)
    except NotAnApplication:
        settings = parse_settings({"application": {"name": "none"}})
    parts = guardrails_from_settings(settings)
    return (parts.after if source == "answer" else parts.before), parts.when_undecided


def _checked_text(checked: "Checked") -> Iterator[str]:
    for verdict in checked.verdicts:
        yield f"{verdict.rail}: {verdict.decision}{f' ({verdict.reason})' if verdict.reason else ''}"
    yield ""
    yield checked.text if checked.blocked is None else f"Blocked by {checked.blocked.rail}."
