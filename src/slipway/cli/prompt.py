"""`slipway prompt`: list, show, lint, diff, label, roll back, try."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.output import HERE, AsJson, Folder, open_here, progress, run, show, table

if TYPE_CHECKING:
    from slipway.domain.prompt import LintFinding, Prompt
    from slipway.prompt.trials import Trial

app = typer.Typer(no_args_is_help=True)

Reference = Annotated[str, typer.Argument(help="Prompt: `answer`, `answer@2` or `answer@LABEL`.")]


@app.command("list")
def list_(folder: Folder = HERE, as_json: AsJson = False) -> None:
    """List the prompts with their newest version and labels."""
    from slipway.prompt.library import history, sync_prompts

    with open_here(folder) as workspace:
        prompts = sync_prompts(workspace)
        rows = [
            [prompt.name, prompt.version, len(history(workspace, prompt.name)), ", ".join(prompt.labels), prompt.note]
            for prompt in prompts
        ]
    shown = table(["prompt", "version", "versions", "labels", "note"], rows)
    show(prompts, as_json=as_json, text=shown or "There is no prompt file yet.")


@app.command("show")
def show_(prompt: Reference, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show one version of a prompt and its history."""
    from slipway.prompt.library import history, load_prompt, sync_prompts

    with open_here(folder) as workspace:
        sync_prompts(workspace)
        found = load_prompt(workspace, prompt)
        versions = history(workspace, found.name)
    show({"prompt": found, "versions": versions}, as_json=as_json, text=lambda _: _prompt_text(found, versions))


