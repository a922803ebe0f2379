"""What a request of the Responses API costs, passed on to an engine that speaks it, beside a chat completion.

CPU milliseconds a request of the process tree (with the ingester), pinned to one core, in turns within one run:

- a chat completion, whole and as a stream of 53 events
- a response passed on, whole and as a stream of 58 events
- a response translated into a chat completion and back

`python benchmarks/gateway/native.py [--rounds 3] [--seconds 3] [--json]`. Limits: passed on at most 3 times the chat
completion of its kind (which takes the short way where it is whole), and at most a quarter more than translated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from machine import Figure, print_table  # noqa: E402
from systems import measure, start_slipway, upstream_and_folder  # noqa: E402

LIMIT = 3.0
WAYS = {"chat": ("chat/completions", "ok"), "passed on": ("responses", "both"), "translated": ("responses", "ok")}


def run(rounds: int, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        shape: {way: [] for way in WAYS} for shape in ("plain", "stream")
    }
    with ExitStack() as stack, upstream_and_folder(stack) as (upstream, folder):
        system = start_slipway(stack, folder / "app", upstream)
        base = system.url.removesuffix("chat/completions")
        measure(system, seconds=0.5)
        for _ in range(rounds):
            for shape, ways in found.items():
                for way, runs in ways.items():
                    path, model = WAYS[way]
                    asked = system._replace(url=base + path)
                    runs.append(measure(asked, seconds=seconds, model=model, stream=shape == "stream"))
    return {
        shape: {
            way: {key: round(statistics.median(run[key] for run in runs), 4) for key in ("cpu_ms", "hot_ms")}
            for way, runs in ways.items()
        }
        for shape, ways in found.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = run(options.rounds, options.seconds)
    if options.json:
        print(json.dumps(result))
        return 0
    figures = []
    for shape, ways in result.items():
        for way, told in ways.items():
            note = f"{told['hot_ms']:.3f} ms of it in the process that serves"
            figures.append(Figure(f"{shape}, {way}", told["cpu_ms"], "ms", note=note))
        passed = ways["passed on"]["cpu_ms"]
        figures.append(Figure(f"{shape}: passed on to a chat", passed / ways["chat"]["cpu_ms"], "times", LIMIT))
        figures.append(
            Figure(f"{shape}: passed on to translated", passed / ways["translated"]["cpu_ms"], "times", 1.25)
        )
    return print_table("Responses passed on", figures)


if __name__ == "__main__":
    sys.exit(main())
