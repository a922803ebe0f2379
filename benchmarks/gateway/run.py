"""What the gateway costs: CPU a request of its whole process tree, as a ratio to nginx as a reverse proxy.

Both run pinned to the first core, the upstream and the load driver to the second one, in turns within one run: absolute
figures vary by a third from hour to hour on a shared machine, the ratio by a tenth. Claims and limits:

- plain requests, 32 connections: at most 8 times nginx
- streams of 53 events, unpaced: at most 8 times nginx

`python benchmarks/gateway/run.py [--rounds 2] [--seconds 3] [--json]` ends with 1 when a limit is missed, and says so
with 0 when nginx is not installed and nothing can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import Figure, print_table  # noqa: E402

LIMIT = 8.0
LIMITED = ("plain", "stream")
TICKS = os.sysconf("SC_CLK_TCK")
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
    url: str, pid: int, *, model: str, stream: bool, seconds: float, characters: int = 600, ingests: bool = True
) -> dict[str, float]:
    """CPU milliseconds a request under full load: `hot_ms` of the processes that serve, and `cpu_ms` with what the
    ingester does later. The requests of the warm-up are ingested too, so its share is spread over them as well."""
    command = [sys.executable, str(HERE / "load.py"), "--url", url, "--model", model, "--seconds", str(seconds)]
    command += ["--characters", str(characters), *(["--stream"] if stream else [])]
    with subprocess.Popen(pin(command, 1), stdout=subprocess.PIPE, text=True) as load:
        assert load.stdout is not None
        load.stdout.readline()
        serving = [pid] if ingests else tree(pid)
        later = [other for other in tree(pid) if other not in serving]
        hot, ingest = cpu_seconds(serving), cpu_seconds(later)
        result = json.loads(load.stdout.readline())
        hot = cpu_seconds(serving) - hot
    if not result["requests"] or result["errors"]:
        raise SystemExit(f"{url}: {result}")
    if later:
        settle(later)
    ingest = cpu_seconds(later) - ingest
    hot_ms = hot / result["requests"] * 1000
    return result | {
        "hot_ms": hot_ms,
        "cpu_ms": hot_ms + ingest / (result["requests"] + result["warm_up"]) * 1000,
    }


def settle(pids: list[int]) -> None:
    """Waits until processes are idle: what the ingester still has to do belongs to the requests before."""
    for _ in range(120):
        before = cpu_seconds(pids)
        time.sleep(0.5)
        if cpu_seconds(pids) - before < 0.02:
            return


def prepare(folder: Path, upstream: int) -> None:
    """An application with the channel `ok`: a plain release of the upstream's model, without rails."""
    (folder / "documents").mkdir(parents=True)
    (folder / "prompts").mkdir()
    (folder / "slipway.toml").write_text(SETTINGS.format(upstream=upstream))
    from slipway.release.channels import promote
    from slipway.release.parts import cut_plain_release
    from slipway.workspace import open_workspace

    with open_workspace(folder) as workspace:
        promote(workspace, cut_plain_release(workspace, engine="mock", model="ok"), "bench", force=True)


def run(rounds: int, seconds: float) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mock = stack.enter_context(
            process(pin([sys.executable, str(HERE / "mock_upstream.py")], 1), stdout=subprocess.PIPE)
        )
        assert mock.stdout is not None
        upstream = int(mock.stdout.readline())
        systems = {"slipway": start_slipway(stack, folder / "app", upstream)}
        if shutil.which("nginx"):
            systems["nginx"] = start_nginx(stack, folder / "nginx", upstream)
        cases = {
            "plain": {"stream": False},
            "stream": {"stream": True},
            "200 KB prompt": {"stream": False, "characters": 200_000},
        }
        found: dict[str, dict[str, list[dict[str, float]]]] = {case: {name: [] for name in systems} for case in cases}
        url, pid, model = systems["slipway"]
        # What is paid once (modules, the price list of the ingester) belongs to no request.
        measure(url, pid, model=model, stream=False, seconds=0.5)
        for _ in range(rounds):
            for case, options in cases.items():
                for name, (url, pid, model) in systems.items():
                    ours = name == "slipway"
                    run_of = measure(url, pid, model=model, seconds=seconds, ingests=ours, **options)
                    found[case][name].append(run_of)
        memory = memory_mb(systems["slipway"][1])
    return {"cases": {case: summarise(values) for case, values in found.items()}, "memory_mb": memory}


def start_slipway(stack: ExitStack, folder: Path, upstream: int) -> tuple[str, int, str]:
    prepare(folder, upstream)
    command = [sys.executable, "-m", "slipway.cli.main", "serve", "--dir", str(folder), "--port", "0"]
    served = stack.enter_context(process(pin([*command, "--no-pages", "--json"], 0), stdout=subprocess.PIPE))
    assert served.stdout is not None
    return json.loads(served.stdout.readline())["endpoint"] + "/chat/completions", served.pid, "bench"


def start_nginx(stack: ExitStack, folder: Path, upstream: int) -> tuple[str, int, str]:
    folder.mkdir()
    port = free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, upstream=upstream))
    nginx = stack.enter_context(process(pin(["nginx", "-c", str(folder / "nginx.conf"), "-e", "stderr"], 0)))
    wait_for(port)
    return f"http://127.0.0.1:{port}/v1/chat/completions", nginx.pid, "ok"


def summarise(values: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: {
            key: round(statistics.median(run[key] for run in runs), 4)
            for key in ("cpu_ms", "hot_ms", "per_second", "p50_ms", "p99_ms")
        }
        for name, runs in values.items()
    }
    if "nginx" in values:
        ratios = [ours["cpu_ms"] / theirs["cpu_ms"] for ours, theirs in zip(*values.values(), strict=True)]
        told["ratio"] = round(statistics.median(ratios), 2)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = run(options.rounds, options.seconds)
    if options.json:
        print(json.dumps(result))
        return 0
    figures = []
    for case, told in result["cases"].items():
        ours, theirs = told["slipway"], told.get("nginx")
        speed = f"{ours['per_second']:.0f} requests/s, p99 {ours['p99_ms']:.1f} ms"
        figures.append(Figure(f"{case}: CPU a request", ours["cpu_ms"], "ms", note=speed))
        figures.append(Figure("  of it before ingest", ours["hot_ms"], "ms"))
        if theirs is not None:
            speed = f"{theirs['per_second']:.0f} requests/s, p99 {theirs['p99_ms']:.1f} ms"
            figures.append(Figure("  nginx", theirs["cpu_ms"], "ms", note=speed))
            limit = LIMIT if case in LIMITED else None
            figures.append(Figure("  slipway / nginx", told["ratio"], "times", limit=limit))
    figures.append(Figure("memory of the worker", result["memory_mb"], "MB"))
    if "nginx" not in result["cases"]["plain"]:
        print("nginx is not installed, so there is nothing to compare with (Debian: apt-get install nginx-light)")
    return print_table("Gateway: CPU of the whole process tree, 32 connections, against nginx as a proxy", figures)


if __name__ == "__main__":
    sys.exit(main())
