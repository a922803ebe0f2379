"""What the gateway costs: CPU a request of its whole process tree, as a ratio to nginx as a reverse proxy.

Both run pinned to the first core, the upstream and the load driver to the second one, in turns within one run: absolute
figures vary by a third from hour to hour on a shared machine, the ratio by a tenth. Claims and limits:

- plain requests, 32 connections: at most 6 times nginx
- streams of 53 events, unpaced: at most 6 times nginx

`python benchmarks/gateway/run.py [--rounds 2] [--seconds 3] [--json]` ends with 1 when a limit is missed, and says so
with 0 when nginx is not installed and nothing can be compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import Figure, print_table  # noqa: E402
from systems import measure, memory_mb, start_nginx, start_slipway, upstream_and_folder  # noqa: E402

LIMIT = 6.0
LIMITED = ("plain", "stream")


def run(rounds: int, seconds: float) -> dict[str, Any]:
    with ExitStack() as stack, upstream_and_folder(stack) as (upstream, folder):
        systems = {"slipway": start_slipway(stack, folder / "app", upstream)}
        if shutil.which("nginx"):
            systems["nginx"] = start_nginx(stack, folder / "nginx", upstream)
        cases: dict[str, dict[str, Any]] = {
            "plain": {},
            "stream": {"stream": True},
            "200 KB prompt": {"characters": 200_000},
        }
        found: dict[str, dict[str, list[dict[str, float]]]] = {case: {name: [] for name in systems} for case in cases}
        # What is paid once (modules, the price list of the ingester) belongs to no request.
        measure(systems["slipway"], seconds=0.5)
        for _ in range(rounds):
            for case, options in cases.items():
                for name, system in systems.items():
                    found[case][name].append(measure(system, seconds=seconds, **options))
        memory = memory_mb(systems["slipway"].pid)
    return {"cases": {case: summarise(values) for case, values in found.items()}, "memory_mb": memory}


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
