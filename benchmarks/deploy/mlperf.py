"""The highest rate that holds MLPerf's limits on Llama-2-70B, planned and measured.

    .venv/bin/python benchmarks/deploy/mlperf.py

Each system is planned as its submitters did: weights in 8 bits, the split and the step size that carry most, the rate
at which 99 % of the requests start within 2 s and answer with 200 ms a token. The lengths of the prompts are not
published with the results; a mean of 300 tokens is assumed, log-normal, as the answers are.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from slipway.deploy.points import match_hardware, match_model, read_table
from slipway.deploy.replicas import Limits
from slipway.deploy.simulation import Engine, engine_of, simulate
from slipway.deploy.traffic import Traffic
from slipway.domain.errors import NotFound
from slipway.domain.hardware import Hardware
from slipway.models.calibrations import Setup
from slipway.models.memory import weights_gib
from slipway.models.roofline import Split

sys.path.insert(0, str(Path(__file__).parents[1]))
from machine import Figure, print_table

SHARED = Path(__file__).parents[3] / "shared" / "data" / "performance" / "mlperf.csv"
LIMITS = Limits(first_s=2.0, token_s=0.2)
MEAN_INPUT = 300
REQUESTS = 2500
SPREAD = 0.7
LIMIT = 15.0
CALIBRATED = ("h100-sxm", "h200-sxm")


def main() -> int:
    if not SHARED.exists():
        sys.exit(f"skipped: the measurements are not at {SHARED}")
    measured: dict[str, list[float]] = defaultdict(list)
    for row in read_table(SHARED):
        if row["model"] != "Llama-2-70B" or row["scenario"].lower() != "server" or not row["accelerators"]:
            continue
        if "TensorRT" not in row["framework"] or row["nodes"] not in ("", "1"):
            continue
        try:
            name = match_hardware(row["accelerator"]).name
        except NotFound:
            continue
        if name in CALIBRATED and row["division"] == "closed":
            measured[name].append(float(row["output_tok_s"]) / float(row["accelerators"]))
    figures = []
    for name, values in sorted(measured.items()):
        told = planned(match_hardware(name))
        middle = float(np.median(values))
        note = f"{told:,.0f} planned, {middle:,.0f} measured tokens/s a device ({len(values)} runs)"
        figures.append(Figure(f"Llama-2-70B server, {name}", 100 * abs(told / middle - 1), "%", LIMIT, note))
    return print_table("MLPerf Inference v4.1, planned against measured", figures)


def planned(hardware: Hardware) -> float:
    """Answer tokens a second and device of the best split, step size and batch."""
    shape, _ = match_model("llama-2-70b")
    best = 0.0
    for devices in (1, 2, 4, 8):
        if weights_gib(shape.parameters, "fp8") > 0.85 * devices * hardware.memory_gib:
            continue
        setup = Setup(shape=shape, hardware=hardware, engine="trtllm", precision="fp8", split=Split(tensor=devices))
        for chunk in (1024, 2048, 4096, 8192):
            engine = engine_of(setup, mean_tokens=MEAN_INPUT + 147, chunk=chunk, most=1024)
            best = max(best, highest_rate(engine) * traffic(1.0).output_tokens.mean() / devices)
    return best


def highest_rate(engine: Engine) -> float:
    """Requests a second that one replica holds, to 1 %."""
    low, high = 0.0, 200.0
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        held = LIMITS.held_by(simulate(traffic(middle), engine, replicas=1))
        low, high = (middle, high) if held else (low, middle)
    return low


def traffic(per_second: float) -> Traffic:
    """Arrivals at random, as the benchmark's load generator makes them."""
    drawn = np.random.default_rng(3)
    arrival = np.cumsum(drawn.exponential(1 / per_second, REQUESTS))

    def lengths(mean: float) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        raw = drawn.lognormal(-(SPREAD**2) / 2, SPREAD, REQUESTS) * mean
        return np.clip(np.rint(raw), 1, 1024).astype(np.int64)

    return Traffic(arrival - arrival[0], lengths(MEAN_INPUT), lengths(294))


if __name__ == "__main__":
    sys.exit(main())
