"""What changed, and may it go out? Releases, one release with its evidence, two side by side."""

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from slipway.domain.answer import Answer
from slipway.domain.errors import SlipwayError
from slipway.domain.release import Channel, Evidence, Measure, Release
from slipway.release import channels
from slipway.release.card import system_card
from slipway.release.changes import compare_releases, describe_parts
from slipway.release.evidence import list_evidence, list_signoffs
from slipway.release.gate import gate_release
from slipway.release.parts import cut_plain_release, cut_release, list_releases, load_release
from slipway.release.pipeline import stream_answer
from slipway.web.frame import Crumb
from slipway.web.number import UNKNOWN, day, difference, interval, moment, quantity, share, signed
from slipway.web.page import Done, View, Visit, act, page, show_view
from slipway.web.pages.overview import STATE_TONES, release_table
from slipway.web.pages.traces import verdict_tone
from slipway.web.rail import read_rail
from slipway.web.rendering import render_block
from slipway.web.report import report_response
from slipway.workspace import Workspace


class Line(NamedTuple):
    """A line of the comparison of two releases."""

    name: str
    before: str
    after: str
    difference: str
    same: bool


class Figure(NamedTuple):
    """A measure of the evidence with what it rests on."""

    suite: str
    name: str
    value: str
    interval: str
    n: int
    dataset: str
    when: str


def show_all(visit: Visit) -> View:
    workspace = visit.workspace
    data = {
        "releases": release_table(workspace, list_releases(workspace)),
        "channels": [_channel(workspace, channel) for channel in channels.list_channels(workspace)],
        "model": f"{workspace.settings.release.engine}/{workspace.settings.release.model}",
    }
    return View("releases.html", "Release", data, (Crumb("Release"),))


def cut(visit: Visit) -> Done:
    release = cut_release(visit.workspace, note=visit.said("note"))
    return Done(f"/release/{release.number}", f"{release.label} holds what slipway.toml, prompts and index say now.")


def cut_plain(visit: Visit) -> Done:
    chosen = visit.workspace.settings.release
    release = cut_plain_release(visit.workspace, engine=chosen.engine, model=chosen.model, note=visit.said("note"))
    model = f"{release.model.engine}/{release.model.name}"
    return Done(f"/release/{release.number}", f"{release.label} forwards requests to {model}, behind the guardrails.")


def show_one(visit: Visit) -> View:
    workspace = visit.workspace
    release = _release(visit)
    state = workspace.store.records.state(Release, release.id)
    evidence = list_evidence(workspace, release)
    others = [other for other in list_releases(workspace) if other.id != release.id]
    before = next((other for other in others if other.number < release.number), others[0] if others else None)
    data: dict[str, Any] = {
        "release": release,
        "state": state,
        "tone": STATE_TONES[state],
        "before": before,
        "stations": read_rail(workspace, release),
        "gate": gate_release(workspace, release),
        "parts": list(describe_parts(release).items()),
        "figures": _figures(evidence),
        "signoffs": list_signoffs(workspace, release),
        "roles": workspace.settings.review.roles,
        "channels": [_channel(workspace, channel) for channel in channels.list_channels(workspace)],
        "application": workspace.application,
        "suites": workspace.settings.evaluate.suites,
    }
    return View("release.html", release.label, data, (Crumb("Release", "/release"), Crumb(release.label)))


def compare(visit: Visit) -> View:
    workspace = visit.workspace
    after = _release(visit)
    before = load_release(workspace, f"{workspace.application}@{visit.part('other')}")
    changes = compare_releases(workspace, before, after)
    lines = [
        Line(part.part, part.before, part.after, "changed" if part.changed else "same", not part.changed)
        for part in changes.parts
    ]
    figures = []
    for item in changes.figures:
        old, new = item.before, item.after
        gap = signed(new.value - old.value, new.unit) if old and new else UNKNOWN
        same = old is not None and new is not None and old.value == new.value
        figures.append(Line(f"{item.suite} {item.name}", _measure(old), _measure(new), gap, same))
    paired = [
        {
            "metric": each.metric,
            "words": difference(each.difference, *each.interval),
            "n": each.n,
            "wins": each.wins,
            "losses": each.losses,
            "ties": each.ties,
            "tone": ("better" if each.difference > 0 else "worse") if each.clear else "",
        }
        for each in changes.comparisons
    ]
    data = {
        "before": before,
        "after": after,
        "lines": lines,
        "figures": figures,
        "paired": paired,
        "prompt_diff": _prompt_diff(workspace, before, after),
    }
    crumbs = (
        Crumb("Release", "/release"),
        Crumb(after.label, f"/release/{after.number}"),
        Crumb(f"compared with @{before.number}"),
    )
    return View("release_compare.html", f"{before.label} and {after.label}", data, crumbs)


def promote(visit: Visit) -> Done:
    release = _release(visit)
    weight = float(visit.said("weight", "100")) / 100
    channel = channels.promote(
        visit.workspace, release, visit.said("channel"), weight=weight, force=bool(visit.said("force")), by=visit.person
    )
    return Done(
        f"/release/{release.number}", f"{channel.name} now gives {release.label} {share(weight)} of its traffic."
    )


def roll_back(visit: Visit) -> Done:
    channel = channels.roll_back(visit.workspace, visit.said("channel"), by=visit.person)
    return Done("/release", f"{channel.name} serves what it served before.")


def retire(visit: Visit) -> Done:
    release = _release(visit)
    channels.retire(visit.workspace, release)
    return Done("/release", f"{release.label} is retired.")


def evaluate(visit: Visit) -> Done:
    release = _release(visit)
    suites = visit.lists.get("suite", list(visit.workspace.settings.evaluate.suites))
    for suite in suites:
        visit.start("evaluate", f"Evaluate {suite}", release=release.label, suite=suite)
    return Done("/evaluate", f"{release.label} is being evaluated.")


