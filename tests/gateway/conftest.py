"""A real gateway over loopback, in a thread of the test, in front of a scripted upstream."""

from __future__ import annotations

import asyncio
import runpy
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest
import uvicorn

from slipway.config.reader import load_settings
from slipway.config.settings import GuardSettings
from slipway.domain.decoding import Decoding
from slipway.domain.errors import UpstreamError
from slipway.domain.guardrail import Guardrails
from slipway.domain.model import Model
from slipway.domain.release import Release
from slipway.domain.trace import Span
from slipway.gateway.app import Gateway
from slipway.gateway.door import Door
from slipway.gateway.otlp_grpc import GrpcDoor
from slipway.prompt.starter import default_prompt_text
from slipway.release.channels import promote
from slipway.release.parts import cut_release, save_release
from slipway.retrieve.index import build_index
from slipway.tracing.ingest import drain
from slipway.workspace import Workspace, open_workspace

MOCK = Path(__file__).parents[2] / "benchmarks" / "gateway" / "mock_upstream.py"
QUICK = "connect_s = 5\nfirst_byte_s = 1.5\nidle_s = 1.5\ntotal_s = 5\n"
PATIENT = "connect_s = 60\nfirst_byte_s = 60\nidle_s = 60\ntotal_s = 60\n"
DOCUMENT = """# Shipping

## What does shipping cost?

Standard shipping costs 4.90 euros and is free above 50 euros. Express shipping costs 12 euros.
"""


@pytest.fixture(scope="module")
def mock() -> Iterator[Any]:
    with runpy.run_path(str(MOCK))["MockUpstream"]() as mock:
        yield mock


@pytest.fixture
def upstream(mock: Any) -> Any:
    """The scripted upstream of the module, with nothing asked yet."""
    mock.state.__init__()
    return mock


@dataclass
class Served:
    """A gateway that answers at `url`, and handles to look behind it."""

    url: str
    workspace: Workspace
    gateway: Gateway
    server: uvicorn.Server

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"content-type": "application/json"} | more.pop("headers", {})
        return httpx.post(f"{self.url}{path}", content=content, headers=headers, timeout=30, **more)

    def chat(self, model: str, **more: Any) -> httpx.Response:
        headers = more.pop("headers", {})
        messages = more.pop("messages", [{"role": "user", "content": "Hello?"}])
        return self.post("/v1/chat/completions", {"model": model, "messages": messages, **more}, headers=headers)

    def trace(self, id: str) -> tuple[Span, ...]:
        """The spans of a trace, taken from the journal into the store first."""
        drain(self.workspace.store)
        return self.workspace.store.traces.get(id).spans

    def traces(self, **wishes: Any) -> list[Any]:
        drain(self.workspace.store)
        return self.workspace.store.traces.list(**wishes).rows


def settings_text(url: str, more: str = "") -> str:
    return f"""
[application]
name = "lamps"

[retrieve]
embedder = {{ kind = "none" }}

[release]
engine = "echo"
model = "echo"

[guard]
before = []
after = []

[server]
port = 0
raw_models = true
max_body_mb = 1

[engines.fast]
kind = "openai"
base_url = "{url}"
{QUICK}
[engines.pair]
kind = "openai"
base_url = "http://127.0.0.1:1/v1"
fallback_urls = ["{url}"]
{QUICK}
[engines.dead]
kind = "openai"
base_url = "http://127.0.0.1:1/v1"
{QUICK}
[engines.script]
kind = "echo"
reply = "Express shipping costs 12 euros [1]."

{more}
"""


def plain_release(
    workspace: Workspace, *, engine: str = "fast", model: str = "ok", guardrails: Guardrails | None = None
) -> Release:
    """A release that forwards what clients send."""
    return save_release(
        workspace,
        model=Model(engine=engine, name=model),
        decoding=Decoding(temperature=None, max_tokens=None, seed=None),
        prompt=None,
        index=None,
        guardrails=guardrails or Guardrails(),
        note="",
    )


def documents_release(workspace: Workspace, *, engine: str = "script", model: str = "script") -> Release:
    """A release that answers from the documents."""
    build_index(workspace)
    release = msgspec.structs.replace(workspace.settings.release, engine=engine, model=model)
    settings = msgspec.structs.replace(workspace.settings, release=release)
    return cut_release(replace(workspace, settings=settings))


def with_guard(workspace: Workspace, guard: GuardSettings) -> Workspace:
    return replace(workspace, settings=msgspec.structs.replace(workspace.settings, guard=guard))


