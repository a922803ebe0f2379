"""What happened in all these calls? The list of traces with its search, conversations, people, and costs."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from slipway.domain.errors import QueryInvalid
from slipway.domain.expense import Costs, Repeats, TraceGroup
from slipway.domain.rollup import RollupPoint
from slipway.domain.trace import TracePage, TraceSummary
from slipway.domain.trace_filter import FIELDS, Compare
from slipway.release.parts import list_releases
from slipway.store.trace_outline import read_many
from slipway.store.trace_sums import GroupedBy, read_groups
from slipway.text.filters import write_filter
from slipway.watch.costs import find_repeats, read_costs
from slipway.watch.said import answer_of, question_of
from slipway.web.filter import SINCE, Filter, link, moment_since, since_choice
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, micros, moment, plural, seconds, share
from slipway.web.page import View, Visit, page
from slipway.web.table import Column, Row, Table, choose_columns, tag
from slipway.web.traffic import ONLY_OWN, ONLY_USERS, total, user_traffic
from slipway.workspace import Workspace

PAGE = 50
COLUMNS = (
    Column(key="time", label="Time"),
    Column(key="question", label="Question", clip=True),
    Column(key="status", label="Status"),
    Column(key="release", label="Release"),
    Column(key="model", label="Model", mono=True),
    Column(key="latency", label="Latency", number=True),
    Column(key="tokens", label="Tokens", number=True),
    Column(key="cost", label="Cost", number=True),
    Column(key="spans", label="Spans", number=True, shown=False),
    Column(key="channel", label="Channel", shown=False),
    Column(key="session", label="Session", mono=True, shown=False),
    Column(key="person", label="Person", mono=True, shown=False),
    Column(key="trace", label="Trace", mono=True, shown=False),
)
KEPT_COLUMNS = "slip_trace_columns"
"""The cookie that remembers which columns somebody wants to see."""
TONES = {"ok": "pass", "error": "fail", "blocked": "warn", "abstained": "warn", "cancelled": "warn"}
STATUSES = (("", "Any status"), *((name, name.capitalize()) for name in ("ok", "abstained", "blocked", "error")))
FROM = (("users", "Users' traffic"), ("own", "Slipway's own"), ("all", "All traffic"))
ASKERS = {"users": ONLY_USERS, "own": ONLY_OWN}
EXAMPLES = (
    ("latency > 2s", "slower than two seconds"),
    ("cost > $0.01 and status = ok", "dear answers"),
    ("feedback = bad", "what people did not like"),
    ("verdict.prompt_attack", "where a rail stepped in"),
    ("span.kind = tool and span.status = error", "a tool failed"),
    ('"refund" and not model ~ mini', "words that were said"),
)
TABS = (
    ("/traces", "Requests"),
    ("/traces/sessions", "Conversations"),
    ("/traces/people", "People"),
    ("/traces/costs", "Costs"),
)
GROUPS = (
    Column(key="last", label="Last"),
    Column(key="key", label="", mono=True),
    Column(key="traces", label="Requests", number=True),
    Column(key="errors", label="Errors", number=True),
    Column(key="tokens", label="Tokens", number=True),
    Column(key="cost", label="Cost", number=True),
    Column(key="each", label="Cost / request", number=True),
)
TURNS = 50
MOST_COSTS = 12
MOST_LOOKED_AT = 5000
"""Calls that the page compares; the command looks at more."""


def show_list(visit: Visit) -> View:
    now = visit.workspace.now()
    since = visit.ask("since", "7d")
    query = {name: visit.ask(name) for name in ("q", "status", "release", "filter")}
    query |= {"since": since, "from": visit.ask("from", "users")}
    begins = moment_since(since, now)
    found, wrong = _find(visit, query, begins)
    labels = release_labels(visit.workspace)
    wanted = visit.asked("column")
    columns = choose_columns(COLUMNS, wanted or visit.request.cookies.get(KEPT_COLUMNS, "").split())
    kept = query | {"after": ""}
    table = Table(
        caption="Traces",
        columns=columns,
        rows=[Row(href=f"/traces/{row.id}", cells=_cells(row, labels)) for row in found.rows],
        more_href=link("/traces", kept, after=found.next) if found.next else "",
        first_href=link("/traces", kept) if visit.ask("after") else "",
    )
    releases = (("", "Any release"), *labels.items())
    data = {
        "table": table,
        "columns": columns,
        "tabs": TABS,
        "tab": "/traces",
        "wrong": wrong,
        "examples": [(text, about, link("/traces", {"filter": text, "since": since})) for text, about in EXAMPLES],
        "fields": [(name, field.about) for name, field in FIELDS.items()],
        "filters": [
            Filter(name="q", label="Search questions and answers", value=query["q"]),
            Filter(name="filter", label="Filter, such as latency > 2s", value=query["filter"]),
            Filter(name="status", label="Status", value=query["status"], choices=STATUSES),
            Filter(name="release", label="Release", value=query["release"], choices=releases),
            Filter(name="from", label="Asked by", value=query["from"], choices=FROM),
            since_choice(since),
        ],
        # Called by the template where it shows them: a list that only pages on does not pay for them.
        "figures": lambda: _figures(
            user_traffic(visit.workspace, since=begins or now - timedelta(days=365), until=now, step_s=3600)
        ),
        "filtered": any(query[name] for name in ("q", "status", "release", "filter")),
        "sought": bool(found.next) and not found.rows,
    }
    return View("traces.html", "Traces", data, (Crumb("Traces"),), status=400 if wrong else 200)


async def keep_columns(request: Request) -> Response:
    """Remembers the chosen columns in the browser; nothing about anybody is in it."""
    async with request.form() as form:
        chosen = [name for name in form.getlist("column") if name in {column.key for column in COLUMNS}]
    response: Response = RedirectResponse("/traces", status_code=303)
    if request.headers.get("hx-request"):
        response = Response(status_code=204, headers={"HX-Redirect": "/traces"})
    response.set_cookie(
        KEPT_COLUMNS, " ".join(map(str, chosen)), max_age=365 * 86400, path="/", httponly=True, samesite="strict"
    )
    return response


def _find(visit: Visit, query: Mapping[str, str], begins: datetime | None) -> tuple[TracePage, QueryInvalid | None]:
    """The page of traces, or none and what is wrong with the filter: it is shown where it was written."""
    asked_by = ASKERS.get(query["from"], "")
    try:
        found = visit.workspace.store.traces.list(
            text=query["q"],
            query=f"({query['filter']}) and {asked_by}"
            if query["filter"].strip() and asked_by
            else query["filter"].strip() or asked_by,
            status=query["status"] or None,
            release=query["release"] or None,
            since=begins,
            limit=PAGE,
            after=visit.ask("after") or None,
        )
    except QueryInvalid:
        try:
            visit.workspace.store.traces.list(query=query["filter"], limit=1)
        except QueryInvalid as wrong:
            return TracePage(rows=()), wrong
        raise
    return found, None


def show_sessions(visit: Visit) -> View:
    return _show_groups(visit, "session", "Conversations", "session")


def show_people(visit: Visit) -> View:
    return _show_groups(visit, "subject", "People", "user")


def _show_groups(visit: Visit, by: GroupedBy, title: str, field: str) -> View:
    path = "/traces/sessions" if by == "session" else "/traces/people"
    since = visit.ask("since", "7d")
    order = "dearest" if visit.ask("order") == "dearest" else "newest"
    found = read_groups(
        visit.workspace.store.traces,
        by=by,
        since=moment_since(since, visit.workspace.now()),
        query=ONLY_USERS,
        order="dearest" if order == "dearest" else "newest",
        limit=PAGE,
        after=visit.ask("after") or None,
    )
    query = {"since": since, "order": visit.ask("order")}
    columns = [column if column.label else Column(key="key", label="Session" if by == "session" else "Person",
                                                  mono=True, clip=True) for column in GROUPS]  # fmt: skip
    table = Table(
        caption=title,
        columns=columns,
        rows=[Row(href=_group_href(group, by, field, since), cells=_group_cells(group)) for group in found.rows],
        more_href=link(path, query, after=found.next) if found.next else "",
        first_href=link(path, query) if visit.ask("after") else "",
    )
    data = {
        "table": table,
        "tabs": TABS,
        "tab": path,
        "title": title,
        "path": path,
        "filters": [
            Filter(name="order", label="Order", value=order, choices=(("newest", "Newest"), ("dearest", "Dearest"))),
            since_choice(since),
        ],
        "lead": "Requests that clients sent with the same session."
        if by == "session"
        else "Pseudonyms of the people whom requests are about.",
        "how": "Send a session with each request: the header x-slipway-session, or gen_ai.conversation.id in a trace."
        if by == "session"
        else "Send who asks: the field `user` of a request, or user.id in a trace.",
    }
    return View("trace_groups.html", title, data, (Crumb("Traces", "/traces"), Crumb(title)))


def _group_href(group: TraceGroup, by: str, field: str, since: str) -> str:
    if by == "session":
        return link("/traces/session", {"id": group.key})
    return link("/traces", {"filter": write_filter(Compare(field, "=", group.key)), "since": since})


def _group_cells(group: TraceGroup) -> dict[str, Any]:
    return {
        "last": moment(group.last_at),
        "key": group.key,
        "traces": count(group.traces),
        "errors": count(group.errors) if group.errors else UNKNOWN,
        "tokens": f"{count(group.input_tokens)} → {count(group.output_tokens)}",
        "cost": micros(group.cost_micros) if group.cost_micros else UNKNOWN,
        "each": micros(round(group.cost_micros / group.traces)) if group.cost_micros else UNKNOWN,
    }


def show_session(visit: Visit) -> View:
    """One conversation, turn by turn, the oldest first on a page of fifty."""
    store = visit.workspace.store
    session = visit.ask("id")
    found = store.traces.list(session=session, limit=TURNS, after=visit.ask("after") or None)
    rows = {row.id: row for row in reversed(found.rows)}
    turns = [
        {
            "row": rows[trace.id],
            "question": question_of(trace) or rows[trace.id].name,
            "answer": answer_of(trace),
            "tone": TONES.get(rows[trace.id].status, ""),
        }
        for trace in read_many(store.traces, list(rows))
    ]
    query = {"id": session}
    data = {
        "session": session,
        "turns": turns,
        "earlier": link("/traces/session", query, after=found.next) if found.next else "",
        "newest": link("/traces/session", query) if visit.ask("after") else "",
    }
    crumbs = (Crumb("Traces", "/traces"), Crumb("Conversations", "/traces/sessions"), Crumb(session[:24]))
    return View("trace_session.html", "Conversation", data, crumbs)


def show_costs(visit: Visit) -> View:
    """What users' traffic costs, taken apart. Repeated calls are compared when somebody looks: that opens content."""
    workspace = visit.workspace
    now = workspace.now()
    since = visit.ask("since", "7d")
    begins = moment_since(since, now) or now - timedelta(days=3650)
    costs = read_costs(workspace, since=begins, until=now, most=MOST_COSTS, look_at=0)
    labels = release_labels(workspace)
    repeats = None
    if visit.ask("part") == "repeats":
        repeats = find_repeats(workspace, since=begins, until=now, look_at=MOST_LOOKED_AT)
    data = {
        "costs": costs,
        "tabs": TABS,
        "tab": "/traces/costs",
        "since": since,
        "choices": SINCE,
        "figures": _cost_figures(costs),
        "tables": [
            _cost_table("By release", "Release", costs.by_release, {"": "no release", **labels}),
            _cost_table("By model", "Model", costs.by_model, {"": "no model"}),
            _cost_table("By person", "Person", costs.by_user, {}),
        ],
        "operations": _operations(costs),
        "repeats": repeats,
        "saved": _repeat_figures(repeats) if repeats else [],
        "repeated": _repeat_table(repeats) if repeats else None,
    }
    return View("trace_costs.html", "Costs", data, (Crumb("Traces", "/traces"), Crumb("Costs")))


