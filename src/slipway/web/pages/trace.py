"""What happened in this call? Waterfall, messages, passages, checks, money by section; notes, replay, comparison."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Literal, assert_never

from markupsafe import Markup

from slipway.domain.errors import InputError
from slipway.domain.expense import Section
from slipway.domain.feedback import Feedback
from slipway.domain.trace import Span, Trace
from slipway.release.parts import load_release
from slipway.retrieve.attribution import Sentence
from slipway.store.trace_outline import Outline, read_outline, read_steps
from slipway.watch import notes
from slipway.watch.origin import explain_answer, found_index, not_explained
from slipway.watch.replay import replay as replay_request
from slipway.watch.replay import replays_of
from slipway.watch.said import NOT_MORE, dicts, messages_of, question_of, reply_of, written
from slipway.watch.sections import sections_of
from slipway.watch.trace_comparison import Figure, compare_traces
from slipway.web.charts import Bar, BarChart
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, compact, count, micros, money, plural, seconds, share, significant
from slipway.web.page import Done, View, Visit, act, page
from slipway.web.pages.traces import TONES, release_labels, verdict_tone
from slipway.web.table import Column, Row, Table
from slipway.web.waterfall import MOST, draw_waterfall
from slipway.workspace import Workspace

SCORES = {"good": 1.0, "mixed": 0.0, "bad": -1.0}
LONGEST_SHOWN = 20_000
"""Characters of one text that a page shows; the whole stands in `slipway watch trace ID --json`."""
MOST_MESSAGES = 60
MOST_PASSAGES = 40
ORIGIN = (
    Column(key="passage", label="Passage"),
    Column(key="place", label="Characters", number=True),
    Column(key="sentences", label="Sentences", number=True),
    Column(key="share", label="Share of words", number=True),
)


def show_trace(visit: Visit) -> View:
    workspace = visit.workspace
    traces = workspace.store.traces
    id = visit.part("id")
    outline = read_outline(traces, id)
    wanted = visit.ask("span", outline.steps[0].id)
    many = len(outline.steps) > MOST
    trace = read_steps(traces, id, [wanted]) if many else traces.get(id)
    root = trace.root
    span = next((span for span in trace.spans if span.span == wanted), root)
    begin = int(asked) if (asked := visit.ask("from", "0")).isdigit() else 0
    waterfall = draw_waterfall(
        trace.id,
        outline.steps,
        selected=span.span,
        begin=min(begin, len(outline.steps)),
        only_failed=visit.ask("only") == "failed",
    )
    labels = release_labels(workspace)
    line = outline.line
    messages = messages_of(span)
    replays = replays_of(workspace, trace.id)
    data = {
        "trace": trace,
        "span": span,
        "line": line,
        "question": question_of(trace) or root.name,
        "waterfall": waterfall,
        "failed_href": f"/traces/{trace.id}?only=failed" if many and waterfall.failed else "",
        "at": datetime.fromtimestamp(root.start_ns / 1e9, UTC),
        "tone": TONES.get(root.status, ""),
        "release": labels.get(root.release or "", root.release or ""),
        "facts": _facts(span, root),
        "messages": [_cut_message(message) for message in messages[-MOST_MESSAGES:]],
        "left_out": max(0, len(messages) - MOST_MESSAGES),
        "passages": _passages(span.content.get("passages"))[:MOST_PASSAGES],
        "own_question": _cut(next((str(span.content[key]) for key in ("question", "query", "input")
                                   if isinstance(span.content.get(key), str)), "")),
        "reply": _cut(reply_of(span)),
        "rest": {name: _cut(written(value)) for name, value in span.content.items() if name not in NOT_MORE},
        "verdicts": [(rail, word, verdict_tone(word)) for rail, word in (span.verdicts or root.verdicts).items()],
        "sections": _sections(sections_of(workspace, trace)),
        "feedback": notes.notes_on(workspace, trace.id),
        "datasets": _dataset_names(workspace),
        "releases": [(label, label) for label in labels.values()],
        "replay_of": replays.of,
        "replays": replays.by[:10],
        "origin": _origin(trace, workspace),
    }  # fmt: skip
    crumbs = (Crumb("Traces", "/traces"), Crumb(trace.id[:16]))
    return View("trace.html", f"Trace {trace.id[:8]}", data, crumbs)


def show_comparison(visit: Visit) -> View:
    """Two traces side by side."""
    workspace = visit.workspace
    traces = workspace.store.traces
    before, after = _whole(workspace, visit.part("id")), _whole(workspace, visit.part("other"))
    compared = compare_traces(workspace, before, after)
    lines = [
        SimpleNamespace(
            name=change.part,
            before=change.before or UNKNOWN,
            after=change.after or UNKNOWN,
            difference="changed" if change.changed else "",
            same=not change.changed,
        )
        for change in (*compared.parts, *compared.facts)
        if change.before or change.after
    ]
    data = {
        "before": traces.summary(before.id),
        "after": traces.summary(after.id),
        "question": question_of(before) or before.root.name,
        "lines": lines,
        "figures": [_figure(figure) for figure in compared.figures if figure.before or figure.after],
        "changes": compared.said,
        "replayed": replays_of(workspace, after.id).of == before.id,
    }
    crumbs = (Crumb("Traces", "/traces"), Crumb(before.id[:16], f"/traces/{before.id}"), Crumb("comparison"))
    return View("trace_compare.html", "Two traces", data, crumbs)


def annotate(visit: Visit) -> Done:
    """A reviewer's word on a trace, kept like the feedback of users."""
    score = visit.said("score")
    thumbs: Literal["", "up", "down"] = "up" if visit.said("thumbs") == "up" else "down"
    if visit.said("thumbs") in ("up", "down"):
        kept = notes.annotate(visit.workspace, visit.part("id"), thumbs=thumbs)
        said = "Thumbs up is kept with this trace." if kept.score > 0 else "Thumbs down is kept with this trace."
        return Done(f"/traces/{visit.part('id')}", said)
    if score not in SCORES:
        raise InputError("Say whether the answer is good, mixed or bad.")
    notes.annotate(
        visit.workspace,
        visit.part("id"),
        score=SCORES[score],
        name=visit.said("name"),
        label=visit.said("label"),
        comment=visit.said("comment"),
        correction=visit.said("correction"),
    )
    return Done(f"/traces/{visit.part('id')}", "Your note is kept with this trace.")


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


