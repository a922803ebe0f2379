"""Programs in a page of another origin call the real gateway, as their browser lets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from slipway.access.keys import create_key
from slipway.release.channels import promote
from slipway.workspace import open_workspace
from tests.gateway.conftest import documents_release, make_application, serving

from .conftest import in_browser_thread

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

CALL = """async ([url, key, body]) => {
    const headers = {"authorization": `Bearer ${key}`, "content-type": "application/json", "x-stainless-lang": "js"};
    const answer = await fetch(url, {method: "POST", headers, body: JSON.stringify(body)});
    const seen = Object.fromEntries(answer.headers);
    if (!body.stream) return {status: answer.status, headers: seen, body: await answer.json()};
    const pieces = [];
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) pieces.push(piece);
    return {status: answer.status, headers: seen, pieces};
}"""


class _Page(BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>An app</title>")

    def log_message(self, *said: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def app_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join(20)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, app_port: int) -> Iterator[tuple[str, str]]:
    """Address and key of a gateway that the page on 127.0.0.1 may call, and the one on localhost may not."""
    folder: Path = make_application(tmp_path_factory.mktemp("called") / "lamps", "http://127.0.0.1:1/v1")
    settings = folder / "slipway.toml"
    opened = f'port = 0\nallow_origins = ["http://127.0.0.1:{app_port}"]\n'
    settings.write_text(settings.read_text().replace("port = 0\n", opened))
    with open_workspace(folder) as workspace:
        promote(workspace, documents_release(workspace), force=True)
        _, key = create_key(workspace.store, "page")
        with serving(workspace, keys_required=True) as served:
            yield served.url, key


@pytest.fixture
def page_on(chromium: Browser, app_port: int) -> Iterator[Any]:
    pages: list[Page] = []

    def open_page(host: str) -> Page:
        page = chromium.new_page()
        page.goto(f"http://{host}:{app_port}/")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        in_browser_thread(page.close)


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "lamps", "messages": [{"role": "user", "content": "What does express shipping cost?"}], **more}


def test_a_page_that_may_call_reads_the_answer_and_its_headers(page_on: Any, gateway: tuple[str, str]) -> None:
    url, key = gateway
    seen = page_on("127.0.0.1").evaluate(CALL, [f"{url}/v1/chat/completions", key, chat()])
    assert seen["status"] == 200
    assert seen["body"]["choices"][0]["message"]["content"] == "Express shipping costs 12 euros [1]."
    assert {"x-request-id", "x-slipway-release", "x-slipway-trace"} <= seen["headers"].keys()


def test_it_reads_a_stream_to_its_end(page_on: Any, gateway: tuple[str, str]) -> None:
    url, key = gateway
    seen = page_on("127.0.0.1").evaluate(CALL, [f"{url}/v1/chat/completions", key, chat(stream=True)])
    assert seen["status"] == 200
    assert "".join(seen["pieces"]).endswith("data: [DONE]\n\n")


def test_it_reads_what_went_wrong(page_on: Any, gateway: tuple[str, str]) -> None:
    url, key = gateway
    page = page_on("127.0.0.1")
    wrong = {
        401: [f"{url}/v1/chat/completions", "sk-wrong", chat()],
        404: [f"{url}/v1/chat/completions", key, chat() | {"model": "lamp"}],
        413: [f"{url}/v1/messages", key, chat(padding="x" * 1_100_000)],
    }
    for status, asked in wrong.items():
        seen = page.evaluate(CALL, asked)
        assert seen["status"] == status
        assert seen["body"]["error"]["message"]


def test_a_page_of_another_origin_is_kept_from_all_of_it(page_on: Any, gateway: tuple[str, str]) -> None:
    url, key = gateway
    error = pytest.importorskip("playwright.sync_api").Error
    for body in (chat(), chat(stream=True)):
        with pytest.raises(error, match="Failed to fetch"):
            page_on("localhost").evaluate(CALL, [f"{url}/v1/chat/completions", key, body])