def _cost_figures(costs: Costs) -> list[tuple[str, str, str]]:
    dearest = costs.by_operation[0] if costs.by_operation and costs.cost_micros else None
    return [
        ("Requests", count(costs.requests), f"of {plural(costs.users, 'person', 'people')}"),
        ("Cost", micros(costs.cost_micros), "of users' traffic"),
        ("A request", micros(round(costs.cost_micros / costs.requests)) if costs.requests else UNKNOWN, "mean"),
        (
            "Dearest operation",
            share(dearest.cost_micros / costs.cost_micros) if dearest else UNKNOWN,
            dearest.name if dearest else "nothing was paid",
        ),
    ]


def _repeat_figures(repeats: Repeats) -> list[tuple[str, str, str]]:
    looked = plural(repeats.looked_at, "call")
    return [
        (
            "Word-for-word repeats",
            share(repeats.repeated / repeats.looked_at) if repeats.looked_at else UNKNOWN,
            looked if repeats.looked_at == repeats.of else f"the newest {looked} of {count(repeats.of)}",
        ),
        ("A cache would save", micros(repeats.saved_micros), f"{count(repeats.tokens_saved)} tokens"),
        ("Kept apart by person", micros(repeats.own_saved_micros), plural(repeats.own_repeated, "call")),
    ]