def card(visit: Visit) -> Response:
    """The system card as one file: styles and drawings inside, no script."""
    made = system_card(visit.workspace, _release(visit))
    return report_response("reports/card.html", card=made)


async def ask(request: Request) -> Response:
    """One question to the release: streamed to the page's script, or shown on a page of its own."""
    workspace: Workspace = request.app.state.current.workspace
    question = str((await request.form()).get("question", "")).strip()
    visit = Visit(workspace, request)
    visit.require("see_content")
    release = await run_in_threadpool(_release, visit)
    if "text/event-stream" in request.headers.get("accept", ""):
        return StreamingResponse(
            _answer_events(workspace, release, question),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    said, wrong = await _ask(workspace, release, question)
    data = {**_answer_data(workspace, release, question, said), "failure": wrong}
    crumbs = (Crumb("Release", "/release"), Crumb(release.label, f"/release/{release.number}"), Crumb("question"))
    return await run_in_threadpool(show_view, workspace, request, View("answer.html", "Answer", data, crumbs))


async def _ask(workspace: Workspace, release: Release, question: str) -> tuple[Answer | None, str]:
    said = None
    try:
        async for event in stream_answer(release, question, workspace=workspace):
            said = event if isinstance(event, Answer) else said
    except SlipwayError as wrong:
        return None, str(wrong)
    return said, ""


async def _answer_events(workspace: Workspace, release: Release, question: str) -> AsyncIterator[str]:
    """Server-sent events: `word` with text, then `done` with the whole answer as HTML."""
    failure = ""
    said: Answer | None = None
    try:
        async for event in stream_answer(release, question, workspace=workspace):
            if isinstance(event, Answer):
                said = event
            else:
                yield f"event: word\ndata: {json.dumps({'text': event.text})}\n\n"
    except SlipwayError as wrong:
        failure = str(wrong)
    data = {**_answer_data(workspace, release, question, said), "failure": failure}
    html = await run_in_threadpool(render_block, "answer.html", "answer", data)
    yield f"event: done\ndata: {json.dumps({'html': html})}\n\n"


def _answer_data(workspace: Workspace, release: Release, question: str, said: Answer | None) -> dict[str, Any]:
    verdicts = (
        [(verdict.rail, verdict.decision, verdict_tone(verdict.decision)) for verdict in said.verdicts] if said else []
    )
    return {
        "release": release,
        "question": question,
        "answer": said,
        "verdicts": [verdict for verdict in verdicts if verdict[1] != "allow"],
    }


def _release(visit: Visit) -> Release:
    return load_release(visit.workspace, f"{visit.workspace.application}@{visit.part('number')}")


def _channel(workspace: Workspace, channel: Channel) -> dict[str, Any]:
    labels = {release.id: release for release in list_releases(workspace)}
    total = sum(part.weight for part in channel.shares) or 1.0
    return {
        "name": channel.name,
        "shares": [
            (labels[part.release], share(part.weight / total)) for part in channel.shares if part.release in labels
        ],
        "shadow": labels.get(channel.shadow) if channel.shadow else None,
        "previous": ", ".join(labels[part.release].label for part in channel.previous if part.release in labels),
        "notes": channels.describe_steering(channel, {id: release.label for id, release in labels.items()}),
        "changed": f"{moment(channel.changed_at)}{' by ' + channel.changed_by if channel.changed_by else ''}",
    }


def _figures(evidence: list[Evidence]) -> list[Figure]:
    """Every measure of the newest evidence of each suite."""
    newest: dict[str, Evidence] = {}
    for item in evidence:
        newest.setdefault(item.suite, item)
    return [
        Figure(
            suite,
            measure.name.replace("_", " "),
            quantity(measure.value, measure.unit),
            interval(measure.low, measure.high, measure.unit) or UNKNOWN,
            measure.n,
            str(item.dataset or UNKNOWN),
            day(item.created_at),
        )
        for suite, item in newest.items()
        for measure in item.measures
    ]


def _measure(measure: Measure | None) -> str:
    if measure is None:
        return UNKNOWN
    bounds = interval(measure.low, measure.high, measure.unit)
    return f"{quantity(measure.value, measure.unit)}{f' ({bounds})' if bounds else ''}"


def _prompt_diff(workspace: Workspace, before: Release, after: Release) -> list[tuple[str, str]]:
    """Words that changed between the prompts, or nothing when the prompt is the same."""
    from slipway.prompt.changes import word_diff
    from slipway.prompt.library import load_prompt

    if before.prompt is None or after.prompt is None or before.prompt.hash == after.prompt.hash:
        return []
    old, new = load_prompt(workspace, str(before.prompt)), load_prompt(workspace, str(after.prompt))
    return [
        (piece.kind, piece.text) for piece in word_diff(f"{old.system}\n\n{old.user}", f"{new.system}\n\n{new.user}")
    ]


ROUTES = [
    page("/release", show_all),
    act("/release", cut, back=show_all, needs="cut_release"),
    act("/release/plain", cut_plain, back=show_all, needs="cut_release"),
    act("/release/roll-back", roll_back, back=show_all, needs="promote_release"),
    page("/release/{number:int}", show_one),
    page("/release/{number:int}/compare/{other:int}", compare),
    page("/release/{number:int}/card", card),
    act("/release/{number:int}/promote", promote, back=show_one, needs="promote_release"),
    act("/release/{number:int}/retire", retire, back=show_one, needs="promote_release"),
    act("/release/{number:int}/evaluate", evaluate, back=show_one, needs="run_evaluation"),
    Route("/release/{number:int}/ask", ask, methods=["POST"]),
]