@app.command()
def lint(
    prompt: Annotated[str, typer.Argument(help="Prompt; empty lints all.")] = "",
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is safe to mend, in the file.")] = False,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Check prompts for the five practices, brevity and safety; exit code 1 when there is an error."""
    from slipway.prompt.files import write_prompt
    from slipway.prompt.library import load_prompt, sync_prompts
    from slipway.prompt.linter import fix as mend
    from slipway.prompt.linter import lint as check
    from slipway.store.files import write_text

    found: dict[str, list[LintFinding]] = {}
    mended: dict[str, int] = {}
    with open_here(folder) as workspace:
        current = sync_prompts(workspace)
        for one in [load_prompt(workspace, prompt)] if prompt else current:
            findings = check(one)
            if fix:
                changed = mend(one)
                if changed.hash != one.hash:
                    path = workspace.folder / workspace.settings.prompt.folder / f"{one.name}.md"
                    write_text(path, write_prompt(changed))
                    one = next(item for item in sync_prompts(workspace) if item.name == one.name)
                before, findings = findings, check(one)
                mended[one.name] = len(before) - len(findings)
            found[f"{one.name}@{one.version}"] = findings
    show({"findings": found, "mended": mended}, as_json=as_json, text=lambda _: _lint_text(found, mended))
    if any(item.severity == "error" for items in found.values() for item in items):
        raise typer.Exit(1)


@app.command()
def diff(before: Reference, after: Reference, folder: Folder = HERE, as_json: AsJson = False) -> None:
    """Show what changed between two versions, word by word."""
    from slipway.prompt.changes import word_diff
    from slipway.prompt.library import load_prompt, sync_prompts

    with open_here(folder) as workspace:
        sync_prompts(workspace)
        old, new = load_prompt(workspace, before), load_prompt(workspace, after)
    pieces = word_diff(f"{old.system}\n\n{old.user}", f"{new.system}\n\n{new.user}")
    marks = {"same": "{}", "ins": "[+{}+]", "del": "[-{}-]"}
    show(pieces, as_json=as_json, text="".join(marks[piece.kind].format(piece.text) for piece in pieces))


@app.command()
def label(
    prompt: Reference,
    name: Annotated[str, typer.Argument(help="Label to put on this version.")],
    by: Annotated[str, typer.Option(help="Who labels.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Put a label on a version."""
    from slipway.prompt.library import set_label, sync_prompts

    with open_here(folder) as workspace:
        sync_prompts(workspace)
        found = set_label(workspace, prompt, name, by=by)
    show(found, as_json=as_json, text=f"{found.name}@{found.version} is labelled {', '.join(found.labels)}.")


@app.command("roll-back")
def roll_back(
    prompt: Annotated[str, typer.Argument(help="Prompt to roll back.")],
    to: Annotated[int | None, typer.Option(help="Version; empty is the one before.")] = None,
    by: Annotated[str, typer.Option(help="Who rolls back.")] = "",
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Write an earlier version into the file again."""
    from slipway.prompt.library import roll_back as back
    from slipway.prompt.library import sync_prompts

    with open_here(folder) as workspace:
        sync_prompts(workspace)
        found = back(workspace, prompt, to=to, by=by)
    show(found, as_json=as_json, text=f"{found.name}@{found.version} is current again.")


@app.command("try")
def try_(
    prompts: Annotated[list[str], typer.Argument(help="Versions to try: answer@1 answer@2")],
    cases: Annotated[
        Path | None, typer.Option("--cases", help="JSONL or promptfoo file; empty takes the application's questions.")
    ] = None,
    model: Annotated[list[str] | None, typer.Option("--model", help="engine/model; empty takes [release].")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most cases.")] = None,
    folder: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Try prompt versions on cases and models: what passed, tokens, money, latency."""
    from slipway.domain.model import Model
    from slipway.evaluate.dataset import default_dataset
    from slipway.prompt.cases import from_dataset, read_cases
    from slipway.prompt.library import load_prompt, sync_prompts
    from slipway.prompt.trials import index_search, try_prompts
    from slipway.retrieve.query import search_index

    with open_here(folder) as workspace, progress("attempts", quiet=as_json) as on_progress:
        sync_prompts(workspace)
        read = read_cases(cases) if cases else from_dataset(default_dataset(workspace).cases)
        release = workspace.settings.release
        called = [one.partition("/") for one in model or [f"{release.engine}/{release.model}"]]
        trial = run(
            try_prompts(
                workspace,
                [load_prompt(workspace, one) for one in prompts],
                read.cases[:limit],
                [Model(engine=engine, name=name or engine) for engine, _, name in called],
                search=index_search(workspace, search_index),
                on_progress=on_progress,
            )
        )
    show({"trial": trial, "left_out": read.left_out}, as_json=as_json, text=lambda _: _trial_text(trial, read.left_out))


def _prompt_text(prompt: "Prompt", versions: "list[Prompt]") -> Iterator[str]:
    yield f"{prompt.name}@{prompt.version}  {prompt.hash[:12]}  {', '.join(prompt.labels)}"
    yield f"\n# system\n{prompt.system}\n\n# user\n{prompt.user}\n"
    yield table(
        ["version", "when", "who", "note"],
        [[one.version, one.created_at.strftime("%Y-%m-%d %H:%M"), one.author or "–", one.note] for one in versions],
    )


def _lint_text(found: "dict[str, list[LintFinding]]", mended: dict[str, int]) -> Iterator[str]:
    for name, done in mended.items():
        yield f"{name}: {done} findings are mended in its file."
    for name, findings in found.items():
        yield f"{name}: {len(findings)} findings"
        for item in findings:
            yield f"  {item.severity.ljust(7)} {item.place}:{item.start}-{item.end} {item.rule}: {item.reason}"
            if item.rewrite:
                yield "          write: " + item.rewrite.replace("\n", "\n                 ")


def _trial_text(trial: "Trial", left_out: tuple[str, ...]) -> Iterator[str]:
    yield table(
        ["prompt", "model", "passed", "tokens in", "tokens out", "cost $", "mean s"],
        [
            [
                column.prompt,
                column.model,
                f"{column.passed} of {column.asserted}",
                column.input_tokens,
                column.output_tokens,
                column.cost_micros / 1e6,
                column.seconds,
            ]
            for column in trial.columns
        ],
    )
    for attempt in trial.attempts:
        if attempt.error:
            yield f"{attempt.case} with {attempt.prompt} on {attempt.model}: {attempt.error}"
        elif attempt.passed is False:
            yield f"{attempt.case} with {attempt.prompt} on {attempt.model} fails {'; '.join(attempt.failed)}"
    yield from left_out