def _repeat_table(repeats: Repeats) -> Table:
    return Table(
        caption="Most repeated calls",
        columns=(
            Column(key="example", label="For example", mono=True),
            Column(key="calls", label="Calls", number=True),
            Column(key="tokens", label="Tokens saved", number=True),
            Column(key="saved", label="Money saved", number=True),
        ),
        rows=[
            Row(
                href=f"/traces/{one.example}",
                cells={
                    "example": one.example[:16],
                    "calls": count(one.calls),
                    "tokens": count(one.tokens_saved),
                    "saved": micros(one.saved_micros) if one.saved_micros else UNKNOWN,
                },
            )
            for one in repeats.most
        ],
    )


def _cost_table(caption: str, label: str, groups: Sequence[TraceGroup], labels: Mapping[str, str]) -> Table:
    kept = ("traces", "cost", "each")
    columns = [Column(key="key", label=label, mono=True, clip=True), *(one for one in GROUPS if one.key in kept)]
    return Table(
        caption=caption,
        columns=columns,
        rows=[Row(cells=_group_cells(group) | {"key": labels.get(group.key, group.key[:40])}) for group in groups],
    )


def _operations(costs: Costs) -> Table:
    return Table(
        caption="By operation",
        columns=(
            Column(key="name", label="Operation", clip=True),
            Column(key="kind", label="Kind"),
            Column(key="count", label="Steps", number=True),
            Column(key="errors", label="Errors", number=True),
            Column(key="tokens", label="Tokens", number=True),
            Column(key="cost", label="Cost", number=True),
            Column(key="share", label="Share", number=True),
            Column(key="mean", label="Mean time", number=True),
        ),
        rows=[
            Row(
                cells={
                    "name": one.name,
                    "kind": one.kind,
                    "count": count(one.count),
                    "errors": count(one.errors) if one.errors else UNKNOWN,
                    "tokens": f"{count(one.input_tokens)} → {count(one.output_tokens)}"
                    if one.input_tokens
                    else UNKNOWN,
                    "cost": micros(one.cost_micros) if one.cost_micros else UNKNOWN,
                    "share": share(one.cost_micros / costs.cost_micros)
                    if one.cost_micros and costs.cost_micros
                    else UNKNOWN,
                    "mean": seconds(one.seconds / one.count),
                }
            )
            for one in costs.by_operation
        ],
    )


