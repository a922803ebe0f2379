"""The gateway against its rivals and its own promises, beyond what run.py asks of every change.

All features on: a key with limits a minute and a budget, routing, prices, trace with bodies, ingest. Rivals run in the
same run, each pinned to the first core, upstream and load driver to the second one. Claims and limits:

- plain requests, 32 connections: at most 4 times nginx's CPU a request, and at most a fifteenth of Portkey's
- the same of 2,000 people, each sealed with a key of their own, and of agents that send a trace of ten requests along
- 200 paced streams at once (53 events, 20 ms apart): at most twice nginx's CPU
- 100 requests a second: at most 0.7 ms (p50) and 2 ms (p99) more than the upstream alone
- a prompt of 200 KB, 300 a second: at most 1.5 ms CPU; requests beside it: at most 5 ms (p99) later than without
- three rails (personal data, secrets, length) on a prompt of 600 bytes: at most 0.15 ms CPU more
- two workers: at least 1.5 times the requests of one, plain and as streams (see workers.py)
- memory of a worker: at most 120 MB

`python benchmarks/gateway/full.py [--seconds 3] [--portkey FOLDER]`. In FOLDER npm installed `@portkey-ai/gateway`
1.15.2, with `"overrides": {"@hono/node-server": "1.13.5"}` in package.json: newer ones break its streams. What is not
installed is not compared. LiteLLM is not run here: releases of it carried malware.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import Figure, print_table  # noqa: E402
from systems import (  # noqa: E402
    System,
    measure,
    memory_mb,
    pin,
    start_nginx,
    start_portkey,
    start_slipway,
    upstream_and_folder,
)
from workers import workers_figures  # noqa: E402

SERVER = Path("node_modules/@portkey-ai/gateway/build/start-server.js")
LONG = 200_000
ROUNDS = 5
"""In turns, of which the median counts: what a request costs here differs by a tenth from one second to the next."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--portkey", type=Path)
    options = parser.parse_args()
    figures: list[Figure] = []
    with ExitStack() as stack, upstream_and_folder(stack) as (upstream, folder):
        ours = start_slipway(stack, folder / "app", upstream)
        direct = System(f"http://127.0.0.1:{upstream}/v1/chat/completions", 0)
        measure(ours, seconds=0.5)
        figures.append(Figure("memory of an idle worker", memory_mb(ours.pid), "MB", limit=120))
        # Before the rivals start: idle or not, they would share the core.
        figures += _latency(ours, direct, options.seconds)
        rivals = {"nginx": start_nginx(stack, folder / "nginx", upstream)} if shutil.which("nginx") else {}
        if options.portkey:
            rivals["Portkey"] = start_portkey(stack, options.portkey / SERVER, upstream)
        figures += _plain(ours, rivals, options.seconds)
        figures += _known(ours, rivals, options.seconds)
        figures += _paced(ours, rivals, options.seconds)
        figures += _rails(ours, options.seconds)
        figures += _long_prompts(ours, options.seconds)
    figures += workers_figures(options.seconds)
    return print_table("Gateway: CPU of the whole process tree, traces with bodies and their ingest included", figures)


def _plain(ours: System, rivals: dict[str, System], seconds: float) -> list[Figure]:
    figures = []
    for case, stream in (("plain", False), ("stream of 53 events", True)):
        rounds = []
        for _ in range(ROUNDS):
            own = measure(ours, seconds=seconds, stream=stream)
            theirs = {
                name: measure(system, seconds=seconds, stream=stream, connections=32 if name == "nginx" else 8)
                for name, system in rivals.items()
            }
            rounds.append((own, theirs))
        cpu, hot = (median(own[name] for own, _ in rounds) for name in ("cpu_ms", "hot_ms"))
        figures.append(Figure(f"{case}: CPU a request", cpu, "ms", note=f"{hot:.3f} before ingest"))
        for name in rivals:
            ratios = sorted(own["cpu_ms"] / theirs[name]["cpu_ms"] for own, theirs in rounds)
            limit = {("plain", "nginx"): 4.0, ("plain", "Portkey"): 1 / 15}.get((case, name))
            figures.append(Figure(f"  {name}", median(theirs[name]["cpu_ms"] for _, theirs in rounds), "ms"))
            note = f"rounds from {ratios[0]:.3g} to {ratios[-1]:.3g}"
            figures.append(Figure(f"  slipway / {name}", median(ratios), "times", limit=limit, note=note))
    return figures


