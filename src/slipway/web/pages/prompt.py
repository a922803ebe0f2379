"""Is the new version better, and what does it cost? Editor, lint, word diff, versions, cases by versions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slipway.domain.errors import InputError, NameInvalid, PromptInvalid
from slipway.domain.ids import is_name
from slipway.domain.prompt import LintFinding, Prompt
from slipway.models.catalog import price_of
from slipway.prompt.changes import word_diff
from slipway.prompt.files import with_hash, write_prompt
from slipway.prompt.library import history, label_moves, load_prompt, roll_back, set_label, sync_prompts
from slipway.prompt.linter import fix, lint
from slipway.prompt.starter import default_prompt_text
from slipway.prompt.template import variables_of
from slipway.prompt.trials import Attempt, Trial
from slipway.prompt.trials import Column as TrialColumn
from slipway.release.parts import list_releases
from slipway.store.files import write_text
from slipway.text.tokens import count_tokens
from slipway.web import work
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, micros, moment, money, plural, seconds, share, signed
from slipway.web.page import Done, View, Visit, act, ask, page
from slipway.web.table import Column, Row, Table, tag
from slipway.workspace import Workspace

TONES = {"error": "fail", "warning": "warn", "hint": ""}
DAYS_A_MONTH = 30
PROMPTS = (
    Column(key="name", label="Prompt", mono=True),
    Column(key="version", label="Current"),
    Column(key="versions", label="Versions", number=True),
    Column(key="lint", label="Lint"),
    Column(key="tokens", label="Tokens", number=True),
    Column(key="used", label="Used by"),
    Column(key="note", label="Note", one_line=False),
    Column(key="changed", label="Changed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one version answered to one case."""

    tone: str
    text: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRow:
    """A case with a cell a column."""

    case: str
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A line of a timeline."""

    when: str
    what: str
    detail: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A trial as the matrix component shows it: columns are (name, what it reached)."""

    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[CaseRow]


def show_all(visit: Visit) -> View:
    workspace = visit.workspace
    prompts = sync_prompts(workspace)
    used = {
        str(release.prompt): release.label
        for release in reversed(list_releases(workspace))
        if release.prompt is not None
    }
    rows = [
        Row(
            href=f"/prompt/{prompt.name}",
            cells={
                "name": prompt.name,
                "version": f"v{prompt.version}",
                "versions": count(len(history(workspace, prompt.name))),
                "lint": _lint_tag(lint(prompt)),
                "tokens": count(_tokens(prompt)),
                "used": used.get(f"{prompt.name}@{prompt.version}", UNKNOWN),
                "note": prompt.note or UNKNOWN,
                "changed": moment(prompt.created_at),
            },
        )
        for prompt in prompts
    ]
    data = {"table": Table(caption="Prompts", columns=PROMPTS, rows=rows)}
    return View("prompts.html", "Prompt", data, (Crumb("Prompt"),))


def create(visit: Visit) -> Done:
    """A prompt file with the starting text."""
    name = visit.said("name")
    if not is_name(name):
        raise NameInvalid("a prompt", name)
    path = _path(visit.workspace, name)
    if path.exists():
        raise InputError(f"There is a prompt '{name}' already. Open it, or choose another name.")
    write_text(path, default_prompt_text())
    sync_prompts(visit.workspace, by=visit.person)
    return Done(f"/prompt/{name}", f"{name} starts with the text that a new application gets.")


def show_one(visit: Visit) -> View:
    workspace = visit.workspace
    sync_prompts(workspace)
    name = visit.part("name")
    wanted = visit.ask("version")
    base = load_prompt(workspace, f"{name}@{wanted}" if wanted else name)
    draft = fix(base) if visit.ask("fix") else base
    versions = history(workspace, name)
    trials = [trial for trial in workspace.store.records.list(Trial, limit=20) if _about(trial, name)]
    data: dict[str, Any] = {
        "prompt": base,
        "draft": draft,
        **_compared(workspace, base, draft),
        "versions": [
            {
                "prompt": version,
                "tokens": count(_tokens(version)),
                "when": moment(version.created_at),
                "shown": version.version == base.version,
            }
            for version in versions
        ],
        "moved": [
            Event(
                when=moment(move.at),
                what=f"{move.label} on v{move.version}",
                detail=", ".join(
                    part for part in (move.before and f"before on v{move.before}", move.by and f"by {move.by}") if part
                ),
            )
            for move in label_moves(workspace, name)[:8]
        ],
        "matrix": _matrix(trials[0]) if trials else None,
        "trial": trials[0] if trials else None,
        "saved": _saved(trials[0].columns) if trials else "",
        "jobs": work.running(workspace, kinds=("try",)),
        "model": f"{workspace.settings.release.engine}/{workspace.settings.release.model}",
    }
    crumbs = (Crumb("Prompt", "/prompt"), Crumb(name))
    return View("prompt.html", name, data, crumbs)