def release_labels(workspace: Workspace) -> dict[str, str]:
    """Labels such as `support@14` by the id of the release."""
    return {release.id: release.label for release in list_releases(workspace)}


def verdict_tone(decision: str) -> str:
    return {"allow": "pass", "flag": "warn", "redact": "warn", "undecided": "warn", "block": "fail"}.get(decision, "")


def _cells(row: TraceSummary, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "time": moment(row.started_at),
        "question": row.preview or row.name,
        "status": tag(row.status, TONES.get(row.status, "")),
        "release": labels.get(row.release or "", UNKNOWN),
        "model": row.model or UNKNOWN,
        "latency": seconds(row.seconds),
        "tokens": f"{count(row.input_tokens)} → {count(row.output_tokens)}" if row.input_tokens else UNKNOWN,
        "cost": micros(row.cost_micros) if row.cost_micros else UNKNOWN,
        "spans": count(row.spans),
        "channel": row.channel or UNKNOWN,
        "session": row.session or UNKNOWN,
        "person": row.subject or UNKNOWN,
        "trace": row.id[:16],
    }


def _figures(points: Sequence[RollupPoint]) -> list[tuple[str, str, str]]:
    """(label, value, note) over the chosen time, from the roll-ups."""
    whole = total(points)
    if whole is None:
        return [("Traces", "0", "")]
    latency = whole.latency
    return [
        ("Traces", count(whole.count), ""),
        ("Errors", share(whole.errors / whole.count), ""),
        ("Not answered", share(whole.abstained / whole.count), "not in the documents"),
        ("Blocked", share(whole.blocked / whole.count), "by a guardrail"),
        ("Latency p95", seconds(latency.percentile(0.95)), f"median {seconds(latency.percentile(0.5))}"),
        ("Cost", micros(whole.cost_micros), f"{micros(round(whole.cost_micros / whole.count))} a request"),
    ]


ROUTES: list[BaseRoute] = [
    page("/traces", show_list, needs="see_content"),
    Route("/traces/columns", keep_columns, methods=["POST"]),
    page("/traces/sessions", show_sessions, needs="see_content"),
    page("/traces/people", show_people, needs="see_content"),
    page("/traces/session", show_session, needs="see_content"),
    page("/traces/costs", show_costs, needs="see_results"),
]
