"""Two workers answer at least 1.5 times as many requests a second as one, all features on, plain and as streams.

Where `wrk` and nginx are installed they are the load and the upstream: each costs a fraction of what the gateway does,
so that two cores can show what a second worker brings. Nothing is pinned; the ingester runs beside both. Without them
driver and upstream are the Python ones of the other benchmarks, which need a core of their own.

On two cores all of them share what there is, and the faster a worker the more of it they need: one that takes w of a
core a request, with d for driver, upstream and ingester, can at best become 2w / (w + d) times as fast. So it is shown
too what the workers themselves cost a request: two that got into each other's way would cost more than one.

`python benchmarks/gateway/workers.py [--seconds 4] [--rounds 3]`: one and two workers in turns, the best round of each.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from load import PROMPT  # noqa: E402
from machine import Figure, print_table  # noqa: E402
from systems import (  # noqa: E402
    System,
    cpu_seconds,
    free_port,
    is_ingester,
    measure,
    process,
    start_slipway,
    tree,
    upstream_and_folder,
    wait_for,
)

ALWAYS = """
daemon off; worker_processes 1; pid {folder}/always.pid; error_log stderr crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_buffer_size 64k; client_body_temp_path {folder}/always-body;
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 1000000000;
    location / {{ default_type {kind}; {answer} }}
  }}
}}
"""
LONGEST_WORD = 3000
"""Characters that nginx takes in one word of its settings, with room to spare."""
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
    return print_table("Gateway: workers", workers_figures(options.seconds, options.rounds))


class Round(NamedTuple):
    """Requests a second, and CPU microseconds a request of the workers."""

    per_second: float
    cpu_us: float


def workers_figures(seconds: float, rounds: int = 1) -> list[Figure]:
    """Requests a second of one worker against two. As a limit from above, like all others: at most two thirds."""
    with_wrk = shutil.which("wrk") is not None and shutil.which("nginx") is not None
    figures = []
    with ExitStack() as stack, upstream_and_folder(stack) as (mock, folder):
        for case, stream in (("requests/s", False), ("streams of 53 events/s", True)):
            load = folder / f"load-{stream:d}"
            load.mkdir()
            upstream = _start_always(stack, load, mock, stream) if with_wrk else mock
            found: dict[int, list[Round]] = {1: [], 2: []}
            for number in range(rounds):
                for workers, of in found.items():
                    with ExitStack() as inner:
                        options = ("--workers", str(workers))
                        place = load / f"app-{number}-{workers}"
                        system = start_slipway(inner, place, upstream, options=options, pinned=False)
                        of.append(_round(load, system, seconds, stream, with_wrk))
            one, two = (max(found[workers]) for workers in found)
            note = f"{one.per_second:.0f} and {two.per_second:.0f} on {os.cpu_count()} cores, with "
            note += "wrk, nginx as upstream" if with_wrk else "the Python driver and upstream"
            figures.append(
                Figure(f"{case}: one worker against two", one.per_second / two.per_second, "times", 2 / 3, note)
            )
            figures.append(
                Figure(
                    "  CPU a request of the workers: two against one",
                    two.cpu_us / one.cpu_us,
                    "times",
                    1.15,
                    f"{one.cpu_us:.0f} and {two.cpu_us:.0f} us, before ingest",
                )
            )
    return figures


def _round(folder: Path, system: System, seconds: float, stream: bool, with_wrk: bool) -> Round:
    serving = [pid for pid in tree(system.pid) if not is_ingester(pid)]
    if with_wrk:
        _wrk(folder, system, 1.0)
        cpu = cpu_seconds(serving)
        requests, took = _wrk(folder, system, seconds)
        return Round(requests / took, (cpu_seconds(serving) - cpu) / requests * 1e6)
    measure(system, seconds=0.5, stream=stream)
    measured = measure(system, seconds=seconds, stream=stream, connections=CONNECTIONS)
    return Round(measured["per_second"], measured["hot_ms"] * 1000)


def _start_always(stack: ExitStack, folder: Path, mock: int, stream: bool) -> int:
    """An nginx that always gives the answer which the scripted upstream gives; returns its port."""
    port, question = free_port(), _question("ok", stream)
    ask = urllib.request.Request(
        f"http://127.0.0.1:{mock}/v1/chat/completions", question.encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(ask, timeout=30) as answer:
        text = answer.read().decode()
        kind = answer.headers.get_content_type()
    words = [text[begin : begin + LONGEST_WORD] for begin in range(0, len(text), LONGEST_WORD)]
    told = " ".join(f"set $word{number} '{_quoted(word)}';" for number, word in enumerate(words))
    told += " return 200 '" + "".join(f"${{word{number}}}" for number in range(len(words))) + "';"
    settings = folder / "always.conf"
    settings.write_text(ALWAYS.format(folder=folder, port=port, kind=kind, answer=told))
    stack.enter_context(process(["nginx", "-c", str(settings), "-e", "stderr"]))
    wait_for(port)
    (folder / "ask.lua").write_text(SCRIPT.format(body=_question("bench-ok", stream)))
    return port


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _question(model: str, stream: bool) -> str:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": PROMPT[:600]}]}
    return json.dumps(body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {}))


def _wrk(folder: Path, system: System, seconds: float) -> tuple[int, float]:
    """Requests that were answered, and the seconds that took. Ends the benchmark where one failed."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{math.ceil(seconds)}s", "-s", str(folder / "ask.lua")]
    command += [part for line in system.headers for part in ("-H", line)]
    told = subprocess.run([*command, system.url], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in told or "Socket errors" in told:
        raise SystemExit(told)
    found = re.search(r"(\d+) requests in ([\d.]+)s", told)
    assert found is not None, told
    return int(found[1]), float(found[2])


if __name__ == "__main__":
    sys.exit(main())
