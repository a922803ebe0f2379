"""/api/v1: traces for programs, by the same verbs that pages and commands call; JSON in and out."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from slipway.access.audit import record_event
from slipway.access.roles import Action
from slipway.domain.errors import InputError, QueryInvalid, SlipwayError
from slipway.release.parts import load_release
from slipway.store.trace_sums import GroupedBy, read_groups
from slipway.watch.costs import read_costs
from slipway.watch.notes import annotate, notes_on
from slipway.watch.replay import replay, replays_of
from slipway.watch.sections import sections_of
from slipway.watch.tail import EVERY_S, Tail
from slipway.watch.trace_comparison import compare_traces
from slipway.watch.traffic import measure_traffic
from slipway.web.filter import moment_since
from slipway.web.page import Visit

PREFIX = "/api/v1"
MOST = 200
LARGEST_BODY = 1024 * 1024
LONGEST_TAIL_S = 15.0
"""A stream ends after this, as those of pages do; the client opens it again with the id it saw last."""
Read = Callable[[Visit], object]


class Note(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a note."""

    thumbs: str = ""
    score: float | None = None
    name: str = ""
    label: str = ""
    comment: str = ""
    correction: str = ""


class ReplayOf(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a replay; an empty release is the newest."""

    release: str = ""


def list_traces(visit: Visit) -> object:
    page = visit.workspace.store.traces.list(
        query=visit.ask("filter"),
        text=visit.ask("q"),
        session=visit.ask("session") or None,
        subject=visit.ask("user") or None,
        since=_moment(visit, "since"),
        until=_moment(visit, "until"),
        limit=_limit(visit),
        after=visit.ask("after") or None,
    )
    return {"traces": page.rows, "next": page.next}


def get_trace(visit: Visit) -> object:
    workspace = visit.workspace
    trace = workspace.store.traces.get(visit.part("id"))
    return {
        "trace": trace,
        "sections": sections_of(workspace, trace),
        "feedback": notes_on(workspace, trace.id),
        "replays": replays_of(workspace, trace.id)._asdict(),
    }


def diff_traces(visit: Visit) -> object:
    traces = visit.workspace.store.traces
    return compare_traces(visit.workspace, traces.get(visit.part("id")), traces.get(visit.part("other")))


def note_on(visit: Visit, body: bytes) -> object:
    note = _decode(body, Note)
    if note.thumbs not in ("", "up", "down"):
        raise InputError(f"'{note.thumbs}' is no thumb: write up or down.")
    thumbs: Any = note.thumbs
    return annotate(
        visit.workspace,
        visit.part("id"),
        thumbs=thumbs,
        score=note.score,
        name=note.name,
        label=note.label,
        comment=note.comment,
        correction=note.correction,
    )


def replay_trace(visit: Visit, body: bytes) -> object:
    workspace = visit.workspace
    asked = _decode(body or b"{}", ReplayOf)
    old = workspace.store.traces.get(visit.part("id"))
    release = load_release(workspace, asked.release)
    made = asyncio.run(replay(workspace, old, release))
    return {"trace": made, "release": release.label}


def list_groups(by: GroupedBy) -> Read:
    def read(visit: Visit) -> object:
        page = read_groups(
            visit.workspace.store.traces,
            by=by,
            query=visit.ask("filter"),
            since=_moment(visit, "since"),
            until=_moment(visit, "until"),
            order="dearest" if visit.ask("order") == "dearest" else "newest",
            limit=_limit(visit),
            after=visit.ask("after") or None,
        )
        return {"groups": page.rows, "next": page.next}

    return read


def get_costs(visit: Visit) -> object:
    since = _moment(visit, "since", default="30d")
    assert since is not None
    return read_costs(visit.workspace, since=since, until=_moment(visit, "until"))


def get_traffic(visit: Visit) -> object:
    since = _moment(visit, "since", default="30d")
    assert since is not None
    return measure_traffic(visit.workspace, since=since, until=_moment(visit, "until"))


async def tail_traces(request: Request) -> Response:
    """Server-sent events: `trace` with a line of the list whenever one arrives that meets `filter` and `q`."""
    visit = Visit(request.app.state.current.workspace, request)
    try:
        visit.require("see_content")
        tail = await run_in_threadpool(Tail, visit.workspace, query=visit.ask("filter"), text=visit.ask("q"))
    except SlipwayError as wrong:
        return error_response(wrong)
    return StreamingResponse(
        _tail_events(tail),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _tail_events(tail: Tail) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    loop = asyncio.get_running_loop()
    ends = loop.time() + LONGEST_TAIL_S
    while loop.time() < ends:
        for row in await run_in_threadpool(tail.look):
            yield f"event: trace\nid: {row.id}\ndata: {_json(row).decode()}\n\n"
        await asyncio.sleep(EVERY_S)


def error_response(wrong: SlipwayError) -> Response:
    """The error as JSON: its code, its message, and the place in a filter where there is one."""
    told: dict[str, Any] = {"code": wrong.code, "message": str(wrong)}
    if isinstance(wrong, QueryInvalid):
        told |= {"position": wrong.position, "reason": wrong.reason}
    return _response({"error": told}, status=wrong.http_status)


def _reading(path: str, read: Read, *, needs: Action) -> Route:
    async def endpoint(request: Request) -> Response:
        visit = Visit(request.app.state.current.workspace, request)

        def answer() -> Response:
            try:
                visit.require(needs)
                return _response(read(visit))
            except SlipwayError as wrong:
                return error_response(wrong)

        return await run_in_threadpool(answer)

    return Route(f"{PREFIX}{path}", endpoint, methods=["GET"])


def _writing(path: str, write: Callable[[Visit, bytes], object], *, needs: Action) -> Route:
    async def endpoint(request: Request) -> Response:
        visit = Visit(request.app.state.current.workspace, request)
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > LARGEST_BODY:
                return error_response(InputError(f"The body is larger than {LARGEST_BODY} bytes."))

        def answer() -> Response:
            try:
                visit.require(needs)
                made = write(visit, bytes(body))
            except SlipwayError as wrong:
                return error_response(wrong)
            record_event(visit.workspace.store, visit.person, needs, request.url.path)
            return _response(made, status=201)

        return await run_in_threadpool(answer)

    return Route(f"{PREFIX}{path}", endpoint, methods=["POST"])


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise InputError(f"The body is not what is expected here: {wrong}.") from None


def _limit(visit: Visit) -> int:
    asked = visit.ask("limit", "50")
    if not asked.isdigit() or not 1 <= int(asked) <= MOST:
        raise InputError(f"'{asked}' is no limit: write a number from 1 to {MOST}.")
    return int(asked)


def _moment(visit: Visit, name: str, *, default: str = "") -> datetime | None:
    """A moment as ISO 8601, or a stretch back from now such as 7d."""
    text = visit.ask(name, default)
    if not text:
        return None
    back = moment_since(text, visit.workspace.now())
    if back is not None:
        return back
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InputError(
            f"'{text}' is no time for '{name}': write 2026-11-29T12:00:00Z, or back from now: 1h, 24h, 7d, 30d."
        )
    return moment


def _response(value: object, *, status: int = 200) -> Response:
    return PlainTextResponse(
        _json(value), status_code=status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


def _json(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except (TypeError, ValueError, OverflowError):
        built: Mapping[str, Any] = msgspec.to_builtins(value, enc_hook=str, str_keys=True)
        return json.dumps(built, ensure_ascii=True, default=str).encode()


ROUTES = [
    _reading("/traces", list_traces, needs="see_content"),
    Route(f"{PREFIX}/traces/tail", tail_traces, methods=["GET"]),
    _reading("/traces/{id}", get_trace, needs="see_content"),
    _reading("/traces/{id}/diff/{other}", diff_traces, needs="see_content"),
    _writing("/traces/{id}/notes", note_on, needs="give_feedback"),
    _writing("/traces/{id}/replay", replay_trace, needs="run_evaluation"),
    _reading("/sessions", list_groups("session"), needs="see_content"),
    _reading("/users", list_groups("subject"), needs="see_content"),
    _reading("/costs", get_costs, needs="see_results"),
    _reading("/traffic", get_traffic, needs="see_results"),
]
