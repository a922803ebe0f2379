"""What every request passes: its Host, its Origin, who sends it; and the headers of every answer."""

import ipaddress
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway.web.session import COOKIE, Sessions
from slipway.web.sign_in import Person, person_of, person_with_key
from slipway.workspace import Workspace

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "style-src-attr 'unsafe-inline'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
READS = ("GET", "HEAD", "OPTIONS")
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "x-forwarded-host")
OPEN_PATHS = ("/static/", "/sign-in")


class Guard:
    """Middleware around the pages.

    On loopback nobody signs in, so the Host must be a loopback name: a site whose name was rebound to 127.0.0.1
    arrives with its own. A write must come from our own pages: its Origin, or what the browser says in Sec-Fetch-Site.
    """

    def __init__(
        self, app: ASGIApp, *, workspace: Workspace, sessions: Sessions, bound_to: str, sign_in: bool | None
    ) -> None:
        self.app, self.workspace, self.sessions = app, workspace, sessions
        self.loopback = is_loopback(bound_to)
        self.sign_in = sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        headers = Headers(scope=scope)
        refused = self._refuse(scope, headers)
        if refused is None and self._must_sign_in(scope, headers):
            person = await self._person(headers)
            if person is not None:
                scope["slipway.person"], scope["slipway.role"] = person
            elif not scope["path"].startswith(OPEN_PATHS):
                refused = _ask_to_sign_in(scope, headers)
        await (refused or self.app)(scope, receive, send)

    async def _person(self, headers: Headers) -> Person | None:
        kind, _, key = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and key:
            return await run_in_threadpool(person_with_key, self.workspace, key.strip())
        holder = self.sessions.open(_cookie(headers.get("cookie", "")))
        return None if holder is None else await run_in_threadpool(person_of, self.workspace, holder.name, holder.key)

    def _refuse(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if self._is_local(scope, headers) and not is_loopback(host_name(host)):
            name = host_name(host)
            text = f"This server answers on this machine only, not as '{name}'. Open http://127.0.0.1 instead.\n"
            return PlainTextResponse(text, status_code=421)
        if scope["method"] not in READS and not comes_from_here(headers, host):
            return PlainTextResponse("This form was sent from another site, so nothing was changed.\n", status_code=403)
        return None

    def _is_local(self, scope: Scope, headers: Headers) -> bool:
        """Whether the request can only come from this machine."""
        address = (scope.get("server") or ("", 0))[0]
        direct = not any(name in headers for name in FORWARDED)
        return self.loopback and direct and (not address or is_loopback(str(address)) or address == "testserver")

    def _must_sign_in(self, scope: Scope, headers: Headers) -> bool:
        return self.sign_in if self.sign_in is not None else not self._is_local(scope, headers)


def is_loopback(name: str) -> bool:
    """Whether a host name or address means this machine and nothing else."""
    name = name.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str:
    """`127.0.0.1:8080` or `[::1]:8080` without the port."""
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host


def comes_from_here(headers: Headers, host: str) -> bool:
    """Whether a write was sent by one of our own pages or by a program that is no browser."""
    origin = headers.get("origin")
    if origin is not None:
        return urlsplit(origin).netloc == host
    return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")


def _ask_to_sign_in(scope: Scope, headers: Headers) -> Response:
    if scope["method"] in READS and "text/html" in headers.get("accept", "") and "hx-request" not in headers:
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        return RedirectResponse(f"/sign-in?next={quote(scope['path'] + query, safe='')}", status_code=303)
    return PlainTextResponse("Sign in first: /sign-in\n", status_code=401, headers={"HX-Redirect": "/sign-in"})


def _cookie(header: str) -> str:
    try:
        morsel = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