def _known(ours: System, rivals: dict[str, System], seconds: float) -> list[Figure]:
    """Requests whose traces cost more to take in: sealed for each person, or joined to what came before."""
    figures = []
    for name, options in (("2,000 people", {"people": 2000}), ("agents that trace their work", {"traced": True})):
        own = [measure(ours, seconds=seconds, **options) for _ in range(3)]
        cpu, hot = (median(one[key] for one in own) for key in ("cpu_ms", "hot_ms"))
        figures.append(Figure(f"plain, of {name}: CPU a request", cpu, "ms", note=f"{hot:.3f} before ingest"))
        if "nginx" in rivals:
            theirs = measure(rivals["nginx"], seconds=seconds, **options)["cpu_ms"]
            figures.append(Figure("  slipway / nginx", cpu / theirs, "times"))
    return figures


def _paced(ours: System, rivals: dict[str, System], seconds: float) -> list[Figure]:
    options = {"model": "paced", "stream": True, "connections": 200, "seconds": max(4.0, seconds)}
    own = measure(ours, **options)
    figures = [Figure("200 paced streams at once: CPU a stream", own["cpu_ms"], "ms")]
    if "nginx" in rivals:
        theirs = measure(rivals["nginx"], **options)
        figures.append(Figure("  nginx", theirs["cpu_ms"], "ms"))
        figures.append(Figure("  slipway / nginx", own["cpu_ms"] / theirs["cpu_ms"], "times", limit=2.0))
    return figures


def _latency(ours: System, direct: System, seconds: float) -> list[Figure]:
    # A hundredth of a thousand requests: fewer would make the p99 a matter of luck.
    options = {"rate": 100.0, "seconds": max(10.0, seconds)}
    alone, through = measure(direct, **options), measure(ours, **options)
    return [
        Figure("100 requests/s: added p50", through["p50_ms"] - alone["p50_ms"], "ms", limit=0.7),
        Figure("100 requests/s: added p99", through["p99_ms"] - alone["p99_ms"], "ms", limit=2.0),
    ]


def _rails(ours: System, seconds: float) -> list[Figure]:
    more = []
    for _ in range(3):
        plain, railed = (measure(ours, seconds=seconds, model=model)["cpu_ms"] for model in ("ok", "railed"))
        more.append(railed - plain)
    return [Figure("three rails on a prompt of 600 bytes: CPU more", median(more), "ms", limit=0.15)]


def _long_prompts(ours: System, seconds: float) -> list[Figure]:
    # As many as the ingester keeps up with: of more at once the journal would shed what they say, which costs less.
    rounds = [measure(ours, seconds=max(5.0, seconds), characters=LONG, rate=300.0, connections=128) for _ in range(3)]
    cpu, hot = (median(own[name] for own in rounds) for name in ("cpu_ms", "hot_ms"))
    alone = measure(ours, seconds=seconds, rate=50.0)
    command = [sys.executable, str(HERE / "load.py"), "--url", ours.url, "--model", ours.name_of("ok")]
    command += ["--characters", str(LONG), "--rate", "20", "--connections", "8", "--seconds", str(seconds + 3)]
    command += ["--header", ours.headers[0]]
    with subprocess.Popen(pin(command, 1), stdout=subprocess.PIPE, text=True) as long:
        assert long.stdout is not None
        long.stdout.readline()
        beside = measure(ours, seconds=seconds, rate=50.0)
        long.stdout.readline()
    return [
        Figure("200 KB prompt: CPU a request", cpu, "ms", limit=1.5, note=f"{hot:.3f} before ingest"),
        Figure(
            "small requests beside 20 such a second: p99 later by", beside["p99_ms"] - alone["p99_ms"], "ms", limit=5
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