def make_application(folder: Path, url: str, more: str = "") -> Path:
    """An application with one document, in front of the upstream at `url`."""
    for name in ("documents", "prompts"):
        (folder / name).mkdir(parents=True)
    (folder / "documents" / "shipping.md").write_text(DOCUMENT, encoding="utf-8")
    (folder / "prompts" / "answer.md").write_text(default_prompt_text(), encoding="utf-8")
    (folder / "slipway.toml").write_text(settings_text(url, more), encoding="utf-8")
    return folder


@pytest.fixture
def folder(tmp_path: Path, upstream: Any) -> Path:
    return make_application(tmp_path / "lamps", upstream.url)


@pytest.fixture
def patient(folder: Path) -> Iterator[Served]:
    """A gateway that gives its upstream a minute."""
    text = (folder / "slipway.toml").read_text()
    (folder / "slipway.toml").write_text(text.replace(QUICK, PATIENT))
    with open_workspace(folder) as workspace, serving(workspace) as served:
        yield served


async def warm_up(gateway: Gateway, workspace: Workspace) -> None:
    """Opens connections to the upstream, so that requests find some at hand as they do in traffic."""
    engine = workspace.settings.engines.get("fast")
    if engine is None:
        return
    body = msgspec.json.encode({"model": "warm", "messages": []})
    headers = {"content-type": "application/json"}

    async def one() -> None:
        with suppress(UpstreamError):
            url = f"{engine['base_url']}/chat/completions"
            await (await gateway._services.http.send("POST", url, headers=headers.items(), body=body)).read()

    await asyncio.gather(*(one() for _ in range(4)))


@contextmanager
def serving(workspace: Workspace, **options: Any) -> Iterator[Served]:
    grpc, warm = options.pop("grpc", False), options.pop("warm", True)
    gateway = Gateway(workspace, refresh_s=0.05, **options)
    if grpc:
        gateway.grpc = GrpcDoor(gateway, "127.0.0.1:0", largest=1_000_000)
    config = uvicorn.Config(
        gateway,
        interface="asgi3",
        http=Door,
        lifespan="on",
        log_config=None,
        access_log=False,
        ws="none",
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        until = time.monotonic() + 60
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        if warm:
            assert gateway.express is not None
            asyncio.run_coroutine_threadsafe(warm_up(gateway, workspace), gateway.express.loop).result(30)
        try:
            yield Served(f"http://127.0.0.1:{bound.getsockname()[1]}", workspace, gateway, server)
        finally:
            server.should_exit = True
            thread.join(60)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, mock: Any) -> Iterator[Served]:
    """One gateway per module. Channels: `plain` (forwarded to the mock's model `ok`), `lamps` (answers from a document
    by a script)."""
    folder = make_application(tmp_path_factory.mktemp("gateway") / "lamps", mock.url)
    with open_workspace(folder, settings=load_settings(folder)) as workspace:
        promote(workspace, plain_release(workspace), "plain", force=True)
        promote(workspace, documents_release(workspace), force=True)
        with serving(workspace) as served:
            yield served


RAILS = {
    "redacting": GuardSettings(
        before=[{"rail": "secrets", "action": "redact"}],
        after=[{"rail": "personal_data", "action": "redact"}],
    ),
    "blocking": GuardSettings(
        before=[{"rail": "length", "action": "block", "max_characters": 500}],
        after=[{"rail": "personal_data", "action": "block"}],
    ),
}
"""Guardrails of releases that redact, or block."""


@pytest.fixture(scope="session")
def tools() -> Any:
    """The functions above, for tests that set up a gateway of their own."""
    return Tools


class Tools:
    RAILS = RAILS
    serving = staticmethod(serving)
    plain_release = staticmethod(plain_release)
    documents_release = staticmethod(documents_release)
    with_guard = staticmethod(with_guard)
    make_application = staticmethod(make_application)


def wait_for(met: Callable[[], bool], *, within_s: float = 30.0) -> bool:
    """Whether a condition comes true in time."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if met():
            return True
        time.sleep(0.02)
    return met()


@pytest.fixture
def until() -> Callable[..., bool]:
    return wait_for


@pytest.fixture(scope="session")
def server() -> Any:
    """What runs `slipway serve` as a process of its own: `run`, `children`, `served_by`, `trace_ids`."""
    from tests.gateway import test_server

    return test_server
