"""A page: a plain function from a visit to a view, run in a thread and answered as page or fragment."""

import base64
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from slipway.access.audit import record_event
from slipway.access.roles import Action, require
from slipway.domain.errors import SlipwayError
from slipway.web.compression import TOO_SMALL, best_coding, compress
from slipway.web.frame import Crumb, read_frame
from slipway.web.rendering import render_block, render_page
from slipway.web.work import start
from slipway.workspace import Workspace

LOG = logging.getLogger("slipway.web")
SAID = "slip_said"
LONGEST_SAID = 300
LARGEST_FIELD = 32 * 1024 * 1024
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that came with a form."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Visit:
    """What a page is given: the open application, the request, and the form that was posted."""

    workspace: Workspace
    request: Request
    form: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, list[str]] = field(default_factory=dict)
    """Every value of form fields that may come more than once."""
    files: Mapping[str, Uploaded] = field(default_factory=dict)

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def ask(self, name: str, default: str = "") -> str:
        """A value of the query string."""
        return self.request.query_params.get(name, default)

    def asked(self, name: str) -> list[str]:
        return self.request.query_params.getlist(name)

    def said(self, name: str, default: str = "") -> str:
        """A value of the form."""
        return self.form.get(name, default).strip()

    @property
    def person(self) -> str:
        """Who is signed in, for records that name a person; "local" on loopback, where nobody needs to sign in."""
        return str(self.request.scope.get("slipway.person") or LOCAL)

    def start(self, kind: str, title: str, **payload: Any) -> str:
        """Puts long work into the queue and sees to it that somebody does it; returns the id of the job."""
        job = start(self.workspace, kind, title, **payload)
        self.request.app.state.worker.start()
        return job

    def require(self, action: Action) -> None:
        """Raises `RoleMissing`. On loopback the person at the machine may do everything."""
        if "slipway.person" in self.request.scope:
            require(self.request.scope["slipway.role"], action)


@dataclass(frozen=True, slots=True)
class View:
    """A template with its data. `crumbs` say where the page stands below its application."""

    template: str
    title: str
    data: Mapping[str, Any] = field(default_factory=dict)
    crumbs: tuple[Crumb, ...] = ()
    status: int = 200


@dataclass(frozen=True, slots=True)
class Done:
    """An act that worked: where to go on, and what to say there."""

    path: str
    said: str = ""


Answer = View | Done | Response
Show = Callable[[Visit], Answer]


def page(path: str, show: Show, *, needs: Action = "see_results") -> Route:
    """A page that is read by who may do `needs`."""

    async def endpoint(request: Request) -> Response:
        visit = Visit(request.app.state.current.workspace, request)
        return await run_in_threadpool(_answer, visit, show, needs)

    return Route(path, endpoint, methods=["GET"])


def act(path: str, do: Show, *, back: Show, needs: Action) -> Route:
    """A form that is posted by who may do `needs`, and noted in the audit log.

    When the verb refuses, the page it came from is shown with the reason.
    """

    async def endpoint(request: Request) -> Response:
        visit = await read_form(request)
        return await run_in_threadpool(_answer, visit, do, needs, back)

    return Route(path, endpoint, methods=["POST"])


def ask(path: str, show: Show, *, needs: Action = "see_results") -> Route:
    """A question that is too long for an address: answered like a page, changes nothing, is noted nowhere."""

    async def endpoint(request: Request) -> Response:
        return await run_in_threadpool(_answer, await read_form(request), show, needs)

    return Route(path, endpoint, methods=["POST"])


async def read_form(request: Request) -> Visit:
    """The visit with what was posted, files read whole."""
    texts: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    files: dict[str, Uploaded] = {}
    async with request.form(max_files=20, max_fields=2000, max_part_size=LARGEST_FIELD) as posted:
        for name, value in posted.multi_items():
            if isinstance(value, str):
                texts[name] = value
                lists.setdefault(name, []).append(value)
            else:
                files[name] = Uploaded(value.filename or "", await value.read())
    return Visit(request.app.state.current.workspace, request, texts, lists, files)


def _answer(visit: Visit, show: Show, needs: Action, back: Show | None = None) -> Response:
    visit.require(needs)
    error = ""
    status = 200
    try:
        answer = show(visit)
    except SlipwayError as wrong:
        if back is None:
            raise
        error, status = str(wrong), wrong.http_status
        answer = back(visit)
    else:
        if back is not None:
            record_event(visit.workspace.store, visit.person, needs, visit.request.url.path)
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, Done):
        return _go_on(visit, answer)
    return show_view(visit.workspace, visit.request, answer, error=error, status=status)


def show_view(workspace: Workspace, request: Request, view: View, *, error: str = "", status: int = 200) -> Response:
    """The view as a whole page, or as the block that htmx asked for."""
    said = _read_said(request)
    data: dict[str, Any] = {
        "frame": read_frame(workspace, request, title=view.title, crumbs=view.crumbs),
        "error": error,
        "said": said,
        "problem": request.app.state.current.problem,
        **view.data,
    }
    html = None
    wanted = request.headers
    if wanted.get("hx-request") and not wanted.get("hx-history-restore-request") and not wanted.get("hx-boosted"):
        html = render_block(view.template, wanted.get("hx-target", "content"), data)
    whole = html is None
    if html is None:
        html = render_page(view.template, data)
    response = html_response(request, html, status=max(status, view.status))
    if whole and said:
        response.delete_cookie(SAID, path="/", httponly=True, samesite="strict")
    return response


def html_response(request: Request, html: str, *, status: int = 200) -> Response:
    """HTML, compressed where it pays; never kept by a cache, because pages show what people said."""
    body = html.encode()
    headers = {"Cache-Control": "no-store", "Vary": "HX-Request, Accept-Encoding"}
    coding = best_coding(request.headers.get("accept-encoding", ""))
    if len(body) >= TOO_SMALL and coding != "identity":
        body = compress(body, coding)
        headers["Content-Encoding"] = coding
    if request.headers.get("hx-request"):
        headers["X-Slipway-Fragment"] = "1"
    return HTMLResponse(body, status_code=status, headers=headers)


def _go_on(visit: Visit, done: Done) -> Response:
    if visit.request.headers.get("hx-request"):
        response = Response(status_code=204, headers={"HX-Redirect": done.path})
    else:
        response = RedirectResponse(done.path, status_code=303)
    if done.said:
        text = base64.urlsafe_b64encode(done.said[:LONGEST_SAID].encode()).decode()
        response.set_cookie(SAID, text, path="/", max_age=30, httponly=True, samesite="strict")
    return response


def _read_said(request: Request) -> str:
    """What the last act said. The cookie cannot be set by another site (SameSite) and is shown as text."""
    try:
        return base64.urlsafe_b64decode(request.cookies.get(SAID, "")).decode()
    except (ValueError, UnicodeDecodeError):
        return ""