def replay(visit: Visit) -> Done:
    """Asks the request again, of another release, and shows both answers side by side."""
    workspace = visit.workspace
    trace = _whole(workspace, visit.part("id"))
    release = load_release(workspace, visit.said("release"))
    made = asyncio.run(replay_request(workspace, trace, release))
    return Done(f"/traces/{trace.id}/compare/{made}", f"{release.label} was asked the same question.")


def compare_with(visit: Visit) -> Done:
    """From the id that was typed to the address of the comparison."""
    other = visit.said("other").lower()
    visit.workspace.store.traces.summary(other)
    return Done(f"/traces/{visit.part('id')}/compare/{other}")


def _whole(workspace: Workspace, id: str) -> Trace:
    """The trace; of thousands of steps only the root and the calls that a comparison can show."""
    traces = workspace.store.traces
    outline: Outline = read_outline(traces, id)
    if len(outline.steps) <= MOST:
        return traces.get(id)
    called = [step.id for step in outline.steps if step.kind in ("chat", "retrieval")]
    return read_steps(traces, id, called[:MOST])


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
    if span.cached_tokens:
        facts.append(("Cached", plural(span.cached_tokens, "token")))
    if span.reasoning_tokens:
        facts.append(("Reasoning", plural(span.reasoning_tokens, "token")))
    if span.cost_micros:
        facts.append(("Cost", micros(span.cost_micros)))
    named = ("model", "response_model", "provider", "prompt", "index", "channel", "environment", "finish")
    for name in named:
        value = getattr(span, name)
        if value:
            facts.append((name.replace("_", " ").capitalize(), Markup('<span class="mono">{}</span>').format(value)))
    if span.session:
        session = Markup('<a class="mono" href="/traces/session?id={}">{}</a>')
        facts.append(("Session", session.format(_quoted(span.session), span.session)))
    if span.subject:
        person = Markup('<a class="mono" href="/privacy?subject={0}">{0}</a>').format(span.subject)
        facts.append(("Person", person))
    return facts


def _sections(sections: Sequence[Section]) -> Any:
    """Money by section as bars, or tokens where nothing was paid; None without sections."""
    if not sections:
        return None
    paid = any(section.cost_micros for section in sections)
    bars = [
        Bar(
            f"{section.name.capitalize()}, {count(section.tokens)} tokens" if paid else section.name.capitalize(),
            section.cost_micros / 1e6 if paid else float(section.tokens),
        )
        for section in sections
    ]
    title = "Money by section" if paid else "Tokens by section"
    most = max(sections, key=lambda section: section.share)
    return SimpleNamespace(
        chart=BarChart(title=title, bars=bars, format=money if paid else count, axis_format=money if paid else compact),
        paid=paid,
        note=f"most of it {most.name}: {share(most.share)}",
    )


