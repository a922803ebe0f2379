"""What happened in this call? The list of traces with its search, and one trace with its waterfall."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from markupsafe import Markup

from slipway.domain.errors import InputError
from slipway.domain.feedback import Feedback
from slipway.domain.ids import new_id
from slipway.domain.rollup import RollupPoint
from slipway.domain.trace import Span, SpanKind, Trace, TraceSummary
from slipway.release.parts import list_releases
from slipway.web.filter import Filter, link, moment_since, since_choice
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, count, micros, moment, seconds, share, significant
from slipway.web.page import Done, View, Visit, act, page
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
    Column(key="person", label="Person", mono=True, shown=False),
    Column(key="trace", label="Trace", mono=True, shown=False),
)
TONES = {"ok": "pass", "error": "fail", "blocked": "warn", "abstained": "warn", "cancelled": "warn"}
STATUSES = (("", "Any status"), *((name, name.capitalize()) for name in ("ok", "abstained", "blocked", "error")))
FROM = (("users", "Users' traffic"), ("own", "Slipway's own"), ("all", "All traffic"))
ASKERS = {"users": ONLY_USERS, "own": ONLY_OWN}
COLOURS: dict[SpanKind, int] = {
    "chat": 1, "embeddings": 4, "retrieval": 4, "rerank": 4, "guard": 5, "tool": 2, "agent": 3, "evaluator": 3,
}  # fmt: skip
SCORES = {"good": 1.0, "mixed": 0.0, "bad": -1.0}
SHOWN_APART = ("question", "answer", "messages", "reply", "passages")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanBar:
    """A span as a line of the waterfall; `left` and `width` are per cent of the trace."""

    name: str
    word: str
    depth: int
    colour: int
    left: str
    width: str
    took: str
    href: str
    selected: bool


def show_list(visit: Visit) -> View:
    store = visit.workspace.store
    now = visit.workspace.now()
    since = visit.ask("since", "7d")
    query = {name: visit.ask(name) for name in ("q", "status", "release", "filter")}
    query |= {"since": since, "from": visit.ask("from", "users")}
    begins = moment_since(since, now)
    wanted = " and ".join(f"({part})" for part in (query["filter"], ASKERS.get(query["from"], "")) if part)
    filters: dict[str, Any] = {
        "text": query["q"],
        "query": wanted,
        "status": query["status"] or None,
        "release": query["release"] or None,
        "since": begins,
    }
    found = store.traces.list(**filters, limit=PAGE, after=visit.ask("after") or None)
    labels = release_labels(visit.workspace)
    columns = choose_columns(COLUMNS, visit.asked("column"))
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
    }
    return View("traces.html", "Traces", data, (Crumb("Traces"),))


def show_trace(visit: Visit) -> View:
    trace = visit.workspace.store.traces.get(visit.part("id"))
    wanted = visit.ask("span", trace.root.span)
    span = next((span for span in trace.spans if span.span == wanted), trace.root)
    labels = release_labels(visit.workspace)
    root = trace.root
    data = {
        "trace": trace,
        "span": span,
        "question": question_of(trace),
        "bars": _bars(trace, span),
        "ticks": [seconds(root.seconds * step / 4) for step in range(5)],
        "at": datetime.fromtimestamp(root.start_ns / 1e9, UTC),
        "tone": TONES.get(root.status, ""),
        "release": labels.get(root.release or "", root.release or ""),
        "facts": _facts(span, root),
        "messages": _dicts(span.content.get("messages")),
        "passages": _passages(span.content.get("passages")),
        "reply": str(span.content.get("reply") or span.content.get("answer") or ""),
        "rest": {name: _text(value) for name, value in span.content.items() if name not in SHOWN_APART},
        "verdicts": [(rail, word, verdict_tone(word)) for rail, word in (span.verdicts or root.verdicts).items()],
        "tokens": sum(span.input_tokens for span in _paid(trace)),
        "written": sum(span.output_tokens for span in _paid(trace)),
        "cost": sum(span.cost_micros for span in _paid(trace)),
        "feedback": visit.workspace.store.records.list(Feedback, where={"trace": trace.id}),
        "datasets": _dataset_names(visit.workspace),
    }
    crumbs = (Crumb("Traces", "/traces"), Crumb(trace.id[:16]))
    return View("trace.html", f"Trace {trace.id[:8]}", data, crumbs)


def annotate(visit: Visit) -> Done:
    """A reviewer's word on a trace, kept like the feedback of users."""
    trace = visit.workspace.store.traces.get(visit.part("id"))
    score = visit.said("score")
    if score not in SCORES:
        raise InputError("Say whether the answer is good, mixed or bad.")
    feedback = Feedback(
        id=new_id(),
        trace=trace.id,
        score=SCORES[score],
        comment=visit.said("comment"),
        correction=visit.said("correction"),
        source="reviewer",
        subject=trace.root.subject,
        created_at=visit.workspace.now(),
    )
    visit.workspace.store.records.save(feedback, parents=[("trace", trace.id)])
    return Done(f"/traces/{trace.id}", "Your note is kept with this trace.")


