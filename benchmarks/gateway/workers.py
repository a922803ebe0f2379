"""Two workers answer at least 1.5 times as many requests a second as one, all features on.

Where `wrk` and nginx are installed they are the load and the upstream: each costs a fraction of what the gateway does,
so that two cores can show what a second worker brings. Nothing is pinned; the ingester runs beside both. Without them
driver and upstream are the Python ones of the other benchmarks, which need a core of their own.

`python benchmarks/gateway/workers.py [--seconds 4] [--rounds 3]`: one and two workers in turns, the best round of each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from load import PROMPT  # noqa: E402
from machine import Figure, print_table  # noqa: E402
from systems import System, free_port, measure, process, start_slipway, upstream_and_folder, wait_for  # noqa: E402

ALWAYS = """
daemon off; worker_processes 1; pid {folder}/always.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_buffer_size 64k; client_body_temp_path {folder}/always-body;
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 1000000000;
    location / {{ default_type application/json; return 200 '{answer}'; }}
  }}
}}
"""
SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = [[{body}]]
"""
CONNECTIONS = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    return print_table("Gateway: workers", [workers_figure(options.seconds, options.rounds)])


def workers_figure(seconds: float, rounds: int = 1) -> Figure:
    """Requests a second of one worker against two. As a limit from above, like all others: at most two thirds."""
    with_wrk = shutil.which("wrk") is not None and shutil.which("nginx") is not None
    speed = {1: 0.0, 2: 0.0}
    with ExitStack() as stack, upstream_and_folder(stack) as (mock, folder):
        upstream = _start_always(stack, folder, mock) if with_wrk else mock
        for number in range(rounds):
            for workers in speed:
                with ExitStack() as inner:
                    place = folder / f"app-{number}-{workers}"
                    options = ("--workers", str(workers))
                    system = start_slipway(inner, place, upstream, options=options, pinned=False)
                    if with_wrk:
                        _wrk(folder, system, 1.0)
                        found = _wrk(folder, system, seconds)
                    else:
                        measure(system, seconds=0.5)
                        found = measure(system, seconds=seconds, connections=CONNECTIONS)["per_second"]
                    speed[workers] = max(speed[workers], found)
    drivers = "wrk, upstream nginx" if with_wrk else "the Python driver and upstream"
    note = f"{speed[1]:.0f} and {speed[2]:.0f} requests/s on {os.cpu_count()} cores with {drivers}"
    return Figure("requests/s of one worker against two", speed[1] / speed[2], "times", limit=2 / 3, note=note)


def _start_always(stack: ExitStack, folder: Path, mock: int) -> int:
    """An nginx that always gives the answer which the scripted upstream gives; returns its port."""
    port = free_port()
    ask = urllib.request.Request(
        f"http://127.0.0.1:{mock}/v1/chat/completions", _question("ok").encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(ask, timeout=30) as answer:
        text = json.dumps(json.loads(answer.read()))
    settings = folder / "always.conf"
    settings.write_text(ALWAYS.format(folder=folder, port=port, answer=text.replace("\\", "\\\\").replace("'", "\\'")))
    stack.enter_context(process(["nginx", "-c", str(settings), "-e", "stderr"]))
    wait_for(port)
    (folder / "ask.lua").write_text(SCRIPT.format(body=_question("bench-ok")))
    return port


def _question(model: str) -> str:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": PROMPT[:600]}]})


def _wrk(folder: Path, system: System, seconds: float) -> float:
    """Requests a second. Ends the benchmark where one failed."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", str(folder / "ask.lua")]
    command += [part for line in system.headers for part in ("-H", line)]
    told = subprocess.run([*command, system.url], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise SystemExit(told)
    found = re.search(r"Requests/sec:\s+([\d.]+)", told)
    assert found is not None, told
    return float(found[1])


if __name__ == "__main__":
    sys.exit(main())
