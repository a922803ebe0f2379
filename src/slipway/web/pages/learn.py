"""What goes back, and to whom? Findings with their evidence, each routed to prompt, knowledge or tuning."""

from typing import Any

from slipway.domain.errors import NotFound
from slipway.domain.feedback import Finding
from slipway.learn.inbox import list_drafts, list_findings, load_finding, set_state
from slipway.learn.routes import WRITE_HERE, apply_draft, draft, draft_file
from slipway.web import work
from slipway.web.filter import Filter
from slipway.web.frame import Crumb
from slipway.web.number import count, moment
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.pages.traces import release_labels
from slipway.web.table import Column, Row, Table, sort_rows, tag

MOST_FINDINGS = 200
STATES = {"open": "warn", "drafted": "on", "closed": "pass", "dismissed": ""}
ROUTES_WORDS = {
    "prompt": "an edit of the prompt",
    "knowledge": "a document to write",
    "training": "a pair to train on",
    "guard": "a setting of a rail",
    "dataset": "a test case",
}
COLUMNS = (
    Column(key="what", label="Finding", one_line=False),
    Column(key="times", label="Times", number=True),
    Column(key="kind", label="Kind"),
    Column(key="route", label="Goes to"),
    Column(key="state", label="State"),
    Column(key="release", label="Release"),
    Column(key="seen", label="Seen"),
)


def show(visit: Visit) -> View:
    workspace = visit.workspace
    wanted = {name: visit.ask(name) for name in ("state", "route", "kind")}
    findings = list_findings(workspace)
    shown = [
        finding
        for finding in findings
        if all(not value or getattr(finding, name) == value for name, value in wanted.items())
    ]
    labels = release_labels(workspace)
    columns, rows = sort_rows(
        COLUMNS,
        [_row(finding, labels) for finding in shown],
        path="/learn",
        query=dict(visit.request.query_params),
        default="-times",
    )
    counts = {state: sum(finding.state == state for finding in findings) for state in STATES}
    data = {
        "table": Table(caption="Findings", columns=columns, rows=rows[:MOST_FINDINGS]),
        "all": len(findings),
        "figures": [(state.capitalize(), count(number), "") for state, number in counts.items()],
        "filters": [
            _choice("state", "Any state", STATES, wanted),
            _choice("route", "Any route", ROUTES_WORDS, wanted),
            _choice("kind", "Any kind", ("gap", "failure", "feedback", "drift", "guard", "cost"), wanted),
        ],
        "jobs": work.running(workspace, kinds=("triage", "close_gaps")),
        "releases": list(labels.values()),
    }
    return View("learn.html", "Learn", data, (Crumb("Learn"),))


def show_finding(visit: Visit) -> View:
    workspace = visit.workspace
    finding = load_finding(workspace, visit.part("id"))
    drafts = []
    for made in list_drafts(workspace, finding):
        file = draft_file(workspace, made)
        text = made.text if made.applied or not file.exists() else file.read_text(encoding="utf-8")
        drafts.append({"draft": made, "text": text, "unwritten": WRITE_HERE in text})
    data: dict[str, Any] = {
        "finding": finding,
        "tone": STATES[finding.state],
        "goes": ROUTES_WORDS[finding.route],
        "drafts": drafts,
        "release": release_labels(workspace).get(finding.release or "", ""),
    }
    crumbs = (Crumb("Learn", "/learn"), Crumb(finding.id[:12]))
    return View("finding.html", finding.title, data, crumbs)


def triage(visit: Visit) -> Done:
    visit.start("triage", "Look for findings", release=visit.said("release"))
    return Done("/learn", "Traces, failed cases and feedback are being looked through.")


def close(visit: Visit) -> Done:
    visit.start("close_gaps", "Ask open gaps again", release=visit.said("release"))
    return Done("/learn", "The open gaps are being asked again.")


def route(visit: Visit) -> Done:
    finding = load_finding(visit.workspace, visit.part("id"))
    made = draft(visit.workspace, finding)
    return Done(f"/learn/{finding.id}", f"The draft for {made.path} is ready to look at.")


def apply(visit: Visit) -> Done:
    finding = load_finding(visit.workspace, visit.part("id"))
    made = next((made for made in list_drafts(visit.workspace, finding) if made.id == visit.said("draft")), None)
    if made is None:
        raise NotFound("draft", visit.said("draft"), next_step=f"Make it again: slipway learn route {finding.id[:12]}")
    text = visit.form.get("text", "").replace("\r\n", "\n")
    path = apply_draft(visit.workspace, made, text=text)
    name = path.relative_to(visit.workspace.folder) if path.is_relative_to(visit.workspace.folder) else path
    return Done(f"/learn/{finding.id}", f"{name} is written. Bring the application up to cut a release with it.")


def decide_state(visit: Visit) -> Done:
    finding = load_finding(visit.workspace, visit.part("id"))
    state = "open" if visit.said("state") == "open" else "dismissed"
    set_state(visit.workspace, finding, "open" if state == "open" else "dismissed")
    return Done("/learn", f"The finding is {state}.")


def _row(finding: Finding, labels: dict[str, str]) -> Row:
    return Row(
        href=f"/learn/{finding.id}",
        cells={
            "what": finding.title,
            "times": count(finding.volume),
            "kind": finding.kind,
            "route": finding.route,
            "state": tag(finding.state, STATES[finding.state]),
            "release": labels.get(finding.release or "", "–"),
            "seen": moment(finding.created_at),
        },
        order={
            "what": finding.title.lower(),
            "times": finding.volume,
            "kind": finding.kind,
            "route": finding.route,
            "state": finding.state,
            "seen": finding.created_at,
        },
    )


def _choice(name: str, everything: str, values: Any, wanted: dict[str, str]) -> Filter:
    return Filter(
        name=name,
        label=name.capitalize(),
        value=wanted[name],
        choices=[("", everything), *((each, each) for each in values)],
    )


ROUTES = [
    page("/learn", show, needs="see_content"),
    act("/learn/triage", triage, back=show, needs="run_evaluation"),
    act("/learn/close", close, back=show, needs="run_evaluation"),
    page("/learn/{id}", show_finding, needs="see_content"),
    act("/learn/{id}/route", route, back=show_finding, needs="edit_prompt"),
    act("/learn/{id}/apply", apply, back=show_finding, needs="edit_prompt"),
    act("/learn/{id}/state", decide_state, back=show_finding, needs="edit_prompt"),
]
