"""The pages as one Starlette application over one open workspace."""

import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from slipway.domain.errors import SlipwayError, StoreError
from slipway.web import api, events, sign_in
from slipway.web.current import Current
from slipway.web.frame import THEMES
from slipway.web.page import View, html_response, show_view
from slipway.web.pages import ROUTES
from slipway.web.rendering import component
from slipway.web.security import HEADERS, Guard
from slipway.web.session import Sessions
from slipway.web.static_files import serve_static
from slipway.web.work import Worker
from slipway.workspace import Workspace

LOG = logging.getLogger("slipway.web")


def create_app(
    workspace: Workspace,
    *,
    host: str | None = None,
    sign_in_needed: bool | None = None,
    work_in_background: bool = True,
) -> Starlette:
    """All pages of an application. `host` is the address the server is bound to, by default that of slipway.toml.

    Bound to loopback nobody signs in; elsewhere everybody does. `sign_in_needed`, or [server] require_keys, decides
    otherwise, for example behind a proxy on the same machine. Without `work_in_background` jobs wait for
    `app.state.worker.run_pending()`.
    """
    settings = workspace.settings.server
    current = Current(workspace)
    worker = Worker(current, in_background=work_in_background)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker.start()
        yield
        await run_in_threadpool(worker.stop)

    sessions = Sessions(workspace.state)
    app = Starlette(
        routes=[*_own_routes(), *ROUTES],
        middleware=[
            Middleware(
                Guard,
                workspace=workspace,
                sessions=sessions,
                bound_to=host if host is not None else settings.host,
                sign_in=sign_in_needed if sign_in_needed is not None else settings.require_keys,
            )
        ],
        lifespan=lifespan,
        exception_handlers={SlipwayError: _refused, HTTPException: _http_error, Exception: _broken},
    )
    app.state.current = current
    app.state.worker = worker
    app.state.sessions = sessions
    return app


def page_paths() -> list[str]:
    """Every page that opens without an argument, in the order of the menu."""
    return [
        route.path
        for route in ROUTES
        if isinstance(route, Route) and "{" not in route.path and "GET" in (route.methods or ())
    ]


def _own_routes() -> list[BaseRoute]:
    return [
        Route("/static/{name:path}", serve_static, methods=["GET"]),
        Route("/favicon.ico", lambda _: RedirectResponse("/static/icons.svg"), methods=["GET"]),
        Route("/events", events.stream, methods=["GET"]),
        Route("/theme", _set_theme, methods=["POST"]),
        *api.ROUTES,
        *sign_in.ROUTES,
    ]


async def _set_theme(request: Request) -> Response:
    """The theme without script; with script slip.js sets the same cookie."""
    theme = str((await request.form()).get("theme", "system"))
    response = RedirectResponse(request.headers.get("referer", "/"), status_code=303)
    if theme in THEMES:
        response.set_cookie("slip_theme", theme, max_age=365 * 86400, path="/", samesite="strict")
    return response


async def _refused(request: Request, wrong: Exception) -> Response:
    """An error of ours: its message says what happened and what to do next."""
    if isinstance(wrong, SlipwayError) and request.url.path.startswith(api.PREFIX):
        return api.error_response(wrong)
    status = wrong.http_status if isinstance(wrong, SlipwayError) else 500
    happened = {404: "There is no such thing", 410: "Erased", 400: "That is not right"}.get(status, "That did not work")
    return await _error_page(request, str(wrong), happened, status)


async def _http_error(request: Request, wrong: Exception) -> Response:
    assert isinstance(wrong, HTTPException)
    if wrong.status_code == 404:
        return await _error_page(request, f"Nothing lies at {request.url.path}.", "There is no such page", 404)
    return await _error_page(request, str(wrong.detail), "That did not work", wrong.status_code)


async def _broken(request: Request, wrong: Exception) -> Response:
    """A mistake of ours: the log has the trace, the page has the number to find it by."""
    number = secrets.token_hex(4)
    LOG.error("request %s %s failed (%s)", request.method, request.url.path, number, exc_info=wrong)
    text = f"Slipway made a mistake. The server's log has the details under {number}."
    response = await _error_page(request, text, "This page is broken", 500)
    response.headers.update(HEADERS)
    return response


async def _error_page(request: Request, message: str, happened: str, status: int) -> Response:
    if request.headers.get("hx-request"):
        return html_response(request, component("error", message, happened), status=status)
    workspace = request.app.state.current.workspace
    view = View("failed.html", happened, {"message": message, "happened": happened}, status=status)
    try:
        return await run_in_threadpool(show_view, workspace, request, view)
    except StoreError:
        # What stands around a page is read from the store; the message says what there is to say.
        pass
    except Exception:
        LOG.exception("the error page itself failed")
    return PlainTextResponse(f"{happened}. {message}\n", status_code=status)