def show_draft(visit: Visit) -> View:
    """Lint, diff and price of what stands in the editor; nothing is kept."""
    base = load_prompt(visit.workspace, f"{visit.part('name')}@{visit.said('base')}")
    data = {"prompt": base, **_compared(visit.workspace, base, _draft(visit, base))}
    return View("prompt.html", base.name, data)


def save(visit: Visit) -> Done:
    """Writes the draft into the prompt's file; new content is a new version."""
    base = load_prompt(visit.workspace, f"{visit.part('name')}@{visit.said('base')}")
    draft = replace(_draft(visit, base), note=visit.said("note") or base.note, author=visit.person)
    variables_of(draft)
    write_text(_path(visit.workspace, base.name), write_prompt(draft))
    sync_prompts(visit.workspace, by=visit.person)
    kept = load_prompt(visit.workspace, base.name)
    return Done(f"/prompt/{base.name}", f"{base.name}@{kept.version} is in {_path(visit.workspace, base.name).name}.")


def put_label(visit: Visit) -> Done:
    name = visit.part("name")
    done = set_label(visit.workspace, f"{name}@{visit.said('version')}", visit.said("label"), by=visit.person)
    return Done(f"/prompt/{name}", f"{visit.said('label')} stands on version {done.version}.")


def back(visit: Visit) -> Done:
    name = visit.part("name")
    earlier = roll_back(visit.workspace, name, to=int(visit.said("version")), by=visit.person)
    return Done(f"/prompt/{name}", f"Version {earlier.version} is current again, in the store and in the file.")


def try_out(visit: Visit) -> Done:
    """Tries versions on the application's cases, as a job."""
    name = visit.part("name")
    versions = visit.lists.get("version", [])
    if not versions:
        raise InputError("No version was chosen. Tick at least one.")
    limit = int(visit.said("limit") or "5")
    visit.start(
        "try",
        f"Run {plural(limit, 'case')} × {plural(len(versions), 'version')}",
        prompts=[f"{name}@{version}" for version in versions],
        limit=limit,
    )
    return Done(f"/prompt/{name}", "The trial is at work.")


def _draft(visit: Visit, base: Prompt) -> Prompt:
    """What stands in the editor, over the version it started from."""
    texts = {place: visit.form.get(place, "").replace("\r\n", "\n").strip("\n") for place in ("system", "user")}
    draft = replace(base, system=texts["system"], user=texts["user"])
    try:
        return with_hash(draft, variables=variables_of(draft))
    except PromptInvalid:
        return draft


def _compared(workspace: Workspace, base: Prompt, draft: Prompt) -> dict[str, Any]:
    """What the editor's side shows: lint findings, the words that changed, tokens and money."""
    findings = lint(draft)
    before, after = _tokens(base), _tokens(draft)
    return {
        "findings": [(finding, TONES[finding.severity], _quoted(finding, draft)) for finding in findings],
        "fixable": sum(finding.fixable for finding in findings),
        "diff": [(piece.kind, piece.text) for piece in word_diff(_whole(base), _whole(draft))],
        "changed": draft.hash != base.hash,
        "tokens": [
            ("Tokens of the prompt", count(after), signed(after - before) if after != before else ""),
            ("Before variables", plural(len(draft.variables), "variable"), ", ".join(draft.variables)),
            ("Money", *_money(workspace, after - before)),
        ],
    }


