"""Programs in browsers: which pages may call, what they are told, and what everybody else sees of it."""

from contextlib import contextmanager

import httpx
import pytest

from slipway.access.keys import create_key
from slipway.config.reader import load_settings, parse_settings
from slipway.domain.access import Limits
from slipway.domain.errors import ConfigError
from slipway.release.channels import promote
from slipway.workspace import open_workspace

APP, OTHER = "https://app.example", "https://other.example"
ASKED = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,x-stainless-lang"}


@contextmanager
def open_to(folder, origins, tools, **options):
    """A gateway with a plain release and a key, open to some pages."""
    text = (folder / "slipway.toml").read_text()
    (folder / "slipway.toml").write_text(text.replace("port = 0\n", f"port = 0\nallow_origins = {origins}\n"))
    with open_workspace(folder) as workspace:
        promote(workspace, tools.plain_release(workspace), "plain", force=True)
        _, key = create_key(workspace.store, "shop", limits=Limits(requests_per_minute=10))
        with tools.serving(workspace, **options) as served:
            yield served, {"authorization": f"Bearer {key}"}


@pytest.fixture
def for_app(folder, tools):
    with open_to(folder, f'["{APP}"]', tools, keys_required=True) as opened:
        yield opened


def preflight(served, origin, path="/v1/chat/completions", **more):
    return httpx.options(f"{served.url}{path}", headers={"origin": origin} | ASKED | more)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/nothing", "/v1/traces"])
def test_a_browser_that_asks_needs_no_key(for_app, path):
    served, _ = for_app
    answer = preflight(served, APP, path)
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-allow-headers"] == ASKED["access-control-request-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers.get_list("vary") == ["Origin", "Access-Control-Request-Headers"]


def test_another_page_is_told_what_to_set(for_app):
    for origin in (OTHER, "null", f"{APP}.evil.example"):
        answer = preflight(for_app[0], origin)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "origin_not_allowed"
        assert "access-control-allow-origin" not in answer.headers


def test_errors_can_be_read_by_the_page(for_app):
    served, key = for_app
    page = {"origin": APP}
    large = b'{"model": "plain", "messages": [{"role": "user", "content": "%b"}]}' % (b"x" * 1_100_000)
    tries = {
        401: served.chat("plain", headers=page),
        404: served.post("/v1/nothing", {}, headers=page | key),
        405: httpx.get(f"{served.url}/v1/messages", headers=page),
        413: served.post("/v1/chat/completions", large, headers=page | key),
        400: served.post("/v1/messages", b"{", headers=page | key),
        502: served.chat("dead/model", headers=page | key),
        429: [served.chat("plain", headers=page | key) for _ in range(10)][-1],
    }
    for status, answer in tries.items():
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-expose-headers"] == "*"
        assert answer.headers["vary"] == "Origin"


def test_answers_whole_and_streamed_can_be_read_by_the_page(for_app):
    served, key = for_app
    for stream in (False, True):
        answer = served.chat("plain", stream=stream, headers=key | {"origin": APP})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == APP
        elsewhere = served.chat("plain", stream=stream, headers=key | {"origin": OTHER})
        assert elsewhere.status_code == 200  # who holds a key is served; a browser shows its page nothing of it
        assert "access-control-allow-origin" not in elsewhere.headers
    assert "vary" not in served.chat("plain", headers=key).headers


def test_without_keys_only_pages_that_are_named_get_in(folder, tools):
    with open_to(folder, f'["{APP}"]', tools) as (served, _):
        assert served.chat("plain", headers={"origin": APP}).status_code == 200
        assert served.chat("plain", headers={"origin": OTHER}).status_code == 403
        rebound = served.chat("plain", headers={"origin": APP, "host": "evil.example"})
        assert rebound.status_code == 403
        assert rebound.headers["access-control-allow-origin"] == APP


def test_a_star_lets_every_page_in(folder, tools):
    with open_to(folder, '"*"', tools) as (served, _):
        for origin in (OTHER, "null"):
            answer = served.chat("plain", headers={"origin": origin})
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "vary" not in answer.headers


def test_probes_are_for_no_page(for_app):
    for path in ("/healthz", "/readyz", "/metrics"):
        answer = httpx.get(f"{for_app[0].url}{path}", headers={"origin": APP})
        assert "access-control-allow-origin" not in answer.headers


def test_unless_set_nobody_is_told_anything(served):
    answer = preflight(served, APP)
    assert answer.status_code == 403
    assert "allow_origins" in answer.json()["error"]["message"]
    assert served.chat("plain", headers={"origin": served.url}).status_code == 200  # its own pages
    assert httpx.options(f"{served.url}/v1/chat/completions").status_code == 405


REFUSED = [
    pytest.param('"https://app.example"', "stands by itself", id="no list"),
    pytest.param('["https://app.example/"]', "write 'https://app.example'", id="a path"),
    pytest.param('["https://App.Example:443"]', "write 'https://app.example'", id="capitals and the usual port"),
    pytest.param('["https://*.example"]', "is no origin", id="a pattern"),
    pytest.param('["app.example"]', "is no origin", id="no scheme"),
    pytest.param('["null"]', "any page that hides its origin", id="null"),
]


@pytest.mark.parametrize(("written", "why"), REFUSED)
def test_what_no_browser_would_send_is_refused(folder, written, why):
    text = (folder / "slipway.toml").read_text()
    (folder / "slipway.toml").write_text(text.replace("port = 0\n", f"port = 0\nallow_origins = {written}\n"))
    with pytest.raises(ConfigError, match=r"\[server\]") as wrong:
        load_settings(folder)
    assert why in str(wrong.value)


ORIGINS = ["http://localhost:5173", "http://[::1]:8000", "chrome-extension://abc", "tauri://localhost"]


@pytest.mark.parametrize("origin", ORIGINS)
def test_what_browsers_send_is_taken(origin):
    settings = parse_settings({"application": {"name": "lamps"}, "server": {"allow_origins": [origin]}})
    assert settings.server.allow_origins == [origin]
