"""Whom the pages answer: Host, Origin, sign-in, roles; and what every answer carries."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from slipway.access.keys import create_key, revoke_key
from slipway.web.app import create_app
from slipway.web.security import POLICY, host_name, is_loopback
from slipway.web.session import COOKIE, Sessions

if TYPE_CHECKING:
    from pathlib import Path

    from slipway.workspace import Workspace

PUBLIC = "http://slipway.example"


def at(workspace: Workspace, base: str, **options: object) -> TestClient:
    app = create_app(workspace, work_in_background=False, **options)  # type: ignore[arg-type]
    return TestClient(app, base_url=base, follow_redirects=False)


HOSTS = [
    pytest.param("http://127.0.0.1:8080", 200, id="the loopback address"),
    pytest.param("http://localhost", 200, id="its name"),
    pytest.param("http://[::1]:8080", 200, id="its address in IPv6"),
    pytest.param("http://app.localhost", 200, id="a name below localhost"),
    pytest.param("http://evil.example", 421, id="a site whose name was rebound to this machine"),
    pytest.param("http://127.0.0.1.evil.example", 421, id="a name that only looks like the address"),
    pytest.param("http://192.168.1.7", 421, id="another address"),
]


@pytest.mark.parametrize(("base", "status"), HOSTS)
def test_on_loopback_only_loopback_names_are_answered(workspace: Workspace, base: str, status: int) -> None:
    client = at(workspace, base, host="127.0.0.1")
    # The test client reports the Host's name as the bound address; a real server reports the address itself.
    client._transport.app = _bound_to_loopback(client._transport.app)  # type: ignore[attr-defined]
    assert client.get("/audit").status_code == status


def _bound_to_loopback(app: object) -> object:
    async def called(scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] == "http":
            scope["server"] = ("127.0.0.1", 8080)
        await app(scope, receive, send)  # type: ignore[operator]

    return called


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("0.0.0.0", False), ("10.0.0.1", False), ("localhost.evil.example", False), ("", False),
    ],
)  # fmt: skip
def test_what_loopback_is(name: str, wanted: bool) -> None:
    assert is_loopback(name) is wanted


@pytest.mark.parametrize(
    ("host", "name"),
    [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("127.0.0.1:1", "127.0.0.1")],
)
def test_a_host_without_its_port(host: str, name: str) -> None:
    assert host_name(host) == name


WRITES = [
    pytest.param({}, 303, id="a program that is no browser"),
    pytest.param({"Origin": "http://127.0.0.1"}, 303, id="one of our own pages"),
    pytest.param({"Sec-Fetch-Site": "same-origin"}, 303, id="a browser that sends no Origin"),
    pytest.param({"Origin": "http://evil.example"}, 403, id="another site"),
    pytest.param({"Origin": "http://127.0.0.1:9999"}, 403, id="another port of this machine"),
    pytest.param({"Origin": "null"}, 403, id="a sandboxed frame"),
    pytest.param({"Sec-Fetch-Site": "cross-site"}, 403, id="another site without Origin"),
    pytest.param({"Sec-Fetch-Site": "same-site"}, 403, id="a sister site"),
]


@pytest.mark.parametrize(("headers", "status"), WRITES)
def test_a_write_must_come_from_our_own_pages(
    empty_pages: TestClient, workspace: Workspace, headers: dict[str, str], status: int
) -> None:
    answer = empty_pages.post("/theme", data={"theme": "dark"}, headers=headers)
    assert answer.status_code == status


def test_every_answer_carries_the_policy(empty_pages: TestClient) -> None:
    for path in ("/", "/static/app.css", "/no/such/page", "/sign-in", "/events?topics="):
        with empty_pages.stream("GET", path) as answer:
            assert answer.headers["content-security-policy"] == POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
    assert "unsafe-inline" not in POLICY.replace("style-src-attr 'unsafe-inline'", "")
    assert "unsafe-eval" not in POLICY


def test_pages_are_kept_by_no_cache(empty_pages: TestClient) -> None:
    assert empty_pages.get("/traces").headers["cache-control"] == "no-store"


def test_off_loopback_everybody_signs_in(workspace: Workspace) -> None:
    client = at(workspace, PUBLIC, host="0.0.0.0")
    asked = client.get("/traces?q=x", headers={"Accept": "text/html"})
    assert asked.status_code == 303
    assert asked.headers["location"] == "/sign-in?next=%2Ftraces%3Fq%3Dx"
    assert client.get("/traces", headers={"HX-Request": "true"}).status_code == 401
    assert client.post("/release", headers={"Origin": PUBLIC}).status_code == 401
    assert client.get("/static/app.css").status_code == 200


def test_a_key_with_a_role_signs_in_and_out(workspace: Workspace) -> None:
    client = at(workspace, PUBLIC, host="0.0.0.0")
    _, text = create_key(workspace.store, "ana", role="member")
    answer = client.post("/sign-in", data={"key": text, "next": "/audit"}, headers={"Origin": PUBLIC})
    assert (answer.status_code, answer.headers["location"]) == (303, "/audit")
    cookie = answer.headers["set-cookie"]
    for part in (COOKIE, "HttpOnly", "SameSite=strict"):
        assert part in cookie
    assert client.get("/").status_code == 200
    out = client.post("/sign-out", headers={"Origin": PUBLIC})
    assert "Max-Age=0" in out.headers["set-cookie"]
    client.cookies.clear()
    assert client.get("/").status_code == 401


def test_the_cookie_is_secure_over_tls(workspace: Workspace) -> None:
    client = at(workspace, "https://slipway.example", host="0.0.0.0")
    _, text = create_key(workspace.store, "ana", role="viewer")
    answer = client.post("/sign-in", data={"key": text}, headers={"Origin": "https://slipway.example"})
    assert "Secure" in answer.headers["set-cookie"]


WRONG_KEYS = [
    pytest.param("sk-slip-guessed", "unknown", id="a guessed key"),
    pytest.param("", "unknown", id="no key"),
    pytest.param("models-only", "--role member", id="a key that calls models only"),
]


@pytest.mark.parametrize(("key", "said"), WRONG_KEYS)
def test_a_key_that_opens_no_page_is_refused(workspace: Workspace, key: str, said: str) -> None:
    client = at(workspace, PUBLIC, host="0.0.0.0")
    if key == "models-only":
        _, key = create_key(workspace.store, "bot")
    answer = client.post("/sign-in", data={"key": key}, headers={"Origin": PUBLIC})
    assert answer.status_code == 401
    assert said in answer.text
    assert "set-cookie" not in answer.headers


NEXT = [
    pytest.param("/traces?q=x", "/traces?q=x", id="a page of ours"),
    pytest.param("//evil.example/", "/", id="another host"),
    pytest.param("/\\evil.example", "/", id="another host, written with a backslash"),
    pytest.param("https://evil.example/", "/", id="another host with its scheme"),
    pytest.param("javascript:alert(1)", "/", id="a script"),
]


@pytest.mark.parametrize(("wanted", "location"), NEXT)
def test_signing_in_leads_to_our_own_pages_only(workspace: Workspace, wanted: str, location: str) -> None:
    client = at(workspace, PUBLIC, host="0.0.0.0")
    _, text = create_key(workspace.store, "ana", role="viewer")
    answer = client.post("/sign-in", data={"key": text, "next": wanted}, headers={"Origin": PUBLIC})
    assert answer.headers["location"] == location


def test_a_revoked_key_ends_its_sessions(workspace: Workspace) -> None:
    client = at(workspace, PUBLIC, host="0.0.0.0")
    _, text = create_key(workspace.store, "ana", role="member")
    client.post("/sign-in", data={"key": text}, headers={"Origin": PUBLIC})
    assert client.get("/").status_code == 200
    revoke_key(workspace.store, "ana")
    assert client.get("/").status_code == 401


ROLES = [
    pytest.param("viewer", "/", 200, id="a viewer sees results"),
    pytest.param("viewer", "/traces", 403, id="a viewer does not read what people wrote"),
    pytest.param("member", "/traces", 200, id="a member does"),
    pytest.param("member", "/audit", 403, id="a member does not see the audit log"),
    pytest.param("admin", "/audit", 200, id="an admin does"),
]


@pytest.mark.parametrize(("role", "path", "status"), ROLES)
def test_a_role_opens_its_pages(workspace: Workspace, role: str, path: str, status: int) -> None:
    client = at(workspace, PUBLIC, host="0.0.0.0")
    _, text = create_key(workspace.store, "ana", role=role)
    client.post("/sign-in", data={"key": text}, headers={"Origin": PUBLIC})
    assert client.get(path).status_code == status


def test_a_role_allows_its_acts(workspace: Workspace) -> None:
    client = at(workspace, PUBLIC, host="0.0.0.0")
    _, text = create_key(workspace.store, "ana", role="member")
    client.post("/sign-in", data={"key": text}, headers={"Origin": PUBLIC})
    answer = client.post("/settings/keys", data={"name": "more", "scope": "chat"}, headers={"Origin": PUBLIC})
    assert answer.status_code == 403
    assert all(key.name != "more" for key in workspace.store.records.list(type(create_key(workspace.store, "x")[0])))


def test_the_link_of_the_terminal_works_once(workspace: Workspace) -> None:
    client = at(workspace, PUBLIC, host="0.0.0.0")
    link = Sessions(workspace.state).make_link(PUBLIC)
    path = re.sub(r"^https?://[^/]+", "", link)
    first = client.get(path)
    assert first.status_code == 303
    assert COOKIE in first.headers["set-cookie"]
    assert client.get("/audit").status_code == 200
    client.cookies.clear()
    again = client.get(path)
    assert again.status_code == 403
    assert "used already" in again.text


def test_an_old_link_is_worth_nothing(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    token = urlsplit(sessions.make_link("http://x")).query.removeprefix("token=")
    assert not sessions.use_link(token, now=time.time() + 11 * 60)


def test_a_session_cannot_be_forged_or_kept_for_ever(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    cookie = sessions.seal("ana", key="k1")
    holder = sessions.open(cookie)
    assert holder is not None
    assert (holder.name, holder.key) == ("ana", "k1")
    payload, _, signature = cookie.partition(".")
    for forged in (f"{payload}x.{signature}", f"{payload}.{signature[:-1]}", payload, "", ".", f"{payload}.é"):
        assert sessions.open(forged) is None
    assert sessions.open(cookie, now=time.time() + 13 * 3600) is None
    (tmp_path / "session.key").unlink()
    assert Sessions(tmp_path).open(cookie) is None


def test_secrets_of_sessions_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    sessions = Sessions(tmp_path)
    sessions.seal("ana")
    sessions.make_link("http://x")
    assert os.stat(tmp_path / "session.key").st_mode & 0o077 == 0
    assert all(os.stat(path).st_mode & 0o077 == 0 for path in (tmp_path / "sign-in").iterdir())


def test_a_proxy_on_the_same_machine_does_not_open_the_door(workspace: Workspace) -> None:
    client = at(workspace, "http://127.0.0.1", host="127.0.0.1")
    assert client.get("/", headers={"X-Forwarded-For": "203.0.113.9"}).status_code == 401
    assert client.get("/").status_code == 200


def test_sign_in_can_be_asked_for_on_loopback_too(workspace: Workspace) -> None:
    assert at(workspace, "http://127.0.0.1", host="127.0.0.1", sign_in_needed=True).get("/").status_code == 401
