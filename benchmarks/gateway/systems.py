"""Starts the systems that a gateway is compared with, loads them, and reads what they cost from the kernel.

Systems run pinned to the first core, the upstream and the load driver to the second one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
TICKS = os.sysconf("SC_CLK_TCK")
MODELS = ("ok", "paced")
RAILS = ("personal_data", "secrets", "length")


class System(NamedTuple):
    """A running gateway: where it answers, the process that counts, what its clients send beside the body."""

    url: str
    pid: int
    headers: tuple[str, ...] = ()
    ingests: bool = False
    """Whether its children work off later what the requests left."""
    channels: bool = False
    """Whether a model is asked for as `bench-MODEL` instead of `MODEL`."""

    def name_of(self, model: str) -> str:
        return f"bench-{model}" if self.channels else model


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log error;
events {{ worker_connections 1024; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_body_buffer_size 1m;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 1000000;
    location / {{
      proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
SETTINGS = """
[application]
name = "bench"
[retrieve]
embedder = {{ kind = "none" }}
[guard]
before = []
after = []
[engines.mock]
kind = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
[engines.both]
kind = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
responses = true
[server]
require_keys = true
[prices.mock]
input = 0.2
output = 0.6
"""


def pin(command: list[str], core: int) -> list[str]:
    return ["taskset", "-c", str(core % (os.cpu_count() or 1)), *command]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def process(command: list[str], **more: Any) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(command, text=True, **more)
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def tree(root: int) -> list[int]:
    """A process and everything it started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(parents.get(pid, []))
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of processes."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def wait_for(port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing answers on port {port}")


def measure(
    system: System,
    *,
    seconds: float,
    model: str = "ok",
    stream: bool = False,
    characters: int = 600,
    connections: int = 32,
    rate: float = 0.0,
    core: int = 1,
    people: int = 0,
    traced: bool = False,
    agents: int = 1,
    keys: Path | None = None,
) -> dict[str, float]:
    """CPU milliseconds a request: `hot_ms` of the processes that serve, and `cpu_ms` with what the ingester does later.
    The requests of the warm-up are ingested too, so its share is spread over them as well."""
    command = [sys.executable, str(HERE / "load.py"), "--url", system.url, "--model", system.name_of(model)]
    command += ["--seconds", str(seconds), "--characters", str(characters), "--connections", str(connections)]
    command += ["--rate", str(rate), "--people", str(people)]
    command += [*(["--stream"] if stream else []), *(["--traced", "--agents", str(agents)] if traced else [])]
    command += ["--keys", str(keys)] if keys is not None else []
    for line in system.headers:
        command += ["--header", line]
    with subprocess.Popen(pin(command, core), stdout=subprocess.PIPE, text=True) as load:
        assert load.stdout is not None
        load.stdout.readline()
        ingesters = [pid for pid in tree(system.pid) if system.ingests and is_ingester(pid)]
        serving = [pid for pid in tree(system.pid) if pid not in ingesters]
        later = ingesters
        hot, ingest = cpu_seconds(serving), cpu_seconds(later)
        result = json.loads(load.stdout.readline())
        hot = cpu_seconds(serving) - hot
    if not result["requests"] or result["errors"]:
        raise SystemExit(f"{system.url}: {result}")
    if later:
        settle(later)
    ingest = cpu_seconds(later) - ingest
    hot_ms = hot / result["requests"] * 1000
    return result | {
        "hot_ms": hot_ms,
        "cpu_ms": hot_ms + ingest / (result["requests"] + result["warm_up"]) * 1000,
    }


def is_ingester(pid: int) -> bool:
    try:
        return b"slipway.tracing.ingest" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def settle(pids: list[int]) -> None:
    """Waits until processes are idle: what the ingester still has to do belongs to the requests before."""
    for _ in range(120):
        before = cpu_seconds(pids)
        time.sleep(0.5)
        if cpu_seconds(pids) - before < 0.02:
            return


def prepare(folder: Path, upstream: int, more: str = "") -> str:
    """An application with the channels `bench-MODEL`: plain releases of the upstream's models, without rails, and
    `bench-railed`, the model `ok` behind three rails that each see the whole prompt, and `bench-both`, the same on an
    engine that is asked at /responses too. Returns the text of its API key, which is limited in everything that is
    counted at once, and far from its limits. `more` ends its settings."""
    (folder / "documents").mkdir(parents=True)
    (folder / "prompts").mkdir()
    (folder / "slipway.toml").write_text(SETTINGS.format(upstream=upstream) + more)
    from slipway.access.keys import create_key
    from slipway.domain.access import Limits
    from slipway.domain.decoding import Decoding
    from slipway.domain.guardrail import Guardrails
    from slipway.guard.parts import hash_guardrails, read_rails
    from slipway.release.channels import promote
    from slipway.release.parts import cut_plain_release, pin_model, save_release
    from slipway.workspace import open_workspace

    with open_workspace(folder) as workspace:
        for model in MODELS:
            promote(workspace, cut_plain_release(workspace, engine="mock", model=model), f"bench-{model}", force=True)
        both = cut_plain_release(workspace, engine="both", model="ok")
        promote(workspace, both, "bench-both", force=True)
        rails = read_rails([{"rail": name, "action": "flag"} for name in RAILS], place="the benchmark")
        railed = save_release(
            workspace,
            model=pin_model(workspace, "mock", "ok"),
            decoding=Decoding(temperature=None, max_tokens=None, seed=None),
            prompt=None,
            index=None,
            guardrails=Guardrails(before=rails, hash=hash_guardrails(rails, (), "block")),
            note="",
        )
        promote(workspace, railed, "bench-railed", force=True)
        limits = Limits(requests_per_minute=10**8, tokens_per_minute=10**11, monthly_budget_micros=10**13)
        return create_key(workspace.store, "bench", limits=limits)[1]


@contextmanager
def upstream_and_folder(stack: ExitStack) -> Iterator[tuple[int, Path]]:
    """The port of the scripted upstream, and an empty folder."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    mock = stack.enter_context(
        process(pin([sys.executable, str(HERE / "mock_upstream.py")], 1), stdout=subprocess.PIPE)
    )
    assert mock.stdout is not None
    yield int(mock.stdout.readline()), folder


def start_slipway(
    stack: ExitStack, folder: Path, upstream: int, *, options: Sequence[str] = (), pinned: bool = True, more: str = ""
) -> System:
    key = prepare(folder, upstream, more)
    command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--port", "0"]
    command += ["--no-pages", "--json", *options]
    served = stack.enter_context(process(pin(command, 0) if pinned else command, stdout=subprocess.PIPE))
    assert served.stdout is not None
    url = json.loads(served.stdout.readline())["endpoint"] + "/chat/completions"
    return System(url, served.pid, (f"authorization: Bearer {key}",), ingests=True, channels=True)


def start_nginx(stack: ExitStack, folder: Path, upstream: int) -> System:
    folder.mkdir()
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
    nginx = stack.enter_context(process(pin(["nginx", "-c", str(folder / "nginx.conf"), "-e", "stderr"], 0)))
    wait_for(port)
    return System(f"http://127.0.0.1:{port}/v1/chat/completions", nginx.pid)


def start_portkey(stack: ExitStack, server: Path, upstream: int) -> System:
    """Portkey's open gateway from a folder where npm has installed it; `server` is its start-server.js."""
    port = free_port()
    command = pin(["node", str(server), f"--port={port}", "--headless"], 0)
    portkey = stack.enter_context(process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    wait_for(port)
    headers = ("x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{upstream}/v1")
    return System(f"http://127.0.0.1:{port}/v1/chat/completions", portkey.pid, headers)