def _origin(trace: Trace, workspace: Workspace) -> SimpleNamespace | None:
    """The answer in pieces, each with what supports it; None where there is nothing to take apart."""
    if not_explained(trace):
        return None
    found = explain_answer(trace, embedder=workspace.embedder)
    if not found.sentences:
        return None
    pieces: list[SimpleNamespace] = []
    at = 0
    for sentence in found.sentences:
        pieces.append(SimpleNamespace(text=found.answer[at : sentence.start], support="", number=0, why=""))
        number = 0 if sentence.passage is None else sentence.passage + 1
        why = _support_said(sentence)
        pieces.append(SimpleNamespace(text=sentence.text, support=sentence.support, number=number, why=why))
        at = sentence.end
    pieces.append(SimpleNamespace(text=found.answer[at:], support="", number=0, why=""))
    index = found_index(trace)
    rows = [
        Row(
            href=f"/retrieve/document/{one.document}?start={one.start}&end={one.end}&index={index}" if index else "",
            cells={
                "passage": f"{number}. {one.document or UNKNOWN}",
                "place": f"{one.start}:{one.end}",
                "sentences": count(one.sentences),
                "share": share(one.share),
            },
        )
        for number, one in enumerate(found.passages, start=1)
        if one.sentences
    ]
    unused = len(found.passages) - len(rows)
    rows.append(
        Row(
            cells={
                "passage": "no passage",
                "place": "",
                "sentences": count(len(found.without_support)),
                "share": share(found.unsupported),
            }
        )
    )
    missing = len(found.without_support)
    return SimpleNamespace(
        pieces=pieces,
        table=Table(caption="Share of each passage in the answer", columns=ORIGIN, rows=rows, compact=True),
        unused=unused,
        measure=found.measure,
        note=f"{plural(missing, 'sentence')} without support" if missing else "every sentence is supported",
    )


def _support_said(sentence: Sentence) -> str:
    passage = f"passage {(sentence.passage or 0) + 1}"
    match sentence.support:
        case "words":
            return f"{sentence.supported_words} of {sentence.words} words stand in {passage}"
        case "similar":
            return f"similar to {passage}, cosine {significant(sentence.similarity or 0.0)}"
        case "nothing to support":
            return ""
        case "none":
            numbers = ", ".join(sentence.missing_numbers)
            return "no passage supports this sentence" + (f"; not there: {numbers}" if numbers else "")
        case _:
            assert_never(sentence.support)


def _figure(figure: Figure) -> SimpleNamespace:
    def shown(value: float | None) -> str:
        match figure.unit:
            case "s":
                return seconds(value)
            case "usd":
                return money(value)
            case _:
                return count(value)

    difference = figure.difference
    sign = "" if not difference else "+" if difference > 0 else "−"
    return SimpleNamespace(
        name=figure.name.capitalize(),
        before=shown(figure.before),
        after=shown(figure.after),
        difference=f"{sign}{shown(abs(difference))}" if difference else "",
        same=not difference,
    )


def _passages(value: object) -> list[dict[str, str]]:
    return [
        {
            "document": str(passage.get("document") or passage.get("id") or ""),
            "place": f"{passage.get('start', '')}:{passage.get('end', '')}" if "start" in passage else "",
            "text": _cut(str(passage.get("text", ""))),
            "score": _score(passage.get("score")),
        }
        for passage in dicts(value)
    ]


def _score(value: object) -> str:
    try:
        return significant(float(str(value)))
    except ValueError:
        return UNKNOWN


def _cut_message(message: dict[str, str]) -> dict[str, str]:
    return {**message, "text": _cut(message["text"])}


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}… ({count(len(text))} characters)"


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


def _dataset_names(workspace: Workspace) -> list[str]:
    from slipway.domain.dataset import Dataset

    return workspace.store.records.names(Dataset)


ROUTES = [
    page("/traces/{id}", show_trace, needs="see_content"),
    page("/traces/{id}/compare/{other}", show_comparison, needs="see_content"),
    act("/traces/{id}/note", annotate, back=show_trace, needs="give_feedback"),
    act("/traces/{id}/dataset", add_to_dataset, back=show_trace, needs="run_evaluation"),
    act("/traces/{id}/replay", replay, back=show_trace, needs="run_evaluation"),
    act("/traces/{id}/compare", compare_with, back=show_trace, needs="see_content"),
]