def add_to_dataset(visit: Visit) -> Done:
    """The trace's question becomes a case of a new version; what people said about the answer comes along."""
    from slipway.domain.dataset import Dataset
    from slipway.evaluate.dataset import case_of, save_cases

    store = visit.workspace.store
    trace = store.traces.get(visit.part("id"))
    name = visit.said("dataset")
    voices = store.records.list(Feedback, where={"trace": trace.id})
    before = store.records.latest(Dataset, name)
    cases = {case.id: case for case in before.cases} if before else {}
    case = case_of(trace, voices[0] if voices else None)
    parents = [("trace", str(trace.id)), *([("dataset", f"{before.name}@{before.version}")] if before else [])]
    made = save_cases(visit.workspace, name, (cases | {case.id: case}).values(), source="traces", parents=parents)
    return Done(f"/traces/{trace.id}", f"The question is in {made.name}@{made.version}.")


def release_labels(workspace: Workspace) -> dict[str, str]:
    """Labels such as `support@14` by the id of the release."""
    return {release.id: release.label for release in list_releases(workspace)}


def question_of(trace: Trace) -> str:
    content = trace.root.content
    question = content.get("question")
    if isinstance(question, str) and question:
        return question
    asked = [message["text"] for message in _dicts(content.get("messages")) if message.get("role") == "user"]
    return str(asked[-1]) if asked else trace.root.name


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


def _bars(trace: Trace, selected: Span) -> list[SpanBar]:
    root = trace.root
    length = max(1, max(span.end_ns for span in trace.spans) - root.start_ns)
    depths: dict[str, int] = {}
    bars = []
    for span in _nested(trace):
        depths[span.span] = depths.get(span.parent or "", -1) + 1
        left = 100 * max(0, span.start_ns - root.start_ns) / length
        bars.append(
            SpanBar(
                name=span.name,
                word=span.status if span.status in ("error", "blocked") else "",
                depth=min(4, depths[span.span]),
                colour=COLOURS.get(span.kind, 6),
                left=f"{left:.2f}",
                width=f"{min(100 - left, 100 * (span.end_ns - span.start_ns) / length):.2f}",
                took=seconds(span.seconds),
                href=f"/traces/{trace.id}?span={span.span}",
                selected=span is selected,
            )
        )
    return bars


def _nested(trace: Trace) -> list[Span]:
    """Spans in the order of the tree, children by their start; a span whose parent is missing hangs at the root."""
    known = {span.span for span in trace.spans}
    children: dict[str, list[Span]] = {}
    for span in trace.spans[1:]:
        parent = span.parent if span.parent in known else trace.root.span
        children.setdefault(parent or trace.root.span, []).append(span)
    ordered: list[Span] = []
    waiting = [trace.root]
    while waiting:
        span = waiting.pop()
        ordered.append(span)
        below = sorted(children.pop(span.span, []), key=lambda each: each.start_ns)
        waiting += reversed(below)
    return ordered


def _facts(span: Span, root: Span) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        ("Start", seconds((span.start_ns - root.start_ns) / 1e9)),
        ("Duration", seconds(span.seconds)),
    ]
    if span.first_token_ns is not None:
        facts.append(("First token", seconds(span.first_token_ns / 1e9)))
    if span.input_tokens or span.output_tokens:
        guessed = " (estimated)" if span.usage_estimated else ""
        facts.append(("Tokens", f"{count(span.input_tokens)} → {count(span.output_tokens)}{guessed}"))
    if span.cost_micros:
        facts.append(("Cost", micros(span.cost_micros)))
    named = ("model", "response_model", "provider", "prompt", "index", "channel", "session", "environment", "finish")
    for name in named:
        value = getattr(span, name)
        if value:
            facts.append((name.replace("_", " ").capitalize(), Markup('<span class="mono">{}</span>').format(value)))
    if span.subject:
        person = Markup('<a class="mono" href="/privacy?subject={0}">{0}</a>').format(span.subject)
        facts.append(("Person", person))
    return facts


def _passages(value: object) -> list[dict[str, str]]:
    return [
        {
            "document": str(passage.get("document", "")),
            "place": f"{passage.get('start', '')}:{passage.get('end', '')}",
            "text": str(passage.get("text", "")),
            "score": significant(float(str(passage["score"]))) if "score" in passage else UNKNOWN,
        }
        for passage in _dicts(value)
    ]


def _paid(trace: Trace) -> list[Span]:
    """The spans whose tokens count: the model calls, or the root when nothing below it has any."""
    called = [span for span in trace.spans if span.kind in ("chat", "embeddings") and span.input_tokens]
    return called or [trace.root]


def _dicts(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list | tuple) else []


def _text(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _dataset_names(workspace: Workspace) -> list[str]:
    from slipway.domain.dataset import Dataset

    return workspace.store.records.names(Dataset)


ROUTES = [
    page("/traces", show_list, needs="see_content"),
    page("/traces/{id}", show_trace, needs="see_content"),
    act("/traces/{id}/note", annotate, back=show_trace, needs="give_feedback"),
    act("/traces/{id}/dataset", add_to_dataset, back=show_trace, needs="run_evaluation"),
]
