"""How much traffic a CPU second replays, and how long a model over all hardware takes to plan.

    .venv/bin/python benchmarks/deploy/replay.py

The trace is the Azure conversation hour at 117 requests a second on 21 replicas of Llama-3.1-70B (4 x H100, 8 bits).
The compiled loop is measured where numba is installed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from slipway.deploy.plan_replay import Load, limits_of, replay_options
from slipway.deploy.simulation import engine_of, simulate
from slipway.deploy.traffic import read_traffic
from slipway.domain.deployment import Demand
from slipway.models.architectures import find_model
from slipway.models.calibrations import Setup, shipped
from slipway.models.hardware import find_hardware, list_hardware
from slipway.models.roofline import Split
from slipway.models.sizing import Load as Lengths
from slipway.models.sizing import list_replicas

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import Figure, print_table

TRACE = Path(__file__).parents[3] / "shared" / "data" / "workloads" / "azure2023_conv_first60pct.csv"
PLAIN_MICROSECONDS, COMPILED_MICROSECONDS = 20.0, 1.0
"""The most that a request may take: 50,000 and a million requests a second."""
PLAN_SECONDS = 5.0
REPEATS = 5
HOURLY = 3.0


def main() -> int:
    if not TRACE.exists():
        sys.exit(f"skipped: the trace is not at {TRACE}")
    traffic = read_traffic(TRACE).at_rate(117.0)
    shape = find_model("llama-3.1-70b")
    setup = Setup(
        shape=shape, hardware=find_hardware("h100-sxm"), engine="vllm", precision="fp8", split=Split(tensor=4)
    )
    engine = engine_of(setup, mean_tokens=traffic.mean_tokens)
    results, figures = [], []
    for compiled, limit in ((False, PLAIN_MICROSECONDS), (True, COMPILED_MICROSECONDS)):
        results.append(simulate(traffic, engine, replicas=21, compiled=compiled))
        spent = []
        for _ in range(REPEATS):
            began = time.process_time()
            simulate(traffic, engine, replicas=21, compiled=compiled)
            spent.append(time.process_time() - began)
        each = 1e6 * min(spent) / len(traffic)
        name = "compiled" if compiled else "plain"
        figures.append(Figure(f"a replayed request, {name}", each, "us CPU", limit, f"{1e6 / each:,.0f} a second"))
    differ = float(np.abs(results[0].first_s - results[1].first_s).max())
    figures.append(Figure("largest difference between both", differ, "s", 0.0))

    demand = Demand(requests_per_day=500_000, input_tokens=1246, output_tokens=204, first_token_ms=1000, token_ms=50)
    began = time.process_time()
    options = [
        one.option(demand, hourly=HOURLY)
        for hardware in list_hardware()
        for one in list_replicas(shape, hardware, Lengths.of(demand))
    ]
    held = sorted((one for one in options if not one.rejected), key=lambda one: one.monthly)
    load = Load(traffic=traffic.part(0, 3000), times=1.0, mean_per_second=6.0, invented=False)
    replay_options(held, shape, load, limits_of(demand), shipped())
    spent_s = time.process_time() - began
    note = f"{len(options)} ways on {len(list_hardware())} kinds"
    figures.append(Figure("Llama-3.1-70B over all hardware", spent_s, "s CPU", PLAN_SECONDS, note))
    return print_table("Replaying traffic", figures)


if __name__ == "__main__":
    sys.exit(main())
