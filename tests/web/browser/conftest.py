"""One Chromium, one server, one seeded application for all browser tests; skipped where there is no Chromium."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from slipway.web.app import create_app

from ..seed import seed, write_application

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

    from slipway.workspace import Workspace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = Path(__file__).parent.parent / "vendor" / "axe.min.js"


# Playwright keeps an event loop running in the thread that it lives in, where asyncio.run would then be refused to
# every other test of the session: so it lives in a thread of its own, and the tests of this folder run there.
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="browser")


def in_browser_thread(work: Callable[[], Any]) -> Any:
    return _THREAD.submit(work).result()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    wanted = pyfuncitem._fixtureinfo.argnames
    in_browser_thread(lambda: pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is skipped, and counted, where no Chromium is found."""
    if CHROMIUM is None:
        here = Path(__file__).parent
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="no Chromium on this machine: apt install chromium"))


@pytest.fixture(scope="session")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """The seeded application of the browser tests; they may rate and click in it."""
    with seed(write_application(tmp_path_factory.mktemp("browser") / "lamps")) as opened:
        yield opened


@pytest.fixture(scope="session")
def address(week: Workspace) -> Iterator[str]:
    """A real server on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(create_app(week), host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="session")
def chromium(address: str) -> Iterator[Browser]:
    """Started after the server and closed before it, so that no open stream keeps the server."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    playwright = in_browser_thread(lambda: sync.sync_playwright().start())
    browser = in_browser_thread(
        lambda: playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=60_000)
    )
    yield browser
    in_browser_thread(browser.close)
    in_browser_thread(playwright.stop)


class Watched:
    """A tab that remembers what went wrong in it: console errors, and requests to other hosts."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda wrong: self.errors.append(str(wrong)))
        page.on("request", lambda request: self._see(request.url))

    def _see(self, url: str) -> None:
        if urlsplit(url).scheme in ("http", "https") and not url.startswith(self.address):
            self.foreign.append(url)

    def open(self, path: str) -> Page:
        self.errors.clear()
        self.page.goto(f"{self.address}{path}", wait_until="load")
        return self.page

    def violations(self) -> list[str]:
        """What axe finds: rule, how bad, and where."""
        self._load_axe()
        found: dict[str, Any] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [
            f"{violation['id']}: {json.dumps([node['target'] for node in violation['nodes']][:3])}"
            for violation in found["violations"]
        ]

    def _load_axe(self) -> None:
        # Evaluated, not added as a script element: the page's policy forbids those, and rightly.
        if not self.page.evaluate("typeof axe !== 'undefined'"):
            self.page.evaluate(AXE.read_text(encoding="utf-8"))


@pytest.fixture(params=["light-1280", "dark-1280", "light-390", "dark-390"], scope="session")
def screen(request: pytest.FixtureRequest, chromium: Browser, address: str) -> Iterator[Watched]:
    """A tab in each theme at each width."""
    yield from _tab(chromium, address, *request.param.split("-"))


@pytest.fixture
def tab(chromium: Browser, address: str) -> Iterator[Watched]:
    yield from _tab(chromium, address, "light", "1280")


def _tab(chromium: Browser, address: str, theme: str, width: str) -> Iterator[Watched]:
    def start() -> tuple[BrowserContext, Watched]:
        context = chromium.new_context(viewport={"width": int(width), "height": 800}, reduced_motion="reduce")
        context.add_cookies([{"name": "slip_theme", "value": theme, "url": address}])
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=address)
        page = context.new_page()
        page.set_default_timeout(15_000)
        return context, Watched(page, address)

    context, watched = in_browser_thread(start)
    yield watched
    in_browser_thread(context.close)
