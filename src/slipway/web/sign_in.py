"""Signing in and out: by API key, or by the link that works once."""

from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from slipway.access.keys import check_key, find_key
from slipway.domain.access import ApiKey, Role
from slipway.domain.errors import AccessDenied
from slipway.web.page import html_response
from slipway.web.rendering import render_page
from slipway.web.session import COOKIE, HOURS, Sessions
from slipway.workspace import Workspace

OPERATOR = "operator"
"""Who used the link of the terminal: it was printed to whoever started the server, so it is an admin's."""


class Person(NamedTuple):
    """Who sends a request, and what role that gives."""

    name: str
    role: Role | None


def person_of(workspace: Workspace, name: str, key: str) -> Person | None:
    """The person behind a session; None when the key that opened it was revoked or has ended."""
    if not key:
        return Person(name, "admin")
    found = find_key(workspace.store, key)
    return Person(name, found.role) if found is not None and found.valid_at(workspace.now()) else None


def person_with_key(workspace: Workspace, text: str) -> Person | None:
    """The person behind an API key that a program sends; None for a key that is wrong or opens no page."""
    try:
        key = _check_key(workspace, text)
    except AccessDenied:
        return None
    return Person(key.name, key.role)


async def ask(request: Request) -> Response:
    """The form; with a good token of a link it is skipped."""
    sessions: Sessions = request.app.state.sessions
    token = request.query_params.get("token", "")
    good = await run_in_threadpool(sessions.use_link, token) if token else False
    if good:
        return _signed_in(request, sessions.seal(OPERATOR), request.query_params.get("next", "/"))
    said = "That link was used already or is older than ten minutes. Make a new one: slipway serve" if token else ""
    return _form(request, error=said, status=403 if token else 200)


async def answer(request: Request) -> Response:
    form = await request.form()
    sessions: Sessions = request.app.state.sessions
    try:
        key = await run_in_threadpool(_check_key, request.app.state.current.workspace, str(form.get("key", "")))
    except AccessDenied as denied:
        return _form(request, error=str(denied), status=denied.http_status)
    return _signed_in(request, sessions.seal(key.name, key=key.id), str(form.get("next", "/")))


async def leave(request: Request) -> Response:
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response


def _check_key(workspace: Workspace, text: str) -> ApiKey:
    """Raises `AccessDenied`, also for a key that opens no page."""
    key = check_key(workspace.store, text.strip(), now=workspace.now())
    if key.role is None:
        raise AccessDenied(
            f"The key '{key.name}' calls models, but opens no page. Make one that does: "
            "slipway keys create NAME --role member"
        )
    return key


def _signed_in(request: Request, cookie: str, target: str) -> Response:
    # Only a path of this server: `//host` and `https://host` would lead away.
    safe = target.startswith("/") and not target.startswith(("//", "/\\")) and not urlsplit(target).netloc
    response = RedirectResponse(target if safe else "/", status_code=303)
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=HOURS * 3600,
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


def _form(request: Request, *, error: str, status: int) -> Response:
    workspace: Workspace = request.app.state.current.workspace
    data = {
        "title": "Sign in",
        "theme": request.cookies.get("slip_theme", "system"),
        "application": workspace.application,
        "error": error,
        "next": request.query_params.get("next", "/"),
    }
    return html_response(request, render_page("sign_in.html", data), status=status)


ROUTES = [
    Route("/sign-in", ask, methods=["GET"]),
    Route("/sign-in", answer, methods=["POST"]),
    Route("/sign-out", leave, methods=["POST"]),
]