def _money(workspace: Workspace, more_tokens: int) -> tuple[str, str]:
    """What the difference in tokens costs a month at the traffic of [decide]."""
    release, traffic = workspace.settings.release, workspace.settings.decide.requests_per_day
    price = price_of(release.engine, release.model)
    if price is None or traffic is None:
        return UNKNOWN, "no price or no traffic is known"
    monthly = more_tokens * price.input_per_million / 1e6 * traffic * DAYS_A_MONTH
    return (f"{signed(monthly, 'USD')} a month" if more_tokens else money(0)), f"at {count(traffic)} requests a day"


def _quoted(finding: LintFinding, prompt: Prompt) -> str:
    """The words that a finding is about, cut to a line."""
    text = {"system": prompt.system, "user": prompt.user}.get(finding.place, "")
    quoted = " ".join(text[finding.start : finding.end].split())
    return quoted if len(quoted) <= 120 else f"{quoted[:119]}…"


def _lint_tag(findings: Sequence[LintFinding]) -> str:
    worst = [name for name in TONES if any(finding.severity == name for finding in findings)]
    return tag(plural(len(findings), worst[0]) if worst else "clean", TONES[worst[0]] if worst else "pass")


def _matrix(trial: Trial) -> Matrix:
    """Cases down, versions and models across."""
    keys = [(column.prompt, column.model) for column in trial.columns]
    found = {(attempt.case, attempt.prompt, attempt.model): attempt for attempt in trial.attempts}
    cases = dict.fromkeys(attempt.case for attempt in trial.attempts)
    return Matrix(
        caption="Trial",
        columns=[(f"{column.prompt} on {column.model}", _reached(column)) for column in trial.columns],
        rows=[CaseRow(case=case, cells=[_cell(found.get((case, *key))) for key in keys]) for case in cases],
    )


def _reached(column: TrialColumn) -> str:
    passed = f"{column.passed} of {column.asserted} passed" if column.asserted else "nothing asserted"
    cost = f", {micros(column.cost_micros)}" if column.cost_micros else ""
    return f"{passed}, {count(column.input_tokens + column.output_tokens)} tokens{cost}, {seconds(column.seconds)}"


def _cell(attempt: Attempt | None) -> Cell:
    if attempt is None:
        return Cell(tone="", text=UNKNOWN, note="not tried")
    tone = "" if attempt.passed is None else "pass" if attempt.passed else "fail"
    took = f"{count(attempt.input_tokens)} → {count(attempt.output_tokens)} tokens, {seconds(attempt.seconds)}"
    failed = f"; fails {', '.join(attempt.failed)}" if attempt.failed else ""
    return Cell(tone=tone, text=attempt.error or attempt.reply, note=took + failed)


def _saved(columns: Sequence[TrialColumn]) -> str:
    """What the last version saves or costs against the first, over the same cases."""
    if len(columns) < 2:
        return ""
    first, last = columns[0], columns[-1]
    before, after = (one.input_tokens + one.output_tokens for one in (first, last))
    if not before:
        return ""
    money_part = f", {signed((last.cost_micros - first.cost_micros) / 1e6, 'USD')}" if first.cost_micros else ""
    change = share(abs(after - before) / before)
    word = "fewer" if after < before else "more"
    return f"{last.prompt} takes {change} {word} tokens than {first.prompt}{money_part}."


def _about(trial: Trial, name: str) -> bool:
    return any(attempt.prompt.partition("@")[0] == name for attempt in trial.attempts)


def _whole(prompt: Prompt) -> str:
    return f"{prompt.system}\n\n{prompt.user}"


def _tokens(prompt: Prompt) -> int:
    examples = "\n".join(f"{example.input}\n{example.output}" for example in prompt.examples)
    return count_tokens(f"{_whole(prompt)}\n{examples}")


def _path(workspace: Workspace, name: str) -> Path:
    return workspace.folder / workspace.settings.prompt.folder / f"{name}.md"


ROUTES = [
    page("/prompt", show_all),
    act("/prompt", create, back=show_all, needs="edit_prompt"),
    page("/prompt/{name}", show_one),
    ask("/prompt/{name}/draft", show_draft, needs="edit_prompt"),
    act("/prompt/{name}/save", save, back=show_one, needs="edit_prompt"),
    act("/prompt/{name}/label", put_label, back=show_one, needs="edit_prompt"),
    act("/prompt/{name}/roll-back", back, back=show_one, needs="edit_prompt"),
    act("/prompt/{name}/try", try_out, back=show_one, needs="run_evaluation"),
]
